"""The keys of the load, what their values look like, and how the answer of each read is taken apart.

Three quarters are strings: `s:N`; every fourth key is a hash: `h:N`, whose fields are all written by one HSET and carry the
same version, so that an answer put together from two states shows. A value says its key, version and writer; its length
differs for as many versions in a row as values may have bytes, so that STRLEN tells the version as well.

Of every ten keys three are also deleted, and three also expire (hashes only where the server can set a whole one with its
time to live in one command, HSETEX). The same is written by different commands, scripts among them.
"""

import random

from history import ABSENT, DELETED, PRESENT, STAYS

FIELDS = (b"f0", b"f1", b"f2", b"f3")
HEAD_BYTES = 40            # more than the part of a value that says whose it is
TTLS_MS = (300, 800, 1500)
PADDING = bytes(random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=4096))
FIELD_BYTES_MAX = 60
SCRIPT = "return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"


class WrongValue(ValueError):
    """An answer that no version of the key can give."""


def is_hash(key):
    return key % 4 == 3


def name(key):
    return f"h:{key}" if is_hash(key) else f"s:{key}"


def head(key, version, writer):
    return b"%d|%08d|%d|" % (key, version, writer)


def make_value(key, version, writer, bytes_max):
    return head(key, version, writer) + PADDING[:(key * 31 + version * 17) % max(1, bytes_max)]


def parse_value(key, value, writers):
    """The version that a value, or its beginning, carries."""
    parts = value.split(b"|", 3)
    if len(parts) != 4 or int(parts[0]) != key or int(parts[2]) != key % writers:
        raise WrongValue(f"key {key} answered with a value that is not its own: {value[:60]!r}")
    return int(parts[1])


class Keyspace:
    def __init__(self, keys, writers, value_bytes_max, expiring_hashes=False):
        self.keys = keys
        self.writers = writers
        self.value_bytes_max = value_bytes_max
        self.expiring_hashes = expiring_hashes

    # Writes.

    def may_expire(self, key):
        return 3 <= key % 10 < 6 and (self.expiring_hashes or not is_hash(key))

    def choose_life(self, key, chance):
        """What the next write of this key does: DELETED, STAYS, or the seconds that the value lives."""
        if key % 10 < 3 and chance.random() < 0.3:
            return DELETED
        if self.may_expire(key) and chance.random() < 0.3:
            return chance.choice(TTLS_MS) / 1000
        return STAYS

    def value(self, key, version):
        bytes_max = FIELD_BYTES_MAX if is_hash(key) else self.value_bytes_max
        return make_value(key, version, key % self.writers, bytes_max)

    def write_command(self, write):
        """The command that makes this version, and the reply it must have (None: it depends). Forms take turns."""
        key = name(write.key)
        if write.lives == DELETED:
            forms = [("UNLINK", key), ("DEL", key), ("EVAL", SCRIPT, "1", key, "DEL")]
            return forms[write.version % len(forms)], None
        value = self.value(write.key, write.version)
        milliseconds = str(int(write.lives * 1000))
        if is_hash(write.key):
            fields = [part for field in FIELDS for part in (field, value)]
            if write.lives != STAYS:
                return ("HSETEX", key, "PX", milliseconds, "FIELDS", str(len(FIELDS)), *fields), 1
            forms = [("HSET", key, *fields), ("HSET", key, *fields), ("EVAL", SCRIPT, "1", key, "HSET", *fields)]
            return forms[write.version % len(forms)], None
        if write.lives != STAYS:
            forms = [("SET", key, value, "PX", milliseconds), ("PSETEX", key, milliseconds, value),
                     ("EVAL", SCRIPT, "1", key, "SET", value, "PX", milliseconds)]
        else:
            forms = [("SET", key, value)] * 4 + [("MSET", key, value), ("EVAL", SCRIPT, "1", key, "SET", value)]
        return forms[write.version % len(forms)], b"OK"

    @staticmethod
    def probe_command(key):
        """A short read that tells the version."""
        return ("HGET", name(key), FIELDS[0]) if is_hash(key) else ("GETRANGE", name(key), "0", str(HEAD_BYTES))

    def probed(self, key, reply):
        return self.from_value(key, reply or None)

    # Reads. Each answers with a version, ABSENT or PRESENT; WrongValue when it can't be any.

    def choose_reads(self, keys, chance):
        """Commands that read these keys: [(command, [key, ...], parser)], the parser giving one answer for each key."""
        strings = [key for key in keys if not is_hash(key)]
        reads = []
        if len(strings) > 2 and chance.random() < 0.3:
            reads.append((("MGET", *map(name, strings)), strings, self.from_mget))
        else:
            reads += [self.choose_string_read(key, chance) for key in strings]
        reads += [self.choose_hash_read(key, chance) for key in keys if is_hash(key)]
        return reads

    def choose_string_read(self, key, chance):
        kind = chance.random()
        if kind < 0.7:
            return ("GET", name(key)), [key], self.from_get
        if kind < 0.8:
            return ("STRLEN", name(key)), [key], self.from_strlen
        if kind < 0.9:
            return ("GETRANGE", name(key), "0", str(HEAD_BYTES)), [key], self.from_getrange
        if kind < 0.95:
            return ("EXISTS", name(key)), [key], self.from_exists
        return ("TYPE", name(key)), [key], self.from_type

    def choose_hash_read(self, key, chance):
        kind = chance.random()
        if kind < 0.4:
            return ("HGETALL", name(key)), [key], self.from_hgetall
        if kind < 0.65:
            return ("HGET", name(key), chance.choice(FIELDS)), [key], self.from_get
        if kind < 0.8:
            return ("HMGET", name(key), *FIELDS[1:]), [key], self.from_hmget
        if kind < 0.9 and not self.may_expire(key):  # HLEN counts fields that have expired until they are collected
            return ("HLEN", name(key)), [key], self.from_hlen
        return ("HEXISTS", name(key), chance.choice(FIELDS)), [key], self.from_exists

    def every_read(self, key):
        """One read of each kind, for the comparison at the end."""
        key_name = name(key)
        if is_hash(key):
            length = [] if self.may_expire(key) else [("HLEN", key_name)]
            return [("HGETALL", key_name), ("HGET", key_name, FIELDS[2]), ("HMGET", key_name, *FIELDS),
                    ("HEXISTS", key_name, FIELDS[0]), *length]
        return [("GET", key_name), ("MGET", key_name), ("STRLEN", key_name), ("GETRANGE", key_name, "0", str(HEAD_BYTES)),
                ("EXISTS", key_name), ("TYPE", key_name)]

    def from_value(self, key, value):
        return ABSENT if value is None else parse_value(key, value, self.writers)

    def from_get(self, keys, reply, _board):
        return [self.from_value(keys[0], reply)]

    def from_mget(self, keys, reply, _board):
        if len(reply) != len(keys):
            raise WrongValue(f"MGET of {len(keys)} keys answered with {len(reply)} values")
        return [self.from_value(key, value) for key, value in zip(keys, reply)]

    def from_getrange(self, keys, reply, _board):
        return [self.from_value(keys[0], reply or None)]

    def from_strlen(self, keys, reply, board):
        if reply == 0:
            return [ABSENT]
        newest = board.sent[keys[0]]
        for version in range(newest, -1, -1):
            if self.length(keys[0], version) == reply:
                return [version]
        raise WrongValue(f"key {keys[0]}: no version is {reply} bytes long")

    def length(self, key, version):
        return len(head(key, version, key % self.writers)) + (key * 31 + version * 17) % max(1, self.value_bytes_max)

    @staticmethod
    def from_exists(keys, reply, _board):
        if reply not in (0, 1):
            raise WrongValue(f"key {keys[0]}: {reply!r} instead of 0 or 1")
        return [PRESENT if reply else ABSENT]

    @staticmethod
    def from_type(keys, reply, _board):
        if reply not in (b"string", b"none"):
            raise WrongValue(f"key {keys[0]}: the type is {reply!r}")
        return [PRESENT if reply == b"string" else ABSENT]

    @staticmethod
    def from_hlen(keys, reply, _board):
        if reply not in (0, len(FIELDS)):
            raise WrongValue(f"key {keys[0]}: {reply} fields, of {len(FIELDS)} that are always written together")
        return [PRESENT if reply else ABSENT]

    def from_hgetall(self, keys, reply, _board):
        fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))
        if fields and set(fields) != set(FIELDS):
            raise WrongValue(f"key {keys[0]}: torn: the fields {sorted(fields)}")
        return [self.of_one_version(keys[0], list(fields.values()) or [None])]

    def from_hmget(self, keys, reply, _board):
        return [self.of_one_version(keys[0], reply)]

    def of_one_version(self, key, values):
        versions = {self.from_value(key, value) for value in values}
        if len(versions) != 1:
            raise WrongValue(f"key {key}: torn: fields of the versions {sorted(versions)} in one answer")
        return versions.pop()
