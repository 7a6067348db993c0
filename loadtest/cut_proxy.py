"""TCP proxies before one upstream that can be cut, and that meter what passes. Standard library only.

One process serves a listener per sidecar, so that each sidecar's traffic is metered apart and the test's own Python does not
compete with it. Three states: "pass"; "stall" (nothing is read or accepted: connections stay up and silent, new ones hang in
the backlog, like a network that drops packets; what was sent meanwhile is delivered when it ends); "refuse" (connections are
reset, the ports are closed). Metered are GETs per 10 ms, and fills in flight: a fill is GET and PTTL behind it, and the
populated keys never expire, so it lasts from a PTTL on its way up until ":-1" comes back on the same connection.
"""

import collections
import multiprocessing
import selectors
import socket
import struct
import time

from servers import free_port

BINS_PER_SECOND = 100
CHUNK_BYTES = 1 << 16
BUFFERED_MAX = 1 << 20  # more than that waiting for one side, and the other is not read
GET = b"\r\nGET\r\n"
PTTL = b"\r\nPTTL\r\n"
NEVER_EXPIRES = b":-1\r\n"


class Counter:
    """Occurrences of a pattern in a stream that comes in pieces."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.tail = b""

    def feed(self, data):
        joined = self.tail + data
        self.tail = joined[-(len(self.pattern) - 1):]
        return joined.count(self.pattern)


class Meter:
    """What passed one listener."""

    def __init__(self):
        self.gets = collections.Counter()  # by monotonic time in hundredths of a second
        self.in_flight = 0
        self.in_flight_max = 0


class Link:
    """A connection of a sidecar and its counterpart to the upstream."""

    def __init__(self, down, up, meter):
        self.sockets = {"down": down, "up": up}
        self.waiting = {"down": b"", "up": b""}  # bytes to be sent to that side
        self.wanted = {side: self.wants(side) for side in self.sockets}  # what the selector waits for
        self.meter = meter
        self.in_flight = 0
        self.gets, self.asked, self.answered = Counter(GET), Counter(PTTL), Counter(NEVER_EXPIRES)

    def pump(self, side):
        """Takes what has come from one side; False when the connection is over."""
        other = "up" if side == "down" else "down"
        try:
            data = self.sockets[side].recv(CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._measure(side, data)
        self.waiting[other] += data
        self.flush(other)
        return True

    def flush(self, side):
        try:
            self.waiting[side] = self.waiting[side][self.sockets[side].send(self.waiting[side]):]
        except BlockingIOError:
            pass

    def wants(self, side):
        """What to wait for on that side's socket; bounded by not reading for a side that does not take it."""
        other = "up" if side == "down" else "down"
        events = selectors.EVENT_READ if len(self.waiting[other]) < BUFFERED_MAX else 0
        return events | (selectors.EVENT_WRITE if self.waiting[side] else 0)

    def _measure(self, side, data):
        if side == "down":
            self.meter.gets[int(time.monotonic() * BINS_PER_SECOND)] += self.gets.feed(data)
            change = self.asked.feed(data)
        else:
            change = -min(self.answered.feed(data), self.in_flight)
        self.in_flight += change
        self.meter.in_flight += change
        self.meter.in_flight_max = max(self.meter.in_flight_max, self.meter.in_flight)

    def close(self, reset=False):
        self.meter.in_flight -= self.in_flight
        for end in self.sockets.values():
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """The loop of the proxy's process."""

    def __init__(self, ports, upstream, control):
        self.ports = ports
        self.upstream = upstream
        self.control = control
        self.meters = [Meter() for _ in ports]
        self.links = set()
        self.listeners = []
        self.stalled = False
        self.ended = False
        self.selector = selectors.DefaultSelector()

    def run(self):
        self.selector.register(self.control, selectors.EVENT_READ, ("control", None))
        self._listen()
        self.control.send("ready")
        while not self.ended:
            if self.stalled:
                self._obey(self.control.recv())
                continue
            for key, events in self.selector.select():
                kind, what = key.data
                if kind == "control":
                    self._obey(self.control.recv())
                elif kind == "listener":
                    self._accept(what)
                elif what in self.links and not self.stalled:
                    self._serve(what, kind, events)

    def _serve(self, link, side, events):
        try:
            if events & selectors.EVENT_WRITE:
                link.flush(side)
            alive = not events & selectors.EVENT_READ or link.pump(side)
        except OSError:
            alive = False
        if not alive:
            self._drop(link)
            return
        for each, end in link.sockets.items():
            if link.wanted[each] != link.wants(each):
                link.wanted[each] = link.wants(each)
                self.selector.modify(end, link.wanted[each], (each, link))

    def _drop(self, link, reset=False):
        self.links.discard(link)
        for end in link.sockets.values():
            self.selector.unregister(end)
        link.close(reset)

    def _accept(self, index):
        down, _ = self.listeners[index].accept()
        try:
            up = socket.create_connection(self.upstream, timeout=1)
        except OSError:
            down.close()
            return
        for end in (down, up):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(down, up, self.meters[index])
        self.links.add(link)
        for side, end in link.sockets.items():
            self.selector.register(end, link.wanted[side], (side, link))

    def _listen(self):
        self.listeners = [socket.create_server(("127.0.0.1", port), backlog=512) for port in self.ports]
        for index, listener in enumerate(self.listeners):
            self.selector.register(listener, selectors.EVENT_READ, ("listener", index))

    def _obey(self, order):
        if order == "stall":
            self.stalled = True
        elif order == "refuse":
            for listener in self.listeners:
                self.selector.unregister(listener)
                listener.close()
            self.listeners = []
            for link in list(self.links):
                self._drop(link, reset=True)
        elif order == "pass":
            self.stalled = False
            if not self.listeners:
                self._listen()
        elif order == "forget":
            for meter in self.meters:
                meter.gets.clear()
                meter.in_flight_max = meter.in_flight
        answer = [(dict(meter.gets), meter.in_flight_max) for meter in self.meters] if order == "report" else "done"
        self.ended = order == "end"
        self.control.send(answer)


def _serve_proxies(ports, upstream, control):
    Proxy(ports, upstream, control).run()


class CutProxy:
    """The proxies' handle; `ports` has one per sidecar. Orders return when they have been carried out."""

    def __init__(self, upstream_port, count):
        self.ports = [free_port() for _ in range(count)]
        self.control, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve_proxies, daemon=True,
                                               args=(self.ports, ("127.0.0.1", upstream_port), theirs))
        self.process.start()
        self.control.recv()

    def order(self, what):
        self.control.send(what)
        return self.control.recv()

    def close(self):
        if self.process.is_alive():
            self.order("end")
        self.process.join()
