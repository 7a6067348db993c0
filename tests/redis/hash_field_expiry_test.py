#!/usr/bin/env python3
"""Hash fields that expire (Redis 7.4 and newer; elsewhere these cases are skipped): what of them L1 may tell.

The server that most cases ask deletes no field by itself (DEBUG SET-ACTIVE-EXPIRE 0), so that nothing is pushed at a
field's end: only what HPTTL said when the field was read stands against a lie.
"""

import itertools
import time
import unittest

from system import PATIENCE_S, SLOWNESS, Cluster, RedisServer, Sidecar, main, seconds_until

MAX_STALENESS_S = 1.0
PUSH_WORST_S = 3.0 * SLOWNESS
FAR_MS = 4102444800123
WHOLE = [("HGETALL",), ("HKEYS",), ("HVALS",), ("HLEN",), ("HEXISTS", "a"), ("HSTRLEN", "a")]


def setUpModule():
    global server, cluster, before_server, before_cluster
    server = RedisServer(["--enable-debug-command", "yes"])
    if not server.call("COMMAND", "INFO", "HPTTL")[0]:
        server.close()
        raise unittest.SkipTest("this server's hash fields don't expire")
    cluster = Cluster(primaries=3, args=["--enable-debug-command", "yes"])
    before_server = Sidecar(server.url)
    before_cluster = Sidecar(cluster.url)
    before_server.wait_caching()
    before_cluster.wait_caching(links=3)


def tearDownModule():
    for one in (before_server, before_cluster, server, cluster):
        one.close()


class Case(unittest.TestCase):
    """What holds before one server and before a cluster: subclasses say which by `upstream`. No server expires by itself."""

    upstream = None  # callable: (nodes, sidecar, one command straight to the upstream)

    def setUp(self):
        self.serial = itertools.count()
        self.nodes, self.sidecar, self.direct = self.upstream()
        self.set_active_expiry(False)
        self.client = self.sidecar.client()

    def tearDown(self):
        self.client.close()
        if not self.sidecar.alive:
            code = self.sidecar.process.poll()
            self.sidecar.start()
            self.fail(f"the sidecar ended with {code}")

    def set_active_expiry(self, on):
        for node in self.nodes:
            node.call("DEBUG", "SET-ACTIVE-EXPIRE", int(on))

    def hash_of(self, *words):
        key = f"{self.id().rpartition('.')[2]}:{next(self.serial)}:{time.time_ns()}"
        self.direct("HSET", key, *(words or ("a", "1", "b", "2")))
        return key

    def assert_hits(self, requests, expected):
        """Every one of them is in L1 and says that."""
        self.assertEqual(self.client.pipeline(requests), expected)
        before = self.sidecar.hits
        self.assertEqual(self.client.pipeline(requests), expected)
        self.assertEqual(self.sidecar.hits - before, len(requests), "not in L1, so that nothing is tested")


def both(case):
    """Makes of a case one class before the server and one before the cluster, and nothing of the case itself."""
    upstreams = {"BeforeOneServer": lambda: ([server], before_server, server.call),
                 "BeforeACluster": lambda: (cluster.nodes, before_cluster, cluster.call)}
    for name, upstream in upstreams.items():
        globals()[case.__name__ + name] = type(case.__name__ + name, (case,), {
            "upstream": staticmethod(upstream), "__doc__": case.__doc__, "__module__": __name__})
    return None


@both
class EndOfAField(Case):
    def test_named_fields_are_served_from_l1_until_their_end_and_not_after(self):
        for delay_s in (0.05, 0.3, 1.5):
            key = self.hash_of()
            ends_ms = int((time.time() + delay_s) * 1000)
            self.direct("HPEXPIREAT", key, ends_ms, "FIELDS", 1, "a")
            requests = [("HGET", key, "a"), ("HMGET", key, "b", "a"), ("HMGET", key, "a", "none"), ("HGET", key, "b")]
            hits, served = self.sidecar.hits, 0
            while True:
                asked_ms = time.time() * 1000
                told = self.client.pipeline(requests)
                if asked_ms > ends_ms + 1:
                    break
                served += told == [b"1", [b"2", b"1"], [b"1", None], b"2"]
            self.assertEqual(told, [None, [b"2", None], [None, None], b"2"], f"asked {asked_ms - ends_ms:.1f} ms after it")
            self.assertGreater(served, 3)
            self.assertGreater(self.sidecar.hits - hits, served, "L1 served nothing, so that nothing was tested")

    def test_a_field_first_read_in_the_moment_of_its_end_is_not_kept(self):
        """In the last millisecond HGET tells the field and HPTTL behind it calls it gone: it has no deadline to keep it by."""
        caught = 0
        for _ in range(8):
            keys = [self.hash_of() for _ in range(300)]
            ends_ms = int((time.time() + 0.5) * 1000)
            for key in keys:
                self.direct("HPEXPIREAT", key, ends_ms, "FIELDS", 1, "a")
            time.sleep(max(0.0, ends_ms / 1000 - 0.004 - time.time()))
            told = []
            for i, key in enumerate(keys):
                told.append(self.client.call("HGET", key, "a") if i % 2 else self.client.call("HMGET", key, "b", "a")[1])
            caught += told[0] == b"1" and told[-1] is None  # read both before and after the end
            time.sleep(0.005)
            again = self.client.pipeline([("HGET", key, "a") if i % 2 else ("HMGET", key, "b", "a")
                                          for i, key in enumerate(keys)])
            self.assertEqual(again, [None if i % 2 else [b"2", None] for i in range(len(keys))])
        self.assertGreater(caught, 0, "the end was never met")

    def test_whole_hashes_are_served_for_max_staleness_after_it_at_most(self):
        key = self.hash_of()
        requests = [(name, key, *tail) for name, *tail in WHOLE]
        ends_ms = int((time.time() + 0.6) * 1000)
        self.direct("HPEXPIREAT", key, ends_ms, "FIELDS", 1, "a")
        self.assert_hits(requests, [[b"a", b"1", b"b", b"2"], [b"a", b"b"], [b"1", b"2"], 2, 1, 1])
        while (asked := time.time()) < ends_ms / 1000 + MAX_STALENESS_S + 0.05:
            told = self.client.pipeline(requests)
        # HLEN counts a field that the server has not deleted yet, as the server does.
        self.assertEqual(told, [self.direct(*request) for request in requests], f"{asked - ends_ms / 1000:.3f} s after it")
        self.assertEqual([told[0], told[4]], [[b"b", b"2"], 0])

    def test_where_the_server_deletes_fields_by_itself_whole_hashes_and_their_keys_follow(self):
        self.set_active_expiry(True)
        key, lone = self.hash_of(), self.hash_of("a", "1")
        requests = [(name, key, *tail) for name, *tail in WHOLE]
        requests += [("EXISTS", lone), ("TYPE", lone), ("PEXPIRETIME", lone), ("HGET", lone, "a")]
        ends_ms = int((time.time() + 0.5) * 1000)
        for one in (key, lone):
            self.direct("HPEXPIREAT", one, ends_ms, "FIELDS", 1, "a")
        self.assert_hits(requests, [[b"a", b"1", b"b", b"2"], [b"a", b"b"], [b"1", b"2"], 2, 1, 1, 1, b"hash", -1, b"1"])
        after = [[b"b", b"2"], [b"b"], [b"2"], 1, 0, 0, 0, b"none", -2, None]
        took = seconds_until(lambda requests=requests, after=after: self.client.pipeline(requests) == after, PATIENCE_S)
        self.assertLess(took, 0.5 + PUSH_WORST_S)


CHANGES = [  # a change of field a, whose value is 1 and which ends far away; the value afterwards
    ("HPEXPIRE K 9000000 FIELDS 1 a", b"1"), ("HEXPIRE K 9000 FIELDS 2 a b", b"1"), ("HEXPIRE K 9000 GT FIELDS 1 a", b"1"),
    (f"HPEXPIREAT K {FAR_MS - 1} FIELDS 1 a", b"1"), ("HPERSIST K FIELDS 1 a", b"1"), ("HGETEX K PERSIST FIELDS 1 a", b"1"),
    ("HGETEX K EX 9000 FIELDS 1 a", b"1"), ("HSETEX K EX 9000 FIELDS 1 a 3", b"3"), ("HSETEX K KEEPTTL FIELDS 1 a 3", b"3"),
    ("HSET K a 3", b"3"), ("HINCRBY K a 4", b"5"), ("HGETDEL K FIELDS 1 a", None), ("HPEXPIREAT K 1 FIELDS 1 a", None),
    ("HEXPIRE K 0 FIELDS 1 a", None), ("HGETEX K PXAT 1 FIELDS 1 a", None), ("HSETEX K PXAT 1 FIELDS 1 a 3", None),
]


@both
class ChangedByOthers(Case):
    def prepared(self):
        key = self.hash_of()
        self.direct("HPEXPIREAT", key, FAR_MS, "FIELDS", 1, "a")
        requests = [("HGET", key, "a"), ("HMGET", key, "b", "a"), ("HGETALL", key), ("HEXISTS", key, "a")]
        self.assert_hits(requests, [b"1", [b"2", b"1"], [b"a", b"1", b"b", b"2"], 1])
        return key, requests

    def after(self, value):
        pair = [] if value is None else [b"a", value]
        return [value, [b"2", value], [*pair, b"b", b"2"], int(value is not None)]

    def told_of_hash(self, told):
        """HGETALL's pairs in the order of their fields."""
        return [*told[:2], [word for pair in sorted(zip(told[2][::2], told[2][1::2])) for word in pair], told[3]]

    def words(self, text, key):
        return [key if word == "K" else word for word in text.split()]

    def known(self):
        have = {name: server.call("COMMAND", "INFO", name)[0] for name in {text.split()[0] for text, _ in CHANGES}}
        return [(text, value) for text, value in CHANGES if have[text.split()[0]]]

    def test_a_change_by_others_is_seen_soon(self):
        for text, value in self.known():
            key, requests = self.prepared()
            self.direct(*self.words(text, key))
            expected = self.after(value)
            seconds_until(lambda requests=requests, expected=expected:
                          self.told_of_hash(self.client.pipeline(requests)) == expected, PUSH_WORST_S)

    def test_a_change_through_the_sidecar_is_seen_at_once_by_all_its_clients(self):
        for text, value in self.known():
            key, requests = self.prepared()
            with self.sidecar.client() as other:
                other.call(*self.words(text, key))
                self.assertEqual(self.told_of_hash(self.client.pipeline(requests)), self.after(value), text)
            key, requests = self.prepared()
            told = self.client.pipeline([self.words(text, key), *requests])
            self.assertEqual(self.told_of_hash(told[1:]), self.after(value), f"{text}, in one pipeline")

    def test_a_deadline_that_moves_is_the_one_that_counts(self):
        for here in (True, False):
            for text, lives in (("HPERSIST K FIELDS 1 a", True), ("HPEXPIRE K 900000 FIELDS 1 a", True),
                                ("HSET K a 1", True), ("HPEXPIRE K 60 FIELDS 1 a", False)):
                key = self.hash_of()
                self.direct("HPEXPIRE", key, 400, "FIELDS", 1, "a")
                self.assert_hits([("HGET", key, "a")], [b"1"])
                (self.client.call if here else self.direct)(*self.words(text, key))
                changed = time.monotonic()
                if lives:
                    time.sleep(max(0.0, changed + 0.45 - time.monotonic()))
                    self.assert_hits([("HGET", key, "a"), ("HMGET", key, "a")], [b"1", [b"1"]])
                else:
                    seconds_until(lambda key=key: self.client.call("HGET", key, "a") is None, 0.3 * SLOWNESS)


if __name__ == "__main__":
    main()
