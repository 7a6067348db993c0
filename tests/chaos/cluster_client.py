"""A client that routes by itself: the way straight to the cluster, past the sidecar."""

from resp import Client, ReplyError, RespTimeout
from servers import key_slot

CLIENT_NAME = "chaos-direct"  # by which CLIENT KILL spares these connections
REDIRECTIONS_MAX = 8


class ClusterClient:
    """Follows MOVED and ASK; every other failure is the caller's. A write is sent again only after a redirection."""

    def __init__(self, seeds, timeout, name=CLIENT_NAME):
        self.name = name
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
                address = f"{primary[0].decode()}:{primary[1]}"
                for slot in range(first, last + 1):
                    self._owners[slot] = address
            return
        raise RespTimeout("no node of the cluster answers")

    def owner(self, key):
        slot = key_slot(key)
        if slot not in self._owners:
            self.learn()
        return self._owners[slot]

    def call(self, *args):
        """One command with its key as the second argument. OSError, or ReplyError as the cluster said it."""
        key = args[1]
        address, asking = self.owner(key), False
        for _ in range(REDIRECTIONS_MAX):
            try:
                client = self._client(address)
                if asking:
                    client.call("ASKING")
                return client.call(*args)
            except ReplyError as error:
                if error.code not in ("MOVED", "ASK"):
                    raise
                asking = error.code == "ASK"
                address = str(error).split(" ")[2]
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

    def confirm_replicated(self, key, timeout_ms):
        """True when a replica has everything its primary was sent before this call: a write of our own into the same slot,
        and WAIT behind it on the same connection. (WAIT alone covers only its own connection's writes.)"""
        sync_key = "{%s}:sync" % key
        try:
            self.call("SET", sync_key, "1")
            return self._client(self.owner(sync_key)).call("WAIT", 1, timeout_ms) >= 1
        except (OSError, ReplyError):
            return False
