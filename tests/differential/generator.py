"""Makes a sequence from a seed: the same seed, groups and options make the same sequence."""

import hashlib
import random

from grammar import GROUPS, NOT_IN_CLUSTER, NOT_IN_TRANSACTION, SHARES
from wire import RAW, encode

FAR_S = 1_000_000             # relative expiries: nothing expires while a sequence runs
FAR_AT_S = 4_102_444_800      # absolute ones
TYPES = "sbplhezxg"
TAGS = (b"{a}", b"{b}", b"{c}", b"{d}", b"{e}")
SPOILT = [b"", b"0", b"-1", b"abc", b"1.5", b"+1", b" 1", b"0x10", b"nan", b"inf", b"-inf", b"1e400", b"9223372036854775807",
          b"9223372036854775808", b"-9223372036854775808", b"18446744073709551616", b"\x00\r\n\xff", b"*", b"(", b"[", b"x" * 300,
          b"COUNT", b"LIMIT", b"WITHSCORES", b"-0", b"1e3", b"007"]
SCRIPTS = [b"return redis.call('GET',KEYS[1])", b"return redis.call('SET',KEYS[1],ARGV[1])",
           b"redis.call('RPUSH',KEYS[1],ARGV[1]) return redis.call('LLEN',KEYS[1])", b"return {1,2,{'x',false,ARGV[1]}}",
           b"redis.call('SET',KEYS[1],'7') return redis.call('INCR',KEYS[1])", b"return #KEYS", b"return 3.99",
           b"return redis.call('HSET',KEYS[2],'f1',ARGV[1])", b"redis.setresp(3) return redis.call('HGETALL',KEYS[1])",
           b"redis.call('DEL',KEYS[1]) return redis.status_reply('GONE')", b"return {ok='fine'}", b"return {double=1.5}",
           b"redis.setresp(3) return true", b"return {map={a=1}}", b"redis.setresp(3) return redis.call('GET',KEYS[1])"]
BAD_SCRIPTS = [b"return redis.call('NONSENSE')", b"error('x')", b"return redis.pcall('GET')", b"return {err='ERR mine'}",
               b"redis.call('SET',KEYS[1],'half') return redis.call('LPUSH',KEYS[1],'x')", b"syntax(", b"return redis.error_reply('MY x')",
               b"#!lua flags=no-writes\nreturn redis.call('SET',KEYS[1],ARGV[1])", b"#!lua nonsense\nreturn 1", b"return x"]
LIBRARIES = [b"#!lua name=lib0\nredis.register_function('f0',function(k,a) return redis.call('SET',k[1],a[1] or 'none') end)",
             b"#!lua name=lib1\nredis.register_function{function_name='f1',callback=function(k,a) return redis.call('GET',k[1])"
             b" end,flags={'no-writes'}}", b"#!lua name=lib2\nnonsense(", b"nonsense"]
DUMPS = [b"\x00\x05hello\x0a\x00", b"", b"nonsense", b"\x00" * 12]


def _number(low, high):
    return lambda rng, _: b"%d" % rng.randint(low, high)


def _choice(*values):
    return lambda rng, _: rng.choice(values)


def _value(rng, _):
    roll = rng.random()
    if roll < 0.6:
        return b"v%d" % rng.randrange(12)
    if roll < 0.85:
        return b"%d" % rng.randint(-20, 20)
    if roll < 0.95:
        return rng.choice((b"", b"\x00\r\n\xff", b"$-1\r\n", b"+OK\r\n", bytes(range(256)), b"3.25", b"9223372036854775806"))
    return bytes((rng.randrange(256),)) * (rng.choice((64, 500, 3000)) if roll < 0.998 else 130_000)


def _new_id(_, generator):
    generator.last_id += 1
    return b"%d-%d" % (generator.last_id, generator.last_id % 3)


def _bound(rng, _):
    roll = rng.random()
    if roll < 0.3:
        return rng.choice((b"-inf", b"+inf", b"inf", b"(-inf"))
    return (b"(" if roll < 0.5 else b"") + rng.choice((b"%d" % rng.randint(-10, 10), b"2.5", b"1e2"))


def _inline(rng, generator):
    return rng.choice((b"PING\r\n", b"GET s0\r\n" if not generator.cluster else b"GET {a}s0\r\n", b"ECHO \"a\\x41 b\" \r\n", b"ECHO 'x y'\n", b"NONSENSE 1 2\r\n"))


VALUES = {
    "v": _value, "f": lambda rng, _: b"f%d" % rng.randrange(14) if rng.random() < 0.95 else b"",
    "m": lambda rng, _: b"m%d" % rng.randrange(14) if rng.random() < 0.95 else _value(rng, _),
    "int": _number(-30, 30), "index": _number(-6, 8), "count": _number(0, 5), "offset": _number(0, 90), "hash": lambda rng, _: b"#%d" % rng.randrange(5),
    "bit": _choice(b"0", b"1"), "bittype": _choice(b"u8", b"i5", b"u1", b"i64", b"u63", b"i16", b"u64"),
    "overflow": _choice(b"WRAP", b"SAT", b"FAIL"), "float": _choice(b"0.5", b"-1.25", b"3", b"1e2", b"0.1", b"-inf"),
    "score": _choice(b"1", b"2", b"3", b"-1", b"0", b"2.5", b"0.1", b"1e10", b"inf", b"-inf", b"3", b"-7.125", b"1e-5", b"100"),
    "far": lambda rng, _: b"%d" % (FAR_S + rng.randrange(4) * 1000), "farms": lambda rng, _: b"%d" % ((FAR_S + rng.randrange(4) * 1000) * 1000),
    "farat": lambda rng, _: b"%d" % (FAR_AT_S + rng.randrange(4)), "faratms": lambda rng, _: b"%d" % (FAR_AT_S * 1000 + rng.randrange(4)),
    "bound": _bound, "lex": lambda rng, _: rng.choice((b"-", b"+", b"[m", b"(m1", b"[m%d" % rng.randrange(14), b"(m9")),
    "newid": _new_id, "id": lambda rng, generator: b"%d-%d" % (i := max(0, generator.last_id - rng.randrange(12)), i % 3),
    "idbound": lambda rng, generator: rng.choice((b"-", b"+", b"%d" % max(0, generator.last_id - rng.randrange(12)), b"(5")),
    "group": _choice(b"g0", b"g1"), "consumer": _choice(b"c0", b"c1", b"c2"), "longitude": _choice(b"13.36", b"15.08", b"2.35", b"-0.1", b"180", b"-181"),
    "latitude": _choice(b"38.11", b"37.5", b"48.85", b"51.5", b"85", b"-90"), "radius": _choice(b"0", b"100", b"200.5", b"3000", b"20000"),
    "dump": _choice(*DUMPS), "pattern": _choice(b"s*", b"v*", b"h0->f1", b"*", b"#"), "script": _choice(*SCRIPTS), "badscript": _choice(*BAD_SCRIPTS),
    "readscript": _choice(*SCRIPTS[:4]), "sha": lambda rng, _: hashlib.sha1(rng.choice(SCRIPTS)).hexdigest().encode(),
    "library": _choice(*LIBRARIES), "function": _choice(b"f0", b"f1", b"f2"), "channel": _choice(b"c0", b"c1", b"c2", b"\x00\r\n"), "nothing": _choice(b""),
    "channelpattern": _choice(b"c[01]", b"c2*", b"n*"), "inline": _inline, "broken": _choice(b"*1\r\n+PING\r\n", b"*x\r\n", b"*1\r\n$-5\r\n", b"*2\r\n$3\r\nGET\r\n$99999999999\r\n", b"*1\r\n:1\r\n"),
}


class _Form:
    def __init__(self, text):
        words = text.split()
        marks = words.pop(0) if not words[0].strip("!~*=") else ""
        self.spoilable = "!" not in marks
        self.clusterable = "~" not in marks
        self.repeats = "=" in marks
        self.share = 1 + marks.count("*")
        self.parts = self._compile(words)

    def _compile(self, words):
        """Up to the closing parenthesis: literals (bytes), ("key", letter), ("keys", letter), ("value", f), ("group", kind, branches)."""
        parts = []
        while words and words[0] not in (")", "|"):
            word = words.pop(0)
            if word in ("(", "?(", "+("):
                branches = [self._compile(words)]
                while words.pop(0) == "|":
                    branches.append(self._compile(words))
                parts.append(("group", word, branches))
            elif word[0] == "@":
                parts.append(("key", word[1]))
            elif word[0] == "#" and len(word) > 1:
                parts.append(("keys", word[1]))
            elif word[0] == ":" and len(word) > 1:
                parts.append(("value", VALUES[word[1:]]))
            else:
                parts.append(word.encode())
        return parts


class Generator:
    def __init__(self, seed, groups=None, cluster=False, protocol=None, connections=4, spoil=0.06):
        self.rng = random.Random(f"{seed} {cluster} {protocol}")
        self.cluster, self.protocol, self.connections, self.spoil = cluster, protocol, connections, 0 if cluster else spoil
        self.last_id = 0
        self.tag = b""
        names = [name for name in GROUPS if (groups is None or name in groups) and not (cluster and name in NOT_IN_CLUSTER)]
        self.names = names
        self.shares = [SHARES[name] for name in names]
        self.forms = {}
        for name in names:
            forms = [_Form(line) for line in GROUPS[name].splitlines() if line.strip()]
            forms = [form for form in forms if form.clusterable or not cluster]
            self.forms[name] = forms, [form.share for form in forms]
        self.in_transaction = [False] * connections
        self.watching = [False] * connections
        self.subscribed = [False] * connections  # at some time: then CLIENT REPLY may be refused, and is left out

    def sequence(self, commands):
        """Steps of about as many commands. Each connection greets first if a protocol is asked for."""
        made = 0
        steps = []
        if self.protocol:
            steps = [(i, [(b"HELLO", b"%d" % self.protocol)], []) for i in range(self.connections)]
        while made < commands:
            step = self._step()
            made += len(step[1])
            steps.append(step)
        return steps + [(i, [(b"PING",)], []) for i in range(self.connections)]

    def _step(self):
        rng = self.rng
        connection = rng.randrange(self.connections)
        size = 1 if rng.random() < 0.3 else rng.choice((2, 3, 5, 8, 16, 40))
        commands = []
        while len(commands) < size:
            command, repeats = self.command(connection)
            if command is None:
                continue
            if command[:2] == (b"CLIENT", b"REPLY"):
                commands += self._hushed(command, connection)
                continue
            commands.append(command)
            if repeats and rng.random() < 0.4:
                commands.append(command)
            if command[0] == RAW or command[0] == b"QUIT":
                self.in_transaction[connection] = False
                break
        cuts = []
        if rng.random() < 0.15:
            total = sum(len(encode(command)) for command in commands)
            cuts = sorted(rng.randrange(total) for _ in range(rng.randint(1, 3)))
        return connection, commands, cuts

    def _hushed(self, command, connection):
        """CLIENT REPLY with some commands it leaves unanswered, and what ends that."""
        names = [name for name in ("strings", "lists", "hashes", "sets") if name in self.names]
        inner = [self._made(self.rng.choice(names))[0] for _ in range(self.rng.randrange(4)) if names]
        return [command, *inner, (b"CLIENT", b"REPLY", b"ON")]

    def command(self, connection):
        rng = self.rng
        if self.in_transaction[connection] and rng.random() < 0.2:
            self.in_transaction[connection] = self.watching[connection] = False
            return (rng.choice((b"EXEC", b"EXEC", b"EXEC", b"DISCARD")),), False
        name = rng.choices(self.names, self.shares)[0]
        if self.in_transaction[connection] and name in NOT_IN_TRANSACTION or name == "replies" and self.subscribed[connection]:
            return None, False
        if name == "connection" and self.watching[connection]:
            return None, False  # HELLO forgets a watch: docs/differences.md
        self.subscribed[connection] |= name == "pubsub"
        # What is watched and queued together is of one slot.
        together = name == "transactions" or self.in_transaction[connection]
        words, repeats = self._made(name, TAGS[connection % len(TAGS)] if together else None)
        if self.in_transaction[connection] and words[0].upper() == b"SELECT":
            return None, False
        if self.in_transaction[connection] and self.cluster and words[0].upper() in (b"FUNCTION", b"SCRIPT"):
            return None, False  # it would be for one node: docs/differences.md
        self.watching[connection] |= words[0].upper() == b"WATCH"
        if words == (b"UNWATCH",):
            self.watching[connection] = False
        if len(words) == 1 and words[0].upper() in (b"MULTI", b"EXEC", b"DISCARD", b"RESET"):
            self.in_transaction[connection] = words[0].upper() == b"MULTI"
        return words, repeats

    def _made(self, name, tag=None):
        rng = self.rng
        form = rng.choices(*self.forms[name])[0]
        self.tag = (tag or rng.choice(TAGS)) if self.cluster else b""
        words = []
        self._expand(form.parts, words)
        if words[0] == b"RAW":
            words[0] = RAW
        if form.spoilable and rng.random() < self.spoil:
            self._spoil(words)
        if rng.random() < 0.05 and words[0] != RAW:
            words[0] = words[0].lower()
        return tuple(words), form.repeats

    def _expand(self, parts, words):
        rng = self.rng
        for part in parts:
            if isinstance(part, bytes):
                words.append(part)
            elif part[0] == "key":
                words.append(self._key(part[1]))
            elif part[0] == "value":
                words.append(part[1](rng, self))
            elif part[0] == "keys":
                count = rng.randint(1, 3)
                words.append(b"%d" % count)
                words.extend(self._key(part[1]) for _ in range(count))
            else:
                self._expand_group(part[1], part[2], words)

    def _expand_group(self, kind, branches, words):
        rng = self.rng
        if kind == "?(" and rng.random() < 0.5:
            return
        for _ in range(rng.randint(1, 4) if kind == "+(" else 1):
            self._expand(rng.choice(branches), words)

    def _key(self, letter):
        rng = self.rng
        roll = rng.random()
        if letter == "y":
            return b"%by%d" % (self.tag, rng.randrange(2))
        if letter == "a" or roll < 0.04:
            letter = rng.choice(TYPES)
        if roll > 0.985:
            return self.tag + rng.choice((b"", b"\x00\r\n\xff", b"k" * 300, b"absent"))
        return b"%b%b%d" % (self.tag, letter.encode(), rng.randrange(3))

    def _spoil(self, words):
        """Drops, adds or replaces a word. Not before a cluster, where a wrong key is of another slot."""
        rng = self.rng
        kind = rng.randrange(4)
        at = rng.randrange(1, len(words)) if len(words) > 1 else None
        if kind == 0 and at is not None:
            del words[-1]
        elif kind == 1:
            words.append(rng.choice(SPOILT))
        elif at is not None:
            words[at] = rng.choice(SPOILT)
