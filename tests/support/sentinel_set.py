"""A master, its replicas and their sentinels, on this host."""

from servers import START_TIMEOUT_S, RedisServer, ServerError, wait_for

DOWN_AFTER_MS = 500


class SentinelSet:
    """Ready when created: replicas in sync, and the sentinels know each other and them."""

    def __init__(self, name="mymaster", replicas=2, sentinels=3, password=None, sentinel_password=None):
        self.name, self.password, self.sentinel_password = name, password, sentinel_password
        self.servers, self.sentinels = [], []
        try:
            self.servers.append(self._make_server(args=["--repl-diskless-sync-delay", 0], password=password))
            for _ in range(replicas):
                master = ["--replicaof", "127.0.0.1", self.servers[0].port]
                self.servers.append(self._make_server(args=["--repl-diskless-sync-delay", 0, *master], password=password))
            wait_for(lambda: self.servers[0].info("replication")["connected_slaves"] == str(replicas), START_TIMEOUT_S,
                     "the replicas")
            for _ in range(sentinels):
                self.sentinels.append(self._sentinel(self.servers[0].port, sentinels // 2 + 1))
            wait_for(lambda: self._complete(replicas, sentinels), START_TIMEOUT_S, "the sentinels to know each other")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _make_server(**options):
        return RedisServer(**options)

    def _sentinel(self, port, quorum):
        one = self._make_server(start=False)
        config = one.directory / "sentinel.conf"
        lines = [f"sentinel monitor {self.name} 127.0.0.1 {port} {quorum}",
                 f"sentinel down-after-milliseconds {self.name} {DOWN_AFTER_MS}",
                 f"sentinel failover-timeout {self.name} 3000"]
        if self.password is not None:
            lines.append(f"sentinel auth-pass {self.name} {self.password}")
        if self.sentinel_password is not None:
            lines += [f"requirepass {self.sentinel_password}", f"sentinel sentinel-pass {self.sentinel_password}"]
        config.write_text("\n".join(lines) + "\n")
        one.password = self.sentinel_password
        one.first_args = [config, "--sentinel"]
        one.args = ["--bind", "127.0.0.1", *one.tls_options]
        return one.start()

    def _complete(self, replicas, sentinels):
        for one in self.sentinels:
            fields = one.call("SENTINEL", "MASTER", self.name)
            facts = dict(zip(fields[::2], fields[1::2]))
            if int(facts[b"num-slaves"]) != replicas or int(facts[b"num-other-sentinels"]) != sentinels - 1:
                return False
        return True

    @property
    def url(self):
        auth = "" if self.password is None else f":{self.password}@"
        return f"redis+sentinel://{auth}{','.join(one.address for one in self.sentinels)}/{self.name}"

    @property
    def master(self):
        """The server that a sentinel which runs calls the master."""
        alive = next(one for one in self.sentinels if one.alive)
        host, port = alive.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return next(one for one in self.servers if one.address == f"{host.decode()}:{port.decode()}")

    def wait_master_but(self, old, timeout=20):
        """Another one than `old` that says so itself."""
        def switched():
            try:
                return self.master is not old and self.master.call("ROLE")[0] == b"master"
            except (OSError, ServerError):
                return False
        wait_for(switched, timeout, "another master")
        return self.master

    def close(self):
        for one in (*self.sentinels, *self.servers):
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
