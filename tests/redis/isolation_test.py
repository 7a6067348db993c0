"""A slow or dead shard of a cluster delays who asks for its keys, by its pipeline's order, and nobody else."""

import signal
import time
import unittest

from system import PATIENCE_S, Cluster, ReplyError, Sidecar, eventually, keys_of_distinct_nodes

# So long that whoever waited for the stopped node would still wait when the test looks.
SETTINGS = {"upstream.command_timeout": "60s", "threads": 2}
SWIFT_S = 20  # far below it, and far above what a slow machine needs


class Isolation(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(primaries=3, node_timeout_ms=60_000)
        self.addCleanup(self.cluster.close)
        self.sidecar = Sidecar(self.cluster.url, SETTINGS)
        self.addCleanup(self.sidecar.close)
        self.sidecar.wait_caching()
        self.keys = keys_of_distinct_nodes(self.cluster)
        self.sick = sorted(self.cluster.primaries(), key=lambda node: node.port)[0]
        with self.client() as client:
            for key in self.keys:
                client.call("SET", key, "v")

    def client(self, **options):
        return self.sidecar.client(timeout=PATIENCE_S, **options)

    def stop_node(self):
        self.sick.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.sick.process.send_signal, signal.SIGCONT)

    def serve_the_healthy(self):
        """All that an application does with keys of the other nodes."""
        begun = time.monotonic()
        for version in (2, 3):
            with self.client(protocol=version) as client, self.client(protocol=version) as other:
                for key in self.keys[1:]:
                    for i in range(250):
                        self.assertEqual(client.call("SET", key, i), b"OK")
                        self.assertEqual(client.call("GET", key), str(i).encode())
                        self.assertEqual(client.call("GET", key), str(i).encode())
                    tag = "{" + key + "}"
                    client.pipeline([("DEL", tag + "l"), ("MULTI",), ("INCR", tag + "n"), ("GET", key), ("EXEC",)])
                    other.send("BLPOP", tag + "l", "0")
                    client.call("RPUSH", tag + "l", "job")
                    self.assertEqual(other.read(), [(tag + "l").encode(), b"job"])
                    self.assertEqual(client.call("EVAL", "return redis.call('GET', KEYS[1])", "1", key), b"249")
                    self.assertEqual(client.call("SSUBSCRIBE", tag) if version == 2 else None,
                                     [b"ssubscribe", tag.encode(), 1] if version == 2 else None)
                    if version == 2:
                        client.call("SUNSUBSCRIBE", tag)
                self.assertEqual(client.call("MGET", *self.keys[1:]), [b"249", b"249"])
        self.assertLess(time.monotonic() - begun, SWIFT_S)

    def test_a_stopped_node_delays_only_who_asks_for_its_keys(self):
        with self.client() as patient, self.client() as ordered:
            self.stop_node()
            patient.send("SET", self.keys[0], "late")
            # Its own order is kept: the third reply stands behind the second.
            for command in (("SET", self.keys[1], "first"), ("GET", self.keys[0]), ("SET", self.keys[2], "third")):
                ordered.send(*command)
            self.assertEqual(ordered.read(), b"OK")
            self.serve_the_healthy()
            self.sick.process.send_signal(signal.SIGCONT)
            self.assertEqual(patient.read(), b"OK")
            self.assertIn(ordered.read(), (b"v", b"late"))
            self.assertEqual(ordered.read(), b"OK")

    def test_a_thousand_requests_for_a_stopped_node_do_not_fill_what_others_use(self):
        crowd = [self.client() for _ in range(50)]
        for client in crowd:
            self.addCleanup(client.close)
        self.stop_node()
        for client in crowd:
            for _ in range(20):
                client.send("INCR", "{" + self.keys[0] + "}n")
                client.send("GET", "{" + self.keys[0] + "}m")
        self.serve_the_healthy()
        self.sick.process.send_signal(signal.SIGCONT)
        counted = set()
        for client in crowd:
            for _ in range(20):
                counted.add(client.read())
                self.assertIsNone(client.read())
        self.assertEqual(counted, set(range(1, 1001)))

    def test_a_killed_node_gives_errors_for_its_keys_and_for_no_others(self):
        self.sick.process.kill()
        self.sick.process.wait()
        with Sidecar(self.cluster.url, {**SETTINGS, "upstream.command_timeout": "300ms"}) as impatient:
            with impatient.client(timeout=PATIENCE_S) as client:
                with self.assertRaisesRegex(ReplyError, f"{self.sick.port}"):
                    client.call("SET", self.keys[0], "x")
                eventually(lambda: client.call("SET", self.keys[1], "y") == b"OK", "a healthy node")
        self.serve_the_healthy()


if __name__ == "__main__":
    unittest.main()
