#!/usr/bin/env python3
"""Puts the same load on Redis, twemproxy (nutcracker), nearcached and a bare epoll loop in one go, and prints the ratios.

Every figure that matters is a ratio between servers measured in the same minutes on the same machine, so the repeats are
interleaved and the order of the servers turns with each repeat: drift of the machine hits all of them alike. Reported are
medians over the repeats, and how far the repeats lay apart. CPU is user + system of the server under test alone (for a
proxy: the proxy without the Redis behind it), all its threads, per answered operation.

A run of hits in which more than 1 % of the GETs reached the upstream measured something else: it is thrown away and
repeated, and the section says how often and why (the sidecar's own count of misses by reason).
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import sections
from sections import ROOT, cpu, first_line, median, shown, spread
from resp import Client
from servers import RedisServer, Server, ServerError, Sidecar, free_port, require, wait_for

PIPELINES = (1, 16, 64)
HIT = "GET, every key in L1"
REFERENCES = ("redis", "twemproxy", "bare loop")
# (scenario, compared with): {pipeline: the CPU per operation to reach, as a ratio}
GOALS = {
    (HIT, "redis"): {1: 0.90, 16: 0.45, 64: 0.35},
    (HIT, "bare loop"): {1: 1.15},
    ("GET, forwarded", "twemproxy"): {1: 0.80, 16: 0.33},
}
MISSES_MAX = 0.01  # share of a run's GETs that may reach the upstream where all are meant to be hits
REPEATS_MAX = 5  # of such a run
MISS_KEYS_PER_ITEM = 20  # the miss workload: so many keys for each that L1 can hold


@dataclass
class Endpoint:
    name: str
    address: str
    pid: int
    command: str
    sidecar: object = None


@dataclass
class Scenario:
    name: str
    mix: str
    endpoints: list
    why: str
    options: object  # those of the command line, with what is particular here
    samples: dict = field(default_factory=dict)  # (endpoint, pipeline) -> list of results
    rejected: Counter = field(default_factory=Counter)  # why runs were repeated


class Nutcracker(Server):
    """twemproxy before one Redis, with the options its own documentation recommends for Redis."""

    name = "nutcracker"

    def __init__(self, upstream):
        super().__init__()
        self.port, stats_port = free_port(), free_port()
        self.config = self.directory / "nutcracker.yml"
        self.config.write_text(
            f"pool:\n  listen: 127.0.0.1:{self.port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
            f"  preconnect: true\n  timeout: 5000\n  servers:\n   - {upstream}:1\n"
        )
        self._spawn(
            ["nutcracker", "-c", self.config, "-s", stats_port, "-a", "127.0.0.1", "-v", 4],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: answers(f"127.0.0.1:{self.port}"), 10, "nutcracker")


class BareLoop(Server):
    """nearcached_bare_loop: what answering alone costs."""

    name = "bareloop"

    def __init__(self, binary):
        super().__init__()
        self.port = free_port()
        self._spawn([binary, self.port], stdout=subprocess.DEVNULL)
        wait_for(lambda: answers(f"127.0.0.1:{self.port}"), 10, "the bare loop")


def answers(address):
    try:
        with Client(address, timeout=1) as client:
            client.send("GET", "nothing")
            client.read()
            return True
    except OSError:
        return False


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every cell (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one run (1)")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--pipelines", default=",".join(map(str, PIPELINES)), help="1,16,64")
    parser.add_argument("--scenarios", default="hit,forward,miss,set", help="any of hit,forward,miss,set")
    parser.add_argument("--without", default="", help="any of twemproxy,bare,nearcached: not measured")
    parser.add_argument(
        "--valkey", default=shutil.which("valkey-server"), help="the server to put beside (valkey-server, if on PATH)"
    )
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME=HOST:PORT,pid=N",
        help="a further server, already running; populated, warmed and measured like the others",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="nearcached's workers (1, because the others have one thread)"
    )
    parser.add_argument("--upstream", help="URL for nearcached in place of redis://127.0.0.1:PORT of the common Redis")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="further settings of nearcached")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.repeats, options.seconds, options.keys = 1, 0.1, 10_000
    options.pipelines = [int(depth) for depth in options.pipelines.split(",")]
    options.scenarios = options.scenarios.split(",")
    options.without = [name for name in options.without.split(",") if name]
    return options


def extra_endpoint(text):
    name, _, rest = text.partition("=")
    address, _, pid = rest.partition(",pid=")
    if not (name and address and pid.isdigit()):
        raise SystemExit(f"--endpoint {text}: wanted NAME=HOST:PORT,pid=N")
    return Endpoint(name, address, int(pid), "(given by --endpoint)")


def start_servers(options):
    """The common Redis, and all servers under test by name; they end with the program."""
    redis = RedisServer()
    found = {"redis": Endpoint("redis", redis.address, redis.pid, f"redis-server {shlex.join(redis.args)}")}
    if options.valkey:
        valkey = RedisServer(binary=options.valkey)
        found["valkey"] = Endpoint("valkey", valkey.address, valkey.pid, f"valkey-server {shlex.join(valkey.args)}")
    if "twemproxy" not in options.without:
        proxy = Nutcracker(redis.address)
        found["twemproxy"] = Endpoint(
            "twemproxy", f"127.0.0.1:{proxy.port}", proxy.pid, "nutcracker: one pool, one server, one connection, preconnect"
        )
    if "bare" not in options.without:
        bare = BareLoop(options.build / "nearcached_bare_loop")
        found["bare"] = Endpoint("bare loop", f"127.0.0.1:{bare.port}", bare.pid, "nearcached_bare_loop")
    if "nearcached" not in options.without:
        found.update(start_sidecars(options, redis))
    return redis, found


def start_sidecars(options, redis):
    """One for hits and writes, one that only forwards, one whose L1 is too small: nearly every GET misses."""
    given = dict(setting.split("=", 1) for setting in options.set)
    common = {"threads": options.threads, "upstream.swapdb": "never", **given}
    variants = {
        "nearcached": common,
        "nearcached-forward": {**common, "l1.enabled": "false"},
        "nearcached-miss": {**common, "l1.max_items": max(1, options.keys // MISS_KEYS_PER_ITEM)},
    }
    found = {}
    for name, settings in variants.items():
        sidecar = Sidecar(options.upstream or redis.url, settings=settings, binary=options.binary)
        found[name] = Endpoint(
            "nearcached", sidecar.address, sidecar.pid, shown(" ".join(map(str, sidecar.command))), sidecar
        )
    return found


def scenarios(options, found):
    extras = [extra_endpoint(text) for text in options.endpoint]

    def pick(*names):
        return [found[name] for name in names if name in found] + extras

    every = {
        "hit": Scenario(
            HIT,
            "get=1",
            pick("redis", "valkey", "twemproxy", "nearcached", "bare"),
            "all keys warmed before; nearcached answers alone",
            options,
        ),
        "forward": Scenario(
            "GET, forwarded",
            "get=1",
            pick("redis", "twemproxy", "nearcached-forward"),
            "l1.enabled=false: every GET goes upstream",
            options,
        ),
        "miss": Scenario(
            "GET, missed and filled",
            "get=1",
            pick("redis", "twemproxy", "nearcached-miss"),
            f"L1 holds one key in {MISS_KEYS_PER_ITEM}: nearly every GET is fetched with its TTL, kept, and "
            "displaces another",
            options,
        ),
        "set": Scenario(
            "SET",
            "set=1",
            pick("redis", "valkey", "twemproxy", "nearcached"),
            "written through, with L1 on and full",
            options,
        ),
    }
    unknown = [name for name in options.scenarios if name not in every]
    if unknown:
        raise SystemExit(f"--scenarios: unknown: {', '.join(unknown)}")
    return [every[name] for name in options.scenarios]


def load_command(options, endpoint, scenario, pipeline, extra):
    return [
        str(options.build / "nearcached_load"),
        "--target",
        endpoint.address,
        "--clients",
        str(options.clients),
        "--pipeline",
        str(pipeline),
        "--keys",
        str(options.keys),
        "--value-bytes",
        str(options.value_bytes),
        "--mix",
        scenario.mix,
        "--pid",
        str(endpoint.pid),
        *extra,
    ]


def run_load(options, endpoint, scenario, pipeline, extra):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = load_command(options, endpoint, scenario, pipeline, [*extra, "--json", out.name])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        result = json.load(out)["results"][0]
    if result["nulls"] > 0:
        raise ServerError(f"{endpoint.name}: {result['nulls']} GETs found no value: it was not populated")
    return result


def gets_served(redis):
    return int(redis.info("commandstats")["cmdstat_get"].split("calls=")[1].split(",")[0])


def run_and_count(options, redis, endpoint, scenario, pipeline, extra):
    """run_load, with the share of the GETs that reached the common Redis (none counted with an upstream of its own)."""
    before = gets_served(redis)
    result = run_load(options, endpoint, scenario, pipeline, extra)
    sent = result["replies"] + (options.keys if "--warm" in extra else 0)
    result["upstream_share"] = 0 if options.upstream else (gets_served(redis) - before) / sent
    return result


def misses(sidecar):
    return Counter(
        {name: value for name, value in sections.metrics(sidecar).items() if name.startswith("nearcached_l1_misses_total")}
    )


def run_valid(redis, endpoint, scenario, pipeline, extra):
    """One run; one of hits is repeated until they were hits."""
    for _ in range(REPEATS_MAX):
        counted = scenario.name == HIT and endpoint.sidecar is not None
        before = misses(endpoint.sidecar) if counted else Counter()
        result = run_and_count(scenario.options, redis, endpoint, scenario, pipeline, extra)
        if not counted or result["upstream_share"] <= MISSES_MAX:
            return result
        reasons = misses(endpoint.sidecar) - before
        scenario.rejected[
            ", ".join(f"{name} {count:.0f}" for name, count in reasons.most_common()) or "none counted as a miss"
        ] += 1
    raise ServerError(f"{endpoint.name}: what is meant to be hits is not: {dict(scenario.rejected)}")


def warm_up(plan):
    """Populates and reads every key once through every server, so that the first repeat is like the last."""
    # All writes before the first read: they are foreign ones to every other server, and would empty its cache again.
    for step in (["--populate"], ["--warm"]):
        for scenario in reversed(plan):  # the one that is about hits last
            for endpoint in scenario.endpoints:
                run_load(scenario.options, endpoint, scenario, 16, ["--seconds", "0.1", *step])


def measure(redis, plan):
    for scenario in plan:
        options = scenario.options
        for repeat in range(options.repeats):
            for pipeline in options.pipelines:
                turn = repeat % len(scenario.endpoints)
                for endpoint in scenario.endpoints[turn:] + scenario.endpoints[:turn]:
                    extra = ["--seconds", str(options.seconds), "--seed", str(repeat + 1)]
                    if scenario.name == HIT:
                        extra.append("--warm")
                    result = run_valid(redis, endpoint, scenario, pipeline, extra)
                    scenario.samples.setdefault((endpoint.name, pipeline), []).append(result)
            print(f"{scenario.name}: repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)


def table(scenario):
    options = scenario.options
    lines = [
        f"### {scenario.name}",
        "",
        f"{scenario.why}.",
        "",
        "| pipeline | server | CPU us/op | user | system | ± % | requests/s | p50 us | p99 us "
        "| CPU / redis | CPU / twemproxy | CPU / bare |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for pipeline in options.pipelines:
        references = {
            name: median(scenario.samples[(name, pipeline)], cpu)
            for name in REFERENCES
            if (name, pipeline) in scenario.samples
        }
        for endpoint in scenario.endpoints:
            results = scenario.samples[(endpoint.name, pipeline)]
            ratios = [
                f"{median(results, cpu) / references[name]:.2f}" if references.get(name) else "" for name in REFERENCES
            ]
            lines.append(
                f"| {pipeline} | {endpoint.name} | {median(results, cpu):.2f} "
                f"| {median(results, lambda r: r['cpu_us_per_op']['user']):.2f} "
                f"| {median(results, lambda r: r['cpu_us_per_op']['system']):.2f} "
                f"| {spread([cpu(result) for result in results]):.0f} "
                f"| {median(results, lambda r: r['throughput']):,.0f} "
                f"| {median(results, lambda r: r['latency_us']['p50']):.0f} "
                f"| {median(results, lambda r: r['latency_us']['p99']):.0f} | {' | '.join(ratios)} |"
            )
    return lines + [""] + goals(scenario) + remarks(scenario)


def goals(scenario):
    lines = []
    for (name, other), wanted in GOALS.items():
        for pipeline, goal in wanted.items():
            if name != scenario.name or not {(other, pipeline), ("nearcached", pipeline)} <= set(scenario.samples):
                continue
            reference = median(scenario.samples[other, pipeline], cpu)
            ratio = median(scenario.samples["nearcached", pipeline], cpu) / reference if reference else 0
            lines.append(sections.goal(f"CPU of nearcached / {other}, {name}, pipeline {pipeline}", ratio, goal))
    return lines


def remarks(scenario):
    lines = [
        f"- {runs} of nearcached's runs repeated because not only hits; its count of misses by reason: {reason}"
        for reason, runs in scenario.rejected.items()
    ]
    shares = [
        result["upstream_share"]
        for (name, _), results in scenario.samples.items()
        if name == "nearcached"
        for result in results
    ]
    if shares and scenario.mix == "get=1":
        lines.append(
            f"- share of nearcached's GETs that reached the upstream: {min(shares):.2%} to {max(shares):.2%} of a run"
        )
    return lines + [""]


def plot(options, plan):
    """CPU per operation against Redis, a panel for each scenario, a group of bars per pipeline depth."""
    pyplot = sections.pyplot()
    if pyplot is None:
        return []
    every = list(dict.fromkeys(endpoint.name for scenario in plan for endpoint in scenario.endpoints))
    colours = {name: f"C{index}" for index, name in enumerate(every)}
    figure, axes = pyplot.subplots(1, len(plan), figsize=(3.4 * len(plan), 3.6), squeeze=False, sharey=True)
    for axis, scenario in zip(axes[0], plan):
        names = [endpoint.name for endpoint in scenario.endpoints]
        for index, name in enumerate(names):
            values = [relative(scenario, name, pipeline) for pipeline in options.pipelines]
            places = [place + 0.8 * index / len(names) for place in range(len(values))]
            axis.bar(places, values, 0.8 / len(names), label=name, color=colours[name])
        axis.axhline(1, color="black", linewidth=0.8, linestyle="--")
        axis.set_xticks([place + 0.4 - 0.4 / len(names) for place in range(len(options.pipelines))], options.pipelines)
        axis.set_title(scenario.name, fontsize=10)
        axis.set_xlabel("pipeline")
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("CPU per operation / that of Redis")
    return sections.save_plot(options, figure, "compare", "CPU per operation against Redis by scenario, pipeline and server")


def relative(scenario, name, pipeline):
    reference = median(scenario.samples[("redis", pipeline)], cpu)
    return median(scenario.samples[(name, pipeline)], cpu) / reference if reference else 0


def report(options, plan, found):
    versions = [first_line("redis-server", "--version")]
    versions += [first_line(options.valkey, "--version")] if options.valkey else ["no valkey-server: not measured"]
    versions += [] if "twemproxy" in options.without else [first_line("nutcracker", "--version")]
    lines = [
        *sections.where(options, *versions),
        f"- {options.clients} clients, {options.keys:,} keys drawn uniformly, values of {options.value_bytes} bytes; "
        f"{options.repeats} interleaved repeats of {options.seconds:g} s, medians; ± is half the range of the repeats",
        "",
        *plot(options, plan),
    ]
    for scenario in plan:
        lines += table(scenario)
    lines += ["### Commands", "", "```"]
    lines += [f"{endpoint.command}" for endpoint in found.values()]
    example = load_command(
        options, plan[0].endpoints[0], plan[0], options.pipelines[0], ["--seconds", f"{options.seconds:g}", "--warm"]
    )
    return lines + [shown(" ".join(example)), "```"]


def main():
    options = parse_arguments()
    require("redis-server")
    if not shutil.which("nutcracker") and "twemproxy" not in options.without:
        print("twemproxy is not measured: nutcracker is not installed", file=sys.stderr)
        options.without.append("twemproxy")
    redis, found = start_servers(options)
    plan = scenarios(options, found)
    warm_up(plan)
    measure(redis, plan)
    sections.emit(options, "compare", "Side by side", report(options, plan, found))


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"compare: {error}")
