#!/usr/bin/env python3
"""What L1 may answer, and what it must not, before real servers. Each case says which lie it would find.

The main sidecar's max_staleness is long: an entry that is no longer served within milliseconds was invalidated, it did not
merely run out of proof.
"""

import re
import signal
import statistics
import threading
import time
import unittest

from system import (PATIENCE_S, SLOWNESS, Client, Cluster, RedisServer, ReplyError, Sidecar, Traffic, encode, eventually,
                    key_slot, main,
                    seconds_until)

LONG_STALENESS = "20s"
PUSH_S = 0.1 * SLOWNESS  # median from a foreign write's acknowledgement to its value here
PUSH_WORST_S = 3.0 * SLOWNESS


def setUpModule():
    global cluster, sidecar, neighbour
    cluster = Cluster(primaries=3)
    # Audits are reads as well, and here the server's are counted.
    sidecar = Sidecar(cluster.url, {"coherence.max_staleness": LONG_STALENESS, "threads": 3, "coherence.audit_one_in": 0})
    neighbour = Sidecar(cluster.url, {"coherence.max_staleness": LONG_STALENESS})
    for one in (sidecar, neighbour):
        one.wait_caching(links=3)


def tearDownModule():
    for server in (sidecar, neighbour, cluster):
        server.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.client = sidecar.client()

    def tearDown(self):
        self.client.close()
        if not sidecar.alive:
            code = sidecar.process.poll()
            sidecar.start()
            self.fail(f"the sidecar ended with {code}")

    def cache(self, key, value, client=None):
        """`key` is in L1 with `value`, written straight to the upstream."""
        client = client or self.client
        cluster.call("SET", key, value)
        eventually(lambda: client.call("GET", key) == str(value).encode(), "the value to arrive")
        client.call("GET", key)


class Hits(Case):
    def test_reads_after_the_first_are_hits_and_are_counted(self):
        self.client.call("SET", "hits", "v")
        self.client.call("GET", "hits")
        before, upstream = sidecar.hits, cluster.owner_of("hits").info("commandstats")["cmdstat_get"]
        self.assertEqual(self.client.pipeline([("GET", "hits")] * 1000), [b"v"] * 1000)
        self.assertEqual(sidecar.hits - before, 1000)
        self.assertEqual(cluster.owner_of("hits").info("commandstats")["cmdstat_get"], upstream)

    def test_both_protocols_and_all_workers_share_the_entries(self):
        self.client.call("SET", "shared", "v")
        self.client.call("GET", "shared")
        before = sidecar.hits
        clients = [sidecar.client(protocol=2 + i % 2) for i in range(12)]
        for client in clients:
            self.assertEqual(client.call("GET", "shared"), b"v")
            client.close()
        self.assertEqual(sidecar.hits - before, 12)

    def test_mget_is_answered_from_what_is_there_and_asks_only_for_the_rest(self):
        keys = [f"part:{i}" for i in range(40)]
        self.client.call("MSET", *[part for key in keys for part in (key, key)])
        for key in keys[:30]:
            self.client.call("GET", key)
        before = sidecar.hits
        self.assertEqual(self.client.call("MGET", *keys), [key.encode() for key in keys])
        self.assertEqual(sidecar.hits - before, 30)
        self.assertEqual(self.client.call("MGET", *keys), [key.encode() for key in keys])
        self.assertEqual(sidecar.hits - before, 70)

    def test_entries_larger_than_the_limit_are_not_kept(self):
        self.client.call("SET", "large", "x" * 200_000)
        before = sidecar.hits
        for _ in range(5):
            self.assertEqual(len(self.client.call("GET", "large")), 200_000)
        self.assertEqual(sidecar.hits, before)

    def test_without_l1_every_read_goes_upstream(self):
        with Sidecar(cluster.url, {"l1.enabled": "false"}) as plain, plain.client() as client:
            client.call("SET", "off", 1)
            for i in range(20):
                cluster.call("SET", "off", i)
                self.assertEqual(client.call("GET", "off"), b"%d" % i)
                self.assertEqual(client.call("MGET", "off", "no"), [b"%d" % i, None])
            self.assertEqual(plain.hits, 0)
            self.assertIn("nearcached_coherence_mode:off", client.call("INFO", "nearcached").decode())


class ForeignWrites(Case):
    ROUNDS = 15

    def seen_soon(self, change, expected, before="before"):
        """`change(key, round)` upstream; `expected(round)` is what GET must give, soon and for ever after."""
        delays = []
        for i in range(self.ROUNDS):
            key = f"foreign:{self.id()}:{i}"
            self.cache(key, before)
            hits = sidecar.hits
            self.assertEqual(self.client.call("GET", key), before.encode())
            self.assertGreater(sidecar.hits, hits, "not a hit: nothing is tested")
            change(key, i)
            delays.append(seconds_until(lambda key=key, i=i: self.client.call("GET", key) == expected(i), PUSH_WORST_S))
            self.assertEqual(self.client.call("GET", key), expected(i))
        self.assertLess(statistics.median(delays), PUSH_S)

    def test_set(self):
        self.seen_soon(lambda key, i: cluster.call("SET", key, i), lambda i: b"%d" % i)

    def test_del(self):
        self.seen_soon(lambda key, i: cluster.call("DEL", key), lambda i: None)

    def test_append(self):
        self.seen_soon(lambda key, i: cluster.call("APPEND", key, i), lambda i: b"before%d" % i)

    def test_incr(self):
        self.seen_soon(lambda key, i: cluster.call("INCR", key), lambda i: b"42", before="41")

    def test_an_expiry_set_elsewhere(self):
        self.seen_soon(lambda key, i: cluster.call("PEXPIRE", key, 1), lambda i: None)

    def test_multi_exec(self):
        def change(key, i):
            with cluster.owner_of(key).client() as client:
                client.pipeline([("MULTI",), ("SET", key, f"t{i}"), ("APPEND", key, "!"), ("EXEC",)])
        self.seen_soon(change, lambda i: b"t%d!" % i)

    def test_a_script(self):
        self.seen_soon(lambda key, i: cluster.call("EVAL", "redis.call('SET', KEYS[1], ARGV[1])", 1, key, f"s{i}", key=key),
                       lambda i: b"s%d" % i)

    def test_rename_onto_it(self):
        def change(key, i):
            cluster.call("SET", f"{{{key}}}src", f"r{i}")
            cluster.call("RENAME", f"{{{key}}}src", key)
        self.seen_soon(change, lambda i: b"r%d" % i)

    def test_rename_away(self):
        self.seen_soon(lambda key, i: cluster.call("RENAME", key, f"{{{key}}}away"), lambda i: None)

    def test_restore_and_copy_and_getset(self):
        dump = cluster.call("SET", "dumped", "restored") and cluster.call("DUMP", "dumped")
        self.seen_soon(lambda key, i: cluster.call("RESTORE", key, 0, dump, "REPLACE"), lambda i: b"restored")

    def test_flushall_on_every_node(self):
        keys = [f"flushed:{i}" for i in range(30)]
        for key in keys:
            self.cache(key, "v")
        for node in cluster.nodes:
            node.call("FLUSHALL")
        delay = seconds_until(lambda: self.client.call("MGET", *keys) == [None] * 30, PUSH_WORST_S)
        self.assertLess(delay, 5 * PUSH_S)

    def test_a_key_that_was_absent_appears(self):
        for i in range(self.ROUNDS):
            key = f"appears:{i}"
            cluster.call("DEL", key)
            self.assertEqual(self.client.pipeline([("GET", key)] * 3), [None] * 3)
            cluster.call("SET", key, "here")
            self.assertLess(seconds_until(lambda key=key: self.client.call("GET", key) == b"here", PUSH_WORST_S),
                            PUSH_WORST_S)

    def test_a_write_through_another_sidecar(self):
        with neighbour.client() as other:
            self.seen_soon(lambda key, i: other.call("SET", key, f"n{i}"), lambda i: b"n%d" % i)


class OwnWrites(Case):
    def test_a_pipeline_reads_what_it_wrote_while_others_read_the_same_keys(self):
        keys = [f"own:{i}" for i in range(16)]
        ended = threading.Event()
        problems = []

        def read():
            with sidecar.client() as client:
                while not ended.is_set():
                    client.pipeline([("GET", key) for key in keys])
                    client.call("MGET", *keys)

        def write(mine):
            with sidecar.client() as client:
                for i in range(0, 5000, 25):
                    commands = [c for n in range(25) for c in (("SET", mine[n % len(mine)], i + n),
                                                               ("GET", mine[n % len(mine)]),
                                                                ("MGET", mine[n % len(mine)], "other"))]
                    replies = client.pipeline(commands)
                    for n in range(25):
                        expected = b"%d" % (i + n)
                        if replies[3 * n + 1] != expected or replies[3 * n + 2][0] != expected:
                            problems.append((mine[n % len(mine)], expected, replies[3 * n + 1:3 * n + 3]))

        readers = [threading.Thread(target=read) for _ in range(3)]
        writers = [threading.Thread(target=write, args=(keys[i::2],)) for i in range(2)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        ended.set()
        for thread in readers:
            thread.join()
        self.assertEqual(problems, [])

    def test_what_one_client_was_acknowledged_every_other_reads(self):
        problems = []

        def rounds(name):
            with sidecar.client() as a, sidecar.client() as b, sidecar.client(protocol=3) as c:
                for i in range(400):
                    key = f"ack:{name}:{i % 3}"
                    value = b"%d" % i
                    a.call("SET", key, value) if i % 4 else a.call("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1,
                                                                   key, value)
                    for reader in (b, c, b):
                        if (got := reader.call("GET", key)) != value:
                            problems.append((key, value, got))

        threads = [threading.Thread(target=rounds, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])

    def test_every_kind_of_write_is_read_back_at_once_by_another_client(self):
        with sidecar.client() as writer:
            for command, expected in ((("SET", "w", 1), b"1"), (("INCR", "w"), b"2"), (("APPEND", "w", "x"), b"2x"),
                                      (("SETRANGE", "w", 0, "Z"), b"Zx"),
                                      (("GETSET", "w", "g"), b"g"), (("MSET", "w", "m", "other", 1), b"m"),
                                      (("SETEX", "w", 100, "e"), b"e"),
                                      (("GETDEL", "w"), None), (("SETNX", "w", "nx"), b"nx"),
                                      (("COPY", "{w}src", "w", "REPLACE"), b"copied"),
                                      (("RENAME", "w", "{w}gone"), None),
                                      (("RESTORE", "w", 0, "DUMP", "REPLACE"), b"copied"), (("UNLINK", "w"), None),
                                      (("SET", "w", "again"), b"again"), (("GETEX", "w", "PXAT", 1), None),
                                      (("SET", "w", "f"), b"f"),
                                      (("FLUSHALL",), None)):
                writer.call("SET", "{w}src", "copied")
                if command[0] == "RESTORE":
                    command = (*command[:3], writer.call("DUMP", "{w}src"), command[4])
                for _ in range(2):
                    self.client.call("GET", "w")
                writer.call(*command)
                self.assertEqual(self.client.call("GET", "w"), expected, command)
                self.assertEqual(self.client.call("MGET", "w", "nothing"), [expected, None], command)

    def test_own_flushall_empties_the_l1_for_everybody(self):
        for i in range(10):
            self.client.call("SET", "flush", i)
            self.client.call("GET", "flush")
            with sidecar.client() as other:
                other.call("FLUSHALL")
            self.assertIsNone(self.client.call("GET", "flush"))

    def test_writers_and_readers_of_all_sorts_agree(self):
        with Traffic(sidecar, cluster.call, max_staleness_s=PUSH_WORST_S, prefix="mixed") as traffic:
            traffic.run(2)
        self.assertEqual(traffic.lies, [])
        self.assertEqual(traffic.errors, 0, traffic.error_texts)
        self.assertGreater(traffic.reads, 300)


class Expiry(Case):
    def test_an_entry_never_outlives_its_ttl(self):
        for i in range(5):
            key = f"ttl:{i}"
            self.client.call("SET", key, "v", "PX", 200)
            acknowledged = time.monotonic()
            while self.client.call("GET", key) is not None:
                asked = time.monotonic()
            self.assertLess(asked - acknowledged, 0.2 + 0.05 * SLOWNESS)

    def test_a_foreign_ttl_holds_as_well(self):
        cluster.call("SET", "fttl", "v", "PX", 300)
        start = time.monotonic()
        self.assertEqual(self.client.pipeline([("GET", "fttl")] * 3), [b"v"] * 3)
        time.sleep(max(0.0, start + 0.31 - time.monotonic()))
        self.assertIsNone(self.client.call("GET", "fttl"))

    def test_the_l1s_own_ttl_ends_entries(self):
        with Sidecar(cluster.url, {"l1.ttl": "100ms"}) as short, short.client() as client:
            short.wait_caching("short")
            client.call("SET", "lttl", "v")
            client.call("GET", "lttl")
            time.sleep(0.2)
            before = short.metric("nearcached_fills_started_total")
            self.assertEqual(client.call("GET", "lttl"), b"v")
            self.assertEqual(short.metric("nearcached_fills_started_total"), before + 1)


class LostLinks(Case):
    def tracking_ids(self, node):
        lines = node.call("CLIENT", "LIST").decode().splitlines()
        return [re.search(r"\bid=(\d+)", line)[1] for line in lines if "t" in re.search(r"\bflags=(\w+)", line)[1]]

    def test_nothing_read_on_a_killed_fill_link_is_served_again(self):
        for i in range(5):
            key = f"lost:{i}"
            owner = cluster.owner_of(key)
            for one in (sidecar, neighbour):
                one.wait_caching(links=3)
            self.cache(key, "old")
            with owner.client() as direct:
                # In one transaction: no push can leave for this key in between.
                kills = [("CLIENT", "KILL", "ID", client_id) for client_id in self.tracking_ids(owner)]
                self.assertTrue(kills)
                direct.pipeline([("MULTI",), *kills, ("SET", key, "new"), ("EXEC",)])
            self.assertLess(seconds_until(lambda key=key: self.client.call("GET", key) == b"new", PUSH_WORST_S),
                            PUSH_WORST_S)
            self.assertEqual(self.client.call("GET", key), b"new")
        for one in (sidecar, neighbour):
            one.wait_caching(links=3)

    def test_a_suspended_sidecar_wakes_up_without_lies(self):
        keys = [f"asleep:{i}" for i in range(30)]
        with Sidecar(cluster.url, {"coherence.max_staleness": "1s"}) as sleeper, sleeper.client() as client:
            sleeper.wait_caching(links=3)
            for key in keys:
                cluster.call("SET", key, "old")
            self.assertEqual(client.pipeline([("GET", key) for key in keys] * 2), [b"old"] * 60)
            sleeper.signal(signal.SIGSTOP)
            # Each thread stops when it gets to it: until then it may still answer, and rightly with the old value.
            states = sleeper.thread_states
            eventually(lambda: set(states()) == {"T"}, "every thread to stand still")
            try:
                client.raw(b"".join(encode("GET", key) for key in keys))  # waits in the socket
                time.sleep(2.5)
                for key in keys:
                    cluster.call("SET", key, "new")
            finally:
                sleeper.signal(signal.SIGCONT)
            first = [client.read() for _ in keys]
            with sleeper.client() as other:
                self.assertEqual(other.pipeline([("GET", key) for key in keys]), [b"new"] * 30)
            self.assertEqual(first, [b"new"] * 30)

    def test_a_slot_that_went_away_and_came_back_is_not_remembered(self):
        """Moved twice in a moment, a slot can confuse the cluster itself, and lose the key: such a round says nothing."""
        slot, key = key_slot("boomerang"), "boomerang"
        source = cluster.owner_of(key)
        target = next(node for node in cluster.nodes if node is not source)
        with Sidecar(cluster.url) as mover, mover.client() as client:
            mover.wait_caching(links=3)
            rounds = sum(self.boomerang(client, slot, source, target, i) for i in range(5))
            self.assertGreater(rounds, 0, "no round in which the cluster kept its head")
        cluster._owners.clear()

    def boomerang(self, client, slot, source, target, i):
        old, new = b"old%d" % i, b"new%d" % i
        begun = time.monotonic()
        while self.ask(source, "SET", "boomerang", old) != b"OK" or self.ask(client, "GET", "boomerang") != old:
            for node in cluster.nodes:
                self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(source))
            if time.monotonic() - begun > PATIENCE_S:
                return False
        self.move(slot, source, target)
        if self.ask(target, "SET", "boomerang", new) != b"OK":
            return False
        self.move(slot, target, source)
        moved = time.monotonic()
        while (value := self.ask(client, "GET", "boomerang")) != new:
            if self.ask(source, "GET", "boomerang") != new:
                return False
            self.assertLess(time.monotonic() - moved, 1 + SLOWNESS, value)
        return True

    @staticmethod
    def ask(node, *command):
        try:
            return node.call(*command)
        except ReplyError as error:
            return error

    def move(self, slot, source, target):
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(target))
        for key in source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        target_id = cluster.node_id(target)
        for node in (target, source, *cluster.nodes):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)


class WithoutTracking(unittest.TestCase):
    MAY_NOT_TRACK = ("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    BOUND_S = 0.3

    def check_off(self, url, direct, reason, settings=None):
        with Sidecar(url, settings) as untracked, untracked.client() as client:
            line = untracked.wait_for_log(r"l1_off")
            self.assertRegex(line, reason)
            for i in range(50):
                direct("SET", "untracked", i)
                self.assertEqual(client.call("GET", "untracked"), b"%d" % i)
            self.assertEqual(untracked.hits, 0)
            eventually(lambda: re.search(rf"nearcached_coherence_reason:.*{reason}",
                                         client.call("INFO", "nearcached").decode()),
                       "the reason in INFO")
            self.assertIn("nearcached_coherence_mode:off", client.call("INFO", "nearcached").decode())
            self.assertEqual(untracked.metric("nearcached_coherence_mode", mode="off"), 1)
            return line

    def check_both_modes(self, url, direct, reason="TRACKING"):
        """Who insists on tracking gets no L1 and an error; with auto no entry outlives max_staleness."""
        self.assertRegex(self.check_off(url, direct, reason, {"coherence.mode": "tracking"}), r"(?i)\berror\b")
        with Sidecar(url, {"coherence.max_staleness": "300ms"}) as bounded, bounded.client() as client:
            self.assertRegex(bounded.wait_for_log(r"l1_on"), reason)
            eventually(lambda: client.pipeline([("GET", "untracked")] * 2) and bounded.hits > 0, "a hit")
            eventually(lambda: b"nearcached_coherence_mode:ttl" in client.call("INFO", "nearcached"), "the mode in INFO")
            for i in range(5):
                direct("SET", "untracked", f"b{i}")
                written = time.monotonic()
                oldest = 0.0
                while (asked := time.monotonic()) and client.call("GET", "untracked") != b"b%d" % i:
                    oldest = asked - written
                    self.assertLess(oldest, self.BOUND_S + 0.02)

    def test_a_user_who_may_not_track_gets_right_values(self):
        with RedisServer() as server:
            server.call(*self.MAY_NOT_TRACK)
            self.check_both_modes(f"redis://blind:pw@{server.address}", server.call)

    def test_the_same_before_a_cluster(self):
        for node in cluster.nodes:
            node.call(*self.MAY_NOT_TRACK)
        self.check_both_modes(f"redis+cluster://blind:pw@{','.join(cluster.addresses)}", cluster.call)

    def test_a_user_who_may_not_ask_for_swaps(self):
        with RedisServer() as server:
            server.call("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all", "-info")
            self.check_both_modes(f"redis://blind:pw@{server.address}", server.call, "NOPERM")


class SingleServer(unittest.TestCase):
    def setUp(self):
        self.server = RedisServer()
        self.addCleanup(self.server.close)
        self.sidecar = Sidecar(self.server.url)
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching()
        self.client = self.sidecar.client()
        self.addCleanup(self.client.close)

    def cached_then(self, *commands):
        with self.server.client() as direct:
            direct.pipeline([("FLUSHALL",), ("SET", "db", "zero"), ("SELECT", 1), ("SET", "db", "one")])
            eventually(lambda: self.client.call("GET", "db") == b"zero", "the value to arrive")
            before = self.sidecar.hits
            eventually(lambda: self.client.call("GET", "db") and self.sidecar.hits > before, "a hit")
            direct.pipeline(commands)
        delay = seconds_until(lambda: self.client.call("GET", "db") == b"one", PATIENCE_S)
        self.assertLess(delay, 1.0 + 0.5 * SLOWNESS)
        self.assertEqual(self.client.call("GET", "db"), b"one")

    def test_a_foreign_swapdb_is_seen_within_max_staleness(self):
        self.cached_then(("SWAPDB", 0, 1))

    def test_a_swapdb_in_a_transaction_or_script_is_seen_as_well(self):
        self.cached_then(("MULTI",), ("SWAPDB", 0, 1), ("EXEC",))
        self.cached_then(("EVAL", "return redis.call('SWAPDB', 0, 1)", 0))

    def test_a_swapdb_hidden_by_resetting_the_statistics_is_seen_as_well(self):
        self.cached_then(("CONFIG", "RESETSTAT"), ("SWAPDB", 0, 1), ("CONFIG", "RESETSTAT"))
        self.cached_then(("SWAPDB", 0, 1), ("CONFIG", "RESETSTAT"))

    def test_a_reset_hidden_behind_infos_of_others_is_seen_as_well(self):
        """Other monitors ask for INFO too: the count may have grown past the old one again."""
        self.cached_then(("SWAPDB", 0, 1), ("CONFIG", "RESETSTAT"), *[("INFO", "commandstats")] * 300)

    def test_own_swapdb_takes_effect_at_once(self):
        with self.server.client() as direct:
            direct.pipeline([("SET", "db", "zero"), ("SELECT", 1), ("SET", "db", "one")])
        eventually(lambda: self.client.call("GET", "db") == b"zero", "the value to arrive")
        self.client.call("SWAPDB", 0, 1)
        self.assertEqual(self.client.call("GET", "db"), b"one")

    def test_a_restarted_server_is_not_mistaken_for_the_old_one(self):
        self.client.call("SET", "gone", "v")
        self.assertEqual(self.client.pipeline([("GET", "gone")] * 2), [b"v"] * 2)
        self.server.kill()
        self.server.start()
        eventually(lambda: self.client.pipeline([("GET", "gone")]) == [None], "the loss to be seen")
        self.client.call("SET", "gone", "back")
        self.assertEqual(self.client.call("GET", "gone"), b"back")
        self.sidecar.wait_caching()

    def test_another_database_is_cached_apart(self):
        with Sidecar(f"{self.server.url}/3") as third, third.client() as client:
            third.wait_caching("there")
            with self.server.client() as direct:
                direct.pipeline([("SET", "x", "zero"), ("SELECT", 3), ("SET", "x", "three")])
                self.assertEqual(client.pipeline([("GET", "x")] * 2), [b"three"] * 2)
                self.assertEqual(self.client.call("GET", "x"), b"zero")
                direct.call("SET", "x", "changed")
            self.assertLess(seconds_until(lambda: client.call("GET", "x") == b"changed", PUSH_WORST_S), PUSH_WORST_S)
            self.assertEqual(client.call("SELECT", 3), b"OK")


if __name__ == "__main__":
    main()
