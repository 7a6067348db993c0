"""What spans the nodes of a cluster: SCAN, RANDOMKEY, PUBSUB, NEAR.UPSTREAM; and the sidecar shown as a cluster of one."""

import re
import unittest

from system import (Cluster, RedisServer, ReplyError, Sidecar, eventually, key_slot, keys_of_distinct_nodes)


def scan(client, *options, begin="0"):
    """All that one SCAN from `begin` to its end returns, in order, and its cursors."""
    cursor, found, cursors = begin, [], []
    while True:
        cursor, keys = client.call("SCAN", cursor, *options)
        found += keys
        cursors.append(cursor)
        if cursor == b"0":
            return found, cursors


class Across(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(primaries=3)
        cls.sidecar = Sidecar(cls.cluster.url)
        cls.sidecar.wait_caching()

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.stop()
        cls.cluster.close()

    def setUp(self):
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)
        self.client.call("FLUSHALL")

    def test_scan_returns_every_key_of_every_node(self):
        keys = {f"key:{i}".encode() for i in range(3000)}
        self.client.pipeline([("SET", key, "v") for key in sorted(keys)])
        self.client.call("LPUSH", "alist", "x")
        found, cursors = scan(self.client)
        self.assertEqual(set(found), keys | {b"alist"})
        self.assertTrue(all(re.fullmatch(rb"\d+", cursor) for cursor in cursors))
        self.assertEqual(set(scan(self.client, "MATCH", "key:1*", "COUNT", 500)[0]),
                         {key for key in keys if key.startswith(b"key:1")})
        self.assertEqual(scan(self.client, "TYPE", "list")[0], [b"alist"])

    def test_scans_of_several_clients_at_different_places_do_not_meet(self):
        keys = {f"key:{i}".encode() for i in range(500)}
        self.client.pipeline([("SET", key, "v") for key in sorted(keys)])
        with self.sidecar.client(protocol=3) as other:
            cursors, found = {self.client: "0", other: "0"}, {self.client: set(), other: set()}
            while cursors:
                for client in list(cursors):
                    count = 7 if client is other else 50
                    cursors[client], some = client.call("SCAN", cursors[client], "COUNT", count)
                    found[client] |= set(some)
                    if cursors[client] == b"0":
                        del cursors[client]
        self.assertEqual([keys, keys], list(found.values()))

    def test_a_cursor_is_good_at_another_sidecar(self):
        self.client.pipeline([("SET", f"key:{i}", "v") for i in range(600)])
        cursor, first = self.client.call("SCAN", "0", "COUNT", 100)
        with Sidecar(self.cluster.url) as second, second.client() as other:
            rest, _ = scan(other, begin=cursor)
        self.assertEqual(len(set(first) | set(rest)), 600)

    def test_cursors_that_nobody_made_are_refused(self):
        for cursor in ("x", "-1", "12345", "99999999999999999999999"):
            with self.assertRaises(ReplyError):
                self.client.call("SCAN", cursor)
        with self.assertRaisesRegex(ReplyError, "syntax error"):
            self.client.call("SCAN", "0", "BOGUS")
        self.assertEqual(self.client.call("PING"), b"PONG")

    def test_a_random_key_is_found_wherever_it_is(self):
        self.assertIsNone(self.client.call("RANDOMKEY"))
        for key in keys_of_distinct_nodes(self.cluster):
            self.client.call("SET", key, "v")
            for _ in range(5):
                self.assertEqual(self.client.call("RANDOMKEY"), key if isinstance(key, bytes) else key.encode())
            self.client.call("DEL", key)

    def test_info_keyspace_counts_the_keys_of_all_nodes(self):
        keys = keys_of_distinct_nodes(self.cluster)
        for key in keys:
            self.client.call("SET", key, "v")
        self.client.call("PEXPIRE", keys[0], 1_000_000)
        for words in (("INFO", "keyspace"), ("INFO", "keyspace", "nearcached"), ("INFO", "server", "Keyspace")):
            text = self.client.call(*words).decode()
            self.assertRegex(text, rf"# Keyspace\r\ndb0:keys={len(keys)},expires=1,avg_ttl=\d+\r\n")
        self.client.call("FLUSHALL")
        self.assertEqual(self.client.call("INFO", "keyspace"), b"# Keyspace\r\n")

    def test_subscribers_are_counted_on_all_nodes(self):
        subscribers = [self.sidecar.client() for _ in range(12)]
        try:
            for subscriber in subscribers:
                subscriber.call("SUBSCRIBE", "everywhere")
                subscriber.call("PSUBSCRIBE", "e*")
            self.assertEqual(self.client.call("PUBSUB", "NUMSUB", "everywhere", "nowhere"), [b"everywhere", 12, b"nowhere", 0])
            self.assertEqual(self.client.call("PUBSUB", "CHANNELS", "every*"), [b"everywhere"])
            # Patterns are counted once per node, as each node counts its own.
            self.assertGreaterEqual(self.client.call("PUBSUB", "NUMPAT"), 1)
        finally:
            for subscriber in subscribers:
                subscriber.close()
        eventually(lambda: self.client.call("PUBSUB", "CHANNELS", "every*") == [], "they are gone")

    def test_commands_over_several_slots_are_refused_in_redis_words(self):
        for command in (("MSETNX", "a", 1, "b", 2), ("RENAME", "a", "b"), ("SUNION", "a", "b"), ("SINTERSTORE", "a", "b", "c"),
                        ("BITOP", "AND", "a", "b"), ("PFMERGE", "a", "b"), ("EVAL", "return 1", 2, "a", "b")):
            with self.assertRaisesRegex(ReplyError, "^CROSSSLOT Keys in request don't hash to the same slot"):
                self.client.call(*command)

    def test_one_node_is_asked_by_its_name(self):
        nodes = [node.decode() for node in self.client.call("NEAR.UPSTREAM")]
        self.assertEqual(sorted(nodes), sorted(node.address for node in self.cluster.nodes))
        for node in nodes:
            port = int(node.rpartition(":")[2])
            self.assertIn(f"tcp_port:{port}".encode(), self.client.call("NEAR.UPSTREAM", node, "INFO", "server"))
            self.assertEqual(self.client.call("NEAR.UPSTREAM", node, "CONFIG", "GET", "port"), [b"port", str(port).encode()])
            self.assertEqual(self.client.call("NEAR.UPSTREAM", node, "SLOWLOG", "RESET"), b"OK")
            self.assertEqual(self.client.call("NEAR.UPSTREAM", node, "SLOWLOG", "GET"), [])
            self.assertIn(b" cmd=client|list ", self.client.call("NEAR.UPSTREAM", node, "CLIENT", "LIST"))
            for own in (("CLIENT", "SETNAME", "x"), ("MONITOR",), ("MULTI",)):
                with self.assertRaisesRegex(ReplyError, "can't be sent to one node"):
                    self.client.call("NEAR.UPSTREAM", node, *own)
        sizes = [self.client.call("NEAR.UPSTREAM", node, "DBSIZE") for node in nodes]
        self.client.call("SET", "counted", 1)
        self.assertEqual(sum(self.client.call("NEAR.UPSTREAM", node, "DBSIZE") for node in nodes), sum(sizes) + 1)
        for wrong, error in ((("10.1.1.1:1", "PING"), "no primary"), ((nodes[0],), "wrong number"),
                             ((nodes[0], "SHUTDOWN"), "^NOPERM"), ((nodes[0], "DEBUG", "SLEEP", 0), "^NOPERM"),
                             ((nodes[0], "MULTI"), "can't be sent"), ((nodes[0], "AUTH", "x"), "can't be sent"),
                             ((nodes[0], "NOSUCH", "x"), "unknown command")):
            with self.assertRaisesRegex(ReplyError, error):
                self.client.call("NEAR.UPSTREAM", *wrong)

    def test_one_node_is_not_asked_within_a_transaction(self):
        node = self.client.call("NEAR.UPSTREAM")[0]
        replies = self.client.pipeline([("MULTI",), ("NEAR.UPSTREAM", node, "SET", "a", "2"), ("SET", "a", "1"), ("EXEC",)])
        self.assertRegex(str(replies[1]), "'near.upstream' is not offered inside a transaction")
        self.assertRegex(str(replies[3]), "^EXECABORT")
        self.assertIsNone(self.client.call("GET", "a"))

    def test_a_slots_owner_is_asked_for_its_keys(self):
        for key in keys_of_distinct_nodes(self.cluster):
            self.client.call("SET", key, "v")
            self.assertEqual(self.client.call("CLUSTER", "COUNTKEYSINSLOT", key_slot(key)), 1)
            self.assertEqual(self.client.call("CLUSTER", "GETKEYSINSLOT", key_slot(key), 10), [key.encode()])
        with self.assertRaisesRegex(ReplyError, "ERR Invalid slot"):
            self.client.call("CLUSTER", "COUNTKEYSINSLOT", 16384)

    def test_a_write_at_one_node_is_seen_by_who_had_the_key_in_l1(self):
        key = "near"
        owner = next(node for node in self.client.call("NEAR.UPSTREAM") if self.owns(node, key))
        for i in range(20):
            self.client.call("GET", key)
            self.assertEqual(self.client.call("NEAR.UPSTREAM", owner, "SET", key, str(i)), b"OK")
            self.assertEqual(self.client.call("GET", key), str(i).encode())

    def owns(self, node, key):
        try:
            self.client.call("NEAR.UPSTREAM", node, "GET", key)
            return True
        except ReplyError as error:
            self.assertIn("MOVED", str(error))
            return False


class Scripts(unittest.TestCase):
    def test_a_loaded_script_is_known_to_a_node_that_came_back_without_it(self):
        """A restart stands for a failover: SCRIPT LOAD is not replicated."""
        server = RedisServer()
        self.addCleanup(server.close)
        sidecar = Sidecar(server.url)
        self.addCleanup(sidecar.close)
        client = sidecar.client()
        self.addCleanup(client.close)
        sha = client.call("SCRIPT", "LOAD", "return ARGV[1]")
        other = client.call("SCRIPT", "LOAD", "return 'other'")
        self.assertEqual(client.call("EVALSHA", sha, 0, "x"), b"x")
        server.kill()
        server.start()

        def answered():
            try:
                client.call("SET", "k", 1)
                return True
            except ReplyError as error:
                self.assertNotIn("NOSCRIPT", str(error))
                return False
        eventually(answered, "the server to be there again")
        self.assertEqual(client.pipeline([("EVALSHA", sha, 0, "y"), ("EVALSHA", other, 0), ("GET", "k")]), [b"y", b"other", b"1"])
        client.call("SCRIPT", "FLUSH")
        server.kill()
        server.start()
        eventually(answered, "the server to be there again")
        with self.assertRaisesRegex(ReplyError, "NOSCRIPT"):
            client.call("EVALSHA", sha, 0, "y")

    def test_a_failover_of_a_cluster_does_not_lose_a_loaded_script(self):
        cluster = Cluster(primaries=3, replicas=1)
        self.addCleanup(cluster.close)
        sidecar = Sidecar(cluster.url)
        self.addCleanup(sidecar.close)
        client = sidecar.client()
        self.addCleanup(client.close)
        key = "{a}k"
        sha = client.call("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
        self.assertEqual(client.call("EVALSHA", sha, 1, key), 1)
        owner = next(node for node in cluster.nodes if node.call("CLUSTER", "COUNTKEYSINSLOT", key_slot(key)) == 1
                     and node.call("ROLE")[0] == b"master")
        self.assertEqual(client.call("WAIT", 1, 2000), 1)
        owner.kill()

        def counted():
            try:
                return client.call("EVALSHA", sha, 1, key) >= 2
            except ReplyError as error:
                self.assertNotIn("NOSCRIPT", str(error))
                return False
        eventually(counted, "the failover")


class Emulated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(primaries=3)
        cls.server = RedisServer()
        cls.sidecars = [Sidecar(url, {"cluster_emulation": "true"})
                        for url in (cls.cluster.url, f"redis://{cls.server.address}")]

    @classmethod
    def tearDownClass(cls):
        for sidecar in cls.sidecars:
            sidecar.stop()
        cls.server.stop()
        cls.cluster.close()

    def test_one_node_has_all_slots(self):
        for sidecar in self.sidecars:
            host, _, port = sidecar.address.rpartition(":")
            with sidecar.client() as client:
                myid = client.call("CLUSTER", "MYID")
                self.assertRegex(myid, rb"^[0-9a-f]{40}$")
                here = [host.encode(), int(port), myid, []]
                self.assertEqual(client.call("CLUSTER", "SLOTS"), [[0, 16383, here]])
                self.assertRegex(client.call("CLUSTER", "NODES"),
                                 rb"^%b %b:%b@\d+ myself,master - 0 0 1 connected 0-16383\n$" % (
                                     myid, host.encode(), port.encode()))
                self.assertIn(b"cluster_state:ok\r\n", client.call("CLUSTER", "INFO"))
                self.assertEqual(client.call("CLUSTER", "KEYSLOT", "foo{bar}"), key_slot("foo{bar}"))
                shard = client.call("CLUSTER", "SHARDS")[0]
                self.assertEqual(shard[:2], [b"slots", [0, 16383]])
                self.assertEqual(shard[3][0][:6], [b"id", myid, b"port", int(port), b"ip", host.encode()])
                self.assertEqual(client.call("CLUSTER", "REPLICAS", myid), [])
                with self.assertRaisesRegex(ReplyError, "^ERR Unknown node nobody$"):
                    client.call("CLUSTER", "REPLICAS", "nobody")
                for command in ("READONLY", "READWRITE", "ASKING"):
                    self.assertEqual(client.call(command), b"OK")
                self.assertIn(b"cluster_enabled:1", client.call("INFO", "cluster"))
                self.assertIn(b"redis_mode:cluster", client.call("INFO"))
                self.assertIn(b"cluster", client.call("HELLO", "2"))

    def test_keys_of_all_slots_are_served(self):
        for sidecar in self.sidecars:
            with sidecar.client() as client:
                for i in range(100):
                    client.call("SET", f"k{i}", i)
                    self.assertEqual(client.call("GET", f"k{i}"), str(i).encode())
                self.assertEqual(client.call("MGET", *(f"k{i}" for i in range(100))), [str(i).encode() for i in range(100)])

    def test_what_would_change_the_cluster_stays_refused(self):
        for sidecar in self.sidecars:
            with sidecar.client() as client, self.assertRaisesRegex(ReplyError, "^NOPERM"):
                client.call("CLUSTER", "RESET")


if __name__ == "__main__":
    unittest.main(verbosity=2)
