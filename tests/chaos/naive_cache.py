#!/usr/bin/python3
"""What the consistency checker has to catch: sidecars that lie, each in one way. Understands just enough of the sidecar's
command line and of RESP to be run in its place. Without a flaw every answer is the upstream's own.

    --set flaws=FLAW/FLAW/FLAW    the first is the first sidecar's, and so on (SIDECAR_NUMBER in the environment)

    none      a plain pass-through
    stale     values live by the clock, longer than the bound; the sidecar's own writes drop them
    lost      values live by the clock, shorter than the bound; nothing drops them, nor own writes
    apart     as `stale` and shorter than the bound, but GET's values only: other reads of the key run ahead of them
    undead    a key that is gone is answered with its last value for longer than the bound
    phantom   a key that was absent is answered as such for longer than the bound
    torn      HGETALL puts fields of an older answer among the new ones
    mixed     now and then another key's value
    asleep    values live shorter than the bound, by a clock that stands still while the process is stopped
"""

import os
import random
import socketserver
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from cluster_client import ClusterClient  # noqa: E402
from resp import ReplyError  # noqa: E402

READS = {"GET", "STRLEN", "GETRANGE", "EXISTS", "TYPE", "HGETALL", "HGET", "HMGET", "HLEN", "HEXISTS"}
LONG_S, SHORT_S = 2.5, 0.5
TICK_S = 0.01
ODDS = 0.02


def encode(reply):
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
    return b"$%d\r\n%b\r\n" % (len(reply), reply)


class Session(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        self.upstream = ClusterClient(self.server.seeds, timeout=1.0, name="naive-cache")
        while line := self.rfile.readline():
            parts = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                parts.append(self.rfile.read(size + 2)[:-2])
            try:
                reply = encode(self.answer(parts))
            except ReplyError as error:
                reply = b"-%b\r\n" % str(error).encode()
            except OSError as error:
                reply = b"-ERR upstream: %b\r\n" % type(error).__name__.encode()
            self.wfile.write(reply)

    def answer(self, parts):
        name = parts[0].decode().upper()
        if name == "HELLO":
            return []
        if name == "MGET":
            return [self.read("GET", [b"GET", key]) for key in parts[1:]]
        if name in READS:
            return self.read(name, parts)
        try:
            return self.upstream.call(name, *parts[1:])
        finally:
            if self.server.flaw != "lost":
                self.server.drop(parts[3] if name == "EVAL" else parts[1])

    def read(self, name, parts):
        return getattr(self, self.server.flaw)(name, parts)

    # One method for each flaw.

    def none(self, _name, parts):
        return self.upstream.call(*parts)

    def cached(self, parts, seconds, clock=time.monotonic):
        server = self.server
        entries = server.entries.setdefault(parts[1], {})  # drop() puts others in their place: what is read now is lost then
        until, value = entries.get(tuple(parts), (0.0, None))
        now = clock()
        if until <= now:
            value = self.upstream.call(*parts)
            entries[tuple(parts)] = now + seconds, value
        return value

    def stale(self, _name, parts):
        return self.cached(parts, LONG_S)

    def lost(self, _name, parts):
        return self.cached(parts, SHORT_S)

    def apart(self, name, parts):
        return self.cached(parts, SHORT_S) if name == "GET" else self.upstream.call(*parts)

    def gone_or_back(self, parts, empty_is_the_old):
        """The upstream's answer; but for LONG_S after it changed between something and nothing the one before."""
        answer = self.upstream.call(*parts)
        since, old, seen = self.server.before.get(tuple(parts), (0.0, None, None))
        if seen is not None and bool(answer) != bool(seen[0]):
            since, old = time.monotonic(), seen[0]
        self.server.before[tuple(parts)] = since, old, (answer,)
        held = time.monotonic() - since < LONG_S and bool(old) != empty_is_the_old and bool(answer) == empty_is_the_old
        return old if held else answer

    def undead(self, name, parts):
        return self.gone_or_back(parts, False) if name == "GET" else self.upstream.call(*parts)

    def phantom(self, name, parts):
        return self.gone_or_back(parts, True) if name == "GET" else self.upstream.call(*parts)

    def torn(self, name, parts):
        answer = self.upstream.call(*parts)
        if name != "HGETALL" or not answer:
            return answer
        old = self.server.before.setdefault(parts[1], answer)
        self.server.before[parts[1]] = answer
        return answer[:-1] + old[-1:]

    def mixed(self, name, parts):
        answer = self.upstream.call(*parts)
        old = self.server.before.get(name, answer)
        self.server.before[name] = answer
        return old if name == "GET" and random.random() < ODDS else answer

    def asleep(self, _name, parts):
        return self.cached(parts, SHORT_S, lambda: self.server.ticks * TICK_S)


class NaiveCache(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, listen, seeds, flaw):
        self.seeds = seeds
        self.flaw = flaw
        self.entries = {}  # key -> {command: (until, answer)}
        self.ticks = 0
        self.before = {}   # what was answered before, as the flaw needs it
        super().__init__(listen, Session)

    def tick(self):
        while True:
            time.sleep(TICK_S)
            self.ticks += 1

    def drop(self, key):
        self.entries.pop(key, None)


def main():
    arguments = sys.argv[1:]
    options = list(zip(arguments[::2], arguments[1::2]))
    host, _, port = dict(options)["--listen"].rpartition(":")
    seeds = dict(options)["--upstream"].partition("://")[2].split(",")
    flaws = dict(value.split("=", 1) for name, value in options if name == "--set").get("flaws", "none").split("/")
    server = NaiveCache((host, int(port)), seeds, flaws[int(os.environ.get("SIDECAR_NUMBER", "0")) % len(flaws)])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=server.tick, daemon=True).start()
    print("ready", file=sys.stderr, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
