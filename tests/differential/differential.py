#!/usr/bin/env python3
"""Random commands to a plain Redis and through nearcached before another one: the replies must be the same.

    differential.py                                     # seeds 1-5, 2,000 commands each, RESP2 and RESP3
    differential.py --seeds 1-50 --commands 10000       # the long run
    differential.py --cluster --seeds 1-10              # through a cluster of three, commands of one slot
    differential.py --groups strings,keys --resp 3
    differential.py --replay failure.txt                # a script that an earlier run has printed

Starts its own servers (README.md). Each seed's first difference is shrunk and printed as a script; a finding that an earlier
seed has made already is only counted. Exit 0: no difference; 1: differences; 77: no redis-server.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import servers  # noqa: E402
from exceptions import Rules, tips_of  # noqa: E402
from generator import Generator  # noqa: E402
from grammar import GROUPS  # noqa: E402
from resp import Client, ReplyError  # noqa: E402
from runner import InvalidSequence, Runner  # noqa: E402
from shrinker import Shrinker, read_script, write_script  # noqa: E402

SETTINGS = {"threads": 2}
SHRINKING_PATIENCE_S = 1.5  # most tries of a sequence that is not answered end in waiting


class Bench:
    """A plain server, and a sidecar before an identical one, or before a cluster of three."""

    def __init__(self, server=None, cluster=False, settings=None):
        self.cluster = cluster
        self.plain = servers.RedisServer(binary=server)
        self.upstream = servers.Cluster(3, binary=server) if cluster else servers.RedisServer(binary=server)
        self.sidecar = servers.Sidecar(self.upstream.url, {**SETTINGS, **(settings or {})})
        self.nodes = [self.plain, *(self.upstream.nodes if cluster else [self.upstream])]
        self.clients = [Client(node.address) for node in self.nodes]
        self.wait_caching()
        self.clients[0].send("COMMAND")
        self.rules = Rules(tips_of(self.clients[0].read_raw()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        for server in (self.sidecar, self.upstream, self.plain):
            server.close()

    def wait_caching(self):
        """Until repeated reads are hits: before that L1 would not be tested."""
        with self.sidecar.client() as client:
            def hit():
                client.call("GET", "is-l1-on")
                return self.hits() > 0
            servers.wait_for(hit, 10, "a GET answered from L1")

    def hits(self):
        with self.sidecar.client() as client:
            for line in client.call("INFO", "nearcached").decode().splitlines():
                if line.startswith("nearcached_l1_hits:"):
                    return int(line.partition(":")[2])
        return 0

    def clean(self):
        """No keys, scripts, functions; settings that the grammar changes as they were."""
        with self.sidecar.client() as client:
            client.call("SCRIPT", "FLUSH")  # it would load them again, as after a failover
        for client in self.clients:
            client.pipeline([("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"),
                             ("CONFIG", "SET", "hash-max-listpack-entries", 128, "maxmemory-policy", "noeviction")])

    def runner(self):
        return Runner(self.plain.address, self.sidecar.address, self.clean, self.rules)


def report(sequence, difference, what):
    return f"--- {what}\n{difference}\n--- replay with --replay FILE\n{write_script(sequence, str(difference))}---"


class Findings:
    """What was found, each kind once."""

    def __init__(self, shrink_seconds, folder=None):
        self.shrink_seconds = shrink_seconds
        self.folder = folder
        self.kinds = Counter()

    def add(self, runner, sequence, difference, what):
        self.kinds[difference.signature] += 1
        if self.kinds[difference.signature] > 1:
            print(f"{what}: again {difference}", flush=True)
            return
        patience_s, runner.patience_s = runner.patience_s, SHRINKING_PATIENCE_S
        sequence, difference = Shrinker(runner.run, self.shrink_seconds).shrink(sequence, difference)
        runner.patience_s = patience_s
        print(report(sequence, difference, what), flush=True)
        if self.folder:
            path = Path(self.folder) / f"{len(self.kinds)}.txt"
            path.write_text(write_script(sequence, f"{what}\n{difference}"))


def run_seeds(bench, seeds, commands, protocols, groups=None, findings=None):
    """(the Runner with its counts, Findings)."""
    runner = bench.runner()
    findings = findings or Findings(60.0)
    for seed in seeds:
        for protocol in protocols:
            generator = Generator(seed, groups, bench.cluster, protocol)
            sequence = generator.sequence(commands)
            try:
                difference = runner.run(sequence)
            except InvalidSequence as error:
                print(f"seed {seed}, RESP{protocol} is left at {error}")
                continue
            if difference:
                findings.add(runner, sequence, difference, f"seed {seed}, RESP{protocol}")
    return runner, findings


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-5", help="A-B or A")
    parser.add_argument("--commands", type=int, default=2000, help="of each seed and protocol")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--resp", type=int, choices=(2, 3), help="one protocol instead of both")
    parser.add_argument("--server", help="path of a redis-server")
    parser.add_argument("--groups", help=f"of {','.join(GROUPS)}; -NAME leaves one out")
    parser.add_argument("--shrink-seconds", type=float, default=60.0)
    parser.add_argument("--save", help="a folder for the scripts of what is found")
    parser.add_argument("--replay", help="a script to run instead of seeds")
    return parser.parse_args()


def chosen_groups(text):
    if not text:
        return None
    names = text.split(",")
    unknown = [name for name in names if name.lstrip("-") not in GROUPS]
    if unknown:
        sys.exit(f"no group is called {', '.join(unknown)}")
    without = {name[1:] for name in names if name.startswith("-")}
    return [name for name in GROUPS if name not in without] if without else names


def main():
    options = parse_arguments()
    if not options.server:
        servers.require("redis-server")
    first, _, last = options.seeds.partition("-")
    protocols = [options.resp] if options.resp else [2, 3]
    with Bench(options.server, options.cluster) as bench:
        if options.replay:
            sequence = read_script(Path(options.replay).read_text())
            runner = bench.runner()
            difference = runner.run(sequence)
            if difference:
                Findings(options.shrink_seconds, options.save).add(runner, sequence, difference, options.replay)
            else:
                print("no difference")
            return 1 if difference else 0
        begun = time.monotonic()
        runner, findings = run_seeds(bench, range(int(first), int(last or first) + 1), options.commands, protocols,
                                     chosen_groups(options.groups), Findings(options.shrink_seconds, options.save))
        seconds = time.monotonic() - begun
        answered = sum(runner.answered.values())
        print(f"{runner.commands} commands in {seconds:.1f} s, {answered} answered without an error, {bench.hits()} L1 hits, "
              f"{sum(findings.kinds.values())} differences of {len(findings.kinds)} kinds")
        return 1 if findings.kinds else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InvalidSequence as error:
        sys.exit(f"the sequence can't be compared: {error}")
    except ReplyError as error:
        sys.exit(f"a server refuses the test's own command: {error}")
