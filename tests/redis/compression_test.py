#!/usr/bin/env python3
"""Replies that L1 keeps compressed: clients get the bytes that the server itself would send, whatever the algorithm, and more
of them fit into the same memory."""

import json
import random
import unittest

from system import RedisServer, Sidecar, encode, eventually, main

SEED = random.SystemRandom().randrange(1 << 30)
ALGORITHMS = {
    "none": {},
    "lz4": {"l1.compression.algorithm": "lz4"},
    "zstd": {"l1.compression.algorithm": "zstd"},
    "zstd with a dictionary": {"l1.compression.algorithm": "zstd", "l1.compression.dictionary": "true"},
}
SETTINGS = {"coherence.max_staleness": "20s", "coherence.audit_one_in": 5}
SIZES = [0, 1, 63, 64, 65, 100, 128, 500, 1000, 1023, 1024, 1025, 4096, 8192, 16_384, 32_768, 65_535, 65_536, 99_000]
LEARNT = 3000  # values of which a dictionary is made


def setUpModule():
    global server, sidecars
    print(f"seed {SEED}", flush=True)
    server = RedisServer()
    sidecars = {}
    for name, settings in ALGORITHMS.items():
        least = {"l1.compression.min_bytes": 64} if name != "none" else {}
        sidecars[name] = Sidecar(server.url, {**SETTINGS, **settings, **least})
        sidecars[name].wait_caching()
    with server.client() as direct:
        for i in range(LEARNT):
            direct.call("SET", f"learn:{i}", json_value(i, 200))
    learn(sidecars["zstd with a dictionary"])


def tearDownModule():
    for process in (*sidecars.values(), server):
        process.close()


def learn(sidecar):
    with sidecar.client() as client:
        client.pipeline([("GET", f"learn:{i}") for i in range(LEARNT)])
    eventually(lambda: sidecar.stats()["l1"]["compression"]["dictionaries"] == 1, "a dictionary")


def json_value(seed, size):
    """What applications keep: names that repeat, values that don't."""
    rng = random.Random(seed)
    value = {"id": rng.randrange(1 << 40), "active": rng.random() < 0.5}
    while len(text := json.dumps(value)) < size:
        value[rng.choice(["name", "email", "street", "note"]) + str(len(value))] = f"{rng.choice(WORDS)} {rng.randrange(9999)}"
    return text.encode()


WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit"]


def values():
    """(name, bytes) of many sizes: what shrinks well, what does so a little, what does not at all."""
    rng = random.Random(SEED)
    for size in SIZES:
        yield f"json:{size}", json_value(SEED + size, size)
        yield f"noise:{size}", rng.randbytes(size)
        yield f"same:{size}", b"a" * size
        yield f"half:{size}", rng.randbytes(size // 2) + b"b" * (size - size // 2)


def raw(client, *requests):
    client.raw(b"".join(encode(*request) for request in requests))
    return [client.read_raw() for _ in requests]


def comparable(requests, replies):
    """A table that grows changes its order between two reads."""
    return [sorted(reply.split(b"\r\n")) if request[0] in ("HGETALL", "HVALS", "SMEMBERS") else reply
            for request, reply in zip(requests, replies)]


class Compression(unittest.TestCase):
    def setUp(self):
        self.direct = {protocol: server.client(protocol=protocol) for protocol in (2, 3)}
        for client in self.direct.values():
            self.addCleanup(client.close)

    def each(self):
        for name, sidecar in sidecars.items():
            clients = {protocol: sidecar.client(protocol=protocol) for protocol in (2, 3)}
            with self.subTest(compression=name):
                yield name, sidecar, clients
                self.assertEqual(sidecar.stats()["l1"]["compression"]["decompression_failures"], 0)
                self.assertEqual(sidecar.metric("nearcached_audit_stale_total"), 0)
            for client in clients.values():
                client.close()

    def assert_as_the_server(self, sidecar, clients, *requests, hits=True):
        """Missed, hit and hit again, in both protocols, one by one and as one pipeline."""
        for protocol in (3, 2, 3):
            expected = raw(self.direct[protocol], *requests)
            for request, reply in zip(requests, expected):
                self.assertEqual(comparable([request], raw(clients[protocol], request)), comparable([request], [reply]))
            before = sidecar.hits
            self.assertEqual(comparable(requests, raw(clients[protocol], *requests)), comparable(requests, expected))
            if hits:
                self.assertGreaterEqual(sidecar.hits - before, len(requests))

    def test_values_of_every_size_are_what_the_server_has(self):
        keys = []
        for name, value in values():
            self.direct[2].call("SET", name, value)
            keys.append(name)
        for name, sidecar, clients in self.each():
            before = sidecar.stats()["l1"]["compression"]
            self.assert_as_the_server(sidecar, clients, *(("GET", key) for key in keys))
            after = sidecar.stats()["l1"]["compression"]
            self.assertEqual(after["values"] > before["values"], name != "none")
            self.assertEqual(after["decompressed"] > before["decompressed"], name != "none")

    def test_several_keys_at_once_some_missing_some_not_there(self):
        keys = []
        for name, value in values():
            self.direct[2].call("SET", f"m:{name}", value)
            keys.append(f"m:{name}")
        for name, sidecar, clients in self.each():
            raw(clients[2], *(("GET", key) for key in keys[::2]))  # half of them are in L1
            rng = random.Random(SEED)
            for _ in range(4):
                asked = [rng.choice([*keys, "not:there"]) for _ in range(30)]
                self.assert_as_the_server(sidecar, clients, ("MGET", *asked), hits=False)
            self.assert_as_the_server(sidecar, clients, ("MGET", *keys))

    def test_other_reads_of_the_same_key_lie_beside_it(self):
        value = json_value(SEED, 5000)
        self.direct[2].call("SET", "reads", value)
        self.direct[2].call("HSET", "hash", *(word for i in range(40) for word in (f"field{i}", json_value(i, 10 * i))))
        self.direct[2].call("RPUSH", "list", *(json_value(i, 100) for i in range(50)))
        self.direct[2].call("SADD", "set", *(f"member {i}" for i in range(100)))
        self.direct[2].call("ZADD", "zset", *(word for i in range(60) for word in (str(i / 4), f"member {i}")))
        for name, sidecar, clients in self.each():
            self.assert_as_the_server(
                sidecar, clients, ("GET", "reads"), ("STRLEN", "reads"), ("GETRANGE", "reads", "0", "2999"),
                ("GETRANGE", "reads", "100", "150"), ("EXISTS", "reads"), ("GET", "reads"), ("HGETALL", "hash"),
                ("HGET", "hash", "field39"), ("HMGET", "hash", "field1", "field30", "none"), ("HVALS", "hash"),
                ("HLEN", "hash"), ("LRANGE", "list", "0", "-1"), ("LRANGE", "list", "3", "20"), ("SMEMBERS", "set"),
                ("ZRANGE", "zset", "0", "-1", "WITHSCORES"), ("ZRANGE", "zset", "0", "-1"), ("TYPE", "hash"))

    def test_a_change_is_heard_of_and_the_new_value_read(self):
        for name, sidecar, clients in self.each():
            for turn in range(20):
                value = json_value(SEED + turn, 100 + 300 * turn)
                (self.direct[2] if turn % 2 else clients[2]).call("SET", "changing", value)
                eventually(lambda: clients[2].call("GET", "changing") == value, "the new value")
                self.assertEqual(clients[3].call("GET", "changing"), value)
                self.assertEqual(clients[3].call("GETRANGE", "changing", "0", "99"), value[:100])
            self.direct[2].call("DEL", "changing")
            eventually(lambda: clients[2].call("GET", "changing") is None, "the key gone")

    def test_a_client_that_wants_no_replies_gets_none(self):
        self.direct[2].call("SET", "muted", json_value(SEED, 3000))
        for name, sidecar, clients in self.each():
            value = clients[2].call("GET", "muted")
            clients[2].raw(encode("CLIENT", "REPLY", "SKIP") + encode("GET", "muted") + encode("GET", "muted"))
            self.assertEqual(clients[2].read_raw(), b"$%d\r\n%b\r\n" % (len(value), value))
            clients[2].raw(encode("CLIENT", "REPLY", "OFF") + encode("GET", "muted") + encode("CLIENT", "REPLY", "ON"))
            self.assertEqual(clients[2].read_raw(), b"+OK\r\n")

    def test_namespaces_differ(self):
        namespaces = '[{prefix: "z:", compression: zstd}, {prefix: "z:plain:", compression: none}]'
        with Sidecar(server.url, {**SETTINGS, "namespaces": namespaces}) as sidecar, sidecar.client() as client:
            sidecar.wait_caching()
            value = json_value(SEED, 3000)
            for key, packed in (("z:a", 1), ("z:plain:a", 1), ("a", 1), ("z:b", 2)):
                client.call("SET", key, value)
                self.assertEqual([client.call("GET", key) for _ in range(3)], [value] * 3)
                self.assertEqual(sidecar.stats()["l1"]["compression"]["values"], packed, key)

    def test_more_fit_into_the_same_bytes(self):
        for size, keys, gains in ((1000, 14_000, {"lz4": 1.1, "zstd": 1.3, "zstd with a dictionary": 1.8}),
                                  (200, 40_000, {"zstd with a dictionary": 1.3})):
            for begin in range(0, keys, 1000):
                self.direct[2].pipeline([("SET", f"c:{i}", json_value(i, size)) for i in range(begin, begin + 1000)])
            density = {}  # how full L1 is at a moment varies by a tenth: what an item takes does not
            for name in ("none", *gains):
                settings = {**ALGORITHMS[name], "l1.max_bytes": "6MB"}
                with Sidecar(server.url, settings) as sidecar, sidecar.client() as client:
                    sidecar.wait_caching()
                    for turn in range(2):
                        for begin in range(0, keys, 200):
                            replies = client.pipeline([("GET", f"c:{i}") for i in range(begin, begin + 200)])
                            self.assertEqual(replies[7], json_value(begin + 7, size))
                    stats = sidecar.stats()["l1"]
                    self.assertLessEqual(stats["bytes"], stats["max_bytes"])
                    density[name] = stats["items"] / stats["bytes"]
            for name, gain in gains.items():
                self.assertGreater(density[name] / density["none"], gain, f"{size} bytes: {density}")


if __name__ == "__main__":
    main()
