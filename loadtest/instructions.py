#!/usr/bin/env python3
"""Counts the instructions in user space that one L1 hit costs the daemon, under callgrind.

Unlike times they are the same on a busy machine and on a quiet one, so that a budget can be held by a test. One worker and
one client: a batch of GETs is sent whole and answered whole, which is one wakeup, one read and one write of the daemon.
Counted is what a client's event sets off, from the event to the end of the worker's turn; what goes by time (ticks, probes,
L1's background work) is not. The kernel's share is not seen; compare.py measures it.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import sections
from servers import RedisServer, ServerError, Sidecar, require, wait_for

# name: (commands in a batch, instructions per command at most)
BUDGETS = {"unpipelined": (1, 1850), "pipeline 16": (16, 670), "pipeline 64": (64, 610)}
COUNTED = ("nearcached::tiers::io::Stream::on_events(unsigned int)", "nearcached::daemon::Worker::end_turn()")
VALUE = b"v" * 64


class CountedSidecar(Sidecar):
    """A sidecar under callgrind, which counts only what runs between begin() and end()."""

    name = "callgrind"

    @property
    def command(self):
        return ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=counted",
                *(f"--toggle-collect={function}" for function in COUNTED), *super().command]

    def _control(self, *args):
        done = subprocess.run(["callgrind_control", *args, str(self.pid)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"callgrind_control {' '.join(args)}: {done.stdout}{done.stderr}")

    def begin(self):
        self._control("-z")
        self._control("-i", "on")

    def end(self):
        """The instructions since begin()."""
        for old in self.directory.glob("counted*"):
            old.unlink()
        self._control("-d")
        self._control("-i", "off")
        dump = wait_for(lambda: next(self.directory.glob("counted.*"), None), 10, "callgrind's dump")
        found = wait_for(lambda: re.search(r"^(?:summary|totals): (\d+)$", dump.read_text(errors="replace"), re.M), 10,
                         "callgrind's sum")
        return int(found[1])


def run(client, keys, batch, batches):
    commands = [b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key) for key in group)
                for group in (keys[i:i + batch] for i in range(0, len(keys) - batch + 1, batch))]
    expected = (len(b"$64\r\n") + len(VALUE) + 2) * batch
    for i in range(batches):
        client.sock.sendall(commands[i % len(commands)])
        left = expected
        while left > 0:
            got = len(client.sock.recv(left))
            if got == 0:
                raise ServerError("the sidecar closed the connection")
            left -= got


def measure(sidecar, client, keys, batch, commands):
    """Instructions per command."""
    sidecar.begin()
    run(client, keys, batch, commands // batch)
    return sidecar.end() / (commands // batch * batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections.add_arguments(parser)
    parser.add_argument("--commands", type=int, default=32_000, help="GETs per count (32000)")
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--keep", type=Path, help="copies the last profile there, for callgrind_annotate")
    parser.add_argument("--check", action="store_true", help="fails where a budget is exceeded")
    options = sections.finish_arguments(parser)
    require("redis-server", "valgrind", "callgrind_control")
    if options.quick:
        options.commands = 3_200
    lines = sections.where(options, sections.first_line("valgrind", "--version"), sections.first_line("c++", "--version"))
    lines += ["", f"User space only, one worker, one client, {len(VALUE)}-byte values. The budget is held by a test.", "",
              "| load | instructions per hit | budget |", "|---|---:|---:|"]
    keys = [b"key:%012d" % i for i in range(options.keys)]
    over = []
    with RedisServer() as redis, CountedSidecar(redis.url, {"threads": 1}, binary=options.binary) as sidecar:
        with redis.client() as upstream:
            for key in keys:
                upstream.call("SET", key, VALUE)
        with sidecar.client(timeout=60) as client:
            for _ in range(2):
                run(client, keys, 1, len(keys))
            for name, (batch, budget) in BUDGETS.items():
                count = measure(sidecar, client, keys, batch, options.commands)
                lines.append(f"| {name} | {count:,.0f} | {budget:,} |")
                if count > budget:
                    over.append(name)
        if options.keep:
            options.keep.write_bytes(next(sidecar.directory.glob("counted.*")).read_bytes())
    sections.emit(options, "instructions", "Instructions per hit", lines)
    if options.check and over:
        print(f"over budget: {', '.join(over)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
