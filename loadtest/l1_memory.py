#!/usr/bin/env python3
"""L1's memory and background work where they are hardest: sizes that drift, and a million keys that expire together.

Churn: phase after phase another working set, twice as many bytes as L1 may hold, of values from 64 B to 4 KB and back, then
to and fro at once: what an allocator that keeps size classes apart, or fragments, answers with growth. The sidecar's RSS is
read all along; goal: at most 1.15 x l1.max_bytes + 20 MB, and L1's own count never above l1.max_bytes.

Expiry: a million keys with one deadline are read into L1; a client asks for another key all along, one command at a time.
What it waits is compared with the time before, and with a client's that asks the upstream itself.
"""

import argparse
import statistics
import sys
import threading
import time

import sections
from sections import metrics, rss_bytes
from servers import RedisServer, ServerError, Sidecar, require

MB = 1 << 20
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 2048, 1024, 512, 256, 128, 64, 4096, 64, 4096, 64)
BATCH = 512
OVERHEAD = 100  # bytes per item, roughly: of how many keys make a working set


class Peaks(threading.Thread):
    """The highest RSS and L1 count until stop(), looked at every 20 ms (the count every 500)."""

    def __init__(self, sidecar):
        super().__init__(daemon=True)
        self.sidecar, self.rss, self.l1, self.stopped = sidecar, 0, 0, threading.Event()
        self.start()

    def run(self):
        looks = 0
        while not self.stopped.wait(0.02):
            self.rss = max(self.rss, rss_bytes(self.sidecar.pid))
            if looks % 25 == 0:
                self.l1 = max(self.l1, metrics(self.sidecar)["nearcached_l1_bytes"])
            looks += 1

    def stop(self):
        self.stopped.set()
        self.join()


def read_all(client, keys):
    for first in range(0, len(keys), BATCH):
        client.pipeline([("GET", key) for key in keys[first:first + BATCH]])


def churn(options, lines):
    budget = (16 if options.quick else 64) * MB
    sizes = SIZES[:3] if options.quick else SIZES
    bound = 1.15 * budget + 20 * MB
    lines += ["### Sizes that drift", "", f"l1.max_bytes {budget // MB} MB; RSS may reach {bound / MB:.0f} MB.", "",
              "| value bytes | keys read | items held | L1's own count, MB | RSS, MB |", "|---:|---:|---:|---:|---:|"]
    with RedisServer(["--enable-debug-command", "yes"]) as redis, \
            Sidecar(redis.url, {"l1.max_bytes": budget, "threads": 2}, binary=options.binary) as sidecar, \
            redis.client(timeout=60) as upstream, sidecar.client(timeout=60) as client:
        at_rest = rss_bytes(sidecar.pid)
        peaks = Peaks(sidecar)
        for phase, size in enumerate(sizes):
            keys = [b"phase%d:%d" % (phase, i) for i in range(2 * budget // (size + OVERHEAD))]
            upstream.call("FLUSHALL")
            upstream.call("DEBUG", "POPULATE", len(keys), f"phase{phase}", size)
            read_all(client, keys)
            now = metrics(sidecar)
            lines.append(f"| {size} | {len(keys):,} | {now['nearcached_l1_items']:,.0f} "
                         f"| {now['nearcached_l1_bytes'] / MB:.1f} | {rss_bytes(sidecar.pid) / MB:.1f} |")
        peaks.stop()
    lines += ["", f"- at rest {at_rest / MB:.1f} MB; highest RSS {peaks.rss / MB:.1f} MB",
              sections.goal("MB of RSS under churn, 1.15 x max_bytes + 20 MB", peaks.rss / MB, bound / MB, digits=1),
              f"- highest count of L1 {peaks.l1 / MB:.1f} MB: " + ("never above" if peaks.l1 <= budget else "ABOVE")
              + " l1.max_bytes", ""]


def waits(client, seconds):
    """Microseconds of each GET for so long, one after the other."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.perf_counter()
        client.call("GET", "steady")
        found.append((time.perf_counter() - begun) * 1e6)
        time.sleep(0.0002)
    return found


def row(name, found):
    found.sort()
    over = sum(one > 1000 for one in found)
    return (f"| {name} | {len(found):,} | {statistics.median(found):.0f} | {found[len(found) * 99 // 100]:.0f} "
            f"| {found[len(found) * 999 // 1000]:.0f} | {found[-1]:.0f} | {over} |")


def expire_together(options, seconds, upstream_expires):
    """([before] and [during] of the sidecar's client, [during] of one straight at the upstream, items before and after)"""
    keys = [b"expires:%d" % i for i in range(20_000 if options.quick else 1_000_000)]
    with RedisServer(["--enable-debug-command", "yes"]) as redis, \
            Sidecar(redis.url, {"l1.max_bytes": 400 * MB, "threads": 2}, binary=options.binary) as sidecar, \
            redis.client(timeout=60) as upstream, sidecar.client(timeout=60) as client, sidecar.client() as steady:
        upstream.call("DEBUG", "SET-ACTIVE-EXPIRE", int(upstream_expires))
        upstream.call("SET", "steady", "v")
        deadline = time.time() + seconds
        for first in range(0, len(keys), BATCH):
            upstream.pipeline([("SET", key, "v" * 64, "PXAT", int(deadline * 1000)) for key in keys[first:first + BATCH]])
        read_all(client, keys)
        held = metrics(sidecar)["nearcached_l1_items"]
        before = waits(steady, 2)
        left = deadline - time.time()
        if left < 0.5:
            raise ServerError("the keys expired while they were read: the machine is too slow for this")
        time.sleep(left - 0.5)
        direct = []
        watching = threading.Thread(target=lambda: direct.extend(waits(upstream, 6)))
        if upstream_expires:
            watching.start()
        during = waits(steady, 6)
        if upstream_expires:
            watching.join()
        return before, during, direct, held, metrics(sidecar)["nearcached_l1_items"]


def expiry(options, lines):
    seconds = 5 if options.quick else 75
    before, during, _, held, left = expire_together(options, seconds, False)
    lines += ["### A million keys expire together", "",
              f"{held:,.0f} items in L1 have one deadline; {left:,.0f} are left 5.5 s behind it. One client's GETs of another "
              "key, one at a time. First with an upstream that does not expire its keys actively, so that what is seen is L1's "
              "own work; then with one that does, in the same second, on the same cores, and sends an invalidation for each.",
              "", "| | GETs | p50 us | p99 us | p99.9 us | max us | over 1 ms |", "|---|---:|---:|---:|---:|---:|---:|",
              row("L1 alone expires: before", before), row("from 0.5 s before the deadline to 5.5 s behind it", during)]
    longest = max(during)
    before, during, direct, *_ = expire_together(options, seconds, True)
    lines += [row("the upstream expires too: before", before),
              row("from 0.5 s before the deadline to 5.5 s behind it", during),
              row("the same, of a client straight at the upstream", direct),
              "", sections.goal("ms of the longest wait while L1 expires a million items", longest / 1000, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    require("redis-server")
    lines = []
    churn(options, lines)
    expiry(options, lines)
    lines = [*sections.where(options, sections.first_line("redis-server", "--version")), "", *lines]
    sections.emit(options, "l1_memory", "L1 under churn and expiry", lines)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(str(error))
