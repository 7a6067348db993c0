#!/usr/bin/env python3
"""Many connections: what an idle one costs, and what a storm of connects does to the busy ones and to the upstream.

    idle    --idle connections that have sent a PING and are then silent: the sidecar's resident memory more than before, by
            the connection (user space: the kernel's socket buffers are not in it); then each sends one GET more
    busy    --busy more connections under an open loop of --rate GETs, of whose keys L1 can hold half: p50 and p99 alone,
            beside the idle ones, and during a storm
    storm   --storm connects per second, each for one PING; and the same against Redis and the sidecar in turns, with nothing
            else going on: the CPU of a connection
    upstream connections, from the upstream's CLIENT LIST, before, with everything open, and the most seen meanwhile

Exit code 1 when a connection failed, or the upstream's connections grew with the clients.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import sections
from sections import first_line, median, rss_bytes, spread
from servers import RedisServer, ServerError, Sidecar, require, wait_for

UPSTREAM_MAX = 32  # connections of one sidecar to one upstream: far below any number of clients
DESCRIPTORS_SPARE = 500
CONNECT_BATCH = 500  # idle connections that are opened at once
IDLE_SOURCES = 16     # loopback addresses that they come from
IP_BIND_ADDRESS_NO_PORT = 24  # <netinet/in.h>; Python's socket has no name for it
PHASES = ("alone", "idle", "storm")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--busy", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=2_000, help="GETs per second of the busy ones together (2000)")
    parser.add_argument("--storm", type=int, default=5_000, help="connects per second (5000)")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a run (4)")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.idle, options.busy, options.storm, options.rate = 500, 100, 500, 1000
        options.keys, options.repeats, options.seconds = 5_000, 1, 0.5
    return options


def raise_descriptor_limit(needed):
    """The servers inherit it, so it comes before them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed + DESCRIPTORS_SPARE:
        raise ServerError(f"{needed} connections need more descriptors than the limit of {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class IdleClients:
    """Connections that have nothing to say for most of the time."""

    def __init__(self, address, count):
        host, _, port = address.rpartition(":")
        self.sockets = []
        for index in range(count):
            # From several addresses: the ports of one would be used up by these, the busy ones and a storm.
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.2.0.{1 + index % IDLE_SOURCES}", 0))
            sock.settimeout(20)
            sock.connect((host, int(port)))
            self.sockets.append(sock)
            if len(self.sockets) % CONNECT_BATCH == 0:
                time.sleep(0.01)
        self.ask(lambda index: b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")

    def ask(self, request, answer):
        for index, sock in enumerate(self.sockets):
            sock.sendall(request(index))
        for sock in self.sockets:
            received = b""
            while len(received) < len(answer):
                chunk = sock.recv(4096)
                if not chunk:
                    raise ServerError("the server closed an idle connection")
                received += chunk
            if received != answer:
                raise ServerError(f"an idle connection was answered with {received[:80]!r}")

    def close(self):
        for sock in self.sockets:
            sock.close()


class UpstreamWatch(threading.Thread):
    """How many connections the upstream has, sampled; its own is taken off."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.client = redis.client()
        self.most = 0
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, self.client.call("CLIENT", "LIST").count(b"\n") - 1)

    def stop(self):
        self.ended.set()
        self.join()
        self.client.close()
        return self.most


def upstream_connections(redis):
    with redis.client() as client:
        return client.call("CLIENT", "LIST").count(b"\n") - 1


class Scene:
    def __init__(self, options):
        raise_descriptor_limit(options.idle + options.busy)
        self.options = options
        # It takes only 127.0.0.1 itself for safe; the storm comes from other addresses of loopback as well.
        self.redis = RedisServer(args=["--protected-mode", "no"])
        settings = {
            "threads": 1,
            "upstream.swapdb": "never",
            "limits.clients": 2 * (options.idle + options.busy) + 10_000,
            "l1.max_items": options.keys // 2,
        }
        self.sidecar = Sidecar(self.redis.url, settings=settings, binary=options.binary)
        self.most_upstream = []
        self.storms = []
        self.generate("--populate", "--warm", "--requests", options.keys, "--pipeline", 16, clients=50)

    def command(self, *arguments, clients):
        return list(
            map(
                str,
                [
                    self.options.build / "nearcached_load",
                    "--target",
                    self.sidecar.address,
                    "--clients",
                    clients,
                    "--keys",
                    self.options.keys,
                    *arguments,
                ],
            )
        )

    def generate(self, *arguments, clients):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [*self.command(*arguments, clients=clients), "--json", out.name, "--pid", str(self.sidecar.pid)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ServerError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            return json.load(out)["results"][0]

    def start_storm(self, address, seconds):
        command = [self.options.build / "nearcached_connection_storm", address, str(self.options.storm), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def storm_alone(self, server):
        """A storm and nothing else: what it saw, and the server's CPU per connection."""
        before = cpu_seconds(server.pid)
        seen = json.loads(self.start_storm(server.address, self.options.seconds / 2).communicate()[0])
        seen["cpu_us"] = 1e6 * (cpu_seconds(server.pid) - before) / seen["connections"]
        return seen

    def busy_run(self, storm, seed):
        """The busy ones for a run, with or without a storm meanwhile."""
        options = self.options
        watch = UpstreamWatch(self.redis)
        program = self.start_storm(self.sidecar.address, options.seconds) if storm else None
        result = self.generate(
            "--open-loop", options.rate, "--seconds", options.seconds, "--seed", seed, clients=options.busy
        )
        if program:
            self.storms.append(json.loads(program.communicate()[0]))
        self.most_upstream.append(watch.stop())
        return result


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled_rss(pid):
    time.sleep(0.3)
    return rss_bytes(pid)


def measure(scene):
    """Runs by phase, and the memory per idle connection."""
    options, sidecar = scene.options, scene.sidecar
    runs = {phase: [] for phase in PHASES}
    at_rest = upstream_connections(scene.redis)
    for repeat in range(options.repeats):
        runs["alone"].append(scene.busy_run(False, repeat + 1))
    scene.sidecar.call("PING")
    before = settled_rss(sidecar.pid)
    idle = IdleClients(sidecar.address, options.idle)
    connected = settled_rss(sidecar.pid)
    scene.redis.call("SET", "idle", "v" * 64)
    idle.ask(lambda index: b"*2\r\n$3\r\nGET\r\n$4\r\nidle\r\n", b"$64\r\n" + b"v" * 64 + b"\r\n")
    asked = settled_rss(sidecar.pid)
    for repeat in range(options.repeats):
        runs["idle"].append(scene.busy_run(False, repeat + 11))
        runs["storm"].append(scene.busy_run(True, repeat + 21))
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    with_all = upstream_connections(scene.redis)
    idle.close()
    wait_for(lambda: sections.metrics(sidecar)["nearcached_clients"] <= 1, 20, "the idle connections to be gone")
    after = settled_rss(sidecar.pid)
    alone = {"redis": [], "nearcached": []}
    for _ in range(options.repeats):
        alone["redis"].append(scene.storm_alone(scene.redis))
        alone["nearcached"].append(scene.storm_alone(sidecar))
    return runs, {
        "rss": (before, connected, asked, after),
        "upstream": (at_rest, with_all, max(scene.most_upstream)),
        "alone": alone,
    }


def memory_lines(options, seen):
    before, connected, asked, after = seen["rss"]
    per = [(value - before) / options.idle for value in (connected, asked)]
    return [
        "### An idle connection",
        "",
        "Resident memory of the sidecar more than before, by the connection.",
        "",
        "| after | bytes per connection |",
        "|---|---:|",
        f"| a PING | {per[0]:,.0f} |",
        f"| a GET of 64 bytes as well | {per[1]:,.0f} |",
        "",
        sections.goal("bytes of an idle connection", max(per), 4096, digits=0),
        f"- RSS {before / 2**20:.1f} MB before, {connected / 2**20:.1f} MB with {options.idle:,} idle connections, "
        f"{asked / 2**20:.1f} MB after their GETs, {after / 2**20:.1f} MB when all were gone and the busy runs over",
        "",
    ]


def busy_lines(options, runs, scene):
    names = {
        "alone": "alone",
        "idle": f"beside {options.idle:,} idle",
        "storm": f"the same, and {options.storm:,} connects/s",
    }
    lines = [
        "### Busy ones, meanwhile",
        "",
        f"{options.busy:,} connections, {options.rate:,} GETs/s in an open loop over {options.keys:,} keys, "
        f"of which L1 can hold half; medians of {options.repeats} runs of {options.seconds:g} s.",
        "",
        "| | p50 us | p99 us | p99 ± % | p99.9 us | CPU us/op |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for phase in PHASES:
        of_phase = runs[phase]
        middle = {name: median(of_phase, lambda run, name=name: run["latency_us"][name]) for name in ("p50", "p99", "p999")}
        lines.append(
            f"| {names[phase]} | {middle['p50']:.0f} | {middle['p99']:.0f} "
            f"| {spread([run['latency_us']['p99'] for run in of_phase]):.0f} | {middle['p999']:.0f} "
            f"| {median(of_phase, sections.cpu):.1f} |"
        )
    storms = scene.storms
    percentile = {name: median(storms, lambda storm, name=name: storm["latency_us"][name]) for name in ("p50", "p99")}
    return lines + [
        "",
        f"- the CPU of the last row is charged to the GETs but paid for the connects too",
        f"- the storm: {median(storms, lambda s: s['per_second']):,.0f} connects/s were made, "
        f"{sum(s['connections'] for s in storms):,} "
        f"in all, {sum(s['failed'] + s['unanswered'] for s in storms)} failed; from due to +PONG p50 "
        f"{percentile['p50']:.0f} us, p99 {percentile['p99']:.0f} us",
        "",
    ]


def storm_lines(options, alone):
    lines = [
        "### A storm alone",
        "",
        f"{options.storm:,} connects/s for {options.seconds / 2:g} s, each for one PING, in turns against "
        f"Redis and the sidecar; medians of {options.repeats}.",
        "",
        "| server | connects/s made | CPU us/connection | ± % | CPU / redis | p50 us | p99 us | failed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    reference = median(alone["redis"], lambda storm: storm["cpu_us"])
    for name, storms in alone.items():
        middle = median(storms, lambda storm: storm["cpu_us"])
        p50, p99 = (median(storms, lambda storm, at=at: storm["latency_us"][at]) for at in ("p50", "p99"))
        lines.append(
            f"| {name} | {median(storms, lambda storm: storm['per_second']):,.0f} | {middle:.0f} "
            f"| {spread([storm['cpu_us'] for storm in storms]):.0f} | {middle / reference if reference else 0:.2f} "
            f"| {p50:.0f} | {p99:.0f} | {sum(storm['failed'] + storm['unanswered'] for storm in storms)} |"
        )
    return lines + [""]


def upstream_lines(seen):
    at_rest, with_all, most = seen["upstream"]
    return [
        "### Upstream connections",
        "",
        f"{at_rest} at rest, {with_all} with all clients connected, at most {most} at any sampled moment " "(every 20 ms).",
    ]


def plot(options, runs):
    pyplot = sections.pyplot()
    if pyplot is None:
        return []
    figure, axis = pyplot.subplots(figsize=(5.5, 3.6))
    ticks = [50, 90, 99, 99.9, 99.99]
    labels = {
        "alone": f"{options.busy:,} busy alone",
        "idle": f"beside {options.idle:,} idle",
        "storm": f"and {options.storm:,} connects/s",
    }
    for phase in PHASES:
        percents = [percent for percent, _ in runs[phase][0]["percentiles_us"]]
        middle = [median(runs[phase], lambda run, i=i: run["percentiles_us"][i][1]) for i in range(len(percents))]
        axis.plot([1 / (1 - percent / 100) for percent in percents], middle, label=labels[phase], marker=".", markersize=3)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([1 / (1 - tick / 100) for tick in ticks], [f"{tick:g} %" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("percentile of the busy clients' GETs")
    axis.set_ylabel("latency, us (log)")
    axis.legend()
    return sections.save_plot(options, figure, "connections", "Latency of the busy clients by percentile")


def findings(seen, scene):
    storms = [*scene.storms, *(storm for storms in seen["alone"].values() for storm in storms)]
    if any(storm["failed"] + storm["unanswered"] for storm in storms):
        yield "connections of the storm failed or were not answered"
    if max(seen["upstream"]) > UPSTREAM_MAX:
        yield f"{max(seen['upstream'])} upstream connections, at most {UPSTREAM_MAX} were expected"


def main():
    options = parse_arguments()
    require("redis-server")
    scene = Scene(options)
    runs, seen = measure(scene)
    found = list(findings(seen, scene))
    lines = [
        *sections.where(options, first_line("redis-server", "--version"), "nearcached: 1 worker"),
        "",
        *memory_lines(options, seen),
        *busy_lines(options, runs, scene),
        *plot(options, runs),
        *storm_lines(options, seen["alone"]),
        *upstream_lines(seen),
        *(f"\n**Not kept: {finding}**" for finding in found),
    ]
    sections.emit(options, "connections", "Many connections", lines)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"connections: {error}")
