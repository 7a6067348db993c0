#!/usr/bin/env python3
"""Write-behind before real servers: what is deferred and what is not, what reads are told meanwhile, what goes first, what is left
after an end, good or bad."""

import shutil
import signal
import tempfile
import threading
import time
import unittest
from pathlib import Path

from system import Cluster, RedisServer, ReplyError, ServerError, Sidecar, eventually, main

# A batch never leaves by itself in these tests unless it is wanted: what is upstream was flushed for a reason.
SLOW = {"write_behind.batch_interval": "60s", "write_behind.batch_records": 1000}
NAMESPACES = ('[{prefix: "now:", durability: immediate}, {prefix: "soon:", durability: eventual},'
              ' {prefix: "strict:", consistency: strict}]')


def setUpModule():
    global server
    server = RedisServer()


def tearDownModule():
    server.close()


class Case(unittest.TestCase):
    settings = SLOW

    def setUp(self):
        server.call("FLUSHALL")
        self.log = Path(tempfile.mkdtemp(prefix="nearcached-log-"))
        self.addCleanup(shutil.rmtree, self.log, True)
        self.upstream = self.client(server)

    def start(self, url=None, args=(), **more):
        settings = {"write_behind.enabled": "true", "write_behind.log_dir": str(self.log / "log"),
                    "write_behind.durability": "deferred", "upstream.swapdb": "never", "coherence.audit_one_in": 1,
                    **self.settings, **more}
        sidecar = Sidecar(url or server.url, settings, args=args)
        self.addCleanup(sidecar.close)
        return sidecar

    def again(self, sidecar):
        """The same on the same log, after its end."""
        sidecar.start()
        return self.client(sidecar)

    def client(self, where, **options):
        client = where.client(**options)
        self.addCleanup(client.close)
        return client

    def pending(self, sidecar):
        return sidecar.stats()["write_behind"]["records"]

    def flushed(self, sidecar):
        eventually(lambda: self.pending(sidecar) == 0, "all flushed")


class Reads(Case):
    def setUp(self):
        super().setUp()
        self.sidecar = self.start(namespaces=NAMESPACES)
        self.near = self.client(self.sidecar)

    def test_a_pending_value_is_read_by_everybody_here_and_by_nobody_upstream(self):
        other = self.client(self.sidecar, protocol=3)
        self.assertEqual(self.near.call("SET", "k", "value"), b"OK")
        for client in (self.near, other):
            self.assertEqual(client.call("GET", "k"), b"value")
            self.assertEqual(client.call("STRLEN", "k"), 5)
            self.assertEqual(client.call("GETRANGE", "k", "1", "2"), b"al")
            self.assertEqual(client.call("EXISTS", "k"), 1)
            self.assertEqual(client.call("TTL", "k"), -1)
            self.assertEqual(client.call("TYPE", "k"), b"string")
        self.assertIsNone(self.upstream.call("GET", "k"))
        self.assertEqual(self.pending(self.sidecar), 1)

    def test_times_to_live_are_absolute_from_the_start(self):
        self.near.pipeline([("SET", "a", "1", "EX", "100"), ("SET", "b", "1", "PX", "100000"), ("SETEX", "c", "100", "1"),
                            ("PSETEX", "d", "100000", "1"), ("SET", "e", "1", "PXAT", str(int(time.time() * 1000) + 150))])
        at = self.near.call("PEXPIRETIME", "a")
        self.assertAlmostEqual(at, time.time() * 1000 + 100_000, delta=5000)
        self.assertIn(self.near.call("TTL", "d"), (99, 100))
        eventually(lambda: self.near.call("GET", "e") is None, "the end of e")
        self.assertEqual(self.near.call("TTL", "e"), -2)
        self.near.call("DBSIZE")
        self.assertEqual(self.upstream.call("PEXPIRETIME", "a"), at)
        self.assertEqual(self.upstream.call("EXISTS", "a", "b", "c", "d", "e"), 4)

    def test_what_l1_had_is_not_told_and_what_is_flushed_is_cached_again(self):
        self.sidecar.wait_caching("now:is-l1-on")
        self.upstream.call("SET", "k", "old")
        for _ in range(3):
            self.assertEqual(self.near.call("GET", "k"), b"old")
        self.near.call("SET", "k", "new")
        readers = [self.client(self.sidecar) for _ in range(4)]
        for reader in readers:
            self.assertEqual(reader.pipeline([("GET", "k")] * 20), [b"new"] * 20)
        self.near.call("DBSIZE")
        for reader in readers:
            self.assertEqual(reader.call("GET", "k"), b"new")
        before = self.sidecar.hits
        self.assertEqual(self.near.call("GET", "k"), b"new")
        self.assertGreater(self.sidecar.hits, before)
        self.assertEqual(self.sidecar.metric("nearcached_audit_stale_total"), 0)

    def test_a_pipeline_reads_what_it_wrote(self):
        replies = self.near.pipeline([step for i in range(200) for step in (("SET", "k", str(i)), ("GET", "k"))])
        self.assertEqual(replies, [reply for i in range(200) for reply in (b"OK", str(i).encode())])

    def test_several_keys_at_once(self):
        self.upstream.call("MSET", "b", "upstream", "d", "upstream")
        self.assertEqual(self.near.call("MSET", "a", "1", "b", "2", "a", "3"), b"OK")
        self.assertEqual(self.near.call("MGET", "a", "b", "c", "d"), [b"3", b"2", None, b"upstream"])
        self.assertEqual(self.near.call("EXISTS", "a", "b", "c", "d"), 3)

    def test_namespaces_differ(self):
        self.assertEqual(self.near.pipeline([("SET", "now:k", "1"), ("SET", "soon:k", "1"), ("SET", "strict:k", "1")]), [b"OK"] * 3)
        self.assertEqual(self.upstream.call("MGET", "now:k", "soon:k", "strict:k"), [b"1", None, None])
        self.assertEqual(self.near.call("GET", "strict:k"), b"1")
        # One that is immediate makes the whole command so.
        self.near.call("MSET", "k", "1", "now:k", "2")
        self.assertEqual(self.upstream.call("MGET", "k", "now:k"), [b"1", b"2"])


class Direct(Case):
    def setUp(self):
        super().setUp()
        self.sidecar = self.start(namespaces=NAMESPACES)
        self.near = self.client(self.sidecar)

    def test_what_is_not_deferred_comes_behind_what_is(self):
        for i, (command, reply, left) in enumerate([
                (("INCR", "{0}"), 6, b"6"), (("APPEND", "{0}", "x"), 2, b"5x"), (("GETSET", "{0}", "n"), b"5", b"n"),
                (("SET", "{0}", "n", "NX"), None, b"5"), (("SET", "{0}", "n", "XX"), b"OK", b"n"),
                (("SET", "{0}", "n", "GET"), b"5", b"n"), (("SETRANGE", "{0}", "1", "y"), 2, b"5y"),
                (("GETDEL", "{0}"), b"5", None), (("UNLINK", "{0}", "none"), 1, None),
                (("EXPIRE", "{0}", "100", "NX"), 1, b"5"), (("PERSIST", "{0}"), 0, b"5"),
                (("RENAME", "{0}", "{0}:new"), b"OK", None), (("COPY", "{0}", "{0}:copy"), 1, b"5"),
                (("EVAL", "return redis.call('incr', KEYS[1])", "1", "{0}"), 6, b"6")]):
            key = f"k{i}"
            with self.subTest(command=command[0]):
                self.assertEqual(self.near.call("SET", key, "5"), b"OK")
                self.assertIsNone(self.upstream.call("GET", key))
                self.assertEqual(self.near.call(*(word.replace("{0}", key) for word in command)), reply)
                self.assertEqual(self.upstream.call("GET", key), left)
                self.assertEqual(self.near.call("GET", key), left)

    def test_what_the_pending_value_answers_is_deferred_as_well(self):
        near, upstream = self.near, self.upstream
        near.call("SET", "k", "5")
        self.assertEqual(near.call("EXPIRE", "k", "1000"), 1)
        self.assertEqual(near.call("TTL", "k"), 1000)
        self.assertEqual(near.call("SET", "k", "6", "KEEPTTL"), b"OK")
        self.assertIn(near.call("TTL", "k"), (999, 1000))
        near.call("SET", "gone", "1")
        self.assertEqual(near.call("DEL", "gone"), 1)
        self.assertEqual(near.call("UNLINK", "gone"), 0)
        self.assertEqual(near.call("EXPIRE", "gone", "10"), 0)
        self.assertIsNone(near.call("GET", "gone"))
        near.call("SET", "past", "1")
        self.assertEqual(near.call("PEXPIREAT", "past", "1"), 1)
        self.assertEqual(near.call("EXISTS", "past"), 0)
        self.assertEqual(upstream.call("DBSIZE"), 0)
        near.call("NEAR.FLUSH", "WRITES")
        self.assertEqual(upstream.call("KEYS", "*"), [b"k"])
        self.assertEqual(upstream.call("GET", "k"), b"6")
        self.assertAlmostEqual(upstream.call("TTL", "k"), 1000, delta=10)

    def test_a_delete_of_what_l1_knows_is_deferred(self):
        self.sidecar.wait_caching("now:is-l1-on")
        self.upstream.call("SET", "k", "v")
        for key, there in (("k", 1), ("absent", 0)):
            for _ in range(3):
                self.near.call("GET", key)
            self.assertEqual(self.near.call("DEL", key), there)
            self.assertIsNone(self.near.call("GET", key))
        self.assertEqual(self.upstream.call("GET", "k"), b"v")
        self.assertEqual(self.pending(self.sidecar), 2)
        self.near.call("NEAR.FLUSH", "WRITES")
        self.assertIsNone(self.upstream.call("GET", "k"))

    def test_two_who_change_the_same_pending_key_change_it_one_after_the_other(self):
        clients = [self.client(self.sidecar) for _ in range(4)]
        deleted = []

        def race(client):
            deleted.append(sum(client.call("DEL", f"k{i}") for i in range(300)))

        self.near.pipeline([("SET", f"k{i}", "v") for i in range(300)])
        threads = [threading.Thread(target=race, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(deleted), 300)

    def test_a_client_that_has_had_a_connection_of_its_own_defers_again(self):
        near = self.near
        for i, commands in enumerate(([("MULTI",), ("PING",), ("EXEC",)], [("WATCH", "w"), ("UNWATCH",)], [("WAIT", "0", "1")],
                                      [("BLPOP", "none", "0.01")], [("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c")])):
            with self.subTest(command=commands[0][0]):
                near.pipeline(commands)
                self.assertEqual(near.call("SET", f"k{i}", "v"), b"OK")
                self.assertEqual(near.call("GET", f"k{i}"), b"v")
                self.assertIsNone(self.upstream.call("GET", f"k{i}"))

    def test_many_keys_at_once_see_what_is_pending_without_a_flush(self):
        self.upstream.call("MSET", "b", "upstream", "d", "upstream")
        self.near.pipeline([("MSET", "a", "1", "b", "2"), ("DEL", "b"), ("SET", "e", "")])
        for client in (self.near, self.client(self.sidecar, protocol=3)):
            for _ in range(3):
                self.assertEqual(client.call("MGET", "a", "b", "c", "d", "e", "a"), [b"1", None, None, b"upstream", b"", b"1"])
        self.assertEqual(self.upstream.call("MGET", "a", "b"), [None, b"upstream"])

    def test_a_wrong_type_is_the_upstreams_to_say(self):
        self.near.call("SET", "k", "v")
        with self.assertRaisesRegex(ReplyError, "WRONGTYPE"):
            self.near.call("LPUSH", "k", "x")
        self.assertEqual(self.near.call("GET", "k"), b"v")

    def test_what_redis_would_refuse_it_refuses(self):
        for command in (("SET", "k", "v", "EX", "0"), ("SET", "k", "v", "EX", "x"), ("SETEX", "k", "-1", "v"), ("MSET", "a"),
                        ("SET", "k"), ("SET", "k", "v", "EX")):
            with self.subTest(command=command):
                self.assertEqual(str(self.exchange(self.near, command)), str(self.exchange(self.upstream, command)))
        self.assertEqual(self.pending(self.sidecar), 0)

    @staticmethod
    def exchange(client, command):
        return client.pipeline([command])[0]

    def test_commands_about_all_keys_come_behind_all(self):
        for command, reply in ((("DBSIZE",), 3), (("KEYS", "a*"), [b"a"]),
                               (("EVAL", "return redis.call('get', 'a')", "0"), b"1"), (("FLUSHALL",), b"OK")):
            with self.subTest(command=command[0]):
                self.near.call("MSET", "a", "1", "b", "1", "c", "1")
                self.assertEqual(self.near.call(*command), reply)
                self.assertEqual(self.pending(self.sidecar), 0)
        self.assertEqual(self.upstream.call("DBSIZE"), 0)
        self.assertIsNone(self.near.call("GET", "a"))

    def test_what_nobody_knows_comes_behind_all(self):
        node = self.near.call("NEAR.UPSTREAM")[0].decode()
        for i, command in enumerate((("NEAR.UPSTREAM", node, "SET", "k", "direct"), ("NOSUCHCOMMAND", "k"))):
            self.near.call("SET", "k", f"deferred {i}")
            self.near.pipeline([command])
            self.assertEqual(self.pending(self.sidecar), 0)
            self.assertEqual(self.upstream.call("GET", "k"), [b"direct", b"deferred 1"][i])

    def test_transactions_see_what_is_pending_and_watches_what_is_deferred(self):
        self.near.call("SET", "k", "1")
        self.assertEqual(self.near.pipeline([("MULTI",), ("GET", "k"), ("INCR", "k"), ("EXEC",)])[-1], [b"1", 2])
        other = self.client(self.sidecar)
        self.near.call("WATCH", "k")
        self.assertEqual(other.call("SET", "k", "9"), b"OK")
        self.near.pipeline([("MULTI",), ("SET", "k", "from an old value")])
        self.assertIsNone(self.near.call("EXEC"))
        self.assertEqual(self.near.call("GET", "k"), b"9")

    def test_an_own_direct_write_that_is_under_way_comes_first(self):
        for i in range(100):
            self.near.pipeline([("APPEND", "k", "x"), ("SET", "k", str(i)), ("APPEND", "k", "!"), ("SET", "k", str(i))])
        self.assertEqual(self.near.call("GET", "k"), b"99")
        self.near.call("DBSIZE")
        self.assertEqual(self.upstream.call("GET", "k"), b"99")

    def test_a_direct_write_of_another_that_is_under_way_is_not_overtaken_by_a_flush(self):
        """It found nothing in the log: should it come behind the flush, a restart would take it back."""
        own = RedisServer()
        self.addCleanup(own.close)
        sidecar = self.start(own.url, **{"write_behind.batch_interval": "0s", "upstream.command_timeout": "10s", "l1.enabled": "false",
                                         "write_behind.log_dir": str(self.log / "own")})
        direct, deferring = self.client(sidecar), self.client(sidecar)
        direct.call("INCRBY", "k", "-1")
        own.signal(signal.SIGSTOP)
        direct.send("INCR", "k")
        eventually(lambda: sidecar.metric("nearcached_upstream_pending") == 1, "the direct write to be sent")
        self.assertEqual(deferring.call("SET", "k", "100"), b"OK")
        self.assertEqual(deferring.call("SET", "other", "1"), b"OK")
        eventually(lambda: sidecar.metric("nearcached_upstream_pending") > 1, "the other key to be flushed")
        self.assertEqual(sidecar.metric("nearcached_upstream_pending"), 2)
        own.signal(signal.SIGCONT)
        self.assertEqual(direct.read(), 0)
        self.assertEqual(deferring.call("NEAR.FLUSH", "WRITES"), b"OK")
        self.assertEqual(own.call("GET", "k"), b"100")

    def test_databases_are_kept_apart(self):
        self.near.pipeline([("SET", "k", "in 0"), ("SELECT", "3"), ("SET", "k", "in 3")])
        self.assertEqual(self.near.call("GET", "k"), b"in 3")
        self.assertEqual(self.client(self.sidecar).call("GET", "k"), b"in 0")
        self.near.call("DBSIZE")
        self.assertEqual(self.upstream.pipeline([("GET", "k"), ("SELECT", "3"), ("GET", "k")]), [b"in 0", b"OK", b"in 3"])

    def test_wait_means_upstream(self):
        self.near.call("SET", "k", "v")
        self.near.call("WAIT", "0", "100")
        self.assertEqual(self.upstream.call("GET", "k"), b"v")


class Queue(Case):
    def test_the_last_of_many_writes_leaves_alone(self):
        sidecar = self.start()
        near = self.client(sidecar)
        near.pipeline([("SET", f"k{i % 10}", str(i)) for i in range(1000)])
        calls = self.sets()
        near.call("DBSIZE")
        self.assertEqual(self.sets() - calls, 10)
        self.assertEqual(self.upstream.call("MGET", *(f"k{i}" for i in range(10))), [str(990 + i).encode() for i in range(10)])
        self.assertEqual(sidecar.stats()["write_behind"]["coalesced"], 990)

    def sets(self):
        return int(server.info("commandstats").get("cmdstat_set", "calls=0,").split("calls=")[1].split(",")[0])

    def test_batches_leave_by_size_and_by_time(self):
        sidecar = self.start(**{"write_behind.batch_interval": "300ms", "write_behind.batch_records": 50})
        near = self.client(sidecar)
        near.pipeline([("SET", f"k{i}", "v") for i in range(50)])
        eventually(lambda: self.upstream.call("DBSIZE") == 50, "a batch")
        near.call("SET", "one", "v")
        self.assertIsNone(self.upstream.call("GET", "one"))
        eventually(lambda: self.upstream.call("GET", "one") == b"v", "the interval")

    def test_a_full_queue_makes_room(self):
        sidecar = self.start(**{"write_behind.max_records": 100})
        near = self.client(sidecar)
        self.assertEqual(set(near.pipeline([("SET", f"k{i}", str(i)) for i in range(1000)])), {b"OK"})
        self.assertLessEqual(self.pending(sidecar), 100)
        self.assertGreaterEqual(self.upstream.call("DBSIZE"), 900)
        self.assertEqual(near.call("MGET", *(f"k{i}" for i in range(1000))), [str(i).encode() for i in range(1000)])
        self.assertGreater(sidecar.metric("nearcached_write_behind_full_total"), 0)

    def test_where_no_room_can_be_made_writes_go_through(self):
        own = RedisServer()
        self.addCleanup(own.close)
        sidecar = self.start(own.url, **{"write_behind.max_records": 10})
        near = self.client(sidecar)
        own.call("CONFIG", "SET", "min-replicas-to-write", "1")
        self.assertEqual(set(near.pipeline([("SET", f"k{i}", "1") for i in range(10)])), {b"OK"})
        with self.assertRaisesRegex(ReplyError, "NOREPLICAS"):
            near.call("SET", "k11", "1")
        self.assertEqual(near.call("GET", "k3"), b"1")
        own.call("CONFIG", "SET", "min-replicas-to-write", "0")
        self.flushed(sidecar)
        self.assertEqual(own.call("DBSIZE"), 10)
        self.assertEqual(near.call("SET", "k11", "2"), b"OK")
        self.assertEqual(own.call("DBSIZE"), 10)

    def test_a_full_log_makes_room(self):
        sidecar = self.start(**{"write_behind.segment_bytes": "4KB", "write_behind.log_max_bytes": "16KB"})
        near = self.client(sidecar)
        value = "v" * 200
        for i in range(300):
            self.assertEqual(near.call("SET", f"k{i}", value), b"OK")
        self.assertGreater(sidecar.metric("nearcached_write_behind_log_full_total"), 0)
        self.assertLessEqual(sidecar.metric("nearcached_write_behind_log_bytes"), 20 << 10)
        near.call("NEAR.FLUSH", "WRITES")
        self.assertEqual(self.upstream.call("DBSIZE"), 300)

    def test_without_the_upstream_writes_are_taken_and_it_gets_them_when_it_is_back(self):
        own = RedisServer(["--appendonly", "yes", "--appendfsync", "always"])
        self.addCleanup(own.close)
        sidecar = self.start(own.url, **{"write_behind.batch_interval": "50ms"})
        near = self.client(sidecar)
        near.call("SET", "warm", "1")
        self.flushed(sidecar)
        own.kill()
        self.assertEqual(set(near.pipeline([("SET", f"k{i}", str(i)) for i in range(2000)])), {b"OK"})
        self.assertEqual(near.call("GET", "k7"), b"7")
        self.assertEqual(self.pending(sidecar), 2000)
        own.start()
        self.flushed(sidecar)
        with own.client() as direct:
            self.assertEqual(direct.call("DBSIZE"), 2001)
            self.assertEqual(direct.call("GET", "k1999"), b"1999")

    def test_a_write_that_is_refused_for_good_is_a_dead_letter_and_stops_nobody(self):
        own = RedisServer()
        self.addCleanup(own.close)
        own.call("ACL", "SETUSER", "default", "resetkeys", "~may:*", "~is-l1-on")
        sidecar = self.start(own.url)
        near = self.client(sidecar)
        self.assertEqual(near.call("SET", "may:a", "1"), b"OK")
        self.assertEqual(near.call("SET", "not:a", "1"), b"OK")
        near.call("DBSIZE")
        self.assertEqual(own.call("GET", "may:a"), b"1")
        self.assertEqual(sidecar.stats()["write_behind"]["dead"], 1)
        sidecar.wait_for_log("write_behind_dead_letter.*not:a.*NOPERM")
        letters = (self.log / "log" / "dead-letters.log").read_text().splitlines()
        self.assertEqual(len(letters), 1)
        self.assertIn("not:a", letters[0])

    def test_a_dead_letter_that_cannot_be_written_down_is_kept(self):
        own = RedisServer()
        self.addCleanup(own.close)
        own.call("ACL", "SETUSER", "default", "resetkeys", "~may:*", "~is-l1-on")
        sidecar = self.start(own.url, **{"write_behind.batch_interval": "10ms"})
        near = self.client(sidecar)
        letters = self.log / "log" / "dead-letters.log"
        letters.mkdir()
        self.assertEqual(near.call("SET", "not:a", "1"), b"OK")
        sidecar.wait_for_log("write_behind_dead_letter_kept")
        self.assertEqual(near.call("GET", "not:a"), b"1")
        self.assertEqual(sidecar.stats()["write_behind"]["dead"], 0)
        letters.rmdir()
        eventually(lambda: sidecar.stats()["write_behind"]["dead"] == 1, "the dead letter is written down")
        self.assertIn("not:a", letters.read_text())

    def test_the_admin_server_flushes_on_demand(self):
        token = self.log / "token"
        token.write_text("adm1n\n")
        sidecar = self.start(**{"admin.token_file": str(token)})
        near = self.client(sidecar)
        near.pipeline([("SET", f"k{i}", "v") for i in range(100)])
        self.assertEqual(sidecar.http("/flush", "POST")[0], 401)
        self.assertEqual(self.upstream.call("DBSIZE"), 0)
        status, body = sidecar.http("/flush", "POST", "adm1n")
        self.assertEqual((status, body), (202, "100 writes leave for the upstream\n"))
        eventually(lambda: sidecar.http("/flush", "POST", "adm1n")[0] == 200, "all flushed")
        self.assertEqual(self.upstream.call("DBSIZE"), 100)

    def test_sizes_of_batches_and_of_the_logs_groups_are_counted_and_nothing_is_dropped(self):
        sidecar = self.start()
        near = self.client(sidecar)
        near.pipeline([("SET", f"k{i}", "v") for i in range(50)] + [("GET", "k1"), ("MGET", "k1", "k2")])
        near.call("NEAR.FLUSH", "WRITES")
        self.assertEqual(sidecar.metric("nearcached_write_behind_batch_records_sum"), 50)
        self.assertEqual(sidecar.metric("nearcached_write_behind_log_group_records_sum"), 50)
        self.assertEqual(sidecar.metric("nearcached_write_behind_reads_total"), 3)
        self.assertEqual(sidecar.metric("nearcached_write_behind_dropped_total"), 0)

    def test_near_flush_waits_for_what_is_pending(self):
        sidecar = self.start()
        near = self.client(sidecar)
        near.call("SET", "k", "v")
        self.assertEqual(near.call("NEAR.FLUSH", "WRITES"), b"OK")
        self.assertEqual(self.upstream.call("GET", "k"), b"v")
        with self.assertRaisesRegex(ReplyError, "NEAR.FLUSH"):
            near.call("NEAR.FLUSH", "EVERYTHING")


class Peers(Case):
    """Others hear of a deferred write when the upstream has it, and not before."""

    def check(self, **settings):
        writer, reader = self.start(**settings), self.start(**settings, **{"write_behind.enabled": "false",
                                                                           "write_behind.durability": "immediate"})
        at_writer, at_reader = self.client(writer), self.client(reader)
        self.upstream.call("SET", "k", "0")
        for i in range(1, 6):
            before = str(i - 1).encode()

            def hit():
                hits = reader.hits
                self.assertEqual(at_reader.call("GET", "k"), before)
                return reader.hits > hits

            eventually(hit, "a hit at the peer")
            self.assertEqual(at_writer.call("SET", "k", str(i)), b"OK")
            self.assertEqual(at_writer.call("GET", "k"), str(i).encode())
            self.assertEqual([at_reader.call("GET", "k") for _ in range(20)], [before] * 20)
            self.assertEqual(at_writer.call("NEAR.FLUSH", "WRITES"), b"OK")
            eventually(lambda value=str(i).encode(): at_reader.call("GET", "k") == value, "the peer to hear of it")
        self.assertEqual(reader.metric("nearcached_audit_stale_total"), 0)

    def test_by_tracking(self):
        self.check()

    def test_over_the_bus(self):
        self.check(**{"coherence.mode": "bus", "coherence.bus.type": "redis", "coherence.max_staleness": "500ms"})


class Ends(Case):
    def test_sigterm_flushes(self):
        sidecar = self.start()
        self.client(sidecar).pipeline([("SET", f"k{i}", str(i)) for i in range(500)])
        self.assertEqual(self.upstream.call("DBSIZE"), 0)
        sidecar.stop()
        self.assertEqual(self.upstream.call("DBSIZE"), 500)

    def test_after_kill_what_was_acknowledged_is_there_and_reaches_the_upstream(self):
        sidecar = self.start()
        near = self.client(sidecar)
        near.pipeline([("SET", f"k{i}", str(i)) for i in range(500)] + [("SET", "short", "v", "EX", "1000")])
        at = near.call("PEXPIRETIME", "short")
        sidecar.kill()
        self.assertEqual(self.upstream.call("DBSIZE"), 0)
        near = self.again(sidecar)
        self.assertEqual(near.call("GET", "k499"), b"499")
        near.call("DBSIZE")
        self.assertEqual(self.upstream.call("DBSIZE"), 501)
        self.assertEqual(self.upstream.call("PEXPIRETIME", "short"), at)

    def test_a_direct_write_is_not_undone_by_the_next_start(self):
        sidecar = self.start()
        near = self.client(sidecar)
        for key, write in (("a", ("GETSET", "a", "direct")), ("b", ("DEL", "b")), ("c", ("FLUSHALL",))):
            near.call("SET", key, "deferred")
            near.call(*write)
        self.upstream.call("SET", "foreign", "1")
        sidecar.kill()
        near = self.again(sidecar)
        near.call("DBSIZE")
        self.assertEqual(sorted(self.upstream.call("KEYS", "*")), [b"foreign"])

    def test_what_is_too_old_to_be_replayed_is_a_dead_letter(self):
        sidecar = self.start(**{"write_behind.max_replay_age": "1ms"})
        self.client(sidecar).call("SET", "old", "v", "EX", "1000")
        sidecar.kill()
        time.sleep(0.01)
        near = self.again(sidecar)
        self.assertIsNone(near.call("GET", "old"))
        self.assertIsNone(self.upstream.call("GET", "old"))
        letters = (self.log / "log" / "dead-letters.log").read_text().splitlines()
        self.assertEqual(len(letters), 1)
        self.assertIn("max_replay_age", letters[0])
        self.assertIn("old".encode().hex(), letters[0])
        eventually(lambda: sidecar.stats()["write_behind"]["log"]["checkpoint"] == 1, "the checkpoint")
        sidecar.kill()
        self.again(sidecar)
        self.assertEqual(len((self.log / "log" / "dead-letters.log").read_text().splitlines()), 1)

    def test_two_on_one_log_are_one_too_many(self):
        self.start()
        with self.assertRaises(ServerError) as caught:
            self.start()
        self.assertIn("log", str(caught.exception))

    def test_damage_below_the_mark_stops_the_start_and_can_be_skipped(self):
        sidecar = self.start()
        near = self.client(sidecar)
        for i in range(50):
            near.call("SET", f"k{i}", "v" * 50)
        time.sleep(0.5)  # an empty group marks what is durable
        sidecar.kill()
        segment = sorted((self.log / "log").glob("*.wal"))[0]
        content = bytearray(segment.read_bytes())
        at = content.find(b"k20" + b"v" * 50)
        content[at + 5] ^= 1
        segment.write_bytes(content)
        with self.assertRaises(ServerError) as caught:
            sidecar.start()
        self.assertIn("--wal-skip-damaged", str(caught.exception))
        self.assertIn(segment.name, str(caught.exception))
        sidecar.args = [*sidecar.args, "--wal-skip-damaged"]
        near = self.again(sidecar)
        self.assertEqual(near.call("GET", "k49"), b"v" * 50)
        self.assertIsNone(near.call("GET", "k20"))
        sidecar.wait_for_log("write_behind_log_read.*skipped_bytes=[1-9]")


class BeforeACluster(Case):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(primaries=3, args=["--appendonly", "yes"])

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def test_writes_of_all_nodes_are_flushed_also_when_slots_move(self):
        sidecar = self.start(self.cluster.url, **{"write_behind.batch_interval": "100ms"})
        near = self.client(sidecar)
        stop = threading.Event()
        written = {}

        def write():
            with sidecar.client() as client:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    keys = [f"key{i}" for i in range(300)]
                    client.pipeline([("SET", key, f"{key}:{turn}") for key in keys])
                    written.update((key, f"{key}:{turn}".encode()) for key in keys)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            first, second = self.cluster.primaries()[:2]
            self.cluster.reshard(first, second, 500)
        finally:
            stop.set()
            writer.join()
        self.flushed(sidecar)
        for key, value in written.items():
            self.assertEqual(self.cluster.call("GET", key, key=key), value)
        self.assertEqual(near.call("GET", "key7"), written["key7"])
        self.assertEqual(sidecar.metric("nearcached_write_behind_dead_letters_total"), 0)


if __name__ == "__main__":
    main()
