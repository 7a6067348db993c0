"""A small blocking RESP2/RESP3 client for tests, independent of the code under test. Standard library only.

    client = Client("127.0.0.1:6380", protocol=3, timeout=2.0)
    client.call("SET", "k", "v")                    # b"OK"; an error reply is raised as ReplyError
    client.pipeline([("GET", "k"), ("FOO",)])       # [b"v", ReplyError(...)]: error replies are values here
    client.send("GET", "k"); client.read()          # the two halves, for many commands in flight
    client.raw(b"*1\\r\\n$4\\r\\nPING\\r\\n")           # any bytes; read_raw() gives the next reply's exact bytes

Replies: bulk strings are bytes, simple strings Simple (bytes, so `== b"OK"` holds), integers and big numbers int, nulls
None, doubles float, booleans bool, maps dict (unhashable keys become their repr), sets SetReply, verbatim strings
Verbatim, errors ReplyError. Pushes never take a reply's place: they are kept in `client.pushes` in order of arrival
(also those nested inside an aggregate); attributes go to `client.attributes`.

After a timeout or a lost connection (RespTimeout, ConnectionLost; both are OSError) the stream's position is unknown:
the client is closed and every further use fails. Not safe for use by several threads at once.
"""

import socket
import time
from collections import deque

READ_BYTES = 1 << 16
PUSHES_MAX = 100_000


class ReplyError(Exception):
    """An error reply; `code` is its first word."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]

    def __eq__(self, other):
        return isinstance(other, ReplyError) and str(self) == str(other)

    __hash__ = Exception.__hash__


class ProtocolError(Exception):
    """The peer sent something that is not RESP."""


class ConnectionLost(ConnectionError):
    """The peer closed or reset the connection."""


class RespTimeout(TimeoutError):
    """No complete reply within the client's timeout."""


class Simple(bytes):
    """A simple string (+OK)."""


class Verbatim(bytes):
    """A verbatim string without its format prefix; `format` holds it."""

    format = b"txt"


class SetReply(list):
    """A RESP3 set, in the order received."""


class Push(list):
    """An out-of-band message."""


def encode(*args):
    """One command as the bytes of a RESP array of bulk strings."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        if isinstance(arg, str):
            arg = arg.encode()
        elif not isinstance(arg, (bytes, bytearray)):
            arg = str(arg).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(out)


def connect_socket(address, timeout, tls=None):
    """`address`: "host:port", "unix:path" or (host, port). `tls`: an ssl.SSLContext; the handshake is done when it returns."""
    if isinstance(address, str) and address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(address[len("unix:"):])
        return sock
    if isinstance(address, str):
        host, _, port = address.rpartition(":")
        address = (host.strip("[]"), int(port))
    sock = socket.create_connection(address, timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=address[0])
    except BaseException:
        sock.close()
        raise


class Client:
    def __init__(self, address, protocol=2, timeout=5.0, username=None, password=None, tls=None):
        self.address = address
        self.timeout = timeout
        self.pushes = deque(maxlen=PUSHES_MAX)
        self.attributes = None
        self.hello = None
        self._buffer = bytearray()
        self._position = 0
        self._deadline = None
        self.sock = connect_socket(address, timeout, tls)
        try:
            self._greet(protocol, username, password)
        except BaseException:
            self.close()
            raise

    def _greet(self, protocol, username, password):
        if protocol == 3:
            auth = () if password is None else ("AUTH", username or "default", password)
            self.hello = self.call("HELLO", 3, *auth)
        elif password is not None:
            self.call("AUTH", *([username] if username else []), password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    # Requests.

    def call(self, *args, timeout=None):
        """Sends one command and returns its reply; an error reply is raised."""
        self.send(*args)
        reply = self.read(timeout)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands, timeout=None):
        """Sends all commands in one write and returns all replies; error replies are returned, not raised."""
        commands = list(commands)
        self.raw(b"".join(encode(*command) for command in commands))
        return [self.read(timeout) for _ in commands]

    def send(self, *args):
        self.raw(encode(*args))

    def raw(self, data):
        if self.sock is None:
            raise ConnectionLost("client is closed")
        try:
            self.sock.settimeout(self.timeout)
            self.sock.sendall(data)
        except TimeoutError as error:
            self.close()
            raise RespTimeout("sending timed out") from error
        except OSError as error:
            self.close()
            raise ConnectionLost(str(error)) from error

    # Replies.

    def read(self, timeout=None):
        """The next reply; pushes that arrive before it are kept in `pushes`."""
        self._begin(timeout)
        while True:
            reply = self._value()
            if not isinstance(reply, Push):
                return reply
            self.pushes.append(reply)

    def read_raw(self, timeout=None):
        """The exact bytes of the next message, be it a reply or a push."""
        self._begin(timeout)
        self._value()
        return bytes(self._buffer[:self._position])

    def read_push(self, timeout=None):
        """The next push, kept or still to come. A reply in its place is a ProtocolError."""
        if self.pushes:
            return self.pushes.popleft()
        self._begin(timeout)
        value = self._value()
        if not isinstance(value, Push):
            raise ProtocolError(f"expected a push, got {value!r}")
        return value

    def read_until_closed(self, timeout=None):
        """Everything up to the peer's close; RespTimeout when it doesn't close."""
        self._begin(timeout)
        try:
            while True:
                self._receive()
        except ConnectionLost:
            return bytes(self._buffer)

    def _begin(self, timeout):
        del self._buffer[:self._position]
        self._position = 0
        self._deadline = time.monotonic() + (self.timeout if timeout is None else timeout)

    def _receive(self):
        if self.sock is None:
            raise ConnectionLost("client is closed")
        remaining = self._deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            self.sock.settimeout(remaining)
            chunk = self.sock.recv(READ_BYTES)
        except TimeoutError as error:
            self.close()
            raise RespTimeout(f"no complete reply from {self.address}") from error
        except OSError as error:
            self.close()
            raise ConnectionLost(str(error)) from error
        if not chunk:
            self.close()
            raise ConnectionLost("closed by peer")
        self._buffer += chunk

    def _line(self):
        searched = self._position
        while True:
            end = self._buffer.find(b"\r\n", searched)
            if end >= 0:
                line = bytes(self._buffer[self._position:end])
                self._position = end + 2
                return line
            searched = max(self._position, len(self._buffer) - 1)
            self._receive()

    def _bulk(self, size):
        end = self._position + size
        while len(self._buffer) < end + 2:
            self._receive()
        if self._buffer[end:end + 2] != b"\r\n":
            raise ProtocolError("bulk without its line end")
        data = bytes(self._buffer[self._position:end])
        self._position = end + 2
        return data

    def _value(self):
        line = self._line()
        if not line:
            raise ProtocolError("empty line")
        kind, rest = line[:1], line[1:]
        reader = _READERS.get(kind)
        if reader is None:
            raise ProtocolError(f"unknown type {line!r}")
        return reader(self, rest)

    def _element(self):
        """A value inside an aggregate: Redis 6 may put a push there."""
        while True:
            value = self._value()
            if not isinstance(value, Push):
                return value
            self.pushes.append(value)

    def _read_bulk(self, rest):
        size = int(rest)
        return None if size < 0 else self._bulk(size)

    def _read_bulk_error(self, rest):
        return ReplyError(self._bulk(int(rest)).decode(errors="replace"))

    def _read_verbatim(self, rest):
        data = self._bulk(int(rest))
        value = Verbatim(data[4:])
        value.format = data[:3]
        return value

    def _read_array(self, rest):
        size = int(rest)
        return None if size < 0 else [self._element() for _ in range(size)]

    def _read_set(self, rest):
        return SetReply(self._element() for _ in range(int(rest)))

    def _read_push(self, rest):
        return Push(self._element() for _ in range(int(rest)))

    def _read_map(self, rest):
        result = {}
        for _ in range(int(rest)):
            key = self._element()
            value = self._element()
            try:
                result[key] = value
            except TypeError:
                result[repr(key)] = value
        return result

    def _read_attribute(self, rest):
        self.attributes = self._read_map(rest)
        return self._value()


_READERS = {
    b"+": lambda client, rest: Simple(rest),
    b"-": lambda client, rest: ReplyError(rest.decode(errors="replace")),
    b":": lambda client, rest: int(rest),
    b"$": Client._read_bulk,
    b"*": Client._read_array,
    b"_": lambda client, rest: None,
    b",": lambda client, rest: float(rest),
    b"#": lambda client, rest: rest == b"t",
    b"(": lambda client, rest: int(rest),
    b"!": Client._read_bulk_error,
    b"=": Client._read_verbatim,
    b"%": Client._read_map,
    b"~": Client._read_set,
    b">": Client._read_push,
    b"|": Client._read_attribute,
}
