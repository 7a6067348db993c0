"""The upstreams of crash_test.py: one server, a cluster without replicas, and a cluster whose replicas take over.

All of them keep what they have acknowledged (appendonly, appendfsync always), so that whatever is missing in the end the
sidecar has lost. fail() ends some of it, together with the sidecar; come_back() is called before the sidecar is started.
"""

import re
import signal
import time

from system import PATIENCE_S, SLOWNESS, Client, Cluster, RedisServer, ReplyError, ServerError, eventually

DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]


def all_at_once(servers):
    """kill -9 of all before any is waited for."""
    for server in servers:
        server.signal(signal.SIGKILL)
    for server in servers:
        server.kill()


class Single:
    """One server, which is killed and started again on its append-only file."""

    def __init__(self):
        self.server = RedisServer(DURABLE)
        self.url = self.server.url

    def fail(self, sidecar):
        all_at_once([sidecar, self.server])

    def come_back(self, _random):
        self.server.start()

    def wait_ready(self):
        """Until it serves every key."""

    def lost_by_itself(self):
        """Whether it may have lost acknowledged writes without anybody's help: then nobody can be judged."""
        return False

    def running(self):
        return [self.server]

    def call(self, *command):
        return self.server.call(*command)

    def read_all(self, names, clients):
        """[(name, value)] of the names that can be read now. `clients` keeps connections, by address."""
        return list(zip(names, self.connection(self.server.address, clients).call("MGET", *names)))

    @staticmethod
    def connection(address, clients):
        if address not in clients or clients[address].sock is None:
            clients[address] = Client(address, timeout=2.0)
        return clients[address]

    def close(self):
        self.server.close()


class OfACluster(Single):
    """Three primaries, of which one is killed and is back, with its append-only file, before the others miss it."""

    NODE_TIMEOUT_MS = 15_000
    REPLICAS = 0
    ARGS = DURABLE

    def __init__(self):
        self.cluster = Cluster(primaries=3, replicas=self.REPLICAS, node_timeout_ms=self.NODE_TIMEOUT_MS, args=self.ARGS)
        self.url = self.cluster.url
        self.victim = None
        self.turn = 0

    def choose_victim(self):
        """Each primary in turn."""
        primaries = self.cluster.primaries()
        self.turn += 1
        self.victim = primaries[self.turn % len(primaries)]

    def fail(self, sidecar):
        self.choose_victim()
        all_at_once([sidecar, self.victim])

    def come_back(self, random):
        time.sleep(random.uniform(0.0, 0.2))
        self.victim.start()

    def wait_ready(self):
        self.cluster.wait_ok(3 * PATIENCE_S)

    def running(self):
        return [node for node in self.cluster.nodes if node.alive]

    def call(self, *command):
        return self.cluster.call(*command)

    def read_all(self, names, clients):
        """Every node is asked for every name: what is not its own it refuses."""
        found = []
        for node in self.running():
            try:
                values = self.connection(node.address, clients).pipeline([("GET", name) for name in names])
            except OSError:
                continue
            found += [(name, value) for name, value in zip(names, values) if not isinstance(value, ReplyError)]
        return found

    def close(self):
        self.cluster.close()


class FailingOver(OfACluster):
    """Three primaries with a replica each, which takes over.

    Redis itself loses what a primary has acknowledged and its replica has not got yet, and nobody could tell that from what
    a sidecar lost. So the primary takes no more writes (CLIENT PAUSE) and its replica catches up before it is killed, with
    flushes unanswered in its sockets; then nothing may be lost.
    """

    NODE_TIMEOUT_MS = 1500 * SLOWNESS
    REPLICAS = 1
    ARGS = [*DURABLE, "--cluster-allow-replica-migration", "no"]  # each stays where it can be waited for
    PAUSE_MS = 60_000

    def __init__(self):
        super().__init__()
        self.killed = 0
        self.first_epoch = self.epoch()

    def epoch(self):
        """It grows by one with every election that somebody wins."""
        info = self.cluster.nodes[0].call("CLUSTER", "INFO").decode()
        return int(re.search(r"cluster_current_epoch:(\d+)", info)[1])

    def lost_by_itself(self):
        """A machine that stood still for longer than the nodes' timeout sees elections that nobody prepared."""
        self.wait_ready()
        return self.epoch() - self.first_epoch > self.killed

    def fail(self, sidecar):
        self.wait_ready()
        self.choose_victim()
        self.killed += 1
        replica, = eventually(lambda: self.cluster.replicas_of(self.victim), "its replica to be known", 3 * PATIENCE_S)
        with self.victim.client() as client:
            client.call("CLIENT", "PAUSE", self.PAUSE_MS, "WRITE")
            written = int(self.victim.info("replication")["master_repl_offset"])
            eventually(lambda: int(replica.info("replication")["slave_repl_offset"]) >= written, "the replica to catch up")
        all_at_once([sidecar, self.victim])

    def come_back(self, random):
        """The sidecar starts before, while or after the replica takes over."""
        if random.random() < 0.5:
            eventually(lambda: self.victim not in self.cluster.primaries(), "the replica to take over", 3 * PATIENCE_S)
        if random.random() < 0.5:
            self.start_victim()

    def start_victim(self):
        if self.victim is not None and not self.victim.alive:
            eventually(lambda: self.victim not in self.cluster.primaries(), "the replica to take over", 3 * PATIENCE_S)
            self.victim.start()

    def wait_ready(self):
        """All primaries have a replica again, so that the next one can be killed."""
        self.start_victim()
        self.cluster.wait_ok(3 * PATIENCE_S)
        eventually(self.replicas_are_there, "replicas in sync", 3 * PATIENCE_S)

    def replicas_are_there(self):
        try:
            infos = [node.info("replication") for node in self.cluster.nodes]
        except (OSError, ReplyError, ServerError):
            return False
        return sum(info["role"] == "slave" and info["master_link_status"] == "up" for info in infos) == 3
