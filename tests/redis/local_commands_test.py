#!/usr/bin/env python3
"""What is about this process and its clients: CLIENT LIST, INFO, KILL, PAUSE and the like, CONFIG of its own settings,
SLOWLOG, LATENCY, MONITOR."""

import re
import subprocess
import threading
import time
import unittest

from system import PATIENCE_S, Client, RedisServer, ReplyError, Sidecar, eventually, main

THREADS = 3
FIELDS_OF_7_0 = ("id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
                 "oll omem tot-mem events cmd user redir resp").split()


def setUpModule():
    global server, sidecar
    server = RedisServer()
    server.call("ACL", "SETUSER", "plain", "on", ">plain-pw", "~*", "&*", "+@all", "-client|kill", "-client|list", "-config|get",
                "-client|pause", "-slowlog", "-latency", "-monitor")
    sidecar = Sidecar(server.url, {"threads": THREADS, "slowlog.slower_than": "20ms", "slowlog.max_len": 12}, unix_socket=True)


def tearDownModule():
    for one in (sidecar, server):
        one.close()


def parse_lines(text):
    """As redis-py's parse_client_list does it: by spaces, then by the first '='."""
    return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in text.decode().splitlines()]


class Case(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        self.assertTrue(sidecar.alive)

    def client(self, at=None, **options):
        client = (at or sidecar).client(timeout=PATIENCE_S, **options)
        self.clients.append(client)
        return client

    def listed(self, client, *args):
        return parse_lines(client.call("CLIENT", "LIST", *args))

    def assert_closed(self, client):
        with self.assertRaises(OSError):
            client.call("PING")

    def assert_error(self, client, text, *command):
        with self.assertRaises(ReplyError) as caught:
            client.call(*command)
        self.assertIn(text, str(caught.exception))


class ClientList(Case):
    def test_shows_the_clients_of_all_workers_and_not_the_upstreams_connections(self):
        clients = [self.client() for _ in range(4 * THREADS)]
        ids = [client.call("CLIENT", "ID") for client in clients]
        lines = self.listed(clients[0])
        self.assertLessEqual(set(ids), {int(line["id"]) for line in lines})
        self.assertEqual([int(line["id"]) for line in lines], sorted(int(line["id"]) for line in lines))
        self.assertFalse([line for line in lines if line["laddr"] != sidecar.address and line["addr"] != "unix"])

    def test_has_every_field_of_redis_in_its_order(self):
        lines = self.listed(self.client())
        for line in lines:
            self.assertEqual(list(line)[:len(FIELDS_OF_7_0)], FIELDS_OF_7_0)
        direct = self.client(at=server)
        self.assertEqual(list(self.listed(direct)[0])[:len(FIELDS_OF_7_0)], FIELDS_OF_7_0)

    def test_tells_what_a_client_is_and_does(self):
        watcher, named, subscriber, queueing = (self.client() for _ in range(4))
        named.pipeline([("CLIENT", "SETNAME", "it"), ("SELECT", 5), ("GET", "k")])
        subscriber.call("SUBSCRIBE", "a")
        queueing.pipeline([("MULTI",), ("SET", "k", "1")])
        by_flags = {line["flags"]: line for line in self.listed(watcher)}
        self.assertEqual((by_flags["P"]["sub"], by_flags["P"]["cmd"]), ("1", "subscribe"))
        self.assertEqual((by_flags["x"]["multi"], by_flags["x"]["cmd"]), ("1", "set"))
        it = next(line for line in self.listed(watcher) if line["name"] == "it")
        self.assertEqual((it["db"], it["cmd"], it["resp"], it["user"]), ("5", "get", "2", "default"))
        self.assertEqual([line["flags"] for line in self.listed(watcher, "TYPE", "pubsub")], ["P"])
        self.assertEqual(self.listed(watcher, "TYPE", "master"), [])

    def test_of_ids_lists_these_alone_whichever_worker_has_them(self):
        clients = [self.client() for _ in range(2 * THREADS)]
        ids = [client.call("CLIENT", "ID") for client in clients]
        self.assertEqual([int(line["id"]) for line in self.listed(clients[0], "ID", ids[4], ids[1], 999999)],
                         sorted((ids[1], ids[4])))

    def test_keeps_its_place_in_a_pipeline(self):
        client = self.client()
        replies = client.pipeline([("SET", "k", "v"), ("GET", "k"), ("CLIENT", "SETNAME", "before"), ("CLIENT", "LIST"),
                                   ("CLIENT", "SETNAME", "after"), ("GET", "k"), ("PING",)])
        self.assertEqual(replies[:3] + replies[4:], [b"OK", b"v", b"OK", b"OK", b"v", b"PONG"])
        me = {int(line["id"]): line for line in parse_lines(replies[3])}[client.call("CLIENT", "ID")]
        self.assertEqual(me["name"], "before")

    def test_client_info_is_the_own_line(self):
        client = self.client(protocol=3)
        line = parse_lines(client.call("CLIENT", "INFO"))[0]
        self.assertEqual((int(line["id"]), line["resp"], line["cmd"]), (client.call("CLIENT", "ID"), "3", "client|info"))

    def test_is_what_redis_cli_prints(self):
        output = subprocess.run(["redis-cli", "-p", str(sidecar.port), "CLIENT", "LIST"], capture_output=True, timeout=60,
                                check=True).stdout
        self.assertIn("client|list", [line["cmd"] for line in parse_lines(output.strip())])

    def test_mistakes_are_answered_as_redis_does(self):
        ours, theirs = self.client(), self.client(at=server)
        for wrong in (("LIST", "X"), ("LIST", "TYPE"), ("LIST", "TYPE", "x"), ("LIST", "ID"), ("LIST", "ID", "x"),
                      ("LIST", "ID", "1", "x"), ("KILL",), ("KILL", "1.2.3.4:5"), ("KILL", "ID", "0"), ("KILL", "ID", "x"),
                      ("KILL", "TYPE", "x"), ("KILL", "SKIPME", "x"), ("KILL", "ID", "1", "ADDR"), ("KILL", "A", "B"),
                      ("NO-EVICT",), ("NO-EVICT", "x"), ("INFO", "x"), ("GETREDIR", "x"), ("TRACKINGINFO", "x")):
            errors = []
            for client in (ours, theirs):
                with self.assertRaises(ReplyError) as caught:
                    client.call("CLIENT", *wrong)
                errors.append(str(caught.exception))
            self.assertEqual(*errors, wrong)


class ClientKill(Case):
    def test_closes_a_client_of_another_worker_by_id(self):
        killer, victims = self.client(), [self.client() for _ in range(2 * THREADS)]
        for victim in victims:
            self.assertEqual(killer.call("CLIENT", "KILL", "ID", victim.call("CLIENT", "ID")), 1)
            self.assert_closed(victim)
        self.assertEqual(killer.call("PING"), b"PONG")

    def test_by_address_in_both_forms(self):
        killer, one, two = (self.client() for _ in range(3))
        address = {int(line["id"]): line["addr"] for line in self.listed(killer)}
        self.assertEqual(killer.call("CLIENT", "KILL", address[one.call("CLIENT", "ID")]), b"OK")
        self.assertEqual(killer.call("CLIENT", "KILL", "ADDR", address[two.call("CLIENT", "ID")]), 1)
        self.assert_closed(one)
        self.assert_closed(two)

    def test_of_type_pubsub_spares_all_others(self):
        killer, subscriber, other = (self.client() for _ in range(3))
        subscriber.call("SUBSCRIBE", "a")
        self.assertEqual(killer.call("CLIENT", "KILL", "TYPE", "pubsub"), 1)
        self.assert_closed(subscriber)
        self.assertEqual(other.call("PING"), b"PONG")

    def test_of_oneself_is_answered_first(self):
        client = self.client()
        self.assertEqual(client.call("CLIENT", "KILL", "ID", client.call("CLIENT", "ID")), 0)
        self.assertEqual(client.call("CLIENT", "KILL", "ID", client.call("CLIENT", "ID"), "SKIPME", "no"), 1)
        self.assert_closed(client)

    def test_leaves_the_sidecars_own_connections_alone(self):
        killer, other = self.client(), self.client()
        before = {line["id"] for line in parse_lines(server.call("CLIENT", "LIST"))}
        self.assertGreaterEqual(killer.call("CLIENT", "KILL", "TYPE", "normal"), 1)
        self.assert_closed(other)
        self.assertEqual(killer.call("SET", "k", "v"), b"OK")
        gone = before - {line["id"] for line in parse_lines(server.call("CLIENT", "LIST"))}
        self.assertLessEqual(len(gone), 1)  # the connection that asked

    def test_of_a_blocked_client_gives_its_upstream_connection_up(self):
        killer, blocked = self.client(), self.client()
        number = blocked.call("CLIENT", "ID")
        blocked.send("BLPOP", "nothing", 0)
        eventually(lambda: "b" in self.listed(killer, "ID", number)[0]["flags"], "a blocked client")
        self.assertEqual(killer.call("CLIENT", "KILL", "ID", number), 1)
        eventually(lambda: b"cmd=blpop" not in server.call("CLIENT", "LIST"), "nobody blocked upstream")

    def test_is_for_those_whom_the_upstream_permits(self):
        victim, user = self.client(), self.client(username="plain", password="plain-pw")
        self.assert_error(user, "NOPERM", "CLIENT", "KILL", "ID", victim.call("CLIENT", "ID"))
        self.assert_error(user, "NOPERM", "CLIENT", "LIST")
        self.assert_error(user, "NOPERM", "CONFIG", "GET", "nearcached.*")
        self.assertEqual(victim.call("PING"), b"PONG")


class ClientState(Case):
    def test_of_a_client_that_does_not_track_is_as_in_redis(self):
        for protocol in (2, 3):
            ours, theirs = (self.client(at=at, protocol=protocol) for at in (sidecar, server))
            for command in (("GETREDIR",), ("TRACKINGINFO",), ("NO-EVICT", "on"), ("NO-EVICT", "OFF")):
                self.assertEqual(ours.call("CLIENT", *command), theirs.call("CLIENT", *command))
        self.assertEqual(self.client().call("CLIENT", "NO-TOUCH", "on"), b"OK")


class OwnSettings(Case):
    def pairs(self, *patterns, protocol=2, at=None):
        reply = self.client(protocol=protocol, at=at).call("CONFIG", "GET", *patterns)
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))

    def test_are_read_by_pattern(self):
        for protocol in (2, 3):
            self.assertEqual(self.pairs("nearcached.thr*", protocol=protocol), {b"nearcached.threads": b"%d" % THREADS})
            self.assertEqual(self.pairs("nearcached.nothing", protocol=protocol), {})

    def test_stand_behind_the_upstreams_where_a_pattern_means_both(self):
        both, theirs = self.pairs("*"), self.pairs("*", at=server)
        self.assertEqual([name for name in both if not name.startswith(b"nearcached.")], list(theirs))
        self.assertIn(b"nearcached.l1.max_bytes", both)
        self.assertEqual(set(self.pairs("maxmemory", "nearcached.threads")), {b"maxmemory", b"nearcached.threads"})

    def test_the_upstreams_alone_are_untouched(self):
        self.assertEqual(self.pairs("max*"), self.pairs("max*", at=server))

    def test_keep_their_place_in_a_pipeline(self):
        replies = self.client().pipeline([("SET", "k", "v"), ("CONFIG", "GET", "nearcached.threads"), ("GET", "k"), ("PING",)])
        self.assertEqual(replies, [b"OK", [b"nearcached.threads", b"%d" % THREADS], b"v", b"PONG"])

    def test_cannot_be_set_and_nothing_beside_them_is(self):
        client = self.client()
        before = server.call("CONFIG", "GET", "maxmemory-samples")
        self.assert_error(client, "can't be changed at run time", "CONFIG", "SET", "maxmemory-samples", "9",
                          "nearcached.l1.enabled", "false")
        self.assertEqual(server.call("CONFIG", "GET", "maxmemory-samples"), before)
        self.assertEqual(client.call("CONFIG", "SET", "maxmemory-samples", "7"), b"OK")
        self.assertEqual(server.call("CONFIG", "GET", "maxmemory-samples"), [b"maxmemory-samples", b"7"])

    def test_never_tell_a_password(self):
        guarded = RedisServer(password="hush-hush")
        with Sidecar(guarded.url, {"upstream.password": "hush-hush"}) as behind:
            with behind.client(timeout=PATIENCE_S) as client:
                reply = client.call("CONFIG", "GET", "nearcached.*")
        guarded.close()
        self.assertIn(b"nearcached.upstream.password", reply)
        self.assertNotIn(b"hush-hush", b" ".join(reply))


class MemoryDoctor(Case):
    def test_speaks_of_this_process_behind_the_upstream(self):
        theirs = server.call("MEMORY", "DOCTOR")
        for protocol in (2, 3):
            client = self.client(protocol=protocol)
            report = client.call("MEMORY", "DOCTOR")
            self.assertTrue(report.startswith(theirs))
            self.assertIn(b"nearcached in front of it: L1 holds ", report[len(theirs):])
            self.assert_error(client, "wrong number of arguments", "MEMORY", "DOCTOR", "x")

    def test_other_memory_commands_are_the_upstreams(self):
        client = self.client()
        client.call("SET", "sized", "x" * 1000)
        self.assertEqual(client.call("MEMORY", "USAGE", "sized", "SAMPLES", "0"), server.call("MEMORY", "USAGE", "sized"))
        self.assertIsNone(client.call("MEMORY", "USAGE", "no-such-key"))
        self.assertIn(b"peak.allocated", client.call("MEMORY", "STATS"))


SLOW_MS = 30
# Busy for so long by the server's own clock.
SLOW_SCRIPT = ("local t = redis.call('TIME') local from = t[1] * 1000000 + t[2] repeat t = redis.call('TIME') "
               "until t[1] * 1000000 + t[2] - from > %d000 return ARGV[1]" % SLOW_MS)


class SlowLog(Case):
    def setUp(self):
        super().setUp()
        self.one = self.client()
        self.assertEqual(self.one.call("SLOWLOG", "RESET"), b"OK")

    def entries(self, *count):
        """As redis-py's parse_slowlog_get reads them."""
        return [{"id": item[0], "start_time": int(item[1]), "duration": int(item[2]), "command": b" ".join(item[3]),
                 "args": item[3], "client_address": item[4], "client_name": item[5]}
                for item in self.one.call("SLOWLOG", "GET", *count)]

    def slow(self, client, *args):
        return client.call("EVAL", SLOW_SCRIPT, 0, *(args or ("x",)))

    def test_has_what_was_answered_late_with_whom_and_the_tier(self):
        before = int(time.time())
        self.one.call("CLIENT", "SETNAME", "patient")
        self.assertEqual(self.slow(self.one, "arg"), b"arg")
        entry, = self.entries()
        self.assertEqual(entry["args"][0], b"EVAL")
        self.assertEqual(entry["args"][-2:], [b"arg", b"(tier: upstream)"])
        self.assertGreaterEqual(entry["duration"], SLOW_MS * 1000)
        self.assertLessEqual(before, entry["start_time"])
        self.assertLessEqual(entry["start_time"], int(time.time()) + 1)
        me = self.listed(self.one, "ID", self.one.call("CLIENT", "ID"))[0]
        self.assertEqual((entry["client_address"].decode(), entry["client_name"]), (me["addr"], b"patient"))
        self.assertEqual(self.one.call("SLOWLOG", "LEN"), 1)

    def test_has_the_commands_of_all_workers_and_a_bound(self):
        clients = [self.client() for _ in range(2 * THREADS)]
        for client in clients:
            self.slow(client)
        ids = [entry["id"] for entry in self.entries()]
        self.assertEqual(ids, sorted(ids, reverse=True))
        self.assertEqual(len(set(ids)), 2 * THREADS)
        self.assertEqual(len(self.entries(2)), 2)
        self.assertEqual(len(self.entries(0)), 0)
        for _ in range(8):
            self.slow(self.one)
        self.assertEqual(len(self.entries(-1)), 12)
        self.assertEqual(self.one.call("SLOWLOG", "RESET"), b"OK")
        self.slow(self.one)
        self.assertGreater(self.entries()[0]["id"], max(ids))

    def test_is_not_the_upstreams(self):
        server.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
        self.one.pipeline([("SET", "k", "v"), ("GET", "k")])
        server.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        self.assertEqual(self.entries(), [])

    def test_shortens_as_redis_does(self):
        direct = self.client(at=server)
        direct.call("CONFIG", "SET", "slowlog-log-slower-than", str(SLOW_MS * 500))
        direct.call("SLOWLOG", "RESET")
        self.slow(self.one, "a" * 200, *(str(i) for i in range(40)))
        theirs = [item[3] for item in direct.call("SLOWLOG", "GET")]
        direct.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        self.assertEqual([entry["args"][:-1] for entry in self.entries()], theirs)

    def test_never_has_a_password(self):
        blocker = self.client()
        guarded = RedisServer()
        guarded.call("ACL", "SETUSER", "u", "on", ">swordfish", "~*", "+@all")
        with Sidecar(guarded.url, {"slowlog.slower_than": "1ms"}) as behind:
            busy, victim = behind.client(timeout=PATIENCE_S), behind.client(timeout=PATIENCE_S)
            for command in (("AUTH", "u", "swordfish"), ("HELLO", "2", "AUTH", "u", "swordfish"),
                            ("ACL", "SETUSER", "v", ">swordfish"), ("CONFIG", "SET", "masterauth", "swordfish")):
                busy.send("EVAL", SLOW_SCRIPT, 0, "x")
                victim.call(*command)
                busy.read()
            log = victim.call("SLOWLOG", "GET", "-1")
            for client in (busy, victim):
                client.close()
        guarded.close()
        self.assertNotIn(b"swordfish", repr(log).encode())
        self.assertIn(b"(redacted)", repr(log).encode())
        self.assertEqual(blocker.call("PING"), b"PONG")

    def test_tells_reads_for_l1_and_answers_of_this_process_from_the_rest(self):
        sidecar.wait_caching()
        busy, reader, other = (self.client() for _ in range(3))

        def slow():
            self.one.call("SLOWLOG", "RESET")
            busy.send("EVAL", SLOW_SCRIPT.replace(str(SLOW_MS * 1000), "150000"), 0, "x")
            reader.send("GET", "not-read-before-%d" % time.time_ns())
            other.send("CLIENT", "LIST")
            for client in (busy, reader, other):
                client.read()
            tiers = {entry["args"][0]: entry["args"][-1] for entry in self.entries()}
            return tiers if len(tiers) == 3 else None  # else the script came last

        self.assertEqual(eventually(slow, "three that are slow"),
                         {b"EVAL": b"(tier: upstream)", b"GET": b"(tier: fill)", b"CLIENT": b"(tier: local)"})

    def test_waiting_on_purpose_is_not_slow(self):
        self.one.call("BLPOP", "nothing", "0.1")
        self.assertEqual(self.entries(), [])

    def test_mistakes_are_answered_as_redis_does(self):
        ours, theirs = self.client(), self.client(at=server)
        for wrong in (("GET", "x"), ("GET", "-2"), ("GET", "1", "2"), ("LEN", "x"), ("RESET", "x"), ("X",)):
            errors = []
            for client in (ours, theirs):
                with self.assertRaises(ReplyError) as caught:
                    client.call("SLOWLOG", *wrong)
                errors.append(str(caught.exception))
            self.assertEqual(*errors, wrong)

    def test_is_what_redis_cli_prints(self):
        self.slow(self.one)
        output = subprocess.run(["redis-cli", "-p", str(sidecar.port), "SLOWLOG", "GET"], capture_output=True, timeout=60,
                                check=True).stdout
        self.assertIn(b"(tier: upstream)", output)

    def test_and_latency_are_for_those_whom_the_upstream_permits(self):
        user = self.client(username="plain", password="plain-pw")
        for command in (("SLOWLOG", "GET"), ("SLOWLOG", "LEN"), ("SLOWLOG", "RESET"), ("LATENCY", "HISTOGRAM"),
                        ("LATENCY", "RESET"), ("CLIENT", "PAUSE", "1"), ("MONITOR",)):
            self.assert_error(user, "NOPERM", *command)


class Latency(Case):
    def setUp(self):
        super().setUp()
        self.one = self.client(protocol=3)
        self.one.call("LATENCY", "RESET")

    def test_histograms_count_what_left_the_process_on_any_worker(self):
        before = self.one.call("LATENCY", "HISTOGRAM", "setrange").get(b"setrange", {b"calls": 0})[b"calls"]
        for client in [self.client() for _ in range(2 * THREADS)]:
            client.pipeline([("SETRANGE", "k", "0", "v")] * 10)
        after = self.one.call("LATENCY", "HISTOGRAM", "SETRANGE")
        self.assertEqual(list(after), [b"setrange"])
        self.assertEqual(after[b"setrange"][b"calls"], before + 20 * THREADS)
        buckets = after[b"setrange"][b"histogram_usec"]
        self.assertEqual(list(buckets), sorted(buckets))
        self.assertEqual(max(buckets.values()), before + 20 * THREADS)

    def test_histograms_have_redis_s_shape_and_bounds(self):
        for protocol in (2, 3):
            ours, theirs = (self.client(at=at, protocol=protocol) for at in (sidecar, server))
            for client in (ours, theirs):
                client.call("CONFIG", "SET", "maxmemory-samples", "5")
            shapes = [self.shape(client.call("LATENCY", "HISTOGRAM", "config|set", "no-such", "CONFIG|SET"))
                      for client in (ours, theirs)]
            self.assertEqual(*shapes)
            self.assertEqual(ours.call("LATENCY", "HISTOGRAM", "no-such"), theirs.call("LATENCY", "HISTOGRAM", "no-such"))
        self.assertIn(b"config|set", self.one.call("LATENCY", "HISTOGRAM", "config"))

    def shape(self, reply):
        """Names and types, numbers apart; of lists of numbers whether there are any."""
        if isinstance(reply, dict):
            numbers = all(isinstance(name, int) for name in reply)
            return bool(reply) if numbers else {name: self.shape(value) for name, value in reply.items()}
        if isinstance(reply, list):
            return bool(reply) if all(isinstance(item, int) for item in reply) else [self.shape(item) for item in reply]
        return type(reply) if isinstance(reply, int) else reply

    def test_slow_commands_are_events(self):
        self.one.call("EVAL", SLOW_SCRIPT, 0, "x")
        latest = self.one.call("LATENCY", "LATEST")
        self.assertEqual([event[0] for event in latest], [b"command-upstream"])
        self.assertGreaterEqual(latest[0][2], SLOW_MS)
        self.assertGreaterEqual(latest[0][3], latest[0][2])
        self.assertEqual([sample[1] for sample in self.one.call("LATENCY", "HISTORY", "command-upstream")][-1], latest[0][2])
        self.assertIn(b"command-upstream", self.one.call("LATENCY", "DOCTOR"))
        self.assertIn(b"ms", self.one.call("LATENCY", "GRAPH", "command-upstream"))
        self.assertEqual(self.one.call("LATENCY", "RESET", "command-upstream", "x"), 1)
        self.assertEqual(self.one.call("LATENCY", "LATEST"), [])

    def test_without_events_the_answers_are_redis_s(self):
        theirs = self.client(at=server, protocol=3)
        for command in (("LATEST",), ("HISTORY", "x"), ("RESET",), ("RESET", "a", "b")):
            self.assertEqual(self.one.call("LATENCY", *command), theirs.call("LATENCY", *command), command)
        for wrong in (("GRAPH", "x"), ("HISTORY",), ("LATEST", "x"), ("X",)):
            errors = []
            for client in (self.one, theirs):
                with self.assertRaises(ReplyError) as caught:
                    client.call("LATENCY", *wrong)
                errors.append(str(caught.exception))
            self.assertEqual(*errors, wrong)


class Pause(Case):
    def test_of_writes_holds_writes_and_no_reads_until_it_is_over(self):
        pauser, writer, reader = (self.client() for _ in range(3))
        writer.call("SET", "paused", "before")
        self.assertEqual(pauser.call("CLIENT", "PAUSE", "600000", "WRITE"), b"OK")
        writer.send("SET", "paused", "after")
        publisher, listener = self.client(), self.client(protocol=3)
        listener.send("SUBSCRIBE", "paused")
        listener.read_push()
        publisher.send("PUBLISH", "paused", "x")  # a write as far as a pause goes
        for client in (reader, self.client(), self.client(at=server)):
            self.assertEqual(client.call("GET", "paused"), b"before")
        self.assertEqual(pauser.call("CLIENT", "UNPAUSE"), b"OK")
        self.assertEqual(writer.read(), b"OK")
        self.assertEqual(publisher.read(), 1)
        self.assertEqual(reader.call("GET", "paused"), b"after")

    def test_of_all_holds_every_worker_s_clients_and_keeps_their_order(self):
        clients = [self.client() for _ in range(2 * THREADS)]
        pauser = self.client()
        self.assertEqual(pauser.call("CLIENT", "PAUSE", "300"), b"OK")
        paused = time.monotonic()
        for client in clients:
            client.send("PING")
            client.send("SET", "order", "1")
            client.send("GET", "order")
        for client in clients:
            self.assertEqual([client.read() for _ in range(3)], [b"PONG", b"OK", b"1"])
        self.assertGreaterEqual(time.monotonic() - paused, 0.2)

    def test_is_no_idleness(self):
        with Sidecar(server.url, {"limits.idle_timeout": "1s"}) as impatient:
            pauser, writer = (impatient.client(timeout=PATIENCE_S) for _ in range(2))
            self.assertEqual(pauser.call("CLIENT", "PAUSE", "3500", "WRITE"), b"OK")
            writer.send("SET", "k", "v")
            self.assertEqual(writer.read(), b"OK")
            pauser.close()
            writer.close()

    def test_is_not_made_shorter_by_a_second_one(self):
        pauser, writer = self.client(), self.client()
        pauser.pipeline([("CLIENT", "PAUSE", "600000", "WRITE"), ("CLIENT", "PAUSE", "1", "WRITE")])
        writer.send("SET", "k", "v")
        with self.assertRaises(OSError):
            writer.read(timeout=0.2)
        pauser.call("CLIENT", "UNPAUSE")

    def test_mistakes_are_answered_as_redis_does(self):
        ours, theirs = self.client(), self.client(at=server)
        for wrong in (("PAUSE",), ("PAUSE", "x"), ("PAUSE", "-1"), ("PAUSE", "10", "x"), ("PAUSE", "10", "all", "x"),
                      ("PAUSE", "99999999999999999999"), ("UNPAUSE", "x")):
            errors = []
            for client in (ours, theirs):
                with self.assertRaises(ReplyError) as caught:
                    client.call("CLIENT", *wrong)
                errors.append(str(caught.exception))
            self.assertEqual(*errors, wrong)


class Monitor(Case):
    LINE = re.compile(r'^(\d+\.\d{6}) \[(\d+) (\S+)\]((?: "(?:[^"\\]|\\.)*")+)$')

    def monitor(self, at=None, **options):
        client = self.client(at=at, **options)
        self.assertEqual(client.call("MONITOR"), b"OK")
        return client

    def lines(self, monitor, last):
        """Up to the one that has `last`: (database, address, the rest)."""
        seen = []
        while True:
            match = self.LINE.match(monitor.read().decode())
            self.assertIsNotNone(match)
            self.assertAlmostEqual(float(match[1]), time.time(), delta=60)
            if last in match[4]:
                return seen
            seen.append((int(match[2]), match[3], match[4].strip()))

    def test_shows_what_clients_of_all_workers_do_hits_included(self):
        monitor = self.monitor()
        clients = [self.client() for _ in range(2 * THREADS)]
        for client in clients:
            client.pipeline([("SET", "m", "v"), ("GET", "m"), ("GET", "m"), ("get", "m")])
        addresses = {line["addr"] for line in self.listed(clients[0])}
        clients[0].call("ECHO", "wait for this")
        shown = self.lines(monitor, "wait for this")
        # What other workers did comes in their own turns.
        while len([line for line in shown if '"m"' in line[2]]) < 8 * THREADS:
            clients[0].call("ECHO", "and this")
            shown += self.lines(monitor, "and this")
        self.assertEqual(sum(line[2] == '"SET" "m" "v"' for line in shown), 2 * THREADS)
        self.assertEqual(sum(line[2] == '"GET" "m"' for line in shown), 4 * THREADS)
        self.assertEqual(sum(line[2] == '"get" "m"' for line in shown), 2 * THREADS)
        self.assertLessEqual({line[1] for line in shown}, addresses)

    def test_shows_what_redis_shows_word_for_word(self):
        commands = [("SET", "a\r\n\t\a\b\\\"\x00\x7f", "\u00e9"), ("AUTH", "no", "secret"), ("AUTH", "secret"),
                    ("HELLO", "2", "AUTH", "no", "secret", "SETNAME", "x"), ("CONFIG", "SET", "requirepass", ""), ("SELECT", "3"),
                    ("PING",), ("CLIENT", "SETNAME", "y"), ("SLOWLOG", "LEN"), ("CLIENT", "LIST"), ("SELECT", "0"), ("GET",),
                    ("MIGRATE", "h", "1", "k", "0", "9", "AUTH2", "u", "secret"), ("LPUSH", "l", "")]
        shown = []
        for at in (sidecar, server):
            monitor, client = self.monitor(at=at), self.client(at=at)
            me = client.call("CLIENT", "LIST", "ID", client.call("CLIENT", "ID")).decode().split("addr=")[1].split()[0]
            for command in commands:
                client.send(*command)
                client.read()
            client.call("ECHO", "last")
            # SELECT is shown with the database that it leaves, in Redis with the one that it enters.
            shown.append([(None if "SELECT" in line[2] else line[0], line[2]) for line in self.lines(monitor, '"last"')
                          if line[1] == me and line[2] != '"CLIENT" "ID"'])
        self.assertEqual(*shown)
        self.assertNotIn("secret", repr(shown))

    def test_keeps_answering_its_client_but_not_about_keys(self):
        for protocol in (2, 3):
            monitor = self.monitor(protocol=protocol)
            self.assert_error(monitor, "ERR Replica can't interact with the keyspace", "GET", "k")
            self.assert_error(monitor, "ERR Replica can't interact with the keyspace", "SET", "k", "v")
            self.assertEqual(self.listed(self.client(), "ID", monitor_id(monitor))[0]["flags"], "O")

    def test_ends_with_reset(self):
        monitor, other = self.monitor(), self.client()
        monitor.send("RESET")
        while monitor.read() != b"RESET":
            pass
        other.call("SET", "k", "v")
        self.assertEqual(monitor.call("GET", "k"), b"v")

    def test_that_goes_costs_nothing_after(self):
        self.monitor().close()
        other = self.client()
        self.assertEqual(other.pipeline([("SET", "k", "v")] * 1000), [b"OK"] * 1000)

    def test_that_does_not_read_is_closed_by_the_output_limit(self):
        with Sidecar(server.url, {"threads": 2, "limits.output_bytes": "1MB", "limits.output_pause_bytes": "64KB"}) as small:
            deaf, busy = small.client(timeout=PATIENCE_S), small.client(timeout=PATIENCE_S)
            self.assertEqual(deaf.call("MONITOR"), b"OK")
            load = [("ECHO", "x" * 4000)] * 100

            def gone():
                busy.pipeline(load)
                return len(parse_lines(busy.call("CLIENT", "LIST"))) == 1

            eventually(gone, "the monitor's end")
            self.assertEqual(busy.call("PING"), b"PONG")
            busy.close()
            deaf.close()

    def test_is_what_redis_cli_shows(self):
        process = subprocess.Popen(["redis-cli", "-p", str(sidecar.port), "MONITOR"], stdout=subprocess.PIPE)
        timer = threading.Timer(PATIENCE_S, process.kill)
        timer.start()
        try:
            self.assertEqual(process.stdout.readline(), b"OK\n")
            self.client().call("ECHO", "to redis-cli")
            self.assertIn(b'"ECHO" "to redis-cli"', process.stdout.readline())
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            process.stdout.close()


def monitor_id(monitor):
    """Its own CLIENT ID is not shown to it before its answer."""
    monitor.send("CLIENT", "ID")
    while True:
        reply = monitor.read()
        if isinstance(reply, int):
            return reply


if __name__ == "__main__":
    main()
