#!/usr/bin/env python3
"""Hits, forwarded GETs and SETs with values of 64 bytes to 1 MB: CPU per operation, side by side, as compare.py takes it.

A reduced matrix: fewer keys, clients and a shallower pipeline the larger the value, so that what is in flight stays within
what a machine has; L1 may hold all of it (l1.max_bytes, l1.max_item_bytes), so that hits are hits, as compare.py checks.
"""

import argparse
import copy
import sys

import compare
import sections
from compare import HIT, Scenario, run_load, run_valid
from sections import cpu, first_line, median, spread
from servers import RedisServer, ServerError, Sidecar, require

# value bytes: (keys, clients, pipelines)
SIZES = {64: (20_000, 50, (1, 16)), 1024: (20_000, 50, (1, 16)), 16 << 10: (2_000, 50, (1, 16)), 1 << 20: (60, 10, (1, 4))}
QUICK_SIZES = {64: (1_000, 10, (1,)), 1 << 20: (4, 2, (1,))}
L1_BYTES = "400MB"
L1_ITEM_BYTES = "2MB"
SERVERS = ("redis", "nearcached", "nearcached, L1 off")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one run (0.5)")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    options.upstream = None  # as compare.py has it
    if options.quick:
        options.repeats, options.seconds = 1, 0.1
    return options


def start_servers(options):
    redis = RedisServer()
    found = {"redis": compare.Endpoint("redis", redis.address, redis.pid, "")}
    common = {"threads": 1, "upstream.swapdb": "never", "l1.max_bytes": L1_BYTES, "l1.max_item_bytes": L1_ITEM_BYTES}
    for name, settings in ((SERVERS[1], common), (SERVERS[2], {**common, "l1.enabled": "false"})):
        sidecar = Sidecar(redis.url, settings=settings, binary=options.binary)
        found[name] = compare.Endpoint(name, sidecar.address, sidecar.pid, "", sidecar if name == SERVERS[1] else None)
    return redis, found


def measure_size(options, redis, found, size, shape):
    """{(operation, server, pipeline): [result]} for one size of values."""
    here = copy.copy(options)
    here.keys, here.clients, here.pipelines = shape
    here.value_bytes = size
    gets = Scenario(HIT, "get=1", list(found.values()), "", here)
    sets = Scenario("SET", "set=1", list(found.values()), "", here)
    redis.call("FLUSHALL")
    run_load(here, found["redis"], gets, 1, ["--seconds", "0.05", "--populate"])
    runs = {}
    for repeat in range(options.repeats):
        for pipeline in here.pipelines:
            for operation, scenario in (("GET", gets), ("SET", sets)):
                turn = repeat % len(SERVERS)
                for name in SERVERS[turn:] + SERVERS[:turn]:
                    extra = ["--seconds", str(options.seconds), "--seed", str(repeat + 1)] + (
                        ["--warm"] if operation == "GET" else []
                    )
                    if operation == "GET" and name == SERVERS[1]:
                        run_load(here, found[name], gets, 1, ["--seconds", "0.05", "--warm"])  # what the SETs have removed
                    runs.setdefault((operation, name, pipeline), []).append(
                        run_valid(redis, found[name], scenario, pipeline, extra)
                    )
    return runs


def named(size):
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} KB" if size >= 1024 else f"{size} B"


def table(sizes, runs):
    lines = [
        "| values | pipeline | operation | server | CPU us/op | ± % | CPU / redis | MB/s | p50 us | p99 us |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size, (_, _, pipelines) in sizes.items():
        for pipeline in pipelines:
            for operation in ("GET", "SET"):
                reference = median(runs[size][operation, "redis", pipeline], cpu)
                for name in SERVERS:
                    of_row = runs[size][operation, name, pipeline]
                    middle = median(of_row, cpu)
                    lines.append(
                        f"| {named(size)} | {pipeline} | {operation} | {name} | {middle:.2f} "
                        f"| {spread([cpu(run) for run in of_row]):.0f} "
                        f"| {middle / reference if reference else 0:.2f} "
                        f"| {size * median(of_row, lambda r: r['throughput']) / 1e6:,.0f} "
                        f"| {median(of_row, lambda r: r['latency_us']['p50']):.0f} "
                        f"| {median(of_row, lambda r: r['latency_us']['p99']):.0f} |"
                    )
    return lines


def plot(options, sizes, runs):
    pyplot = sections.pyplot()
    if pyplot is None:
        return []
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    for axis, operation in zip(axes, ("GET", "SET")):
        for name in SERVERS:
            axis.plot(list(sizes), [median(runs[size][operation, name, 1], cpu) for size in sizes], marker="o", label=name)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(list(sizes), [named(size) for size in sizes])
        axis.set_title(f"{operation}, not pipelined", fontsize=10)
        axis.set_xlabel("value size")
        axis.legend(fontsize=8)
    axes[0].set_ylabel("CPU us per operation (log)")
    return sections.save_plot(options, figure, "value_sizes", "CPU per operation by value size")


def main():
    options = parse_arguments()
    require("redis-server")
    sizes = QUICK_SIZES if options.quick else SIZES
    redis, found = start_servers(options)
    runs = {}
    for size, shape in sizes.items():
        runs[size] = measure_size(options, redis, found, size, shape)
        print(f"{named(size)}: done", file=sys.stderr, flush=True)
    shapes = "; ".join(f"{named(size)}: {keys:,} keys, {clients} clients" for size, (keys, clients, _) in sizes.items())
    lines = [
        *sections.where(
            options,
            first_line("redis-server", "--version"),
            f"nearcached: 1 worker, l1.max_bytes={L1_BYTES}, " f"l1.max_item_bytes={L1_ITEM_BYTES}",
        ),
        f"- {shapes}",
        f"- {options.repeats} interleaved repeats of {options.seconds:g} s, medians; ± is half the range of the repeats",
        "",
        "GETs of nearcached are hits, with L1 off they are forwarded; SETs are written through.",
        "",
        *plot(options, sizes, runs),
        *table(sizes, runs),
    ]
    sections.emit(options, "value_sizes", "Values of 64 bytes to 1 MB", lines)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"value_sizes: {error}")
