#!/usr/bin/env python3
"""Every cacheable command through L1, before one server and before a cluster, in both protocols. Each case says which lie it
would find.

What is right is what the server itself answers to the same bytes, asked directly. max_staleness of the main sidecars is
long: what is new within moments was invalidated, it did not merely run out of proof.
"""

import itertools
import random
import time
import unittest

import cached_replies
from system import (PATIENCE_S, SLOWNESS, Cluster, RedisServer, ReplyError, Sidecar, encode, eventually, key_slot, main,
                    seconds_until)

LONG_STALENESS = "20s"
PUSH_WORST_S = 3.0 * SLOWNESS
SEED = random.SystemRandom().randrange(1 << 30)
VARIANTS_MAX = 64     # of one key in L1
CALL_BYTES_MAX = 1000
BATCH = 48            # calls of one key at a time: fewer than are kept
MIXED_ORDER = ("HGETALL", "HKEYS", "HVALS", "SMEMBERS")  # a table that grows changes its order between two reads
SETTINGS = {"coherence.max_staleness": LONG_STALENESS, "threads": 3, "l1.max_bytes": "1GB", "l1.max_item_bytes": "64MB"}
BINARY_KEY = bytes(range(256)) + b"\r\n$-1\r\n"


def setUpModule():
    global single, cluster, before_single, before_cluster
    print(f"seed {SEED}", flush=True)
    single = RedisServer()
    cluster = Cluster(primaries=3)
    before_single = Sidecar(single.url, SETTINGS)
    before_cluster = Sidecar(cluster.url, SETTINGS)
    before_single.wait_caching()
    before_cluster.wait_caching(links=3)


def tearDownModule():
    for server in (before_single, before_cluster, single, cluster):
        server.close()


def raw_replies(client, requests):
    """The exact bytes of each reply, all requests sent at once."""
    client.raw(b"".join(encode(*request) for request in requests))
    return [client.read_raw() for _ in requests]


def filled_in(command, key):
    """The command with `key` for the word K, and a neighbour in the same slot for K2."""
    tag = key if isinstance(key, bytes) else key.encode()
    places = {"K": tag, "K2": b"{" + tag + b"}2"}
    return [places.get(word, word) if isinstance(word, str) else word for word in command]


def comparable(request, reply):
    return sorted(reply.split(b"\r\n")) if request[0].upper() in MIXED_ORDER else reply


class Upstream:
    """One server or a cluster, behind the same calls; `direct(key)` is a connection to the key's owner."""

    def __init__(self, servers_, sidecar):
        self.servers = servers_
        self.sidecar = sidecar
        self._connections = {}

    def direct(self, key, protocol=2):
        owner = self.servers if isinstance(self.servers, RedisServer) else self.servers.owner_of(key)
        connection = self._connections.get((owner.port, protocol))
        if connection is None:
            connection = self._connections[owner.port, protocol] = owner.client(protocol=protocol, timeout=PATIENCE_S)
        return connection

    def close(self):
        for connection in self._connections.values():
            connection.close()


class OnBoth(unittest.TestCase):
    """A case that holds before one server and before a cluster: subclasses say which by `make`."""

    make = None

    def setUp(self):
        self.upstream = self.make()
        self.sidecar = self.upstream.sidecar
        self.rng = random.Random(SEED)
        self.clients = {2: self.sidecar.client(), 3: self.sidecar.client(protocol=3)}
        self.serial = itertools.count()

    def tearDown(self):
        for client in self.clients.values():
            client.close()
        self.upstream.close()
        if not self.sidecar.alive:
            code = self.sidecar.process.poll()
            self.sidecar.start()
            self.fail(f"the sidecar ended with {code}")

    def fresh_key(self, name="k"):
        return f"{self.id().rpartition('.')[2]}:{name}:{next(self.serial)}"

    def build(self, key, commands):
        direct = self.upstream.direct(key)
        for command in commands:
            direct.call(*filled_in(command, key))

    def told_directly(self, key, requests, protocol=2):
        return raw_replies(self.upstream.direct(key, protocol), requests)

    def assert_same(self, requests, got, expected, context):
        for request, one, other in zip(requests, got, expected):
            if comparable(request, one) != comparable(request, other):
                self.fail(f"{context}: {cached_replies.shown(request)}: {one[:200]!r}, the server says {other[:200]!r}")

    def hits_of(self, action):
        before = self.sidecar.hits
        action()
        return self.sidecar.hits - before


def both(case):
    """Makes of a case one class before the single server and one before the cluster, and nothing of the case itself."""
    module = globals()
    module[f"{case.__name__}BeforeOneServer"] = type(f"{case.__name__}BeforeOneServer", (case,), {
        "make": staticmethod(lambda: Upstream(single, before_single)), "__doc__": case.__doc__, "__module__": __name__})
    module[f"{case.__name__}BeforeACluster"] = type(f"{case.__name__}BeforeACluster", (case,), {
        "make": staticmethod(lambda: Upstream(cluster, before_cluster)), "__doc__": case.__doc__, "__module__": __name__})
    return None


@both
class SameBytes(OnBoth):
    """Miss, hit and the server's own answer are the same bytes, whichever protocol the entry was filled by."""

    def settle(self, key, state):
        """Look-ups make a table that is growing finish: until then the order of a whole hash or set changes."""
        command = {"hash": "HGET", "set": "SISMEMBER"}.get(state.partition(",")[0])
        if command:
            direct = self.upstream.direct(key)
            direct.pipeline([(command, key, f"settle{i}") for i in range(6000)])

    def test_miss_hit_and_direct_answer_of_every_cacheable_command(self):
        wanted = cached_replies.calls()
        missing = {name for name in wanted if not self.upstream.direct("x").call("COMMAND", "INFO", name)[0]}
        cached = set()
        for state, commands in cached_replies.states().items():
            key = self.fresh_key(state)
            self.build(key, commands)
            self.settle(key, state)
            requests = [[cached_replies.any_case(self.rng, name), key,
                         *(cached_replies.any_case(self.rng, word) for word in tail)]
                        for name, tails in wanted.items() if name not in missing for tail in tails]
            kept = [request for request in requests if self.kept(state, request)]
            for first in range(0, len(kept), BATCH):
                cached |= self.check(state, key, kept[first:first + BATCH])
            for p in (2, 3):
                others = [request for request in requests if not self.kept(state, request)]
                self.assert_same(others, raw_replies(self.clients[p], others), self.told_directly(key, others, p), state)
        self.assertEqual(set(wanted) - missing - cached, set(), "commands that were never a hit")

    @staticmethod
    def kept(state, request):
        """Of an absent key, what these say they say of keys that exist as well. Very long calls are forwarded."""
        ambiguous = state == "absent" and request[0].upper() in ("GETRANGE", "SUBSTR", "BITPOS")
        return not ambiguous and sum(len(word) + 3 for word in request) < CALL_BYTES_MAX

    def check(self, state, key, requests):
        """The commands of these requests that were answered by L1."""
        protocols = self.rng.choice(((2, 3), (3, 2)))
        expected = {p: self.told_directly(key, requests, p) for p in protocols}
        for turn in range(2):
            for p in protocols:
                before = self.sidecar.hits
                got = raw_replies(self.clients[p], requests)
                hits = self.sidecar.hits - before
                for request, one, other in zip(requests, got, expected[p]):
                    self.assertEqual(one, other, f"{state}, RESP{p}, turn {turn}: {cached_replies.shown(request)}")
                if (turn, p) == (0, protocols[0]):
                    continue
                # The same words in another case may be an entry of their own or not, so that only a floor is known.
                good = [request for request, reply in zip(requests, got) if not reply.startswith(b"-")]
                self.assertGreaterEqual(hits, len(good), f"{state}, RESP{p}, turn {turn}: not all were hits")
                self.assertLessEqual(hits, len(good), f"{state}, RESP{p}, turn {turn}: errors came from L1")
        return {request[0].upper() for request in good}


OTHER = {
    "string": [("SET", "K2", "other")], "number": [("SET", "K2", "7")], "list": [("RPUSH", "K2", "a", "z")],
    "hash": [("HSET", "K2", "a", "9", "z", "1")], "set": [("SADD", "K2", "a", "z")],
    "zset": [("ZADD", "K2", 5, "a", 6, "z")], "stream": [("XADD", "K2", "5-5", "z", "1")],
    "geo": [("GEOADD", "K2", "13.3", "38.1", "a", "2", "48", "z")], "hll": [("PFADD", "K2", "z")],
}
BUILT = {
    "string": [("SET", "K", "hello world")], "number": [("SET", "K", "41")],
    "list": [("RPUSH", "K", "a", "b", "c", "a")], "hash": [("HSET", "K", "a", "1", "b", "2")],
    "set": [("SADD", "K", "a", "b", "1")], "zset": [("ZADD", "K", 1, "a", 2.5, "b", 3, "c")],
    "stream": [("XADD", "K", "1-1", "a", "1"), ("XADD", "K", "1-2", "a", "2")],
    "geo": [("GEOADD", "K", "13.361389", "38.115556", "a", "15.087269", "37.502669", "b")], "hll": [("PFADD", "K", "a")],
}
FAR = 4102444800
SCRIPT = "return redis.call(ARGV[1], KEYS[1], ARGV[2])"
CHANGES_OF_ANY = [
    "DEL K", "UNLINK K", "EXPIRE K 1000", f"EXPIREAT K {FAR}", f"PEXPIREAT K {FAR}123", "PEXPIREAT K 1", "EXPIRE K -1",
    "RENAME K K2", "RENAME K2 K", "RENAMENX K {K}3", "COPY K2 K REPLACE", "SET K new", f"SET K new PXAT {FAR}001",
                  "GETDEL K",
    "MSET K new K2 newer", "SUNIONSTORE K {K}set", "ZRANGESTORE K {K}zset 0 -1", "SORT {K}list ALPHA STORE K",
    "BITOP NOT K {K}string", "EVAL SCRIPT 1 K SET x", "RESTORE K 0 DUMP REPLACE", "GETEX K PXAT 1", "SETEX K 1000 new",
    "PFMERGE K {K}hll", "GEOSEARCHSTORE K {K}geo FROMLONLAT 13 38 BYRADIUS 900 km", "ZUNIONSTORE K 1 {K}zset",
]
OF_STRINGS = {"GETEX": ("string", "number", "hll"), "GETDEL": ("string", "number", "hll"), "PFMERGE": ("hll",)}
CHANGES = {
    "string": ["APPEND K x", "SETRANGE K 2 ZZ", "SETBIT K 7 1", "GETSET K x", "BITFIELD K SET u8 0 1", "PSETEX K 900000 n",
               "SETRANGE K 200 far", f"GETEX K PXAT {FAR}009", "SET K x XX", "SET K x GET"],
    "number": ["INCR K", "DECR K", "INCRBY K 7", "DECRBY K 7", "INCRBYFLOAT K 0.5"],
    "list": ["LPUSH K n", "RPUSH K n", "LPOP K", "RPOP K", "LPOP K 9", "LSET K 0 n", "LINSERT K BEFORE a n", "LREM K 0 a",
             "LTRIM K 1 1", "LMOVE K K2 LEFT RIGHT", "LMOVE K2 K LEFT RIGHT", "RPOPLPUSH K K", "LPUSHX K n", "RPUSHX K n",
             "LMPOP 1 K LEFT", "RPOPLPUSH K2 K"],
    "hash": ["HSET K a 9", "HSET K new 1", "HDEL K a", "HDEL K a b", "HINCRBY K a 4", "HINCRBYFLOAT K a 0.5",
             "HSETNX K c 1", "HMSET K a x d y"],
    "set": ["SADD K n", "SREM K a", "SREM K a b 1", "SPOP K", "SPOP K 9", "SMOVE K K2 a", "SMOVE K2 K z",
            "SINTERSTORE K K K2", "SDIFFSTORE K K K2", "SUNIONSTORE K K K2"],
    "zset": ["ZADD K 9 n", "ZADD K 9 a", "ZADD K XX GT 9 b", "ZREM K a", "ZREM K a b c", "ZINCRBY K 4 a", "ZPOPMIN K",
             "ZPOPMAX K", "ZREMRANGEBYRANK K 0 0", "ZREMRANGEBYSCORE K 2 3", "ZREMRANGEBYLEX K - +", "ZMPOP 1 K MIN",
             "ZRANGESTORE K K 1 1", "ZINTERSTORE K 2 K K2", "ZDIFFSTORE K 2 K K2", "GEOADD K 1 2 p"],
    "stream": ["XADD K 7-7 f v", "XDEL K 1-1", "XTRIM K MAXLEN 1", "XTRIM K MAXLEN 0", "XADD K MAXLEN 1 7-7 f v"],
    "geo": ["GEOADD K 2 48 n", "GEOADD K 2 48 a", "ZREM K a", "ZINCRBY K 4 a"],
    "hll": ["PFADD K b c", "PFMERGE K K2"],
}


@both
class Changes(OnBoth):
    """Each command that can change a key, its type or its expiry, done by others and through the sidecar."""

    def setUp(self):
        super().setUp()
        self.reads = {kind: self.reads_of(kind) for kind in BUILT}

    def reads_of(self, kind):
        """For each cacheable command one or two calls that this type answers; calls that come first in the table."""
        key = self.fresh_key("sample")
        self.build(key, BUILT[kind])
        found = []
        for name, tails in cached_replies.calls().items():
            requests = [["K" if word == key else word for word in (name, key, *tail)] for tail in tails[:12]]
            replies = self.told_directly(key, [filled_in(request, key) for request in requests])
            good = [request for request, reply in zip(requests, replies) if not reply.startswith(b"-")]
            found += good[:2 if len(good) > 6 else 1]
        self.assertLessEqual(len(found), VARIANTS_MAX)
        return found

    def words(self, text, key):
        if text.startswith("RESTORE"):
            dump = self.upstream.direct(key).call("DUMP", b"{%b}string" % key.encode())
            return [dump if word == "DUMP" else word for word in filled_in(text.split(), key)]
        words = [SCRIPT if word == "SCRIPT" else word.replace("{K}", "{" + key + "}") for word in text.split()]
        return filled_in(words, key)

    def prepared(self, kind, warm=True):
        """A key of this kind and its reads, all of which are in L1 unless `warm` is False."""
        key = self.fresh_key(kind)
        self.build(key, [*BUILT[kind], *OTHER[kind]])
        tagged = "{" + key + "}"
        self.build(key, [("SADD", f"{tagged}set", "s", "t"), ("ZADD", f"{tagged}zset", 4, "zz"), ("SET", f"{tagged}string",
                                                                                                  "st"),
                         ("RPUSH", f"{tagged}list", "l"), ("PFADD", f"{tagged}hll", "h"),
                         ("GEOADD", f"{tagged}geo", "13", "38", "g")])
        requests = [filled_in(request, key) for request in self.reads[kind]]
        if not warm:
            return key, requests
        expected = self.told_directly(key, requests)
        for _ in range(2):
            self.assert_same(requests, raw_replies(self.clients[2], requests), expected, f"before, {kind}")
        hits = self.hits_of(lambda: raw_replies(self.clients[3], requests))
        self.assertEqual(hits, len(requests), f"{kind}: not all in L1, so that nothing would be tested")
        return key, requests

    def all_changes(self):
        for kind in BUILT:
            for text in CHANGES[kind] + CHANGES_OF_ANY:
                if text.split()[0] not in OF_STRINGS or kind in OF_STRINGS[text.split()[0]]:
                    yield kind, text

    def test_done_elsewhere_is_seen_soon(self):
        for kind, text in self.all_changes():
            key, requests = self.prepared(kind)
            self.upstream.direct(key).call(*self.words(text, key))
            expected = [comparable(*pair) for pair in zip(requests, self.told_directly(key, requests))]

            def as_expected():
                got = raw_replies(self.clients[2], requests)
                return [comparable(*pair) for pair in zip(requests, got)] == expected
            begun = time.monotonic()
            while not as_expected():
                if time.monotonic() - begun > PUSH_WORST_S:
                    self.assert_same(requests, raw_replies(self.clients[2], requests),
                                     self.told_directly(key, requests), f"{kind}, {text}, {PUSH_WORST_S} s later")
            for p in (2, 3):
                self.assert_same(requests, raw_replies(self.clients[p], requests), self.told_directly(key, requests, p),
                                 f"{kind}, {text}, RESP{p}")

    def test_done_here_is_what_the_same_connection_reads_next(self):
        for kind, text in self.all_changes():
            key, requests = self.prepared(kind)
            self.clients[2].call(*self.words(text, key))
            got = raw_replies(self.clients[2], requests)
            self.assert_same(requests, got, self.told_directly(key, requests), f"{kind}, {text}")

    def test_done_here_is_what_every_other_connection_reads_next(self):
        others = [self.sidecar.client(protocol=3) for _ in range(6)]
        self.addCleanup(lambda: [other.close() for other in others])
        for i, (kind, text) in enumerate(self.all_changes()):
            key, requests = self.prepared(kind)
            self.clients[2].call(*self.words(text, key))
            got = raw_replies(others[i % len(others)], requests)
            self.assert_same(requests, got, self.told_directly(key, requests, 3), f"{kind}, {text}")

    def test_in_one_pipeline_the_reads_before_are_old_and_those_behind_are_new(self):
        for kind, text in self.all_changes():
            key, requests = self.prepared(kind, warm=self.rng.random() < 0.5)
            before = self.told_directly(key, requests)
            if text.startswith("RESTORE"):
                self.build(key, [("SET", "{" + key + "}string", "st")])
            words = self.words(text, key)
            got = raw_replies(self.clients[2], [*requests, words, *requests])
            self.assert_same(requests, got[:len(requests)], before, f"{kind}, before {text}")
            self.assert_same(requests, got[len(requests) + 1:], self.told_directly(key, requests), f"{kind}, behind {text}")


CREATIONS = [
    "SET K v", "SETNX K v", "SET K v NX", "GETSET K v", "APPEND K v", "SETRANGE K 3 v", "SETBIT K 1 1", "INCR K", "MSET K v",
    "MSETNX K v K3 w", "HSET K a 1", "HINCRBY K a 1", "HSETNX K a 1", "LPUSH K a", "RPUSH K a", "SADD K a", "ZADD K 1 a",
    "ZINCRBY K 1 a", "XADD K 1-1 a 1", "XGROUP CREATE K g $ MKSTREAM", "PFADD K a", "GEOADD K 1 2 a",
             "BITFIELD K SET u8 0 1",
    "RENAME K2 K", "RENAMENX K2 K", "COPY K2 K", "RESTORE K 0 DUMP", "EVAL SCRIPT 1 K SET x", "SORT {K}list ALPHA STORE K",
    "SUNIONSTORE K {K}set", "LMOVE {K}list K LEFT LEFT", "RPOPLPUSH {K}list K", "SMOVE {K}set K s", "BITOP NOT K K2",
    "ZRANGESTORE K {K}zset 0 -1", "PFMERGE K", "BLMOVE {K}list K LEFT LEFT 1",
]
ABSENT_READS = [request.split() for request in (
    "GET K", "STRLEN K", "EXISTS K", "TYPE K", "HGET K a", "HGETALL K", "HMGET K a b", "HLEN K", "LRANGE K 0 -1", "LLEN K",
    "LPOS K a", "LPOS K a COUNT 0", "SMEMBERS K", "SCARD K", "SISMEMBER K a", "ZSCORE K a", "ZRANGE K 0 -1 WITHSCORES",
                                                "ZCARD K",
    "ZRANK K a", "GETBIT K 1", "BITCOUNT K", "XLEN K", "XRANGE K - +", "GEOPOS K a", "EXPIRETIME K",
    "PEXPIRETIME K", "ZMSCORE K a b", "SMISMEMBER K a b", "HSTRLEN K a", "HEXISTS K a", "GEOHASH K a")]


@both
class AbsentKeys(OnBoth):
    """A key that is not there is in L1 as well, and as dangerous: nothing of it exists that could be tracked by mistake."""

    def prepared(self):
        key = self.fresh_key()
        tagged = "{" + key + "}"
        self.build(key, [("SET", "K2", "source"), ("RPUSH", f"{tagged}list", "l"), ("SADD", f"{tagged}set", "s"),
                         ("ZADD", f"{tagged}zset", 1, "z")])
        requests = [filled_in(request, key) for request in ABSENT_READS]
        expected = self.told_directly(key, requests)
        self.assertEqual(raw_replies(self.clients[2], requests), expected)
        before = self.sidecar.hits
        self.assertEqual(raw_replies(self.clients[2], requests), expected)
        self.assertEqual(raw_replies(self.clients[3], requests), self.told_directly(key, requests, 3))
        self.assertEqual(self.sidecar.hits - before, 2 * len(requests), "an absent key is not a hit")
        return key, requests

    def words(self, text, key):
        if "DUMP" in text:
            return ["RESTORE", key, 0, self.upstream.direct(key).call("DUMP", "{" + key + "}2")]
        words = [SCRIPT if word == "SCRIPT" else word.replace("{K}", "{" + key + "}").replace("K3", "{" + key + "}3")
                 for word in text.split()]
        return filled_in(words, key)

    def test_created_elsewhere(self):
        for text in CREATIONS:
            key, requests = self.prepared()
            self.upstream.direct(key).call(*self.words(text, key))
            expected = self.told_directly(key, requests)
            self.assertNotEqual(raw_replies(self.upstream.direct(key), requests[2:3]), [b":0\r\n"], text)
            delay = seconds_until(lambda: raw_replies(self.clients[2], requests) == expected, PUSH_WORST_S)
            self.assertLess(delay, PUSH_WORST_S, text)

    def test_created_here(self):
        with self.sidecar.client() as other:
            for i, text in enumerate(CREATIONS):
                if text.startswith("BLMOVE"):
                    continue  # refused: not offered yet
                key, requests = self.prepared()
                self.clients[2].call(*self.words(text, key))
                got = raw_replies(self.clients[2] if i % 2 else other, requests)
                self.assert_same(requests, got, self.told_directly(key, requests), text)

    def test_created_in_the_pipeline_that_reads_it(self):
        for text in CREATIONS:
            if text.startswith("BLMOVE"):
                continue
            key, requests = self.prepared()
            before = self.told_directly(key, requests)
            got = raw_replies(self.clients[3], [*requests, self.words(text, key), *requests])
            self.assert_same(requests, got[:len(requests)], self.told_directly_absent(key), text)
            self.assert_same(requests, got[len(requests) + 1:], self.told_directly(key, requests, 3), text)
            self.assertNotEqual(self.told_directly(key, requests), before, "nothing was created: nothing is tested")

    def told_directly_absent(self, key):
        absent = "{" + key + "}nothing"
        return self.told_directly(key, [filled_in(request, absent) for request in ABSENT_READS], 3)

    def test_created_by_a_script_that_does_not_name_it(self):
        if isinstance(self.upstream.servers, Cluster):
            self.skipTest("a cluster refuses it")
        script = "return redis.call('SET', ARGV[1], 'made')"
        for _ in range(20):
            key, _requests = self.prepared()
            self.clients[2].call("EVAL", script, 0, key)
            self.assertEqual(self.clients[2].call("GET", key), b"made")
            key, _requests = self.prepared()
            self.clients[2].call("EVAL", script, 0, key)
            self.assertEqual(self.clients[3].call("GET", key), b"made")

    def test_created_in_a_transaction_elsewhere(self):
        for _ in range(10):
            key, _requests = self.prepared()
            self.upstream.direct(key).pipeline([("MULTI",), ("HSET", key, "a", 1), ("DEL", key), ("SET", key, "t"),
                                                ("EXEC",)])
            seconds_until(lambda: self.clients[2].call("GET", key) == b"t", PUSH_WORST_S)
            self.assertEqual(self.clients[3].call("TYPE", key), b"string")

    def test_a_key_that_expires_becomes_absent_and_comes_back(self):
        for i in range(5):
            key = self.fresh_key()
            self.build(key, [("SET", "K", "v", "PX", 60)])
            seconds_until(lambda: self.clients[2].call("GET", key) is None, 1.0 * SLOWNESS)
            hits = self.hits_of(lambda: self.clients[2].pipeline([("GET", key), ("EXISTS", key), ("GET", key), ("EXISTS",
                                                                                                                key)]))
            self.assertGreaterEqual(hits, 2)
            if i % 2:
                self.build(key, [("RPUSH", "K", "a")])
                seconds_until(lambda: self.clients[2].call("LRANGE", key, 0, -1) == [b"a"], PUSH_WORST_S)
            else:
                self.clients[2].call("RPUSH", key, "a")
            self.assertEqual(self.clients[3].call("LRANGE", key, 0, -1), [b"a"])
            self.assertEqual(self.clients[2].call("EXISTS", key), 1)


@both
class OneKey(OnBoth):
    """What meets in one entry: errors, many reads, long and binary words, two protocols."""

    def test_errors_are_told_again_each_time_and_never_kept(self):
        key = self.fresh_key()
        self.build(key, [("SET", "K", "text")])
        wrong = [filled_in(text.split(), key) for text in
                 ("HGET K a", "LRANGE K 0 -1", "SMEMBERS K", "ZSCORE K a", "XLEN K", "LRANGE K x y", "GETRANGE K 0 x",
                  "GETBIT K -1",
                  "LINDEX K x", "ZRANGE K 0 -1 NONSENSE", "HGET K", "BITCOUNT K 1", "GEOPOS K a")]
        if self.told_directly(key, [("BITCOUNT", key, 1)])[0].startswith(b":"):  # Valkey 8.1: the end may be left out
            wrong.remove(filled_in(["BITCOUNT", "K", "1"], key))
        expected = self.told_directly(key, wrong)
        self.assertTrue(all(reply.startswith(b"-") for reply in expected))
        for p in (2, 3):
            hits = self.hits_of(lambda p=p: [self.assertEqual(raw_replies(self.clients[p], wrong),
                                                              expected) for _ in range(3)])
            self.assertEqual(hits, 0)
        self.upstream.direct(key).pipeline([("DEL", key), ("HSET", key, "a", "right")])
        self.assertEqual(self.clients[2].call("HGET", key, "a"), b"right")  # never in L1: new at once
        self.assertEqual(self.clients[3].call("HGETALL", key), {b"a": b"right"})

    def test_an_error_leaves_the_other_reads_of_its_key_right(self):
        for i in range(20):
            key = self.fresh_key()
            self.build(key, [("SET", "K", f"v{i}")])
            got = self.clients[2].pipeline([("GET", key), ("HGET", key, "a"), ("GET", key), ("LLEN", key), ("STRLEN",
                                                                                                            key)] * 2)
            self.assertEqual([reply for reply in got if not isinstance(reply, ReplyError)],
                             [b"v%d" % i, b"v%d" % i, len(f"v{i}")] * 2)

    def test_mget_is_put_together_of_hits_absent_keys_and_keys_of_other_types(self):
        keys = [self.fresh_key(str(i)) for i in range(60)]
        for i, key in enumerate(keys):
            self.build(key, [("SET", "K", f"v{i}")] if i % 3 == 0 else [("RPUSH", "K", "x")] if i % 3 == 1 else [])
        expected = [b"v%d" % i if i % 3 == 0 else None for i in range(60)]
        for i in range(0, 60, 4):
            self.clients[2].call("GET", keys[i]) if i % 3 != 1 else self.clients[2].call("LLEN", keys[i])
        for p in (2, 3, 2):
            self.assertEqual(self.clients[p].call("MGET", *keys), expected)
        hits = self.hits_of(lambda: self.clients[2].call("MGET", *keys))
        self.assertGreaterEqual(hits, 20, "the values were not taken from L1")
        self.assertEqual(self.clients[2].call("MGET", *keys, *keys), expected * 2)
        for i, key in enumerate(keys):
            self.build(key, [("DEL", "K"), *([("SET", "K", "new")] if i % 3 else [])])
        expected = [None if i % 3 == 0 else b"new" for i in range(60)]
        seconds_until(lambda: self.clients[2].call("MGET", *keys) == expected, PUSH_WORST_S)
        self.assertEqual(self.clients[3].call("MGET", *keys), expected)
        self.clients[2].call("MSET", *[word for key in keys for word in (key, "mine")])
        self.assertEqual(self.clients[3].call("MGET", *keys), [b"mine"] * 60)

    def test_exists_of_several_keys_and_of_one_key_twice(self):
        key, other = self.fresh_key(), self.fresh_key()
        for _ in range(3):
            self.assertEqual(self.clients[2].pipeline([("EXISTS", key), ("EXISTS", key, key), ("EXISTS", key, other)]), [0,
                                                                                                                         0,
                                                                                                                         0])
        self.clients[2].call("SET", key, 1)
        for p in (3, 2):
            self.assertEqual(self.clients[p].pipeline([("EXISTS", key), ("EXISTS", key, key), ("EXISTS", key, other)]), [1,
                                                                                                                         2,
                                                                                                                         1])

    def test_a_key_read_in_more_ways_than_are_kept(self):
        key = self.fresh_key()
        fields = [f"f{i}" for i in range(5 * VARIANTS_MAX)]
        self.build(key, [("HSET", "K", *[word for field in fields for word in (field, field + "=")])])
        requests = [("HGET", key, field) for field in fields]
        for _ in range(3):
            self.rng.shuffle(requests)
            self.assertEqual(self.clients[2].pipeline(requests), [request[2].encode() + b"=" for request in requests])
        last = requests[-VARIANTS_MAX:]
        hits = self.hits_of(lambda: self.clients[3].pipeline(last))
        self.assertEqual(hits, VARIANTS_MAX, "those read last are not in L1")
        self.build(key, [("HSET", "K", *[word for field in fields for word in (field, "new")])])
        seconds_until(lambda: self.clients[2].call("HGET", key, last[0][2]) == b"new", PUSH_WORST_S)
        self.assertEqual(self.clients[2].pipeline(requests), [b"new"] * len(requests), "one invalidation takes all with it")
        self.clients[3].call("DEL", key)
        self.assertEqual(self.clients[2].pipeline(requests), [None] * len(requests))

    def test_long_words_and_large_replies(self):
        sizes = (200, 900, 1000, 1023, 1024, 1025, 5000, 70_000, 1_000_000)
        key = self.fresh_key()
        for size in sizes:
            self.build(key, [("HSET", "K", "f" * size, "v" * size)])
        for _ in range(3):
            for p in (2, 3):
                self.assertEqual(self.clients[p].pipeline([("HGET", key, "f" * size) for size in sizes]),
                                 [b"v" * size for size in sizes])
                self.assertEqual(self.clients[p].call("HMGET", key, *["f" * size for size in sizes]),
                                 [b"v" * size for size in sizes])
                self.assertEqual(self.clients[p].call("HLEN", key), len(sizes))
        for size in sizes:  # long keys
            long_key = "{%s}" % key + "k" * size
            for value in (b"old", b"new"):
                self.clients[3].call("SET", long_key, value)
                self.assertEqual(self.clients[2].pipeline([("GET", long_key), ("STRLEN", long_key)] * 2), [value, 3] * 2)
            self.upstream.direct(key).call("SET", long_key, "foreign")
            seconds_until(lambda k=long_key: self.clients[2].pipeline([("GET", k), ("STRLEN", k)]) == [b"foreign", 7],
                          PUSH_WORST_S)

    def test_words_that_look_like_the_inside_of_an_entry(self):
        """Names of reads are put together of their words: no two reads may have one name, whatever the words are."""
        key = b"{" + self.fresh_key().encode() + b"}" + BINARY_KEY
        fields = [b"", b"a", b"1:a", b"a 1:b", b"a b", b"3:a b", b"\0", b"a\0b", b"\r\n", b"$-1\r\n", BINARY_KEY,
                  b"hget 1:a",
                  b"a" * 9, b"a" * 10, b"9:" + b"a" * 9]
        self.build(key, [("HSET", "K", *[word for i, field in enumerate(fields) for word in (field, b"%d" % i)])])
        pairs = [(a, b) for a in fields for b in fields]
        for p in (2, 3, 2):
            self.assertEqual(self.clients[p].pipeline([("HGET", key, field) for field in fields]),
                             [b"%d" % i for i in range(len(fields))])
            for first in range(0, len(pairs), VARIANTS_MAX):
                part = pairs[first:first + VARIANTS_MAX]
                for _ in range(2):
                    self.assertEqual(self.clients[p].pipeline([("HMGET", key, *pair) for pair in part]),
                                     [[b"%d" % fields.index(a), b"%d" % fields.index(b)] for a, b in part])
            self.assertEqual(self.clients[p].pipeline([("HMGET", key, "a", "b"), ("HMGET", key, "a b"), ("HMGET", key,
                                                                                                         "a")]),
                             [[b"1", None], [b"4"], [b"1"]])
        self.clients[2].call("HSET", key, BINARY_KEY, b"\xff\0")
        self.assertEqual(self.clients[3].call("HGET", key, BINARY_KEY), b"\xff\0")

    def test_numbers_that_are_written_differently_are_read_as_such(self):
        key = self.fresh_key()
        self.build(key, [("RPUSH", "K", *"abcdef")])
        requests = [("LRANGE", key, *ends) for ends in (("0", "-1"), ("00", "-1"), ("0", "-01"), ("+0", "-1"), (" 0", "-1"),
                                                        ("", "-1"),
                                                        ("0", "1"), ("01", "1"), ("0 ", "1"), ("0", "1\0"))]
        for p in (2, 3, 2):
            self.assertEqual(raw_replies(self.clients[p], requests), self.told_directly(key, requests, p))

    def test_a_pipeline_of_reads_and_writes_of_one_key_keeps_its_order(self):
        for protocol in (2, 3):
            key = self.fresh_key()
            commands, expected, model = [], [], {}
            for i in range(3000):
                field = f"f{self.rng.randrange(6)}"
                kind = self.rng.randrange(9)
                if kind == 0:
                    commands.append(("HSET", key, field, i))
                    expected.append(0 if field in model else 1)
                    model[field] = b"%d" % i
                elif kind == 1:
                    commands.append(("HDEL", key, field))
                    expected.append(1 if model.pop(field, None) is not None else 0)
                elif kind == 2 and self.rng.random() < 0.2:
                    commands.append(("DEL", key))
                    expected.append(1 if model else 0)
                    model = {}
                elif kind in (3, 4):
                    commands.append(("HLEN", key))
                    expected.append(len(model))
                elif kind == 5:
                    commands.append(("EXISTS", key))
                    expected.append(1 if model else 0)
                elif kind == 6:
                    commands.append(("HMGET", key, "f0", field))
                    expected.append([model.get("f0"), model.get(field)])
                else:
                    commands.append(("HGET", key, field))
                    expected.append(model.get(field))
            got = []
            while commands[len(got):]:
                count = self.rng.randrange(1, 400)
                got += self.clients[protocol].pipeline(commands[len(got):len(got) + count])
            for i, (command, one, other) in enumerate(zip(commands, got, expected)):
                self.assertEqual(one, other, f"{i}: {command}")

    def test_two_protocols_take_turns_on_one_key(self):
        key = self.fresh_key()
        for i in range(100):
            writer, reader = (self.clients[2], self.clients[3]) if i % 2 else (self.clients[3], self.clients[2])
            writer.pipeline([("DEL", key), ("ZADD", key, i, "m", "inf", "n")])
            requests = [("ZRANGE", key, 0, -1, "WITHSCORES"), ("ZSCORE", key, "m"), ("ZSCORE", key, "none"), ("ZMSCORE", key,
                                                                                                              "n", "x")]
            for client, p in ((reader, 2 if i % 2 == 0 else 3), (writer, 3 if i % 2 == 0 else 2)) * 2:
                self.assertEqual(raw_replies(client, requests), self.told_directly(key, requests, p))

    def test_one_connection_may_change_its_protocol_between_two_reads(self):
        key = self.fresh_key()
        self.build(key, [("HSET", "K", "a", "1"), ("ZADD", "K2", 1.5, "m")])
        requests = [("HGETALL", key), ("HGET", key, "none"), ("ZRANGE", "{%s}2" % key, 0, -1, "WITHSCORES")]
        with self.sidecar.client() as client:
            for i in range(6):
                p = 3 - i % 2
                client.call("HELLO", p)
                self.assertEqual(raw_replies(client, requests), self.told_directly(key, requests, p))



@both
class Time(OnBoth):
    """Redis signals an expiry when it notices it: until then only the deadline in L1 stands against a lie."""

    READS = {"string": ["GET K", "STRLEN K", "EXISTS K", "TYPE K", "GETRANGE K 0 3", "PEXPIRETIME K"],
             "hash": ["HGET K a", "HGETALL K", "HLEN K", "HMGET K a b"], "list": ["LRANGE K 0 -1", "LLEN K", "LINDEX K 0"],
             "set": ["SMEMBERS K", "SCARD K", "SISMEMBER K a"], "zset": ["ZRANGE K 0 -1", "ZSCORE K a", "ZRANK K a"],
             "stream": ["XRANGE K - +", "XLEN K"]}

    def test_nothing_is_served_after_its_time_to_the_millisecond(self):
        for kind, texts in self.READS.items():
            for delay_s in (0.05, 0.12):
                key = self.fresh_key(kind)
                ends_at = int((time.time() + delay_s) * 1000)
                self.build(key, [*BUILT[kind], ("PEXPIREAT", "K", ends_at)])
                requests = [filled_in(text.split(), key) for text in texts]
                absent = self.told_directly(key, [[word if word != key.encode() else b"{%b}9" % word for word in request]
                                                  for request in requests])
                served = 0
                while True:
                    asked_ms = time.time() * 1000
                    got = raw_replies(self.clients[2], requests)
                    if asked_ms > ends_at + 1:
                        self.assertEqual(got, absent, f"asked {asked_ms - ends_at:.1f} ms after its end")
                        break
                    served += got[0] != absent[0]
                self.assertGreater(served, 3)

    def test_a_deadline_that_moves(self):
        for how in ("PEXPIRE", "PERSIST", "SET"):
            for here in (True, False):
                key = self.fresh_key()
                self.build(key, [("SET", "K", "v", "PX", 300)])
                read = lambda key=key: self.clients[2].call("GET", key)  # noqa: E731
                self.assertEqual([read(), read()], [b"v", b"v"])
                change = {"PEXPIRE": ("PEXPIRE", key, 60), "PERSIST": ("PERSIST", key), "SET": ("SET", key, "v")}[how]
                (self.clients[3] if here else self.upstream.direct(key)).call(*change)
                changed = time.monotonic()
                if how == "PEXPIRE":
                    seconds_until(lambda read=read: read() is None, 0.25 * SLOWNESS)
                else:
                    time.sleep(max(0, changed + 0.35 - time.monotonic()))
                    self.assertEqual([read(), read()], [b"v", b"v"], f"{how}, {'here' if here else 'elsewhere'}")

    def test_time_to_live_is_told_as_by_the_server(self):
        for i, (milliseconds, expected) in enumerate(((None, -1), (5000, None), (400_000, None))):
            key = self.fresh_key()
            self.assertEqual(self.clients[2].pipeline([("PTTL", key), ("TTL", key)]), [-2, -2])
            self.build(key, [("SET", "K", "v", *(("PX", milliseconds) if milliseconds else ()))])
            for _ in range(5):
                self.clients[2].call("GET", key)
                before = self.upstream.direct(key).call("PTTL", key)
                told = self.clients[2 + i % 2].call("PTTL", key)
                after = self.upstream.direct(key).call("PTTL", key)
                if expected is not None:
                    self.assertEqual(told, expected)
                else:
                    self.assertTrue(after - 2 <= told <= before + 2, (before, told, after))
            self.clients[2].call("PEXPIRE", key, 9_000_000)
            self.assertGreater(self.clients[3].call("PTTL", key), 8_000_000)
            self.clients[3].call("PERSIST", key)
            self.assertEqual(self.clients[2].pipeline([("TTL", key), ("PEXPIRETIME", key), ("EXPIRETIME", key)]), [-1, -1,
                                                                                                                   -1])
            self.upstream.direct(key).call("PEXPIREAT", key, FAR * 1000)
            seconds_until(lambda key=key: self.clients[2].call("PEXPIRETIME", key) == FAR * 1000, PUSH_WORST_S)
            self.assertEqual(self.clients[3].call("EXPIRETIME", key), FAR)

    def test_flushall_takes_values_and_absent_keys(self):
        for here in (True, False):
            keys = [self.fresh_key() for _ in range(30)]
            for key in keys[:20]:
                self.build(key, [("HSET", "K", "a", 1)])
            reads = [request for key in keys for request in (("HGET", key, "a"), ("HLEN", key), ("EXISTS", key))]
            self.assertEqual(self.clients[2].pipeline(reads), [b"1", 1, 1] * 20 + [None, 0, 0] * 10)
            if here:
                self.clients[3].call("FLUSHALL")
                self.assertEqual(self.clients[2].pipeline(reads), [None, 0, 0] * 30)
            else:
                nodes = [single] if isinstance(self.upstream.servers, RedisServer) else cluster.nodes
                for node in nodes:
                    node.call("FLUSHALL")
                seconds_until(lambda reads=reads: self.clients[2].pipeline(reads) == [None, 0, 0] * 30, PUSH_WORST_S)
            for key in keys:
                self.build(key, [("HSET", "K", "a", 2)])
            seconds_until(lambda reads=reads: self.clients[2].pipeline(reads) == [b"2", 1, 1] * 30, PUSH_WORST_S)



@both
class LargeMget(OnBoth):
    """More keys missing than are filled for one command: the rest is asked for at once, and nobody loses what is kept."""

    COUNT = 2000

    def test_what_is_kept_is_served_and_stays(self):
        name = self.fresh_key()
        keys = [f"{{{name}:{i % 7}}}:{i}" for i in range(self.COUNT)]
        with self.sidecar.client(timeout=PATIENCE_S) as client:
            for key in keys[::2]:
                client.call("SET", key, f"value of {key}")
            client.pipeline([("GET", key) for key in keys[:self.COUNT // 2]])
            expected = [None if i % 2 else f"value of {key}".encode() for i, key in enumerate(keys)]
            for _ in range(8):
                hits = self.sidecar.hits
                self.assertEqual(client.call("MGET", *keys), expected)
                self.assertGreaterEqual(self.sidecar.hits - hits, self.COUNT // 2)
            hits = self.sidecar.hits
            self.assertEqual(client.call("MGET", *keys), expected)
            self.assertEqual(self.sidecar.hits - hits, self.COUNT, "eight times 256 were filled, so all")

    def test_one_key_under_a_write_takes_nothing_with_it(self):
        name = self.fresh_key()
        keys = [f"{{{name}:{i % 5}}}:{i}" for i in range(300)]
        with self.sidecar.client(timeout=PATIENCE_S) as client:
            for i in range(3):
                client.pipeline([("GET", key) for key in keys])
                hits = self.sidecar.hits
                answers = client.pipeline([("SET", keys[7], i), ("MGET", *keys)])
                self.assertEqual(answers[1][7], b"%d" % i)
                self.assertGreaterEqual(self.sidecar.hits - hits, 290)


class Databases(unittest.TestCase):
    """SWAPDB tells nobody: max_staleness is what bounds it, or the sidecar's own hearing of its own."""

    def setUp(self):
        self.sidecar = Sidecar(single.url)
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching()
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)
        self.reads = [("HGET", "swap", "a"), ("HLEN", "swap"), ("EXISTS", "swap-absent"), ("GET", "swap-absent"),
                      ("LLEN", "swap-list")]

    def filled(self):
        with single.client() as direct:
            direct.pipeline([("FLUSHALL",), ("HSET", "swap", "a", "zero"), ("SELECT", 1),
                             ("HSET", "swap", "a", "one", "b", 1), ("SET", "swap-absent", "there"),
                             ("RPUSH", "swap-list", "x")])
        zero, one = [b"zero", 1, 0, None, 0], [b"one", 2, 1, b"there", 1]
        eventually(lambda: self.client.pipeline(self.reads) == zero, "the values to arrive")
        before = self.sidecar.hits
        eventually(lambda: self.client.pipeline(self.reads) and self.sidecar.hits >= before + 5, "hits")
        return zero, one

    def test_a_foreign_swapdb_is_seen_within_max_staleness(self):
        for _ in range(3):
            _zero, one = self.filled()
            single.call("SWAPDB", 0, 1)
            swapped = time.monotonic()
            while time.monotonic() < swapped + 1.0:
                self.client.pipeline(self.reads)
            asked = time.monotonic()
            self.assertEqual(self.client.pipeline(self.reads), one, f"asked {asked - swapped:.3f} s after it")

    def test_own_swapdb_is_seen_at_once(self):
        for _ in range(10):
            zero, one = self.filled()
            self.client.call("SWAPDB", 0, 1)
            self.assertEqual(self.client.pipeline(self.reads), one)
            got = self.client.pipeline([("SWAPDB", 0, 1), *self.reads])
            self.assertEqual(got[1:], zero)


class Migration(unittest.TestCase):
    """While a slot is on its way from A to B, a new key is created on B, and A, which was asked for it, never tells."""

    MAX_STALENESS_S = 1.0

    def setUp(self):
        self.sidecar = Sidecar(cluster.url)
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching(links=3)
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)

    def open_slot(self, slot, source, target):
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(target))

    def close_slot(self, slot, source, target, owner):
        for key in source.call("CLUSTER", "GETKEYSINSLOT", slot, 1000) if owner is target else ():
            source.call("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        for node in (owner, target, source, *cluster.nodes):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(owner))

    def asking(self, node, *command):
        with node.client() as direct:
            return direct.pipeline([("ASKING",), command])[1]

    def rounds(self):
        for i in range(3):
            tag = f"{{migrating{self.id()[-9:]}{i}}}"
            slot = key_slot(tag)
            source = cluster.owner_of(tag)
            target = next(node for node in cluster.nodes if node is not source)
            reads = [(name, f"{tag}{n}", *tail) for n in range(20) for name, *tail in (("GET",), ("EXISTS",), ("HGET", "a"))]
            self.assertEqual(self.client.pipeline(reads), [None, 0, None] * 20)
            before = self.sidecar.hits
            self.assertEqual(self.client.pipeline(reads), [None, 0, None] * 20)
            self.assertEqual(self.sidecar.hits - before, 60, "absent keys are not in L1: nothing is tested")
            yield tag, slot, source, target, reads
            cluster._owners.clear()

    def told(self, keys):
        return [self.client.call("GET", key) for key in keys]

    def test_a_key_created_on_the_target_is_seen_within_max_staleness(self):
        for tag, slot, source, target, _reads in self.rounds():
            keys = [f"{tag}{n}" for n in range(20)]
            self.open_slot(slot, source, target)
            created = {}
            for key in keys:  # spread over the time in which the sidecar finds out
                self.assertEqual(self.asking(target, "SET", key, "made there"), b"OK")
                created[key] = time.monotonic()
                self.told(keys)
                time.sleep(0.01)
            while time.monotonic() < created[keys[-1]] + self.MAX_STALENESS_S:
                for key in keys:
                    asked = time.monotonic()
                    if self.client.call("GET", key) is None:
                        self.assertLess(asked, created[key] + self.MAX_STALENESS_S, f"{key} is late")
            self.assertEqual(self.told(keys), [b"made there"] * 20)
            self.close_slot(slot, source, target, target)
            self.assertEqual(self.told(keys), [b"made there"] * 20)

    def test_a_key_created_through_the_sidecar_on_the_target_is_seen_at_once(self):
        for tag, slot, source, target, _reads in self.rounds():
            self.open_slot(slot, source, target)
            with self.sidecar.client(protocol=3) as other:
                for n in range(20):
                    key = f"{tag}{n}"
                    self.client.pipeline([("GET", key)] * 2)
                    self.client.call("SET", key, "mine")
                    self.assertEqual([other.call("GET", key), self.client.call("GET", key)], [b"mine"] * 2)
            self.close_slot(slot, source, target, target)

    def test_absent_keys_are_not_kept_while_the_slot_is_open_and_are_again_when_it_is_closed(self):
        for _tag, slot, source, target, reads in self.rounds():
            self.open_slot(slot, source, target)
            time.sleep(self.MAX_STALENESS_S)  # by then no entry may rest on the view of a closed slot
            before = self.sidecar.hits
            for _ in range(5):
                self.assertEqual(self.client.pipeline(reads), [None, 0, None] * 20)
            self.assertEqual(self.sidecar.hits - before, 0)
            self.close_slot(slot, source, target, source)

            def hit():
                before = self.sidecar.hits
                self.assertEqual(self.client.pipeline(reads), [None, 0, None] * 20)
                return self.sidecar.hits - before == len(reads)
            eventually(hit, "absent keys in L1 again")


if __name__ == "__main__":
    main()
