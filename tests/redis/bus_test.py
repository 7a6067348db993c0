#!/usr/bin/env python3
"""Sidecars that tell each other of writes over Pub/Sub, before real servers: coherence.mode bus, without tracking.

Two sidecars; what one writes the other must not serve from its L1 any more. max_staleness is long beside the delays that
are asserted: what is seen at once was told, it did not merely run out of proof. A link settles one max_staleness after it
has subscribed, with one gap; what counts gaps waits for that.
"""

import random
import signal
import threading
import time
import unittest

from system import (PATIENCE_S, SLOWNESS, Cluster, RedisServer, ReplyError, Sidecar, ServerError, eventually, key_slot,
                    keys_of_distinct_nodes, main)

STALENESS_S = 2.0 * SLOWNESS
BUS = {"coherence.mode": "bus", "coherence.bus.type": "redis", "coherence.max_staleness": f"{int(STALENESS_S * 1000)}ms"}
AT_ONCE_S = 0.25 * SLOWNESS


def serving(sidecar, state="bus"):
    return sum(node["state"] == state for node in sidecar.stats()["upstream"]["nodes"])


def gaps(sidecar):
    return sidecar.metric("nearcached_bus_gaps_total")


def bus_sidecar(url, links, **settings):
    sidecar = Sidecar(url, {**BUS, **settings})
    eventually(lambda: serving(sidecar) >= links, f"{links} links on the bus")
    return sidecar


class Case(unittest.TestCase):
    """With `writer` and `reader`, two sidecars of one upstream, and a client of each."""

    def use(self, writer, reader):
        self.writer, self.reader = writer, reader
        self.at_writer, self.at_reader = writer.client(), reader.client()
        self.addCleanup(self.at_writer.close)
        self.addCleanup(self.at_reader.close)

    def sidecar(self, url, links, **settings):
        one = bus_sidecar(url, links, **settings)
        self.addCleanup(one.close)
        return one

    def settle(self, *sidecars):
        """Past the gap that each link has one max_staleness after its subscription."""
        time.sleep(STALENESS_S * 1.2)
        for one in sidecars:
            eventually(lambda one=one: gaps(one) >= 1, "the settling gap")

    def cache(self, key, client=None, sidecar=None):
        """`key` is answered from the reader's L1."""
        client, sidecar = client or self.at_reader, sidecar or self.reader

        def hit():
            before = sidecar.hits
            client.call("GET", key)
            return sidecar.hits > before
        eventually(hit, f"a hit of {key}")

    def is_hit(self, key):
        before = self.reader.hits
        self.at_reader.call("GET", key)
        return self.reader.hits > before

    def seen_at_once(self, key, value, *write):
        """What the writer's client is acknowledged, the other's client sees well before anything runs out."""
        self.cache(key)
        self.at_writer.call(*(write or ("SET", key, value)))
        start = time.monotonic()
        eventually(lambda: self.at_reader.call("GET", key) == (None if value is None else str(value).encode()),
                   f"{key} to be {value} for the other")
        self.assertLess(time.monotonic() - start, AT_ONCE_S)


class OneServer(Case):
    @classmethod
    def setUpClass(cls):
        cls.redis = RedisServer()
        cls.pair = [bus_sidecar(cls.redis.url, 1) for _ in range(2)]

    @classmethod
    def tearDownClass(cls):
        for server in (*cls.pair, cls.redis):
            server.close()

    def setUp(self):
        self.use(*self.pair)

    def test_every_kind_of_write_is_heard_at_once(self):
        self.at_writer.call("SET", "k", "0")
        for i in range(50):
            self.seen_at_once("k", i)
        self.seen_at_once("k", None, "DEL", "k")
        self.seen_at_once("k", "m", "MSET", "other", "1", "k", "m")
        self.seen_at_once("k", "s", "EVAL", "return redis.call('SET', KEYS[1], 's')", "1", "k")
        self.seen_at_once("k", "u", "EVAL", "return redis.call('SET', 'k', 'u')", "0")
        self.seen_at_once("k", None, "FLUSHALL")

    def test_a_script_without_keys_is_heard_by_its_own_process_too(self):
        for i in range(20):
            self.cache("unnamed", self.at_writer, self.writer)
            self.at_writer.call("EVAL", f"return redis.call('SET', 'unnamed', {i})", "0")
            self.assertEqual(self.at_writer.call("GET", "unnamed"), b"%d" % i)

    def test_a_pipeline_of_writes_is_heard_and_answered_in_order(self):
        keys = [f"pipe:{i}" for i in range(300)]
        for key in keys:
            self.at_reader.call("GET", key)
        replies = self.at_writer.pipeline([part for key in keys for part in (("SET", key, key), ("INCR", "count"))])
        self.assertEqual(replies[::2], [b"OK"] * 300)
        self.assertEqual(replies[1::2], list(range(1, 301)))
        eventually(lambda: self.at_reader.call("MGET", *keys) == [key.encode() for key in keys], "all of it, by the other")

    def test_more_keys_than_a_message_holds(self):
        keys = [f"wide:{i}" for i in range(3000)]
        for key in keys[::100]:
            self.cache(key)
        self.at_writer.call("MSET", *[part for key in keys for part in (key, "new")])
        eventually(lambda: set(self.at_reader.pipeline([("GET", key) for key in keys])) == {b"new"},
                   "every key new for the other")

    def test_own_writes_are_seen_by_the_writers_other_clients_and_errors_stay_the_upstreams(self):
        with self.writer.client() as other:
            for i in range(100):
                self.at_writer.call("SET", "own", i)
                self.assertEqual(other.call("GET", "own"), b"%d" % i)
        self.at_writer.call("SET", "text", "x")
        with self.assertRaisesRegex(ReplyError, "not an integer"):
            self.at_writer.call("INCR", "text")

    def test_an_idle_pair_stays_verified_and_hears_no_gap(self):
        self.settle(self.reader)
        self.at_writer.call("SET", "idle", "1")  # opens the writer's stream, which must not fall silent
        self.cache("idle")
        before = gaps(self.reader)
        for _ in range(10):
            time.sleep(STALENESS_S / 4)
            self.assertTrue(self.is_hit("idle"))
        self.assertEqual(gaps(self.reader), before)

    def test_a_killed_sidecar_leaves_a_gap_within_max_staleness(self):
        third = self.sidecar(self.redis.url, 1)
        self.settle(self.reader)
        with third.client() as client:
            client.call("SET", "killed", "1")
        self.cache("killed")
        before = gaps(self.reader)
        third.kill()
        self.redis.call("SET", "killed", "2")  # as if it were its last write, of which it could not tell
        deadline = time.monotonic() + STALENESS_S
        while time.monotonic() < deadline:
            self.at_reader.call("GET", "killed")
            time.sleep(0.01)
        self.assertEqual(self.at_reader.call("GET", "killed"), b"2")
        self.assertGreater(gaps(self.reader), before)

    def test_a_sidecar_that_ends_in_peace_flushes_nobody(self):
        third = self.sidecar(self.redis.url, 1)
        self.settle(self.reader)
        with third.client() as client:
            client.call("SET", "peace", "1")
        self.cache("peace")
        before = gaps(self.reader)
        self.assertEqual(third.stop(), 0)
        for _ in range(15):
            self.assertTrue(self.is_hit("peace"))
            time.sleep(STALENESS_S / 10)
        self.assertEqual(gaps(self.reader), before)

    def test_lost_connections_lose_no_message(self):
        self.at_writer.call("SET", "cut", "0")
        for i in range(30):
            try:
                self.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                self.seen_at_once("cut", i)
            except ReplyError as error:  # it may have taken effect
                self.assertRegex(str(error), "may have taken effect|could not be told")

    def test_a_killed_subscription_is_a_loss_of_the_link(self):
        self.cache("subscribed")
        self.redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        self.at_writer.call("SET", "subscribed", "new")
        eventually(lambda: self.at_reader.call("GET", "subscribed") == b"new", "the new value")
        eventually(lambda: serving(self.reader) == 1, "the link to be back")
        self.seen_at_once("subscribed", "again")

    def test_an_unknown_outcome_lands_later_and_is_heard(self):
        """The server stops; the write times out, and is executed when the server goes on."""
        slow = {"upstream.command_timeout": "300ms"}
        writer = self.sidecar(self.redis.url, 1, **slow)
        self.at_writer.call("SET", "late", "old")
        self.cache("late")
        with writer.client() as client:
            client.call("SET", "warm", "1")
            self.redis.signal(signal.SIGSTOP)
            try:
                with self.assertRaisesRegex(ReplyError, "may (still )?(have taken|take) effect"):
                    client.call("SET", "late", "new")
            finally:
                self.redis.signal(signal.SIGCONT)
            eventually(lambda: self.at_reader.call("GET", "late") == b"new", "the late write")
            self.assertEqual(client.call("GET", "late"), b"new")
            time.sleep(1.2)
            self.cache("late", client, writer)  # its fence has ended


class Rights(Case):
    """What the upstream's ACL forbids."""

    @classmethod
    def setUpClass(cls):
        cls.redis = RedisServer()

    @classmethod
    def tearDownClass(cls):
        cls.redis.close()

    def user(self, name, *rules):
        self.redis.call("ACL", "SETUSER", name, "on", ">pw", "~*", "&*", "+@all", *rules)
        return f"redis://{name}:pw@{self.redis.address}"

    def test_a_write_that_can_not_be_published_is_an_error_that_says_that_it_is_done(self):
        url = self.user("mute")
        writer = self.sidecar(url, 1, **{"upstream.command_timeout": "500ms"})
        with writer.client() as client:
            client.call("SET", "k", "1")
            self.redis.call("ACL", "SETUSER", "mute", "-publish")
            with self.assertRaisesRegex(ReplyError, "written, but other sidecars could not be told: NOPERM"):
                client.call("SET", "k", "2")
            self.assertEqual(self.redis.call("GET", "k"), b"2")
            with self.assertRaisesRegex(ReplyError, "not written, since other sidecars could not be told: NOPERM"):
                client.call("SET", "k", "3")
            self.assertEqual(self.redis.call("GET", "k"), b"2")
            self.assertEqual(client.call("GET", "k"), b"2")  # reads go on
            self.assertGreater(writer.metric("nearcached_bus_publish_failures_total"), 0)
            self.redis.call("ACL", "SETUSER", "mute", "+publish")
            eventually(lambda: self.writes(client), "writes to be taken again")

    @staticmethod
    def writes(client):
        try:
            return client.call("SET", "k", "4") == b"OK"
        except ReplyError:
            return False

    def test_who_may_not_subscribe_has_no_l1_in_mode_bus(self):
        url = self.user("deaf", "-subscribe", "-ssubscribe")
        with Sidecar(url, BUS) as deaf, deaf.client() as client:
            eventually(lambda: serving(deaf, "refused") == 1, "the refusal")
            for i in range(20):
                self.redis.call("SET", "k", i)
                self.assertEqual(client.call("GET", "k"), b"%d" % i)
            self.assertEqual(deaf.hits, 0)
            deaf.wait_for_log("l1_off")

    def test_auto_with_a_bus_takes_it_where_tracking_is_refused_and_publishes_where_it_is_not(self):
        automatic = {**BUS, "coherence.mode": "auto"}
        url = self.user("untracked", "-client|tracking")
        with Sidecar(url, automatic) as on_bus, Sidecar(self.redis.url, automatic) as tracked:
            eventually(lambda: serving(on_bus) == 1, "the bus")
            eventually(lambda: serving(tracked, "tracking") == 1, "tracking")
            with on_bus.client() as reader, tracked.client() as writer:
                self.reader, self.at_reader, self.at_writer = on_bus, reader, writer
                for i in range(20):
                    self.seen_at_once("k", i)


class InACluster(Case):
    def setUp(self):
        self.cluster = Cluster(primaries=3, replicas=1)
        self.addCleanup(self.cluster.close)
        self.use(self.sidecar(self.cluster.url, 3), self.sidecar(self.cluster.url, 3))

    def test_writes_to_every_node_are_heard_at_once_also_when_slots_move(self):
        keys = keys_of_distinct_nodes(self.cluster)
        for key in keys:
            self.at_writer.call("SET", key, "0")
        for i in range(20):
            for key in keys:
                self.seen_at_once(key, i)
        self.at_writer.call("MSET", *[part for key in keys for part in (key, "split")])
        eventually(lambda: [self.at_reader.call("GET", key) for key in keys] == [b"split"] * 3, "all parts of the MSET")
        self.cache(keys[0])
        self.at_writer.call("FLUSHALL")
        eventually(lambda: [self.at_reader.call("GET", key) for key in keys] == [None] * 3, "the flush")
        # The lowest slots of the first node go: its channel is another one afterwards, and so is the target's.
        first, second = self.cluster.primaries()[:2]
        with Load(self) as load:
            for source, target in ((first, second), (second, first)):
                self.cluster.reshard(source, target, 300)
                load.run(1.5)
        self.assertEqual(load.lies, [])
        for key in keys:
            eventually(lambda key=key: self.settled_write(key), "writes to be taken again")
            self.seen_at_once(key, "after")

    def settled_write(self, key):
        try:
            self.at_writer.call("SET", key, "x")
            self.cache(key)
            return True
        except (ReplyError, ServerError):
            return False

    def test_failovers_lose_no_message(self):
        with Load(self) as load:
            node = self.cluster.primaries()[0]
            self.cluster.failover(self.cluster.replicas_of(node)[0])
            load.run(2.0)
        self.assertEqual(load.lies, [])
        self.assertGreater(load.reads, 100)

    def test_under_load_nothing_is_staler_than_promised_whatever_is_killed(self):
        chance = random.Random(7)
        with Load(self) as load:
            for _ in range(12):
                node = chance.choice(self.cluster.primaries())
                kind = chance.choice(("normal", "pubsub"))
                node.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                load.run(0.3)
            load.run(4 * STALENESS_S)  # in peace: no gap covers what was not told
        self.assertEqual(load.lies, [])
        self.assertGreater(load.reads, 500)
        self.assertGreater(self.reader.hits, 100)


class Load:
    """Counters that only grow, written through one sidecar and read through the other. What was acknowledged max_staleness ago
    may not be fallen behind of, nor what any reader of that sidecar was given."""

    def __init__(self, case, keys=12):
        self.case = case
        self.keys = [f"load:{i}" for i in range(keys)]
        self.acknowledged = {key: [] for key in self.keys}
        self.seen = dict.fromkeys(self.keys, 0)
        self.lies, self.reads, self.errors = [], 0, set()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.write)] + [threading.Thread(target=self.read) for _ in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def run(self, seconds):
        self.ended.wait(seconds)

    def write(self):
        with self.case.writer.client() as client:
            value = 0
            while not self.ended.is_set():
                value += 1
                key = self.keys[value % len(self.keys)]
                try:
                    client.call("SET", key, value)
                except ReplyError as error:
                    self.errors.add(str(error))
                    continue
                with self.lock:
                    self.acknowledged[key].append((time.monotonic(), value))
                time.sleep(0.002)

    def read(self):
        with self.case.reader.client() as client:
            while not self.ended.is_set():
                key = random.choice(self.keys)
                asked = time.monotonic()
                with self.lock:
                    floor = self.seen[key]
                    old = [value for when, value in self.acknowledged[key][-2000:] if when <= asked - STALENESS_S]
                try:
                    value = int(client.call("GET", key) or 0)
                except ReplyError as error:
                    self.errors.add(str(error))
                    continue
                with self.lock:
                    self.reads += 1
                    if value < max([floor, *old[-1:]]):
                        self.lies.append(f"{key} was {value} after {floor} was seen and {old[-1:]} acknowledged")
                    self.seen[key] = max(self.seen[key], value)


if __name__ == "__main__":
    main()
