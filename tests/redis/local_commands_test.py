#!/usr/bin/env python3
"""What is about this process and its clients: CLIENT LIST, INFO, KILL and the like, CONFIG of its own settings."""

import subprocess
import unittest

from system import PATIENCE_S, Client, RedisServer, ReplyError, Sidecar, eventually, main

THREADS = 3
FIELDS_OF_7_0 = ("id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
                 "oll omem tot-mem events cmd user redir resp").split()


def setUpModule():
    global server, sidecar
    server = RedisServer()
    server.call("ACL", "SETUSER", "plain", "on", ">plain-pw", "~*", "&*", "+@all", "-client|kill", "-client|list", "-config|get")
    sidecar = Sidecar(server.url, {"threads": THREADS}, unix_socket=True)


def tearDownModule():
    for one in (sidecar, server):
        one.close()


def parse_lines(text):
    """As redis-py's parse_client_list does it: by spaces, then by the first '='."""
    return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in text.decode().splitlines()]


class Case(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        self.assertTrue(sidecar.alive)

    def client(self, at=None, **options):
        client = (at or sidecar).client(timeout=PATIENCE_S, **options)
        self.clients.append(client)
        return client

    def listed(self, client, *args):
        return parse_lines(client.call("CLIENT", "LIST", *args))

    def assert_closed(self, client):
        with self.assertRaises(OSError):
            client.call("PING")

    def assert_error(self, client, text, *command):
        with self.assertRaises(ReplyError) as caught:
            client.call(*command)
        self.assertIn(text, str(caught.exception))


class ClientList(Case):
    def test_shows_the_clients_of_all_workers_and_not_the_upstreams_connections(self):
        clients = [self.client() for _ in range(4 * THREADS)]
        ids = [client.call("CLIENT", "ID") for client in clients]
        lines = self.listed(clients[0])
        self.assertLessEqual(set(ids), {int(line["id"]) for line in lines})
        self.assertEqual([int(line["id"]) for line in lines], sorted(int(line["id"]) for line in lines))
        self.assertFalse([line for line in lines if line["laddr"] != sidecar.address and line["addr"] != "unix"])

    def test_has_every_field_of_redis_in_its_order(self):
        lines = self.listed(self.client())
        for line in lines:
            self.assertEqual(list(line)[:len(FIELDS_OF_7_0)], FIELDS_OF_7_0)
        direct = self.client(at=server)
        self.assertEqual(list(self.listed(direct)[0])[:len(FIELDS_OF_7_0)], FIELDS_OF_7_0)

    def test_tells_what_a_client_is_and_does(self):
        watcher, named, subscriber, queueing = (self.client() for _ in range(4))
        named.pipeline([("CLIENT", "SETNAME", "it"), ("SELECT", 5), ("GET", "k")])
        subscriber.call("SUBSCRIBE", "a")
        queueing.pipeline([("MULTI",), ("SET", "k", "1")])
        by_flags = {line["flags"]: line for line in self.listed(watcher)}
        self.assertEqual((by_flags["P"]["sub"], by_flags["P"]["cmd"]), ("1", "subscribe"))
        self.assertEqual((by_flags["x"]["multi"], by_flags["x"]["cmd"]), ("1", "set"))
        it = next(line for line in self.listed(watcher) if line["name"] == "it")
        self.assertEqual((it["db"], it["cmd"], it["resp"], it["user"]), ("5", "get", "2", "default"))
        self.assertEqual([line["flags"] for line in self.listed(watcher, "TYPE", "pubsub")], ["P"])
        self.assertEqual(self.listed(watcher, "TYPE", "master"), [])

    def test_of_ids_lists_these_alone_whichever_worker_has_them(self):
        clients = [self.client() for _ in range(2 * THREADS)]
        ids = [client.call("CLIENT", "ID") for client in clients]
        self.assertEqual([int(line["id"]) for line in self.listed(clients[0], "ID", ids[4], ids[1], 999999)],
                         sorted((ids[1], ids[4])))

    def test_keeps_its_place_in_a_pipeline(self):
        client = self.client()
        replies = client.pipeline([("SET", "k", "v"), ("GET", "k"), ("CLIENT", "SETNAME", "before"), ("CLIENT", "LIST"),
                                   ("CLIENT", "SETNAME", "after"), ("GET", "k"), ("PING",)])
        self.assertEqual(replies[:3] + replies[4:], [b"OK", b"v", b"OK", b"OK", b"v", b"PONG"])
        me = {int(line["id"]): line for line in parse_lines(replies[3])}[client.call("CLIENT", "ID")]
        self.assertEqual(me["name"], "before")

    def test_client_info_is_the_own_line(self):
        client = self.client(protocol=3)
        line = parse_lines(client.call("CLIENT", "INFO"))[0]
        self.assertEqual((int(line["id"]), line["resp"], line["cmd"]), (client.call("CLIENT", "ID"), "3", "client|info"))

    def test_is_what_redis_cli_prints(self):
        output = subprocess.run(["redis-cli", "-p", str(sidecar.port), "CLIENT", "LIST"], capture_output=True, timeout=60,
                                check=True).stdout
        self.assertIn("client|list", [line["cmd"] for line in parse_lines(output.strip())])

    def test_mistakes_are_answered_as_redis_does(self):
        ours, theirs = self.client(), self.client(at=server)
        for wrong in (("LIST", "X"), ("LIST", "TYPE"), ("LIST", "TYPE", "x"), ("LIST", "ID"), ("LIST", "ID", "x"),
                      ("LIST", "ID", "1", "x"), ("KILL",), ("KILL", "1.2.3.4:5"), ("KILL", "ID", "0"), ("KILL", "ID", "x"),
                      ("KILL", "TYPE", "x"), ("KILL", "SKIPME", "x"), ("KILL", "ID", "1", "ADDR"), ("KILL", "A", "B"),
                      ("NO-EVICT",), ("NO-EVICT", "x"), ("INFO", "x"), ("GETREDIR", "x"), ("TRACKINGINFO", "x")):
            errors = []
            for client in (ours, theirs):
                with self.assertRaises(ReplyError) as caught:
                    client.call("CLIENT", *wrong)
                errors.append(str(caught.exception))
            self.assertEqual(*errors, wrong)


class ClientKill(Case):
    def test_closes_a_client_of_another_worker_by_id(self):
        killer, victims = self.client(), [self.client() for _ in range(2 * THREADS)]
        for victim in victims:
            self.assertEqual(killer.call("CLIENT", "KILL", "ID", victim.call("CLIENT", "ID")), 1)
            self.assert_closed(victim)
        self.assertEqual(killer.call("PING"), b"PONG")

    def test_by_address_in_both_forms(self):
        killer, one, two = (self.client() for _ in range(3))
        address = {int(line["id"]): line["addr"] for line in self.listed(killer)}
        self.assertEqual(killer.call("CLIENT", "KILL", address[one.call("CLIENT", "ID")]), b"OK")
        self.assertEqual(killer.call("CLIENT", "KILL", "ADDR", address[two.call("CLIENT", "ID")]), 1)
        self.assert_closed(one)
        self.assert_closed(two)

    def test_of_type_pubsub_spares_all_others(self):
        killer, subscriber, other = (self.client() for _ in range(3))
        subscriber.call("SUBSCRIBE", "a")
        self.assertEqual(killer.call("CLIENT", "KILL", "TYPE", "pubsub"), 1)
        self.assert_closed(subscriber)
        self.assertEqual(other.call("PING"), b"PONG")

    def test_of_oneself_is_answered_first(self):
        client = self.client()
        self.assertEqual(client.call("CLIENT", "KILL", "ID", client.call("CLIENT", "ID")), 0)
        self.assertEqual(client.call("CLIENT", "KILL", "ID", client.call("CLIENT", "ID"), "SKIPME", "no"), 1)
        self.assert_closed(client)

    def test_leaves_the_sidecars_own_connections_alone(self):
        killer, other = self.client(), self.client()
        before = {line["id"] for line in parse_lines(server.call("CLIENT", "LIST"))}
        self.assertGreaterEqual(killer.call("CLIENT", "KILL", "TYPE", "normal"), 1)
        self.assert_closed(other)
        self.assertEqual(killer.call("SET", "k", "v"), b"OK")
        gone = before - {line["id"] for line in parse_lines(server.call("CLIENT", "LIST"))}
        self.assertLessEqual(len(gone), 1)  # the connection that asked

    def test_of_a_blocked_client_gives_its_upstream_connection_up(self):
        killer, blocked = self.client(), self.client()
        number = blocked.call("CLIENT", "ID")
        blocked.send("BLPOP", "nothing", 0)
        eventually(lambda: "b" in self.listed(killer, "ID", number)[0]["flags"], "a blocked client")
        self.assertEqual(killer.call("CLIENT", "KILL", "ID", number), 1)
        eventually(lambda: b"cmd=blpop" not in server.call("CLIENT", "LIST"), "nobody blocked upstream")

    def test_is_for_those_whom_the_upstream_permits(self):
        victim, user = self.client(), self.client(username="plain", password="plain-pw")
        self.assert_error(user, "NOPERM", "CLIENT", "KILL", "ID", victim.call("CLIENT", "ID"))
        self.assert_error(user, "NOPERM", "CLIENT", "LIST")
        self.assert_error(user, "NOPERM", "CONFIG", "GET", "nearcached.*")
        self.assertEqual(victim.call("PING"), b"PONG")


class ClientState(Case):
    def test_of_a_client_that_does_not_track_is_as_in_redis(self):
        for protocol in (2, 3):
            ours, theirs = (self.client(at=at, protocol=protocol) for at in (sidecar, server))
            for command in (("GETREDIR",), ("TRACKINGINFO",), ("NO-EVICT", "on"), ("NO-EVICT", "OFF")):
                self.assertEqual(ours.call("CLIENT", *command), theirs.call("CLIENT", *command))
        self.assertEqual(self.client().call("CLIENT", "NO-TOUCH", "on"), b"OK")


class OwnSettings(Case):
    def pairs(self, *patterns, protocol=2, at=None):
        reply = self.client(protocol=protocol, at=at).call("CONFIG", "GET", *patterns)
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))

    def test_are_read_by_pattern(self):
        for protocol in (2, 3):
            self.assertEqual(self.pairs("nearcached.thr*", protocol=protocol), {b"nearcached.threads": b"%d" % THREADS})
            self.assertEqual(self.pairs("nearcached.nothing", protocol=protocol), {})

    def test_stand_behind_the_upstreams_where_a_pattern_means_both(self):
        both, theirs = self.pairs("*"), self.pairs("*", at=server)
        self.assertEqual([name for name in both if not name.startswith(b"nearcached.")], list(theirs))
        self.assertIn(b"nearcached.l1.max_bytes", both)
        self.assertEqual(set(self.pairs("maxmemory", "nearcached.threads")), {b"maxmemory", b"nearcached.threads"})

    def test_the_upstreams_alone_are_untouched(self):
        self.assertEqual(self.pairs("max*"), self.pairs("max*", at=server))

    def test_keep_their_place_in_a_pipeline(self):
        replies = self.client().pipeline([("SET", "k", "v"), ("CONFIG", "GET", "nearcached.threads"), ("GET", "k"), ("PING",)])
        self.assertEqual(replies, [b"OK", [b"nearcached.threads", b"%d" % THREADS], b"v", b"PONG"])

    def test_cannot_be_set_and_nothing_beside_them_is(self):
        client = self.client()
        before = server.call("CONFIG", "GET", "maxmemory-samples")
        self.assert_error(client, "can't be changed at run time", "CONFIG", "SET", "maxmemory-samples", "9",
                          "nearcached.l1.enabled", "false")
        self.assertEqual(server.call("CONFIG", "GET", "maxmemory-samples"), before)
        self.assertEqual(client.call("CONFIG", "SET", "maxmemory-samples", "7"), b"OK")
        self.assertEqual(server.call("CONFIG", "GET", "maxmemory-samples"), [b"maxmemory-samples", b"7"])

    def test_never_tell_a_password(self):
        guarded = RedisServer(password="hush-hush")
        with Sidecar(guarded.url, {"upstream.password": "hush-hush"}) as behind:
            with behind.client(timeout=PATIENCE_S) as client:
                reply = client.call("CONFIG", "GET", "nearcached.*")
        guarded.close()
        self.assertIn(b"nearcached.upstream.password", reply)
        self.assertNotIn(b"hush-hush", b" ".join(reply))


if __name__ == "__main__":
    main()
