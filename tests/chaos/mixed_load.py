#!/usr/bin/python3
"""The consistency load: readers and writers on a real cluster through the sidecar and past it, with faults.

90 % GET (Zipf), 10 % SET, half of them through the sidecar and half straight to the cluster (3 primaries, 3 replicas,
appendonly). During the run: CLIENT KILL of all the sidecar's connections, kill -9 of the primary of the hottest key and
its restart, and a range of slots moved to another primary. The run fails when

  - a GET returned a value the upstream had not held within the last second before it was sent, or another key's value;
  - a read through the sidecar missed a write that the sidecar had acknowledged before, or a session went back in time;
  - a request was not answered in time, or a client was dropped, or errors came while nothing was wrong;
  - the slots of a killed primary were served more than 2 s later through the sidecar than by the cluster itself;
  - the sidecar held more memory than at its start + max_bytes + 20 MB;
  - at the end any key differs between sidecar and upstream, or is not what the history allows;
  - the upstream saw most of the GETs: then L1 was not in use, and the run would prove nothing.

history.py says how a read is judged, and why timing can't make it judge wrongly.
"""

import argparse
import multiprocessing
import pickle
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from board import Board  # noqa: E402
from cluster_client import ClusterClient  # noqa: E402
from faults import calls_of_get, kill_connections_of_others, kill_primary, probe_both_ways, reshard  # noqa: E402
from faults import key_in_slot_of  # noqa: E402
from history import History  # noqa: E402
from resp import Client, ReplyError  # noqa: E402
from servers import Cluster, ServerError, Sidecar, require, wait_for  # noqa: E402
from workers import Plan, key_name, make_value, parse_value, reader, run_worker, writer  # noqa: E402

MEGABYTE = 1 << 20
MEMORY_SLACK = 20 * MEGABYTE
STALENESS_MAX_S = 1.0
SERVICE_BACK_MAX_S = 2.0
FAULT_TAIL_S = 2.0         # errors are expected for this long after the cluster has recovered from a fault
UPSTREAM_SHARE_MAX = 0.8   # of the GETs, above which L1 was hardly in use
SHOWN_MAX = 20


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the load (600)")
    parser.add_argument("--seed", type=int, default=None, help="of keys, batches and routes; printed (random)")
    parser.add_argument("--binary", type=Path, help="the sidecar (build/release/nearcached)")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--value-bytes", type=int, default=1000, help="largest value; sizes are spread below it")
    parser.add_argument("--max-bytes", type=int, default=8 * MEGABYTE, help="the sidecar's l1.max_bytes")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--theta", type=float, default=0.99)
    parser.add_argument("--answer-bound", type=float, default=5.0, help="seconds after which a request counts as stuck")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="further settings of the sidecar")
    parser.add_argument("--no-faults", action="store_true", help="only the load")
    parser.add_argument("--without-sidecar", action="store_true",
                        help="the cluster itself in the sidecar's place: checks the tool, not the sidecar")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


class MemoryWatch(threading.Thread):
    """Samples the sidecar's VmRSS."""

    def __init__(self, sidecar):
        super().__init__(daemon=True)
        self.sidecar = sidecar
        self.at_start = self.highest = sidecar.rss_bytes
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(0.1):
            try:
                self.highest = max(self.highest, self.sidecar.rss_bytes)
            except (OSError, ServerError):
                return  # the sidecar's death is noticed, and reported, by everybody else


class Verdict:
    """Collects what is wrong, and prints it."""

    def __init__(self):
        self.problems = []

    def check(self, good, text):
        print(f"  {'ok  ' if good else 'FAIL'}  {text}", flush=True)
        if not good:
            self.problems.append(text)

    def check_none(self, problems, text):
        """No problem in the list; some of them are shown otherwise."""
        self.check(not problems, f"{text}: {len(problems) or 'none'}")
        for problem in problems[:SHOWN_MAX]:
            print(f"          {problem}")


class Run:
    def __init__(self, options, cluster, sidecar, results):
        self.options = options
        self.cluster = cluster
        self.sidecar = sidecar
        self.address = sidecar.address if sidecar else None
        self.plan = Plan(options.seed, options.keys, options.writers, options.theta, options.value_bytes,
                         options.answer_bound, cluster.addresses, self.address, results)
        self.board = Board(options.keys, options.readers, options.writers)
        self.fault_windows = []   # (from, to)
        self.recoveries = []      # (what, straight, through the sidecar)
        self.workers = []
        self.victim = None
        self.gets_of_victim = 0  # its counter starts again when it does
        self.connections_killed = None
        self.started = 0.0

    def say(self, text):
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    # The load.

    def populate(self):
        direct = ClusterClient(self.cluster.addresses, timeout=10.0)
        for key in range(self.options.keys):
            direct.call("SET", key_name(key), make_value(key, 0, key % self.options.writers, self.options.value_bytes))
        direct.close()

    def start_load(self):
        context = multiprocessing.get_context("fork")
        for function, count in ((reader, self.options.readers), (writer, self.options.writers)):
            for number in range(count):
                worker = context.Process(target=run_worker, args=(function, self.plan, self.board, number), daemon=True)
                worker.start()
                self.workers.append(worker)
        self.started = time.monotonic()

    def end_load(self):
        """Stops the workers and returns their reports; a worker that does not come back is itself a finding."""
        self.board.stop.value = 1
        for worker in self.workers:
            worker.join(self.options.answer_bound + 60)
        reports = []
        for path in sorted(self.plan.results.iterdir()):
            with open(path, "rb") as file:
                reports.append(pickle.load(file))
        return reports

    # The faults.

    def until(self, share):
        """Waits for this share of the run; a worker's early end stops the waiting."""
        target = self.started + share * self.options.seconds
        while time.monotonic() < target:
            time.sleep(0.1)
            if self.sidecar and not self.sidecar.alive:
                raise ServerError(f"the sidecar ended with {self.sidecar.process.poll()}\n" + "\n".join(self.sidecar.log))

    def fault(self, action):
        started = time.monotonic()
        action()
        self.fault_windows.append((started, time.monotonic() + FAULT_TAIL_S))

    def faults(self):
        self.until(0.15)
        self.fault(self.kill_connections)
        self.until(0.35)
        self.fault(self.kill)
        self.until(0.55)
        self.fault(self.restart)
        self.until(0.75)
        self.fault(self.move_slots)
        self.until(1.0)

    def kill_connections(self):
        self.connections_killed = kill_connections_of_others(self.cluster)
        key = key_in_slot_of(self.cluster.owner_of(key_name(0)), self.cluster, "probe")
        straight, through = probe_both_ways(self.cluster, self.address, key, self.options.answer_bound)
        self.recoveries.append(("CLIENT KILL", straight, through))
        self.say(f"CLIENT KILL of {self.connections_killed} connections; served again after {through * 1000:.0f} ms")

    def kill(self):
        self.victim = self.cluster.owner_of(key_name(0))
        straight, through, self.gets_of_victim = kill_primary(self.cluster, self.board, self.address, self.victim,
                                                              self.options.answer_bound)
        self.recoveries.append(("kill -9 of a primary", straight, through))
        self.say(f"kill -9 of primary {self.victim.address}; cluster serves its slots after {straight:.2f} s, "
                 f"sidecar after {through:.2f} s")

    def restart(self):
        self.victim.start()
        wait_for(lambda: self.is_replica_in_sync(self.victim), 60, "the restarted node to follow as a replica")
        self.say(f"{self.victim.address} is back as a replica")

    @staticmethod
    def is_replica_in_sync(node):
        try:
            info = node.info("replication")
        except (OSError, ReplyError):
            return False
        return info.get("role") == "slave" and info.get("master_link_status") == "up"

    def move_slots(self):
        slots = 500 if self.options.seconds >= 300 else 200
        source, target, moved = reshard(self.cluster, slots, [key_name(key) for key in range(self.options.keys)])
        self.say(f"{slots} slots with {moved} keys moved from {source.address} to {target.address}")

    # The verdict.

    def expected_errors(self, moment):
        return any(first <= moment <= last for first, last in self.fault_windows)

    def judge(self, verdict, reports):
        history = History(write for report in reports for write in report.writes())
        suspects = [read for report in reports for read in report.suspects]
        stale = [problem for read in suspects if (problem := history.check_read(read, STALENESS_MAX_S))]
        order = [problem for report in reports for regression in report.regressions
                 if (problem := history.check_order(*regression))]
        said = [f"[{moment - self.started:.1f} s] {text}" for report in reports for moment, text in report.violations]
        errors = [(moment, text) for report in reports for moment, text in report.errors]
        unexpected = [f"[{moment - self.started:.1f} s] {text}" for moment, text in errors
                      if not self.expected_errors(moment)]
        ages = sorted(history.staleness(read) for read in suspects) or [0.0]

        verdict.check(len(reports) == len(self.workers), f"{len(reports)} of {len(self.workers)} processes came back")
        verdict.check_none(stale, f"reads of values not held within the last {STALENESS_MAX_S:g} s")
        verdict.check_none(order, "sessions that went back in time")
        verdict.check_none(said, "own writes lost, wrong values, stuck or dropped clients")
        verdict.check_none(unexpected, "errors while no fault was on")
        print(f"        {len(suspects)} reads were older than what was already acknowledged: p50 by "
              f"{ages[len(ages) // 2] * 1e3:.1f} ms, p99 by {ages[len(ages) * 99 // 100] * 1e3:.1f} ms, at most by "
              f"{ages[-1] * 1e3:.1f} ms\n        errors: {dict(Counter(text for _, text in errors)) or 'none'}")
        return history

    def summarise(self, reports):
        reads = sum(report.operations for report in reports if report.role.startswith("reader"))
        writes = sum(report.operations for report in reports if report.role.startswith("writer"))
        uncertain = sum((report.uncertain for report in reports), Counter())
        latencies = sorted(latency for report in reports for latency in report.latencies)
        print(f"{reads} reads, {writes} writes ({uncertain.total()} uncertain: {dict(uncertain)})")
        if latencies:
            print(f"time per pipeline as the clients saw it: p50 {latencies[len(latencies) // 2] * 1e3:.2f} ms, "
                  f"p99 {latencies[len(latencies) * 99 // 100] * 1e3:.2f} ms, max {latencies[-1] * 1e3:.0f} ms")
        return reads

    def check_final_state(self, verdict, history):
        """Every key through the sidecar against the upstream and against the history."""
        time.sleep(STALENESS_MAX_S + 0.5)
        direct = ClusterClient(self.cluster.addresses, timeout=10.0)
        through = Client(self.address, timeout=10.0) if self.address else direct
        problems = []
        for key in range(self.options.keys):
            ours, theirs = through.call("GET", key_name(key)), direct.call("GET", key_name(key))
            if ours != theirs:
                problems.append(f"key {key}: sidecar {ours and ours[:30]!r}, upstream {theirs and theirs[:30]!r}")
            elif theirs is None:
                problems.append(f"key {key}: lost")
            elif parse_value(key, theirs, self.options.writers) not in history.admissible_now(key):
                problems.append(f"key {key}: upstream holds {theirs[:30]!r}, history allows {history.admissible_now(key)}")
        verdict.check_none(problems, f"keys that differ at the end, of {self.options.keys}")


def run(options, cluster, sidecar, results):
    this = Run(options, cluster, sidecar, results)
    this.populate()
    gets_before = calls_of_get(cluster.nodes)
    memory = MemoryWatch(sidecar) if sidecar else None  # looks at the memory before the load
    this.start_load()  # forks: before the threads of the watch and of the probes are started
    if memory:
        memory.start()
    if options.no_faults:
        this.until(1.0)
    else:
        this.faults()
    reports = this.end_load()
    gets_upstream = calls_of_get(cluster.nodes) + this.gets_of_victim - gets_before

    verdict = Verdict()
    reads = this.summarise(reports)
    history = this.judge(verdict, reports)
    this.check_final_state(verdict, history)
    for what, straight, through in this.recoveries:
        verdict.check(through - straight <= SERVICE_BACK_MAX_S,
                      f"{what}: service back {max(0.0, through - straight):.2f} s after the cluster's own recovery")
    if memory:
        memory.stop.set()
        allowed = memory.at_start + options.max_bytes + MEMORY_SLACK
        verdict.check(memory.highest <= allowed, f"memory {memory.highest / MEGABYTE:.1f} MB at most, allowed "
                      f"{allowed / MEGABYTE:.1f} MB (start {memory.at_start / MEGABYTE:.1f} MB)")
        share = gets_upstream / max(1, reads)
        verdict.check(share <= UPSTREAM_SHARE_MAX, f"L1 was in use: the upstream saw {share:.0%} of the GETs")
        verdict.check(this.connections_killed != 0, "CLIENT KILL met the sidecar's connections")
        verdict.check(sidecar.alive, "the sidecar is still running")
        if verdict.problems:
            print("the sidecar's last lines:", *list(sidecar.log)[-40:], sep="\n    ")
    return verdict


def main():
    options = parse_arguments()
    require("redis-server", "redis-cli")
    print(f"mixed load of {options.seconds:g} s, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nearcached-chaos-") as results, \
            Cluster(primaries=3, replicas=1, appendonly=True) as cluster:
        if options.without_sidecar:
            verdict = run(options, cluster, None, Path(results))
        else:
            settings = {"l1.max_bytes": options.max_bytes, **dict(pair.split("=", 1) for pair in options.set)}
            with Sidecar(cluster.url, settings=settings, binary=options.binary) as sidecar:
                verdict = run(options, cluster, sidecar, Path(results))
    print(f"{'FAILED' if verdict.problems else 'PASSED'} (seed {options.seed})")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as failure:
        print(f"FAILED: {failure}")
        sys.exit(1)
