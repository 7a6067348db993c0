"""RESP as this test needs it: where a message ends, what it holds, and a stream of messages. Standard library only."""

import socket
import time

READ_BYTES = 1 << 18
RAW = b"\0raw"  # first word of a "command" whose second word is sent as it is

_BULKS = frozenset(b"$=!")
_LISTS = frozenset(b"*~>")
_MAP, _ATTRIBUTE = ord("%"), ord("|")
_MESSAGES = (b"*3\r\n$7\r\nmessage\r\n", b"*4\r\n$8\r\npmessage\r\n", b"*3\r\n$8\r\nsmessage\r\n")
_CONFIRMATIONS = ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe")
_CONFIRMED = tuple(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in _CONFIRMATIONS)


class Closed(Exception):
    """The peer closed the connection."""


class Silent(Exception):
    """No complete message in time."""


def encode(command):
    if command[0] == RAW:
        return command[1]
    out = [b"*%d\r\n" % len(command)]
    for word in command:
        out.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(out)


def message_end(data, at):
    """The position behind the message that begins at `at`; -1 while it is incomplete."""
    missing = 1
    while missing:
        end = data.find(b"\r\n", at)
        if end < 0:
            return -1
        kind = data[at]
        missing -= 1
        if kind in _BULKS:
            size = int(data[at + 1:end])
            at = end + 2 if size < 0 else end + size + 4
            if at > len(data):
                return -1
            continue
        if kind in _LISTS:
            missing += max(0, int(data[at + 1:end]))
        elif kind == _MAP:
            missing += 2 * int(data[at + 1:end])
        elif kind == _ATTRIBUTE:
            missing += 2 * int(data[at + 1:end]) + 1
        at = end + 2
    return at


def parse(data):
    """(kind, payload) of one complete message; the payload of an aggregate is a list of such pairs, of a null None."""
    value, _ = _parse(data, 0)
    return value


def _parse(data, at):
    end = data.find(b"\r\n", at)
    kind, line, at = chr(data[at]), data[at + 1:end], end + 2
    if kind in "$=!":
        size = int(line)
        return ((kind, None), at) if size < 0 else ((kind, data[at:at + size]), at + size + 2)
    if kind not in "*~>%|":
        return (kind, line), at
    count = int(line)
    if count < 0:
        return (kind, None), at
    children = []
    for _ in range(2 * count if kind in "%|" else count):
        child, at = _parse(data, at)
        children.append(child)
    return (kind, children), at


def is_push(message, subscribed):
    """Not the reply of a command: RESP2 tells published messages from replies only by what the connection does."""
    if message[:1] == b">":
        return not message[message.index(b"\r\n") + 2:].startswith(_CONFIRMED)
    return subscribed and message.startswith(_MESSAGES)


def confirmation(message):
    """(word, channel or None) of a reply to SUBSCRIBE and its family, else None."""
    if message[:1] not in (b"*", b">") or message[1:4] != b"3\r\n" or not message[4:].startswith(_CONFIRMED):
        return None
    _, (word, channel, _) = parse(message)
    return word[1].decode(), channel[1]


class Stream:
    """One connection. Pushes are set aside in `pushes`."""

    def __init__(self, address, patience_s):
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=patience_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.patience_s = patience_s
        self.data = b""
        self.pushes = []

    def close(self):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.settimeout(self.patience_s)
            self.sock.sendall(data)
        except TimeoutError as error:
            raise Silent from error
        except OSError as error:
            raise Closed from error

    def receive(self, seconds):
        """Appends what comes within `seconds`."""
        try:
            self.sock.settimeout(max(seconds, 1e-4))
            chunk = self.sock.recv(READ_BYTES)
        except TimeoutError as error:
            raise Silent from error
        except OSError as error:
            raise Closed from error
        if not chunk:
            raise Closed
        self.data += chunk

    def reply(self, subscribed, patience_s=None):
        """The next message that is no push."""
        deadline = time.monotonic() + (patience_s or self.patience_s)
        while True:
            end = message_end(self.data, 0) if self.data else -1
            if end < 0:
                self.receive(deadline - time.monotonic())
                continue
            message, self.data = self.data[:end], self.data[end:]
            if not is_push(message, subscribed):
                return message
            self.pushes.append(message)

    def take(self, expected, pause_s):
        """True, and they are gone, if the next bytes are these; False as soon as they aren't or do not come at once."""
        while len(self.data) < len(expected):
            try:
                self.receive(pause_s)
            except (Silent, Closed):
                return False
        if not self.data.startswith(expected):
            return False
        self.data = self.data[len(expected):]
        return True

    def collect_pushes(self, count, patience_s):
        """Until `count` pushes are here, or `patience_s` has passed. Whatever comes counts as a push."""
        deadline = time.monotonic() + patience_s
        while True:
            while self.data and (end := message_end(self.data, 0)) > 0:
                self.pushes.append(self.data[:end])
                self.data = self.data[end:]
            if len(self.pushes) >= count or time.monotonic() > deadline:
                return
            try:
                self.receive(deadline - time.monotonic())
            except (Silent, Closed):
                return
