#!/usr/bin/env python3
"""Who tells of changes, what is promised when nobody does, and how the auditor finds out whether it was kept.

Each case says in which mode the sidecar is before it judges what it told.
"""

import re
import signal
import threading
import time
import unittest

from system import (PATIENCE_S, SLOWNESS, Cluster, RedisServer, Sidecar, encode, eventually, main, seconds_until)

BLIND = ("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
SEEING = ("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all")
ASKED_AGAIN_S = 10.0  # a node that did not give the best is asked so often
SLACK_S = 0.02        # a deadline is counted in milliseconds, and the clocks of two processes are read


class Case(unittest.TestCase):
    def server(self, *acl, **options):
        one = RedisServer(**options)
        self.addCleanup(one.close)
        if acl:
            one.call(*acl)
        return one

    def sidecar(self, url, settings=None):
        one = Sidecar(url, settings)
        self.addCleanup(one.close)
        return one

    def client(self, sidecar, **options):
        one = sidecar.client(**options)
        self.addCleanup(one.close)
        return one

    def mode(self, sidecar):
        """As INFO has it, which is renewed now and then."""
        with sidecar.client() as client:
            return re.search(r"nearcached_coherence_mode:(\S+)", client.call("INFO", "nearcached").decode())[1]

    def wait_mode(self, sidecar, mode, timeout=PATIENCE_S):
        eventually(lambda: self.mode(sidecar) == mode, f"mode {mode}", timeout)

    def wait_hits(self, sidecar, client, key="warm"):
        client.call("SET", key, "1")

        def hit():
            before = sidecar.hits
            client.pipeline([("GET", key)] * 2)
            return sidecar.hits > before
        eventually(hit, "a hit")

    def ages(self, client, change, rounds, seconds):
        """For each round, how old an answer was at most: change(i) makes the value i elsewhere, and reads go on."""
        oldest = []
        for i in range(1, rounds + 1):
            change(i)
            changed = time.monotonic()
            worst = 0.0
            while (asked := time.monotonic()) < changed + seconds:
                told = int(client.call("GET", "aged") or 0)
                self.assertIn(told, (i - 1, i), "back in time")
                if told == i:
                    break
                worst = asked - changed
            oldest.append(worst)
        return oldest


class AutoWithoutTracking(Case):
    """auto falls back to ttl, and keeps its promise by a deadline."""

    def check(self, url, direct, max_staleness_s):
        one = self.sidecar(url, {"coherence.max_staleness": f"{int(max_staleness_s * 1000)}ms"})
        client = self.client(one)
        line = one.wait_for_log(r"l1_on")
        self.assertRegex(line, r"coherence=\"?ttl")
        self.assertRegex(line, "max_staleness")
        self.assertRegex(line, "TRACKING")
        self.wait_hits(one, client)
        self.wait_mode(one, "ttl")
        self.assertIn("TRACKING", client.call("INFO", "nearcached").decode())
        self.assertEqual(one.metric("nearcached_coherence_mode", mode="ttl"), 1)
        self.assertEqual(one.metric("nearcached_node_coherence_mode", mode="tracking"), 0)
        oldest = self.ages(client, lambda i: direct("SET", "aged", i), 12, max_staleness_s + 1)
        self.assertLessEqual(max(oldest), max_staleness_s + SLACK_S)
        self.assertGreater(max(oldest), 0.01, "no answer was old: nothing was in L1")
        return one, client

    def test_before_one_server_the_bound_is_max_staleness(self):
        server = self.server(*BLIND)
        self.check(f"redis://blind:pw@{server.address}", server.call, 1.0)

    def test_a_shorter_bound(self):
        server = self.server(*BLIND)
        self.check(f"redis://blind:pw@{server.address}", server.call, 0.2)

    def test_before_a_cluster(self):
        with Cluster(primaries=3) as cluster:
            for node in cluster.nodes:
                node.call(*BLIND)
            self.check(f"redis+cluster://blind:pw@{','.join(cluster.addresses)}", cluster.call, 0.4)

    def test_one_node_of_a_cluster_that_refuses_makes_it_mixed(self):
        with Cluster(primaries=3) as cluster:
            for node in cluster.nodes:
                node.call(*SEEING)
            refusing = cluster.owner_of("aged")
            refusing.call(*BLIND)
            one = self.sidecar(f"redis+cluster://blind:pw@{','.join(cluster.addresses)}",
                               {"coherence.max_staleness": "500ms"})
            client = self.client(one)
            self.wait_mode(one, "mixed")
            self.assertEqual(one.metric("nearcached_node_coherence_mode", mode="tracking"), 2)
            self.assertEqual(one.metric("nearcached_node_coherence_mode", mode="ttl"), 1)
            oldest = self.ages(client, lambda i: cluster.call("SET", "aged", i), 6, 2)
            self.assertLessEqual(max(oldest), 0.5 + SLACK_S)

    def test_absent_keys_and_other_reads_live_no_longer(self):
        server = self.server(*BLIND)
        one = self.sidecar(f"redis://blind:pw@{server.address}", {"coherence.max_staleness": "300ms"})
        client = self.client(one)
        self.wait_hits(one, client)
        for i in range(8):
            key = f"appears:{i}"
            reads = [("HGET", key, "a"), ("EXISTS", key), ("HGETALL", key), ("HLEN", key)]
            self.assertEqual(client.pipeline(reads), [None, 0, [], 0])
            server.call("HSET", key, "a", "1")
            made = time.monotonic()
            oldest = 0.0
            while client.pipeline(reads) != [b"1", 1, [b"a", b"1"], 1]:
                oldest = time.monotonic() - made
                self.assertLess(oldest, 1.0)
            self.assertLessEqual(oldest, 0.3 + 0.03 * SLOWNESS)  # noted after the read

    def test_own_writes_are_read_at_once_by_everybody(self):
        server = self.server(*BLIND)
        one = self.sidecar(f"redis://blind:pw@{server.address}", {"threads": 3})
        clients = [self.client(one, protocol=2 + i % 2) for i in range(6)]
        self.wait_hits(one, clients[0])
        for i in range(300):
            writer, reader = clients[i % 6], clients[(i * 5 + 1) % 6]
            writer.call("SET", "own", i)
            self.assertEqual(reader.call("GET", "own"), b"%d" % i)
            self.assertEqual(writer.pipeline([("HSET", "ownh", "a", i), ("HGET", "ownh", "a")])[1], b"%d" % i)
            self.assertEqual(reader.call("HGETALL", "ownh") and reader.call("HGET", "ownh", "a"), b"%d" % i)


class ModeTtl(Case):
    """Asked for by name: l1.ttl is the bound, and nothing else."""

    TTL_S = 0.5

    def setUp(self):
        self.redis = self.server()
        self.one = self.sidecar(self.redis.url, {"coherence.mode": "ttl", "l1.ttl": "500ms",
                                                 "coherence.max_staleness": "100ms"})
        self.reader = self.client(self.one)
        self.wait_hits(self.one, self.reader)

    def test_a_foreign_write_is_seen_after_the_ttl_at_the_latest(self):
        self.wait_mode(self.one, "ttl")
        self.assertRegex(self.one.wait_for_log("l1_on"), r"l1\.ttl")
        oldest = self.ages(self.reader, lambda i: self.redis.call("SET", "aged", i), 10, self.TTL_S + 1)
        self.assertLessEqual(max(oldest), self.TTL_S + SLACK_S)
        self.assertGreater(max(oldest), 0.15, "it lived no longer than max_staleness: the mode is not ttl")

    def test_nobody_is_asked_to_track(self):
        flags = [re.search(r"\bflags=(\w+)", line)[1] for line in self.redis.call("CLIENT", "LIST").decode().splitlines()]
        self.assertFalse([flag for flag in flags if "t" in flag])

    def test_own_writes_are_seen_at_once(self):
        other = self.client(self.one, protocol=3)
        for i in range(500):
            self.reader.call("SET", "own", i)
            self.assertEqual(other.call("GET", "own"), b"%d" % i)
            self.assertEqual(self.reader.pipeline([("INCR", "own"), ("GET", "own")])[1], b"%d" % (i + 1))

    def test_what_a_script_wrote_without_naming_it_is_seen_at_once(self):
        for i in range(50):
            self.reader.pipeline([("GET", "script")] * 2)
            self.reader.call("EVAL", "return redis.call('SET', 'script', ARGV[1])", 0, i)
            self.assertEqual(self.reader.call("GET", "script"), b"%d" % i)

    def test_expiry_holds_as_well(self):
        for i in range(5):
            self.redis.call("SET", f"ends:{i}", "v", "PX", 100)
            set_at = time.monotonic()
            while self.reader.call("GET", f"ends:{i}") is not None:
                asked = time.monotonic()
            self.assertLess(asked - set_at, 0.1 + SLACK_S)

    def test_own_flushall(self):
        for i in range(20):
            self.redis.call("SET", "flushed", i)
            self.reader.pipeline([("GET", "flushed")] * 2)
            self.client(self.one).call("FLUSHALL")
            self.assertIsNone(self.reader.call("GET", "flushed"))


class ModeTracking(Case):
    """Asked for by name, and refused: L1 stays unused, and that is an error."""

    def test_a_server_that_refuses(self):
        server = self.server(*BLIND)
        one = self.sidecar(f"redis://blind:pw@{server.address}", {"coherence.mode": "tracking"})
        client = self.client(one)
        self.assertRegex(one.wait_for_log("l1_off"), r"(?i)error")
        self.assertRegex(one.wait_for_log("l1_off"), "TRACKING")
        for i in range(100):
            server.call("SET", "plain", i)
            self.assertEqual(client.call("GET", "plain"), b"%d" % i)
            self.assertEqual(client.call("STRLEN", "plain"), len(str(i)))
        self.assertEqual(one.hits, 0)
        self.wait_mode(one, "off")

    def test_it_takes_to_tracking_within_ten_seconds_of_being_allowed(self):
        server = self.server(*BLIND)
        one = self.sidecar(f"redis://blind:pw@{server.address}", {"coherence.mode": "tracking"})
        one.wait_for_log("l1_off")
        server.call(*SEEING)
        self.assertLess(seconds_until(lambda: self.mode(one) == "tracking", ASKED_AGAIN_S + 5 * SLOWNESS),
                        ASKED_AGAIN_S + 2 * SLOWNESS)
        self.wait_hits(one, self.client(one))


class Changing(Case):
    """What a node offers changes: at every connect, and every ten seconds, it is asked."""

    def tracking_ids(self, server):
        lines = server.call("CLIENT", "LIST").decode().splitlines()
        return [re.search(r"\bid=(\d+)", line)[1] for line in lines if "t" in re.search(r"\bflags=(\w+)", line)[1]]

    def test_a_killed_connection_comes_back_as_what_is_then_allowed(self):
        server = self.server(*SEEING)
        one = self.sidecar(f"redis://blind:pw@{server.address}")
        client = self.client(one)
        self.wait_hits(one, client)
        for _ in range(2):
            self.wait_mode(one, "tracking")
            server.call("SET", "aged", 0)
            client.pipeline([("GET", "aged")] * 2)
            server.call(*BLIND)
            for client_id in self.tracking_ids(server):
                server.call("CLIENT", "KILL", "ID", client_id)
            self.wait_mode(one, "ttl")
            oldest = self.ages(client, lambda i: server.call("SET", "aged", i), 3, 2)
            self.assertLessEqual(max(oldest), 1.0 + SLACK_S)
            server.call(*SEEING)
            server.call("CLIENT", "KILL", "USER", "blind")
            self.wait_mode(one, "tracking", 5.0 * SLOWNESS)
        self.wait_hits(one, client)
        self.assertEqual(client.call("GET", "aged"), b"3")

    def test_without_a_reconnect_it_is_noticed_within_ten_seconds(self):
        server = self.server(*BLIND)
        one = self.sidecar(f"redis://blind:pw@{server.address}")
        client = self.client(one)
        self.wait_hits(one, client)
        self.wait_mode(one, "ttl")
        server.call("SET", "aged", 0)
        client.pipeline([("GET", "aged")] * 2)
        server.call(*SEEING)
        allowed = time.monotonic()
        value, written = 0, []
        while self.mode(one) != "tracking":  # what was read before stays true to its deadline through the change
            self.assertLess(time.monotonic(), allowed + ASKED_AGAIN_S + 3 * SLOWNESS)
            value += 1
            server.call("SET", "aged", value)
            written.append(time.monotonic())
            asked = time.monotonic()
            told = int(client.call("GET", "aged"))
            if told < value:
                self.assertLess(asked - written[told], 1.0 + SLACK_S)
            time.sleep(0.02)
        server.call("SET", "aged", "last")
        self.assertLess(seconds_until(lambda: client.call("GET", "aged") == b"last", 3.0), 1.0 + SLACK_S)

    def test_a_server_restarted_with_another_acl_is_asked_anew(self):
        server = self.server()
        plain = list(server.args)

        def restart(allowed):
            server.kill()
            server.args = plain + ["--user", "blind", *SEEING[3:]] + ([] if allowed else ["-client|tracking"])
            server.start()
        restart(False)
        one = self.sidecar(f"redis://blind:pw@{server.address}")
        client = self.client(one)
        self.wait_hits(one, client)
        self.wait_mode(one, "ttl")
        for allowed, mode in ((True, "tracking"), (False, "ttl"), (True, "tracking")):
            restart(allowed)
            self.wait_mode(one, mode, 6.0 * SLOWNESS)
            self.wait_hits(one, client, f"after:{mode}")


class Sleeping(Case):
    """A process that slept wakes up with proofs that ran out while it did not look."""

    def test_five_seconds_asleep_under_foreign_writes(self):
        for settings in ({}, {"coherence.mode": "ttl", "l1.ttl": "1s"}):
            server = self.server()
            one = self.sidecar(server.url, settings)
            clients = [self.client(one, protocol=2 + i % 2) for i in range(6)]
            self.wait_hits(one, clients[0])
            keys = [f"asleep:{i}" for i in range(40)]
            server.call("MSET", *[word for key in keys for word in (key, "0")])
            server.call("HSET", "asleep:hash", "f", 0)
            reads = [("GET", key) for key in keys] + [("HGET", "asleep:hash", "f"), ("GET", "asleep:absent")]
            for client in clients:
                client.pipeline(reads)
            hits = one.hits
            clients[0].pipeline(reads)
            self.assertEqual(one.hits - hits, len(reads), "not in L1: nothing is tested")
            self.sleep_and_judge(one, server, clients, keys, reads)

    def sleep_and_judge(self, one, server, clients, keys, reads):
        one.signal(signal.SIGSTOP)
        eventually(lambda: set(one.thread_states()) == {"T"}, "every thread to stand still")
        try:
            data = b"".join(encode(*request) for request in reads)
            clients[0].raw(data)  # asked before anything changed: even this may only be answered with proof
            stopped = time.monotonic()
            value = 0
            while time.monotonic() < stopped + 5.0:
                value += 1
                server.call("MSET", *[word for key in keys for word in (key, value)])
                server.call("HSET", "asleep:hash", "f", value)
                server.call("SET", "asleep:absent", value)
                written = time.monotonic()
                if value == 20:
                    clients[1].raw(data)
                time.sleep(0.05)
            time.sleep(max(0.0, written + 1.1 - time.monotonic()))
            clients[2].raw(data)
        finally:
            one.signal(signal.SIGCONT)
        last = [b"%d" % value] * len(reads)
        for client in clients[:3]:
            self.assertEqual([client.read() for _ in reads], last)
        for client in clients[3:]:
            self.assertEqual(client.pipeline(reads), last)


class Thrash(Case):
    """A tracking table that is far too small: never a wrong value, and an alarm."""

    KEYS = 1000

    def test_a_table_of_a_hundred_keys_before_a_thousand_hot_ones(self):
        server = self.server(args=["--tracking-table-max-keys", 100])
        one = self.sidecar(server.url)
        client = self.client(one)
        self.wait_hits(one, client)
        keys = [f"hot:{i}" for i in range(self.KEYS)]
        server.call("MSET", *[word for key in keys for word in (key, "0")])
        written = {key: [(time.monotonic() - 10, 0)] for key in keys}
        ended = threading.Event()
        lies = []

        def write():
            value = 0
            with server.client() as direct:
                while not ended.is_set():
                    value += 1
                    key = keys[value * 7 % self.KEYS]
                    direct.call("SET", key, value)
                    written[key].append((time.monotonic(), value))
                    time.sleep(0.002)

        def read(offset):
            with one.client() as mine:
                while not ended.is_set():
                    for first in range(offset, self.KEYS, 100):
                        some = keys[first:first + 100]
                        asked = time.monotonic()
                        floors = [max(v for when, v in list(written[key]) if when <= asked - 1.0) for key in some]
                        for key, floor, told in zip(some, floors, mine.pipeline([("GET", key) for key in some])):
                            if int(told) < floor:
                                lies.append((key, floor, told))

        threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=(n * 33,)) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            one.wait_for_log("tracking_table_thrash", 30.0 * SLOWNESS)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        self.assertEqual(lies, [])
        self.assertGreater(one.metric("nearcached_invalidations_unexplained_total"), 100)

    def test_a_table_that_is_large_enough_is_no_alarm(self):
        server = self.server()
        one = self.sidecar(server.url)
        client = self.client(one)
        self.wait_hits(one, client)
        keys = [f"hot:{i}" for i in range(200)]
        begun, value = time.monotonic(), 0
        while time.monotonic() < begun + 3:
            value += 1
            server.call("MSET", *[word for key in keys for word in (key, value)])
            client.call("MGET", *keys)
            client.call("MGET", *keys)
        self.assertEqual([line for line in one.log if "tracking_table_thrash" in line], [])
        self.assertLess(one.metric("nearcached_invalidations_unexplained_total"), 0.05 * value * len(keys))


class Auditor(Case):
    """Sampled hits compared with the server: nothing to report where the server tells, and plenty where nobody does."""

    SETTINGS = {"coherence.audit_one_in": 1, "coherence.audit_per_second": 100_000}

    def traffic(self, server, one, seconds, here=True):
        """Reads of all sorts while keys change elsewhere, and here."""
        client, begun, value = self.client(one), time.monotonic(), 0
        while time.monotonic() < begun + seconds:
            value += 1
            key = f"audited:{value % 10}"
            server.call("SET", key, value)
            server.call("HSET", f"{key}:h", "f", value)
            if here:
                client.call("SET", f"{key}:own", value)
            for n in range(10):
                client.pipeline([request for request in (("GET", f"audited:{n}"), ("HGET", f"audited:{n}:h", "f"), ("GET",
                                                                                                                    "none"),
                                                         ("STRLEN", f"audited:{n}"), ("GET", f"audited:{n}:own"))] * 2)

    def test_tracking_checks_and_finds_nothing(self):
        server = self.server()
        one = self.sidecar(server.url, self.SETTINGS)
        one.wait_caching()
        self.traffic(server, one, 3)
        eventually(lambda: one.metric("nearcached_audit_checked_total") > 1000, "a thousand audits")
        self.assertEqual(one.metric("nearcached_audit_stale_total"), 0)
        self.assertEqual([line for line in one.log if "audit_stale" in line], [])

    def test_a_set_that_is_told_in_another_order_is_the_same(self):
        """A table that has just grown is rehashed as it is read: no write, another order."""
        server = self.server()
        one = self.sidecar(server.url, {**self.SETTINGS, "coherence.max_staleness": "20s"})
        one.wait_caching()
        client = self.client(one)
        server.call("SADD", "set", *range(1, 500), *(f"m{i}" for i in range(1030)))
        server.call("HSET", "hash", *(word for i in range(2050) for word in (f"f{i}", "v")))
        orders = set()
        for i in range(100):
            orders.add(tuple(server.call("SMEMBERS", "set")))
            client.pipeline([("SMEMBERS", "set"), ("HGETALL", "hash"), ("HGET", "hash", f"f{i}")] * 2)
            for n in range(10):
                server.call("SISMEMBER", "set", f"m{i}-{n}")
        self.assertGreater(len(orders), 1, "the order never changed: nothing is tested")
        eventually(lambda: one.metric("nearcached_audit_checked_total") > 50, "audits")
        self.assertEqual(one.metric("nearcached_audit_stale_total"), 0)

    def test_before_a_cluster_as_well(self):
        with Cluster(primaries=3) as cluster:
            one = self.sidecar(cluster.url, self.SETTINGS)
            one.wait_caching(links=3)
            self.traffic(cluster, one, 3)
            eventually(lambda: one.metric("nearcached_audit_checked_total") > 1000, "a thousand audits")
            self.assertEqual(one.metric("nearcached_audit_stale_total"), 0)

    def test_where_nobody_tells_it_finds_what_is_stale(self):
        server = self.server()
        one = self.sidecar(server.url, {**self.SETTINGS, "coherence.mode": "ttl", "l1.ttl": "2s"})
        self.wait_hits(one, self.client(one))
        self.traffic(server, one, 3)
        eventually(lambda: one.metric("nearcached_audit_stale_total") > 50, "findings")
        self.assertEqual([line for line in one.log if "audit_stale" in line], [], "within what ttl promises: no alarm")
        self.assertGreater(one.metric("nearcached_audit_staleness_seconds_count"), 50)

    def test_switched_off_it_checks_nothing(self):
        server = self.server()
        one = self.sidecar(server.url, {"coherence.audit_one_in": 0})
        one.wait_caching()
        self.traffic(server, one, 1)
        self.assertEqual(one.metric("nearcached_audit_checked_total"), 0)

    def test_its_reads_are_bounded(self):
        server = self.server()
        one = self.sidecar(server.url, {"coherence.audit_one_in": 1, "coherence.audit_per_second": 10, "threads": 1})
        one.wait_caching()
        begun = time.monotonic()
        self.traffic(server, one, 2)
        self.assertLessEqual(one.metric("nearcached_audit_checked_total"), 10 * (time.monotonic() - begun + 2))
        self.assertGreater(one.metric("nearcached_audit_checked_total"), 5)


if __name__ == "__main__":
    main()
