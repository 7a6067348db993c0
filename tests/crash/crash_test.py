#!/usr/bin/env python3
"""Write-behind and kill -9: every acknowledged write reaches the upstream, nothing older comes over anything newer, no deadline
grows.

    tests/crash/crash_test.py --kills 200 --seed 7       # the long run; CTest runs a short one
    NEARCACHED_BINARY=build/asan/nearcached tests/crash/crash_test.py

Writers put versions, each into keys of its own, deferred (SET, SET EX, SETEX, MSET) and now and then past the log (GETSET). The
sidecar is killed at random moments, also while it starts and replays, with segments so small that they change all the time; in
some rounds the upstream (appendfsync always) is killed with it. One more thread reads the upstream and sees to it that no key
goes back. A failure prints the seed and the sidecar's last lines.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "redis"))
from system import PATIENCE_S, SLOWNESS, RedisServer, ReplyError, ServerError, Sidecar, eventually  # noqa: E402

WRITERS = 4
KEYS_EACH = 25
LIFETIME_S = 1000


def version_of(value):
    return int(value.split(b" ")[0]) if value else 0


class Key:
    def __init__(self, name):
        self.name = name
        self.sent = self.acknowledged = 0
        self.deadline_ms = None  # the latest that the last write sent may have; None: it has none

    def text(self, padding):
        return f"{self.sent} {'x' * padding}"


class Run:
    def __init__(self, options):
        self.random = random.Random(options.seed)
        self.options = options
        self.directory = Path(tempfile.mkdtemp(prefix="nearcached-crash-"))
        self.server = RedisServer(["--appendonly", "yes", "--appendfsync", "always"])
        self.sidecar = Sidecar(self.server.url, self.settings())
        self.keys = [[Key(f"{writer}:{i}") for i in range(KEYS_EACH)] for writer in range(WRITERS)]
        self.problems = []
        self.ended = threading.Event()
        self.paused = threading.Event()
        self.idle = [threading.Event() for _ in range(WRITERS)]
        self.counts = {"writes": 0, "kills": 0, "kills of a start": 0, "kills of the upstream": 0, "samples": 0}

    def settings(self):
        return {"write_behind.enabled": "true", "write_behind.log_dir": str(self.directory / "log"),
                "write_behind.durability": "deferred", "write_behind.segment_bytes": "4KB",
                "write_behind.log_max_bytes": "256MB", "write_behind.batch_records": 10,
                "write_behind.batch_interval": f"{self.random.choice([0, 20, 200])}ms", "upstream.swapdb": "never",
                "upstream.command_timeout": "3s"}

    def every_key(self):
        return [key for mine in self.keys for key in mine]

    # Writers.

    def write(self, writer):
        rng = random.Random(self.options.seed * 100 + writer)
        client = None
        while not self.ended.is_set():
            if self.paused.is_set():
                self.idle[writer].set()
                time.sleep(0.002)
                continue
            try:
                client = client or self.sidecar.client(timeout=PATIENCE_S)
                self.step(rng, client, self.keys[writer])
            except (OSError, EOFError):
                client = None
                time.sleep(0.01)
            except ReplyError as error:
                if "nearcached" not in str(error):
                    self.problems.append(f"writer {writer}: {error}")

    def step(self, rng, client, keys):
        chosen = rng.sample(keys, 3 if rng.random() < 0.1 else 1)
        padding = rng.choice([0, 10, 300])
        form = "mset" if len(chosen) > 1 else rng.choice(["set", "set", "set ex", "setex", "getset"])
        before_ms = time.time() * 1000
        for key in chosen:
            key.sent += 1
            # A write that may come late has the deadline of its moment; until it is answered the older one holds as well.
            ends_ms = before_ms + PATIENCE_S * 1000 + LIFETIME_S * 1000
            key.deadline_ms = ends_ms if form in ("set ex", "setex") else None
        key = chosen[0]
        if form == "mset":
            client.call("MSET", *(word for one in chosen for word in (one.name, one.text(padding))))
        elif form == "set ex":
            client.call("SET", key.name, key.text(padding), "EX", str(LIFETIME_S))
        elif form == "setex":
            client.call("SETEX", key.name, str(LIFETIME_S), key.text(padding))
        elif form == "getset":
            client.call("GETSET", key.name, key.text(padding))
        else:
            client.call("SET", key.name, key.text(padding))
        after_ms = time.time() * 1000
        for key in chosen:
            key.acknowledged = key.sent
            if key.deadline_ms is not None:
                key.deadline_ms = after_ms + LIFETIME_S * 1000 + 1
        self.counts["writes"] += len(chosen)

    # What the upstream has never goes back.

    def watch(self):
        names = [key.name for key in self.every_key()]
        seen = dict.fromkeys(names, 0)
        client = None
        while not self.ended.is_set():
            try:
                client = client or self.server.client(timeout=2.0)
                values = client.call("MGET", *names)
            except (OSError, EOFError, ReplyError):
                client = None
                time.sleep(0.01)
                continue
            for name, value in zip(names, values):
                version = version_of(value)
                if version < seen[name]:
                    self.problems.append(f"upstream: {name} went from version {seen[name]} back to {version}")
                seen[name] = version
            self.counts["samples"] += 1
            time.sleep(0.005)

    # Checks.

    def check(self, where, call):
        for key in self.every_key():
            version = version_of(call("GET", key.name))
            if not key.acknowledged <= version <= key.sent:
                self.problems.append(f"{where}: {key.name} has version {version}, acknowledged is {key.acknowledged}, "
                                     f"sent was {key.sent}")

    def check_deadlines(self):
        for key in self.every_key():
            found = self.server.call("PEXPIRETIME", key.name)
            if key.sent != key.acknowledged or version_of(self.server.call("GET", key.name)) != key.sent:
                continue
            if (found == -1) != (key.deadline_ms is None) or (found != -1 and found > key.deadline_ms):
                self.problems.append(f"{key.name} expires at {found}, allowed is {key.deadline_ms}")

    # Kills.

    def kill_and_start(self):
        rng = self.random
        time.sleep(rng.uniform(0.0, 0.3) * SLOWNESS)
        with_upstream = rng.random() < 0.15
        self.sidecar.kill()
        self.counts["kills"] += 1
        if with_upstream:
            self.server.kill()
            self.counts["kills of the upstream"] += 1
        while rng.random() < 0.3:
            self.kill_a_start(rng.uniform(0.0, 0.08) * SLOWNESS)
        if with_upstream:
            self.server.start()
        self.sidecar.start()

    def kill_a_start(self, after_s):
        with subprocess.Popen([str(word) for word in self.sidecar.command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            time.sleep(after_s)
            process.kill()
        self.counts["kills"] += 1
        self.counts["kills of a start"] += 1

    def hold_writers(self):
        for event in self.idle:
            event.clear()
        self.paused.set()
        for event in self.idle:
            if not event.wait(3 * PATIENCE_S):
                self.problems.append("a writer is stuck")

    def go(self):
        threads = [threading.Thread(target=self.write, args=(writer,)) for writer in range(WRITERS)]
        threads.append(threading.Thread(target=self.watch))
        for thread in threads:
            thread.start()
        try:
            while self.counts["kills"] < self.options.kills and not self.problems:
                self.kill_and_start()
                if self.random.random() < 0.3:
                    self.hold_writers()
                    with self.sidecar.client(timeout=PATIENCE_S) as client:
                        self.check("after a start", client.call)
                    self.paused.clear()
            self.hold_writers()
            with self.sidecar.client(timeout=3 * PATIENCE_S) as client:
                self.check("at the end, here", client.call)
                eventually(lambda: client.call("NEAR.FLUSH", "WRITES") == b"OK", "everything flushed")
            self.check("at the end, upstream", self.server.call)
            self.check_deadlines()
        except (ServerError, OSError, ReplyError) as error:
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()
        return not self.problems

    def close(self):
        self.sidecar.close()
        self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    options = parser.parse_args()
    run = Run(options)
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    try:
        good = run.go()
        print(", ".join(f"{count} {name}" for name, count in run.counts.items()), f"in {time.monotonic() - began:.0f} s")
        if not good:
            print(f"FAILED with --seed {options.seed}:", *run.problems[:20], "the sidecar's log:", *list(run.sidecar.log)[-15:], sep="\n")
            return 1
    finally:
        run.close()
    print("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
