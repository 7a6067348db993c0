"""The processes that put the load on: readers, and writers that own their keys."""

import pickle
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

import keyspace
import servers
from cluster_client import ClusterClient
from history import ABSENT, DELETED, PRESENT, STAYS, Read, Write
from keyspace import Keyspace, WrongValue
from resp import Client, ReplyError, RespTimeout

PIPELINE_MAX = 16
WRITE_BATCH_MAX = 8
REST_S = 3.0               # how long a key rests after an uncertain write: longer than any deadline on its way
RECORDS_MAX = 300_000      # of suspicious reads kept for the check at the end, per process
CONFIRM_MS = 200
READS_PER_WRITE = 9
PAUSE_S = 0.001


@dataclass
class Plan:
    seed: int
    keyspace: Keyspace
    theta: float
    answer_bound_s: float
    addresses: list        # of the cluster's nodes
    sidecars: list         # addresses; empty: the cluster itself stands in
    results: object        # folder for the workers' results
    routes: dict = field(default_factory=dict)  # announced address -> real one
    straight: bool = True  # some writers go past the sidecars
    confirm: bool = True   # a write counts only when a replica has it
    told: bool = False     # readers are told of writes through a list, and must see them (the causal level)

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
    suspects: list = field(default_factory=list)    # Reads that lay below a floor: for the history to judge
    suspects_lost: int = 0
    violations: list = field(default_factory=list)  # (time, text)
    errors: list = field(default_factory=list)      # (time, first words)
    away: list = field(default_factory=list)        # (time, sidecar, text): stuck or dropped clients
    uncertain: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)  # of commands
    latencies: array = field(default_factory=lambda: array("d"))

    def add_write(self, write):
        self.packed_writes.extend((write.key, write.version, write.sent, write.acknowledged, write.certain, write.lives))

    def writes(self):
        """The writes again, one by one."""
        fields = iter(self.packed_writes)
        for key, version, sent, acknowledged, certain, lives in zip(*[fields] * 6):
            yield Write(int(key), int(version), sent, acknowledged, bool(certain), lives)

    def suspect(self, read):
        if len(self.suspects) < RECORDS_MAX:
            self.suspects.append(read)
        else:
            self.suspects_lost += 1

    def violation(self, text):
        if len(self.violations) < 1000:
            self.violations.append((time.monotonic(), f"{self.role}: {text}"))

    def error(self, error):
        if len(self.errors) < RECORDS_MAX:
            self.errors.append((time.monotonic(), " ".join(str(error).split()[:4])))


class Session:
    """One connection to a sidecar that is opened again when it is lost. Being stuck or dropped is noted: whether there was
    a reason for it is judged by the faults of that time."""

    def __init__(self, plan, report, sidecar, protocol):
        self.plan = plan
        self.report = report
        self.sidecar = sidecar
        self.protocol = protocol
        self.client = None
        self.expected = 0

    def begin(self, commands):
        """Sends them; False when that is not possible."""
        self.expected = len(commands)
        try:
            if self.client is None:
                self.client = self._open()
            if isinstance(self.client, Client):
                self.client.raw(b"".join(map(encode, commands)))
            else:
                self.waiting = commands
            return True
        except OSError as error:
            self._lost(error)
            return False

    def finish(self):
        """Replies, or None when the connection was lost or stuck: no request of them has a known outcome."""
        if self.client is None:
            return None
        try:
            if not isinstance(self.client, Client):
                return self.client.pipeline(self.waiting)
            return [self.client.read() for _ in range(self.expected)]
        except OSError as error:
            self._lost(error)
            return None

    def pipeline(self, commands):
        return self.finish() if self.begin(commands) else None

    def _lost(self, error):
        stuck = isinstance(error, RespTimeout)
        text = f"stuck: no answer within {self.plan.answer_bound_s} s" if stuck else f"dropped its client: {error}"
        if len(self.report.away) < RECORDS_MAX:
            self.report.away.append((time.monotonic(), self.sidecar, f"{self.report.role}: {text}"))
        if isinstance(self.client, Client):
            self.client.close()
        self.client = None
        time.sleep(0.05)

    def _open(self):
        if not self.plan.sidecars:
            return ClusterClient(self.plan.addresses, self.plan.answer_bound_s, routes=self.plan.routes)
        return Client(self.plan.sidecars[self.sidecar], protocol=self.protocol, timeout=self.plan.answer_bound_s)


def encode(command):
    """As resp.encode, for commands of which every part is text or bytes."""
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


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


class Batch:
    """Reads in one pipeline, with the floors as they were before it was sent."""

    def __init__(self, plan, board, sidecar, keys):
        self.plan = plan
        self.board = board
        self.sidecar = sidecar
        self.reads = plan.keyspace.choose_reads(keys, random)
        self.floors = {key: self.floors_of(key) for key in keys}
        self.sent = time.monotonic()

    def floors_of(self, key):
        board, sidecar = self.board, self.sidecar
        return board.written[key], board.own[sidecar][key], board.seen[sidecar][key], board.absent_at[sidecar][key]

    @property
    def commands(self):
        return [command for command, _, _ in self.reads]

    def judge(self, report, replies, told=None):
        """Most reads are proved right here by the shared board; the others are kept for the history to judge."""
        answered = time.monotonic()
        checked = 0
        for (command, keys, parse), reply in zip(self.reads, replies):
            report.kinds[command[0]] += len(keys)
            if isinstance(reply, ReplyError):
                report.error(reply)
                continue
            try:
                answers = parse(keys, reply, self.board)
            except (WrongValue, ValueError, TypeError) as error:
                report.violation(f"sidecar {self.sidecar}: {command[0]}: {error}")
                continue
            for key, what in zip(keys, answers):
                self.judge_one(report, key, what, answered, told)
            checked += len(keys)
        return checked

    def judge_one(self, report, key, what, answered, told):
        board, sidecar = self.board, self.sidecar
        written, own, seen, absent_at = self.floors[key]
        if what >= 0:
            good = (what >= written and what <= board.sent[key] and (absent_at == 0.0 or what >= board.absent[key])
                    and not (what == written and 0.0 < board.expired_at[key] < self.sent))
            highest = what
        elif what == ABSENT:
            highest = board.absent[key]
            good = highest >= written and answered >= board.absent_from[key]
        else:
            highest = board.sent[key]
            good = highest > written or board.absent[key] < written
        floor = told.get(key, 0) if told else 0
        if not good or highest < own or highest < seen or highest < floor:
            report.suspect(Read(key, what, self.sent, answered, sidecar, own, seen, absent_at, floor))
        if what >= 0:
            if what > board.seen[sidecar][key]:
                board.seen[sidecar][key] = what
        elif what == ABSENT and self.sent > board.absent_at[sidecar][key]:
            board.absent_at[sidecar][key] = self.sent


def reader(plan, board, number, report):
    """Two clients of one sidecar, their requests on their way at the same time."""
    sidecar = number % max(1, len(plan.sidecars))
    sessions = [Session(plan, report, sidecar, protocol) for protocol in (2, 3)]
    population = range(plan.keyspace.keys)
    weights = plan.cumulative_weights(plan.keyspace.keys)
    while not board.stop.value:
        batches = []
        for session in sessions:
            keys = list(dict.fromkeys(random.choices(population, cum_weights=weights, k=random.randint(1, PIPELINE_MAX))))
            batch = Batch(plan, board, sidecar, keys)
            batches.append(batch if session.begin(batch.commands) else None)
        for session, batch in zip(sessions, batches):
            replies = session.finish() if batch else None
            if replies is not None:
                report.operations += batch.judge(report, replies)
        board.reads[number] = report.operations
        if plan.told:
            report.operations += read_what_was_told(plan, board, report, sessions[number % 2])


def read_what_was_told(plan, board, report, session):
    """Takes one message from a list, through the sidecar, and reads the key that it speaks of: not older than it says."""
    popped = session.pipeline([("LPOP", told_list(session.sidecar))])
    if not popped or not isinstance(popped[0], bytes):
        return 0
    key, version = map(int, popped[0].split())
    batch = Batch(plan, board, session.sidecar, [key])
    replies = session.pipeline(batch.commands)
    report.kinds["told"] += 1
    return batch.judge(report, replies, told={key: version}) if replies else 0


def told_list(sidecar):
    return f"told:{sidecar}"


class KeyChooser:
    """Zipf over the keys of one writer; keys at rest are left out."""

    def __init__(self, plan, board, number):
        self.board = board
        self.own = range(number, plan.keyspace.keys, plan.keyspace.writers)
        self.weights = plan.cumulative_weights(len(self.own))
        self.resting = {}  # key -> when its uncertain write was sent

    def choose(self, count):
        drawn = dict.fromkeys(random.choices(self.own, cum_weights=self.weights, k=count))
        self.wake()
        return [key for key in drawn if key not in self.resting]

    def wake(self):
        if not self.resting:
            return
        now, settled_at = time.monotonic(), self.board.settled_at.value
        if settled_at <= now:
            self.resting = {key: since for key, since in self.resting.items() if max(since, settled_at - REST_S) + REST_S > now}

    def rest(self, key):
        self.resting[key] = time.monotonic()


class Writer:
    def __init__(self, plan, board, number, report):
        self.plan = plan
        self.board = board
        self.number = number
        self.report = report
        self.keyspace = plan.keyspace
        self.sessions = [Session(plan, report, sidecar, random.choice((2, 3))) for sidecar in range(max(1, len(plan.sidecars)))]
        self.direct = ClusterClient(plan.addresses, timeout=1.0, routes=plan.routes)
        self.chooser = KeyChooser(plan, board, number)
        self.flushes_entered = 0

    def run(self):
        board = self.board
        while not board.stop.value:
            if board.pause.value:
                self.pause()
                continue
            if board.total_writes() * READS_PER_WRITE > board.total_reads():
                time.sleep(PAUSE_S)
                continue
            keys = self.chooser.choose(random.randint(1, WRITE_BATCH_MAX))
            way = self.choose_way()
            if not keys or way == "nobody":
                time.sleep(PAUSE_S)
                continue
            self.write(keys, way)
            self.report.operations += len(keys)
            board.writes[self.number] = self.report.operations

    def pause(self):
        """Until nobody wants it any more; a flush of all keys is entered as a deletion of each."""
        board = self.board
        self.chooser.wake()
        board.paused[self.number] = not self.chooser.resting
        time.sleep(0.005)
        if board.pause.value:
            return
        board.paused[self.number] = 0
        number, sent, acknowledged, sidecar = board.flushed
        if number > self.flushes_entered:
            self.flushes_entered = number
            for key in self.chooser.own:
                write = Write(key, board.sent[key], sent, acknowledged, acknowledged > 0, DELETED)
                self.report.add_write(write)
                if not write.certain:
                    self.chooser.rest(key)
                    continue
                if sidecar >= 0:
                    board.own[int(sidecar)][key] = write.version
                self.publish(write)

    def choose_way(self):
        """None: straight to the cluster; or the number of a sidecar; "nobody" when all are away."""
        straight = self.plan.straight and (self.number == 0 or random.random() < 0.3)
        here = [sidecar for sidecar in range(len(self.sessions)) if not self.board.away[sidecar]]
        if straight:
            return None
        return random.choice(here) if here else "nobody"

    def write(self, keys, sidecar):
        writes = [self.begin(key) for key in keys]
        read_backs = [None] * len(writes)
        if sidecar is None:
            self.write_straight(writes)
        else:
            read_backs = self.write_through(sidecar, writes)
        acknowledged = [write for write in writes if write.certain]
        for write in acknowledged:
            if sidecar is not None:
                self.board.own[sidecar][write.key] = write.version
            self.publish(write)
        if self.plan.confirm:
            self.confirm(acknowledged)
        for write, read_back in zip(writes, read_backs):
            self.report.add_write(write)
            if not write.certain:
                self.chooser.rest(write.key)
            if read_back is not None:
                self.check_read_back(write, sidecar, *read_back)
        if self.plan.told:
            self.tell([write for write in writes if write.certain])

    def begin(self, key):
        board = self.board
        version = board.sent[key] + 1
        write = Write(key, version, time.monotonic(), 0.0, False, self.keyspace.choose_life(key, random))
        if write.lives != STAYS:
            board.absent_from[key] = 0.0 if write.lives == DELETED else write.sent + write.lives
            board.absent[key] = version
        board.sent[key] = version
        return write

    def publish(self, write):
        """Says on the board that it is acknowledged."""
        board = self.board
        board.expired_at[write.key] = write.acknowledged + write.lives if write.lives > 0 else 0.0
        board.written[write.key] = write.version

    def write_through(self, sidecar, writes):
        """One pipeline, some with a read of the same key right behind: (answer, when it was in) of that read, or None."""
        commands, wanted, parsers = [], [], []
        for write in writes:
            command, reply = self.keyspace.write_command(write)
            commands.append(command)
            wanted.append(reply)
            read_back = random.random() < 0.3
            parsers.append(self.keyspace.choose_reads([write.key], random)[0] if read_back else None)
            if read_back:
                commands.append(parsers[-1][0])
        replies = self.sessions[sidecar].pipeline(commands)
        if replies is None:
            self.report.uncertain["sidecar connection lost"] += len(writes)
            return [None] * len(writes)
        answered = time.monotonic()
        replies = iter(replies)
        read_backs = []
        for write, expected, parser in zip(writes, wanted, parsers):
            self.outcome(write, next(replies), expected, answered, f"sidecar {sidecar}")
            read_backs.append((parser, next(replies), answered) if parser else None)
        return read_backs

    def outcome(self, write, reply, expected, answered, way):
        if isinstance(reply, ReplyError):
            self.report.uncertain[f"error, {way}"] += 1
            if way != "straight":
                self.report.error(reply)
        elif expected is not None and reply != expected:
            self.report.violation(f"{way}: key {write.key}: {reply!r} in answer to a write")
        else:
            write.certain = True
            write.acknowledged = answered

    def write_straight(self, writes):
        for write in writes:
            command, expected = self.keyspace.write_command(write)
            try:
                write.sent = time.monotonic()
                if write.lives > 0:
                    self.board.absent_from[write.key] = write.sent + write.lives
                reply = self.direct.call(*command)
            except OSError as error:
                self.report.uncertain[f"straight: {type(error).__name__}"] += 1
                continue
            except ReplyError as error:
                reply = error
            self.outcome(write, reply, expected, time.monotonic(), "straight")

    def confirm(self, writes):
        """Takes back what no replica is known to have."""
        by_owner = {}
        for write in writes:
            try:
                by_owner.setdefault(self.direct.owner(keyspace.name(write.key)), []).append(write)
            except (OSError, ReplyError):
                write.certain = False
        for address, group in by_owner.items():
            for write, confirmed in zip(group, self.confirm_at(address, group)):
                if not confirmed and not self.confirm_one(write):
                    self.report.uncertain["no replica confirmed it"] += 1
                    write.certain = False

    def confirm_at(self, address, writes):
        """All writes of one node in one round trip; what is refused there (a slot on its way) is for confirm_one."""
        commands = [self.keyspace.probe_command(write.key) for write in writes]
        sync = ("SET", "{%s}:sync" % keyspace.name(writes[0].key), "1")
        try:
            *probes, stored, replicas = self.direct.call_at(address, [*commands, sync, ("WAIT", "1", str(CONFIRM_MS))])
        except OSError:
            return [False] * len(writes)
        if isinstance(stored, ReplyError) or isinstance(replicas, ReplyError) or replicas < 1:
            return [False] * len(writes)
        return [self.has(write, probe) for write, probe in zip(writes, probes)]

    def confirm_one(self, write):
        name = keyspace.name(write.key)
        answer = self.direct.confirm_replicated(name, self.keyspace.probe_command(write.key), CONFIRM_MS)
        return answer is not None and self.has(write, answer[0])

    def has(self, write, probe):
        """Whether what the upstream says now is what this write made of the key. Nobody else writes it."""
        if isinstance(probe, ReplyError):
            return False
        what = self.keyspace.probed(write.key, probe)
        return what == (ABSENT if write.lives == DELETED else write.version) or (what == ABSENT and write.lives > 0)

    def check_read_back(self, write, sidecar, read, reply, answered):
        """A read in the same pipeline behind a write, on a key nobody else writes: exactly that version."""
        command, keys, parse = read
        if isinstance(reply, ReplyError):
            self.report.error(reply)
            return
        if not write.certain:
            return
        try:
            what = parse(keys, reply, self.board)[0]
        except (WrongValue, ValueError, TypeError) as error:
            self.report.violation(f"sidecar {sidecar}: {command[0]}: {error}")
            return
        self.report.kinds["read back"] += 1
        expired = what == ABSENT and write.lives > 0 and answered >= write.sent + write.lives - 0.01
        right = what == ABSENT if write.lives == DELETED else what in (write.version, PRESENT) or expired
        if not right:
            self.report.violation(f"key {write.key}, sidecar {sidecar}: the writer's own pipelined {command[0]} behind its "
                                  f"write of version {write.version} got {reply!r:.80}")

    def tell(self, writes):
        """Messages to the readers, one list for each sidecar, sent when the write is certain."""
        for write in writes[:1]:
            sidecar = random.randrange(len(self.sessions))
            try:
                self.direct.call("RPUSH", told_list(sidecar), f"{write.key} {write.version}")
            except (OSError, ReplyError):
                pass


def writer(plan, board, number, report):
    Writer(plan, board, number, report).run()
