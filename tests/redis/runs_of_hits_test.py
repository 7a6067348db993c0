#!/usr/bin/env python3
"""Runs of GETs that L1 answers in one go, and whatever can stand before, within and behind them: the replies are those that
the server gives, in its order, and nothing that concerns a command is passed over because it is a hit."""

import threading
import unittest

from system import RedisServer, ReplyError, Sidecar, encode, eventually, main

KEYS = 100  # several times what is looked up at once
SETTINGS = {"coherence.max_staleness": "20s", "upstream.swapdb": "never", "coherence.audit_one_in": 7}
USERS = """
users:
  - name: default
    nopass: true
    commands: "+@all"
    keys: "run:*"
"""


def setUpModule():
    global server, sidecar
    server = RedisServer()
    sidecar = Sidecar(server.url, {**SETTINGS, "namespaces": '[{prefix: "strict:", consistency: strict}]'})
    sidecar.wait_caching()


def tearDownModule():
    assert sidecar.metric("nearcached_audit_stale_total") == 0
    sidecar.close()
    server.close()


def gets(count=KEYS, name="GET"):
    return [(name, f"run:{i}") for i in range(count)]


def joined(requests):
    return b"".join(encode(*request) for request in requests)


class Case(unittest.TestCase):
    def setUp(self):
        with server.client() as direct:
            direct.call("FLUSHALL")
            direct.pipeline([("SET", f"run:{i}", f"value {i} " * i) for i in range(KEYS)])
        self.warm()

    def warm(self, protocol=2):
        with sidecar.client(protocol=protocol) as client:
            def all_hits():
                before = sidecar.hits
                client.pipeline(gets())
                return sidecar.hits - before == KEYS
            eventually(all_hits, "all keys in L1")

    def client(self, where=None, **options):
        client = (where or sidecar).client(**options)
        self.addCleanup(client.close)
        return client

    def assert_as_the_server(self, requests, protocol=2, hits=None):
        direct, near = self.client(server, protocol=protocol), self.client(protocol=protocol)
        before = sidecar.hits
        direct.raw(joined(requests))
        near.raw(joined(requests))
        for request in requests:
            self.assertEqual(near.read_raw(), direct.read_raw(), request)
        if hits is not None:
            self.assertEqual(sidecar.hits - before, hits)


class Replies(Case):
    def test_a_run_of_any_length_is_answered_and_counted(self):
        for count in (1, 2, 15, 16, 17, 31, 32, 33, KEYS):
            for protocol in (2, 3):
                self.assert_as_the_server(gets(count), protocol, hits=count)
        commands = sidecar.metric("nearcached_commands_total")
        self.client().pipeline(gets(50, "gEt"))
        self.assertGreaterEqual(sidecar.metric("nearcached_commands_total") - commands, 50)

    def test_cut_anywhere_the_bytes_that_come_later_complete_it(self):
        data = joined(gets(4))
        expected = self.client(server).pipeline(gets(4))
        client = self.client()
        for cut in range(1, len(data)):
            client.raw(data[:cut])
            client.raw(data[cut:])
            self.assertEqual([client.read() for _ in range(4)], expected, cut)
        for byte in data:  # each in a packet of its own
            client.raw(bytes([byte]))
        self.assertEqual([client.read() for _ in range(4)], expected)

    def test_hits_misses_and_other_commands_keep_their_order(self):
        requests = []
        for i in range(60):
            requests += [("GET", f"run:{i}"), ("GET", f"not there {i}"), ("STRLEN", f"run:{i}"), ("PING", str(i)), ("GET",),
                         ("GET", f"run:{i}", "extra"), ("NOSUCH", "x"), ("GET", f"run:{i + 1}"), ("ECHO", "run:1")]
        self.assert_as_the_server(requests)
        self.assert_as_the_server(requests, 3)

    def test_nulls_and_wrong_types_are_told_in_the_protocol_of_the_client(self):
        with server.client() as direct:
            direct.call("RPUSH", "a list", "x")
        for protocol in (3, 2, 3):
            requests = [("GET", "run:1"), ("GET", "not there"), ("GET", "a list"), ("GET", "run:2")] * 20
            for _ in range(3):
                self.assert_as_the_server(requests, protocol)

    def test_a_malformed_request_behind_a_run_ends_the_connection_behind_its_replies(self):
        direct, near = self.client(server), self.client()
        data = joined(gets(20)) + b"*1\r\n!oops\r\n"
        direct.raw(data)
        near.raw(data)
        self.assertEqual(near.read_until_closed(), direct.read_until_closed())

    def test_keys_with_every_byte_and_inline_commands(self):
        odd = [bytes(range(256)), b"\r\n", b"$3\r\nGET\r\n", b"", b"k" * 998, b"k" * 999, b"k" * 1000]
        with server.client() as direct:
            for key in odd:
                direct.call("SET", key, b"of " + key)
        for _ in range(3):
            self.assert_as_the_server([("GET", key) for key in odd] * 3)
        client = self.client()
        client.raw(b"GET run:1\r\n" + joined(gets(3)) + b"get run:2\r\n")
        self.assertEqual([client.read() for _ in range(5)], [b"value 1 ", b"", b"value 1 ", b"value 2 " * 2, b"value 2 " * 2])


class Order(Case):
    def test_own_writes_within_the_run_are_seen_behind_them_and_not_before(self):
        client = self.client()
        for turn in range(50):
            requests = [("GET", "run:1"), ("SET", "run:1", str(turn)), ("GET", "run:1"), ("GET", "run:2"), ("GET", "run:1")]
            before = client.call("GET", "run:1")
            replies = client.pipeline(requests)
            self.assertEqual([replies[0], replies[2], replies[4]], [before, str(turn).encode(), str(turn).encode()])

    def test_a_foreign_write_empties_the_entry_for_the_next_run(self):
        client = self.client()
        with server.client() as direct:
            for turn in range(30):
                direct.call("SET", "run:7", str(turn))
                eventually(lambda: client.pipeline(gets(16))[7] == str(turn).encode(), "the new value")
                self.assertEqual(client.pipeline(gets(16))[7], str(turn).encode())

    def test_behind_a_command_that_blocks_the_run_waits(self):
        client, other = self.client(), self.client()
        client.raw(encode("BLPOP", "queue", "20") + joined(gets(10)))
        eventually(lambda: server.info("clients")["blocked_clients"] == "1", "the blocked client")
        other.call("RPUSH", "queue", "job")
        self.assertEqual(client.read(), [b"queue", b"job"])
        self.assertEqual([client.read() for _ in range(10)], self.client(server).pipeline(gets(10)))

    def test_a_client_that_does_not_read_gets_all_when_it_does(self):
        with server.client() as direct:
            direct.pipeline([("SET", f"run:{i}", b"%03d" % i * 20_000) for i in range(KEYS)])
        self.warm()
        client = self.client(timeout=60)
        sender = threading.Thread(target=lambda: [client.sock.sendall(joined(gets())) for _ in range(10)])
        client.sock.settimeout(60)
        sender.start()
        for _ in range(10):
            for i in range(KEYS):
                self.assertEqual(client.read(), b"%03d" % i * 20_000)
        sender.join()


class States(Case):
    def test_transactions_queue_them(self):
        self.assert_as_the_server([*gets(3), ("MULTI",), *gets(20), ("EXEC",), *gets(5)])
        self.assert_as_the_server([("MULTI",), *gets(2), ("DISCARD",), *gets(20)])

    def test_replies_switched_off_and_skipped(self):
        client = self.client()
        client.raw(joined([*gets(3), ("CLIENT", "REPLY", "SKIP"), *gets(3), ("CLIENT", "REPLY", "OFF"), *gets(30),
                           ("CLIENT", "REPLY", "ON"), *gets(3)]))
        values = self.client(server).pipeline(gets(3))
        self.assertEqual([client.read() for _ in range(3 + 2 + 1 + 3)], [*values, *values[1:], b"OK", *values])

    def test_a_subscriber_of_resp2_may_not_get(self):
        client = self.client()
        client.call("SUBSCRIBE", "channel")
        for reply in client.pipeline(gets(20)):
            self.assertRegex(str(reply), "Can't execute 'get'")

    def test_another_database_has_other_keys(self):
        with server.client() as direct:
            direct.pipeline([("SELECT", "3"), ("SET", "run:1", "in 3")])
        for _ in range(3):
            self.assert_as_the_server([*gets(20), ("SELECT", "3"), *gets(20), ("SELECT", "0"), *gets(20)])

    def test_a_client_that_paused_the_others_makes_writes_wait_and_all_when_asked(self):
        client, other = self.client(), self.client()
        other.call("CLIENT", "PAUSE", "20000", "ALL")
        client.raw(joined(gets(20)))
        client.sock.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.sock.recv(1)
        other.call("CLIENT", "UNPAUSE")
        self.assertEqual([client.read() for _ in range(20)], self.client(server).pipeline(gets(20)))

    def test_a_monitor_sees_each(self):
        monitor = self.client()
        self.assertEqual(monitor.call("MONITOR"), b"OK")
        self.client().pipeline(gets(40))
        seen = [monitor.read().decode() for _ in range(40)]
        self.assertEqual([line.split('"')[1:4:2] for line in seen], [["GET", f"run:{i}"] for i in range(40)])

    def test_what_is_strict_is_asked_upstream_each_time(self):
        with server.client() as direct:
            direct.call("SET", "strict:1", "v")
        client = self.client()
        before = server.info("commandstats")["cmdstat_get"]
        self.assertEqual(client.pipeline([("GET", "run:1"), ("GET", "strict:1")] * 10), [b"value 1 ", b"v"] * 10)
        calls = [int(text.split("calls=")[1].split(",")[0]) for text in (before, server.info("commandstats")["cmdstat_get"])]
        self.assertGreaterEqual(calls[1] - calls[0], 10)


class Audits(unittest.TestCase):
    def test_keys_that_a_flush_drops_behind_the_hit_are_no_wrong_answers(self):
        settings = {**SETTINGS, "coherence.audit_one_in": 1, "coherence.audit_per_second": 10_000}
        with Sidecar(server.url, settings) as audited, audited.client() as client, server.client() as direct:
            audited.wait_caching()
            for turn in range(200):
                direct.pipeline([("SET", f"run:{i}", f"{turn} {i}") for i in range(20)])
                for _ in range(3):
                    client.pipeline(gets(20))
                client.raw(joined(gets(20)))
                direct.call("FLUSHALL")
                for _ in range(20):
                    client.read()
            self.assertGreater(audited.metric("nearcached_audit_checked_total"), 0)
            self.assertEqual(audited.metric("nearcached_audit_stale_total"), 0)


class Rights(unittest.TestCase):
    def test_a_denied_get_is_denied_though_it_would_be_a_hit(self):
        with Sidecar(server.url, {**SETTINGS, "security.deny_commands": "get"}) as denied, denied.client() as client:
            for _ in range(3):
                for reply in client.pipeline(gets(20)):
                    self.assertIsInstance(reply, ReplyError)
                    self.assertEqual(reply.code, "NOPERM")

    def test_a_user_reads_the_keys_that_it_may(self):
        users = Sidecar(server.url, SETTINGS, start=False)
        config = users.directory / "users.yaml"
        config.write_text(USERS)
        users.args = ["--config", str(config)]
        with server.client() as direct:
            direct.call("SET", "run:1", "mine")
            direct.call("SET", "other:1", "not mine")
        with users:
            users.start()
            with users.client() as client:
                for _ in range(5):
                    replies = client.pipeline([("GET", "run:1"), ("GET", "other:1")] * 20)
                    self.assertEqual(replies[::2], [b"mine"] * 20)
                    self.assertEqual({reply.code for reply in replies[1::2]}, {"NOPERM"})


if __name__ == "__main__":
    main()
