#!/usr/bin/env python3
"""What the upstream pays per write because somebody tracks the keys: its own user and system time over its writes.

A writer sends 10,000 writes/s to a few hot keys. Meanwhile the keys are read by nobody, by 1 or 3 plain clients that read a
key again after each write without tracking it, by as many bare tracking clients, and by as many sidecars. All readers fetch
with GET and PTTL. What a row costs more than "nobody" is the price of having such readers; what tracking clients cost more
than plain ones, which put the same reads on the server, is tracking's own: its table, and one push per write and reader.

What a write costs depends on the machine's mood (an idle core has to be woken, a neighbour takes the cache) far more than on
tracking. So the runs are short and many, the rows take turns, and differences are taken within a repeat before the median is:
what lasts longer than a repeat cancels out. CPU from /proc/PID/stat, exact to 10 ms: 3 % of a run of a second.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import sections
from sections import first_line
from invalidation_delay import calls, run_program
from servers import RedisServer, ServerError, Sidecar, require

READERS = ("plain clients", "tracking clients", "sidecars")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one run (1)")
    parser.add_argument("--rate", type=int, default=10_000, help="writes per second (10000)")
    parser.add_argument("--keys", type=int, default=32)
    parser.add_argument("--interval-us", type=int, default=500, help="how often every key is read (500)")
    parser.add_argument("--counts", default="1,3", help="how many readers (1,3)")
    parser.add_argument("--redis", default="redis-server", help="the server to run")
    parser.add_argument("--json", type=Path, help="all figures of all runs")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.repeats, options.seconds, options.counts = 2, 0.2, "1"
    if options.repeats < 2:
        parser.error("--repeats: at least 2, or there are no quartiles")
    options.counts = [int(count) for count in options.counts.split(",")]
    return options


def program_arguments(options, readers, count):
    arguments = ["--rate", options.rate, "--seconds", options.seconds, "--warmup", 0, "--keys", options.keys,
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


def difference(of_row, of_other):
    """Median of the differences within each repeat."""
    return statistics.median(cost(run) - cost(other) for run, other in zip(of_row, of_other))


def quartiles(of_row):
    low, _, high = statistics.quantiles((cost(run) for run in of_row), n=4)
    return f"{low:.1f} .. {high:.1f}"


def table(options, runs):
    lines = ["| the keys are read by | CPU us/write | quartiles | more than nobody | GETs per write | PTTLs per write |",
             "|---|---:|---:|---:|---:|---:|"]
    for (readers, count), of_row in runs.items():
        gets = median(of_row, lambda run: run["gets"] / run["writes"])
        pttls = median(of_row, lambda run: run["pttls"] / run["writes"])
        more = f"{difference(of_row, runs['nobody', 0]):+.1f}" if count else ""
        name = f"{count} {readers if count > 1 else readers.removesuffix('s')}" if count else readers
        lines.append(f"| {name} | {median(of_row, cost):.1f} | {quartiles(of_row)} | {more} | {gets:.2f} | {pttls:.2f} |")
    lines.append("")
    for count in options.counts:
        plain = runs["plain clients", count]
        lines.append(f"- tracking's own part with {count} reader{'s' if count > 1 else ''}, beyond the same reads untracked: "
                     f"{difference(runs['tracking clients', count], plain):+.1f} us per write with bare clients, "
                     f"{difference(runs['sidecars', count], plain):+.1f} with sidecars")
    return lines


def main():
    options = parse_arguments()
    require(options.redis)
    redis = RedisServer(binary=options.redis)
    settings = {"threads": 1, "upstream.swapdb": "never"}
    sidecars = [Sidecar(redis.url, settings=settings, binary=options.binary)
                for _ in range(max(options.counts))]
    runs = measure(options, redis, sidecars)
    introduction = [f"{options.rate:,} writes/s to {options.keys} keys, every key read every {options.interval_us} us; medians "
                    f"of {options.repeats} interleaved runs of", f"{options.seconds:g} s, differences within a repeat. The "
                    "worst case: every write hits a tracked key, which is read again at once.", ""]
    sections.emit(options, "tracking_cost", "What tracking costs the upstream",
                  [*sections.where(options, first_line(options.redis, "--version"), "sidecars: 1 worker each"), "",
                   *introduction, *table(options, runs)])
    if options.json:
        options.json.write_text(json.dumps([{"readers": readers, "count": count, "runs": of_row}
                                            for (readers, count), of_row in runs.items()], indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"tracking_cost: {error}")
