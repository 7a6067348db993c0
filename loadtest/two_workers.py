#!/usr/bin/env python3
"""What a second worker costs: the same offered load on a sidecar with one worker and on one with two.

Not about throughput: both get the same open loop of requests, over as many connections, on whatever cores there are.
Compared are the CPU time per operation, how often a thread waited (its voluntary context switches in /proc: mostly for
requests, and for any lock), and lock waits proper: futex calls, counted by strace in runs of their own, since it slows what
it watches. Two threads find fewer requests per wake-up than one, and so pay more to the kernel. So there is a third row: two
sidecars of one worker each with half of the connections and half of the load each share nothing, and wake as often. What two
workers cost more than that is the price of sharing.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sections
from sections import cpu, first_line, median, spread
from servers import RedisServer, ServerError, Sidecar, require

SHAPES = {"1": (1, 1), "2": (1, 2), "2 sidecars of 1": (2, 1)}  # name: (sidecars, workers of each)
MIXES = {
    "all hits": ("get=1", None),
    "95/5 GET/SET": ("get=95,set=5", None),
    "50/50 GET/SET": ("get=50,set=50", None),
    "one hot key": ("get=1", 1),
}
ITEM_KEYS_MAX = 100_000


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--loads", default="1:15000,16:150000", help="pipeline:requests per second, several (1:15000,16:150000)"
    )
    parser.add_argument("--keys", type=int, default=ITEM_KEYS_MAX)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one run (1.5)")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.keys, options.repeats, options.seconds, options.loads = 5_000, 1, 0.2, "1:5000"
    options.loads = [tuple(map(int, load.split(":"))) for load in options.loads.split(",")]
    return options


def context_switches(pids):
    """Voluntary and involuntary, of all threads together; threads that end meanwhile are not in it."""
    total = [0, 0]
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            counts = dict(re.findall(r"^(\w*voluntary_ctxt_switches):\s+(\d+)", status.read_text(), re.MULTILINE))
            total[0] += int(counts["voluntary_ctxt_switches"])
            total[1] += int(counts["nonvoluntary_ctxt_switches"])
    return total


def start_load(options, sidecar, parts, mix, pipeline, rate, *arguments):
    """The generator's process for one sidecar of `parts` that share the load, with its JSON in a file."""
    shares, keys = MIXES[mix]
    out = tempfile.NamedTemporaryFile(suffix=".json")
    command = [options.build / "nearcached_load", "--target", sidecar.address, "--clients", options.clients // parts]
    command += ["--pipeline", pipeline, "--keys", keys or options.keys, "--mix", shares, "--open-loop", rate / parts]
    command += ["--pid", sidecar.pid, "--json", out.name, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True), out


def load(options, sidecars, mix, pipeline, rate, *arguments):
    """One run over all sidecars of a shape: operations, CPU and waits of all together, per operation."""
    pids = [sidecar.pid for sidecar in sidecars]
    before = context_switches(pids)
    started = [start_load(options, sidecar, len(sidecars), mix, pipeline, rate, *arguments) for sidecar in sidecars]
    results = []
    for process, out in started:
        said, _ = process.communicate()
        if process.returncode != 0:
            raise ServerError(f"{' '.join(process.args)}\n{said}")
        results.append(json.load(out)["results"][0])
    after = context_switches(pids)
    replies = sum(result["replies"] for result in results)
    return {
        "replies": replies,
        "cpu": sum(cpu(result) * result["replies"] for result in results) / replies,
        "waits": 1000 * (after[0] - before[0]) / replies,
        "preempted": 1000 * (after[1] - before[1]) / replies,
    }


def measure(options, shapes):
    """{(mix, pipeline, shape): [result]}"""
    runs = {}
    for repeat in range(options.repeats):
        for mix in MIXES:
            for pipeline, rate in options.loads:
                turn = repeat % len(shapes)
                for name in [*shapes][turn:] + [*shapes][:turn]:
                    # What the others have written was invalidated here; the warm-up is not in the counts of a second run.
                    load(options, shapes[name], mix, 16, 1000, "--warm", "--seconds", 0.02)
                    result = load(
                        options, shapes[name], mix, pipeline, rate, "--seconds", options.seconds, "--seed", repeat + 1
                    )
                    runs.setdefault((mix, pipeline, name), []).append(result)
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    return runs


def futexes(options, sidecars, mix, pipeline, rate):
    """Futex calls per 1,000 operations of a run under strace; None where it may not attach."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as out:
        attach = [word for sidecar in sidecars for word in ("-p", str(sidecar.pid))]
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-e", "trace=futex", "-o", out.name, *attach],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.3)
        if tracer.poll() is not None:
            return None
        try:
            result = load(options, sidecars, mix, pipeline, rate, "--seconds", min(options.seconds, 1.0))
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        counts = re.search(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*\bfutex$", out.read(), re.MULTILINE)
    return 1000 * (int(counts[1]) if counts else 0) / result["replies"]


def count_futexes(options, shapes):
    if not shutil.which("strace"):
        return {}
    return {
        (mix, pipeline, name): futexes(options, sidecars, mix, pipeline, rate)
        for mix in MIXES
        for pipeline, rate in options.loads
        for name, sidecars in shapes.items()
    }


def table(options, runs, locks):
    lines = [
        "| load | pipeline | requests/s | workers | CPU us/op | ± % | CPU / one worker | CPU / 2 sidecars of 1 "
        "| waits per 1,000 operations | preempted per 1,000 | futex calls per 1,000 |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for mix in MIXES:
        for pipeline, rate in options.loads:
            for name in SHAPES:
                of_row = runs[mix, pipeline, name]
                ratios = [ratio(of_row, runs[mix, pipeline, other]) for other in ("1", "2 sidecars of 1")]
                futex = locks.get((mix, pipeline, name))
                lines.append(
                    f"| {mix} | {pipeline} | {rate:,} | {name} | {median(of_row, lambda run: run['cpu']):.2f} "
                    f"| {spread([run['cpu'] for run in of_row]):.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} "
                    f"| {median(of_row, lambda run: run['waits']):.0f} | {median(of_row, lambda run: run['preempted']):.0f} "
                    f"| {'not counted' if futex is None else f'{futex:.2f}'} |"
                )
    return lines


def ratio(of_row, of_other):
    """Median of the ratios within each repeat."""
    return median(list(zip(of_row, of_other)), lambda pair: pair[0]["cpu"] / pair[1]["cpu"] if pair[1]["cpu"] else 0)


def main():
    options = parse_arguments()
    require("redis-server")
    redis = RedisServer()
    shapes = {
        name: [
            Sidecar(redis.url, settings={"threads": workers, "upstream.swapdb": "never"}, binary=options.binary)
            for _ in range(count)
        ]
        for name, (count, workers) in SHAPES.items()
    }
    load(options, shapes["1"], "all hits", 16, 10_000, "--populate", "--seconds", 0.1)
    runs = measure(options, shapes)
    locks = count_futexes(options, shapes)
    lines = [
        *sections.where(options, first_line("redis-server", "--version"), first_line("strace", "--version")),
        "",
        f"{options.clients} connections, {options.keys:,} keys, values of 64 bytes, an open loop at the rates shown; "
        f"medians of {options.repeats} interleaved runs",
        f"of {options.seconds:g} s. Ratios are medians of those within a repeat. A wait is a voluntary "
        "context switch: for requests, or for a lock; lock waits alone are the",
        "futex calls, counted in a run of their own under strace. In the mixes each of the two sidecars hears of the other's "
        "writes.",
        "",
        *table(options, runs, locks),
    ]
    sections.emit(options, "two_workers", "A second worker", lines)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"two_workers: {error}")
