"""What the system tests share: the sidecar under test with its admin pages, patience, and a load that knows the truth.

Every test file of this folder that ends in _test.py is a unittest program of its own. The daemon is what NEARCACHED_BINARY
names, else NEARCACHED_BUILT_BINARY (CTest sets it), else build/release/nearcached. Under a sanitizer (ASAN_OPTIONS or
TSAN_OPTIONS is set) everything may take SLOWNESS times as long.
"""

import http.client
import json
import os
import re
import socket
import sys
import threading
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import resp  # noqa: E402
import servers  # noqa: E402
from resp import Client, ReplyError, encode  # noqa: E402,F401
from servers import Cluster, RedisServer, ServerError, free_port, key_slot  # noqa: E402,F401

servers.require("redis-server", "redis-cli")
BINARY = os.environ.get("NEARCACHED_BINARY") or os.environ.get("NEARCACHED_BUILT_BINARY") or servers.DEFAULT_BINARY
# The daemon refuses variables that begin like its own and name no setting; these are the tests'.
for _name in [name for name in os.environ if name.startswith("NEARCACHED_")]:
    del os.environ[_name]

SLOWNESS = 5 if os.environ.get("ASAN_OPTIONS") or os.environ.get("TSAN_OPTIONS") else 1
PATIENCE_S = 10.0 * SLOWNESS


class Sidecar(servers.Sidecar):
    """servers.Sidecar with the admin pages. Clients wait longer than the upstream's deadline: its error must be seen."""

    def __init__(self, upstream_url, settings=None, **options):
        options.setdefault("binary", BINARY)
        super().__init__(upstream_url, {"threads": 2, **(settings or {})}, **options)

    def client(self, protocol=2, timeout=PATIENCE_S, unix=False, **auth):
        return super().client(protocol=protocol, timeout=timeout, unix=unix, **auth)

    def http(self, path, method="GET", token=None):
        """(status, body) of an admin page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stats(self):
        return json.loads(self.http("/stats")[1])

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.http("/metrics")[1].splitlines():
            found = re.match(rf"{name}(?:\{{(.*)\}})? (\S+)$", line)
            if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
                total += float(found[2])
        return total

    @property
    def hits(self):
        return self.metric("nearcached_l1_hits_total")

    def wait_caching(self, key="is-l1-on", links=1):
        """Until `links` fill connections track and a GET of `key` is a hit."""
        eventually(lambda: sum(node["state"] == "tracking" for node in self.stats()["upstream"]["nodes"]) >= links,
                   f"{links} tracking connections")
        with self.client() as client:
            client.call("SET", key, "1")

            def hit():
                before = self.hits
                client.call("GET", key)
                client.call("GET", key)
                return self.hits > before
            eventually(hit, "a GET answered from L1")


def eventually(condition, what, timeout=PATIENCE_S):
    return servers.wait_for(condition, timeout, what)


def seconds_until(condition, timeout=PATIENCE_S):
    """How long it takes until `condition` holds; ServerError after `timeout`."""
    start = time.monotonic()
    servers.wait_for(condition, timeout, "a condition", interval=0.001)
    return time.monotonic() - start


def keys_of_distinct_nodes(cluster, prefix="key"):
    """One key for each primary, in the order of cluster.primaries()."""
    found = {}
    ranges = cluster.slot_ranges()
    for i in range(10_000):
        slot = key_slot(f"{prefix}{i}")
        node = next(node for node, first, last in ranges if first <= slot <= last)
        found.setdefault(node.port, f"{prefix}{i}")
        if len(found) == len({node.port for node, _, _ in ranges}):
            break
    return [found[port] for port in sorted(found)]


def exchange(address, data, timeout=PATIENCE_S, half_close=True):
    """Sends bytes, says that there are no more, and returns all that comes until the peer closes."""
    with resp.connect_socket(address, timeout) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := sock.recv(1 << 16):
            received += chunk
        return received


class Traffic:
    """Counters that only grow, written and read by threads for as long as the `with` block lasts.

    A key has one writer, so that its acknowledged value is known: one writes through the sidecar, the other straight to the
    upstream. A reader notes before each GET what it may not fall behind of - what was acknowledged through the sidecar,
    what was acknowledged upstream `max_staleness_s` ago, what any reader has already been given - and every value below that
    is a lie, kept in `lies`. Error replies and lost connections are counted, not judged. A write whose outcome is unknown
    raises no floor.
    """

    def __init__(self, sidecar, foreign, max_staleness_s=1.0, keys=8, readers=3, prefix="traffic"):
        self.sidecar = sidecar
        self.foreign = foreign  # callable: one command straight to the upstream
        self.max_staleness_s = max_staleness_s
        self.own_keys = [f"{prefix}:own:{i}" for i in range(keys)]
        self.foreign_keys = [f"{prefix}:foreign:{i}" for i in range(keys)]
        self.lies = []
        self.reads = self.writes = self.errors = 0
        self.error_texts = set()
        self._counter = 0
        self._acknowledged = {}  # key -> [(time, value)], newest last
        self._seen = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(self.own_keys, self._own_call)),
                         threading.Thread(target=self._write, args=(self.foreign_keys, self.foreign))]
        self._threads += [threading.Thread(target=self._read, args=(i,)) for i in range(readers)]
        self._local = threading.local()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def run(self, seconds):
        self._ended.wait(seconds)

    def wait_progress(self, reads=200, writes=50):
        """Until so many more reads and writes have been answered without an error."""
        reads, writes = self.reads + reads, self.writes + writes
        eventually(lambda: self.reads >= reads and self.writes >= writes, "the traffic to go on", 3 * PATIENCE_S)

    def _own_call(self, *args):
        return self._client().call(*args)

    def _client(self):
        client = getattr(self._local, "client", None)
        if client is None or client.sock is None:
            client = self._local.client = self.sidecar.client()
        return client

    def _failed(self, error):
        with self._lock:
            self.errors += 1
            self.error_texts.add(str(error))
        time.sleep(0.01)

    def _write(self, keys, call):
        value = 0
        while not self._ended.is_set():
            value += 1
            key = keys[value % len(keys)]
            try:
                call("SET", key, value)
            except (OSError, ReplyError, ServerError) as error:
                self._failed(error)
                continue
            with self._lock:
                self.writes += 1
                self._acknowledged.setdefault(key, []).append((time.monotonic(), value))
            time.sleep(0.001)

    def _floor(self, key):
        now = time.monotonic()
        allowed_age_s = 0.0 if key in self.own_keys else self.max_staleness_s
        with self._lock:
            floor = self._seen.get(key, 0)
            for when, value in reversed(self._acknowledged.get(key, ())):
                if when <= now - allowed_age_s:
                    return max(floor, value)
            return floor

    def _read(self, index):
        keys = self.own_keys + self.foreign_keys
        while not self._ended.is_set():
            index += 1
            key = keys[(index * 7) % len(keys)]
            floor = self._floor(key)
            try:
                value = int(self._client().call("GET", key) or 0)
            except (OSError, ReplyError) as error:
                self._failed(error)
                continue
            with self._lock:
                self.reads += 1
                self._seen[key] = max(self._seen.get(key, 0), value)
                if value < floor:
                    self.lies.append(f"{key} was {value}, but {floor} was known before it was asked for")


def main():
    unittest.main(verbosity=2)
