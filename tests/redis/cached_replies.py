#!/usr/bin/env python3
"""Replies read in RESP3 and told in RESP2, against a real server that is asked in both.

Every command whose reply may be kept (`--cli list`), in many argument forms, of keys in many states (absent, of each type
and encoding, of the wrong type, empty, large, binary, odd doubles):

  1. protocol::append_as_resp2 makes of the server's RESP3 reply, byte for byte, the server's RESP2 reply. Errors are
     refused, and so is every reply cut short (the CLI tries all lengths of short ones).
  2. The same call gives the same reply twice.
  3. Each command is covered: at least one of its replies was no error and was converted; each RESP3 type occurred.
  4. The server tracks what the command read: a change of the key, also its creation, is pushed to the reader.

    cached_replies.py --cli build/release/cached_replies_cli                          # starts a redis-server of its own
    cached_replies.py --cli build/release/cached_replies_cli --server 127.0.0.1:6379   # keys under "{cached-replies}:" only

Commands that the server does not have are named and left out; --newer also asks for the options that came after Redis 7.0.
Exit 0: all well; 1: failures, listed; 77: no redis-server (a failure where the environment has CI or NEARCACHED_CI set).
"""

import argparse
import collections
import itertools
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from resp import Client, encode  # noqa: E402
from servers import RedisServer  # noqa: E402

PREFIX = "{cached-replies}:"
SEED = 20243
SKIPPED = 77
FAILURES_SHOWN = 20
COMPARED_MIN = 5000  # fewer non-errors mean that the calls below have stopped fitting the states
BATCH = 100          # calls in flight
ATTEMPTS = 4         # a set's order may change between two calls while its table grows: then ask again
TYPES = "$+:*~%,_"   # what cacheable commands answer in RESP3
BINARY = bytes(range(256))


# --- States of a key: what builds them, "K" for the key -------------------------------------------------------------------


def odd_doubles():
    """Scores that are hard to write: the ends of the range, integers around 2^53, random bit patterns."""
    rng = random.Random(SEED)
    fixed = ["inf", "-inf", "0", "-0", "-0.0", "0.1", "-0.1", "1e300", "-1e300", "5e-324", "2.2250738585072014e-308",
             "1.7976931348623157e308", "3", "-3", "3.0", "1e21", "1e17", "123456789012345680", "9007199254740993",
             "9007199254740991", "4503599627370496.5", "0.30000000000000004", "1e-7", "100", "1e5", "3.14159265358979"]
    scores = list(fixed)
    while len(scores) < 300:
        value = struct.unpack("<d", rng.randbytes(8))[0]
        if value == value:
            scores.append(repr(value))
    return [word for i, score in enumerate(scores) for word in (score, f"m{i}")]


def states():
    large_hash = [word for i in range(3000) for word in (f"field{i}", f"value{i}" * (i % 7))]
    members = [f"member{i}" for i in range(3000)]
    scored = [word for i in range(700) for word in (str(i * 0.37), f"z{i}")]
    places = [word for i in range(400) for word in (f"{i * 0.3 - 60:.3f}", f"{i * 0.1:.3f}", f"p{i}")]
    entries = [("XADD", "K", f"{i}-1", "f", "v", "n", i, f"own{i}", "x" * (i % 50)) for i in range(1, 300)]
    return {
        "absent": [],
        "string": [("SET", "K", "hello world")],
        "string, empty": [("SET", "K", "")],
        "string, number": [("SET", "K", "-12345")],
        "string, binary": [("SET", "K", BINARY)],
        "string, RESP": [("SET", "K", b"_\r\n$-1\r\n*2\r\n,1\r\n")],
        "string, large": [("SET", "K", b"line\r\n" * 40000)],
        "string, bits": [("SETBIT", "K", 7, 1), ("SETBIT", "K", 4000, 1)],
        "string, expiring": [("SET", "K", "v"), ("PEXPIREAT", "K", 4102444800123)],
        "string, HyperLogLog": [("PFADD", "K", "a", "b", "c")],
        "list": [("RPUSH", "K", "a", "b", "c", "a", "", "1", "-5", "12345678901", BINARY)],
        "list, one": [("RPUSH", "K", "a")],
        "list, large": [("RPUSH", "K", *["a", *members, "x" * 9000])],
        "hash": [("HSET", "K", "a", "1", "b", "", "", "empty name", BINARY, BINARY, "c", "3.5")],
        "hash, one": [("HSET", "K", "a", "1")],
        "hash, large": [("HSET", "K", *large_hash)],
        "hash, long value": [("HSET", "K", "a", "y" * 100000)],
        "hash, expiring": [("HSET", "K", "a", "1", "b", "2"), ("PEXPIREAT", "K", 4102444800999)],
        "set": [("SADD", "K", "a", "b", "", BINARY, "1")],
        "set, numbers": [("SADD", "K", "1", "-7", "99999999999", "0")],
        "set, large": [("SADD", "K", "a", *members)],
        "zset": [("ZADD", "K", "1", "a", "2.5", "b", "inf", "c", "-inf", "", "1e300", BINARY, "7", "1")],
        "zset, one": [("ZADD", "K", "3", "a")],
        "zset, odd doubles": [("ZADD", "K", *odd_doubles())],
        "zset, equal scores": [("ZADD", "K", *[word for m in "abcdefg" for word in ("0", m)])],
        "zset, large": [("ZADD", "K", "1.5", "a", *scored)],
        "geo": [("GEOADD", "K", "13.361389", "38.115556", "a", "15.087269", "37.502669", "b", "-0.1", "51.5", "c")],
        "geo, large": [("GEOADD", "K", *places)],
        "stream": [("XADD", "K", "1-1", "a", "1"), ("XADD", "K", "1-2", "a", "2", "b", BINARY),
                   ("XADD", "K", "7-0", "", "")],
        "stream, emptied": [("XADD", "K", "1-1", "a", "1"), ("XDEL", "K", "1-1")],
        "stream, with holes": [*entries[:40], ("XDEL", "K", "3-1", "4-1", "9-1")],
        "stream, large": entries,
    }


# --- Calls: command -> what may follow the key. Words in capitals are options and are sent in any case --------------------


def geo_options():
    found = ["WITHDIST", "WITHHASH", "WITHCOORD"]
    for count in range(len(found) + 1):
        for chosen in itertools.permutations(found, count):
            yield " ".join(chosen)
    yield from ("ASC", "DESC WITHDIST", "COUNT 2", "COUNT 2 ANY", "COUNT 1 ASC WITHCOORD", "COUNT 0",
                "WITHCOORD COUNT 3 ANY DESC")


def crossed(places, options):
    return [f"{place} {option}" for place in places for option in options]


RANGES = ["0 -1", "0 0", "1 2", "-2 -1", "5 1", "-100 100", "99999 100000", "0 x", "0 9223372036854775807"]
BIT_RANGES = ["", "0 0", "0 -1", "1 -2", "-5 3", "5 1", "0 0 BYTE", "0 -1 BIT", "3 9 BIT", "0 1 NIBBLE"]
SCORES = ["-inf +inf", "(1 inf", "0 (3", "1 1", "3 1", "x y"]
REVERSED_SCORES = ["+inf -inf", "inf (1", "(3 0", "1 1", "1 3", "x y"]
LIMITS = ["", "WITHSCORES", "LIMIT 0 2", "LIMIT 1 2 WITHSCORES", "WITHSCORES LIMIT 1 -1", "LIMIT 9 9", "LIMIT -1 2"]
LEXES = ["- +", "[a (c", "(a [c", "+ -", "x y", "[a [a"]
REVERSED_LEXES = ["+ -", "(c [a", "[c (a", "- +", "x y", "[a [a"]
FIELDS = ["a", "b", "nope", "field7", "member7"]
STREAM_RANGES = ["- +", "1 1", "1-1 1-2", "(1-1 +", "2 +", "9 1", "- (1-2", "x y"]
REVERSED_STREAM_RANGES = ["+ -", "1 1", "1-2 1-1", "+ (1-1", "+ 2", "1 9", "(1-2 -", "x y"]
COUNTS = ["", "COUNT 2", "COUNT 0", "COUNT -1", "COUNT 1000", "COUNT x"]
PLACES = ["FROMMEMBER a BYRADIUS 500 km", "FROMLONLAT 15 37 BYRADIUS 200 km", "FROMLONLAT 15 37 BYBOX 4000 4000 km",
          "FROMMEMBER nope BYRADIUS 5 m"]
EMPTY_AND_BINARY = [[""], [BINARY]]


def calls():
    """Command -> a list of argument lists."""
    zrange = crossed(RANGES, ["", "WITHSCORES", "REV", "REV WITHSCORES"]) + \
        crossed(["-inf +inf BYSCORE", "(1 3 BYSCORE", "inf -inf BYSCORE REV"], LIMITS) + \
        crossed(["- + BYLEX", "[a (c BYLEX", "+ - BYLEX REV"], ["", "LIMIT 1 2", "LIMIT 0 0", "WITHSCORES"])
    texts = {
        "GET": [""],
        "GETRANGE": RANGES, "SUBSTR": RANGES,
        "STRLEN": [""], "EXISTS": [""], "TYPE": [""], "EXPIRETIME": [""], "PEXPIRETIME": [""],
        "GETBIT": ["0", "7", "99999", "x"],
        "BITCOUNT": BIT_RANGES,
        "BITPOS": crossed(["0", "1"], ["", "0", "1", "-1", "9999", "0 -1", "0 -1 BIT", "5 1"]) + ["2"],
        "BITFIELD_RO": ["", "GET u8 0", "GET i8 0 GET u63 3 GET i64 #1", "GET u4 999999", "GET x 0", "SET u8 0 1"],
        "LINDEX": ["0", "-1", "3", "99999", "x"],
        "LLEN": [""],
        "LPOS": crossed(["a", "nope", "member7", "1"],
                        ["", "COUNT 0", "COUNT 1", "RANK 2", "RANK -1 COUNT 2", "MAXLEN 2", "RANK 0"]),
        "LRANGE": RANGES,
        "HGET": FIELDS, "HEXISTS": FIELDS, "HSTRLEN": FIELDS,
        "HMGET": ["a", "nope", "a b c nope", "nope nope2", "field1 field2 a"],
        "HGETALL": [""], "HKEYS": [""], "HVALS": [""], "HLEN": [""],
        "SCARD": [""], "SMEMBERS": [""],
        "SISMEMBER": FIELDS, "SMISMEMBER": ["a", "nope", "a nope b 1 member7"],
        "ZCARD": [""],
        "ZCOUNT": SCORES, "ZLEXCOUNT": LEXES,
        "ZSCORE": ["a", "b", "c", "nope", "1", *(f"m{i}" for i in range(300))],
        "ZMSCORE": ["a", "nope", "a b c nope 1", "nope nope", " ".join(f"m{i}" for i in range(300))],
        "ZRANK": ["a", "b", "nope", "m7"], "ZREVRANK": ["a", "b", "nope", "m7"],
        "ZRANGE": zrange,
        "ZREVRANGE": crossed(RANGES, ["", "WITHSCORES"]),
        "ZRANGEBYSCORE": crossed(SCORES, LIMITS), "ZREVRANGEBYSCORE": crossed(REVERSED_SCORES, LIMITS),
        "ZRANGEBYLEX": crossed(LEXES, ["", "LIMIT 1 2", "LIMIT 0 0"]),
        "ZREVRANGEBYLEX": crossed(REVERSED_LEXES, ["", "LIMIT 1 2", "LIMIT 0 0"]),
        "GEOPOS": ["", "a", "nope", "a nope b", "c", "m0 m1 m2 m3 m7 m8 m9 m40 m41 m42"],
        "GEOHASH": ["", "a", "nope", "a nope b", "m0 m1 m2 m3 m7 m8 m9 m40 m41 m42"],
        "GEODIST": ["a b", "a b km", "a a", "a nope", "nope nope2", "m0 m1", "m2 m7 ft", "a b furlong"],
        "GEOSEARCH": crossed(PLACES, geo_options()),
        "GEORADIUS_RO": crossed(["15 37 200 km", "15 37 5000 mi"], geo_options()),
        "GEORADIUSBYMEMBER_RO": crossed(["a 500 km", "nope 5 m"], geo_options()),
        "XLEN": [""],
        "XRANGE": crossed(STREAM_RANGES, COUNTS), "XREVRANGE": crossed(REVERSED_STREAM_RANGES, COUNTS),
    }
    made = {name: [tail.split() for tail in tails] for name, tails in texts.items()}
    for name in ("HGET", "HEXISTS", "HSTRLEN", "HMGET", "SISMEMBER", "SMISMEMBER", "ZSCORE", "ZMSCORE", "ZRANK", "ZREVRANK",
                 "LPOS", "GEOPOS"):
        made[name] += EMPTY_AND_BINARY
    return made


def newer_calls():
    """Options of servers newer than 7.0."""
    return {name: [tail.split() for tail in ("a WITHSCORE", "b WITHSCORE", "nope WITHSCORE", "m7 WITHSCORE")]
            for name in ("ZRANK", "ZREVRANK")}


def any_case(rng, word):
    return rng.choice([word, word.lower(), word.title()]) if isinstance(word, str) and word.isupper() else word


# --- Comparing ------------------------------------------------------------------------------------------------------------


class Comparison:
    """Two connections to one server, and what of their replies did not fit."""

    def __init__(self, address, cli):
        self.cli = cli
        self.resp2 = Client(address, protocol=2, timeout=60)
        self.resp3 = Client(address, protocol=3, timeout=60)
        self.failures = []
        self.converted = collections.Counter()  # command -> replies that were no errors
        self.examples = {}                      # command -> a call that was answered without an error, and its state
        self.types = collections.Counter()
        self.errors = 0

    def build(self, key, commands):
        self.resp2.call("DEL", key)
        for command in commands:
            self.resp2.call(*[key if word == "K" else word for word in command])

    def replies(self, client, requests):
        found = []
        for first in range(0, len(requests), BATCH):
            batch = requests[first:first + BATCH]
            client.raw(b"".join(encode(*request) for request in batch))
            found += [client.read_raw() for _ in batch]
        return found

    def converted_replies(self, requests, replies):
        lines = [" ".join([*map(to_hex, request), "=", to_hex(reply)]) for request, reply in zip(requests, replies)]
        result = subprocess.run([self.cli], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120,
                                check=True)
        answers = result.stdout.splitlines()
        if len(answers) != len(requests):
            raise RuntimeError(f"{len(requests)} calls, {len(answers)} answers")
        return answers

    def compare(self, state, requests):
        for attempt in range(ATTEMPTS):
            in_3 = self.replies(self.resp3, requests)
            in_2 = self.replies(self.resp2, requests)
            again = self.replies(self.resp3, requests)
            found = list(zip(requests, in_3, in_2, again, self.converted_replies(requests, in_3)))
            wrong = [(item, reason) for item in found if (reason := difference(*item[1:])) is not None]
            if attempt == 0:
                self.count(state, found)
            if not wrong:
                return
            requests = [item[0] for item, _reason in wrong]
        self.failures += [f"{state}: {shown(item[0])}: {reason}" for item, reason in wrong]

    def count(self, state, found):
        for request, in_3, _in_2, _again, _answer in found:
            if in_3.startswith(b"-"):
                self.errors += 1
                continue
            name = request[0].upper()
            self.converted[name] += 1
            head = b"\r\n" + in_3[:4000]
            self.types.update(kind for kind in TYPES if b"\r\n" + kind.encode() in head)
            if state != "absent":
                self.examples.setdefault(name, (state, request[2:]))

    def has(self, name):
        return bool(self.resp2.call("COMMAND", "INFO", name)[0])

    def check_tracking(self, built):
        """A reply that is kept may only be of a command whose key the server then tracks, present or not."""
        reader = Client(self.resp3.address, protocol=3, timeout=60)
        reader.call("CLIENT", "TRACKING", "ON")
        key = PREFIX + "tracked"
        for name, (state, tail) in sorted(self.examples.items()):
            for present in (True, False):
                self.build(key, built[state] if present else [])
                reader.pushes.clear()
                reader.send(name, key, *tail)
                reader.read()
                reader.call("PING")
                reader.pushes.clear()
                self.resp2.call(*(("DEL", key) if present else ("SET", key, "x")))
                reader.call("PING")
                if [b"invalidate", [key.encode()]] not in [list(push) for push in reader.pushes]:
                    self.failures.append(f"{name} of a key that is {'there' if present else 'absent'} is not tracked")
        reader.close()

    def clean_up(self, keys):
        self.resp2.call("DEL", PREFIX + "tracked", *keys)
        self.resp2.close()
        self.resp3.close()


def difference(in_3, in_2, again, answer):
    """What is wrong with one call's replies, or None."""
    if in_3.startswith(b"-"):
        return None if answer == "refused" else f"an error became {answer}"
    if again != in_3:
        return f"two replies to one call: {in_3[:200]!r}, {again[:200]!r}"
    if answer != to_hex(in_2):
        return f"{in_3[:200]!r} became {from_hex(answer)[:200]!r}, the server says {in_2[:200]!r}"
    return None


def to_hex(word):
    return (word.encode() if isinstance(word, str) else word).hex() or "."


def from_hex(answer):
    try:
        return bytes.fromhex(answer)
    except ValueError:
        return answer


def shown(request):
    return " ".join(word if isinstance(word, str) else repr(word[:20]) for word in request)[:200]


def run(address, cli, newer):
    listed = set(subprocess.run([cli, "list"], capture_output=True, text=True, check=True).stdout.upper().split())
    wanted = calls()
    comparison = Comparison(address, cli)
    failures = comparison.failures
    failures += [f"no calls for {name}" for name in sorted(listed - set(wanted))]
    failures += [f"{name} is not kept" for name in sorted(set(wanted) - listed)]
    missing = {name for name in wanted if not comparison.has(name)}
    if newer:
        for name, tails in newer_calls().items():
            wanted[name] = wanted[name] + tails
    rng = random.Random(SEED)
    built = states()
    keys = {state: f"{PREFIX}{state}" for state in built}
    try:
        for state, commands in built.items():
            comparison.build(keys[state], commands)
            requests = [[any_case(rng, name), keys[state], *(any_case(rng, word) for word in tail)]
                        for name, tails in wanted.items() if name not in missing for tail in tails]
            comparison.compare(state, requests)
        comparison.check_tracking(built)
    finally:
        comparison.clean_up(keys.values())
    compared = sum(comparison.converted.values())
    failures += [f"{name} was never answered without an error" for name in sorted(set(wanted) - missing)
                 if name not in comparison.examples]
    failures += [f"no reply held the type {kind}" for kind in TYPES if not comparison.types[kind]]
    if compared < COMPARED_MIN:
        failures.append(f"only {compared} replies were compared")
    print(f"{compared} replies and {comparison.errors} errors of {len(wanted) - len(missing)} commands compared"
          f"{', the server lacks ' + ' '.join(sorted(missing)) if missing else ''}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, help="the program cached_replies_cli")
    parser.add_argument("--server", metavar="HOST:PORT", help="a running server instead of one of our own")
    parser.add_argument("--redis-server", default=shutil.which(os.environ.get("NEARCACHED_REDIS_SERVER") or "redis-server"))
    parser.add_argument("--newer", action="store_true", help="ask for options of servers newer than Redis 7.0 too")
    options = parser.parse_args()
    if options.server is None and options.redis_server is None:
        print("SKIPPED: no redis-server here: nothing was compared")
        return 1 if os.environ.get("CI") or os.environ.get("NEARCACHED_CI") else SKIPPED
    if options.server is not None:
        failures = run(options.server, options.cli, options.newer)
    else:
        with RedisServer(binary=options.redis_server) as server:
            failures = run(server.address, options.cli, options.newer)
    for failure in failures[:FAILURES_SHOWN]:
        print("FAILED", failure)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
