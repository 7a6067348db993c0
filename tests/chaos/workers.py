"""The processes that put the load on: readers, and writers that own their keys."""

import pickle
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

import servers
from cluster_client import ClusterClient
from history import Read, Write
from resp import Client, ConnectionLost, ReplyError, RespTimeout

PIPELINE_MAX = 16
WRITE_BATCH_MAX = 8
REST_S = 4.0               # how long a key rests after an uncertain write: longer than any deadline on its way
RECORDS_MAX = 500_000      # of suspicious reads kept for the check at the end, per process
CONFIRM_MS = 300
VALUE_PADDING = bytes(random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=4096))


@dataclass
class Plan:
    seed: int
    keys: int
    writers: int
    theta: float
    value_bytes_max: int
    answer_bound_s: float
    addresses: list       # of the cluster's nodes
    sidecar: str          # address, or None: the cluster itself stands in
    results: object       # folder for the workers' results

    def cumulative_weights(self, count):
        """Zipf: the cumulative weights of `count` ranks."""
        total, weights = 0.0, []
        for rank in range(1, count + 1):
            total += rank ** -self.theta
            weights.append(total)
        return weights


@dataclass
class Report:
    """What one worker hands back."""

    role: str
    operations: int = 0
    packed_writes: array = field(default_factory=lambda: array("d"))
    suspects: list = field(default_factory=list)       # Reads that were older than what was certain before they were sent
    regressions: list = field(default_factory=list)    # (key, version seen before, version seen now)
    violations: list = field(default_factory=list)     # (time, text)
    errors: list = field(default_factory=list)         # (time, first words)
    uncertain: Counter = field(default_factory=Counter)
    latencies: array = field(default_factory=lambda: array("d"))

    def add_write(self, write):
        self.packed_writes.extend((write.key, write.version, write.sent, write.acknowledged, write.certain))

    def writes(self):
        """The writes again, one by one."""
        fields = iter(self.packed_writes)
        for key, version, sent, acknowledged, certain in zip(*[fields] * 5):
            yield Write(int(key), int(version), sent, acknowledged, bool(certain))

    def violation(self, text):
        if len(self.violations) < 1000:
            self.violations.append((time.monotonic(), f"{self.role}: {text}"))

    def error(self, error):
        if len(self.errors) < RECORDS_MAX:
            self.errors.append((time.monotonic(), " ".join(str(error).split()[:3])))


def key_name(key):
    return f"key:{key}"


def make_value(key, version, writer, bytes_max):
    padding = (key * 31 + version * 17) % max(1, bytes_max)
    return b"%d|%d|%d|%b" % (key, version, writer, VALUE_PADDING[:padding])


def parse_value(key, value, writers):
    """The version a value carries; ValueError when it is not this key's."""
    parts = value.split(b"|", 3)
    if len(parts) != 4 or int(parts[0]) != key or int(parts[2]) != key % writers:
        raise ValueError(f"key {key} answered with a value that is not its own: {value[:60]!r}")
    return int(parts[1])


class SidecarSession:
    """One connection to the sidecar that is opened again when it is lost: being stuck or dropped is a violation."""

    def __init__(self, plan, report):
        self.plan = plan
        self.report = report
        self.client = None

    def pipeline(self, commands):
        """Replies, or None when the connection was lost or stuck: no request of them has a known outcome."""
        try:
            if self.client is None:
                self._open()
            started = time.monotonic()
            replies = self.client.pipeline(commands)
            self.report.latencies.append(time.monotonic() - started)
            return replies
        except RespTimeout:
            if self.plan.sidecar:
                self.report.violation(f"stuck: no answer within {self.plan.answer_bound_s} s to {commands[0][:2]} ...")
        except OSError as error:
            if self.plan.sidecar:
                self.report.violation(f"the sidecar dropped its client: {error}")
        self.client = None
        time.sleep(0.05)
        return None

    def _open(self):
        if self.plan.sidecar is None:
            self.client = ClusterClient(self.plan.addresses, timeout=self.plan.answer_bound_s)
        else:
            self.client = Client(self.plan.sidecar, protocol=random.choice((2, 3)), timeout=self.plan.answer_bound_s)


def run_worker(function, plan, board, number):
    """Body of a worker process."""
    servers._die_with_parent()
    report = Report(f"{function.__name__} {number}")
    random.seed(f"{plan.seed}/{report.role}")
    try:
        function(plan, board, number, report)
    except Exception as error:  # a defect of the tool must fail the run, not shorten it
        report.violation(f"the tool itself failed: {error!r}")
    with open(plan.results / report.role.replace(" ", "-"), "wb") as file:
        pickle.dump(report, file)


def reader(plan, board, number, report):
    session = SidecarSession(plan, report)
    population = range(plan.keys)
    weights = plan.cumulative_weights(plan.keys)
    seen = {}
    while not board.stop.value:
        keys = random.choices(population, cum_weights=weights, k=random.randint(1, PIPELINE_MAX))
        certain = [board.certain[key] for key in keys]
        own = [board.certain_sidecar[key] for key in keys]
        sent = time.monotonic()
        replies = session.pipeline([("GET", key_name(key)) for key in keys])
        if replies is None:
            seen.clear()
            continue
        answered = time.monotonic()
        for key, reply, certain_before, own_before in zip(keys, replies, certain, own):
            if isinstance(reply, ReplyError):
                report.error(reply)
                continue
            check_reply(plan, board, report, Read(key, None, sent, answered), reply, certain_before, own_before, seen)
        report.operations += len(keys)
        board.reads[number] = report.operations


def check_reply(plan, board, report, read, reply, certain_before, own_before, seen):
    """Most reads are proved right here by the shared board; the others are kept for the history to judge."""
    if reply is None:
        report.violation(f"key {read.key}: absent, but keys are never deleted")
        return
    try:
        read.version = parse_value(read.key, reply, plan.writers)
    except ValueError as error:
        report.violation(str(error))
        return
    if read.version > board.sent[read.key]:
        report.violation(f"key {read.key}: version {read.version} was never written")
    if read.version < own_before:
        report.violation(f"key {read.key}: version {own_before}, acknowledged through the sidecar before the read was "
                         f"sent, was lost to it: it got {read.version}")
    elif read.version < certain_before and len(report.suspects) < RECORDS_MAX:
        report.suspects.append(read)
    if read.version < seen.get(read.key, 0) and len(report.regressions) < RECORDS_MAX:
        report.regressions.append((read.key, seen[read.key], read.version))
    seen[read.key] = read.version


class KeyChooser:
    """Zipf over the keys of one writer; keys at rest are left out."""

    def __init__(self, plan, number):
        self.own = range(number, plan.keys, plan.writers)
        self.weights = plan.cumulative_weights(len(self.own))
        self.resting = {}

    def choose(self, count):
        now = time.monotonic()
        drawn = dict.fromkeys(random.choices(self.own, cum_weights=self.weights, k=count))
        chosen = [key for key in drawn if self.resting.get(key, 0) <= now]
        for key in chosen:
            self.resting.pop(key, None)
        return chosen

    def rest(self, key):
        self.resting[key] = time.monotonic() + REST_S


def writer(plan, board, number, report):
    session = SidecarSession(plan, report)
    direct = ClusterClient(plan.addresses, timeout=2.0)
    chooser = KeyChooser(plan, number)
    while not board.stop.value:
        careful = bool(board.careful.value)
        board.careful_seen[number] = careful
        if board.total_writes() * 9 > board.total_reads():
            time.sleep(0.001)
            continue
        keys = chooser.choose(random.randint(1, WRITE_BATCH_MAX))
        through_sidecar = random.random() < 0.5
        writes = [begin_write(board, key) for key in keys]
        if through_sidecar:
            outcomes = write_through_sidecar(plan, report, session, writes)
        else:
            outcomes = write_straight(plan, report, direct, writes)
        for write, (acknowledged, read_back) in zip(writes, outcomes):
            if acknowledged and careful and not direct.confirm_replicated(key_name(write.key), CONFIRM_MS):
                report.uncertain["no replica confirmed it"] += 1
                acknowledged = False
            finish_write(board, report, chooser, write, acknowledged, through_sidecar)
            if acknowledged and read_back is not None:
                check_read_back(plan, report, write, read_back)
        report.operations += len(keys)
        board.writes[number] = report.operations


def begin_write(board, key):
    version = board.sent[key] + 1
    board.sent[key] = version
    return Write(key, version, time.monotonic(), 0.0, False)


def finish_write(board, report, chooser, write, certain, through_sidecar):
    write.certain = certain
    write.acknowledged = time.monotonic()
    report.add_write(write)
    if not certain:
        chooser.rest(write.key)
        return
    if through_sidecar:
        board.certain_sidecar[write.key] = write.version
    board.certain[write.key] = write.version


def value_of(plan, write):
    return make_value(write.key, write.version, write.key % plan.writers, plan.value_bytes_max)


def write_through_sidecar(plan, report, session, writes):
    """SETs in one pipeline, some with a GET of the same key right behind: (acknowledged, what that GET said or None)."""
    commands, read_back = [], []
    for write in writes:
        read_back.append(random.random() < 0.3)
        commands.append(("SET", key_name(write.key), value_of(plan, write)))
        if read_back[-1]:
            commands.append(("GET", key_name(write.key)))
    replies = session.pipeline(commands) if commands else []
    if replies is None:
        report.uncertain["sidecar connection lost"] += len(writes)
        return [(False, None)] * len(writes)
    replies = iter(replies)
    outcomes = []
    for wants_read in read_back:
        reply = next(replies)
        if isinstance(reply, ReplyError):
            report.error(reply)
            report.uncertain["error from the sidecar"] += 1
        outcomes.append((reply == b"OK", next(replies) if wants_read else None))
    return outcomes


def write_straight(plan, report, direct, writes):
    outcomes = []
    for write in writes:
        try:
            write.sent = time.monotonic()
            acknowledged = direct.call("SET", key_name(write.key), value_of(plan, write)) == b"OK"
        except (OSError, ReplyError) as error:
            acknowledged = False
            kind = "connection lost" if isinstance(error, ConnectionLost) else type(error).__name__
            report.uncertain[f"straight: {kind}"] += 1
        outcomes.append((acknowledged, None))
    return outcomes


def check_read_back(plan, report, write, reply):
    """A GET in the same pipeline behind an acknowledged SET, on a key nobody else writes: exactly that value."""
    if isinstance(reply, ReplyError):
        report.error(reply)
        return
    if reply != value_of(plan, write):
        report.violation(f"key {write.key}: the writer's own pipelined GET behind its SET of version {write.version} "
                         f"got {reply[:40] if reply else reply!r}")
