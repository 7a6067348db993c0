#!/usr/bin/env python3
"""The consistency levels of namespaces, before real servers, also stopped, killed and slow ones. Each case says which lie it
would find.

A proxy between sidecar and server can hold back what a connection that tracks is told, and nothing else: what follows is
what a slow or cut path of invalidations does.
"""

import re
import signal
import socket
import statistics
import threading
import time
import unittest

from system import PATIENCE_S, SLOWNESS, Cluster, RedisServer, ReplyError, Sidecar, eventually, free_port, main

NAMESPACES = """
coherence: { max_staleness: 1s, consistency: bounded, audit_one_in: 0 }  # audits are reads as well
upstream: { command_timeout: 500ms, connect_timeout: 300ms }
namespaces:
  - { prefix: "lock:", consistency: strict }
  - { prefix: "job:", consistency: causal }
  - { prefix: "price:", max_staleness: 250ms }
  - { prefix: "short:", l1_ttl: 150ms }
  - { prefix: "cat:", consistency: stale_ok, max_stale: 4s }
  - { prefix: "cat:now:", consistency: bounded }
  - { prefix: "lasting:", consistency: stale_ok, max_stale: 1h }
"""
COMMAND_TIMEOUT_S = 0.5
DELAY_S = 0.004            # of the path of invalidations, where it is slow
ROUNDS = 2400              # of the queue


class Proxy:
    """One listening port before one server; every connection is pumped by two threads.

    A connection on which CLIENT TRACKING was asked for is a fill connection; what the server says on it is held for
    `delay_s`, or altogether while `held` is set. Everything else passes at once.
    """

    def __init__(self, target_port):
        self.target_port = target_port
        self.port = free_port()
        self.delay_s = 0.0
        self.held = threading.Event()
        self.fill_connections = 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.held.clear()
        self._listener.close()
        for one in list(self._sockets):
            one.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                return
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(one)
            tracks = threading.Event()
            threading.Thread(target=self._upwards, args=(near, far, tracks), daemon=True).start()
            threading.Thread(target=self._downwards, args=(far, near, tracks), daemon=True).start()

    def _upwards(self, near, far, tracks):
        self._pump(near, far, lambda chunk: self._recognise(chunk, tracks))

    def _downwards(self, far, near, tracks):
        self._pump(far, near, lambda _chunk: self._hold(tracks))

    def _recognise(self, chunk, tracks):
        if not tracks.is_set() and b"TRACKING" in chunk.upper():
            self.fill_connections += 1
            tracks.set()

    def _hold(self, tracks):
        if tracks.is_set():
            if self.delay_s:
                time.sleep(self.delay_s)
            while self.held.is_set():
                time.sleep(0.001)

    @staticmethod
    def _pump(source, sink, before):
        try:
            while chunk := source.recv(1 << 16):
                before(chunk)
                sink.sendall(chunk)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class ProxiedCluster(Cluster):
    """Each node announces a proxy's port; sidecars and clients learn no other."""

    def __init__(self, **options):
        self.proxies = []
        super().__init__(**options)

    def _make_node(self, args=(), **options):
        node = RedisServer(args=args, start=False, **options)
        proxy = Proxy(node.port)
        self.proxies.append(proxy)
        node.public_port = proxy.port
        node.args += ["--cluster-announce-port", str(proxy.port), "--cluster-announce-bus-port", str(node.port + 10_000)]
        return node.start()

    def close(self):
        for proxy in self.proxies:
            proxy.close()
        super().close()


def sidecar_with_namespaces(url, settings=None):
    one = Sidecar(url, settings, start=False)
    path = one.directory / "namespaces.yaml"
    path.write_text(NAMESPACES)
    one.args = ["--config", str(path)]
    return one.start()


def value_or_error(client, *command):
    """The reply, or the error as a value: in an outage both are answers."""
    try:
        return client.call(*command)
    except ReplyError as error:
        return error


class Case(unittest.TestCase):
    """A server of its own behind a proxy, a sidecar with namespaces behind that."""

    THREADS = 2

    def setUp(self):
        self.server = RedisServer()
        self.addCleanup(self.server.close)
        self.proxy = Proxy(self.server.port)
        self.addCleanup(self.proxy.close)
        self.sidecar = sidecar_with_namespaces(f"redis://127.0.0.1:{self.url_port()}", {"threads": self.THREADS})
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching()
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)

    def url_port(self):
        return self.server.port

    def cache(self, *keys, value="old"):
        for key in keys:
            self.server.call("SET", key, value)
        for key in keys:
            eventually(lambda key=key: self.client.call("GET", key) == value.encode(), "the value to arrive")
        self.client.pipeline([("GET", key) for key in keys])

    def gets_upstream(self):
        return int(self.server.info("commandstats").get("cmdstat_get", "calls=0,").split("calls=")[1].split(",")[0])


class Strict(Case):
    def test_every_read_goes_upstream_and_is_counted(self):
        self.client.call("SET", "lock:a", "v")
        hits, gets = self.sidecar.hits, self.gets_upstream()
        misses = self.sidecar.metric("nearcached_l1_misses_total", reason="strict")
        self.assertEqual(self.client.pipeline([("GET", "lock:a")] * 100), [b"v"] * 100)
        for request, expected in ((("STRLEN", "lock:a"), 1), (("GET", "lock:none"), None), (("HGET", "lock:none", "a"),
                                                                                            None)):
            self.assertEqual(self.client.pipeline([request] * 10), [expected] * 10)
        self.assertEqual(self.sidecar.hits, hits)
        self.assertGreaterEqual(self.gets_upstream() - gets, 110)
        self.assertEqual(self.sidecar.metric("nearcached_l1_misses_total", reason="strict") - misses, 130)

    def test_the_very_next_read_after_a_foreign_write_is_new(self):
        with self.server.client() as direct:
            for i in range(500):
                direct.call("SET", "lock:b", i)
                self.assertEqual(self.client.call("GET", "lock:b"), b"%d" % i)
                direct.call("HSET", "lock:h", "f", i)
                self.assertEqual(self.client.call("HMGET", "lock:h", "f", "none"), [b"%d" % i, None])

    def test_mget_and_exists_over_strict_and_other_keys(self):
        self.cache("plain:a", value="p")
        with self.server.client() as direct:
            for i in range(200):
                direct.call("SET", "lock:c", i)
                self.assertEqual(self.client.call("MGET", "plain:a", "lock:c", "none"), [b"p", b"%d" % i, None])

    def test_the_prefix_is_compared_exactly(self):
        self.cache("lock", "lockx", "Lock:a", "xlock:a")
        hits = self.sidecar.hits
        self.client.pipeline([("GET", key) for key in ("lock", "lockx", "Lock:a", "xlock:a")])
        self.assertEqual(self.sidecar.hits - hits, 4)


class Bounded(Case):
    def url_port(self):
        return self.proxy.port

    def oldest_old(self, key):
        """How long after a foreign write a read that began then was told the old value, with no invalidation coming."""
        self.cache(key)
        self.proxy.held.set()
        try:
            self.server.call("SET", key, "new")
            written = time.monotonic()
            oldest, news = 0.0, 0
            with self.sidecar.client() as client:
                while time.monotonic() < written + 2.0:
                    asked = time.monotonic()
                    told = value_or_error(client, "GET", key)
                    if told == b"old":
                        oldest = asked - written
                    else:
                        news += 1
                        time.sleep(0.01)
            self.assertGreater(news, 0)
            return oldest
        finally:
            self.proxy.held.clear()

    def test_each_namespace_has_its_own_bound_when_the_invalidations_are_cut(self):
        for _ in range(2):
            oldest = self.oldest_old("price:a")
            self.assertLessEqual(oldest, 0.25 + 0.01, "price: has 250 ms")
            self.assertGreater(oldest, 0.02, "nothing was cut, so that nothing is tested")
            eventually(lambda: self.client.call("GET", "price:a") == b"new", "the path to be open again")
        oldest = self.oldest_old("plain:a")
        self.assertLessEqual(oldest, 1.0 + 0.01)
        self.assertGreater(oldest, 0.3, "the bound of price: holds for all: nothing is told apart")

    def test_an_l1_ttl_of_its_own(self):
        self.cache("short:a", "plain:b")
        time.sleep(0.2)
        fills, hits = self.sidecar.metric("nearcached_fills_started_total"), self.sidecar.hits
        self.assertEqual(self.client.pipeline([("GET", "short:a"), ("GET", "plain:b")]), [b"old"] * 2)
        self.assertEqual(self.sidecar.metric("nearcached_fills_started_total") - fills, 1)
        self.assertEqual(self.sidecar.hits - hits, 1)


class Outage(Case):
    """What is told while the server can't answer, and when it can again."""

    KEYS = ["cat:0", "cat:1", "lasting:0", "cat:now:0", "plain:0", "price:0"]

    def setUp(self):
        super().setUp()
        self.cache(*self.KEYS)

    def stop(self):
        self.server.signal(signal.SIGSTOP)
        self.addCleanup(self.resume)

    def resume(self):
        if self.server.alive:
            self.server.signal(signal.SIGCONT)

    def outage(self, begin, seconds):
        """[(asked after, key, reply)] for as long as it lasts, each key read by a client of its own."""
        told = []
        clients = {key: self.sidecar.client() for key in self.KEYS}
        begin()
        begun = time.monotonic()

        def read(key):
            while (asked := time.monotonic()) < begun + seconds:
                reply = value_or_error(clients[key], "GET", key)
                told.append((asked - begun, time.monotonic() - asked, key, reply))
                time.sleep(0.005)
        threads = [threading.Thread(target=read, args=(key,)) for key in self.KEYS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients.values():
            client.close()
        return told

    def judge(self, told, max_stale_s=4.0):
        served_until = {}
        for asked, took, key, reply in told:
            if reply == b"old":
                served_until[key] = asked
            else:
                self.assertIsInstance(reply, ReplyError, (key, reply))
            self.assertLess(took, PATIENCE_S, f"{key}, asked after {asked:.2f} s")
        # Medians: how long a single read takes is the machine's affair as well.
        for keys, limit in ((("lasting:0",), 0.1), (("cat:now:0", "plain:0", "price:0"), COMMAND_TIMEOUT_S + 0.35)):
            waits = [took for asked, took, key, _reply in told if key in keys and asked > 1.0]
            self.assertLess(statistics.median(waits), limit * SLOWNESS, keys)
        for key, bound in (("cat:now:0", 1.0), ("plain:0", 1.0), ("price:0", 0.25)):
            self.assertLessEqual(served_until.get(key, 0), bound + 0.02, f"{key} is bounded")
        for key in ("cat:0", "cat:1"):
            self.assertLessEqual(served_until[key], max_stale_s + 0.02, f"{key}: past max_stale")
            self.assertGreater(served_until[key], max_stale_s - 1.2, f"{key}: given up before max_stale")
        self.assertTrue(all(reply == b"old" for _a, _t, key, reply in told if key == "lasting:0"))

    def test_a_stopped_server(self):
        stale = self.sidecar.metric("nearcached_l1_stale_hits_total")
        self.judge(self.outage(self.stop, 5.5))
        self.assertGreater(self.sidecar.metric("nearcached_l1_stale_hits_total"), stale + 100)
        self.resume()
        self.server.call("MSET", *[word for key in self.KEYS for word in (key, "new")])
        written = time.monotonic()
        while (asked := time.monotonic()) < written + 3:
            got = [value_or_error(self.client, "GET", key) for key in self.KEYS]
            if asked > written + 2:
                self.assertEqual(got, [b"new"] * len(self.KEYS))

    def test_a_killed_server(self):
        self.judge(self.outage(self.server.kill, 5.5))
        self.server.start()
        eventually(lambda: [value_or_error(self.client, "GET", key) for key in self.KEYS] == [None] * len(self.KEYS),
                   "the loss to be seen")
        self.sidecar.wait_caching()
        self.assertEqual(self.client.pipeline([("GET", key) for key in self.KEYS]), [None] * len(self.KEYS))

    def test_what_is_told_never_goes_back_to_the_time_before_the_outage(self):
        for _ in range(3):
            self.cache(*self.KEYS)
            self.server.kill()
            time.sleep(0.3)
            self.server.start()
            self.server.call("MSET", *[word for key in self.KEYS for word in (key, "new")])
            written, renewed = time.monotonic(), set()
            while time.monotonic() < written + 2.5:
                for key in self.KEYS:
                    asked = time.monotonic() - written
                    told = value_or_error(self.client, "GET", key)
                    if told == b"new":
                        renewed.add(key)
                    else:
                        self.assertNotIn(key, renewed, f"{told} after it had been new")
                        self.assertLess(asked, 2.0, f"{key}: {told}")
            self.assertEqual(renewed, set(self.KEYS))

    def test_stale_answers_are_never_what_was_invalidated_written_flushed_or_expired(self):
        known = {"lasting:invalidated": "SET", "lasting:deleted": "DEL", "lasting:own": "OWN", "lasting:expiring": "PX"}
        self.cache(*known, "lasting:kept")
        self.server.call("PEXPIRE", "lasting:expiring", 700)
        eventually(lambda: self.client.call("PEXPIRETIME", "lasting:expiring") > 0, "the deadline to arrive")
        self.assertEqual(self.client.pipeline([("GET", "lasting:expiring")] * 2), [b"old"] * 2)
        self.server.call("SET", "lasting:invalidated", "new")
        self.server.call("DEL", "lasting:deleted")
        self.client.call("SET", "lasting:own", "new")
        time.sleep(0.2 * SLOWNESS)
        self.stop()
        time.sleep(1.2)
        self.assertEqual(value_or_error(self.client, "GET", "lasting:kept"), b"old")
        for key in known:
            for _ in range(2):
                self.assertIsInstance(value_or_error(self.client, "GET", key), ReplyError, key)
        self.assertEqual(value_or_error(self.client, "MGET", "lasting:kept", "lasting:kept"), [b"old"] * 2)
        self.assertIsInstance(value_or_error(self.client, "MGET", "lasting:kept", "lasting:own"), ReplyError)

    def test_a_write_that_failed_in_the_outage_takes_the_stale_value_with_it(self):
        self.cache("lasting:w", "lasting:d", "lasting:m")
        self.stop()
        time.sleep(1.2)
        self.assertEqual(self.client.pipeline([("GET", key) for key in ("lasting:w", "lasting:d", "lasting:m")]),
                         [b"old"] * 3)
        for command, key in ((("SET", "lasting:w", "new"), "lasting:w"), (("DEL", "lasting:d"), "lasting:d"),
                             (("MSET", "lasting:m", "new", "other", 1), "lasting:m")):
            self.assertIsInstance(value_or_error(self.client, *command), ReplyError)
            for _ in range(2):
                self.assertIsInstance(value_or_error(self.client, "GET", key), ReplyError, key)
        self.assertEqual(self.client.call("GET", "lasting:0"), b"old")
        self.resume()
        eventually(lambda: value_or_error(self.client, "GET", "lasting:w") == b"new", "the write that did land")

    def test_flushall_before_the_outage_leaves_nothing(self):
        self.server.call("FLUSHALL")
        time.sleep(0.2 * SLOWNESS)
        self.server.kill()
        for key in self.KEYS:
            self.assertIsInstance(value_or_error(self.client, "GET", key), ReplyError, key)

    def test_absent_keys_are_stale_as_well(self):
        self.assertEqual(self.client.pipeline([("GET", "lasting:none"), ("HGETALL", "lasting:none")] * 2), [None, []] * 2)
        self.stop()
        time.sleep(1.2)
        self.assertEqual(self.client.pipeline([("GET", "lasting:none"), ("HGETALL", "lasting:none")]), [None, []])


class Reachable(Case):
    """A node that answers everybody is no outage, although it can't be proven: there is nothing to be stale for."""

    MAY = ("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all")

    def renewed_within(self, seconds, refusal=None):
        """The server has new values; every read goes on, and from then on none may be old. Its `refusal` is an answer too."""
        keys = ["lasting:r", "cat:r", "plain:r"]
        self.server.call("MSET", *[word for key in keys for word in (key, "new")])
        written = time.monotonic()
        while (asked := time.monotonic()) < written + seconds + 1.0:
            for key in keys:
                told = value_or_error(self.client, "GET", key)
                if refusal and isinstance(told, ReplyError) and refusal in str(told):
                    continue
                if asked > written + seconds:
                    self.assertEqual(told, b"new",
                                     f"{key}, {asked - written:.1f} s after it was written, of a server that answers")

    def kill_fill_connections(self, direct):
        for line in direct.call("CLIENT", "LIST").decode().splitlines():
            if "t" in re.search(r"\bflags=(\w+)", line)[1]:
                direct.call("CLIENT", "KILL", "ID", re.search(r"\bid=(\d+)", line)[1])

    def test_tracking_is_no_longer_allowed(self):
        self.server.call(*self.MAY)
        self.sidecar.close()
        self.sidecar = sidecar_with_namespaces(f"redis://blind:pw@{self.server.address}", {"coherence.mode": "tracking"})
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching()
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)
        self.cache("lasting:r", "cat:r", "plain:r")
        self.server.call(*self.MAY, "-client|tracking")
        with self.server.client() as direct:
            self.kill_fill_connections(direct)
        self.renewed_within(1.0)

    def test_no_connection_more_is_taken(self):
        self.cache("lasting:r", "cat:r", "plain:r")
        with self.server.client() as direct:
            others = len(direct.call("CLIENT", "LIST").splitlines()) - 1
            direct.call("CONFIG", "SET", "maxclients", others)
            self.kill_fill_connections(direct)
            self.server.call = direct.call  # a connection of its own would not be taken either
            self.renewed_within(2.5, "max number of clients")


class Return(Case):
    """After an outage every hot key is read once, however many ask for it."""

    THREADS = 1
    CLIENTS = 50
    HOT = [f"{prefix}:hot:{i}" for prefix in ("plain", "lasting") for i in range(15)]

    def ask_all(self, clients, index):
        for i, client in enumerate(clients):
            client.send("GET", self.HOT[(index + i % 3) % len(self.HOT)])
        return [client.read() for client in clients]

    def hammered(self, outage):
        """GETs that the server executed since it is back, with all hot keys asked for all the time."""
        self.cache(*self.HOT)
        clients = [self.sidecar.client() for _ in range(self.CLIENTS)]
        self.addCleanup(lambda: [client.close() for client in clients])
        ended = threading.Event()
        good = []

        def ask(some, offset):
            index = offset
            while not ended.is_set():
                index += 1
                good.append((time.monotonic(), [reply for reply in self.ask_all(some, index) if reply == b"old"]))
        threads = [threading.Thread(target=ask, args=(clients[i::5], i * 7)) for i in range(5)]
        for thread in threads:
            thread.start()
        try:
            gets = outage()
            back = time.monotonic()
            eventually(lambda: any(when > back and len(found) == 10 for when, found in list(good)), "answers again")
            time.sleep(2.0)
            return self.gets_upstream() - gets
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def test_after_a_restart(self):
        def outage():
            self.server.call("SAVE")  # the values are there again after the restart
            self.server.kill()
            time.sleep(1.5)
            self.server.start()
            return 0
        self.assertLessEqual(self.hammered(outage), self.THREADS * len(self.HOT))

    def test_after_a_stop(self):
        def outage():
            gets = self.gets_upstream()
            self.stop_for(2.0)
            return gets
        # What was on its way when the server stopped is executed as well.
        self.assertLessEqual(self.hammered(outage), self.THREADS * len(self.HOT) + self.CLIENTS)

    def stop_for(self, seconds):
        self.server.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.server.signal(signal.SIGCONT)


class ReturnToTwoWorkers(Return):
    """A miss on its way from one worker to another may find that the answer it could have joined was just given."""

    THREADS = 2


class Queue(unittest.TestCase):
    """A consumer that a message woke up reads what the producer wrote before it, while invalidations come slowly."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = ProxiedCluster(primaries=3)
        patient = {"upstream.command_timeout": "10s"}  # dozens of threads pump the proxies' bytes
        cls.ours, cls.theirs = (sidecar_with_namespaces(cls.cluster.url, patient) for _ in range(2))
        for one in (cls.ours, cls.theirs):
            one.wait_caching(links=3)
        for proxy in cls.cluster.proxies:
            assert proxy.fill_connections >= 2
            proxy.delay_s = DELAY_S

    @classmethod
    def tearDownClass(cls):
        for one in (cls.ours, cls.theirs, cls.cluster):
            one.close()

    def rounds(self, prefix, produce, consume, reads, count):
        """How often the consumer read the old value after it had the message. Several queues at a time."""
        old, done = [], []

        def run(name):
            owner = {}
            with self.ours.client(protocol=2 + name % 2) as consumer:
                with produce() as producer:
                    for i in range(count):
                        key, queue = f"{prefix}{name}:{i % 5}", f"queue:{name}:{i % 2}"
                        for _ in range(2):
                            consumer.call(*[key if word == "K" else word for word in reads])  # in L1
                        producer.call("HSET", key, "f", i)
                        producer.call("LPUSH", queue, i)
                        message = self.popped(consume, consumer, queue)
                        got = consumer.call(*[key if word == "K" else word for word in reads])
                        if got not in (message, [message]):
                            old.append((key, message, got))
                        owner[key] = got
                        done.append(i)
        threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(done), 4 * count)
        return old

    @staticmethod
    def popped(consume, consumer, queue):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if (message := consumer.call(consume, queue)) is not None:
                return message
        raise AssertionError("the message did not arrive")

    def straight(self):
        return Straight(self.cluster)

    def test_causal_with_a_producer_at_the_cluster_itself(self):
        self.assertEqual(self.rounds("job:a", self.straight, "RPOP", ("HGET", "K", "f"), ROUNDS // 8), [])

    def test_causal_with_a_producer_at_another_sidecar(self):
        self.assertEqual(self.rounds("job:b", self.theirs.client, "RPOP", ("HMGET", "K", "f"), ROUNDS // 8), [])

    def test_bounded_would_not_do(self):
        """The proof that the test can fail: the slow path is slow, and only the level keeps the order."""
        self.assertNotEqual(self.rounds("plain:", self.straight, "RPOP", ("HGET", "K", "f"), 25), [])

    def test_a_causal_key_is_a_hit_while_nothing_else_is_heard(self):
        with self.ours.client() as client:
            client.call("SET", "job:hit", 1)
            client.pipeline([("GET", "job:hit")] * 3)
            eventually(lambda: self.hits_of(client, 100) >= 95, "hits")

    def test_causal_after_replies_in_parts(self):
        """MGET over slots, EXISTS over slots: the client hears as much as of a plain GET."""
        late = {}
        with self.ours.client() as client:
            for words in ("MGET lock:1 lock:2 lock:3", "EXISTS lock:1 lock:2 lock:3", "DBSIZE", "GET lock:1"):
                late[words] = 0
                for i in range(40):
                    self.cluster.call("SET", "job:parts", f"old {i}")
                    eventually(lambda i=i: client.call("GET", "job:parts") == b"old %d" % i, "the push")
                    client.call("GET", "job:parts")
                    self.cluster.call("SET", "job:parts", f"new {i}")
                    client.call(*words.split())
                    late[words] += client.call("GET", "job:parts") != b"new %d" % i
        self.assertEqual(set(late.values()), {0}, late)

    def hits_of(self, client, count):
        before = self.ours.hits
        for _ in range(count):
            client.call("GET", "job:hit")
        return self.ours.hits - before


class KeysNotNamed(Case):
    """What a command tells or changes without naming the key, while invalidations come slowly."""

    SLOW_S = 0.03

    def url_port(self):
        return self.proxy.port

    def setUp(self):
        super().setUp()
        self.proxy.delay_s = self.SLOW_S

    def kept(self, key, value):
        self.server.call("SET", key, value) if value is not None else self.server.call("DEL", key)
        expected = None if value is None else value.encode()
        eventually(lambda: self.client.call("GET", key) == expected, "the value to arrive")
        self.client.pipeline([("GET", key)] * 2)

    def test_what_a_script_without_keys_has_told_is_not_taken_back(self):
        for i in range(10):
            self.kept("k", f"old {i}")
            self.server.call("SET", "k", f"new {i}")
            self.assertEqual(self.client.call("EVAL_RO", "return redis.call('GET', 'k')", 0), b"new %d" % i)
            self.assertEqual(self.client.call("GET", "k"), b"new %d" % i)

    def test_nor_in_the_same_pipeline(self):
        for i in range(10):
            self.kept("k", f"old {i}")
            self.server.call("SET", "k", f"new {i}")
            self.assertEqual(self.client.pipeline([("EVAL_RO", "return redis.call('GET', 'k')", 0), ("GET", "k")]),
                             [b"new %d" % i] * 2)

    def test_a_key_that_was_listed_exists(self):
        for command in (("KEYS", "k*"), ("SCAN", "0"), ("RANDOMKEY",)):
            for i in range(5):
                self.server.call("FLUSHALL")
                self.kept("k", None)
                self.server.call("SET", "k", "v")
                self.assertIn("k", repr(self.client.call(*command)))
                self.assertEqual(self.client.call("GET", "k"), b"v", command)

    def test_a_script_may_say_what_it_likes_of_what_it_did(self):
        script = "redis.call('SET', 'k', ARGV[1]) return redis.error_reply('ERR unknown command')"
        for i in range(10):
            self.kept("k", f"old {i}")
            value_or_error(self.client, "EVAL", script, 0, f"new {i}")
            self.assertEqual(self.client.call("GET", "k"), b"new %d" % i)


class Straight:
    """A producer at the cluster itself, with connections of its own."""

    def __init__(self, cluster):
        self._clients = {node.port: node.client() for node in cluster.nodes}
        self._cluster = cluster
        self._owner = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self._clients.values():
            client.close()

    def call(self, command, key, *args):
        if key not in self._owner:
            self._owner[key] = self._cluster.owner_of(key).port
        return self._clients[self._owner[key]].call(command, key, *args)


if __name__ == "__main__":
    main()
