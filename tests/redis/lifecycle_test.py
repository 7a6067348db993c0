#!/usr/bin/env python3
"""Start, admin pages, limits, stop: the process seen by whoever operates it."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from system import (BINARY, PATIENCE_S, SLOWNESS, Client, Cluster, RedisServer, ReplyError, Sidecar, encode, eventually,
                    exchange,
                    free_port, main)


def setUpModule():
    global cluster
    cluster = Cluster(primaries=3)


def tearDownModule():
    cluster.close()


def run(*args, environment=None, timeout=30 * SLOWNESS):
    """(exit code, stdout, stderr) of the daemon with these arguments."""
    done = subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False,
                          env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


class CommandLine(unittest.TestCase):
    def test_version_and_help(self):
        code, out, err = run("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^nearcached \d+\.\d+\.\d+\n$")
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for flag in ("--config", "--check-config", "--print-config", "--set", "--listen", "--upstream", "--admin"):
            self.assertIn(flag, out)

    def test_check_config(self):
        self.assertEqual(run("--check-config", "--upstream", "redis://h:1")[0], 0)
        code, _, err = run("--check-config", "--upstream", "http://h:1")
        self.assertEqual(code, 2)
        self.assertIn("upstream.url", err)

    def test_print_config_hides_secrets_and_can_be_loaded_again(self):
        code, out, _ = run("--print-config", "--upstream", "redis+cluster://user:hush-hush@h:1,i:2", "--set",
                           "l1.max_bytes=77MB",
                           "--set", "metrics.labels=service=api")
        self.assertEqual(code, 0)
        self.assertNotIn("hush-hush", out)
        self.assertIn("<redacted>", out)
        self.assertIn("77MB", out)
        again = self.with_file(out)
        self.assertEqual(again[0], 0, again[2])
        self.assertEqual(again[1], out)

    def with_file(self, text, *args):
        path = cluster.nodes[0].directory / "nearcached.yaml"
        path.write_text(text)
        return run("--print-config", "--config", path, *args)

    def test_bad_usage_is_exit_code_2_and_a_message(self):
        for args, words in ((("--bogus",), "--bogus"), (("--set", "l1.max_bytes"), "--set"),
                            (("--set", "l1.nonsense=1", "--upstream", "redis://h"), "l1.nonsense"),
                            (("--config", "/no/such/file.yaml"), "/no/such/file.yaml"), ((), "upstream.url"),
                            (("stray",), "stray"), (("--upstream",), "--upstream"),
                            (("--upstream", "redis://h", "--set", "threads=1000"), "threads"),
                            (("--upstream", "redis://h", "--listen", "nonsense"), "listen"),
                            (("--upstream", "redis+tls://h"), "upstream.url"),
                            (("--upstream", "rediss://h", "--set", "upstream.tls.ca=/no/such.pem", "--check-config"), "/no/such.pem"),
                            (("--upstream", "redis://h", "--listen", "rediss://127.0.0.1:1"), "tls.cert"),
                            (("--upstream", "redis://h", "--set", "upstream.password_file=/no/such"), "/no/such")):
            with self.subTest(args=args):
                code, out, err = run(*args)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(words, err)
                self.assertLessEqual(len(err.splitlines()), 3)

    def test_a_bad_file_is_named_with_line_and_key(self):
        for text, line, words in (("upstream:\n  url: redis://h\nl1:\n  max_bytes: lots\n", 4, "l1.max_bytes"),
                                  ("upstream:\n  url: redis://h\nl1:\n  max_byte: 1\n", 4, "l1.max_bytes"),
                                  ("upstream: {url: redis://h}\nthreads: 1\nthreads: 2\n", 3, "threads"),
                                  ("upstream:\n  url: redis://h\n   bad: indent\n", 3, ""),
                                  ("upstream: {url: redis://h}\nlisten: 7\n", 2, "listen"),
                                  ("upstream: {url: redis://h}\nl1: {enabled: maybe}\n", 2, "l1.enabled"),
                                  ("upstream: [\n", 1, "")):
            with self.subTest(text=text):
                code, _, err = self.with_file(text)
                self.assertEqual(code, 2)
                self.assertRegex(err, rf"nearcached\.yaml:{line}\b")
                self.assertIn(words, err)

    def test_flags_win_over_environment_and_that_over_the_file(self):
        text = "upstream: {url: redis://file}\nl1: {max_items: 1}\nlimits: {clients: 1, args: 111}\n"
        path = cluster.nodes[0].directory / "order.yaml"
        path.write_text(text)
        _, out, _ = run("--print-config", "--config", path, "--set", "l1.max_items=3",
                        environment={"NEARCACHED_L1__MAX_ITEMS": "2", "NEARCACHED_LIMITS__CLIENTS": "2"})
        self.assertRegex(out, r"max_items: 3\b")
        self.assertRegex(out, r"clients: 2\b")
        self.assertRegex(out, r"args: 111\b")

    def test_a_misspelled_variable_is_refused_but_kubernetes_ones_are_not(self):
        code, _, err = run("--check-config", "--upstream", "redis://h", environment={"NEARCACHED_L1__MAX_BITES": "1"})
        self.assertEqual(code, 2)
        self.assertIn("NEARCACHED_L1__MAX_BITES", err)
        self.assertEqual(run("--check-config", "--upstream", "redis://h",
                             environment={"NEARCACHED_SERVICE_HOST": "1.2.3.4"})[0], 0)

    def test_a_taken_port_is_exit_code_1_and_says_which(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for args in (("--listen", address, "--admin", "off"),
                         ("--listen", f"127.0.0.1:{free_port()}", "--admin", address)):
                code, _, err = run("--upstream", cluster.url, *args)
                self.assertEqual(code, 1, err)
                self.assertIn(address, err)


class Started(unittest.TestCase):
    def sidecar(self, *args, **options):
        sidecar = Sidecar(*(args or (cluster.url,)), **options)
        self.addCleanup(sidecar.close)
        return sidecar

    def test_the_ready_line_says_where(self):
        sidecar = self.sidecar(unix_socket=True)
        line = sidecar.wait_for_log(r"\bready\b")
        for part in (sidecar.address, str(sidecar.socket_path), str(sidecar.admin_port)):
            self.assertIn(part, line)

    def test_the_log_as_json(self):
        sidecar = self.sidecar(cluster.url, {"log.format": "json"}, start=False)
        sidecar._spawn(sidecar.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        first = [json.loads(sidecar.process.stderr.readline()) for _ in range(2)]
        sidecar.process.stderr.close()
        self.assertTrue(all(isinstance(line, dict) for line in first))

    def test_the_admin_pages(self):
        sidecar = self.sidecar()
        self.assertEqual(sidecar.http("/livez")[0], 200)
        self.assertEqual(sidecar.http("/readyz")[0], 200)
        self.assertEqual(sidecar.http("/nosuch")[0], 404)
        stats = sidecar.stats()
        self.assertEqual(stats["clients"]["max"], 10000)
        self.assertEqual(len(stats["workers"]), 2)
        status, text = sidecar.http("/metrics")
        self.assertEqual(status, 200)
        for name in ("nearcached_commands_total", "nearcached_l1_hits_total", "nearcached_clients", "nearcached_build_info"):
            self.assertIn(f"\n{name}", text)
        with sidecar.client() as client:
            client.pipeline([("PING",)] * 10)
            self.assertEqual(sidecar.metric("nearcached_clients"), 1)
            self.assertGreaterEqual(sidecar.metric("nearcached_commands_total", **{"class": "local"}), 10)

    def test_metrics_have_the_labels_of_the_configuration(self):
        sidecar = self.sidecar(cluster.url, {"metrics.labels": "service=api,zone=b"})
        self.assertRegex(sidecar.http("/metrics")[1], r'nearcached_l1_hits_total\{[^}]*service="api"')

    def test_livez_sees_a_process_that_stands_still(self):
        sidecar = self.sidecar()
        eventually(lambda: sidecar.http("/livez")[0] == 200, "life")
        sidecar.signal(signal.SIGSTOP)
        time.sleep(0.1)
        with self.assertRaises(OSError), socket.create_connection(("127.0.0.1", sidecar.admin_port), timeout=0.5) as sock:
            sock.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            sock.recv(1)
        sidecar.signal(signal.SIGCONT)
        eventually(lambda: sidecar.http("/livez")[0] == 200, "life again")

    def test_an_upstream_that_comes_later_is_found(self):
        server = RedisServer(start=False)
        self.addCleanup(server.close)
        sidecar = self.sidecar(server.url)
        self.assertEqual(sidecar.http("/readyz")[0], 200)
        with sidecar.client() as client:
            self.assertEqual(client.call("PING"), b"PONG")
            started = time.monotonic()
            with self.assertRaisesRegex(ReplyError, "nearcached"):
                client.call("GET", "x")
            self.assertLess(time.monotonic() - started, 5 * SLOWNESS)
            server.start()
            eventually(lambda: client.pipeline([("SET", "x", 1)]) == [b"OK"], "the upstream to be found")
            self.assertEqual(client.call("GET", "x"), b"1")
        sidecar.wait_caching()

    def test_a_cluster_that_goes_away_and_comes_back_is_found_again(self):
        server = RedisServer(appendonly=True)
        self.addCleanup(server.close)
        sidecar = self.sidecar(server.url)
        with sidecar.client() as client:
            client.call("SET", "k", "v")
            server.kill()
            eventually(lambda: isinstance(client.pipeline([("GET", "k")])[0], ReplyError), "an error")
            self.assertEqual((sidecar.http("/livez")[0], sidecar.http("/readyz")[0]), (200, 200))
            server.start()
            eventually(lambda: client.pipeline([("GET", "k")]) == [b"v"], "the value again")

    def test_too_many_clients_are_refused_in_redis_words(self):
        sidecar = self.sidecar(cluster.url, {"limits.clients": 5})
        clients = [sidecar.client() for _ in range(5)]
        for client in clients:
            client.call("PING")
        for _ in range(3):
            self.assertEqual(exchange(sidecar.address, b"", half_close=False), b"-ERR max number of clients reached\r\n")
        self.assertEqual([client.call("PING") for client in clients], [b"PONG"] * 5)
        self.assertEqual(sidecar.metric("nearcached_clients_refused_total"), 3)
        clients[0].close()

        def room():
            with Client(sidecar.address) as client:
                return client.pipeline([("PING",)]) == [b"PONG"]
        eventually(room, "room for another client")
        for client in clients:
            client.close()

    def test_silent_clients_are_closed_and_busy_ones_are_not(self):
        sidecar = self.sidecar(cluster.url, {"limits.idle_timeout": "2s"})
        silent, busy, subscriber, blocked = (sidecar.client() for _ in range(4))
        silent.call("PING")
        subscriber.call("SUBSCRIBE", "c")
        blocked.send("BLPOP", "awaited", 60)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            busy.call("PING")
            time.sleep(0.1)
        self.assertEqual(silent.read_until_closed(), b"")
        self.assertEqual(busy.call("RPUSH", "awaited", "x"), 1)
        self.assertEqual(blocked.read(), [b"awaited", b"x"])
        time.sleep(0.5)
        self.assertEqual(blocked.call("PING"), b"PONG", "its two seconds begin with the answer")
        self.assertEqual(busy.call("PING"), b"PONG")
        self.assertEqual(sidecar.metric("nearcached_clients_closed_total", reason="idle"), 1)
        self.assertEqual(subscriber.call("PING"), [b"pong", b""])
        for client in (busy, subscriber, blocked):
            client.close()


class Stopped(unittest.TestCase):
    def test_stopping_is_quick_and_clean_with_idle_clients(self):
        with Sidecar(cluster.url, unix_socket=True) as sidecar:
            clients = [sidecar.client(unix=i % 2 == 0) for i in range(10)]
            for client in clients:
                client.call("SET", "x", 1)
            started = time.monotonic()
            self.assertEqual(sidecar.stop(), 0)
            self.assertLess(time.monotonic() - started, 3 * SLOWNESS)
            for client in clients:
                self.assertEqual(client.read_until_closed(), b"")
            self.assertFalse(sidecar.socket_path.exists(), "the unix socket's file is still there")
            self.assertTrue(any("stopped" in line for line in sidecar.log))

    def test_a_left_over_socket_file_does_not_hinder_the_next_start(self):
        with Sidecar(cluster.url, unix_socket=True) as sidecar:
            sidecar.kill()
            self.assertTrue(sidecar.socket_path.exists())
            sidecar.start()
            with sidecar.client(unix=True) as client:
                self.assertEqual(client.call("PING"), b"PONG")

    def test_sigint_ends_it_as_well(self):
        with Sidecar(cluster.url) as sidecar:
            sidecar.signal(signal.SIGINT)
            self.assertEqual(sidecar.process.wait(PATIENCE_S), 0)

    def test_under_load_every_request_that_was_taken_is_answered(self):
        """Replies are whole, in order, and what was acknowledged is there; the connection ends between two replies."""
        problems, counts = [], []

        def load(number):
            key = f"stop:{number}"
            answered = sent = 0
            try:
                with sidecar.client() as client:
                    while True:
                        client.raw(b"".join(encode(*c) for i in range(20) for c in (("INCR", key),
                                                                                    ("ECHO", answered // 2 + i + 1))))
                        sent += 40
                        for _ in range(40):
                            reply = client.read()
                            answered += 1
                            if int(reply) != (answered + 1) // 2:
                                problems.append(f"{key}: reply {answered} is {reply!r}")
            except (OSError, ReplyError) as error:
                if isinstance(error, ReplyError):
                    problems.append(f"{key}: {error}")
                elif client._buffer[client._position:]:
                    problems.append(f"{key}: half a reply: {bytes(client._buffer[client._position:])!r}")
            counts.append((key, (answered + 1) // 2))

        with Sidecar(cluster.url) as sidecar:
            sidecar.call("DEL", *[f"stop:{i}" for i in range(6)])
            threads = [threading.Thread(target=load, args=(i,)) for i in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(0.7)
            started = time.monotonic()
            self.assertEqual(sidecar.stop(), 0)
            self.assertLess(time.monotonic() - started, 10)
            for thread in threads:
                thread.join(PATIENCE_S)
            self.assertFalse(any("cut_off" in line for line in sidecar.log), "\n".join(sidecar.log))
        self.assertEqual(problems, [])
        self.assertEqual(len(counts), 6)
        for key, acknowledged in counts:
            self.assertGreater(acknowledged, 0)
            # What was executed was answered: nothing is lost between the two.
            self.assertEqual(int(cluster.call("GET", key)), acknowledged)

    def test_requests_on_their_way_are_answered_before_the_end(self):
        with Sidecar(cluster.url, {"upstream.command_timeout": "5s"}) as sidecar, sidecar.client() as client:
            sidecar.call("SET", "slow", "late")
            cluster.owner_of("slow").call("CLIENT", "PAUSE", 900, "WRITE")
            client.send("GETDEL", "slow")
            time.sleep(0.2)
            sidecar.signal(signal.SIGTERM)
            self.assertIsNone(sidecar.process.poll())
            self.assertEqual(client.read(), b"late")
            self.assertEqual(client.read_until_closed(), b"")
            self.assertEqual(sidecar.process.wait(PATIENCE_S), 0)

    def test_the_shutdown_timeout_ends_what_does_not_end(self):
        with RedisServer() as server, Sidecar(server.url,
                                              {"limits.shutdown_timeout": "1s",
                                               "upstream.command_timeout": "60s"}) as sidecar, \
                sidecar.client() as client:
            client.call("SET", "x", 1)
            server.signal(signal.SIGSTOP)
            try:
                client.send("INCR", "x")
                time.sleep(0.2)
                started = time.monotonic()
                self.assertEqual(sidecar.stop(timeout=20 * SLOWNESS), 0)
                self.assertGreater(time.monotonic() - started, 0.8)
                self.assertLess(time.monotonic() - started, 1.0 + 3 * SLOWNESS)
            finally:
                server.signal(signal.SIGCONT)

    def test_no_new_clients_while_it_stops(self):
        with RedisServer() as server, Sidecar(server.url,
                                              {"upstream.command_timeout": "3s"}) as sidecar, sidecar.client() as client:
            client.call("SET", "x", 1)
            server.signal(signal.SIGSTOP)
            client.send("INCR", "x")
            time.sleep(0.2)
            sidecar.signal(signal.SIGTERM)
            sidecar.wait_for_log("stopping")

            def refused():
                try:
                    Client(sidecar.address, timeout=0.2).close()
                    return False
                except OSError:
                    return True
            eventually(refused, "the listener to be closed", 3 * SLOWNESS)
            server.signal(signal.SIGCONT)
            self.assertEqual(client.read(), 2)
            self.assertEqual(sidecar.process.wait(PATIENCE_S), 0)


if __name__ == "__main__":
    main()
