#!/usr/bin/python3
"""The consistency checker: sidecars before a real cluster, readers, writers and faults, judged by the writers' own history.

    consistency_check.py --seeds 20 --seconds 25                       # the long run: 20 seeds, each on a cluster of its own
    consistency_check.py --seed 7 --seeds 1                            # one that failed, again
    consistency_check.py --deferred                                    # with write-behind (deferred_writers.py)
    consistency_check.py --mode bus | ttl   --level strict | causal | stale_ok   --max-staleness 0.2   --server PATH

Three sidecars before 3 primaries and 3 replicas (appendonly). Readers, two clients each of one sidecar, ask in many ways
(GET, MGET, STRLEN, GETRANGE, EXISTS, TYPE, HGETALL, HGET, HMGET, HLEN, HEXISTS); one request in ten is a write (SET, MSET,
PSETEX, HSET, HSETEX, DEL, UNLINK, EVAL ...), through a sidecar or straight to the cluster, and counts when WAIT says that a
replica has it. Each seed makes the load and the order of the faults (faults.py lists them). A run fails when

  - a read returned what the upstream had not held within the bound before it was sent, or another key's or a torn value;
  - a read through a sidecar missed a write that this sidecar had acknowledged before, be it another client's;
  - a key went back in time: a read through a sidecar returned less than one that was answered before it was sent;
  - with --level causal, a client missed a write that it had been told of through a list;
  - a request was not answered in time, a client was dropped, or errors came while nothing was wrong;
  - service came back more than 2 s later through a sidecar than from the cluster itself;
  - a sidecar held more memory than at its start + max_bytes + 20 MB;
  - at the end any read of any key through any sidecar differs from the upstream, or from what the history allows;
  - the upstream saw most of the reads: then L1 was not in use, and the run would prove nothing.

With --deferred the sidecars answer writes before the upstream has them: then a sidecar's own readers must see a write from its
answer on, all others from its flush on, within the bound; and every write that was answered is upstream in the end, also when
its sidecar was killed. There are no replicas, and no faults that take from the upstream what it has acknowledged.

The bound is coherence.max_staleness; in ttl mode l1.ttl; 0 with --level strict; with stale_ok, around a fault, max_stale.
history.py says how a read is judged, and why timing can't make it judge wrongly.
"""

import argparse
import multiprocessing
import pickle
import random
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import deferred_writers  # noqa: E402
import keyspace  # noqa: E402
from board import Board  # noqa: E402
from cluster_client import ClusterClient  # noqa: E402
from fabric import CutCluster, Fabric  # noqa: E402
from faults import Faults, calls_of  # noqa: E402
from history import ABSENT, History  # noqa: E402
from keyspace import Keyspace, WrongValue  # noqa: E402
from resp import ReplyError  # noqa: E402
from servers import ServerError, Sidecar, require  # noqa: E402
from weather import Weather  # noqa: E402
from workers import Plan, reader, run_worker, writer  # noqa: E402

MEGABYTE = 1 << 20
MEMORY_SLACK = 20 * MEGABYTE
SERVICE_BACK_MAX_S = 2.0
MAX_STALE_S = 30.0         # with stale_ok
UPSTREAM_SHARE_MAX = 0.8   # of the reads, above which L1 was hardly in use
SHARE_COMMANDS = ("get", "strlen", "exists", "type", "hgetall", "hmget", "hlen", "hexists")  # that only readers send
LONGEST_TTL_S = max(keyspace.TTLS_MS) / 1000
SETTLE_S = 3.0
GAP_S = (0.3, 1.5)         # between two faults
AUDIT_ONE_IN = 20
SHOWN_MAX = 20
COMPARE_KEYS = 200         # in one pipeline
COMPARE_TRIES = 10
KEEPING_FAULTS = ("kill_connections", "kill_sidecar", "move_slots", "cut", "sleep", "flush", "small_table")  # with --deferred
DEFERRED_NODE_TIMEOUT_S = 15.0     # no node fails there, however slow the machine is
DEFERRED_SHARE_MIN = 0.05          # of the writes
BATCH_INTERVALS_MS = (0, 20, 100)  # of the sidecars in turn


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="the first; printed (random)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, each on a cluster of its own")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each seed's load")
    parser.add_argument("--mode", choices=("auto", "tracking", "bus", "ttl"), default="tracking", help="coherence.mode")
    parser.add_argument("--level", choices=("bounded", "causal", "stale_ok", "strict"), default="bounded")
    parser.add_argument("--max-staleness", type=float, default=1.0, metavar="SECONDS", help="coherence.max_staleness")
    parser.add_argument("--ttl", type=float, default=2.0, metavar="SECONDS", help="l1.ttl in ttl mode")
    parser.add_argument("--server", default="redis", metavar="redis|PATH", help="the servers of the cluster")
    parser.add_argument("--binary", type=lambda path: Path(path).resolve(), help="the sidecar (build/release/nearcached)")
    parser.add_argument("--sidecars", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=1, help="of each primary; 0: nothing is killed nor confirmed")
    parser.add_argument("--node-timeout", type=float, default=1.5, metavar="SECONDS", help="of the cluster's nodes")
    parser.add_argument("--keys", type=int, default=3000)
    parser.add_argument("--value-bytes", type=int, default=400, help="largest value; sizes are spread below it")
    parser.add_argument("--max-bytes", type=int, default=MEGABYTE, help="the sidecars' l1.max_bytes")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--theta", type=float, default=0.99)
    parser.add_argument("--answer-bound", type=float, default=8.0, help="seconds after which a request counts as stuck")
    parser.add_argument("--sleep", type=float, default=5.0, help="how long a sidecar is stopped")
    parser.add_argument("--faults", default=",".join(Faults.KINDS), help="only these, comma separated; none: only the load")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="further settings of the sidecars")
    parser.add_argument("--deferred", action="store_true", help="write-behind, without replicas and what only they survive")
    parser.add_argument("--without-sidecars", action="store_true",
                        help="the cluster itself in their place: checks the tool, not the sidecars")
    options = parser.parse_args()
    options.faults = [] if options.faults == "none" else options.faults.split(",")
    if options.without_sidecars:
        options.faults = [kind for kind in options.faults if kind not in Faults.OF_SIDECARS]
    if options.deferred:
        options.replicas = 0
        options.node_timeout = DEFERRED_NODE_TIMEOUT_S
        options.faults = [kind for kind in options.faults if kind in KEEPING_FAULTS]
    if options.deferred and (options.without_sidecars or options.mode == "bus" or options.level == "causal"):
        parser.error("--deferred goes with sidecars, and neither with --mode bus nor with --level causal")
    unknown = set(options.faults) - set(Faults.KINDS)
    if unknown:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


def sidecar_settings(options, number, log):
    """What the command line says, as settings of the sidecars. Others stay at their defaults."""
    settings = {"l1.max_bytes": options.max_bytes, "coherence.mode": options.mode,
                "coherence.max_staleness": f"{options.max_staleness * 1000:.0f}ms", "coherence.consistency": options.level, "coherence.audit_one_in": AUDIT_ONE_IN}
    if options.mode == "bus":
        settings["coherence.bus.type"] = "redis"
    if options.mode == "ttl":
        settings["l1.ttl"] = f"{options.ttl * 1000:.0f}ms"
    if options.level == "stale_ok":
        settings["coherence.max_stale"] = f"{MAX_STALE_S:.0f}s"
    if options.deferred:
        settings |= write_behind_settings(log, number)
    return settings | dict(pair.split("=", 1) for pair in options.set)


def write_behind_settings(log, number):
    return {"write_behind.enabled": "true", "write_behind.durability": "deferred", "write_behind.log_dir": f"{log}/{number}",
            "write_behind.segment_bytes": "64KB", "write_behind.batch_records": 20, "upstream.swapdb": "never",
            "write_behind.batch_interval": f"{BATCH_INTERVALS_MS[number % len(BATCH_INTERVALS_MS)]}ms"}


class MemoryWatch(threading.Thread):
    """Samples the sidecars' VmRSS: the largest one, and the largest at a start."""

    def __init__(self, sidecars):
        super().__init__(daemon=True)
        self.sidecars = sidecars
        self.at_start = self.highest = max(sidecar.rss_bytes for sidecar in sidecars)
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(0.1):
            for sidecar in self.sidecars:
                try:
                    self.highest = max(self.highest, sidecar.rss_bytes)
                except (OSError, ServerError):
                    continue  # killed and not yet restarted


class Verdict:
    """Collects what is wrong, and prints it."""

    def __init__(self):
        self.problems = []

    def check(self, good, text):
        print(f"  {'ok  ' if good else 'FAIL'}  {text}", flush=True)
        if not good:
            self.problems.append(text)

    def check_none(self, problems, text, by_sidecar=None):
        """No problem in the list; some of them are shown otherwise."""
        shares = ", ".join(f"sidecar {number}: {count}" for number, count in sorted((by_sidecar or {}).items()))
        self.check(not problems, f"{text}: {len(problems) or 'none'}{f' ({shares})' if shares else ''}")
        for problem in problems[:SHOWN_MAX]:
            print(f"          {problem}")


class Run:
    """One seed."""

    def __init__(self, options, seed, cluster, sidecars, fabric, results):
        self.options = options
        self.seed = seed
        self.cluster = cluster
        self.sidecars = sidecars
        self.chance = random.Random(seed)
        able = cluster.nodes[0].call("COMMAND", "INFO", "HSETEX")[0] is not None
        self.plan = Plan(seed, Keyspace(options.keys, options.writers, options.value_bytes, able), options.theta,
                         options.answer_bound, cluster.addresses, [sidecar.address for sidecar in sidecars], results,
                         cluster.routes, straight=options.mode != "bus", confirm=options.replicas > 0,
                         told=options.level == "causal")
        self.board = Board(options.keys, max(1, len(sidecars)), options.readers, options.writers)
        self.faults = Faults(cluster, sidecars, fabric, self.board, self.plan, self.chance, options.sleep)
        self.workers = []
        self.started = 0.0
        self.checked = 0
        self.done = Counter()

    def say(self, text):
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    # The load.

    def populate(self):
        direct = ClusterClient(self.cluster.addresses, timeout=10.0, routes=self.cluster.routes)
        for key in range(self.options.keys):
            value = self.plan.keyspace.value(key, 0)
            if keyspace.is_hash(key):
                direct.call("HSET", keyspace.name(key), *(part for field in keyspace.FIELDS for part in (field, value)))
            else:
                direct.call("SET", keyspace.name(key), value)
        if self.options.replicas:
            self.faults.wait_for_replicas()
        direct.close()

    def start_load(self):
        context = multiprocessing.get_context("fork")
        write = deferred_writers.writer if self.options.deferred else writer
        for function, count in ((reader, self.options.readers), (write, self.options.writers)):
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
        reports = [self.faults.report]
        for path in sorted(self.plan.results.iterdir()):
            with open(path, "rb") as file:
                reports.append(pickle.load(file))
        return reports

    def abandon(self):
        """Ends the workers of a run that failed: they share memory with what comes after it."""
        self.board.stop.value = 1
        for worker in self.workers:
            worker.kill()
            worker.join()

    def wait(self, seconds):
        """A sidecar that ends without having been killed ends the run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))
            for number, sidecar in enumerate(self.sidecars):
                if not sidecar.alive:
                    raise ServerError(f"sidecar {number} ended with {sidecar.process.poll()}\n" + "\n".join(sidecar.log))

    def hurt(self):
        """Faults in an order of the seed's, all of them before any a second time, until the time is over."""
        deck = []
        end = self.started + self.options.seconds
        self.wait(min(1.0, self.options.seconds / 4))
        while time.monotonic() < end and self.options.faults:
            if not deck:
                deck = self.chance.sample(self.options.faults, len(self.options.faults))
            kind = deck.pop()
            self.say(self.faults.run(kind))
            self.done[kind] += 1
            self.wait(min(self.chance.uniform(*GAP_S), max(0.0, end - time.monotonic())))
        self.wait(max(0.0, end - time.monotonic()))

    # The verdict.

    def bound(self, read):
        """How old this read may be."""
        options = self.options
        if options.level == "strict":
            return 0.0
        bound = options.ttl if options.mode == "ttl" else options.max_staleness
        if options.level == "stale_ok" and (self.faults.expected(read.sent) or self.faults.expected(read.answered)):
            return max(bound, MAX_STALE_S)
        return bound

    def judge(self, verdict, reports):
        history = History(write for report in reports for write in report.writes())
        suspects = [read for report in reports for read in report.suspects]
        problems = {"reads older than the bound": [], "acknowledged writes lost to their own sidecar": [],
                    "keys that went back in time": [], "writes missed by a client that had been told of them": []}
        checks = (lambda read: history.check_age(read, self.bound(read)), history.check_own,
                  lambda read: history.check_order(read, self.bound(read)), history.check_told)
        for read in suspects:
            for found, check in zip(problems.values(), checks):
                if problem := check(read):
                    found.append((read.sidecar, self.at(read.sent, problem)))
        for what, found in problems.items():
            verdict.check_none([text for _, text in found], what, Counter(sidecar for sidecar, _ in found))
        lost = sum(report.suspects_lost for report in reports)
        verdict.check(lost == 0, f"all suspicious reads were judged ({len(suspects)}, {lost} not kept)")
        self.judge_service(verdict, reports)
        ages = sorted(age for read in suspects if (age := history.staleness(read)) < MAX_STALE_S) or [0.0]
        print(f"        {len(suspects)} reads were older than what was already acknowledged: p50 by "
              f"{ages[len(ages) // 2] * 1e3:.1f} ms, p99 by {ages[len(ages) * 99 // 100] * 1e3:.1f} ms, at most by "
              f"{ages[-1] * 1e3:.1f} ms")
        return history

    def judge_service(self, verdict, reports):
        said = [self.at(moment, text) for report in reports for moment, text in report.violations]
        errors = [(moment, text) for report in reports for moment, text in report.errors]
        surprising = [self.at(moment, text) for moment, text in errors if not self.faults.expected(moment)]
        away = [self.at(moment, f"sidecar {sidecar} {text}") for report in reports for moment, sidecar, text in report.away
                if not self.faults.dropping_expected(moment, sidecar)]
        verdict.check_none(said, "wrong values, own pipelined writes not seen")
        if self.sidecars:
            verdict.check_none(away, "clients dropped or stuck")
            verdict.check_none(surprising, "errors while no fault was on")
        for what, straight, through in self.faults.recoveries:
            if through - straight > SERVICE_BACK_MAX_S:
                verdict.check(False, f"{what}: service back {through - straight:.2f} s after the cluster's own recovery")
        stalls = self.faults.weather.stalls
        print(f"        errors: {dict(Counter(text for _, text in errors)) or 'none'}; the machine stood still {len(stalls)} times, "
              f"for {sum(last - first for first, last in stalls):.1f} s")

    def at(self, moment, text):
        return f"[{moment - self.started:.3f} s] {text}"

    def flush_deferred(self):
        """Writes that nobody was told of may be pending still."""
        for sidecar in self.sidecars:
            with sidecar.client(timeout=self.options.answer_bound) as client:
                client.call("NEAR.FLUSH", "WRITES")

    def check_final_state(self, verdict, history):
        """Every key, by every kind of read, twice through every sidecar, and straight: the same, and what it must be."""
        bound = self.options.ttl if self.options.mode == "ttl" else self.options.max_staleness
        if self.options.deferred:
            self.flush_deferred()
        time.sleep(max(bound, LONGEST_TTL_S) + 0.3)
        direct = ClusterClient(self.cluster.addresses, timeout=10.0, routes=self.cluster.routes)
        clients = [sidecar.client(timeout=self.options.answer_bound) for sidecar in self.sidecars]
        problems = []
        for first in range(0, self.options.keys, COMPARE_KEYS):
            keys = range(first, min(first + COMPARE_KEYS, self.options.keys))
            problems += self.compare(history, keys, direct, clients)
        direct.close()
        verdict.check_none(problems, f"keys that differ at the end, of {self.options.keys}")

    def compare(self, history, keys, direct, clients):
        """What differs. Errors are no answers: the cluster is waited for, and all is asked again."""
        reads = [(key, command) for key in keys for command in self.plan.keyspace.every_read(key)]
        commands = [command for _, command in reads]
        for _ in range(COMPARE_TRIES):
            self.cluster.wait_ok()
            truth = direct.pipeline_by_owner(commands)
            answers = [client.pipeline(commands) for client in clients for _ in range(2)]
            if not any(isinstance(reply, ReplyError) for replies in (truth, *answers) for reply in replies):
                break
            time.sleep(1.0)
        problems = list(self.inadmissible(history, reads, truth))
        for number, replies in enumerate(answers):
            self.checked += len(replies)
            problems += [f"sidecar {number // 2}: {' '.join(map(str, command))} says {answer!r:.60}, the upstream {said!r:.60}"
                         for (_, command), answer, said in zip(reads, replies, truth)
                         if comparable(command, answer) != comparable(command, said)]
        return problems

    def inadmissible(self, history, reads, truth):
        for (key, command), said in zip(reads, truth):
            if command[0] not in ("GET", "HGETALL"):
                continue
            try:
                what = self.plan.keyspace.from_get([key], said, None)[0] if command[0] == "GET" else \
                    self.plan.keyspace.from_hgetall([key], said, None)[0]
            except (WrongValue, ReplyError, TypeError) as error:
                yield f"key {key} in the upstream: {error}"
                continue
            if what not in history.admissible_now(key):
                yield f"key {key}: the upstream has {'none' if what == ABSENT else what}, the history allows " \
                      f"{sorted(history.admissible_now(key))}"

    def summarise(self, reports):
        seconds = time.monotonic() - self.started
        kinds = sum((report.kinds for report in reports), Counter())
        reads = sum(report.operations for report in reports if not report.role.startswith("writer"))
        self.checked += reads + kinds["read back"]
        uncertain = sum((report.uncertain for report in reports), Counter())
        self.say(f"{reads} reads checked ({reads / seconds:.0f}/s), {self.board.total_writes()} writes, not certain: "
                 f"{dict(uncertain) or 'none'}")
        print(f"        {dict(kinds.most_common())}{self.audits()}")
        return kinds

    def audits(self):
        """What the sidecars' own auditors say, where they do."""
        counts = self.count("audit_(checked|stale)_total")
        return f"\n        the sidecars' own audits: {dict(counts)}" if counts else ""

    def count(self, metrics):
        """What the sidecars count now, together, by the first group of the pattern; nothing when one does not answer."""
        counts = Counter()
        for sidecar in self.sidecars:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.admin_port}/metrics", timeout=5) as page:
                    for line in page.read().decode().splitlines():
                        if match := re.match(rf"nearcached_{metrics}(?:{{.*}})? (\d+)", line):
                            counts[match[1]] += int(match[2])
            except OSError:
                return Counter()
        return counts

    def check_deferred(self, verdict):
        """Writes must have been deferred, and put again while they were dirty; what a killed sidecar counted is gone."""
        counts = self.count("write_behind_(accepted|coalesced|flushed|retries|dead_letters)_total")
        share = counts["accepted"] / max(1, self.board.total_writes())
        verdict.check(share > DEFERRED_SHARE_MIN and counts["coalesced"] > 0 and counts["dead_letters"] == 0,
                      f"writes were deferred, by the sidecars that run at the end: {dict(counts)}")

    def check_share(self, verdict, kinds):
        """L1 must have answered, or nothing was proved."""
        asked = sum(count for kind, count in kinds.items() if kind.lower() in SHARE_COMMANDS + ("mget",))
        share = calls_of(self.cluster.nodes, SHARE_COMMANDS + ("mget",)) / max(1, asked)
        verdict.check(share <= UPSTREAM_SHARE_MAX, f"L1 was in use: the upstream saw {share:.0%} of the reads")

    def run(self):
        self.populate()
        for node in self.cluster.nodes:
            node.call("CONFIG", "RESETSTAT")
        memory = MemoryWatch(self.sidecars) if self.sidecars else None  # looks at the memory before the load
        self.start_load()  # forks: before the threads of the watch and of the probes are started
        if memory:
            memory.start()
        self.faults.weather = weather = Weather(self.cluster.nodes)
        weather.start()
        self.hurt()
        self.wait(SETTLE_S if self.options.faults else 0.0)
        weather.stop.set()
        reports = self.end_load()

        verdict = Verdict()
        verdict.check(len(reports) == len(self.workers) + 1, f"{len(reports) - 1} of {len(self.workers)} processes came back")
        if verdict.problems:
            return verdict  # a history with a gap judges nobody
        kinds = self.summarise(reports)
        if self.sidecars and self.options.level != "strict":
            self.check_share(verdict, kinds)
        if self.options.deferred:
            self.check_deferred(verdict)
        history = self.judge(verdict, reports)
        self.check_final_state(verdict, history)
        if memory:
            memory.stop.set()
            allowed = memory.at_start + self.options.max_bytes + MEMORY_SLACK
            verdict.check(memory.highest <= allowed, f"memory {memory.highest / MEGABYTE:.1f} MB at most, allowed "
                          f"{allowed / MEGABYTE:.1f} MB (start {memory.at_start / MEGABYTE:.1f} MB)")
        if verdict.problems:
            for number, sidecar in enumerate(self.sidecars):
                print(f"the last lines of sidecar {number}:", *list(sidecar.log)[-30:], sep="\n    ")
        return verdict


def comparable(command, reply):
    """A reply without what is nobody's promise: a hash has no order, and another node's is another."""
    if command[0] == "HGETALL" and isinstance(reply, list):
        return sorted(zip(reply[::2], reply[1::2]))
    return reply


def run_seed(options, seed):
    """(problems, checked reads, faults) of one seed."""
    with ExitStack() as stack:
        results = stack.enter_context(tempfile.TemporaryDirectory(prefix="nearcached-chaos-"))
        fabric = stack.enter_context(Fabric(3 * (1 + options.replicas)))
        cluster = stack.enter_context(CutCluster(
            fabric, primaries=3, replicas=options.replicas, node_timeout_ms=int(options.node_timeout * 1000), appendonly=True,
            args=["--appendfsync", "no"],
            binary=None if options.server == "redis" else options.server))
        log = stack.enter_context(tempfile.TemporaryDirectory(prefix="nearcached-chaos-log-"))
        sidecars = [] if options.without_sidecars else [
            stack.enter_context(Sidecar(cluster.url, settings=sidecar_settings(options, number, log), binary=options.binary,
                                        environment={"SIDECAR_NUMBER": str(number)}))
            for number in range(options.sidecars)]
        run = Run(options, seed, cluster, sidecars, fabric, Path(results))
        stack.callback(run.abandon)
        verdict = run.run()
        return verdict.problems, run.checked, run.done


def main():
    options = parse_arguments()
    require("redis-server")
    checked, done, failed = 0, Counter(), []
    for seed in range(options.seed, options.seed + options.seeds):
        print(f"seed {seed}: {options.seconds:g} s, mode {options.mode}, level {options.level}, max_staleness "
              f"{options.max_staleness:g} s", flush=True)
        try:
            problems, reads, faults = run_seed(options, seed)
        except ServerError as failure:
            print(f"  FAIL  {failure}")
            problems, reads, faults = [str(failure)], 0, Counter()
        checked += reads
        done += faults
        if problems:
            failed.append(seed)
        print(f"{'FAILED' if problems else 'PASSED'} (seed {seed})", flush=True)
    print(f"{options.seeds} seeds, {checked} reads checked, faults: {dict(done.most_common()) or 'none'}; "
          f"{f'FAILED: seeds {failed}' if failed else 'all PASSED'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
