#!/usr/bin/env python3
"""Write-behind and order: of each key the upstream executes a subsequence of what its writer wrote, in the writer's order, and
the last of it. MONITOR tells what it executed; it is stopped for a while now and then, so that writes pile up and connections are
given up.

    tests/crash/order_test.py --seconds 60 --seed 7
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "redis"))
from system import PATIENCE_S, RedisServer, ReplyError, Sidecar  # noqa: E402

WRITERS = 4
KEYS_EACH = 10


class Run:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.directory = Path(tempfile.mkdtemp(prefix="nearcached-order-"))
        self.server = RedisServer()
        self.sidecar = Sidecar(self.server.url, {
            "write_behind.enabled": "true", "write_behind.log_dir": str(self.directory / "log"),
            "write_behind.durability": "deferred", "write_behind.batch_interval": "20ms", "upstream.swapdb": "never",
            "upstream.command_timeout": "500ms"})
        self.written = {}  # key -> values in the writer's order
        self.errors = []
        self.ended = threading.Event()
        self.executed = {}

    def write(self, writer):
        rng = random.Random(self.options.seed * 100 + writer)
        version = 0
        with self.sidecar.client(timeout=PATIENCE_S) as client:
            while not self.ended.is_set():
                keys = [f"{writer}:{rng.randrange(KEYS_EACH)}" for _ in range(rng.choice([1, 1, 20]))]
                commands = []
                for key in keys:
                    version += 1
                    self.written.setdefault(key, []).append(str(version))
                    commands.append(("GETSET" if rng.random() < 0.05 else "SET", key, str(version)))
                for reply, command in zip(client.pipeline(commands), commands):
                    if isinstance(reply, ReplyError):
                        # A direct write of unknown outcome may stand anywhere behind what came before it, or nowhere.
                        self.errors.append((command[1], command[2]))
                time.sleep(rng.choice([0, 0, 0.001, 0.01]))

    def listen(self, monitor):
        while True:
            words = monitor.read().decode().split('"')[1::2]
            if words == ["ECHO", "the end"]:
                return
            if words[0].upper() in ("SET", "GETSET"):
                self.executed.setdefault(words[1], []).append(words[2])

    def go(self):
        monitor = self.server.client(timeout=3 * PATIENCE_S)
        monitor.call("MONITOR")
        threads = [threading.Thread(target=self.write, args=(writer,)) for writer in range(WRITERS)]
        threads.append(threading.Thread(target=self.listen, args=(monitor,)))
        for thread in threads:
            thread.start()
        until = time.monotonic() + self.options.seconds
        while time.monotonic() < until:
            time.sleep(self.random.uniform(0.1, 1))
            self.server.signal(signal.SIGSTOP)
            time.sleep(self.random.choice([0.05, 0.3, 0.8]))
            self.server.signal(signal.SIGCONT)
        self.ended.set()
        for thread in threads[:-1]:
            thread.join()
        with self.sidecar.client(timeout=PATIENCE_S) as client:
            client.call("NEAR.FLUSH", "WRITES")
        self.server.call("ECHO", "the end")
        threads[-1].join()
        monitor.close()

    def problems(self):
        uncertain = set(self.errors)
        for key, written in self.written.items():
            place = {version: at for at, version in enumerate(written)}
            sure = [version for version in self.executed.get(key, []) if (key, version) not in uncertain]
            places = [place[version] for version in sure]
            # One whose answer was lost is sent once more: the same again is no step back.
            if places != sorted(places):
                yield f"{key}: executed {sure[:50]} of {written[:50]}"
            if not any((key, version) in uncertain for version in written) and sure[-1] != written[-1]:
                yield f"{key}: the last executed is {sure[-1]}, the last written {written[-1]}"

    def close(self):
        self.sidecar.close()
        self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    options = parser.parse_args()
    run = Run(options)
    print(f"seed {options.seed}", flush=True)
    try:
        run.go()
        found = list(run.problems())
        executed = sum(len(values) for values in run.executed.values())
        print(f"{sum(len(values) for values in run.written.values())} writes, {executed} executed, {len(run.errors)} errors")
        if found or executed == 0:
            print(f"FAILED with --seed {options.seed}:", *found[:10], *list(run.sidecar.log)[-10:], sep="\n")
            return 1
    finally:
        run.close()
    print("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
