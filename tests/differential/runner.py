"""Runs a sequence against the sidecar and a plain server and tells the first difference.

A sequence is a list of steps (connection, [command...], [cut...]): the commands are sent in one write to the plain server,
and to the sidecar in pieces that end at the cuts; the next step begins when all replies are here. How many messages a
command is answered with follows from what the plain server has answered so far (SUBSCRIBE of three channels: three), not from
what the generator meant, so that a sequence stays valid when a shrinker takes commands out of it.

Pushes and published messages are compared apart from the replies, per connection and in their order, at the end: when they
arrive relative to another connection's reply is not defined.
"""

import time
from collections import Counter

from exceptions import Rules
from wire import RAW, Closed, Silent, Stream, confirmation, encode

PATIENCE_S = 10.0
PAUSE_S = 0.02        # of the sidecar, before its replies are looked at one by one
DRAIN_S = 0.03        # until a published message is with its subscriber, in the plain server
_FAMILY = {b"subscribe": "subscribe", b"psubscribe": "psubscribe", b"ssubscribe": "ssubscribe",
           b"unsubscribe": "subscribe", b"punsubscribe": "psubscribe", b"sunsubscribe": "ssubscribe"}


class InvalidSequence(Exception):
    """The plain server did not answer as this program counts: nothing can be compared."""


class Difference:
    """Where the two parted: the step, the command in it, and both answers."""

    def __init__(self, step, command, expected, got):
        self.step, self.command, self.expected, self.got = step, command, expected, got

    @property
    def signature(self):
        """What makes two differences the same finding: the command, and how each answer begins."""
        words = self.command[:1] if self.command else (b"(pushes)",)
        return b" ".join(words).lower(), _shape(self.expected), _shape(self.got)

    def __str__(self):
        return f"step {self.step}: {_shown(self.command)}\n  plain server: {self.expected!r:.600}\n  sidecar:      {self.got!r:.600}"


def _shape(answer):
    if not isinstance(answer, bytes):
        return str(answer)[:20]
    return b" ".join(answer.split(b" ")[:3])[:40] if answer[:1] == b"-" else answer[:1]


def _shown(command):
    return " ".join(repr(word)[1:] if len(word) < 200 else f"({len(word)} bytes)" for word in command or ())


def _heard(commands):
    """With an answer at its end, where CLIENT REPLY leaves none: else the next connection would not wait for this one."""
    modes = [command[2:] for command in commands if b" ".join(command[:2]).lower() == b"client reply"]
    if modes and modes[-1] != (b"ON",):
        return [*commands, (b"CLIENT", b"REPLY", b"ON")]
    return commands


class _Pair:
    """A connection to each of the two, and what the plain server's answers say about its state."""

    def __init__(self, plain, sidecar, patience_s):
        self.plain = Stream(plain, PATIENCE_S)
        self.sidecar = Stream(sidecar, patience_s)
        self.subscriptions = {"subscribe": set(), "psubscribe": set(), "ssubscribe": set()}
        self.queued = []
        self.ran = ()
        self.silent = False
        self.skip = False

    def close(self):
        self.plain.close()
        self.sidecar.close()

    @property
    def subscribed(self):
        return any(self.subscriptions.values())

    def expected(self, command):
        """The plain server's messages for a command."""
        name = command[0].lower()
        if command[0] == RAW:
            return [self.plain.reply(self.subscribed)]
        mode = command[2].lower() if name == b"client" and len(command) == 3 and command[1].lower() == b"reply" else None
        if self._unanswered(mode):
            return []
        messages = [self._read()]
        if messages[0][:1] in b"*>" and name in _FAMILY and confirmation(messages[0]):
            count = len(command) - 1 or self._count
            messages += [self._read() for _ in range(count - 1)]
        self._follow(name, command, messages[0])
        return messages

    def _unanswered(self, mode):
        if mode == b"on":
            self.silent = self.skip = False
            return False
        if mode == b"off":
            self.silent = True
        elif mode == b"skip" and not self.silent:
            self.skip = True
            return True
        elif self.skip:
            self.skip = False
            return True
        return self.silent

    def _read(self):
        message = self.plain.reply(self.subscribed)
        confirmed = confirmation(message)
        if confirmed:
            word, channel = confirmed
            kind = self.subscriptions[_FAMILY[word.encode()]]
            self._count = max(1, len(kind))
            if word in self.subscriptions:
                kind.add(channel)
            else:
                kind.discard(channel)
        return message

    def _follow(self, name, command, message):
        if message == b"+QUEUED\r\n":
            self.queued.append(command)
        elif name in (b"exec", b"discard", b"reset") and message[:4] != b"-ERR":
            self.ran, self.queued = self.queued, []
        if name == b"reset" and message == b"+RESET\r\n":
            for channels in self.subscriptions.values():
                channels.clear()


class Runner:
    """Owns no servers: `plain` and `sidecar` are their addresses, `clean` makes both empty before a sequence."""

    def __init__(self, plain, sidecar, clean, rules=None):
        self.addresses = plain, sidecar
        self.clean = clean
        self.rules = rules or Rules()
        self.patience_s = PATIENCE_S  # with the sidecar
        self.commands = 0
        self.answered = Counter()  # by command's name: how often with something else than an error
        self._pairs = {}

    def run(self, sequence):
        """The first Difference, or None."""
        self.clean()
        try:
            for at, (connection, commands, cuts) in enumerate(sequence):
                difference = self._step(at, connection, commands, cuts)
                if difference:
                    return difference
            return self._pushes(len(sequence))
        finally:
            for pair in self._pairs.values():
                pair.close()
            self._pairs.clear()

    def _step(self, at, connection, commands, cuts):
        pair = self._pairs.get(connection)
        if pair is None:
            pair = self._pairs[connection] = _Pair(*self.addresses, self.patience_s)
        commands = _heard(commands)
        encoded = b"".join(map(encode, commands))
        self._send(pair, encoded, cuts)
        heard_before = pair.subscribed  # of what it heard until now something may still be on its way from the sidecar
        answers, ended = self._expect(at, pair, commands)
        # With an own turn for each EXEC's commands: a chunk may hold several.
        flat = b"".join(message for _, messages, _ in answers for message in messages)
        if not flat or not pair.sidecar.take(flat, PAUSE_S):
            difference = self._compare(at, pair, answers, heard_before)
            if difference:
                return difference
        self.commands += len(commands)
        return self._end(at, connection, pair, commands) if ended else None

    @staticmethod
    def _send(pair, encoded, cuts):
        try:
            begin = 0
            for cut in cuts:
                pair.sidecar.send(encoded[begin:cut])
                begin = cut
            pair.sidecar.send(encoded[begin:])
        except Closed:
            pass  # whether it may is seen by its answers
        try:
            pair.plain.send(encoded)
        except Closed:
            pass

    def _expect(self, at, pair, commands):
        """[(command, messages, what EXEC ran)], and whether the plain server then closed."""
        answers = []
        for command in commands:
            try:
                messages = pair.expected(command)
            except Closed:
                return answers, True
            except Silent:
                raise InvalidSequence(f"step {at}: the plain server does not answer {_shown(command)}") from None
            answers.append((command, messages, pair.ran))
            if messages and messages[0][:1] != b"-":
                self.answered[command[0].lower()] += 1
            if (command[0] == RAW or command[0].lower() == b"quit") and self._closes(pair):
                return answers, True
        return answers, False

    @staticmethod
    def _closes(pair):
        try:
            pair.plain.receive(PAUSE_S)
        except Closed:
            return True
        except Silent:
            pass
        return False

    def _compare(self, at, pair, answers, heard_before):
        for command, messages, ran in answers:
            listed = []
            for message in messages:
                try:
                    got = pair.sidecar.reply(heard_before or pair.subscribed or confirmation(message) is not None)
                except Closed:
                    return Difference(at, command, message, "closed")
                except Silent:
                    return Difference(at, command, message, "no answer")
                listed.append(got)
                if len(messages) == 1 and not self.rules.alike(command, message, got, ran):
                    return Difference(at, command, message, got)
            if len(messages) > 1 and messages != listed and not self._confirmed_alike(command, messages, listed):
                return Difference(at, command, b"".join(messages), b"".join(listed))
        return None

    def _confirmed_alike(self, command, messages, listed):
        confirmed = all(map(confirmation, messages)) and all(map(confirmation, listed))
        return len(command) == 1 and confirmed and self.rules.unsubscribed_alike(messages, listed)

    def _end(self, at, connection, pair, commands):
        """The plain server has closed: so must the sidecar, and say nothing more."""
        del self._pairs[connection]
        try:
            got = pair.sidecar.reply(False)
        except Closed:
            got = None
        except Silent:
            got = "stays open"
        pair.close()
        return Difference(at, commands[-1], "closed", got) if got else None

    def _pushes(self, steps):
        listening = [pair for pair in self._pairs.values() if pair.plain.pushes or pair.sidecar.pushes or pair.subscribed]
        if listening:
            time.sleep(DRAIN_S)
        for pair in listening:
            pair.plain.collect_pushes(1 << 30, 0.001)
            pair.sidecar.collect_pushes(len(pair.plain.pushes), self.patience_s / 2)
            expected, got = pair.plain.pushes, pair.sidecar.pushes
            if expected != got:
                at = next((i for i, (one, other) in enumerate(zip(expected, got)) if one != other), min(len(expected), len(got)))
                missing = f"{len(expected)} and {len(got)} pushes"
                return Difference(steps, None, expected[at] if at < len(expected) else missing,
                                  got[at] if at < len(got) else missing)
        return None
