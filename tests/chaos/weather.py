"""What the machine and the cluster do by themselves while nobody hurts them.

A machine with more to do than it can stops everybody for a while now and then; a cluster whose nodes were stopped for
longer than their timeout elects new primaries and refuses commands meanwhile. Neither is a sidecar's doing. This thread
notices both, so that errors and delays of such a moment are excused. Wrong answers never are.
"""

import threading
import time

from resp import ReplyError

INTERVAL_S = 0.05
STALL_S = 0.4       # a sleep or an answer that takes so much longer than it should
LOOK_BACK_S = 1.5   # what is noticed now may have begun so long before


class Weather(threading.Thread):
    """Runs beside the load in the main process, with connections of its own to the nodes."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.windows = []  # (first, last) moment of whatever was noticed
        self.stalls = []   # of those, when the machine itself stood still
        self.stop = threading.Event()
        self._clients = {}

    def bad_between(self, first, last):
        return any(begin <= last and end >= first for begin, end in self.windows)

    def stalled_between(self, first, last):
        return any(begin <= last and end >= first for begin, end in self.stalls)

    def run(self):
        turn = 0
        while not self.stop.is_set():
            began = time.monotonic()
            time.sleep(INTERVAL_S)
            turn += 1
            stalled = time.monotonic() - began > INTERVAL_S + STALL_S
            well = self._says_ok(self.nodes[turn % len(self.nodes)])
            if stalled:
                note(self.stalls, began, time.monotonic())
            if stalled or not well:
                note(self.windows, began - LOOK_BACK_S, time.monotonic())

    def _says_ok(self, node):
        try:
            client = self._clients.get(node)
            if client is None or client.sock is None:
                client = self._clients[node] = node.client(timeout=STALL_S)
            return b"cluster_state:ok" in client.call("CLUSTER", "INFO")
        except (OSError, ReplyError):
            return False


def note(windows, first, last):
    """Adds the interval to a list in rising order, joined with the last one where they meet."""
    if windows and windows[-1][1] >= first:
        windows[-1] = (windows[-1][0], last)
    else:
        windows.append((first, last))
