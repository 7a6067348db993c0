#!/usr/bin/env python3
"""TLS towards clients and towards the upstream: what works through it, who is refused and is told why, renewal in place."""

import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
import unittest
import warnings

from system import (BINARY, PATIENCE_S, Client, RedisServer, ReplyError, Sidecar, encode, eventually, free_port, main)
from certificates import Authority, TlsCluster, TlsRedisServer, TlsSentinelSet
import servers

servers.require("openssl")

LARGE = random.Random(7).randbytes(10 << 20)


def setUpModule():
    global authority, strangers, redis
    authority = Authority()
    strangers = Authority("strangers")
    redis = RedisServer()


def tearDownModule():
    redis.close()


def with_listener(pair, upstream=None, settings=None, **options):
    """A sidecar with a TLS listener beside its plain one; `tls_address` is where."""
    address = f"127.0.0.1:{free_port()}"
    sidecar = Sidecar(upstream or redis.url, {"tls.cert": pair.cert, "tls.key": pair.key, **(settings or {})},
                      args=["--listen", f"rediss://{address}"], **options)
    sidecar.tls_address = address
    return sidecar


def tls_client(sidecar, context=None, timeout=PATIENCE_S, **options):
    return Client(sidecar.tls_address, tls=context or authority.client_context(), timeout=timeout, **options)


def shown_certificate(sidecar):
    with tls_client(sidecar) as client:
        return client.sock.getpeercert(binary_form=True)


def on_disk(pair):
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


class ByHand:
    """A TLS client whose bytes the test carries itself."""

    def __init__(self, address):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = authority.client_context().wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.sock = socket.create_connection(address.split(":"), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, piece_bytes=1 << 20):
        """What has collected, in pieces that each have a packet of their own."""
        data = self.outgoing.read()
        for at in range(0, len(data), piece_bytes):
            self.sock.sendall(data[at:at + piece_bytes])

    def receive(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("closed")
        self.incoming.write(data)

    def handshake(self, piece_bytes=1 << 20, send_last=True):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(piece_bytes)
                self.receive()
                continue
            if send_last:
                self.send(piece_bytes)
            return

    def read(self, size):
        data = b""
        while len(data) < size:
            try:
                data += self.tls.read(size - len(data))
            except ssl.SSLWantReadError:
                self.receive()
        return data


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pair = authority.issue("listener")
        cls.sidecar = with_listener(cls.pair)

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.close()

    def setUp(self):
        self.assertTrue(self.sidecar.alive)

    def test_both_protocols_are_served_as_without_tls(self):
        for protocol in (2, 3):
            with self.subTest(protocol=protocol), tls_client(self.sidecar, protocol=protocol) as client:
                self.assertEqual(client.pipeline([("SET", "k", protocol), ("GET", "k"), ("NOSUCH",)])[:2],
                                 [b"OK", b"%d" % protocol])
                self.assertEqual(client.call("HGETALL", "no"), {} if protocol == 3 else [])

    def test_repeated_reads_are_hits(self):
        with tls_client(self.sidecar) as client:
            client.call("SET", "hot", "v")

            def hit():
                before = self.sidecar.hits
                self.assertEqual(client.pipeline([("GET", "hot")] * 3), [b"v"] * 3)
                return self.sidecar.hits > before
            eventually(hit, "a hit of a client of TLS")

    def test_a_pipeline_of_thousands_is_answered_in_order(self):
        with tls_client(self.sidecar) as client:
            commands = [("ECHO", f"{i}:" + "x" * (i % 300)) for i in range(20_000)]
            self.assertEqual(client.pipeline(commands), [text.encode() for _, text in commands])

    def test_large_values_cross_unharmed_in_both_directions(self):
        with tls_client(self.sidecar) as client:
            self.assertEqual(client.call("SET", "large", LARGE), b"OK")
            self.assertEqual(redis.call("GET", "large"), LARGE)
            for _ in range(3):
                self.assertEqual(client.call("GET", "large"), LARGE)
            self.assertEqual([len(value) for value in client.pipeline([("GET", "large"), ("GET", "large")])],
                             [len(LARGE)] * 2)

    def test_a_client_that_reads_late_gets_all_of_it(self):
        with tls_client(self.sidecar) as client:
            client.call("SET", "late", LARGE[:1 << 20])
            for _ in range(40):
                client.send("GET", "late")
                client.send("ECHO", "behind")
            time.sleep(0.3)
            for _ in range(40):
                self.assertEqual(client.read(), LARGE[:1 << 20])
                self.assertEqual(client.read(), b"behind")

    def test_transactions_blocking_commands_and_messages(self):
        with tls_client(self.sidecar) as one, tls_client(self.sidecar) as other:
            self.assertEqual(one.pipeline([("MULTI",), ("SET", "t", 1), ("GET", "t"), ("EXEC",)])[-1], [b"OK", b"1"])
            one.send("BLPOP", "list", 0)
            time.sleep(0.05)
            other.call("RPUSH", "list", "item")
            self.assertEqual(one.read(), [b"list", b"item"])
            one.call("SUBSCRIBE", "channel")
            eventually(lambda: other.call("PUBLISH", "channel", "hello") == 1, "the subscription")
            self.assertEqual(one.read(), [b"message", b"channel", b"hello"])

    def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.client_context()
            context.minimum_version = context.maximum_version = version
            with tls_client(self.sidecar, context) as client:
                self.assertEqual(client.sock.version().replace("v1.", "v1_"), version.name)
                self.assertEqual(client.call("PING"), b"PONG")
        context = authority.client_context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            tls_client(self.sidecar, context)
        self.sidecar.wait_for_log("client_closed.*(unsupported protocol|version)")

    def test_redis_cli_is_served(self):
        host, _, port = self.sidecar.tls_address.rpartition(":")
        done = subprocess.run(["redis-cli", "-h", host, "-p", port, "--tls", "--cacert", authority.cert], input="SET cli 1\nGET cli\n",
                              capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        self.assertEqual(done.stdout, "OK\n1\n")

    def test_the_plain_listener_beside_it_stays_plain(self):
        self.assertEqual(self.sidecar.call("PING"), b"PONG")
        with self.assertRaises((OSError, ssl.SSLError)):
            Client(self.sidecar.address, tls=authority.client_context(), timeout=2)

    def test_who_does_not_speak_tls_is_closed_and_the_log_says_why(self):
        for data in (encode("PING"), b"PING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100),
                     bytes(1000), random.Random(3).randbytes(5000)):
            with self.subTest(data=data[:20]), socket.create_connection(self.sidecar.tls_address.split(":"),
                                                                        timeout=PATIENCE_S) as sock:
                received = b""
                try:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    while chunk := sock.recv(4096):
                        received += chunk
                except OSError:
                    pass
                self.assertNotIn(b"PONG", received)
                self.assertLess(len(received), 100)
        self.sidecar.wait_for_log(r'client_closed.*TLS: ')
        with tls_client(self.sidecar) as client:
            self.assertEqual(client.call("PING"), b"PONG")

    def test_who_only_looks_whether_the_port_is_open_is_not_worth_a_line(self):
        sidecar = with_listener(self.pair)
        with sidecar:
            for _ in range(3):
                socket.create_connection(sidecar.tls_address.split(":")).close()
            eventually(lambda: sidecar.metric("nearcached_clients") == 0, "the connections to be gone")
            with tls_client(sidecar) as client:
                client.call("PING")
            self.assertNotIn("client_closed", "\n".join(sidecar.log))

    def test_a_handshake_and_a_request_may_come_byte_by_byte(self):
        with ByHand(self.sidecar.tls_address) as client:
            client.handshake(piece_bytes=1)
            client.tls.write(encode("ECHO", "slow"))
            client.send(piece_bytes=1)
            self.assertEqual(client.read(10), b"$4\r\nslow\r\n")

    def test_a_request_right_behind_the_handshake_is_answered(self):
        """The last message of the handshake and the first requests in one packet: no further readiness comes for them."""
        for records in (1, 3, 50):
            with self.subTest(records=records), ByHand(self.sidecar.tls_address) as client:
                client.handshake(send_last=False)
                for i in range(records):
                    client.tls.write(encode("ECHO", f"{i:04}"))
                client.send()
                for i in range(records):
                    self.assertEqual(client.read(10), b"$4\r\n%04d\r\n" % i)

    def test_many_records_in_one_packet_are_all_answered(self):
        with ByHand(self.sidecar.tls_address) as client:
            client.handshake()
            for i in range(2000):
                client.tls.write(encode("ECHO", f"{i:04}"))
            client.send()
            for i in range(2000):
                self.assertEqual(client.read(10), b"$4\r\n%04d\r\n" % i)

    def test_the_end_is_said_by_both_sides(self):
        with tls_client(self.sidecar) as client:
            client.send("QUIT")
            self.assertEqual(client.read(), b"OK")
            # Without the other side's close_notify this would be an error.
            client.sock.suppress_ragged_eofs = False
            self.assertEqual(client.sock.recv(1), b"")
        with ByHand(self.sidecar.tls_address) as client:
            client.handshake()
            client.tls.write(encode("ECHO", "last"))
            with self.assertRaises(ssl.SSLWantReadError):
                client.tls.unwrap()
            client.send()
            self.assertEqual(client.read(10), b"$4\r\nlast\r\n")

    def test_a_request_cut_off_by_a_lost_connection_is_not_executed(self):
        with ByHand(self.sidecar.tls_address) as client:
            client.handshake()
            client.tls.write(encode("SET", "cut", "off")[:-1])
            client.send()
        time.sleep(0.1)
        self.assertEqual(redis.call("EXISTS", "cut"), 0)

    def test_who_never_finishes_the_handshake_is_closed(self):
        with socket.create_connection(self.sidecar.tls_address.split(":"), timeout=40) as sock:
            sock.sendall(b"\x16\x03\x01")
            started = time.monotonic()
            try:
                self.assertEqual(sock.recv(1), b"")
            except ConnectionResetError:
                pass
            self.assertGreater(time.monotonic() - started, 5)

    def test_a_hundred_clients_at_once(self):
        clients = [tls_client(self.sidecar) for _ in range(100)]
        try:
            for i, client in enumerate(clients):
                client.send("SET", f"many:{i}", i)
                client.send("GET", f"many:{i}")
            for i, client in enumerate(clients):
                self.assertEqual([client.read(), client.read()], [b"OK", b"%d" % i])
        finally:
            for client in clients:
                client.close()


class ClientCertificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pair = authority.issue("listener-of-known")
        cls.good = authority.issue("application")
        cls.foreign = strangers.issue("foreigner")
        cls.expired = authority.issue("outdated", expired=True)

    def sidecar(self, client_auth):
        sidecar = with_listener(self.pair, settings={"tls.ca": authority.cert, "tls.client_auth": client_auth})
        self.addCleanup(sidecar.close)
        return sidecar

    def assert_refused(self, sidecar, pair, log):
        with self.assertRaises((ssl.SSLError, ConnectionError, OSError)):
            with tls_client(sidecar, authority.client_context(pair)) as client:
                client.call("PING")
        sidecar.wait_for_log(f"client_closed.*{log}")
        self.assertNotIn("PRIVATE", "\n".join(sidecar.log))

    def test_required(self):
        sidecar = self.sidecar("required")
        with tls_client(sidecar, authority.client_context(self.good)) as client:
            self.assertEqual(client.call("PING"), b"PONG")
        self.assert_refused(sidecar, None, "did not return a certificate|shows no certificate")
        self.assert_refused(sidecar, self.foreign, "unable to get local issuer|unknown|self.signed")
        self.assert_refused(sidecar, self.expired, "expired")

    def test_optional(self):
        sidecar = self.sidecar("optional")
        for pair in (None, self.good):
            with tls_client(sidecar, authority.client_context(pair)) as client:
                self.assertEqual(client.call("PING"), b"PONG")
        self.assert_refused(sidecar, self.foreign, "unable to get local issuer|unknown|self.signed")

    def test_a_session_resumed_is_still_known(self):
        sidecar = self.sidecar("required")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.client_context(self.good)
            context.maximum_version = version
            with tls_client(sidecar, context) as client:
                client.call("PING")
                session = client.sock.session
            raw = socket.create_connection(sidecar.tls_address.split(":"), timeout=PATIENCE_S)
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as again:
                again.sendall(encode("PING"))
                self.assertEqual(again.recv(100), b"+PONG\r\n")
                self.assertTrue(again.session_reused)


class Renewal(unittest.TestCase):
    def setUp(self):
        name = self._testMethodName[-40:]
        self.pair = authority.issue(f"renewed-{name}")
        self.next = authority.issue(f"next-{name}")
        self.sidecar = with_listener(self.pair)
        self.addCleanup(self.sidecar.close)

    def lines(self, event):
        return sum(event in line for line in self.sidecar.log)

    def test_new_files_are_used_without_a_restart_and_old_connections_stay(self):
        with tls_client(self.sidecar) as before:
            self.assertEqual(shown_certificate(self.sidecar), on_disk(self.pair))
            self.pair.replace_by(self.next)
            self.sidecar.wait_for_log("tls_reloaded")
            eventually(lambda: shown_certificate(self.sidecar) == on_disk(self.next), "the new certificate")
            self.assertEqual(before.call("PING"), b"PONG")

    def test_sighup_looks_at_once(self):
        self.pair.replace_by(self.next)
        self.sidecar.signal(signal.SIGHUP)
        self.sidecar.wait_for_log("tls_reloaded", 5)
        self.assertEqual(shown_certificate(self.sidecar), on_disk(self.next))
        self.assertTrue(self.sidecar.alive)

    def test_broken_files_leave_the_old_ones_in_force_and_are_reported_once(self):
        old = on_disk(self.pair)
        self.pair.cert.write_text("garbage\n")
        self.sidecar.wait_for_log("tls_reload_failed")
        time.sleep(3)
        self.assertEqual(self.lines("tls_reload_failed"), 1)
        self.assertEqual(shown_certificate(self.sidecar), old)
        self.pair.replace_by(self.next)
        self.sidecar.wait_for_log("tls_reloaded")
        self.assertEqual(shown_certificate(self.sidecar), on_disk(self.next))

    def test_a_key_of_another_certificate_is_refused(self):
        old = on_disk(self.pair)
        fresh = self.pair.key.with_suffix(".new")
        shutil.copyfile(self.next.key, fresh)
        fresh.rename(self.pair.key)
        self.assertIn("mismatch", self.sidecar.wait_for_log("tls_reload_failed"))
        self.assertEqual(shown_certificate(self.sidecar), old)

    def test_new_authorities_hold_for_new_clients_and_for_resumed_sessions(self):
        known = self.pair.cert.with_suffix(".ca")
        shutil.copyfile(strangers.cert, known)
        foreign = strangers.issue("once-known")
        sidecar = with_listener(self.pair, settings={"tls.ca": known, "tls.client_auth": "required"})
        self.addCleanup(sidecar.close)
        context = authority.client_context(foreign)
        with tls_client(sidecar, context) as client:
            client.call("PING")
            session = client.sock.session
        known.write_text(authority.cert.read_text())
        sidecar.wait_for_log("tls_reloaded")
        with self.assertRaises(OSError):
            raw = socket.create_connection(sidecar.tls_address.split(":"), timeout=PATIENCE_S)
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as again:
                again.sendall(encode("PING"))
                if again.recv(100) == b"":
                    raise ConnectionError("closed")


class CheckConfig(unittest.TestCase):
    def check(self, *args):
        done = subprocess.run([BINARY, "--upstream", redis.url, *map(str, args), "--check-config"], capture_output=True,
                              text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, start_new_session=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_files_are_tried(self):
        pair, other = authority.issue("checked"), authority.issue("checked-other")
        garbage = pair.cert.with_suffix(".garbage")
        garbage.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        listen = ("--listen", "rediss://127.0.0.1:7000")
        code, text = self.check(*listen, "--set", f"tls.cert={pair.cert}", "--set", f"tls.key={pair.key}")
        self.assertEqual((code, text), (0, "configuration is valid\n"))
        for cert, key, said in ((pair.cert, "/nonexistent", "/nonexistent"), ("/nonexistent", pair.key, "/nonexistent"),
                                (pair.cert, other.key, "mismatch"), (garbage, pair.key, str(garbage)),
                                (pair.cert, authority.encrypted_key(pair), ".encrypted")):
            with self.subTest(said=said):
                code, text = self.check(*listen, "--set", f"tls.cert={cert}", "--set", f"tls.key={key}")
                self.assertEqual(code, 2, text)
                self.assertIn(said, text)
                self.assertEqual(text.count("\n"), 1)

    def test_what_goes_together_must_be_together(self):
        pair = authority.issue("alone")
        for args, said in ((("--listen", "rediss://127.0.0.1:1"), "tls.cert"),
                           (("--set", f"tls.cert={pair.cert}"), "tls.key"),
                           (("--set", "tls.client_auth=required"), "tls.ca"),
                           (("--set", f"upstream.tls.key={pair.key}"), "upstream.tls.cert")):
            code, text = self.check(*args)
            self.assertEqual(code, 2, text)
            self.assertIn(said, text)


class Owners:
    """A cluster, called at the owner of each key."""

    def __init__(self, cluster):
        self.cluster = cluster

    def call(self, *args):
        return self.cluster.owner_of(args[1]).call(*args)


class Upstream(unittest.TestCase):
    def sidecar(self, upstream, **settings):
        names = {f"upstream.tls.{name}": value for name, value in settings.items()}
        sidecar = Sidecar(upstream.url if hasattr(upstream, "url") else upstream, names)
        self.addCleanup(sidecar.close)
        return sidecar

    def server(self, **options):
        server = TlsRedisServer(authority, **options)
        self.addCleanup(server.close)
        return server

    def exercise(self, sidecar, upstream):
        with sidecar.client() as client, sidecar.client(protocol=3) as other:
            self.assertEqual(client.pipeline([("SET", f"key:{i}", i) for i in range(500)]), [b"OK"] * 500)
            self.assertEqual(other.pipeline([("GET", f"key:{i}") for i in range(500)]), [b"%d" % i for i in range(500)])
            client.call("SET", "large", LARGE)
            self.assertEqual(other.call("GET", "large"), LARGE)
            self.assertEqual(client.pipeline([("MULTI",), ("INCR", "n"), ("EXEC",)])[-1], [1])
            client.send("BLPOP", "list", 0)
            time.sleep(0.05)
            other.call("RPUSH", "list", "item")
            self.assertEqual(client.read(), [b"list", b"item"])
            client.call("SUBSCRIBE", "news")
            other.call("PUBLISH", "news", "x")
            self.assertEqual(client.read(), [b"message", b"news", b"x"])
        upstream.call("SET", "foreign", "1")
        with sidecar.client() as client:
            self.assertEqual(client.call("GET", "foreign"), b"1")
            upstream.call("SET", "foreign", "2")
            eventually(lambda: client.call("GET", "foreign") == b"2", "the invalidation over TLS", 2)

    def test_one_server(self):
        server = self.server()
        sidecar = self.sidecar(server, ca=authority.cert)
        sidecar.wait_caching()
        self.exercise(sidecar, server)

    def test_a_cluster(self):
        cluster = TlsCluster(authority, primaries=3)
        self.addCleanup(cluster.close)
        sidecar = self.sidecar(cluster, ca=authority.cert)
        sidecar.wait_caching(links=3)
        self.exercise(sidecar, Owners(cluster))

    def test_sentinels(self):
        one = TlsSentinelSet(authority)
        self.addCleanup(one.close)
        sidecar = self.sidecar(one, ca=authority.cert)
        with sidecar.client() as client:
            eventually(lambda: answer_of(client, "SET", "k", "1") == b"OK", "a write to the master")
            old = one.master
            one.sentinels[0].call("SENTINEL", "FAILOVER", one.name)
            new = one.wait_master_but(old)
            eventually(lambda: answer_of(client, "SET", "k", "2") == b"OK" and new.call("GET", "k") == b"2",
                       "a write to the new master")

    def test_tls_on_both_sides(self):
        server = self.server(client_auth=True)
        own, listener = authority.issue("sidecar"), authority.issue("both")
        sidecar = with_listener(listener, server.url, {"upstream.tls.ca": authority.cert, "upstream.tls.cert": own.cert,
                                                       "upstream.tls.key": own.key})
        self.addCleanup(sidecar.close)
        with tls_client(sidecar) as client:
            client.call("SET", "large", LARGE)
            self.assertEqual(client.call("GET", "large"), LARGE)

    def test_the_connection_is_made_again_after_a_restart_of_the_server(self):
        server = self.server()
        sidecar = self.sidecar(server, ca=authority.cert)
        sidecar.wait_caching()
        server.kill()
        server.start()
        with sidecar.client() as client:
            eventually(lambda: answer_of(client, "SET", "again", 1) == b"OK", "a write after the restart")
        sidecar.wait_caching(key="again")

    def test_the_log_says_once_what_stays_wrong_and_again_what_changes(self):
        known = authority.directory / "stays-wrong.pem"
        shutil.copyfile(strangers.cert, known)
        server = self.server(pair=authority.issue("stays-wrong", names="DNS:elsewhere.example"))
        sidecar = self.sidecar(server, ca=known)

        def lines(text):
            return sum("upstream_connection_lost" in line and text in line for line in sidecar.log)
        with sidecar.client() as client:
            for _ in range(3):
                self.assertIn("TLS", str(answer_of(client, "SET", "k", "v")))
            self.assertEqual(lines("upstream_connection_lost"), 1)
            known.write_text(authority.cert.read_text())
            sidecar.wait_for_log("tls_reloaded")
            for _ in range(3):
                self.assertIn("TLS", str(answer_of(client, "SET", "k", "v")))
            sidecar.wait_for_log("upstream_connection_lost.*mismatch")
            self.assertEqual(lines("mismatch"), 1)

    def assert_said(self, sidecar, *words):
        """The client's error and one line of the log say it."""
        with sidecar.client() as client:
            client.send("GET", "k")
            error = client.read()
        self.assertIsInstance(error, ReplyError)
        for word in words:
            self.assertRegex(str(error), word)
            sidecar.wait_for_log(f"upstream_connection_lost.*{word}")

    def test_an_unknown_authority(self):
        self.assert_said(self.sidecar(self.server(), ca=strangers.cert), "TLS", "certificate", "issuer|self.signed|unknown")

    def test_an_expired_certificate(self):
        server = self.server(pair=authority.issue("expired-server", expired=True))
        self.assert_said(self.sidecar(server, ca=authority.cert), "TLS", "expired")

    def test_another_name(self):
        server = self.server(pair=authority.issue("elsewhere", names="DNS:elsewhere.example"))
        self.assert_said(self.sidecar(server, ca=authority.cert), "TLS", "mismatch")
        for settings in ({"verify": "ca"}, {"verify": "none"}, {"server_name": "elsewhere.example"}):
            with self.subTest(settings=settings):
                sidecar = self.sidecar(server, ca=authority.cert, **settings)
                self.assertEqual(sidecar.call("SET", "k", "v"), b"OK")
        self.assert_said(self.sidecar(server, ca=authority.cert, server_name="other.example"), "TLS", "mismatch")

    def test_a_name_is_verified_where_a_name_is_connected_to(self):
        server = self.server(pair=authority.issue("by-name", names="DNS:localhost"))
        by_name = server.url.replace("127.0.0.1", "localhost")
        self.assertEqual(self.sidecar(by_name, ca=authority.cert).call("SET", "k", "v"), b"OK")
        self.assert_said(self.sidecar(server, ca=authority.cert), "TLS", "mismatch")

    def test_without_verification_anybody_is_believed(self):
        server = self.server(pair=strangers.issue("anybody", names="DNS:elsewhere.example"))
        self.assertEqual(self.sidecar(server, verify="none").call("SET", "k", "v"), b"OK")
        self.assert_said(self.sidecar(server, verify="ca", ca=authority.cert), "TLS", "certificate")

    def test_a_server_that_wants_a_certificate(self):
        server = self.server(client_auth=True)
        own = authority.issue("known-to-redis")
        sidecar = self.sidecar(server, ca=authority.cert, cert=own.cert, key=own.key)
        self.assertEqual(sidecar.call("SET", "k", "v"), b"OK")
        self.assert_said(self.sidecar(server, ca=authority.cert), "TLS", "certificate.*required|required.*certificate")

    def test_a_server_without_tls_and_tls_towards_a_plain_url(self):
        plain = self.sidecar(redis.url.replace("redis://", "rediss://"), ca=authority.cert)
        self.assert_said(plain, "TLS")
        with plain.client() as client:
            client.call("MULTI")
            client.send("PING")
            self.assertIn("TLS: no answer to the handshake", str(client.read()))
        with self.sidecar(self.server().url.replace("rediss://", "redis://")).client() as client:
            client.send("GET", "k")
            self.assertIsInstance(client.read(), ReplyError)

    def test_new_authorities_are_believed_without_a_restart(self):
        known = authority.directory / "believed.pem"
        shutil.copyfile(strangers.cert, known)
        sidecar = self.sidecar(self.server(), ca=known)
        self.assert_said(sidecar, "TLS")
        known.write_text(authority.cert.read_text())
        sidecar.wait_for_log("tls_reloaded.*upstream")
        with sidecar.client() as client:
            eventually(lambda: answer_of(client, "SET", "k", "v") == b"OK", "the upstream to be believed")
        sidecar.wait_caching()


def answer_of(client, *args):
    client.send(*args)
    return client.read()


if __name__ == "__main__":
    main()
