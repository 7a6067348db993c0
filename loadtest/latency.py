#!/usr/bin/env python3
"""End to end with the upstream some way off: latencies and upstream operations, asked directly and through nearcached.

A proxy hands every byte on --delay-us later, each way; what it really gave is measured with a closed loop of one client.
Three parts:

    hot read    one client reads one key over and over: p50 through nearcached against p50 of going there
    mixed load  an open loop at --rate, Zipf over --keys keys of which L1 can hold a tenth (L1's budget is set in bytes,
                from what an item is found to take), reads and writes: p50, p99, p99.9 from when a request was due, and
                upstream operations
    reads saved Zipf reads into an empty L1, and the very same sequence of keys through the daemon's policy alone
                (l1_replay, as many items as the daemon held): what the policy can give, without bytes and concurrency
"""

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import sections
from sections import first_line, median, spread
from resp import Client
from servers import RedisServer, Server, ServerError, Sidecar, free_port, require, wait_for

HELD_SHARE = 0.1  # of the keys, that L1 is to hold
CALIBRATION = "4MB"  # of an L1 that is filled to find what an item takes
UNSTEADY_PERCENT = 50  # of a spread, above which a row says little
WAYS = ("direct", "nearcached")


class DelayProxy(Server):
    name = "delay_proxy"

    def __init__(self, binary, upstream, delay_us):
        super().__init__()
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._spawn([binary, self.port, upstream, delay_us], stdout=subprocess.DEVNULL)
        wait_for(self._answers, 10, "the delay proxy")

    def _answers(self):
        try:
            with Client(self.address, timeout=1) as client:
                return client.call("PING") == b"PONG"
        except OSError:
            return False


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-us", type=int, default=250, help="each way (250)")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--theta", type=float, default=0.99, help="Zipf's exponent (0.99)")
    parser.add_argument("--mixes", default="90/10,99/1", help="reads/writes (90/10,99/1)")
    parser.add_argument("--rate", type=int, default=4000, help="requests per second of the mixed load (4000)")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one run (4)")
    parser.add_argument("--reads", type=int, default=2_000_000, help="reads that warm L1, and of the last part (2000000)")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.keys, options.repeats, options.seconds, options.reads = 20_000, 1, 0.5, 50_000
    options.mixes = options.mixes.split(",")
    return options


class Rig:
    """Redis, the wire before it, and a sidecar behind the wire whose L1 holds a tenth of the keys."""

    def __init__(self, options):
        self.options = options
        self.redis = RedisServer()
        self.proxy = DelayProxy(options.build / "nearcached_delay_proxy", self.redis.address, options.delay_us)
        self.load(self.redis.address, "--populate", "--requests", 1)
        self.item_bytes = self.calibrate()
        # L1 evicts down to soft_limit of its budget, 0.8.
        budget = max(1 << 20, math.ceil(self.item_bytes * HELD_SHARE * options.keys / 0.8))
        self.settings = {"threads": 1, "upstream.swapdb": "never", "coherence.audit_one_in": 0, "l1.max_bytes": budget}
        self.sidecar = Sidecar(f"redis://{self.proxy.address}", settings=self.settings, binary=options.binary)

    def calibrate(self):
        settings = {"threads": 1, "upstream.swapdb": "never", "l1.max_bytes": CALIBRATION}
        with Sidecar(self.redis.url, settings=settings, binary=self.options.binary) as sidecar:
            self.load(sidecar.address, "--requests", min(200_000, self.options.keys), "--pipeline", 16)
            seen = sections.metrics(sidecar)
        return seen["nearcached_l1_bytes"] / seen["nearcached_l1_items"]

    def address(self, way):
        return self.proxy.address if way == "direct" else self.sidecar.address

    def run_generator(self, *arguments):
        options = self.options
        command = [
            options.build / "nearcached_load",
            "--keys",
            options.keys,
            "--value-bytes",
            options.value_bytes,
            "--distribution",
            "zipf",
            "--theta",
            options.theta,
            *arguments,
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")

    def load(self, target, *arguments):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            self.run_generator("--target", target, "--json", out.name, *arguments)
            return json.load(out)["results"][0]

    def upstream_calls(self):
        """{command: how often Redis has executed it}, without the rig's own INFO."""
        return {
            name.removeprefix("cmdstat_"): int(value.split("calls=")[1].split(",")[0])
            for name, value in self.redis.info("commandstats").items()
            if name != "cmdstat_info"
        }

    def load_and_count(self, target, *arguments):
        before = self.upstream_calls()
        result = self.load(target, *arguments)
        after = self.upstream_calls()
        result["upstream"] = {name: after[name] - before.get(name, 0) for name in after}
        return result


def hot_read(rig):
    """Closed loop of one client, one key: the bare server, through the wire, through nearcached and the wire."""
    targets = {"redis, no delay": rig.redis.address, "direct": rig.proxy.address, "nearcached": rig.sidecar.address}
    runs = {name: [] for name in targets}
    for repeat in range(rig.options.repeats):
        for name, target in targets.items():
            seconds = 0.3 if rig.options.quick else 1
            runs[name].append(rig.load(target, "--keys", 1, "--clients", 1, "--seconds", seconds, "--seed", repeat + 1))
    return runs


def mixed(rig):
    """{(mix, way): [result]}. No seed twice: a sequence that L1 has just seen would be hits."""
    options = rig.options
    seeds = itertools.count(1001)
    rig.load(rig.sidecar.address, "--requests", options.reads, "--pipeline", 16)
    runs = {}
    for repeat in range(options.repeats):
        for mix in options.mixes:
            reads, writes = mix.split("/")
            for way in WAYS if repeat % 2 == 0 else reversed(WAYS):
                if way == "nearcached":  # what the direct run has written was invalidated
                    rig.load(rig.sidecar.address, "--requests", options.reads // 10, "--pipeline", 16, "--seed", next(seeds))
                arguments = [
                    "--mix",
                    f"get={reads},set={writes}",
                    "--open-loop",
                    options.rate,
                    "--clients",
                    options.clients,
                    "--seconds",
                    options.seconds,
                    "--seed",
                    next(seeds),
                ]
                runs.setdefault((mix, way), []).append(rig.load_and_count(rig.address(way), *arguments))
        print(f"mixed load: repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    return runs


def reads_saved(rig):
    """Miss ratios of the daemon, from empty, and of its policy on the same sequence; None without zstd or l1_replay."""
    options = rig.options
    replay = options.build / "l1_replay"
    if not replay.exists() or not shutil.which("zstd"):
        return None
    with Sidecar(rig.redis.url, settings=rig.settings, binary=options.binary) as sidecar:
        result = rig.load_and_count(sidecar.address, "--requests", options.reads, "--pipeline", 16)
        seen = sections.metrics(sidecar)
    items = int(seen["nearcached_l1_items"])
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.txt"
        rig.run_generator("--requests", options.reads, "--trace", trace)
        subprocess.run(["zstd", "-q", "-1", "--rm", trace], check=True)
        done = subprocess.run(
            [replay, "--trace", f"{trace}.zst", "--objects", str(items)], capture_output=True, text=True, check=True
        )
    policy = float(done.stdout.split("miss_ratio")[1])
    return {"items": items, "daemon": result["upstream"]["get"] / result["replies"], "policy": policy}


def hot_read_lines(options, runs):
    middle = {name: median(of_name, lambda run: run["latency_us"]["p50"]) for name, of_name in runs.items()}
    lines = [
        "### A hot read",
        "",
        f"One client, one key, medians of {options.repeats} runs.",
        "",
        "| asked | p50 us | ± % | p99 us | against going there |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, of_name in runs.items():
        p50 = [run["latency_us"]["p50"] for run in of_name]
        lines.append(
            f"| {name} | {middle[name]:.0f} | {spread(p50):.0f} | {median(of_name, lambda r: r['latency_us']['p99']):.0f} "
            f"| {middle[name] / middle['direct']:.3f} |"
        )
    real = middle["direct"] - middle["redis, no delay"]
    return lines + [
        "",
        sections.goal("p50 of a hot read / of going there", middle["nearcached"] / middle["direct"], 0.12),
        f"- the wire: {2 * options.delay_us} us there and back were ordered, it took {real:.0f} us more than none",
        "",
    ]


def mixed_lines(options, runs):
    lines = [
        "### Mixed load",
        "",
        f"Zipf {options.theta} over {options.keys:,} keys, values of {options.value_bytes} bytes, "
        f"{options.rate:,} requests/s in an open loop over {options.clients} connections,",
        f"medians of {options.repeats} interleaved runs of {options.seconds:g} s. Upstream operations per 1,000 requests: "
        "all commands that Redis executed.",
        "",
        "| reads/writes | asked | p50 us | p99 us | p99.9 us | p50 ± % | p99 ± % | upstream operations | of these GET "
        "| reads saved |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (mix, way), of_row in runs.items():
        each = {name: [run["latency_us"][name] for run in of_row] for name in ("p50", "p99", "p999")}
        middle = [f"{median(of_row, lambda run, name=name: run['latency_us'][name]):.0f}" for name in each]
        operations = median(of_row, lambda run: 1000 * sum(run["upstream"].values()) / run["replies"])
        gets = median(of_row, lambda run: 1000 * run["upstream"].get("get", 0) / run["replies"])
        share = int(mix.split("/")[0]) / sum(map(int, mix.split("/")))
        saved = "" if way == "direct" else f"{1 - gets / 1000 / share:.1%}"
        lines.append(
            f"| {mix} | {way} | {' | '.join(middle)} | {spread(each['p50']):.0f} | {spread(each['p99']):.0f} "
            f"| {operations:.0f} | {gets:.0f} | {saved} |"
        )
    unsteady = max(spread([run["latency_us"]["p99"] for run in of_row]) for of_row in runs.values())
    if unsteady > UNSTEADY_PERCENT:
        lines += ["", f"- p99 and above are the scheduler's here: between the runs p99 lay up to ± {unsteady:.0f} % apart"]
    return lines + [""]


def saved_lines(options, saved):
    lines = ["### Upstream reads saved", ""]
    if saved is None:
        return lines + ["Not measured: `zstd` or `l1_replay` is missing."]
    distance = 100 * (saved["daemon"] - saved["policy"])
    return lines + [
        f"{options.reads:,} reads, Zipf {options.theta} over {options.keys:,} keys, into an empty L1 that held "
        f"{saved['items']:,} items in the end ({saved['items'] / options.keys:.1%});",
        "the policy alone had the same sequence and as many items.",
        "",
        "| | reads that went upstream | saved |",
        "|---|---:|---:|",
        f"| nearcached | {saved['daemon']:.2%} | {1 - saved['daemon']:.2%} |",
        f"| its policy alone (`l1_replay --objects {saved['items']}`) | {saved['policy']:.2%} "
        f"| {1 - saved['policy']:.2%} |",
        "",
        sections.goal("upstream reads more than the policy alone would need, points", distance, 2),
    ]


def plot(options, runs):
    pyplot = sections.pyplot()
    if pyplot is None:
        return []
    figure, axes = pyplot.subplots(
        1, len(options.mixes), figsize=(4.5 * len(options.mixes), 3.6), sharey=True, squeeze=False
    )
    ticks = [50, 90, 99, 99.9, 99.99]
    for axis, mix in zip(axes[0], options.mixes):
        for way in WAYS:
            of_row = runs[mix, way]
            percents = [percent for percent, _ in of_row[0]["percentiles_us"]]
            middle = [median(of_row, lambda run, i=i: run["percentiles_us"][i][1]) for i in range(len(percents))]
            axis.plot([1 / (1 - percent / 100) for percent in percents], middle, label=way, marker=".", markersize=3)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks([1 / (1 - tick / 100) for tick in ticks], [f"{tick:g} %" for tick in ticks])
        axis.minorticks_off()
        axis.set_title(f"reads/writes {mix}", fontsize=10)
        axis.set_xlabel("percentile of requests")
        axis.legend()
    axes[0][0].set_ylabel("latency, us (log)")
    return sections.save_plot(options, figure, "latency", f"Latency by percentile, upstream {2 * options.delay_us} us away")


def main():
    options = parse_arguments()
    require("redis-server")
    rig = Rig(options)
    hot = hot_read(rig)
    runs = mixed(rig)
    held = sections.metrics(rig.sidecar)["nearcached_l1_items"]
    saved = reads_saved(rig)
    lines = [
        *sections.where(
            options,
            first_line("redis-server", "--version"),
            "nearcached: 1 worker, audits off, since upstream reads are counted",
        ),
        f"- L1: {rig.item_bytes:.0f} bytes per item found, budget set to {rig.settings['l1.max_bytes']:,} bytes, "
        f"{held:,.0f} items held after the mixed load ({held / options.keys:.1%})",
        "",
        *hot_read_lines(options, hot),
        *mixed_lines(options, runs),
        *plot(options, runs),
        *saved_lines(options, saved),
    ]
    sections.emit(options, "latency", f"Latency with the upstream {options.delay_us / 1000:g} ms away each way", lines)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"latency: {error}")
