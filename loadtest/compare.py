"""Puts the same load on Redis, twemproxy (nutcracker), nearcached and a bare epoll loop in one go, and prints the ratios.

Every figure that matters is a ratio between servers measured in the same minutes on the same machine, so the repeats are
interleaved and the order of the servers turns with each repeat: drift of the machine hits all of them alike. Reported are
medians over the repeats, and how far the repeats lay apart. CPU is user + system of the server under test alone (for a
proxy: the proxy without the Redis behind it), all its threads, per answered operation.
"""

import argparse
import datetime
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from servers import RedisServer, Server, ServerError, Sidecar, free_port, require, wait_for  # noqa: E402
from resp import Client  # noqa: E402

PIPELINES = (1, 16, 64)
HIT = "GET, every key in L1"
REFERENCES = ("redis", "twemproxy", "bare loop")
MISSES_MAX = 0.01  # share of a run's GETs that may reach the upstream where all are meant to be hits


@dataclass
class Endpoint:
    name: str
    address: str
    pid: int
    command: str


@dataclass
class Scenario:
    name: str
    mix: str
    endpoints: list
    why: str
    samples: dict = field(default_factory=dict)  # (endpoint, pipeline) -> list of results


class Nutcracker(Server):
    """twemproxy before one Redis, with the options its own documentation recommends for Redis."""

    name = "nutcracker"

    def __init__(self, upstream):
        super().__init__()
        self.port, stats_port = free_port(), free_port()
        self.config = self.directory / "nutcracker.yml"
        self.config.write_text(
            f"pool:\n  listen: 127.0.0.1:{self.port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
            f"  preconnect: true\n  timeout: 5000\n  servers:\n   - {upstream}:1\n")
        self._spawn(["nutcracker", "-c", self.config, "-s", stats_port, "-a", "127.0.0.1", "-v", 4],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    parser = argparse.ArgumentParser(prog="loadtest/compare.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every cell (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run (2)")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--pipelines", default=",".join(map(str, PIPELINES)), help="1,16,64")
    parser.add_argument("--scenarios", default="hit,forward,set", help="any of hit,forward,set")
    parser.add_argument("--without", default="", help="servers to leave out: redis is needed, the others are not")
    parser.add_argument("--endpoint", action="append", default=[], metavar="NAME=HOST:PORT,pid=N",
                        help="a further server, already running; populated, warmed and measured like the others")
    parser.add_argument("--threads", type=int, default=1,
                        help="nearcached's workers (1, because the others have one thread)")
    parser.add_argument("--upstream", help="URL for nearcached in place of redis://127.0.0.1:PORT of the common Redis")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="further settings of nearcached")
    parser.add_argument("--quick", action="store_true", help="a smoke run of well under a minute; writes no results file")
    parser.add_argument("--output", type=Path, help="results file (loadtest/RESULTS.md)")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="where the programs are")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds, options.keys = 1, 0.4, 10_000
    elif options.output is None:
        options.output = ROOT / "loadtest" / "RESULTS.md"
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
    if "twemproxy" not in options.without:
        proxy = Nutcracker(redis.address)
        found["twemproxy"] = Endpoint("twemproxy", f"127.0.0.1:{proxy.port}", proxy.pid,
                                      "nutcracker: one pool, one server, one connection, preconnect")
    if "bare" not in options.without:
        bare = BareLoop(options.build / "nearcached_bare_loop")
        found["bare"] = Endpoint("bare loop", f"127.0.0.1:{bare.port}", bare.pid, "nearcached_bare_loop")
    if "nearcached" not in options.without:
        given = dict(setting.split("=", 1) for setting in options.set)
        common = {"threads": options.threads, "upstream.swapdb": "never", **given}
        for name, settings in (("nearcached", common), ("nearcached-forward", {**common, "l1.enabled": "false"})):
            sidecar = Sidecar(options.upstream or redis.url, settings=settings, binary=options.build / "nearcached")
            command = " ".join(str(part) for part in sidecar.command).replace(str(ROOT) + "/", "")
            found[name] = Endpoint("nearcached", sidecar.address, sidecar.pid, command)
    return redis, found


def scenarios(options, found):
    extras = [extra_endpoint(text) for text in options.endpoint]

    def pick(*names):
        return [found[name] for name in names if name in found] + extras

    every = {
        "hit": Scenario(HIT, "get=1", pick("redis", "twemproxy", "nearcached", "bare"),
                        "all keys warmed before; nearcached answers alone"),
        "forward": Scenario("GET, forwarded", "get=1", pick("redis", "twemproxy", "nearcached-forward"),
                            "l1.enabled=false: every GET goes upstream"),
        "set": Scenario("SET", "set=1", pick("redis", "twemproxy", "nearcached"), "written through, with L1 on and full"),
    }
    unknown = [name for name in options.scenarios if name not in every]
    if unknown:
        raise SystemExit(f"--scenarios: unknown: {', '.join(unknown)}")
    return [every[name] for name in options.scenarios]


def load_command(options, endpoint, scenario, pipeline, extra):
    return [str(options.build / "nearcached_load"), "--target", endpoint.address, "--clients", str(options.clients),
            "--pipeline", str(pipeline), "--keys", str(options.keys), "--value-bytes", str(options.value_bytes),
            "--mix", scenario.mix, "--pid", str(endpoint.pid), *extra]


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


def warm_up(options, plan):
    """Populates and reads every key once through every server, so that the first repeat is like the last."""
    # All writes before the first read: they are foreign ones to every other server, and would empty its cache again.
    for step in (["--populate"], ["--warm"]):
        for scenario in reversed(plan):  # the one that is about hits last
            for endpoint in scenario.endpoints:
                run_load(options, endpoint, scenario, 16, ["--seconds", "0.2", *step])


def measure(options, redis, plan):
    for scenario in plan:
        for repeat in range(options.repeats):
            for pipeline in options.pipelines:
                turn = repeat % len(scenario.endpoints)
                for endpoint in scenario.endpoints[turn:] + scenario.endpoints[:turn]:
                    extra = ["--seconds", str(options.seconds), "--seed", str(repeat + 1)]
                    if scenario.mix == "get=1":
                        extra.append("--warm")
                    result = run_and_count(options, redis, endpoint, scenario, pipeline, extra)
                    scenario.samples.setdefault((endpoint.name, pipeline), []).append(result)
            print(f"{scenario.name}: repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)


def cpu(result):
    return result["cpu_us_per_op"]["user"] + result["cpu_us_per_op"]["system"]


def median(results, value):
    return statistics.median(value(result) for result in results)


def spread(results, value):
    """Half the distance between the lowest and the highest repeat, in percent of the median."""
    values = [value(result) for result in results]
    middle = statistics.median(values)
    return 0 if middle == 0 else 50 * (max(values) - min(values)) / middle


def table(options, scenario):
    lines = [f"### {scenario.name}", "", f"{scenario.why}.", "",
             "| pipeline | server | CPU us/op | user | system | ± % | requests/s | p50 us | p99 us "
             "| CPU / redis | CPU / twemproxy | CPU / bare |",
             "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for pipeline in options.pipelines:
        references = {name: median(scenario.samples[(name, pipeline)], cpu)
                      for name in REFERENCES if (name, pipeline) in scenario.samples}
        for endpoint in scenario.endpoints:
            results = scenario.samples[(endpoint.name, pipeline)]
            ratios = [f"{median(results, cpu) / references[name]:.2f}" if references.get(name) else "" for name in REFERENCES]
            lines.append(
                f"| {pipeline} | {endpoint.name} | {median(results, cpu):.2f} "
                f"| {median(results, lambda r: r['cpu_us_per_op']['user']):.2f} "
                f"| {median(results, lambda r: r['cpu_us_per_op']['system']):.2f} | {spread(results, cpu):.0f} "
                f"| {median(results, lambda r: r['throughput']):,.0f} | {median(results, lambda r: r['latency_us']['p50']):.0f} "
                f"| {median(results, lambda r: r['latency_us']['p99']):.0f} | {' | '.join(ratios)} |")
    return lines + [""] + misses(scenario)


def misses(scenario):
    """A warning where what is meant to be hits was not: such a row measures something else than its name says."""
    if scenario.name != HIT:
        return []
    shares = [result["upstream_share"] for (name, _), results in scenario.samples.items() if name == "nearcached"
              for result in results]
    if max(shares, default=0) <= MISSES_MAX:
        return []
    return [f"**Not only hits: up to {max(shares):.1%} of nearcached's GETs reached the upstream.**", ""]


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return (done.stdout + done.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "not available"


def machine():
    text = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return f"{len(models)} x {models[0] if models else platform.machine()}, {int(memory) // 2**20} GB, Linux {platform.release()}"


def load_average():
    return Path("/proc/loadavg").read_text().split()[0]


def report(options, plan, found, load_before):
    revision = first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    lines = ["# Side by side", "",
             "Written by `loadtest/compare.sh`; what the columns mean is in [README.md](README.md).", "",
             f"- {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, revision {revision}",
             f"- machine: {machine()}; load average before the start: {load_before}",
             f"- {first_line('redis-server', '--version')}", f"- {first_line('nutcracker', '--version')}",
             f"- {options.clients} clients, {options.keys:,} keys drawn uniformly, values of {options.value_bytes} bytes; "
             f"{options.repeats} interleaved repeats of {options.seconds:g} s, medians; ± is half the range of the repeats",
             ""]
    for scenario in plan:
        lines += table(options, scenario)
    lines += ["### Commands", "", "```"]
    lines += [f"{endpoint.command}" for endpoint in found.values()]
    example = load_command(options, plan[0].endpoints[0], plan[0], options.pipelines[0],
                           ["--seconds", f"{options.seconds:g}", "--warm"])
    lines += [" ".join(example).replace(str(ROOT) + "/", ""), "```"]
    return "\n".join(lines) + "\n"


def with_other_sections(path, text):
    """What other measurements have written behind ours stays."""
    _, heading, rest = (path.read_text() if path.exists() else "").partition("\n# Coherence\n")
    return text + heading + rest


def main():
    options = parse_arguments()
    require("redis-server", *([] if "twemproxy" in options.without else ["nutcracker"]))
    load_before = load_average()
    redis, found = start_servers(options)
    plan = scenarios(options, found)
    warm_up(options, plan)
    measure(options, redis, plan)
    text = report(options, plan, found, load_before)
    print(text)
    if options.output:
        options.output.write_text(with_other_sections(options.output, text))
        print(f"written: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"compare: {error}")
