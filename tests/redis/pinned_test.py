"""Transactions, blocking commands, subscriptions, WAIT and CLIENT REPLY: what needs an upstream connection of its own.

Where a plain Redis says what is right, the same commands go to one as well and the replies are compared, byte for byte.
"""

import socket
import threading
import time
import unittest

from system import (PATIENCE_S, Client, Cluster, RedisServer, ReplyError, Sidecar, encode, eventually, exchange, key_slot,
                    keys_of_distinct_nodes)

POOL = {"upstream.pinned_pool.max": 40, "upstream.pinned_pool.acquire_timeout": "500ms"}


class Both:
    """A sidecar before one Redis, and a plain Redis beside it."""

    def __init__(self, settings=None):
        self.upstream = RedisServer()
        self.plain = RedisServer()
        self.sidecar = Sidecar(f"redis://{self.upstream.address}", {**POOL, **(settings or {})})
        self.sidecar.wait_caching()

    def close(self):
        self.sidecar.stop()
        self.upstream.stop()
        self.plain.stop()


class AgainstPlain(unittest.TestCase):
    """Scripts of commands over several connections, against both."""

    @classmethod
    def setUpClass(cls):
        cls.both = Both()

    @classmethod
    def tearDownClass(cls):
        cls.both.close()

    def compare(self, script, protocol=2):
        """script: lines of (connection number, command...). Each reply is awaited before the next command."""
        for address in (self.both.upstream.address, self.both.plain.address):
            with Client(address) as client:
                client.call("FLUSHALL")
        heard = []
        for address in (self.both.sidecar.address, self.both.plain.address):
            clients = {}
            replies = []
            for number, *command in script:
                if number not in clients:
                    clients[number] = Client(address, protocol=protocol, timeout=PATIENCE_S)
                clients[number].send(*command)
                replies.append((number, tuple(command), clients[number].read()))
            pushes = {number: list(client.pushes) for number, client in clients.items()}
            for client in clients.values():
                client.close()
            heard.append((replies, pushes))
        self.assertEqual(heard[0], heard[1])
        return heard[0][0]

    def test_a_transaction_runs_as_it_does_in_redis(self):
        for protocol in (2, 3):
            self.compare([(1, "MULTI"), (1, "SET", "a", "1"), (1, "INCR", "a"), (1, "GET", "a"), (1, "HSET", "h", "f", "v"),
                          (1, "HGETALL", "h"), (1, "LPUSH", "a", "x"), (1, "PING"), (1, "EXEC"), (1, "GET", "a"),
                          (1, "MULTI"), (1, "EXEC"), (1, "MULTI"), (1, "SET", "a", "9"), (1, "DISCARD"), (1, "GET", "a")],
                         protocol)

    def test_errors_before_and_within_a_transaction(self):
        self.compare([(1, "EXEC"), (1, "DISCARD"), (1, "MULTI"), (1, "MULTI"), (1, "WATCH", "a"), (1, "NOSUCH", "x"),
                      (1, "SET", "a", "1"), (1, "EXEC"), (1, "EXISTS", "a"), (1, "MULTI"), (1, "GET"), (1, "EXEC"),
                      (1, "MULTI", "x"), (1, "MULTI"), (1, "EXEC", "x"), (1, "EXEC"), (1, "WATCH"), (1, "UNWATCH"),
                      (1, "UNWATCH", "x"), (1, "PING"), (1, "MULTI"), (1, "INCR", "s"), (1, "DISCARD", "x"), (1, "EXEC")])

    def test_watch_sees_what_others_and_the_client_itself_write(self):
        self.compare([(1, "SET", "k", "1"), (1, "GET", "k"), (1, "GET", "k"), (1, "WATCH", "k"), (2, "SET", "k", "2"),
                      (1, "GET", "k"), (1, "MULTI"), (1, "SET", "k", "3"), (1, "EXEC"), (1, "GET", "k"),
                      (1, "WATCH", "k", "other"), (1, "GET", "k"), (1, "MULTI"), (1, "SET", "k", "4"), (1, "EXEC"),
                      (1, "GET", "k"), (1, "WATCH", "k"), (1, "SET", "k", "5"), (1, "MULTI"), (1, "GET", "k"), (1, "EXEC"),
                      (1, "WATCH", "k"), (1, "UNWATCH"), (2, "SET", "k", "6"), (1, "MULTI"), (1, "GET", "k"), (1, "EXEC"),
                      (1, "WATCH", "k"), (2, "SET", "k", "7"), (1, "MULTI"), (1, "DISCARD"), (1, "MULTI"), (1, "GET", "k"),
                      (1, "EXEC"), (1, "WATCH", "k"), (2, "DEL", "k"), (1, "MULTI"), (1, "EXEC"), (1, "EXISTS", "k")])

    def test_an_exec_fences_what_others_have_in_l1(self):
        self.compare([(2, "SET", "k", "1"), (2, "GET", "k"), (2, "GET", "k"), (1, "MULTI"), (1, "INCR", "k"), (2, "GET", "k"),
                      (1, "EXEC"), (2, "GET", "k"), (1, "MULTI"), (1, "FLUSHALL"), (1, "EXEC"), (2, "GET", "k"),
                      (1, "MULTI"), (1, "EVAL", "return redis.call('SET','k','s')", 0), (2, "GET", "k"), (1, "EXEC"),
                      (2, "GET", "k"), (1, "GET", "k")])

    def test_blocking_commands_that_find_something(self):
        for protocol in (2, 3):
            self.compare([(1, "RPUSH", "l", "a", "b", "c", "d", "e"), (2, "LRANGE", "l", 0, -1), (1, "BLPOP", "l", 1),
                          (2, "LRANGE", "l", 0, -1), (1, "BRPOP", "none", "l", 1), (1, "BLMOVE", "l", "m", "LEFT", "RIGHT", 1),
                          (2, "LRANGE", "m", 0, -1), (1, "BRPOPLPUSH", "l", "m", 1), (1, "BLMPOP", 1, 1, "m", "LEFT"),
                          (1, "ZADD", "z", 1, "x", 2, "y"), (1, "BZPOPMIN", "z", 1), (1, "BZPOPMAX", "z", 1),
                          (1, "BLPOP", "l", "nonsense"), (1, "BLPOP", "l", -1), (1, "BLPOP"), (1, "SET", "s", 1),
                          (1, "BLPOP", "s", 1), (1, "BLPOP", "none", 0.05), (1, "XADD", "x", "1-1", "f", "v"),
                          (1, "XREAD", "BLOCK", 50, "STREAMS", "x", "0"), (1, "XREAD", "BLOCK", 20, "STREAMS", "x", "$"),
                          (1, "MULTI"), (1, "BLPOP", "none", 0), (1, "EXEC")], protocol)

    def test_subscriber_mode_of_resp2(self):
        self.compare([(1, "SUBSCRIBE", "a"), (1, "PING"), (1, "PING", "x"), (1, "GET", "k"), (1, "SET", "k", 1),
                      (1, "CLIENT", "ID"), (1, "UNSUBSCRIBE", "a"), (1, "PING"), (1, "UNSUBSCRIBE"), (1, "PUNSUBSCRIBE", "x"),
                      (1, "SUNSUBSCRIBE"), (1, "PSUBSCRIBE", "p*"), (1, "SSUBSCRIBE", "sh"), (1, "UNSUBSCRIBE"),
                      (1, "PUNSUBSCRIBE"), (1, "GET", "k"), (1, "SUNSUBSCRIBE"), (1, "GET", "k"), (1, "SUBSCRIBE"),
                      (1, "SUBSCRIBE", "z"), (1, "RESET"), (1, "GET", "k")])

    def test_client_reply(self):
        for address in (self.both.sidecar.address, self.both.plain.address):
            data = b"".join(encode(*command) for command in [
                ("CLIENT", "REPLY", "SKIP"), ("SET", "r", "1"), ("GET", "r"), ("CLIENT", "REPLY", "OFF"), ("GET", "r"),
                ("INCR", "r"), ("NOSUCH",), ("CLIENT", "REPLY", "ON"), ("GET", "r"), ("CLIENT", "REPLY", "x"), ("QUIT",)])
            self.assertEqual(exchange(address, data, half_close=False),
                             b"$1\r\n1\r\n+OK\r\n$1\r\n2\r\n-ERR syntax error\r\n+OK\r\n", address)

    def test_client_reply_is_not_about_subscriptions(self):
        for address in (self.both.sidecar.address, self.both.plain.address):
            data = b"".join(encode(*command) for command in [
                ("CLIENT", "REPLY", "OFF"), ("GET", "r"), ("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c"), ("UNSUBSCRIBE", "d"),
                ("GET", "r"), ("CLIENT", "REPLY", "ON")])
            self.assertEqual(exchange(address, data + encode("QUIT"), half_close=False),
                             b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n"
                             b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nd\r\n:0\r\n+OK\r\n+OK\r\n", address)

    def test_pipelines_across_the_ways_keep_their_order(self):
        commands = [("SET", "p", "0"), ("GET", "p"), ("MULTI",), ("INCR", "p"), ("INCR", "p"), ("EXEC",), ("GET", "p"),
                    ("RPUSH", "q", "x"), ("BLPOP", "q", "1"), ("GET", "p"), ("WATCH", "p"), ("GET", "p"), ("SET", "p", "7"),
                    ("MULTI",), ("SET", "p", "8"), ("EXEC",), ("GET", "p"), ("WAIT", "0", "10"), ("QUIT",)]
        data = b"".join(encode(*command) for command in commands)
        for protocol in (b"", encode("HELLO", "3")):
            for address in (self.both.upstream.address, self.both.plain.address):
                with Client(address) as client:
                    client.call("FLUSHALL")
            answers = [exchange(address, protocol + data, half_close=False)
                       for address in (self.both.sidecar.address, self.both.plain.address)]
            answers = [answer[answer.find(b"modules"):] for answer in answers]
            self.assertEqual(answers[0], answers[1])

    def test_a_long_transaction_in_one_write(self):
        commands = [("MULTI",)] + [("SET", f"long:{i}", "v" * 100) for i in range(5000)] + [("EXEC",), ("QUIT",)]
        data = b"".join(encode(*command) for command in commands)
        answers = [exchange(address, data, half_close=False)
                   for address in (self.both.sidecar.address, self.both.plain.address)]
        self.assertEqual(answers[0], answers[1])

    def test_a_transaction_may_be_larger_than_what_a_client_may_leave_unread(self):
        large = "y" * 1_500_000  # limits.output_pause_bytes is 1 MB
        self.compare([(1, "MULTI"), (1, "SET", "q", large), (1, "APPEND", "q", large), (1, "STRLEN", "q"), (1, "EXEC"),
                      (1, "GET", "q"), (1, "MULTI"), (1, "SET", "q", large), (1, "DISCARD"), (1, "STRLEN", "q")])

    def test_a_transaction_over_the_limit_is_refused_and_costs_nothing_afterwards(self):
        with Sidecar(f"redis://{self.both.upstream.address}", {**POOL, "limits.output_bytes": "1MB"}) as sidecar:
            with sidecar.client() as client:
                for _ in range(3):
                    replies = client.pipeline([("MULTI",), *[("SET", "q", "y" * 100_000)] * 12, ("EXEC",), ("STRLEN", "q")])
                    self.assertEqual(replies[1:10], [b"QUEUED"] * 9)
                    self.assertEqual(str(replies[12]), "ERR nearcached: the transaction is larger than limits.output_bytes")
                    self.assertRegex(str(replies[13]), "^EXECABORT")
                self.assertEqual(client.pipeline([("MULTI",), ("SET", "q", "y" * 900_000), ("EXEC",)])[2], [b"OK"])

    def test_connections_are_given_back(self):
        sidecar = self.both.sidecar
        for _ in range(200):
            with sidecar.client() as client:
                client.call("MULTI")
                client.call("INCR", "given-back")
                client.call("EXEC")
                client.call("WATCH", "a")
        eventually(lambda: sidecar.metric("nearcached_pinned_connections", state="in_use") == 0, "all given back")
        self.assertLess(self.both.sidecar.metric("nearcached_pinned_connections", state="idle"), 20)


class PubSub(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.both = Both()

    @classmethod
    def tearDownClass(cls):
        cls.both.close()

    def test_messages_reach_subscribers(self):
        sidecar = self.both.sidecar
        for protocol in (2, 3):
            with sidecar.client(protocol=protocol) as subscriber, sidecar.client() as publisher:
                subscriber.send("SUBSCRIBE", "news", "other")
                subscriber.send("PSUBSCRIBE", "n*")
                if protocol == 2:
                    got = [subscriber.read() for _ in range(3)]
                    self.assertEqual(got, [[b"subscribe", b"news", 1], [b"subscribe", b"other", 2], [b"psubscribe", b"n*", 3]])
                else:
                    eventually(lambda: subscriber.call("PING") and len(subscriber.pushes) == 3, "three confirmations")
                self.assertEqual(publisher.call("PUBLISH", "news", "hello"), 2)
                if protocol == 2:
                    self.assertEqual([subscriber.read(), subscriber.read()],
                                     [[b"message", b"news", b"hello"], [b"pmessage", b"n*", b"news", b"hello"]])
                else:
                    self.assertEqual(subscriber.call("ECHO", "x"), b"x")
                    eventually(lambda: subscriber.call("PING") and len(subscriber.pushes) == 5, "five pushes")
                    self.assertEqual([list(push) for push in subscriber.pushes][3:],
                                     [[b"message", b"news", b"hello"], [b"pmessage", b"n*", b"news", b"hello"]])

    def test_a_resp3_subscriber_reads_on_from_l1(self):
        with self.both.sidecar.client(protocol=3) as client:
            client.send("SUBSCRIBE", "c")
            client.call("SET", "hot", "1")
            client.call("GET", "hot")
            before = self.both.sidecar.hits
            client.call("GET", "hot")
            self.assertGreater(self.both.sidecar.hits, before)

    def test_long_names_of_channels_do_not_stop_their_client(self):
        names = [f"{i}:" + "n" * 100_000 for i in range(15)]
        with self.both.sidecar.client(protocol=3, timeout=PATIENCE_S) as client:
            for name in names:
                client.send("SUBSCRIBE", name)
                client.read_push()
            self.assertEqual(client.call("SET", "goes-on", "1"), b"OK")

    def test_a_slow_subscriber_is_closed_and_others_are_not(self):
        sidecar = self.both.sidecar
        with sidecar.client() as slow, sidecar.client() as healthy:
            slow.call("SUBSCRIBE", "flood")
            healthy.call("SUBSCRIBE", "calm")
            with Client(self.both.upstream.address, timeout=PATIENCE_S) as publisher:
                for _ in range(400):
                    publisher.call("PUBLISH", "flood", "x" * 1_000_000)
                    if sidecar.metric("nearcached_clients_closed_total", reason="output") > 0:
                        break
                publisher.call("PUBLISH", "calm", "still here")
            self.assertEqual(healthy.read(), [b"message", b"calm", b"still here"])

    def test_a_lost_upstream_closes_the_subscriber(self):
        server = RedisServer()
        sidecar = Sidecar(f"redis://{server.address}")
        try:
            client = sidecar.client()
            client.call("SUBSCRIBE", "c")
            server.kill()
            with self.assertRaises(OSError):
                client.read()
        finally:
            sidecar.stop()
            server.stop()


class Blocking(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.both = Both()

    @classmethod
    def tearDownClass(cls):
        cls.both.close()

    def test_a_client_that_goes_takes_nothing_along(self):
        sidecar = self.both.sidecar
        with Client(self.both.upstream.address) as direct:
            for half_close in (False, True):
                client = sidecar.client()
                client.send("BLPOP", "gone", 0)
                client.send("PING")  # what it sent behind is not read yet
                eventually(lambda: b"flags=b" in direct.call("CLIENT", "LIST"), "blocked upstream")
                if half_close:
                    client.sock.shutdown(socket.SHUT_WR)
                else:
                    client.close()
                eventually(lambda: b"flags=b" not in direct.call("CLIENT", "LIST"), "unblocked upstream")
                client.close()
            direct.call("RPUSH", "gone", "kept")
            self.assertEqual(direct.call("LPOP", "gone"), b"kept")

    def test_a_client_that_goes_is_noticed_behind_all_that_it_sent(self):
        """More than sockets hold, so that its end can't be seen without reading what stands before it."""
        behind = encode("SET", "behind", "y" * 1000) * 8000
        with Client(self.both.upstream.address) as direct:
            client = self.both.sidecar.client()
            client.raw(encode("BLPOP", "gone", 0) + behind)
            eventually(lambda: b"flags=b" in direct.call("CLIENT", "LIST"), "blocked upstream")
            client.close()
            eventually(lambda: b"flags=b" not in direct.call("CLIENT", "LIST"), "unblocked upstream")
            direct.call("RPUSH", "gone", "kept")
            self.assertEqual(direct.call("LPOP", "gone"), b"kept")
            self.assertIsNone(direct.call("GET", "behind"))
            with self.both.sidecar.client(timeout=PATIENCE_S) as client:
                client.raw(encode("BLPOP", "here", 0) + behind + encode("ECHO", "the end"))
                direct.call("RPUSH", "here", "x")
                self.assertEqual(client.read(), [b"here", b"x"])
                self.assertEqual([client.read() for _ in range(8001)], [b"OK"] * 8000 + [b"the end"])
            direct.call("DEL", "behind")

    def test_who_pipelines_without_end_behind_a_blocking_command_is_closed(self):
        with Sidecar(f"redis://{self.both.upstream.address}", {**POOL, "limits.output_bytes": "1MB"}) as sidecar:
            client = sidecar.client(timeout=PATIENCE_S)
            with self.assertRaises(OSError):
                client.raw(encode("BLPOP", "gone", 0) + encode("SET", "behind", "y" * 1000) * 20_000)
                client.read()
            client.close()
            eventually(lambda: "pipelines too much behind a command that blocks" in "\n".join(sidecar.log), "the reason")
            with Client(self.both.upstream.address) as direct:
                eventually(lambda: b"flags=b" not in direct.call("CLIENT", "LIST"), "unblocked upstream")

    def test_a_consumer_is_woken_and_reads_what_its_producer_wrote(self):
        sidecar = self.both.sidecar
        for i in range(50):
            with sidecar.client() as consumer, sidecar.client() as producer:
                producer.call("SET", "job", "old")
                producer.call("GET", "job")
                consumer.send("BLPOP", "jobs", 5)
                producer.call("SET", "job", f"new {i}")
                producer.call("RPUSH", "jobs", i)
                self.assertEqual(consumer.read(), [b"jobs", str(i).encode()])
                self.assertEqual(consumer.call("GET", "job"), f"new {i}".encode())

    def test_the_limit_has_a_name_and_ends(self):
        sidecar = self.both.sidecar
        clients = [sidecar.client() for _ in range(100)]
        try:
            for client in clients:
                client.send("BLPOP", "never", 2)
            errors = 0
            for client in clients:
                reply = client.read()
                if reply is not None:
                    self.assertIn("upstream.pinned_pool.max", str(reply))
                    errors += 1
            self.assertEqual(errors, 60)
            clients[-1].call("PING")
            self.assertLessEqual(sidecar.metric("nearcached_pinned_connections"), 40)
        finally:
            for client in clients:
                client.close()

    def test_a_thousand_subscribers_and_a_thousand_blockers_cost_bounded_connections(self):
        sidecar = self.both.sidecar
        with Client(self.both.upstream.address) as direct:
            def upstream_clients():
                return int(direct.call("INFO", "clients").split(b"connected_clients:")[1].split()[0])
            before = upstream_clients()
            clients = [sidecar.client() for _ in range(2000)]
            try:
                for i, client in enumerate(clients):
                    if i % 2:
                        client.send("SUBSCRIBE", f"crowd {i}")
                    else:
                        client.send("BLPOP", f"crowd {i}", 0)
                served = sum(self.limit_not_met(client) for client in clients[1::2])
                eventually(lambda: sidecar.metric("nearcached_pinned_waiting") == 0, "all are served or refused")
                self.assertLessEqual(upstream_clients() - before, 40)
                self.assertLess(served, 41)
                self.assertEqual(sidecar.metric("nearcached_pinned_connections", state="in_use"), 40)
                with sidecar.client() as busy:
                    self.assertEqual(busy.call("SET", "unhindered", "1"), b"OK")
            finally:
                for client in clients:
                    client.close()
        eventually(lambda: sidecar.metric("nearcached_pinned_connections", state="in_use") == 0, "given up")

    def limit_not_met(self, subscriber):
        reply = subscriber.read()
        if isinstance(reply, ReplyError):
            self.assertIn("upstream.pinned_pool.max", str(reply))
            return False
        self.assertEqual(reply[0], b"subscribe")
        return True

    def test_others_are_served_while_many_block(self):
        sidecar = self.both.sidecar
        clients = [sidecar.client() for _ in range(30)]
        for client in clients:
            client.send("BLPOP", "never", 0)
        with sidecar.client() as busy:
            for i in range(100):
                self.assertEqual(busy.call("INCR", "busy"), i + 1)
        for client in clients:
            client.close()
        eventually(lambda: sidecar.metric("nearcached_pinned_connections", state="in_use") == 0, "given up")


class AcrossCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(primaries=3)
        cls.sidecar = Sidecar(cls.cluster.url, POOL)
        cls.sidecar.wait_caching(links=3)

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.stop()
        cls.cluster.close()

    def test_a_transaction_has_one_slot(self):
        a, b, _ = keys_of_distinct_nodes(self.cluster, "tx")
        with self.sidecar.client() as client:
            for key in (a, b):
                client.call("MULTI")
                self.assertEqual(client.call("PING"), b"QUEUED")
                self.assertEqual(client.call("SET", key, "1"), b"QUEUED")
                self.assertEqual(client.call("INCR", key), b"QUEUED")
                self.assertEqual(client.call("EXEC"), [b"PONG", b"OK", 2])
            client.call("MULTI")
            client.call("SET", a, "9")
            with self.assertRaisesRegex(ReplyError, "^CROSSSLOT"):
                client.call("SET", b, "9")
            with self.assertRaisesRegex(ReplyError, "^EXECABORT"):
                client.call("EXEC")
            self.assertEqual(client.call("MGET", a, b), [b"2", b"2"])
            client.call("WATCH", a)
            with self.assertRaisesRegex(ReplyError, "^CROSSSLOT"):
                client.call("WATCH", b)

    def test_a_transaction_follows_its_slot(self):
        key = keys_of_distinct_nodes(self.cluster, "follow")[0]
        with self.sidecar.client() as client, self.sidecar.client() as watching:
            client.call("SET", key, "1")
            client.call("MULTI")
            client.call("INCR", key)
            watching.call("WATCH", key)
            self.move(key)
            self.assertEqual(client.call("INCR", key), b"QUEUED")
            self.assertEqual(client.call("EXEC"), [2, 3])
            watching.call("MULTI")
            watching.call("SET", key, "lost update")
            self.assertIsNone(watching.call("EXEC"))
            self.assertEqual(client.call("GET", key), b"3")

    def move(self, key):
        slot = key_slot(key)
        owner = next(node for node, first, last in self.cluster.slot_ranges() if first <= slot <= last)
        target = next(node for node in self.cluster.primaries() if node.port != owner.port)
        with Client(owner.address) as source, Client(target.address) as sink:
            source_id, sink_id = source.call("CLUSTER", "MYID"), sink.call("CLUSTER", "MYID")
            sink.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", sink_id)
            keys = source.call("CLUSTER", "GETKEYSINSLOT", slot, 100)
            if keys:
                source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            sink.call("CLUSTER", "SETSLOT", slot, "NODE", sink_id)
            source.call("CLUSTER", "SETSLOT", slot, "NODE", sink_id)

    def test_blocking_follows_its_slot(self):
        key = keys_of_distinct_nodes(self.cluster, "block")[1]
        with self.sidecar.client() as client, self.sidecar.client() as other:
            client.send("BLPOP", key, 10)
            time.sleep(0.3)
            self.move(key)
            time.sleep(0.3)
            other.call("RPUSH", key, "found")
            self.assertEqual(client.read(), [key.encode(), b"found"])

    def test_channels_of_the_whole_cluster_and_of_shards(self):
        channels = keys_of_distinct_nodes(self.cluster, "shard")
        with self.sidecar.client() as subscriber, self.sidecar.client() as publisher:
            subscriber.call("SUBSCRIBE", "everywhere")
            for i, channel in enumerate(channels):
                self.assertEqual(subscriber.call("SSUBSCRIBE", channel), [b"ssubscribe", channel.encode(), i + 1])
            publisher.call("PUBLISH", "everywhere", "m")
            self.assertEqual(subscriber.read(), [b"message", b"everywhere", b"m"])
            for channel in channels:
                self.assertEqual(publisher.call("SPUBLISH", channel, "s"), 1)
                self.assertEqual(subscriber.read(), [b"smessage", channel.encode(), b"s"])
            for i, channel in enumerate(channels):
                self.assertEqual(subscriber.call("SUNSUBSCRIBE", channel), [b"sunsubscribe", channel.encode(), 2 - i])
            self.assertEqual(subscriber.call("UNSUBSCRIBE"), [b"unsubscribe", b"everywhere", 0])
            self.assertIsNone(subscriber.call("GET", "nothing"))


class Wait(unittest.TestCase):
    def test_it_counts_for_this_clients_writes_on_every_node(self):
        cluster = Cluster(primaries=3, replicas=1)
        sidecar = Sidecar(cluster.url, POOL)
        try:
            sidecar.wait_caching(links=3)
            with sidecar.client() as client:
                self.assertEqual(client.call("WAIT", 0, 100), 1)
                for key in keys_of_distinct_nodes(cluster, "wait"):
                    client.call("SET", key, "1")
                self.assertEqual(client.call("WAIT", 1, 5000), 1)
                started = time.monotonic()
                self.assertEqual(client.call("WAIT", 2, 300), 1)
                self.assertGreater(time.monotonic() - started, 0.25)
                with self.assertRaises(ReplyError):
                    client.call("WAIT", "x", 1)
        finally:
            sidecar.stop()
            cluster.close()


if __name__ == "__main__":
    unittest.main()
