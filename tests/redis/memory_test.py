"""Memory stays in the buffer budget whatever a client asks for, or does not read. By the daemon's peak resident size."""

import re
import socket
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from system import Cluster, ReplyError, Sidecar, eventually  # noqa: E402

MB = 1_000_000
KEYS = 1_000_000
BUDGET_MB = 192
SETTINGS = {"limits.buffer_bytes": f"{BUDGET_MB}MB", "limits.output_bytes": "40MB", "l1.max_bytes": "16MB",
            "upstream.command_timeout": "20s"}
BESIDES_MB = 128  # the program, L1, and what comes between two looks at the budget


class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(primaries=3)
        with Sidecar(cls.cluster.url) as loader, loader.client(timeout=60) as client:
            for begin in range(0, KEYS, 10_000):
                client.pipeline([("MSET", *(word for i in range(at, at + 500) for word in (f"key:{i}", "v")))
                                 for at in range(begin, begin + 10_000, 500)])
            client.call("SET", "large", b"x" * 10 * MB)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def setUp(self):
        self.start(SETTINGS)

    def start(self, settings):
        self.sidecar = Sidecar(self.cluster.url, settings)
        self.addCleanup(self.sidecar.close)

    def client(self, **options):
        client = self.sidecar.client(**options)
        self.addCleanup(client.close)
        return client

    def peak_mb(self):
        status = Path(f"/proc/{self.sidecar.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / MB

    def assert_bounded(self, budget_mb=BUDGET_MB):
        self.assertLess(self.peak_mb(), budget_mb + BESIDES_MB)

    def unread(self, *command, times=1):
        """A connection that asks and never reads."""
        silent = socket.create_connection(("127.0.0.1", self.sidecar.port))
        self.addCleanup(silent.close)
        words = [word if isinstance(word, bytes) else word.encode() for word in command]
        silent.sendall((b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)) * times)
        return silent

    def test_keys_over_a_million_keys(self):
        client = self.client(timeout=60)
        self.assertGreaterEqual(len(client.call("KEYS", "*")), KEYS)
        self.assert_bounded()

    def test_a_merged_reply_that_is_too_large_is_an_error_and_the_client_stays(self):
        self.start({**SETTINGS, "limits.output_bytes": "4MB", "limits.output_pause_bytes": "64KB"})
        client = self.client(timeout=60)
        replies = client.pipeline([("KEYS", "*"), ("SET", "small", "1"), ("MGET", "large", "small"), ("KEYS", "key:12345?")])
        for reply in (replies[0], replies[2]):
            self.assertEqual(str(reply), "ERR nearcached: the reply is larger than limits.output_bytes")
        self.assertEqual((replies[1], len(replies[3])), (b"OK", 10))
        self.assert_bounded()

    def test_a_hundred_megabytes_in_one_value(self):
        """A request is whole before it is passed on: as it comes in, in a buffer that grows, and as it goes out."""
        self.start({"l1.max_bytes": "16MB", "upstream.command_timeout": "20s"})
        client = self.client(timeout=60)
        value = bytes(range(256)) * (100 * MB // 256)
        self.assertEqual(client.call("SET", "larger", value), b"OK")
        self.assertEqual(client.call("GET", "larger"), value)
        client.call("DEL", "larger")
        self.assert_bounded(300)

    def test_clients_that_never_read(self):
        for _ in range(3):
            self.unread("GET", "large", times=20)  # 200 MB each
        self.unread("KEYS", "*", times=2)
        client = self.client(timeout=60)
        until = time.monotonic() + 5
        answered = 0
        while time.monotonic() < until:
            try:
                answered += client.call("SET", "small", "1") == b"OK"
            except ReplyError as error:
                self.assertIn("nearcached", str(error))
        self.assertGreater(answered, 0)
        self.assert_bounded()

    def test_many_that_ask_at_once_for_one_large_value_and_never_read(self):
        """They wait for one fill, and each is to have a copy."""
        for _ in range(60):
            self.unread("GET", "large")
        client = self.client(timeout=60)
        eventually(lambda: client.call("SET", "small", "1") == b"OK", "others are served")
        self.assert_bounded()

    def test_monitors_that_never_read(self):
        for _ in range(3):
            self.unread("MONITOR")
        client = self.client(timeout=60)
        eventually(lambda: client.call("CLIENT", "LIST").count(b"cmd=monitor") == 3, "three monitors")
        for _ in range(150):
            client.pipeline([("SET", f"k{i}", "y" * 1000) for i in range(1000)])
        self.assert_bounded()


if __name__ == "__main__":
    unittest.main(verbosity=2)
