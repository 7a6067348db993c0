"""CLIENT TRACKING asked for by a client: it caches by itself, before one server, and is told what it must forget.

The same commands go to a plain Redis; replies and invalidations are compared, with their order.
"""

import tempfile
import unittest
from pathlib import Path

from pinned_test import POOL, Both
from system import PATIENCE_S, Client, Cluster, RedisServer, ReplyError, Sidecar, eventually

MARK = ("EXISTS", "mark")  # answered behind all invalidations that its server has sent before


class AgainstPlain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.both = Both()

    @classmethod
    def tearDownClass(cls):
        cls.both.close()

    def heard_at(self, address, script, protocol):
        clients = {}
        heard = []
        for number, *command in script:
            if number not in clients:
                clients[number] = Client(address, protocol=protocol, timeout=PATIENCE_S)
            client = clients[number]
            if isinstance(command[0], tuple):
                replies = client.pipeline(command)
            else:
                client.send(*command)
                replies = [client.read()]
            heard.append((number, command, replies, list(client.pushes)))
        for client in clients.values():
            client.close()
        return heard

    def compare(self, *script, protocol=3):
        """script: lines of (connection number, command...), or of commands that are sent as one pipeline."""
        for address in (self.both.upstream.address, self.both.plain.address):
            with Client(address) as client:
                client.call("FLUSHALL")
        through, plain = (self.heard_at(server.address, script, protocol) for server in (self.both.sidecar, self.both.plain))
        for one, other in zip(through, plain):
            self.assertEqual(one, other)
        return plain

    def pushes_of(self, heard, number):
        return next(pushes for who, _, _, pushes in reversed(heard) if who == number)

    def test_what_was_read_and_is_changed_elsewhere_is_invalidated_once(self):
        heard = self.compare(
            (0, "CLIENT", "TRACKING", "ON"), (0, "CLIENT", "TRACKINGINFO"), (1, "SET", "a", "1"), (0, "GET", "a"),
            (1, "SET", "a", "2"), (1, "SET", "a", "3"), (0, *MARK), (0, "GET", "a"), (1, "DEL", "a", "b"), (0, *MARK),
            (0, "MGET", "a", "b", "c"), (1, "MSET", "a", "1", "c", "2"), (0, *MARK))
        self.assertEqual(len(self.pushes_of(heard, 0)), 4)

    def test_flush_invalidates_all_at_once(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "GET", "a"), (1, "FLUSHALL"), (0, *MARK), (0, "GET", "a"),
                     (1, "FLUSHDB"), (0, *MARK))

    def test_own_writes_invalidate_unless_noloop(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "GET", "a"), (0, "SET", "a", "1"), (0, *MARK))
        heard = self.compare((0, "CLIENT", "TRACKING", "ON", "NOLOOP"), (0, "GET", "a"), (0, "SET", "a", "1"), (0, *MARK),
                             (0, "GET", "a"), (1, "SET", "a", "2"), (0, *MARK))
        self.assertEqual(len(self.pushes_of(heard, 0)), 1)

    def test_an_own_write_in_a_pipeline_keeps_the_servers_order(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"),
                     (0, ("GET", "a"), ("INCR", "a"), ("GET", "a"), ("PING",), ("CLIENT", "GETNAME"), ("INCR", "a"), MARK))

    def test_optin_caches_only_what_follows_caching_yes(self):
        heard = self.compare(
            (0, "CLIENT", "TRACKING", "ON", "OPTIN"), (0, "GET", "a"), (0, "CLIENT", "CACHING", "YES"), (0, "GET", "b"),
            (0, "GET", "c"), (1, "MSET", "a", "1", "b", "1", "c", "1"), (0, *MARK), (0, "CLIENT", "CACHING", "NO"),
            # One pipeline, as clients with a cache of their own send it.
            (0, ("CLIENT", "CACHING", "YES"), ("MULTI",), ("PTTL", "d"), ("GET", "d"), ("EXEC",)),
            (1, "SET", "d", "1"), (0, *MARK))
        self.assertEqual([push[1] for push in self.pushes_of(heard, 0)], [[b"b"], [b"d"]])

    def test_optout_and_broadcasting_with_prefixes(self):
        self.compare((0, "CLIENT", "TRACKING", "ON", "OPTOUT"), (0, "CLIENT", "CACHING", "NO"), (0, "GET", "a"),
                     (0, "GET", "b"), (1, "MSET", "a", "1", "b", "1"), (0, *MARK))
        self.compare((0, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "item:"),
                     (0, "CLIENT", "TRACKINGINFO"), (1, "SET", "user:1", "x"), (0, *MARK),
                     (1, "SET", "other", "x"), (1, "SET", "item:2", "x"), (0, *MARK))

    def test_wrong_words_get_redis_errors(self):
        self.compare((0, "CLIENT", "TRACKING"), (0, "CLIENT", "TRACKING", "MAYBE"), (0, "GET", "a"),
                     (0, "CLIENT", "TRACKING", "ON", "PREFIX", "a"), (0, "CLIENT", "TRACKING", "ON", "OPTIN", "OPTOUT"),
                     (0, "CLIENT", "CACHING", "YES"), (0, "CLIENT", "CACHING", "MAYBE"), (0, "CLIENT", "CACHING"),
                     (0, "CLIENT", "TRACKING", "ON"), (0, "CLIENT", "CACHING", "YES"),
                     (0, "CLIENT", "TRACKING", "ON", "BCAST"), (0, "CLIENT", "TRACKINGINFO"), (0, "CLIENT", "GETREDIR"),
                     (0, "CLIENT", "TRACKING", "OFF"), (0, "CLIENT", "TRACKINGINFO"), (0, "CLIENT", "GETREDIR"),
                     (0, "GET", "a"))

    def test_switched_off_it_is_an_ordinary_client_again(self):
        heard = self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "GET", "a"), (0, "CLIENT", "TRACKING", "OFF"), (0, *MARK),
                             (1, "SET", "a", "1"), (0, "GET", "a"), (0, "CLIENT", "TRACKING", "ON"), (0, "GET", "a"),
                             (1, "SET", "a", "2"), (0, *MARK), (0, "RESET"), (0, "GET", "a"))
        self.assertEqual(len(self.pushes_of(heard, 0)), 1)

    def test_transactions_and_watches_travel_on_the_same_connection(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "WATCH", "a"), (1, "SET", "a", "1"), (0, "MULTI"),
                     (0, "SET", "a", "2"), (0, "EXEC"), (0, "WATCH", "a"), (0, "CLIENT", "TRACKING", "OFF"),
                     (1, "SET", "a", "3"), (0, "MULTI"), (0, "SET", "a", "4"), (0, "EXEC"), (0, "GET", "a"), (0, "MULTI"),
                     (0, "INCR", "a"), (0, "NOSUCH"), (0, "EXEC"), (0, "MULTI"), (0, "DISCARD"), (0, "DISCARD"), (0, "EXEC"))

    def test_blocking_and_other_commands_pass_through(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "RPUSH", "q", "1", "2"), (0, "BLPOP", "q", "1"),
                     (0, "BLPOP", "none", "0.05"), (0, "LRANGE", "q", "0", "-1"), (0, "WAIT", "0", "1"),
                     (0, "EVAL", "return redis.call('GET', KEYS[1])", "1", "s"),
                     (1, "SET", "s", "1"), (0, *MARK), (0, "XREAD", "COUNT", "1", "STREAMS", "x", "0"),
                     (0, "DBSIZE"))

    def test_with_resp2_it_is_switched_on_and_says_nothing(self):
        self.compare((0, "CLIENT", "TRACKING", "ON"), (0, "GET", "a"), (1, "SET", "a", "1"), (0, *MARK),
                     (0, "GET", "a"), protocol=2)

    def test_others_hits_follow_the_writes_of_a_tracking_client(self):
        with self.both.sidecar.client() as reader, self.both.sidecar.client(protocol=3) as tracker:
            self.assertEqual(tracker.call("CLIENT", "TRACKING", "ON"), b"OK")
            for i in range(200):
                tracker.call("SET", "hot", str(i))
                self.assertEqual(reader.call("GET", "hot"), str(i).encode())
                self.assertEqual(reader.call("GET", "hot"), str(i).encode())
                tracker.pipeline([("MULTI",), ("APPEND", "hot", "x"), ("EXEC",)])
                self.assertEqual(reader.call("GET", "hot"), f"{i}x".encode())
            self.assertEqual(len(tracker.pushes), 0, "it has read nothing")

    def test_what_a_transaction_can_not_have_aborts_it(self):
        with self.both.sidecar.client(protocol=3) as client:
            client.call("CLIENT", "TRACKING", "ON")
            client.call("MULTI")
            with self.assertRaisesRegex(ReplyError, "ERR nearcached: 'select' is not offered while CLIENT TRACKING is on"):
                client.call("SELECT", "1")
            with self.assertRaisesRegex(ReplyError, "EXECABORT"):
                client.call("EXEC")
            for refused in (("SELECT", "1"), ("AUTH", "x"), ("HELLO", "2")):
                with self.assertRaisesRegex(ReplyError, "ERR nearcached: .* is not offered while CLIENT TRACKING is on"):
                    client.call(*refused)
            self.assertEqual(client.call("GET", "still-here"), None)


class Limits(unittest.TestCase):
    def test_a_lost_upstream_connection_closes_the_client(self):
        with RedisServer() as upstream, Sidecar(f"redis://{upstream.address}", POOL) as sidecar:
            client = sidecar.client(protocol=3)
            client.call("CLIENT", "TRACKING", "ON")
            client.call("GET", "a")
            with upstream.client() as other:
                other.call("CLIENT", "KILL", "TYPE", "normal")
            self.assertTrue(client.read_until_closed() is not None)
            client.close()
            with sidecar.client(protocol=3) as again:
                again.call("CLIENT", "TRACKING", "ON")
                again.call("GET", "a")
                upstream.call("SET", "a", "1")
                eventually(lambda: again.call(*MARK) == 0 and len(again.pushes) == 1, "the invalidation")

    def test_its_connections_are_of_the_bounded_pool_and_given_back(self):
        with RedisServer() as upstream, Sidecar(f"redis://{upstream.address}", {**POOL, "threads": 1}) as sidecar:
            clients = [sidecar.client(protocol=3) for _ in range(POOL["upstream.pinned_pool.max"])]
            for client in clients:
                client.call("CLIENT", "TRACKING", "ON")
            with sidecar.client(protocol=3) as one_more:
                with self.assertRaisesRegex(ReplyError, "pinned_pool"):
                    one_more.call("CLIENT", "TRACKING", "ON")
                clients.pop().close()
                clients.pop().call("CLIENT", "TRACKING", "OFF")
                eventually(lambda: self.tracks(one_more), "room in the pool")
            for client in clients:
                client.close()

    def tracks(self, client):
        try:
            return client.call("CLIENT", "TRACKING", "ON") == b"OK"
        except ReplyError:
            return False

    def test_a_local_users_refusal_aborts_the_transaction(self):
        users = Path(self.enterContext(tempfile.TemporaryDirectory())) / "config.yaml"
        users.write_text("users:\n  - {name: default, nopass: true, commands: ['+@all', '-incr'], keys: ['*']}\n")
        with RedisServer() as upstream, Sidecar(f"redis://{upstream.address}", POOL, args=["--config", users]) as sidecar:
            with sidecar.client(protocol=3) as client:
                client.call("CLIENT", "TRACKING", "ON")
                replies = client.pipeline([("MULTI",), ("SET", "a", "1"), ("INCR", "a"), ("EXEC",)])
                self.assertRegex(str(replies[2]), "NOPERM")
                self.assertRegex(str(replies[3]), "EXECABORT")
                self.assertIsNone(client.call("GET", "a"))

    def test_where_it_is_not_offered_the_error_says_so(self):
        with Cluster(3) as cluster, Sidecar(cluster.url, POOL) as sidecar, sidecar.client(protocol=3) as client:
            with self.assertRaisesRegex(ReplyError, "ERR nearcached: CLIENT TRACKING over a cluster's nodes is not offered"):
                client.call("CLIENT", "TRACKING", "ON")
            self.assertEqual(client.call("CLIENT", "TRACKING", "OFF"), b"OK")
        bus = {"coherence.mode": "bus", "coherence.bus.type": "redis"}
        with RedisServer() as upstream, Sidecar(f"redis://{upstream.address}", bus) as sidecar:
            with sidecar.client(protocol=3) as client:
                with self.assertRaisesRegex(ReplyError, "not offered with coherence.mode: bus"):
                    client.call("CLIENT", "TRACKING", "ON")
        with RedisServer() as upstream, Sidecar(f"redis://{upstream.address}", POOL) as sidecar:
            with sidecar.client(protocol=3) as client:
                with self.assertRaisesRegex(ReplyError, "REDIRECT is not offered"):
                    client.call("CLIENT", "TRACKING", "ON", "REDIRECT", "1")
                client.call("WATCH", "a")
                with self.assertRaisesRegex(ReplyError, "behind WATCH is not offered"):
                    client.call("CLIENT", "TRACKING", "ON")


if __name__ == "__main__":
    unittest.main()
