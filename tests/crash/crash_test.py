#!/usr/bin/env python3
"""Write-behind and kill -9: every acknowledged write reaches the upstream, nothing older comes over anything newer, no
deadline grows.

    tests/crash/crash_test.py --kills 200 --seed 7       # the long run; CTest runs a short one
    tests/crash/crash_test.py --cluster --kills 200      # before a cluster, of which a primary is killed with the sidecar
    tests/crash/crash_test.py --failover --kills 100     # ... and a replica takes over
    NEARCACHED_BINARY=build/asan/nearcached tests/crash/crash_test.py

Writers put versions, each into keys of its own, deferred (SET, SET EX, SETEX, MSET) and now and then past the log (GETSET,
DEL: a deletion is a version as well; with some seeds also whatever is more than the queue or the log may hold). The sidecar
is killed at random moments and at moments that are waited for: when the log begins another segment (they are so small that
it happens all the time), when flushes are on their way, while it starts, while it replays. In some rounds the upstream
(appendfsync always) is killed with it, of a cluster one primary. One more thread reads the upstream and sees to it that no
key goes back. A failure prints the seed and the sidecar's last lines.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "redis"))
from system import PATIENCE_S, SLOWNESS, ReplyError, ServerError, Sidecar, eventually  # noqa: E402
from upstreams import FailingOver, OfACluster, Single  # noqa: E402

WRITERS = 4
KEYS_EACH = 25
LIFETIME_S = 1000
AIM_S = 0.5 * SLOWNESS  # how long a moment is waited for
# What a cluster says while it is not whole, and the sidecar about an upstream that is away.
PASSING = ("CLUSTERDOWN", "LOADING", "MOVED", "READONLY", "TRYAGAIN")


def is_passing(error):
    return error.code in PASSING or "nearcached" in str(error)


def version_of(value):
    return int(value.split(b" ")[0])


class Key:
    def __init__(self, name):
        self.name = name
        self.sent = self.acknowledged = 0
        self.absent = [0]  # the versions that are deletions, and the one before all
        self.deadline_ms = None  # the latest that the last write sent may have; None: it has none

    def text(self, padding):
        return f"{self.sent} {'x' * padding}"

    def version_from(self, lowest, value):
        """The lowest version from `lowest` on that can have been read as this; None: there is none."""
        versions = self.absent if value is None else (version_of(value),)
        return next((version for version in versions if version >= lowest), None)


class Run:
    def __init__(self, options):
        self.random = random.Random(options.seed)
        self.options = options
        self.directory = Path(tempfile.mkdtemp(prefix="nearcached-crash-"))
        self.upstream = options.upstream()
        self.sidecar = Sidecar(self.upstream.url, self.settings())
        self.keys = [[Key(f"{writer}:{i}") for i in range(KEYS_EACH)] for writer in range(WRITERS)]
        self.problems = []
        self.ended = threading.Event()
        self.paused = threading.Event()
        self.idle = [threading.Event() for _ in range(WRITERS)]
        self.writes = self.samples = 0
        self.kills = Counter()  # by what they met

    @property
    def log_directory(self):
        return self.directory / "log"

    def settings(self):
        return {"write_behind.enabled": "true", "write_behind.log_dir": str(self.log_directory),
                "write_behind.durability": "deferred", "write_behind.segment_bytes": "4KB",
                "write_behind.log_max_bytes": self.random.choice(["256MB", "32KB"]), "write_behind.batch_records": 10,
                "write_behind.max_records": self.random.choice([1_000_000, 15]),
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
                if not is_passing(error):
                    self.problems.append(f"writer {writer}: {error}")

    def step(self, rng, client, keys):
        chosen = rng.sample(keys, 3 if rng.random() < 0.1 else 1)
        padding = rng.choice([0, 10, 300])
        form = "mset" if len(chosen) > 1 else rng.choice(["set"] * 4 + ["set ex", "setex"] * 2 + ["getset", "del"])
        before_ms = time.time() * 1000
        for key in chosen:
            key.sent += 1
            # A write that may come late has the deadline of its moment; until it is answered the older one holds as well.
            ends_ms = before_ms + PATIENCE_S * 1000 + LIFETIME_S * 1000
            key.deadline_ms = ends_ms if form in ("set ex", "setex") else None
            if form == "del":
                key.absent.append(key.sent)
        key = chosen[0]
        if form == "mset":
            client.call("MSET", *(word for one in chosen for word in (one.name, one.text(padding))))
        elif form == "set ex":
            client.call("SET", key.name, key.text(padding), "EX", str(LIFETIME_S))
        elif form == "setex":
            client.call("SETEX", key.name, str(LIFETIME_S), key.text(padding))
        elif form == "getset":
            client.call("GETSET", key.name, key.text(padding))
        elif form == "del":
            client.call("DEL", key.name)
        else:
            client.call("SET", key.name, key.text(padding))
        after_ms = time.time() * 1000
        for key in chosen:
            key.acknowledged = key.sent
            if key.deadline_ms is not None:
                key.deadline_ms = after_ms + LIFETIME_S * 1000 + 1
        self.writes += len(chosen)

    # What the upstream has never goes back.

    def watch(self):
        keys = {key.name: key for key in self.every_key()}
        seen = dict.fromkeys(keys, 0)
        clients = {}
        while not self.ended.is_set():
            try:
                found = self.upstream.read_all(list(keys), clients)
            except (OSError, EOFError, ReplyError):
                time.sleep(0.01)
                continue
            for name, value in found:
                version = keys[name].version_from(seen[name], value)
                if version is None:
                    self.problems.append(f"upstream: {name} went from version {seen[name]} back to {value!r:.20}")
                else:
                    seen[name] = version
            self.samples += 1
            time.sleep(0.005)

    # Checks.

    def check(self, where, call):
        for key in self.every_key():
            value = call("GET", key.name)
            version = key.version_from(key.acknowledged, value)
            if version is None or version > key.sent:
                self.problems.append(f"{where}: {key.name} is {value!r:.20}, acknowledged is version {key.acknowledged}, "
                                     f"sent was {key.sent}; the deletions: {key.absent[-3:]}")

    def check_deadlines(self):
        for key in self.every_key():
            value = self.upstream.call("GET", key.name)
            if value is None or key.sent != key.acknowledged or version_of(value) != key.sent:
                continue
            found = self.upstream.call("PEXPIRETIME", key.name)
            if (found == -1) != (key.deadline_ms is None) or (found != -1 and found > key.deadline_ms):
                self.problems.append(f"{key.name} expires at {found}, allowed is {key.deadline_ms}")

    def check_dead_letters(self):
        letters = self.log_directory / "dead-letters.log"
        if letters.exists():
            self.problems.append(f"dead letters: {letters.read_text()[:500]}")

    # Kills.

    def kill_and_start(self):
        """One round: the sidecar, sometimes with the upstream, then perhaps some of its starts."""
        rng = self.random
        time.sleep(rng.uniform(0.0, 0.3) * SLOWNESS)
        if rng.random() < 0.25:
            self.upstream.fail(self.sidecar)
            self.kills["together with the upstream"] += 1
            self.kill_starts()
            self.upstream.come_back(rng)
        else:
            rng.choice([self.kill_anywhere, self.kill_at_a_segment, self.kill_with_flushes_under_way])()
            self.kill_starts()
        self.sidecar.start()

    def kill_anywhere(self):
        self.sidecar.kill()
        self.kills["anywhere"] += 1

    def segments(self):
        return {name for name in os.listdir(self.log_directory) if name.endswith(".wal")}

    def kill_at_a_segment(self):
        """At the moment that a new segment appears, or a little later."""
        before, until = self.segments(), time.monotonic() + AIM_S
        new = set()
        while not new and time.monotonic() < until:
            new = self.segments() - before
        time.sleep(self.random.choice([0.0, 0.0002, 0.002]))
        self.sidecar.kill()
        self.kills["while a segment begins" if new else "anywhere"] += 1

    def kill_with_flushes_under_way(self):
        """With writes sent to the upstream and not answered: to one that is stopped, so that it is certain, or that runs."""
        stopped = self.upstream.running() if self.random.random() < 0.5 else []
        for server in stopped:
            server.signal(signal.SIGSTOP)
        try:
            until = time.monotonic() + AIM_S
            flushing = False
            while not flushing and time.monotonic() < until:
                flushing = self.sidecar.stats()["write_behind"]["in_flight"] > 0
            self.sidecar.kill()
        finally:
            for server in stopped:
                server.signal(signal.SIGCONT)
        self.kills["while a flush is on its way" if flushing else "anywhere"] += 1

    def kill_starts(self):
        rng = self.random
        while rng.random() < 0.35:
            self.kill_a_start(rng.uniform(0.0, 0.08) * SLOWNESS if rng.random() < 0.5 else None)

    def kill_a_start(self, after_s):
        """After a time, or, without one, a little after the start has found records in the log that it has to replay."""
        with subprocess.Popen([str(word) for word in self.sidecar.command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE) as process:
            records = 0
            if after_s is None:
                read = next((line for line in process.stderr if b"write_behind_log_read" in line), b"")
                records = int((re.search(rb"records=(\d+)", read) or [0, 0])[1])
                after_s = self.random.uniform(0.0, 0.02)
            time.sleep(after_s)
            process.kill()
        self.kills["of a replay" if records else "of a start"] += 1

    def hold_writers(self):
        for event in self.idle:
            event.clear()
        self.paused.set()
        for event in self.idle:
            if not event.wait(3 * PATIENCE_S):
                self.problems.append("a writer is stuck")

    def check_here(self, where):
        """Through the sidecar, which is asked until it knows that the upstream is whole again."""
        self.upstream.wait_ready()
        with self.sidecar.client(timeout=PATIENCE_S) as client:
            def patiently(*command):
                replies = []

                def answered():
                    replies[:] = client.pipeline([command])
                    return not (isinstance(replies[0], ReplyError) and is_passing(replies[0]))
                eventually(answered, f"an answer to {command}")
                return replies[0]
            self.check(where, patiently)

    def go(self):
        threads = [threading.Thread(target=self.write, args=(writer,)) for writer in range(WRITERS)]
        threads.append(threading.Thread(target=self.watch))
        for thread in threads:
            thread.start()
        try:
            while self.kills.total() < self.options.kills and not self.problems:
                self.kill_and_start()
                if self.random.random() < 0.3:
                    self.hold_writers()
                    self.check_here("after a start")
                    self.paused.clear()
            self.hold_writers()
            self.check_here("at the end, here")
            with self.sidecar.client(timeout=3 * PATIENCE_S) as client:
                eventually(lambda: client.call("NEAR.FLUSH", "WRITES") == b"OK", "everything flushed")
            self.check("at the end, upstream", self.upstream.call)
            self.check_deadlines()
            self.check_dead_letters()
        except (ServerError, OSError, ReplyError) as error:
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()
        return not self.problems

    def close(self):
        self.sidecar.close()
        self.upstream.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--cluster", dest="upstream", action="store_const", const=OfACluster, default=Single)
    parser.add_argument("--failover", dest="upstream", action="store_const", const=FailingOver)
    options = parser.parse_args()
    run = Run(options)
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    try:
        good = run.go()
        kills = ", ".join(f"{count} {name}" for name, count in sorted(run.kills.items()))
        print(f"{run.writes} writes, {run.samples} samples of the upstream, {run.kills.total()} kills in "
              f"{time.monotonic() - began:.0f} s: {kills}", flush=True)
        if not good and run.upstream.lost_by_itself():
            print("SKIPPED: the cluster failed over by itself, and may have lost writes:", *run.problems[:20],
                  sep="\n")
            return 77
        if not good:
            print(f"FAILED with --seed {options.seed}:", *run.problems[:20], "the sidecar's log:",
                  *list(run.sidecar.log)[-15:], sep="\n")
            return 1
    finally:
        run.close()
    print("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
