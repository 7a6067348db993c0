"""What is done to the cluster during the run, and how long the service was away for it."""

import re
import threading
import time

from cluster_client import CLIENT_NAME, ClusterClient
from resp import Client, ReplyError
from servers import ServerError, key_slot, wait_for

PROBE_INTERVAL_S = 0.02
RECOVERY_MAX_S = 60.0
HANDSHAKE_S = 30.0


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


def probe_both_ways(cluster, sidecar_address, key, bound_s):
    """Seconds until the key could be written and read straight, and through the sidecar, from now."""
    started = time.monotonic()
    addresses = [node.address for node in cluster.nodes if node.alive]
    straight = Probe(lambda: ClusterClient(addresses, timeout=1.0), key + ":straight{%s}" % key)
    through = Probe(lambda: Client(sidecar_address, timeout=bound_s) if sidecar_address
                    else ClusterClient(addresses, timeout=1.0), key)
    straight.start()
    through.start()
    straight.join()
    through.join()
    for probe, way in ((straight, "straight"), (through, "through the sidecar")):
        if probe.recovered is None:
            raise ServerError(f"no service {way} within {RECOVERY_MAX_S} s: {probe.last_error}")
    return straight.recovered - started, through.recovered - started


def kill_connections_of_others(cluster):
    """CLIENT KILL of every normal connection that is not the load's own straight one: all of the sidecar's. Returns how many."""
    killed = 0
    for node in cluster.nodes:
        if not node.alive:
            continue
        with node.client() as client:
            own = client.call("CLIENT", "ID")
            for line in client.call("CLIENT", "LIST", "TYPE", "NORMAL").decode().splitlines():
                fields = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
                if int(fields["id"]) != own and fields["name"] != CLIENT_NAME:
                    killed += client.call("CLIENT", "KILL", "ID", fields["id"])
    return killed


class CarefulWriters:
    """While entered, every write counts only when a replica has it; all that went to `victim` before has been replicated."""

    def __init__(self, board, cluster, victim):
        self.board = board
        self.cluster = cluster
        self.victim = victim

    def __enter__(self):
        self.board.careful.value = 1
        wait_for(lambda: all(self.board.careful_seen), HANDSHAKE_S, "the writers to become careful")
        direct = ClusterClient(self.cluster.addresses, timeout=5.0)
        try:
            key = key_in_slot_of(self.victim, self.cluster, "sync")
            wait_for(lambda: direct.confirm_replicated(key, 1000), HANDSHAKE_S, "the victim's replica to be in sync")
        finally:
            direct.close()

    def __exit__(self, *_):
        self.board.careful.value = 0


def kill_primary(cluster, board, sidecar_address, victim, bound_s):
    """kill -9: (seconds to the cluster's recovery, seconds to the sidecar's, GETs the victim had served till then)."""
    key = key_in_slot_of(victim, cluster, "probe")
    with CarefulWriters(board, cluster, victim):
        gets = calls_of_get([victim])
        victim.kill()
        straight, through = probe_both_ways(cluster, sidecar_address, key, bound_s)
    return straight, through, gets


def lowest_slots(cluster, node, count):
    """The slots that redis-cli would move away from this node: its lowest."""
    owned = [slot for owner, first, last in cluster.slot_ranges() if owner is node for slot in range(first, last + 1)]
    return set(sorted(owned)[:count])


def reshard(cluster, slots, keys_by_heat):
    """Moves slots between two primaries, from the one where that hits the hottest keys: (from, to, keys moved)."""
    cluster.wait_ok()
    key_slots = [key_slot(key) for key in keys_by_heat]

    def heat(node):
        moving = lowest_slots(cluster, node, slots)
        return sum(1 / (rank + 1) for rank, slot in enumerate(key_slots) if slot in moving)

    source, *others = sorted(cluster.primaries(), key=heat, reverse=True)
    moving = lowest_slots(cluster, source, slots)
    cluster.reshard(source, others[0], slots)
    return source, others[0], sum(slot in moving for slot in key_slots)


def calls_of_get(nodes):
    """GETs these nodes have served since they started; those that don't run count nothing."""
    total = 0
    for node in nodes:
        if node.alive:
            match = re.search(r"calls=(\d+)", node.info("commandstats").get("cmdstat_get", ""))
            total += int(match[1]) if match else 0
    return total
