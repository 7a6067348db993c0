"""A client that routes by itself: the way straight to the cluster, past the sidecar."""

from resp import Client, ReplyError, RespTimeout
from servers import key_slot

CLIENT_NAME = "chaos-direct"  # by which CLIENT KILL spares these connections
REDIRECTIONS_MAX = 8


class ClusterClient:
    """Follows MOVED and ASK; every other failure is the caller's. A write is sent again only after a redirection."""

    def __init__(self, seeds, timeout, name=CLIENT_NAME, routes=None):
        """`routes`: where an address that the cluster announces is really reached, if elsewhere."""
        self.name = name
        self.routes = routes or {}
        self.last = None  # the connection that answered last
        self.seeds = list(seeds)
        self.timeout = timeout
        self._clients = {}
        self._owners = {}

    def close(self):
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, address):
        client = self._clients.get(address)
        if client is None or client.sock is None:
            client = Client(address, timeout=self.timeout)
            self._clients[address] = client
            client.call("CLIENT", "SETNAME", self.name)
        return client

    def learn(self):
        """Asks the seeds in turn for the topology."""
        for seed in self.seeds:
            try:
                ranges = self._client(seed).call("CLUSTER", "SLOTS")
            except (OSError, ReplyError):
                continue
            for first, last, primary, *_ in ranges:
                address = self._real(f"{primary[0].decode()}:{primary[1]}")
                for slot in range(first, last + 1):
                    self._owners[slot] = address
            return
        raise RespTimeout("no node of the cluster answers")

    def _real(self, address):
        return self.routes.get(address, address)

    def owner(self, key):
        slot = key_slot(key)
        if slot not in self._owners:
            self.learn()
        if slot not in self._owners:
            raise RespTimeout(f"nobody serves slot {slot}")  # its primary is called failed and no replica has taken over yet
        return self._owners[slot]

    def call(self, *args):
        """One command, its key the second argument (EVAL: its only key); MGET key by key. OSError, or ReplyError as the cluster said it."""
        key = args[3] if args[0] == "EVAL" else args[1]
        if args[0] == "MGET":
            return [self.call("GET", each) for each in args[1:]]
        address, asking = self.owner(key), False
        for _ in range(REDIRECTIONS_MAX):
            try:
                client = self._client(address)
                if asking:
                    client.call("ASKING")
                self.last = client
                return client.call(*args)
            except ReplyError as error:
                if error.code not in ("MOVED", "ASK"):
                    raise
                asking = error.code == "ASK"
                address = self._real(str(error).split(" ")[2])
                if not asking:
                    self._owners[key_slot(key)] = address
            except OSError:
                self._owners.clear()
                raise
        raise ReplyError(f"REDIRECTIONS more than {REDIRECTIONS_MAX} for {key}")

    def pipeline(self, commands):
        """The interface of resp.Client, one by one; error replies are values."""
        replies = []
        for command in commands:
            try:
                replies.append(self.call(*command))
            except ReplyError as error:
                replies.append(error)
        return replies

    def pipeline_by_owner(self, commands):
        """As pipeline(), in one round trip to each node; for a cluster at rest, whose topology is asked anew."""
        self.learn()
        replies, by_owner = [None] * len(commands), {}
        for index, command in enumerate(commands):
            by_owner.setdefault(self.owner(command[1]), []).append(index)
        for address, indexes in by_owner.items():
            answers = self._client(address).pipeline([commands[index] for index in indexes])
            for index, answer in zip(indexes, answers):
                replies[index] = answer
        return replies

    def call_at(self, address, commands):
        """The commands in one write to one node, whatever it owns: their replies, error replies as values."""
        return self._client(address).pipeline(commands)

    def confirm_replicated(self, key, probe, timeout_ms):
        """What `probe`, a read of the key, answers, when a replica has that and all before it; None when none says so.

        WAIT covers only its own connection's writes, so there is one of our own, into the same slot, on that connection. The
        read says that this primary is one that has the write in question: a new one may not.
        """
        try:
            answer = self.call(*probe)
            self.call("SET", "{%s}:sync" % key, "1")
            return (answer,) if self.last.call("WAIT", 1, timeout_ms) >= 1 else None
        except (OSError, ReplyError):
            return None
