"""The load of an outage: processes that read keys through a sidecar, and a thread that writes versions straight upstream.

Values are "number:version:padding". Times are CLOCK_MONOTONIC, which all processes of a machine share, so what one read and
what another wrote can be put in order afterwards. Standard library only.
"""

import collections
import multiprocessing
import random
import threading
import time

from resp import Client, ReplyError

BATCH = 50
REPLY_TIMEOUT_S = 15.0
VALUE_BYTES = 64
Batch = collections.namedtuple("Batch", "sent received values errors")


def value_text(number, version):
    return f"{number}:{version}:".ljust(VALUE_BYTES, "v")


def version_of(value):
    return int(value.split(b":", 2)[1])


class Seen:
    """What one reader read: every batch, and per key and version when a read that returned it was last sent."""

    def __init__(self, kind, sidecar):
        self.kind = kind
        self.sidecar = sidecar
        self.batches = []
        self.last_sent = {}
        self.codes = collections.Counter()
        self.back_in_time = 0
        self._newest = {}

    def note(self, keys, sent, received, replies):
        values = 0
        for key, reply in zip(keys, replies):
            if isinstance(reply, bytes):
                values += 1
                version = version_of(reply)
                self.last_sent[key, version] = sent
                self.back_in_time += version < self._newest.get(key, 0)
                self._newest[key] = max(version, self._newest.get(key, 0))
            else:
                self.codes[reply.code if isinstance(reply, ReplyError) else type(reply).__name__] += 1
        self.batches.append(Batch(sent, received, values, len(keys) - values))


def _read_through(address, keys, seen, pause_s, stop):
    client = None
    position = 0
    while not stop.is_set():
        batch = [keys[(position + i) % len(keys)] for i in range(BATCH)]
        position = (position + BATCH) % len(keys)
        sent = time.monotonic()
        try:
            client = client or Client(address, timeout=REPLY_TIMEOUT_S)
            sent = time.monotonic()
            replies = client.pipeline([("GET", key) for key in batch])
        except OSError as error:
            replies = [error] * BATCH
            client = None
        received = time.monotonic()
        seen.note(batch, sent, received, replies)
        stop.wait(max(0.0, sent + pause_s - received))


def _reader_process(address, keys, seen, pause_s, stop, result):
    _read_through(address, keys, seen, pause_s, stop)
    result.send(seen)


class Readers:
    """Processes that go round all keys of a kind in the same order, at a pace of their own: the worst case of a herd."""

    def __init__(self):
        self.stop = multiprocessing.Event()
        self.processes = []

    def add(self, kind, sidecar, address, keys, pause_s):
        result, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=_reader_process, daemon=True,
                                          args=(address, keys, Seen(kind, sidecar), pause_s, self.stop, theirs))
        process.start()
        self.processes.append((process, result))

    def finish(self):
        """Ends all; what each has seen."""
        self.stop.set()
        found = []
        for process, result in self.processes:
            if not result.poll(2 * REPLY_TIMEOUT_S):
                raise RuntimeError("a reader did not end")
            found.append(result.recv())
            process.join()
        return found


class Writer(threading.Thread):
    """Writes new versions straight to the upstream, at a steady rate while `going` is set.

    `acknowledged` has for every key the times at which its versions 1, 2, ... were acknowledged; version 0 is populated.
    """

    def __init__(self, server, kinds, rate, seed):
        super().__init__(daemon=True)
        self.server = server
        self.keys = [key for keys in kinds.values() for key in keys]
        self.rate = rate
        self.random = random.Random(seed)
        self.going = threading.Event()
        self.over = threading.Event()
        self.idle = threading.Event()
        self.acknowledged = {key: [] for key in self.keys}
        with server.client() as client:
            for number, key in enumerate(self.keys):
                client.call("SET", key, value_text(number, 0))

    def run(self):
        with self.server.client(timeout=REPLY_TIMEOUT_S) as client:
            while not self.over.is_set():
                if not self.going.is_set():
                    self.idle.set()
                    self.going.wait(0.05)
                    continue
                number = self.random.randrange(len(self.keys))
                key = self.keys[number]
                client.call("SET", key, value_text(number, len(self.acknowledged[key]) + 1))
                self.acknowledged[key].append(time.monotonic())
                time.sleep(1 / self.rate)

    def pause(self):
        """Returns when no write is under way."""
        self.going.clear()
        self.idle.clear()
        self.idle.wait()

    def proceed(self):
        self.going.set()

    def finish(self):
        self.over.set()
        self.join()
