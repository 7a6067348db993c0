#!/usr/bin/env python3
"""Memory per item: the same items in nearcached's L1, Redis, Valkey and memcached, by resident memory.

Each server is filled with --keys items of 16-byte keys, RSS is read before and after, and what keys and values themselves
take is taken off: the rest is overhead, bookkeeping and slack of allocators alike. nearcached's L1 is filled by reading
through it, with a budget that holds everything; its own count (nearcached_l1_bytes) stands beside. There is no churn, so
allocators and hash tables are at their best. What is not installed is left out, and said.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import sections
from sections import first_line, median, rss_bytes, spread
from servers import RedisServer, Server, ServerError, Sidecar, free_port, require, wait_for

KEY_BYTES = 16  # as the generator makes them: "key:" and twelve digits
BATCH = 1000
BUDGET_BYTES = 1500 << 20
HELD_SHARE_MIN = 0.999
OVERHEAD_GOAL = 40


class Memcached(Server):
    name = "memcached"

    def __init__(self):
        super().__init__()
        self.port = free_port()
        self._spawn(
            ["memcached", "-l", "127.0.0.1", "-p", self.port, "-U", "0", "-t", "1", "-m", "2048", "-u", "nobody"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, 10, "memcached")

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"version\r\n")
                return sock.recv(100).startswith(b"VERSION")
        except OSError:
            return False

    def fill(self, keys, value):
        """Quiet sets, and one that answers behind each batch."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            answers = sock.makefile("rb")
            for first in range(0, keys, BATCH):
                commands = [
                    b"set key:%012d 0 0 %d noreply\r\n%s\r\n" % (i, len(value), value)
                    for i in range(first, min(first + BATCH, keys))
                ]
                sock.sendall(b"".join(commands) + b"mn\r\n")
                if answers.readline() != b"MN\r\n":
                    raise ServerError("memcached refused an item")
            sock.sendall(b"stats\r\n")
            held = 0
            while (line := answers.readline()) != b"END\r\n":
                held = int(line.split()[2]) if line.startswith(b"STAT curr_items ") else held
        return held


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--values", default="16,64,1024", help="bytes (16,64,1024)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--valkey", default=shutil.which("valkey-server"), help="the server to put beside (valkey-server, if on PATH)"
    )
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.keys, options.values, options.repeats = 20_000, "64", 1
    options.values = [int(value) for value in options.values.split(",")]
    return options


def load(options, target, value_bytes, step):
    with tempfile.TemporaryFile() as errors:
        command = [
            options.build / "nearcached_load",
            "--target",
            target,
            "--keys",
            options.keys,
            "--value-bytes",
            value_bytes,
            "--requests",
            1,
            step,
        ]
        if subprocess.run(list(map(str, command)), stdout=errors, stderr=errors, check=False).returncode != 0:
            errors.seek(0)
            raise ServerError(errors.read().decode())


def settled(pid):
    time.sleep(0.3)
    return rss_bytes(pid)


def measure_redis(options, binary, value_bytes):
    with RedisServer(binary=binary) as server:
        before = settled(server.pid)
        load(options, server.address, value_bytes, "--populate")
        return {"rss": settled(server.pid) - before, "items": server.call("DBSIZE")}


def measure_nearcached(options, value_bytes):
    settings = {"threads": 1, "upstream.swapdb": "never", "l1.max_bytes": BUDGET_BYTES}
    with RedisServer() as redis, Sidecar(redis.url, settings=settings, binary=options.binary) as sidecar:
        load(options, redis.address, value_bytes, "--populate")
        before = settled(sidecar.pid)
        load(options, sidecar.address, value_bytes, "--warm")
        after = settled(sidecar.pid)
        seen = sections.metrics(sidecar)
    return {"rss": after - before, "items": int(seen["nearcached_l1_items"]), "own": seen["nearcached_l1_bytes"]}


def measure_memcached(options, value_bytes):
    with Memcached() as server:
        before = settled(server.pid)
        held = server.fill(options.keys, b"v" * value_bytes)
        return {"rss": settled(server.pid) - before, "items": held}


def measure(options):
    """{(server, value bytes): [figures of one run]}"""
    servers = {
        "nearcached L1": lambda size: measure_nearcached(options, size),
        "redis": lambda size: measure_redis(options, None, size),
    }
    if options.valkey:
        servers["valkey"] = lambda size: measure_redis(options, options.valkey, size)
    if shutil.which("memcached"):
        servers["memcached"] = lambda size: measure_memcached(options, size)
    else:
        print("memcached is not measured: it is not installed", file=sys.stderr)
    seen = {}
    for size in options.values:
        for name, measured in servers.items():
            seen[name, size] = [measured(size) for _ in range(options.repeats)]
            fewest = min(figures["items"] for figures in seen[name, size])
            if fewest < HELD_SHARE_MIN * options.keys:
                raise ServerError(f"{name} holds {fewest} of {options.keys} items")
        print(f"values of {size} bytes: done", file=sys.stderr, flush=True)
    return seen


def per_item(figures):
    return figures["rss"] / figures["items"]


def table(seen):
    lines = [
        "| value bytes | server | RSS per item | ± % | beyond key and value | its own count beyond key and value |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for (name, size), runs in seen.items():
        middle = median(runs, per_item)
        own = f"{median(runs, lambda run: run['own'] / run['items']) - size - KEY_BYTES:.0f}" if "own" in runs[0] else ""
        lines.append(
            f"| {size} | {name} | {middle:.0f} | {spread([per_item(run) for run in runs]):.1f} "
            f"| {middle - size - KEY_BYTES:.0f} | {own} |"
        )
    counted = [
        figures["own"] / figures["items"] - size - KEY_BYTES
        for (_, size), of in seen.items()
        for figures in of
        if "own" in figures
    ]
    return lines + [
        "",
        f"- beyond key and value, by its own count, {min(counted):.0f} to {max(counted):.0f} bytes",
        sections.goal("bytes of an L1 item beyond key and value, ghosts among them", max(counted), OVERHEAD_GOAL, digits=0),
    ]


def plot(options, seen):
    pyplot = sections.pyplot()
    if pyplot is None:
        return []
    names = list(dict.fromkeys(name for name, _ in seen))
    figure, axis = pyplot.subplots(figsize=(6, 3.4))
    for index, name in enumerate(names):
        values = [median(seen[name, size], per_item) - size - KEY_BYTES for size in options.values]
        axis.bar([place + 0.8 * index / len(names) for place in range(len(values))], values, 0.8 / len(names), label=name)
    axis.set_xticks([place + 0.4 - 0.4 / len(names) for place in range(len(options.values))], options.values)
    axis.set_xlabel("value size, bytes")
    axis.set_ylabel("bytes per item beyond key and value")
    axis.legend(fontsize=8)
    return sections.save_plot(options, figure, "memory_per_item", "Resident memory per item beyond key and value")


def main():
    options = parse_arguments()
    require("redis-server")
    seen = measure(options)
    versions = [
        first_line("redis-server", "--version"),
        options.valkey and first_line(options.valkey, "--version"),
        first_line("memcached", "--version") if shutil.which("memcached") else "memcached: not installed, not measured",
    ]
    lines = [
        *sections.where(options, *versions),
        f"- {options.keys:,} items, keys of {KEY_BYTES} bytes; medians of {options.repeats} servers " "started afresh",
        "",
        *plot(options, seen),
        *table(seen),
    ]
    sections.emit(options, "memory_per_item", "Memory per item", lines)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"memory_per_item: {error}")
