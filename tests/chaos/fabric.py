"""The network between the processes of one run, as something that can be cut.

Every node of the cluster announces two ports of this process, one for clients and one for the cluster bus, and is found by
everybody at those: sidecars, other nodes, its replica. So what goes from one process to a node goes through here, and can be

    stall   no byte gets through, either way; what was sent meanwhile arrives when the cut ends, as TCP would send it again
    mute    the node hears, but is not heard: writes land, their answers and the invalidations don't come
    reset   connections are reset, new ones too

for one source and one target, and so also one way between two nodes. Who a connection belongs to is asked of the kernel
(the socket's number by its ports, and whose file it is), so nothing here needs privileges; and only of connections that a cut
may concern. What the load sends past the sidecars goes to the real ports, and is never cut.
"""

import errno
import multiprocessing
import os
import selectors
import signal
import socket
import struct
from collections import namedtuple

import servers
from servers import Cluster, RedisServer, ServerError, free_port, wait_for

CHUNK_BYTES = 1 << 17
BACKLOG_BYTES_MAX = 1 << 20  # per direction; above it the sender is not read
HOST = "127.0.0.1"

Ports = namedtuple("Ports", "real public public_bus")
Cut = namedtuple("Cut", "pids target how")  # target: a node's number; pids: of the processes cut from it


class Pipe:
    """One direction of a link: what was read on `source` and waits to be sent on `sink`."""

    __slots__ = ("source", "sink", "backlog", "link", "toward_node", "ended")

    def __init__(self, source, sink, link, toward_node):
        self.source = source
        self.sink = sink
        self.backlog = bytearray()
        self.link = link
        self.toward_node = toward_node
        self.ended = False


class Link:
    """One connection, from a process to a node; `how` is the cut that it is under."""

    def __init__(self, client, node, target, inode):
        self.client = client
        self.node = node
        self.target = target
        self.inode = inode  # of the other end of `client`
        self.how = None
        self.pipes = {client: Pipe(client, node, self, True), node: Pipe(node, client, self, False)}

    def passes(self, pipe):
        return self.how is None or (self.how == "mute" and pipe.toward_node)


class Switch:
    """The event loop of the forked process. Nothing of it runs in the parent."""

    def __init__(self, listeners, orders):
        self.listeners = listeners  # socket -> (number of the node, real port)
        self.orders = orders
        self.sockets = SocketNumbers()
        self.cuts = []
        self.files = {}             # pid -> the numbers of its sockets, as looked up for the present order or connection
        self.links = set()
        self.held = []              # accepted while stalled: (socket, target, port, inode)
        self.poller = selectors.DefaultSelector()
        self.masks = {}

    def run(self):
        for listener in self.listeners:
            self.poller.register(listener, selectors.EVENT_READ, listener)
        self.poller.register(self.orders, selectors.EVENT_READ, self.orders)
        while True:
            for key, mask in self.poller.select():
                if key.data is self.orders:
                    self.obey()
                elif key.fileobj in self.listeners:
                    self.accept(key.fileobj)
                else:
                    self.ready(key.fileobj, key.data, mask)

    def obey(self):
        try:
            self.cuts = self.orders.recv()
        except EOFError:
            os._exit(0)
        self.files.clear()
        for link in list(self.links):
            link.how = self.how(link.inode, link.target)
            if link.how == "reset":
                self.drop(link, reset=True)
            else:
                self.watch(link)
        held, self.held = self.held, []
        for client, target, port, inode in held:
            self.join(client, target, port, inode)
        self.orders.send(len(self.links))

    def how(self, inode, target):
        return next((cut.how for cut in self.cuts
                     if cut.target == target and any(inode in self.sockets_of(pid) for pid in cut.pids)), None)

    def sockets_of(self, pid):
        if pid not in self.files:
            self.files[pid] = sockets_of(pid)
        return self.files[pid]

    def accept(self, listener):
        try:
            client, peer = listener.accept()
        except OSError:
            return
        target, port = self.listeners[listener]
        self.files.clear()
        self.join(client, target, port, self.sockets.number(peer[1], client.getsockname()[1]))

    def join(self, client, target, port, inode):
        how = self.how(inode, target)
        if how == "reset":
            close(client, reset=True)
            return
        if how == "stall":
            self.held.append((client, target, port, inode))
            return
        try:
            node = socket.create_connection((HOST, port), timeout=1.0)
        except OSError:
            close(client, reset=True)
            return
        for sock in (client, node):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client, node, target, inode)
        link.how = how
        self.links.add(link)
        self.watch(link)

    def watch(self, link):
        """Brings what the poller waits for in line with what the link may do now."""
        for sock, out in link.pipes.items():
            into = link.pipes[out.sink]  # the pipe whose sink this socket is
            mask = 0
            if link.passes(out) and not out.ended and len(out.backlog) < BACKLOG_BYTES_MAX:
                mask |= selectors.EVENT_READ
            if into.backlog and link.passes(into):
                mask |= selectors.EVENT_WRITE
            if self.masks.get(sock, 0) == mask:
                continue
            if mask == 0:
                self.poller.unregister(sock)
                del self.masks[sock]
                continue
            (self.poller.modify if sock in self.masks else self.poller.register)(sock, mask, link)
            self.masks[sock] = mask

    def ready(self, sock, link, mask):
        if link not in self.links:
            return
        out = link.pipes[sock]
        into = link.pipes[out.sink]
        try:
            if mask & selectors.EVENT_WRITE:
                self.flush(into)
            if mask & selectors.EVENT_READ and link.passes(out):
                self.forward(out)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(link, reset=error.errno == errno.ECONNRESET)
            return
        if out.ended and not out.backlog or into.ended and not into.backlog:
            self.drop(link, reset=False)  # one side is closed and all it said is through: Redis knows no half-closed peer
            return
        self.watch(link)

    @staticmethod
    def forward(pipe):
        chunk = pipe.source.recv(CHUNK_BYTES)
        if not chunk:
            pipe.ended = True
            return
        if pipe.backlog:
            pipe.backlog += chunk
            return
        try:
            sent = pipe.sink.send(chunk)
        except BlockingIOError:
            sent = 0
        pipe.backlog += chunk[sent:]

    @staticmethod
    def flush(pipe):
        if pipe.backlog:
            del pipe.backlog[:pipe.sink.send(pipe.backlog)]

    def drop(self, link, reset):
        self.links.discard(link)
        for sock in link.pipes:
            if self.masks.pop(sock, 0):
                self.poller.unregister(sock)
            close(sock, reset)


def close(sock, reset):
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class SocketNumbers:
    """Asks the kernel for the number (inode) of a TCP socket of this host: NETLINK_SOCK_DIAG, one small question each."""

    FAMILY, BY_FAMILY, REQUEST = 4, 20, 1
    ANY_STATE = ANY_COOKIE = 0xFFFFFFFF
    HEADER, QUESTION, ADDRESSES = "=IHHII", "=BBBBI", "!HH4s12x4s12x"
    INODE_OFFSET = struct.calcsize(HEADER) + 4 + 48 + 16  # of struct inet_diag_msg, behind its state, id and counters

    def __init__(self):
        self.kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.FAMILY)

    def number(self, port, peer_port):
        """Of the socket 127.0.0.1:port that is connected to 127.0.0.1:peer_port; None when there is none any more."""
        host = socket.inet_aton(HOST)
        question = (struct.pack(self.QUESTION, socket.AF_INET, socket.IPPROTO_TCP, 0, 0, self.ANY_STATE)
                    + struct.pack(self.ADDRESSES, port, peer_port, host, host)
                    + struct.pack("=III", 0, self.ANY_COOKIE, self.ANY_COOKIE))
        size = struct.calcsize(self.HEADER) + len(question)
        self.kernel.send(struct.pack(self.HEADER, size, self.BY_FAMILY, self.REQUEST, 0, 0) + question)
        answer = self.kernel.recv(CHUNK_BYTES)
        if struct.unpack_from(self.HEADER, answer)[1] != self.BY_FAMILY:
            return None
        return struct.unpack_from("=I", answer, self.INODE_OFFSET)[0] or None


def sockets_of(pid):
    """The numbers of the sockets that a process holds."""
    directory = f"/proc/{pid}/fd"
    numbers = set()
    try:
        for entry in os.listdir(directory):
            try:
                kind, _, number = os.readlink(f"{directory}/{entry}").partition(":")
            except OSError:
                continue
            if kind == "socket":
                numbers.add(int(number.strip("[]")))
    except OSError:
        pass
    return numbers


class Fabric:
    """The parent's end: opens the ports, starts the switch, and tells it what is cut. Ends with its `with` block."""

    def __init__(self, nodes):
        listeners = {}
        self.ports = []
        for number in range(nodes):
            ports = Ports(free_port(), free_port(), free_port())
            self.ports.append(ports)
            listeners[listen(ports.public)] = (number, ports.real)
            listeners[listen(ports.public_bus)] = (number, ports.real + servers.BUS_OFFSET)
        self.orders, switch_end = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=run_switch, args=(listeners, switch_end, self.orders),
                                                                   daemon=True)
        self.process.start()
        switch_end.close()
        for listener in listeners:
            listener.close()
        self.cuts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()

    def cut(self, pids, targets, how):
        """Besides what is cut already: the processes from the nodes of these numbers."""
        self._tell(self.cuts + [Cut(frozenset(pids), target, how) for target in targets])

    def heal(self):
        self._tell([])

    def _tell(self, cuts):
        if not self.process.is_alive():
            raise ServerError("the switch between the processes has ended")
        self.cuts = cuts
        self.orders.send(cuts)
        self.orders.recv()


def listen(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    sock.listen(512)
    sock.setblocking(False)
    return sock


def run_switch(listeners, orders, parents_end):
    servers._die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parents_end.close()
    Switch(listeners, orders).run()


class CutCluster(Cluster):
    """A cluster whose nodes are found through a fabric. `addresses` are the real ones; `url` is what sidecars are given."""

    def __init__(self, fabric, **options):
        self.fabric = fabric
        super().__init__(**options)

    def _make_node(self, args, **options):
        node = RedisServer(args=args, start=False, **options)
        ports = self.fabric.ports[len(self.nodes)]
        node.port, node.public_port, node.public_bus_port = ports
        node.number = len(self.nodes)
        node.args += ["--cluster-announce-ip", HOST, "--cluster-announce-port", str(ports.public),
                      "--cluster-announce-bus-port", str(ports.public_bus)]
        return node.start()

    @property
    def url(self):
        return f"redis+cluster://{','.join(f'{HOST}:{node.public_port}' for node in self.nodes)}"

    @property
    def routes(self):
        """Announced address -> real one."""
        return {f"{HOST}:{node.public_port}": node.address for node in self.nodes}

    def _create(self, replicas):
        """As redis-cli does, but that nodes meet at their announced bus ports."""
        primaries = self.nodes[:len(self.nodes) // (1 + replicas)]
        for epoch, node in enumerate(self.nodes, 1):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number, node in enumerate(primaries):
            first, end = (servers.SLOTS * edge // len(primaries) for edge in (number, number + 1))
            node.call("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER", "MEET", HOST, node.public_port, node.public_bus_port)
        wait_for(lambda: all(b"cluster_known_nodes:%d\r" % len(self.nodes) in node.call("CLUSTER", "INFO")
                             and b"handshake" not in node.call("CLUSTER", "NODES") for node in self.nodes),
                 servers.START_TIMEOUT_S, "the nodes to meet")
        for number, node in enumerate(self.nodes[len(primaries):]):
            node.call("CLUSTER", "REPLICATE", self.node_id(primaries[number % len(primaries)]))
