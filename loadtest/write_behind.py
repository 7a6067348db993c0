#!/usr/bin/env python3
"""Write-behind: what a deferred write costs and gains, beside a Redis that promises as much.

    acknowledged  SETs per second and their latency, closed loop, at --clients and --pipelines: a sidecar whose keys are
                  `deferred` (answered once durable in its log), Redis with `appendonly yes, appendfsync always` on the same
                  disk, and the sidecar with `immediate` keys before an upstream --delay-us off, each way. They take turns.
                  Beside them what the disk gives: one write of a block and fdatasync after the other.
    saved         Zipf writes at --rate: how many of them the upstream saw.
    replay        --records writes taken while the upstream was away, kill -9, and a start before a local cluster: records per
                  second until all are upstream; beside it what redis-benchmark gets into the same cluster.

The sidecar's upstream is a Redis without a log on the same machine: what it does for the flush is part of the load.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sections
from sections import first_line, median
from latency import DelayProxy
from servers import Cluster, RedisServer, ServerError, Sidecar, require, wait_for

TARGETS = ("deferred", "appendfsync always", "immediate")
SYNC_BYTES = 4096
GOAL_CLIENTS = 50
GOALS = {1: 1.5, 16: 3.0}  # by pipeline, times what Redis acknowledges
REPLAY_GOAL = 200_000


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,50,500")
    parser.add_argument("--pipelines", default="1,16")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run (3)")
    parser.add_argument("--delay-us", type=int, default=125, help="each way, to the upstream of `immediate` (125)")
    parser.add_argument("--rate", type=int, default=20_000, help="writes per second of the Zipf load (20000)")
    parser.add_argument("--records", type=int, default=1_000_000, help="that are replayed (1000000)")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.clients, options.pipelines, options.repeats, options.seconds = "50", "1,16", 1, 0.5
        options.keys, options.records = 10_000, 20_000
    options.clients = [int(text) for text in options.clients.split(",")]
    options.pipelines = [int(text) for text in options.pipelines.split(",")]
    return options


def load(options, target, *arguments, clients=50, pipeline=1):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        words = [options.build / "nearcached_load", "--target", target, "--clients", clients, "--pipeline", pipeline,
                 "--value-bytes", options.value_bytes, "--mix", "set=1", "--json", out.name, *arguments]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
        return json.load(out)["results"][0]


def sync_rate(directory, seconds):
    """(writes made durable per second, median us of one), into space that was given beforehand, as the log's is."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, 64 << 20)
        os.fdatasync(file.fileno())
        block, began = bytes(SYNC_BYTES), time.perf_counter()
        while time.perf_counter() - began < seconds:
            one = time.perf_counter()
            os.pwrite(file.fileno(), block, len(times) * SYNC_BYTES % (64 << 20))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - one)
    return len(times) / sum(times), statistics.median(times) * 1e6


def deferring(log_dir, **more):
    return {"write_behind.enabled": "true", "write_behind.durability": "deferred", "write_behind.log_dir": log_dir,
            "upstream.swapdb": "never", "coherence.audit_one_in": 0, **more}


class Rig:
    def __init__(self, options, directory):
        self.upstream = RedisServer()
        self.far = DelayProxy(options.build / "nearcached_delay_proxy", self.upstream.address, options.delay_us)
        self.deferred = Sidecar(self.upstream.url, settings=deferring(directory / "log"), binary=options.binary)
        self.immediate = Sidecar(f"redis://{self.far.address}", settings={"upstream.swapdb": "never"}, binary=options.binary)
        always = directory / "redis"
        always.mkdir()
        self.always = RedisServer(["--appendonly", "yes", "--appendfsync", "always", "--dir", always])
        self.servers = dict(zip(TARGETS, (self.deferred, self.always, self.immediate)))

    def close(self):
        for server in (*self.servers.values(), self.far, self.upstream):
            server.close()


def cpu_seconds(server):
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_cell(options, rig, name, clients, pipeline):
    server = rig.servers[name]
    before = cpu_seconds(server)
    result = load(options, server.address, "--keys", options.keys, "--seconds", options.seconds, clients=clients,
                  pipeline=pipeline)
    result["server_us"] = (cpu_seconds(server) - before) * 1e6 / max(1, result["replies"])
    if name == "deferred":
        wait_for(lambda: rig.deferred.client().call("NEAR.FLUSH", "WRITES") == b"OK", 60, "what was deferred to be flushed")
    return result


def acknowledged(options, directory):
    rig = Rig(options, directory)
    cells, syncs = {}, []
    try:
        for repeat in range(options.repeats):
            syncs.append(sync_rate(directory, options.seconds / 3))
            for clients in options.clients:
                for pipeline in options.pipelines:
                    for name in TARGETS:
                        cells.setdefault((clients, pipeline, name), []).append(run_cell(options, rig, name, clients, pipeline))
            print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
        groups = sections.metrics(rig.deferred)
    finally:
        rig.close()
    lines = ["### Acknowledged", "",
             "| clients | pipeline | | SETs/s | times Redis | p50 ms | p99 ms | its CPU us/SET |", "|---:|---:|---|---:|---:|---:|---:|---:|"]
    ratios = {}
    for (clients, pipeline, name), runs in cells.items():
        of_redis = cells[clients, pipeline, "appendfsync always"]
        ratio = statistics.median(run["throughput"] / other["throughput"] for run, other in zip(runs, of_redis))
        ratios[clients, pipeline, name] = ratio
        lines.append(f"| {clients} | {pipeline} | {name} | {median(runs, lambda run: run['throughput']):,.0f} | {ratio:.2f} "
                     f"| {median(runs, lambda run: run['latency_us']['p50']) / 1000:.2f} "
                     f"| {median(runs, lambda run: run['latency_us']['p99']) / 1000:.2f} "
                     f"| {median(runs, lambda run: run['server_us']):.1f} |")
    records, count = (groups[f"nearcached_write_behind_log_group_records_{what}"] for what in ("sum", "count"))
    rates = sorted(syncs)
    lines += ["", f"- raw: {rates[len(rates) // 2][0]:,.0f} writes of {SYNC_BYTES} bytes made durable per second, one after the "
              f"other, p50 {rates[len(rates) // 2][1]:.0f} us; a group of the log had {records / max(1, count):.0f} records on average"]
    for pipeline, wanted in GOALS.items():
        if (GOAL_CLIENTS, pipeline, "deferred") in ratios:
            what = f"deferred SETs/s against appendfsync always, {GOAL_CLIENTS} clients, pipeline {pipeline}"
            lines.append(sections.goal(what, ratios[GOAL_CLIENTS, pipeline, "deferred"], wanted, at_least=True))
    return [*lines, ""]


def saved(options, directory):
    upstream = RedisServer()
    with Sidecar(upstream.url, settings=deferring(directory / "saved"), binary=options.binary) as sidecar:
        load(options, sidecar.address, "--keys", options.keys, "--distribution", "zipf", "--theta", 0.99, "--open-loop",
             options.rate, "--seconds", options.seconds * 3)
        with sidecar.client() as client:
            client.call("NEAR.FLUSH", "WRITES")
        seen = sections.metrics(sidecar)
    sets = int(upstream.info("commandstats")["cmdstat_set"].split("calls=")[1].split(",")[0])
    upstream.close()
    accepted = seen["nearcached_write_behind_accepted_total"]
    return ["### Saved", "",
            f"- {accepted:,.0f} writes of {options.keys:,} keys (Zipf 0.99) at {options.rate:,}/s, in batches of 100 or 1 s: the "
            f"upstream executed {sets:,}; {100 * (1 - sets / accepted):.1f} % were replaced before they left", ""]


def benchmark(options, cluster):
    """SETs per second that the cluster itself takes."""
    words = ["redis-benchmark", "--cluster", "-p", cluster.nodes[0].port, "-t", "set", "-n", options.records, "-r", options.records,
             "-d", options.value_bytes, "-c", 50, "-P", 64, "--csv"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return float(next(line for line in done.stdout.splitlines() if line.startswith('"SET"')).split(",")[1].strip('"'))


def replay(options, directory):
    settings = deferring(directory / "replay", **{"write_behind.max_records": 10 * options.records,
                                                  "write_behind.max_bytes": "4GB", "write_behind.log_max_bytes": "8GB",
                                                  "write_behind.max_age": "1h"})
    with Cluster() as cluster:
        sidecar = Sidecar(cluster.url, settings=settings, binary=options.binary)
        try:
            for node in cluster.nodes:
                node.kill()
            load(options, sidecar.address, "--populate", "--keys", options.records, "--requests", 1, pipeline=64)
            wait_for(lambda: sections.metrics(sidecar)["nearcached_write_behind_records"] >= options.records, 60, "the records to be taken")
            sidecar.kill()
            for node in cluster.nodes:
                node.start()
            cluster.wait_ok()
            began = time.monotonic()
            sidecar.start()
            ready = time.monotonic() - began
            wait_for(lambda: sections.metrics(sidecar)["nearcached_write_behind_records"] == 0, 120, "all to be replayed")
            took = time.monotonic() - began
        finally:
            sidecar.close()
        sizes = sum(node.client().call("DBSIZE") for node in cluster.nodes)
        if sizes < options.records:
            raise ServerError(f"{sizes} keys are upstream, {options.records} were acknowledged")
        direct = benchmark(options, cluster)
    rate = options.records / (took - ready)
    return ["### Replay", "",
            f"- {options.records:,} records of {options.value_bytes} bytes: read and ready after {ready:.1f} s, "
            f"upstream (a cluster of 3) after {took:.1f} s",
            f"- redis-benchmark straight to the same cluster, as many SETs of the same size, pipeline 64: {direct:,.0f}/s",
            sections.goal("records replayed per second, from ready to all upstream", rate, REPLAY_GOAL, digits=0, at_least=True), ""]


def main():
    options = parse_arguments()
    require("redis-server", "redis-benchmark")
    with tempfile.TemporaryDirectory(prefix="nearcached-write-behind-", dir=options.directory) as name:
        directory = Path(name)
        filesystem = first_line("stat", "-f", "-c", "%T", directory)
        lines = [*acknowledged(options, directory), *saved(options, directory), *replay(options, directory)]
    head = [f"{options.keys:,} keys, uniform; values of {options.value_bytes} bytes; medians of {options.repeats} interleaved runs "
            f"of {options.seconds:g} s; the log and Redis's", f"append-only file on the same disk ({filesystem}). The sidecar has "
            "its default of one worker per core.", ""]
    sections.emit(options, "write_behind", "Write-behind",
                  [*sections.where(options, first_line("redis-server", "--version")), "", *head, *lines])


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"write_behind: {error}")
