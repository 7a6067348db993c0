#!/usr/bin/env python3
"""The sidecar before a Redis Cluster: commands over many slots, and a cluster that changes, fails and recovers."""

import signal
import threading
import time
import unittest

from system import (PATIENCE_S, SLOWNESS, Cluster, RedisServer, ReplyError, Sidecar, Traffic, eventually, key_slot,
                    keys_of_distinct_nodes, main)

MAX_STALENESS_S = 1.0


def setUpModule():
    global cluster, sidecar
    cluster = Cluster(primaries=3, replicas=1)
    sidecar = Sidecar(cluster.url)
    sidecar.wait_caching(links=3)


def tearDownModule():
    sidecar.close()
    cluster.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.client = sidecar.client()
        self.client.call("FLUSHALL")
        self.direct = cluster.call  # not for threads

    def tearDown(self):
        self.client.close()
        if not sidecar.alive:
            code = sidecar.process.poll()
            sidecar.start()
            self.fail(f"the sidecar ended with {code}")

    def assert_error(self, pattern, *command):
        with self.assertRaisesRegex(ReplyError, pattern):
            self.client.call(*command)

    def traffic(self, **options):
        """Traffic whose foreign writer has connections of its own."""
        own = Foreign(cluster)
        self.addCleanup(own.close)
        return Traffic(sidecar, own.call, max_staleness_s=MAX_STALENESS_S * SLOWNESS, **options)


class Foreign:
    """cluster.call for one further thread."""

    def __init__(self, of):
        self.view = object.__new__(Cluster)
        self.view.__dict__.update(of.__dict__, _connections={}, _owners={})

    def call(self, *args):
        return self.view.call(*args)

    def close(self):
        for connection in self.view._connections.values():
            connection.close()


class ManySlots(Case):
    KEYS = [f"many:{i}" for i in range(200)]

    def fill(self):
        self.client.call("MSET", *[part for key in self.KEYS for part in (key, f"v-{key}")])

    def test_mset_reaches_every_owner(self):
        self.fill()
        for key in self.KEYS:
            self.assertEqual(self.direct("GET", key), f"v-{key}".encode())

    def test_mget_answers_in_the_order_asked_hits_and_misses_mixed(self):
        self.fill()
        for key in self.KEYS[::3]:
            self.client.call("GET", key)
        wanted = self.KEYS[::-1] + ["missing", self.KEYS[5], "missing", self.KEYS[5]]
        expected = [None if key == "missing" else f"v-{key}".encode() for key in wanted]
        for _ in range(3):
            self.assertEqual(self.client.call("MGET", *wanted), expected)

    def test_mget_gives_null_for_other_types(self):
        self.fill()
        self.client.call("LPUSH", "a-list", 1)
        for _ in range(3):
            self.assertEqual(self.client.call("MGET", "a-list", self.KEYS[0], "a-list", "missing"),
                             [None, b"v-many:0", None, None])
            with self.assertRaisesRegex(ReplyError, "^WRONGTYPE"):
                self.client.call("GET", "a-list")

    def test_duplicates_count_as_redis_counts_them(self):
        self.fill()
        a, b, c = self.KEYS[:3]
        self.assertEqual(self.client.call("EXISTS", a, a, b, "missing", a), 4)
        self.assertEqual(self.client.call("TOUCH", a, a, b, "missing"), 3)
        self.assertEqual(self.client.call("DEL", a, a, b, "missing", a), 2)
        self.assertEqual(self.client.call("UNLINK", a, c, c), 1)
        self.assertEqual(self.client.call("EXISTS", a, b, c), 0)

    def test_the_last_of_duplicate_values_wins(self):
        self.client.call("MSET", "d1", 1, "d2", 1, "d1", 2, "d3", 1, "d1", 3)
        self.assertEqual(self.client.call("MGET", "d1", "d2", "d3"), [b"3", b"1", b"1"])

    def test_del_of_all_leaves_nothing_and_no_old_hit(self):
        self.fill()
        self.client.call("MGET", *self.KEYS)
        self.assertEqual(self.client.call("DEL", *self.KEYS), len(self.KEYS))
        self.assertEqual(self.client.call("MGET", *self.KEYS), [None] * len(self.KEYS))
        self.assertEqual(self.client.call("EXISTS", *self.KEYS), 0)

    def test_commands_that_cannot_be_split_get_the_clusters_crossslot(self):
        keys = keys_of_distinct_nodes(cluster)
        for command in (("MSETNX", keys[0], 1, keys[1], 2), ("RENAME", keys[0], keys[1]), ("SUNION", keys[0], keys[1]),
                        ("SINTERSTORE", keys[0], keys[1], keys[2]), ("EVAL", "return 1", 2, keys[0], keys[1]),
                        ("PFCOUNT", keys[0], keys[1]),
                        ("BITOP", "AND", keys[0], keys[1]), ("LMPOP", 2, keys[0], keys[1], "LEFT"),
                        ("COPY", keys[0], keys[1])):
            with self.subTest(command=command):
                self.assert_error("^CROSSSLOT", *command)
        self.assertEqual(self.client.call("PING"), b"PONG")

    def test_one_slot_needs_no_splitting(self):
        self.assertEqual(self.client.call("MSETNX", "{t}a", 1, "{t}b", 2), 1)
        self.assertEqual(self.client.call("MSETNX", "{t}b", 1, "{t}c", 2), 0)
        self.assertEqual(self.client.call("RENAME", "{t}a", "{t}z"), b"OK")
        self.assertEqual(self.client.call("MGET", "{t}a", "{t}b", "{t}z"), [None, b"2", b"1"])


class AllNodes(Case):
    def setUp(self):
        super().setUp()
        self.keys = keys_of_distinct_nodes(cluster)
        self.client.call("MSET", *[part for key in self.keys for part in (key, "v")])

    def test_dbsize_is_the_sum(self):
        self.assertEqual(self.client.call("DBSIZE"), 3)

    def test_keys_are_those_of_all_nodes(self):
        self.assertEqual(sorted(self.client.call("KEYS", "*")), sorted(key.encode() for key in self.keys))
        self.assertEqual(self.client.call("KEYS", "nothing*"), [])

    def test_flushall_empties_every_node_and_the_l1(self):
        self.client.call("MGET", *self.keys)
        self.assertEqual(self.client.call("FLUSHALL"), b"OK")
        self.assertEqual(self.client.call("MGET", *self.keys), [None] * 3)
        self.assertEqual(sum(node.call("DBSIZE") for node in cluster.primaries()), 0)

    def test_a_script_loaded_here_runs_on_every_node(self):
        digest = self.client.call("SCRIPT", "LOAD", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
        self.client.call("DEL", *self.keys)
        for key in self.keys:
            self.assertEqual(self.client.call("EVALSHA", digest, 1, key, 5), 5)
            self.assertEqual(self.client.call("GET", key), b"5")
        self.assertEqual(self.client.call("SCRIPT", "EXISTS", digest, "f" * 40), [1, 0])
        self.assertEqual(self.client.call("SCRIPT", "FLUSH"), b"OK")
        self.assertEqual(self.client.call("SCRIPT", "EXISTS", digest), [0])
        self.assert_error("^NOSCRIPT", "EVALSHA", digest, 1, self.keys[0], 5)

    def test_config_set_reaches_every_node(self):
        self.client.call("CONFIG", "SET", "slowlog-max-len", "77")
        for node in cluster.primaries():
            self.assertEqual(node.call("CONFIG", "GET", "slowlog-max-len"), [b"slowlog-max-len", b"77"])


class Migration(Case):
    """A slot moved by hand, one step at a time. {m} is its hash tag."""

    def setUp(self):
        super().setUp()
        self.slot = key_slot("m")
        self.source = cluster.owner_of("m")
        self.target = next(node for node in cluster.primaries() if node is not self.source)
        self.source_id, self.target_id = cluster.node_id(self.source), cluster.node_id(self.target)
        for i in range(4):
            self.client.call("SET", f"{{m}}{i}", f"old{i}")
            self.client.call("GET", f"{{m}}{i}")
        self.target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.source_id)
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.target_id)
        self.addCleanup(self.finish)

    def move(self, *keys):
        self.source.call("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def at_target(self, *command):
        with self.target.client() as client:
            client.call("ASKING")
            return client.call(*command)

    def finish(self):
        left = self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 100)
        if left:
            self.move(*left)
        for node in (self.target, self.source, *cluster.primaries()):
            node.call("CLUSTER", "SETSLOT", self.slot, "NODE", self.target_id)
        eventually(lambda: cluster.owner_of("m") is self.target, "the slot to have moved")
        cluster._owners.clear()

    def test_moved_keys_are_found_by_ask(self):
        self.move("{m}0", "{m}1")
        asked = sidecar.metric("nearcached_upstream_redirects_total", kind="ask")
        for _ in range(3):
            for i in range(4):
                self.assertEqual(self.client.call("GET", f"{{m}}{i}"), b"old%d" % i)
                self.assertEqual(self.client.call("STRLEN", f"{{m}}{i}"), 4)
            self.assertEqual(self.client.call("MGET", "{m}0", "{m}2", "other"), [b"old0", b"old2", None])
        self.assertGreater(sidecar.metric("nearcached_upstream_redirects_total", kind="ask"), asked)

    def test_writes_to_moved_keys_reach_the_target_and_are_read_back(self):
        self.move("{m}0")
        for i in range(50):
            replies = self.client.pipeline([("SET", "{m}0", i), ("GET", "{m}0"), ("SET", "{m}2", i), ("GET", "{m}2"),
                                            ("INCR", "{m}0")])
            self.assertEqual(replies, [b"OK", b"%d" % i, b"OK", b"%d" % i, i + 1])
        self.assertEqual(self.at_target("GET", "{m}0"), b"50")

    def test_a_key_absent_in_the_open_slot_is_seen_when_it_appears_at_the_target(self):
        for _ in range(3):
            self.assertIsNone(self.client.call("GET", "{m}new"))
        self.at_target("SET", "{m}new", "born there")
        time.sleep(MAX_STALENESS_S)
        self.assertEqual(self.client.call("GET", "{m}new"), b"born there")

    def test_a_key_changed_at_the_target_is_not_served_from_before(self):
        self.client.call("GET", "{m}0")
        self.move("{m}0")
        self.at_target("SET", "{m}0", "newer")
        time.sleep(MAX_STALENESS_S)
        self.assertEqual(self.client.call("GET", "{m}0"), b"newer")

    def test_tryagain_is_waited_out(self):
        self.move("{m}0")
        for i in range(4):
            self.client.call("GET", f"{{m}}{i}")
        self.client.send("DEL", "{m}0", "{m}1")
        time.sleep(0.1)
        self.move("{m}1")
        self.assertEqual(self.client.read(), 2)

    def test_tryagain_that_stays_is_passed_on(self):
        self.move("{m}0")
        self.assert_error("^TRYAGAIN", "SINTERCARD", 2, "{m}0", "{m}1")
        self.assertEqual(self.client.call("PING"), b"PONG")

    def test_after_the_move_the_target_is_asked_and_nothing_old_is_served(self):
        self.finish()
        self.target.call("SET", "{m}0", "changed at once")
        eventually(lambda: self.client.call("GET", "{m}0") == b"changed at once", "the new value",
                   MAX_STALENESS_S * SLOWNESS + 1)
        self.assertEqual(self.client.call("MGET", "{m}1", "{m}2"), [b"old1", b"old2"])


class UnderTraffic(Case):
    def test_a_reshard_is_not_noticed(self):
        first, second = cluster.primaries()[:2]
        with self.traffic(prefix="reshard") as traffic:
            traffic.wait_progress()
            moved_before = sidecar.metric("nearcached_upstream_redirects_total", kind="moved")
            cluster.reshard(first, second, 1500)
            traffic.wait_progress()
            cluster.reshard(second, first, 1500)
            traffic.wait_progress()
        self.assertEqual(traffic.lies, [])
        self.assertEqual(traffic.errors, 0, traffic.error_texts)
        self.assertGreaterEqual(sidecar.metric("nearcached_upstream_redirects_total", kind="moved"), moved_before)

    def test_killed_connections_cost_no_truth(self):
        with self.traffic(prefix="kill") as traffic:
            for _ in range(5):
                traffic.wait_progress(100, 20)
                for node in cluster.primaries():
                    with node.client() as client:
                        client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            traffic.wait_progress()
        self.assertEqual(traffic.lies, [])
        sidecar.wait_caching(links=3)

    def test_a_manual_failover_is_followed(self):
        primary = cluster.primaries()[0]
        with self.traffic(prefix="manual") as traffic:
            traffic.wait_progress()
            cluster.failover(cluster.replicas_of(primary)[0])
            traffic.wait_progress()
        self.assertEqual(traffic.lies, [])


class Trouble(Case):
    def test_clusterdown_is_told_in_the_clusters_words_and_ends(self):
        """On a cluster of one node: on a larger one gossip would argue about the slot for a while."""
        with RedisServer(["--cluster-enabled", "yes"]) as node:
            node.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in node.call("CLUSTER", "INFO"), "a cluster of one node")
            with Sidecar(f"redis+cluster://{node.address}") as alone, alone.client() as client:
                alone.wait_caching("down")
                node.call("CLUSTER", "DELSLOTS", key_slot("down"))
                started = time.monotonic()
                reply = client.pipeline([("SET", "down", 1)])[0]
                self.assertIsInstance(reply, ReplyError)
                self.assertEqual(reply.code, "CLUSTERDOWN")
                self.assertLess(time.monotonic() - started, 5 * SLOWNESS)
                eventually(lambda: isinstance(client.pipeline([("GET", "down")])[0], ReplyError), "the GET to fail as well",
                           MAX_STALENESS_S * SLOWNESS + 1)
                node.call("CLUSTER", "ADDSLOTS", key_slot("down"))
                eventually(lambda: client.pipeline([("SET", "down", 2)]) == [b"OK"], "the slot to be served again")
                self.assertEqual(client.call("GET", "down"), b"2")

    def test_a_stopped_node_costs_errors_in_time_and_only_its_own_keys(self):
        victim = cluster.primaries()[0]
        keys = keys_of_distinct_nodes(cluster, "stop")
        its_key = next(key for key in keys if cluster.owner_of(key) is victim)
        other_keys = [key for key in keys if key != its_key]
        with Sidecar(cluster.url, {"upstream.command_timeout": "300ms"}) as impatient, impatient.client() as client, \
                impatient.client() as other:
            client.call("MSET", *[part for key in keys for part in (key, "1")])
            victim.signal(signal.SIGSTOP)
            try:
                started = time.monotonic()
                with self.assertRaisesRegex(ReplyError, "nearcached.*timeout"):
                    client.call("SET", its_key, "2")
                self.assertLess(time.monotonic() - started, 0.3 + 2 * SLOWNESS)
                for key in other_keys:
                    started = time.monotonic()
                    self.assertEqual(other.call("SET", key, "2"), b"OK")
                    self.assertEqual(other.call("GET", key), b"2")
                    self.assertLess(time.monotonic() - started, SLOWNESS)
                replies = client.pipeline([("GET", other_keys[0]), ("STRLEN", its_key), ("GET", other_keys[1])])
                self.assertEqual((replies[0], replies[2]), (b"2", b"2"))
                self.assertIsInstance(replies[1], ReplyError)
            finally:
                victim.signal(signal.SIGCONT)
            eventually(lambda: client.pipeline([("SET", its_key, "3")]) == [b"OK"], "its keys to be served again")
            self.assertEqual(client.call("GET", its_key), b"3")
        cluster.wait_ok()

    def test_an_isolated_old_primary_is_not_believed(self):
        """Stopped until its replica has taken over: it never invalidates, yet what it told must not be served."""
        key = "isolated"
        victim = cluster.owner_of(key)
        self.client.call("SET", key, "old")
        self.assertEqual(self.client.pipeline([("GET", key)] * 3), [b"old"] * 3)
        replica = cluster.replicas_of(victim)[0]
        eventually(lambda: replica.call("DBSIZE") > 0, "the replica to have the key")
        victim.signal(signal.SIGSTOP)
        try:
            eventually(lambda: replica.info("replication")["role"] == "master", "the failover", 3 * PATIENCE_S)
            eventually(lambda: self._write(replica, key, "new"), "a write to the new primary")
            written = time.monotonic()
            while time.monotonic() - written < 3:
                reply = self.client.pipeline([("GET", key)])[0]
                if time.monotonic() - written > MAX_STALENESS_S * SLOWNESS:
                    self.assertIn(reply if not isinstance(reply, ReplyError) else b"new", (b"new",))
                time.sleep(0.02)
        finally:
            victim.signal(signal.SIGCONT)
        cluster.wait_ok()
        eventually(lambda: self.client.pipeline([("GET", key)]) == [b"new"], "the new value")

    def _write(self, node, key, value):
        try:
            return node.call("SET", key, value) == b"OK"
        except ReplyError:
            return False


class ZFailover(Case):
    """Last: it leaves the cluster with a replica less for a while."""

    def test_a_killed_primary_is_replaced_and_no_value_is_wrong(self):
        keys = [f"kill:{i}" for i in range(100)]
        for node in cluster.primaries():
            eventually(lambda node=node: node.info("replication")["connected_slaves"] != "0", "a replica for every primary")
        for key in keys:
            self.client.call("SET", key, f"v-{key}")
        self.assertEqual(self.client.call("MGET", *keys), [f"v-{key}".encode() for key in keys])
        victim = cluster.owner_of(keys[0])
        victim.call("WAIT", 1, 1000)
        heir = cluster.replicas_of(victim)[0]
        stuck = threading.Thread(target=lambda: [sidecar.client().pipeline([("INCR", "kill:0:n")]) for _ in range(3)])
        stuck.start()
        victim.kill()
        killed = time.monotonic()
        eventually(lambda: heir.info("replication")["role"] == "master" and cluster.state_ok(), "the cluster's own recovery",
                   3 * PATIENCE_S)
        eventually(lambda: self.client.pipeline([("SET", keys[0], "after")]) == [b"OK"], "service for the lost slots",
                   2 * SLOWNESS)
        self.assertLess(time.monotonic() - killed, PATIENCE_S)
        self.assertEqual(self.client.call("GET", keys[0]), b"after")
        self.assertEqual(self.client.call("MGET", *keys[1:]), [f"v-{key}".encode() for key in keys[1:]])
        stuck.join(PATIENCE_S)
        self.assertFalse(stuck.is_alive(), "a client hangs")
        victim.start()
        cluster.wait_ok()
        self.assertEqual(self.client.call("MGET", *keys[1:]), [f"v-{key}".encode() for key in keys[1:]])
        sidecar.wait_caching(links=3)


if __name__ == "__main__":
    main()
