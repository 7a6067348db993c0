"""What is done to the cluster, the sidecars and the network between them during a run, and what excuses that gives.

Each fault is a method of Faults, does its worst, waits until the cluster is whole again, and says in a few words what it did.
While one is on, and for a moment after, errors are no surprise; wrong answers are, always.
"""

import re
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import keyspace
from cluster_client import CLIENT_NAME, ClusterClient
from resp import Client, ReplyError
from servers import SLOTS, ServerError, key_slot, wait_for
from workers import Batch, Report

PROBE_INTERVAL_S = 0.02
RECOVERY_MAX_S = 60.0
HANDSHAKE_S = 40.0
TAIL_S = 2.0            # errors are expected for this long after the cluster has recovered
LANDING_S = 2.0         # what was held up may land for this long after it was let go
WAKING_KEYS = 400       # read from a sidecar at the moment it wakes
SMALL_TABLE = 100
TABLE = 1_000_000
MIGRATE_KEYS_MAX = 50
MIGRATE_TIMEOUT_MS = 5000
FOREVER = 1e18


class Probe(threading.Thread):
    """Writes and reads one key again and again until both succeed; `recovered` is when the answers were in."""

    def __init__(self, open_client, key):
        super().__init__(daemon=True)
        self.open_client = open_client
        self.key = key
        self.recovered = None
        self.last_error = None
        self.give_up_at = time.monotonic() + RECOVERY_MAX_S

    def run(self):
        client = None
        while time.monotonic() < self.give_up_at:
            try:
                client = client or self.open_client()
                client.call("SET", self.key, "probe")
                if client.call("GET", self.key) == b"probe":
                    self.recovered = time.monotonic()
                    return
            except ReplyError as error:
                self.last_error = error
            except OSError as error:
                self.last_error = error
                client = None
            time.sleep(PROBE_INTERVAL_S)


def key_in_slot_of(node, cluster, label):
    """A key of our own whose slot the node owns."""
    owned = [(first, last) for owner, first, last in cluster.slot_ranges() if owner is node]
    for number in range(100_000):
        key = f"{label}:{number}"
        if any(first <= key_slot(key) <= last for first, last in owned):
            return key
    raise ServerError(f"no key found for a slot of {node.address}")


def clients_of(node):
    """The node's connections as dicts, but for our own, the load's straight ones and the replication's."""
    with node.client() as client:
        own = client.call("CLIENT", "ID")
        for line in client.call("CLIENT", "LIST").decode().splitlines():
            fields = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
            if int(fields["id"]) != own and fields["name"] != CLIENT_NAME and not set("SM") & set(fields["flags"]):
                yield fields


def kind_of_client(fields):
    if any(int(fields.get(name, 0)) for name in ("sub", "psub", "ssub")):
        return "subscription"
    return "fill" if "t" in fields["flags"] else "data"


@dataclass
class Window:
    """When errors are excused, and of which sidecars it is excused that they drop their clients."""

    what: str
    first: float
    last: float = FOREVER
    dropping: tuple = ()


class Faults:
    """All the ways to hurt, over one cluster and its sidecars. Runs in the main thread: servers are started from it."""

    KINDS = ("kill_connections", "kill_primary", "kill_sidecar", "failover", "move_slots", "cut", "sleep", "flush",
             "stop_primary", "isolate", "split", "small_table")

    OF_SIDECARS = ("kill_sidecar", "cut", "sleep", "split")  # can't be done without any

    def __init__(self, cluster, sidecars, fabric, board, plan, chance, long_sleep_s):
        self.cluster = cluster
        self.sidecars = sidecars
        self.fabric = fabric
        self.board = board
        self.plan = plan
        self.chance = chance
        self.long_sleep_s = long_sleep_s
        self.report = Report("faults")  # of the reads made here
        self.windows = []
        self.recoveries = []            # (what, straight, through a sidecar)
        self.direct = ClusterClient(plan.addresses, timeout=5.0, routes=plan.routes)
        self.flushes = 0
        self.weather = None

    def run(self, kind):
        """One fault from its beginning until all is well again; returns what was done."""
        window = Window(kind, time.monotonic())
        self.windows.append(window)
        self.board.settled_at.value = FOREVER
        try:
            done = getattr(self, kind)(window)
            self.fabric.heal()
            self.cluster.wait_ok(RECOVERY_MAX_S)
            self.wait_for_replicas()
        except (ServerError, ReplyError, OSError) as error:
            raise ServerError(f"{kind}: {error!r}\n{self.picture()}") from None
        window.last = time.monotonic() + TAIL_S
        self.board.settled_at.value = time.monotonic() + LANDING_S
        return done

    def picture(self):
        """How the nodes see the cluster, for who has to find out why it is not whole."""
        views = []
        for node in self.cluster.nodes:
            try:
                views.append(f"{node.address} ({node.public_port}): " + node.call("CLUSTER", "NODES").decode())
            except (OSError, ReplyError) as error:
                views.append(f"{node.address} ({node.public_port}): {error}")
        return "\n".join(views)

    def expected(self, moment):
        """Whether an error of this moment is no surprise."""
        planned = any(window.first <= moment <= window.last for window in self.windows)
        return planned or self.weather is not None and self.weather.bad_between(moment - TAIL_S, moment + PROBE_INTERVAL_S)

    def dropping_expected(self, moment, sidecar):
        return any(window.first <= moment <= window.last and sidecar in window.dropping for window in self.windows)

    # What they share.

    def wait_for_replicas(self):
        wait_for(self._replicas_in_sync, RECOVERY_MAX_S, "every replica to be in sync")

    def _replicas_in_sync(self):
        following = 0
        for node in self.cluster.nodes:
            try:
                info = node.info("replication")
            except (OSError, ReplyError):
                return False
            following += info.get("role") == "slave" and info.get("master_link_status") == "up"
        return following == len(self.cluster.nodes) - len(self.cluster.primaries())

    def hot_primary(self):
        """Owner of one of the hottest keys."""
        return self.cluster.owner_of(keyspace.name(self.chance.randrange(8)))

    def any_sidecar(self):
        return self.chance.randrange(max(1, len(self.sidecars)))

    def probe(self, what, key, sidecar):
        """Seconds until the key could be written and read straight, and through the sidecar, from now; noted."""
        started = time.monotonic()
        addresses = [node.address for node in self.cluster.nodes if node.alive]
        straight = Probe(lambda: ClusterClient(addresses, 1.0, routes=self.plan.routes), key + ":straight{%s}" % key)
        through = Probe(lambda: Client(self.sidecars[sidecar].address, timeout=self.plan.answer_bound_s) if self.sidecars
                        else ClusterClient(addresses, 1.0, routes=self.plan.routes), key)
        probes = ((straight, "straight"), (through, f"through sidecar {sidecar}"))
        for each, _ in probes:
            each.start()
        for each, way in probes:
            each.join()
            if each.recovered is None:
                raise ServerError(f"no service {way} within {RECOVERY_MAX_S} s: {each.last_error}")
        if not (self.weather and self.weather.stalled_between(started, through.recovered)):
            self.recoveries.append((what, straight.recovered - started, through.recovered - started))
        return f"served again after {straight.recovered - started:.2f} s, by a sidecar after {through.recovered - started:.2f} s"


    # The faults.

    def kill_connections(self, _window):
        wanted = self.chance.choice(("fill", "data", "subscription", "all", "all"))
        victims = self.chance.choice((self.cluster.nodes, [self.hot_primary()]))
        key = key_in_slot_of(self.hot_primary(), self.cluster, "probe")
        killed = 0
        for node in victims:
            for fields in list(clients_of(node)):
                if wanted in ("all", kind_of_client(fields)):
                    killed += node.call("CLIENT", "KILL", "ID", fields["id"])
        text = self.probe(f"CLIENT KILL ({wanted})", key, self.any_sidecar())
        return f"CLIENT KILL of {killed} connections ({wanted}) on {len(victims)} nodes: {text}"

    def kill_primary(self, _window):
        victim = self.hot_primary()
        key = key_in_slot_of(victim, self.cluster, "probe")
        victim.kill()
        text = self.probe("kill -9 of a primary", key, self.any_sidecar())
        time.sleep(self.chance.uniform(0, 1))
        victim.start()
        return f"kill -9 of {victim.address}: {text}"

    def kill_sidecar(self, window):
        number = self.any_sidecar()
        window.dropping = (number,)
        self.sidecars[number].kill()
        self.board.away[number] = 1
        time.sleep(self.chance.uniform(0, 0.5))
        self.sidecars[number].start()
        self.board.away[number] = 0
        return f"kill -9 of sidecar {number}, and restarted"

    def failover(self, _window):
        primary = self.hot_primary()
        replica = self.cluster.replicas_of(primary)[0]
        key = key_in_slot_of(primary, self.cluster, "probe")
        self.cluster.failover(replica)
        text = self.probe("manual failover", key, self.any_sidecar())
        return f"manual failover from {primary.address} to {replica.address}: {text}"

    def move_slots(self, _window):
        source = self.hot_primary()
        target = self.chance.choice([node for node in self.cluster.primaries() if node is not source])
        hot = [key_slot(keyspace.name(key)) for key in range(self.plan.keyspace.keys)]
        slots = [slot for slot in dict.fromkeys(hot) if self.owner_is(source, slot)][:self.chance.randint(3, 25)]
        for here, there in ((source, target), (target, source)):
            self.cluster.wait_ok()
            for slot in slots:
                self.open_slot(slot, here, there)
            self.migrate(slots, here, there, MIGRATE_KEYS_MAX // 10)
            time.sleep(self.chance.uniform(0.1, 0.8))  # slots of which some keys are there, some here
            for slot in slots:
                while self.migrate([slot], here, there, MIGRATE_KEYS_MAX):
                    pass
                self.close_slot(slot, here, there)
            time.sleep(self.chance.uniform(0.0, 0.8))
        return f"{len(slots)} slots moved from {source.address} to {target.address} and back"

    def owner_is(self, node, slot):
        return any(owner is node and first <= slot <= last for owner, first, last in self.cluster.slot_ranges())

    def open_slot(self, slot, source, target):
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.cluster.node_id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.cluster.node_id(target))

    @staticmethod
    def migrate(slots, source, target, keys_max):
        """Moves some keys of each slot; how many there were."""
        moved = 0
        with source.client(timeout=MIGRATE_TIMEOUT_MS / 1000 + 5) as client:
            for slot in slots:
                keys = client.call("CLUSTER", "GETKEYSINSLOT", slot, keys_max)
                if keys:
                    client.call("MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS", *keys)
                moved += len(keys)
        return moved

    def close_slot(self, slot, source, target):
        owner = self.cluster.node_id(target)
        for node in (target, source, *(node for node in self.cluster.primaries() if node not in (source, target))):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", owner)

    def cut(self, _window):
        """Between one or all sidecars and one or all nodes."""
        how = self.chance.choice(("stall", "stall", "mute", "reset"))
        number = self.any_sidecar()
        pids = self.chance.choice(([self.sidecars[number].pid], [self.sidecars[number].pid], self.pids_of_sidecars()))
        victims = self.chance.choice(([self.hot_primary()], [self.hot_primary()], self.cluster.nodes))
        seconds = self.chance.choice((0.3, 1.2, 3.0))
        self.fabric.cut(pids, [node.number for node in victims], how)
        time.sleep(seconds)
        self.fabric.heal()
        return f"{how} for {seconds} s between {len(pids)} sidecars and {len(victims)} nodes"

    def pids_of_sidecars(self):
        return [sidecar.pid for sidecar in self.sidecars]

    def sleep(self, window):
        """SIGSTOP; requests reach it just before it wakes, and must not be answered by what it knew when it fell asleep."""
        number = self.any_sidecar()
        sidecar = self.sidecars[number]
        clients = [sidecar.client(protocol=protocol, timeout=self.plan.answer_bound_s) for protocol in (2, 3)]
        seconds = self.chance.choice((self.long_sleep_s, 1.5))
        sidecar.signal(signal.SIGSTOP)
        self.board.away[number] = 1
        time.sleep(seconds)
        batches = []
        hot = range(min(WAKING_KEYS, self.plan.keyspace.keys))
        for client in clients:
            batches.append(Batch(self.plan, self.board, number, list(hot)))
            for command in batches[-1].commands:
                client.send(*command)
        sidecar.signal(signal.SIGCONT)
        checked = 0
        for client, batch in zip(clients, batches):
            checked += batch.judge(self.report, [client.read() for _ in batch.reads])
            client.close()
        self.report.operations += checked
        self.board.away[number] = 0
        return f"sidecar {number} stopped for {seconds} s; {checked} of {len(hot) * 2} reads sent before it woke were answered"

    def flush(self, _window):
        """FLUSHALL while all writers pause: a deletion of every key."""
        board = self.board
        board.settled_at.value = time.monotonic()
        with self.paused():
            for key in range(self.plan.keyspace.keys):
                board.sent[key] += 1
                board.absent_from[key] = 0.0
                board.absent[key] = board.sent[key]
            straight = self.plan.straight and (not self.sidecars or self.chance.random() < 0.5)
            through = -1 if straight else self.any_sidecar()
            sent = time.monotonic()
            done = self.flush_all(through)
            self.flushes += 1
            board.flushed[:] = [self.flushes, sent, time.monotonic() if done else 0.0, through]
        return f"FLUSHALL {'straight' if through < 0 else f'through sidecar {through}'}{'' if done else ', which failed'}"

    @contextmanager
    def paused(self):
        board = self.board
        board.pause.value = 1
        wait_for(lambda: all(board.paused), HANDSHAKE_S, "the writers to pause")
        yield
        board.pause.value = 0
        wait_for(lambda: not any(board.paused), HANDSHAKE_S, "the writers to go on")

    def flush_all(self, through):
        try:
            if through >= 0:
                return self.sidecars[through].call("FLUSHALL") == b"OK"
            return all(node.call("FLUSHALL") == b"OK" for node in self.cluster.primaries())
        except (OSError, ReplyError) as error:
            self.report.error(error)
            return False

    def stop_primary(self, _window):
        """SIGSTOP until its replica has taken over; when it goes on it believes for a moment that it still is primary."""
        victim = self.hot_primary()
        key = key_in_slot_of(victim, self.cluster, "probe")
        victim.signal(signal.SIGSTOP)
        try:
            if self.chance.random() < 0.3:
                time.sleep(0.6)
                return f"{victim.address} stopped for 0.6 s"
            other = next(node for node in self.cluster.nodes if node is not victim)
            wait_for(lambda: self.failed_over(victim, other), RECOVERY_MAX_S, "a replica to take over")
            text = self.probe("a stopped primary", key, self.any_sidecar())
            time.sleep(self.chance.uniform(0, 1.5))
        finally:
            victim.signal(signal.SIGCONT)
        return f"{victim.address} stopped until after the failover: {text}"

    def failed_over(self, old, witness):
        """Whether the witness knows other owners for all slots. Those of a failed primary are nobody's for a while."""
        view = witness.call("CLUSTER", "SLOTS")
        served = sum(last - first + 1 for first, last, *_ in view)
        return served == SLOTS and all(self.cluster.node_at(entry[2][1]) is not old for entry in view)

    def isolate(self, _window):
        """A primary that no other node hears, but every sidecar does."""
        victim = self.hot_primary()
        how = self.chance.choice(("stall", "reset"))
        self.isolate_from_nodes(victim, how)
        if self.chance.random() < 0.25:
            time.sleep(0.6)
            return f"{victim.address} cut from the other nodes for 0.6 s ({how})"
        other = next(node for node in self.cluster.nodes if node is not victim)
        wait_for(lambda: self.failed_over(victim, other), RECOVERY_MAX_S, "a replica to take over")
        time.sleep(self.chance.uniform(0, 2))
        return f"{victim.address} cut from the other nodes until after the failover ({how})"

    def isolate_from_nodes(self, victim, how):
        others = [node for node in self.cluster.nodes if node is not victim]
        self.fabric.cut([victim.pid], [node.number for node in others], how)
        self.fabric.cut([node.pid for node in others], [victim.number], how)

    def split(self, _window):
        """A primary and a sidecar on one side, all others on the other."""
        victim, number = self.hot_primary(), self.any_sidecar()
        self.isolate_from_nodes(victim, "stall")
        self.fabric.cut([self.sidecars[number].pid], [node.number for node in self.cluster.nodes if node is not victim], "stall")
        majority = [each.pid for each in self.sidecars if each is not self.sidecars[number]]
        self.fabric.cut(majority, [victim.number], "stall")
        other = next(node for node in self.cluster.nodes if node is not victim)
        wait_for(lambda: self.failed_over(victim, other), RECOVERY_MAX_S, "a replica to take over")
        time.sleep(self.chance.uniform(0, 2))
        return f"{victim.address} and sidecar {number} cut from all others until after the failover"

    def small_table(self, _window):
        for node in self.cluster.nodes:
            node.call("CONFIG", "SET", "tracking-table-max-keys", SMALL_TABLE)
        seconds = self.chance.uniform(1.5, 3)
        time.sleep(seconds)
        for node in self.cluster.nodes:
            node.call("CONFIG", "SET", "tracking-table-max-keys", TABLE)
        return f"tracking table of {SMALL_TABLE} keys for {seconds:.1f} s"


def calls_of(nodes, commands):
    """How many of these commands the nodes have served since they started; those that don't run count nothing."""
    total = 0
    for node in nodes:
        if node.alive:
            stats = node.info("commandstats")
            for command in commands:
                match = re.search(r"calls=(\d+)", stats.get(f"cmdstat_{command}", ""))
                total += int(match[1]) if match else 0
    return total
