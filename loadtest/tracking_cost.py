#!/usr/bin/env python3
"""What the upstream pays per write because somebody tracks the keys: its own user and system time over its writes.

A writer sends 10,000 writes/s to a few hot keys. Meanwhile the keys are read by nobody, by 1 or 3 plain clients that read a
key again after each write without tracking it, by as many bare tracking clients, and by as many sidecars. All readers fetch
with GET and PTTL. What a row costs more than "nobody" is the price of having such readers; what tracking clients cost more
than plain ones, which put the same reads on the server, is tracking's own: its table, and one push per write and reader.

The rows are interleaved, their order turns with each repeat, and medians are reported. CPU from /proc/PID/stat, exact to
10 ms, so one run needs a few seconds.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from compare import ROOT, first_line, load_average, machine
from invalidation_delay import calls, run_program
from servers import RedisServer, ServerError, Sidecar, require

READERS = ("plain clients", "tracking clients", "sidecars")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one run (4)")
    parser.add_argument("--rate", type=int, default=10_000, help="writes per second (10000)")
    parser.add_argument("--keys", type=int, default=32)
    parser.add_argument("--interval-us", type=int, default=500, help="how often every key is read (500)")
    parser.add_argument("--counts", default="1,3", help="how many readers (1,3)")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="where the programs are")
    parser.add_argument("--binary", type=Path, help="nearcached, if elsewhere")
    parser.add_argument("--redis", default="redis-server", help="the server to run")
    parser.add_argument("--json", type=Path, help="all figures of all runs")
    options = parser.parse_args()
    options.counts = [int(count) for count in options.counts.split(",")]
    return options


def program_arguments(options, readers, count):
    arguments = ["--rate", options.rate, "--seconds", options.seconds, "--keys", options.keys,
                 "--interval-us", options.interval_us, "--with-pttl", 1]
    return [*arguments, "--bare", count if readers == "tracking clients" else 0,
            "--plain", count if readers == "plain clients" else 0]


def measure(options, redis, sidecars):
    """{(readers, count): [figures of one run]}"""
    rows = [("nobody", 0)] + [(readers, count) for count in options.counts for readers in READERS]
    runs = {row: [] for row in rows}
    for repeat in range(options.repeats):
        turn = repeat % len(rows)
        for readers, count in rows[turn:] + rows[:turn]:
            asked = sidecars[:count] if readers == "sidecars" else []
            pttls = calls([redis], "pttl")
            run = run_program(options.build, [redis], asked, *program_arguments(options, readers, count), "--seed", repeat + 1)
            run["pttls"] = calls([redis], "pttl") - pttls
            runs[readers, count].append(run)
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    return runs


def median(runs, value):
    return statistics.median(value(run) for run in runs)


def cost(run):
    return run["cpu_us_per_write"]


def spread(runs):
    costs = [cost(run) for run in runs]
    return 50 * (max(costs) - min(costs)) / statistics.median(costs)


def table(options, runs):
    alone = median(runs["nobody", 0], cost)
    lines = ["| the keys are read by | CPU us/write | ± % | more than nobody | GETs per write | PTTLs per write |",
             "|---|---:|---:|---:|---:|---:|"]
    for (readers, count), of_row in runs.items():
        gets = median(of_row, lambda run: run["gets"] / run["writes"])
        pttls = median(of_row, lambda run: run["pttls"] / run["writes"])
        lines.append(f"| {f'{count} {readers}' if count else readers} | {median(of_row, cost):.2f} | {spread(of_row):.0f} "
                     f"| {median(of_row, cost) - alone:+.2f} | {gets:.2f} | {pttls:.2f} |")
    lines.append("")
    for count in options.counts:
        own = median(runs["tracking clients", count], cost) - median(runs["plain clients", count], cost)
        lines.append(f"- tracking's own part with {count} reader{'s' if count > 1 else ''} (tracking less plain clients): "
                     f"{own:+.2f} us per write")
    return lines


def main():
    options = parse_arguments()
    require(options.redis)
    print(f"{machine()}; load average before the start: {load_average()}; {first_line(options.redis, '--version')}")
    redis = RedisServer(binary=options.redis)
    settings = {"threads": 1, "upstream.swapdb": "never"}
    sidecars = [Sidecar(redis.url, settings=settings, binary=options.binary or options.build / "nearcached")
                for _ in range(max(options.counts))]
    runs = measure(options, redis, sidecars)
    print("\n".join(table(options, runs)))
    if options.json:
        options.json.write_text(json.dumps([{"readers": readers, "count": count, "runs": of_row}
                                            for (readers, count), of_row in runs.items()], indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"tracking_cost: {error}")
