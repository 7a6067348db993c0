#!/usr/bin/python3
"""What the mixed load has to catch: a sidecar whose cache trusts a time to live and hears of no one's writes, its own
clients' included. Understands just enough of the sidecar's command line and of RESP to be run in its place.

    --set cache_seconds=2.5   how long a value is served without asking; 0: a plain pass-through
"""

import socketserver
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from cluster_client import ClusterClient  # noqa: E402
from resp import ReplyError  # noqa: E402


class Session(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        self.upstream = ClusterClient(self.server.seeds, timeout=1.0, name="naive-cache")
        while True:
            line = self.rfile.readline()
            if not line:
                return
            parts = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                parts.append(self.rfile.read(size + 2)[:-2].decode())
            self.wfile.write(self.answer(parts))

    def answer(self, parts):
        name = parts[0].upper()
        if name == "HELLO":
            return b"%1\r\n+proto\r\n:3\r\n"
        try:
            if name == "GET":
                value = self.cached_get(parts[1])
                return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
            return b"+%b\r\n" % self.upstream.call(*parts)
        except ReplyError as error:
            return b"-%b\r\n" % str(error).encode()
        except OSError as error:
            return b"-ERR upstream: %b\r\n" % type(error).__name__.encode()

    def cached_get(self, key):
        server, now = self.server, time.monotonic()
        value, until = server.cache.get(key, (None, 0.0))
        if until <= now:
            value = self.upstream.call("GET", key)
            server.cache[key] = (value, now + server.cache_seconds)
        return value


class NaiveCache(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, listen, seeds, cache_seconds):
        self.seeds = seeds
        self.cache_seconds = cache_seconds
        self.cache = {}
        super().__init__(listen, Session)


def main():
    arguments = sys.argv[1:]
    options = list(zip(arguments[::2], arguments[1::2]))
    host, _, port = dict(options)["--listen"].rpartition(":")
    seeds = dict(options)["--upstream"].partition("://")[2].split(",")
    settings = dict(value.split("=", 1) for name, value in options if name == "--set")
    server = NaiveCache((host, int(port)), seeds, float(settings.get("cache_seconds", 2.5)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", file=sys.stderr, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
