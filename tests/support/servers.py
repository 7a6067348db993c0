"""Starts and ends the servers that tests need: single redis-servers, clusters, the sidecar. Standard library only.

    with Cluster(primaries=3, replicas=1) as cluster, Sidecar(cluster.url) as sidecar:
        sidecar.client(protocol=3).call("GET", "k")
        cluster.call("SET", "k", "v")                  # straight to the owner, follows MOVED and ASK
        victim = cluster.owner_of("k"); victim.kill(); ...; victim.start()

Everything listens on free ports of 127.0.0.1 and lives in temporary folders that are removed. Whatever was started is
ended when the program ends: by the `with` block, at exit, on SIGTERM, and even when the test itself is killed with -9
(each child asks the kernel for a SIGKILL at its parent's death). That last one follows the *thread* that started the
child, so servers are started from threads that live as long as they do: the main thread.

A server that does not come up raises ServerError with the end of its log.

NEARCACHED_REDIS_SERVER=PATH runs everything against another server (newer_servers.sh obtains some), NEARCACHED_BINARY=PATH
with another sidecar.
"""

import atexit
import binascii
import ctypes
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from resp import Client, ReplyError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_BINARY = REPOSITORY / "build" / "release" / "nearcached"
REDIS_SERVER = os.environ.get("NEARCACHED_REDIS_SERVER") or "redis-server"
BUS_OFFSET = 10_000  # Redis Cluster's own rule: bus port = port + 10000
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
LOG_TAIL_LINES = 200
SLOTS = 16384

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_created = []  # every server whose folder still exists, oldest first
_owner_pid = os.getpid()
_reserved_ports = {}  # port: its lock


class ServerError(RuntimeError):
    """A server didn't start, didn't stop, or a cluster didn't come together."""


def have(program):
    return shutil.which(program) is not None


def require(*programs):
    """Exit code 77 (CTest's skip) with a visible reason where a program is missing; a failure when NEARCACHED_CI is set."""
    missing = [program for program in programs if not have(REDIS_SERVER if program == "redis-server" else program)]
    if missing:
        print(f"SKIPPED: not installed: {', '.join(missing)}", flush=True)
        sys.exit(1 if os.environ.get("NEARCACHED_CI") else 77)


def key_slot(key):
    """Redis Cluster's slot of a key, hash tag included."""
    if isinstance(key, str):
        key = key.encode()
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % SLOTS


def free_port():
    """A port that is free together with its cluster bus port, both below the ephemeral range."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(11_000, 22_000)
        if port not in _reserved_ports and _reserve(port) and _can_bind(port) and _can_bind(port + BUS_OFFSET):
            return port
    raise ServerError("no free port found")


def _reserve(port):
    """Against other runs of tests on this machine too: a lock that ends with this process."""
    folder = Path(tempfile.gettempdir()) / f"nearcached-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _reserved_ports[port] = lock
    return True


def _can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def wait_for(condition, timeout, what, interval=0.02):
    """Polls `condition` until it is true and returns its value; ServerError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise ServerError(f"timed out after {timeout} s waiting for {what}")
        time.sleep(interval)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_everything():
    if os.getpid() != _owner_pid:  # a forked worker must not end its parent's servers
        return
    for server in _created[::-1]:
        server.close()


def _on_terminate(_signal, _frame):
    if os.getpid() != _owner_pid:
        os._exit(1)
    sys.exit(143)


atexit.register(_end_everything)
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _on_terminate)


class Server:
    """One child process in a temporary folder. Subclasses say how it is started and when it is ready."""

    name = "server"

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix=f"nearcached-{self.name}-"))
        self.process = None
        _created.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def _spawn(self, command, **options):
        self.process = subprocess.Popen([str(part) for part in command], cwd=self.directory, stdin=subprocess.DEVNULL,
                                        preexec_fn=_die_with_parent, **options)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9, and waits for the exit so that the port can be taken again. The folder stays."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()

    def stop(self, timeout=STOP_TIMEOUT_S):
        """SIGTERM, waits, returns the exit code; ServerError (after a kill -9) when it doesn't end in time."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"{self.name} did not end within {timeout} s of SIGTERM") from None
        return code

    def close(self):
        """Ends it without ceremony and removes its folder."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self in _created:
            _created.remove(self)


class RedisServer(Server):
    """One redis-server. `args` are further options: ["--maxmemory", "10mb"]. start() after kill() restarts it in place."""

    name = "redis"
    tls_options = ()  # of a subclass

    def __init__(self, args=(), binary=None, start=True, appendonly=False, password=None):
        super().__init__()
        self.binary = binary or REDIS_SERVER
        self.password = password
        self.port = free_port()
        self.first_args = []          # a configuration file and what must stand behind it
        self.public_port = self.port  # under which a cluster announces it
        self.args = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes" if appendonly else "no", *map(str, args)]
        if password is not None:
            self.args += ["--requirepass", password, "--masterauth", password]
        self.log_path = self.directory / "redis.log"
        if start:
            self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        auth = "" if self.password is None else f":{self.password}@"
        return f"redis://{auth}{self.address}"

    def start(self):
        if self.alive:
            raise ServerError(f"redis on {self.port} is already running")
        self._spawn([self.binary, *self.first_args, "--port", self.port, "--dir", self.directory, "--logfile", self.log_path, *self.args],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(self._answers, START_TIMEOUT_S, f"redis on {self.port}")
        except ServerError as error:
            self.kill()
            raise ServerError(f"{error}\n{self.log_tail()}") from None
        return self

    def _answers(self):
        if not self.alive:
            raise ServerError(f"redis on {self.port} exited with {self.process.poll()}")
        try:
            with self.client(timeout=1.0) as client:
                return client.call("PING") == b"PONG"
        except (OSError, ReplyError):
            return False

    def client(self, protocol=2, timeout=5.0):
        return Client(self.address, protocol=protocol, timeout=timeout, password=self.password)

    def call(self, *args):
        """One command over a connection of its own."""
        with self.client() as client:
            return client.call(*args)

    def info(self, section):
        return dict(line.split(":", 1) for line in self.call("INFO", section).decode().splitlines() if ":" in line)

    def log_tail(self):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])
        except OSError:
            return "(no log)"


class Cluster:
    """N primaries, each with `replicas` replicas, ready when created: every node says cluster_state:ok, replicas are in sync."""

    def __init__(self, primaries=3, replicas=0, node_timeout_ms=1000, appendonly=False, args=(), binary=None,
                 password=None):
        self.nodes = []
        self.password = password
        self._connections = {}
        self._owners = {}
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", node_timeout_ms, "--repl-diskless-sync-delay", 0,
                   *args]
        try:
            for _ in range(primaries * (1 + replicas)):
                self.nodes.append(self._make_node(args=options, binary=binary, appendonly=appendonly, password=password))
            self._create(replicas)
            self.wait_ok()
            if replicas:
                wait_for(lambda: self._replicas_synced(primaries * replicas), START_TIMEOUT_S, "the replicas to be in sync")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for connection in self._connections.values():
            connection.close()
        for node in self.nodes:
            node.close()

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    @property
    def url(self):
        auth = "" if self.password is None else f":{self.password}@"
        return f"redis+cluster://{auth}{','.join(self.addresses)}"

    def cli(self, *args, timeout=60):
        """redis-cli --cluster ...; returns its output, ServerError when it fails."""
        auth = [] if self.password is None else ["-a", self.password, "--no-auth-warning"]
        done = subprocess.run(["redis-cli", *auth, "--cluster", *map(str, args)], capture_output=True, text=True,
                              timeout=timeout, check=False)
        if done.returncode != 0:
            raise ServerError(f"redis-cli --cluster {args[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    @staticmethod
    def _make_node(**options):
        return RedisServer(**options)

    def _create(self, replicas):
        self.cli("create", *self.addresses, "--cluster-replicas", replicas, "--cluster-yes")

    def _replicas_synced(self, expected):
        synced = 0
        for node in self.nodes:
            info = node.info("replication")
            if info["role"] == "slave":
                synced += info["master_link_status"] == "up"
        return synced == expected

    def state_ok(self):
        """True when every running node says cluster_state:ok and serves all slots."""
        for node in self.nodes:
            if not node.alive:
                continue
            try:
                text = node.call("CLUSTER", "INFO")
            except (OSError, ReplyError):
                return False
            if b"cluster_state:ok" not in text or b"cluster_slots_ok:%d" % SLOTS not in text:
                return False
        return True

    def wait_ok(self, timeout=START_TIMEOUT_S):
        wait_for(self.state_ok, timeout, "cluster_state:ok on all nodes")

    def node_at(self, port):
        return next(node for node in self.nodes if int(port) in (node.port, node.public_port))

    def node_id(self, node):
        return node.call("CLUSTER", "MYID").decode()

    def primaries(self):
        """The running nodes that call themselves primary and own slots."""
        return sorted({node for node, _, _ in self.slot_ranges()}, key=lambda node: node.port)

    def replicas_of(self, node):
        lines = self._any_alive().call("CLUSTER", "REPLICAS", self.node_id(node))
        return [self.node_at(re.match(rb"\S+ \S*?:(\d+)", line)[1]) for line in lines]

    def slot_ranges(self):
        """(node, first, last) of every range, as a running node's CLUSTER SLOTS has it."""
        return [(self.node_at(entry[2][1]), entry[0], entry[1]) for entry in self._any_alive().call("CLUSTER", "SLOTS")]

    def owner_of(self, key):
        slot = key_slot(key)
        return next(node for node, first, last in self.slot_ranges() if first <= slot <= last)

    def _any_alive(self):
        for node in self.nodes:
            if node.alive:
                return node
        raise ServerError("no node of the cluster is running")

    def reshard(self, source, target, slots):
        """Moves `slots` slots with their keys from one primary to another."""
        self.cli("reshard", self._any_alive().address, "--cluster-from", self.node_id(source), "--cluster-to",
                 self.node_id(target), "--cluster-slots", slots, "--cluster-yes", timeout=120)

    def failover(self, replica):
        """Manual failover to `replica`; returns when it is primary."""
        replica.call("CLUSTER", "FAILOVER")
        wait_for(lambda: replica.info("replication")["role"] == "master", START_TIMEOUT_S, "the manual failover")

    def call(self, *args, key=None):
        """One command straight to the owner of its key (the second argument unless `key` says otherwise)."""
        key = args[1] if key is None else key
        slot = key_slot(key)
        address, asking = self._owners.get(slot) or self.owner_of(key).address, False
        for _ in range(16):
            client = self._connection(address)
            try:
                if asking:
                    client.call("ASKING")
                reply = client.call(*args)
                if not asking:
                    self._owners[slot] = address
                return reply
            except ReplyError as error:
                if error.code not in ("MOVED", "ASK"):
                    raise
                asking = error.code == "ASK"
                address = str(error).split(" ")[2]
            except OSError:
                self._owners.clear()
                raise
        raise ServerError(f"too many redirections for {key!r}")

    def _connection(self, address):
        client = self._connections.get(address)
        if client is None or client.sock is None:
            client = Client(address, password=self.password)
            self._connections[address] = client
        return client


class Sidecar(Server):
    """The program under test. `settings` become --set name=value; the admin port is free and random unless they name one.

    Its stderr is kept: `log` holds the last lines, wait_for_log() waits for one. `rss_bytes` and `cpu_seconds` come from /proc.
    """

    name = "sidecar"

    def __init__(self, upstream_url, settings=None, args=(), binary=None, unix_socket=False, start=True, environment=None):
        super().__init__()
        self.binary = Path(binary or os.environ.get("NEARCACHED_BINARY") or DEFAULT_BINARY)
        if not self.binary.exists():
            self.close()
            raise ServerError(f"{self.binary} does not exist: build it, or say where it is with NEARCACHED_BINARY")
        self.upstream_url = upstream_url
        self.port = free_port()
        self.admin_port = free_port()
        self.socket_path = self.directory / "nearcached.sock" if unix_socket else None
        self.settings = {"admin.listen": f"127.0.0.1:{self.admin_port}", **(settings or {})}
        self.args = list(args)
        self.environment = environment or {}
        self.log = deque(maxlen=LOG_TAIL_LINES)
        self._log_changed = threading.Condition()
        if start:
            self.start()

    def thread_states(self):
        """The letter of /proc/PID/task/TID/stat of every thread: "T" is stopped by a signal."""
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def command(self):
        listen = ["--listen", self.address]
        if self.socket_path:
            listen += ["--listen", f"unix:{self.socket_path}"]
        sets = [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]
        return [self.binary, *listen, "--upstream", self.upstream_url, *sets, *self.args]

    def start(self, timeout=START_TIMEOUT_S):
        self.log.clear()
        # The tests' own NEARCACHED_ variables are none of the daemon's settings.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEARCACHED_")}
        self._spawn(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**inherited, **self.environment})
        threading.Thread(target=self._collect_log, args=(self.process,), daemon=True).start()
        try:
            self.wait_for_log(r"\bready\b", timeout)
        except ServerError as error:
            self.kill()
            raise ServerError(f"{error}\ncommand: {' '.join(map(str, self.command))}\n" + "\n".join(self.log)) from None
        return self

    def _collect_log(self, process):
        for line in process.stderr:
            with self._log_changed:
                self.log.append(line.decode(errors="replace").rstrip("\n"))
                self._log_changed.notify_all()
        process.stderr.close()
        with self._log_changed:
            self._log_changed.notify_all()

    def wait_for_log(self, pattern, timeout=START_TIMEOUT_S):
        """The first kept line that matches `pattern`, waiting for it if need be."""
        deadline = time.monotonic() + timeout
        with self._log_changed:
            while True:
                for line in self.log:
                    if re.search(pattern, line):
                        return line
                if not self.alive:
                    raise ServerError(f"{self.binary.name} exited with {self.process.poll()}")
                if time.monotonic() > deadline:
                    raise ServerError(f"no line with {pattern!r} within {timeout} s")
                self._log_changed.wait(0.1)

    def client(self, protocol=2, timeout=5.0, unix=False, **auth):
        return Client(f"unix:{self.socket_path}" if unix else self.address, protocol=protocol, timeout=timeout, **auth)

    def call(self, *args):
        with self.client() as client:
            return client.call(*args)

    @property
    def rss_bytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServerError("the sidecar is not running")

    @property
    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
