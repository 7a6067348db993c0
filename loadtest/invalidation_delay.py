#!/usr/bin/env python3
"""How long a sidecar still answers with the old value after somebody else's write was acknowledged, beside a bare client.

A foreign writer sends 10,000 writes/s straight to the upstream; every 100 us all its keys are read through the sidecar and,
at the same instants, in a bare tracking client: one connection with CLIENT TRACKING ON that keeps what it reads and drops it
at the push. Both see the same writes in the same run, so what disturbs the machine disturbs both. The delay of a write runs
from its acknowledgement to the *sending* of the last read that was answered with an older version (0: none was). The column
"recv" runs to the arrival of that answer instead: the read took place between the two.

Runs before one server and before a cluster are interleaved; medians over the repeats. Exit code 1 when the sidecar's p99 is
more than --allowance-us above the bare client's, when a key went back in time, or when the sidecar did not cache at all (a
delay of 0 would then mean nothing).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import sections
from sections import first_line
from servers import Cluster, RedisServer, ServerError, Sidecar, require

FOLDS = {"single": "one server", "cluster": "3-node cluster"}
HIT_SHARE_MIN = 0.5


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one run (5)")
    parser.add_argument("--rate", type=int, default=10_000, help="foreign writes per second (10000)")
    parser.add_argument("--keys", type=int, default=32)
    parser.add_argument("--interval-us", type=int, default=100, help="how often every key is read (100)")
    parser.add_argument("--allowance-us", type=float, default=500, help="what p99 may be above the bare client's (500)")
    parser.add_argument("--upstreams", default="single,cluster", help="any of single,cluster")
    parser.add_argument("--threads", type=int, default=1, help="the sidecar's workers (1)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="further settings of the sidecar")
    parser.add_argument("--redis", default="redis-server", help="the server to run")
    parser.add_argument("--json", type=Path, help="all figures of all runs")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.repeats, options.seconds, options.upstreams = 1, 1.0, "single"
        options.allowance_us = float("inf")  # a short run says nothing about tails
    options.upstreams = options.upstreams.split(",")
    if not set(options.upstreams) <= set(FOLDS):
        parser.error(f"--upstreams: any of {', '.join(FOLDS)}")
    return options


class Upstream:
    """One fold of the measurement: the servers, and a sidecar before them."""

    def __init__(self, fold, options):
        self.fold = fold
        self.servers = RedisServer(binary=options.redis) if fold == "single" else Cluster(binary=options.redis)
        self.nodes = [self.servers] if fold == "single" else self.servers.nodes
        settings = {"threads": options.threads, "upstream.swapdb": "never",
                    **dict(setting.split("=", 1) for setting in options.set)}
        self.sidecar = Sidecar(self.servers.url, settings=settings, binary=options.binary)
        self.runs = []

    def close(self):
        self.sidecar.close()
        self.servers.close()


def calls(nodes, command):
    """How often all nodes together have executed a command."""
    total = 0
    for node in nodes:
        stats = node.info("commandstats").get(f"cmdstat_{command}", "calls=0,")
        total += int(stats.split("calls=")[1].split(",")[0])
    return total


def run_program(build, nodes, sidecars, *arguments):
    """One run of the program; its figures, with the share of each sidecar's reads that did not reach the upstream."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [build / "invalidation_delay", "--json", out.name, *arguments]
        for node in nodes:
            command += ["--upstream", node.address, "--pid", node.pid]
        for sidecar in sidecars:
            command += ["--sidecar", sidecar.address]
        before = calls(nodes, "get")
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        result = json.load(out)
    by_others = sum(observer["fetches"] for observer in result["observers"])
    result["gets"] = calls(nodes, "get") - before
    reads = sum(observer["reads"] for observer in result["observers"] if observer["name"].startswith("sidecar"))
    result["hit_share"] = 1 - (result["gets"] - by_others) / reads if reads else None
    return result


def observers(run):
    return {observer["name"].split()[0]: observer for observer in run["observers"]}


def median(runs, name, kind, percentile):
    return statistics.median(observers(run)[name][kind][percentile] for run in runs)


def introduction(options):
    return [f"{options.rate:,} writes/s straight to the upstream, {options.keys} keys, each read every "
            f"{options.interval_us} us", "through a sidecar and in a bare tracking client at the same instants; medians of "
            f"{options.repeats} interleaved runs of {options.seconds:g} s.",
            '"recv" runs to the arrival of the last stale answer instead of the sending of its request: the truth lies '
            "between.",
            ""]


def table(upstreams, options):
    lines = ["| upstream | reader | p50 us | p99 us | p99.9 us | max us | p99 recv | max recv | writes seen stale |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for upstream in upstreams:
        for name in ("sidecar", "bare"):
            sent = [f"{median(upstream.runs, name, 'sent_us', p):.0f}" for p in ("p50", "p99", "p999", "max")]
            received = [f"{median(upstream.runs, name, 'received_us', p):.0f}" for p in ("p99", "max")]
            stale = statistics.median(100 * observers(run)[name]["stale"] / observers(run)[name]["writes"]
                                      for run in upstream.runs)
            lines.append(f"| {FOLDS[upstream.fold]} | {name} | {' | '.join(sent + received)} | {stale:.1f} % |")
    lines.append("")
    for upstream in upstreams:
        more = statistics.median(excess(run) for run in upstream.runs)
        highest = max(observers(run)["sidecar"]["sent_us"]["max"] for run in upstream.runs)
        hits = statistics.median(run["hit_share"] for run in upstream.runs)
        writes = statistics.median(run["writes_per_second"] for run in upstream.runs)
        lines += [sections.goal(f"p99 of the last stale answer, us above a bare tracking client's, {FOLDS[upstream.fold]}",
                                more, options.allowance_us, digits=0),
                  f"- {FOLDS[upstream.fold]}: worst single delay of all runs {highest:.0f} us; "
                  f"{writes:.0f} writes/s; {hits:.1%} of the sidecar's reads were hits"]
    back = sum(observer["back_in_time"] for upstream in upstreams for run in upstream.runs for observer in run["observers"])
    return lines + [f"- reads that went back in time: {back}"]


def excess(run):
    seen = observers(run)
    return seen["sidecar"]["sent_us"]["p99"] - seen["bare"]["sent_us"]["p99"]


def findings(upstreams, options):
    """What makes the exit code 1."""
    for upstream in upstreams:
        if statistics.median(excess(run) for run in upstream.runs) > options.allowance_us:
            yield f"{upstream.fold}: the sidecar's p99 is more than {options.allowance_us:.0f} us above the bare client's"
        if any(observer["back_in_time"] for run in upstream.runs for observer in run["observers"]):
            yield f"{upstream.fold}: a key went back in time"
        if min(run["hit_share"] for run in upstream.runs) < HIT_SHARE_MIN:
            yield f"{upstream.fold}: the sidecar cached too little for the delays to mean anything"


def main():
    options = parse_arguments()
    require(options.redis)
    upstreams = [Upstream(fold, options) for fold in options.upstreams]
    arguments = ["--rate", options.rate, "--seconds", options.seconds, "--keys", options.keys,
                 "--interval-us", options.interval_us]
    for repeat in range(options.repeats):
        for upstream in upstreams if repeat % 2 == 0 else reversed(upstreams):
            run = run_program(options.build, upstream.nodes, [upstream.sidecar], *arguments, "--seed", repeat + 1)
            upstream.runs.append(run)
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    sections.emit(options, "invalidation_delay", "Invalidation delay: a foreign write acknowledged -> the last stale answer",
                  [*sections.where(options, first_line(options.redis, "--version"), f"sidecar: {options.threads} workers"),
                   "", *introduction(options), *table(upstreams, options)])
    if options.json:
        options.json.write_text(json.dumps({upstream.fold: upstream.runs for upstream in upstreams}, indent=1) + "\n")
    for upstream in upstreams:
        upstream.close()
    bad = list(findings(upstreams, options))
    for finding in bad:
        print(f"FAILED: {finding}")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"invalidation_delay: {error}")
