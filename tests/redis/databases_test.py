#!/usr/bin/env python3
"""SELECT: clients in several databases of one server, each cached apart, whoever writes and from wherever."""

import contextlib
import random
import signal
import socket
import struct
import time
import unittest

from system import (PATIENCE_S, Client, Cluster, RedisServer, ReplyError, Sidecar, Traffic, encode, eventually, main)

MAX_STALENESS_S = 1.0


def setUpModule():
    global server, plain, sidecar
    server, plain = RedisServer(), RedisServer()
    sidecar = Sidecar(server.url)
    sidecar.wait_caching()


def tearDownModule():
    for one in (sidecar, server, plain):
        one.close()


class Case(unittest.TestCase):
    def setUp(self):
        server.call("FLUSHALL")
        plain.call("FLUSHALL")
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        self.assertTrue(sidecar.alive)

    def client(self, database=0, at=None, **options):
        client = (at or sidecar).client(timeout=PATIENCE_S, **options)
        self.clients.append(client)
        if database:
            self.assertEqual(client.call("SELECT", database), b"OK")
        return client

    def direct(self, database=0):
        return self.client(database, at=server)

    def warm(self, client, key, value):
        """Until `key` is `value`, and answered from L1."""
        def hit():
            before = sidecar.hits
            return client.pipeline([("GET", key)] * 3) == [value] * 3 and sidecar.hits >= before + 2
        eventually(hit, f"{key} = {value} from L1")

    def assert_as_plain(self, commands, protocol=2, pipelined=False):
        replies = []
        for address in (sidecar.address, plain.address):
            with Client(address, protocol=protocol, timeout=PATIENCE_S) as client:
                if pipelined:
                    client.raw(b"".join(encode(*command) for command in commands))
                    replies.append([client.read_raw() for _ in commands])
                else:
                    raw = []
                    for command in commands:
                        client.send(*command)
                        raw.append(client.read_raw())
                    replies.append(raw)
        for command, ours, theirs in zip(commands, *replies):
            self.assertEqual(ours, theirs, command)


class AsRedisAnswers(Case):
    """Byte for byte as a plain server."""

    def test_what_is_no_database_gets_the_servers_words_and_changes_nothing(self):
        wrong = ["x", "", "01", "-0", "+1", "1.0", " 1", "-1", "16", "99", "2147483647", "2147483648", "-2147483649",
                 "9223372036854775807", "9223372036854775808"]
        for protocol in (2, 3):
            self.assert_as_plain([("SET", "k", "zero"), ("SELECT", 2), ("SET", "k", "two"), ("SELECT",), ("SELECT", 1, 2)]
                                 + [command for text in wrong for command in (("SELECT", text), ("GET", "k"))], protocol)

    def test_every_command_of_a_pipeline_goes_to_the_database_selected_before_it(self):
        commands = []
        for i in range(48):
            database = i * 7 % 16
            commands += [("SELECT", database), ("INCR", "n"), ("RPUSH", "l", i), ("GET", "n"), ("GET", "n"),
                         ("SELECT", database), ("MGET", "n", "none"), ("LRANGE", "l", 0, -1), ("SELECT", "16"),
                         ("GET", "n"), ("DBSIZE",)]
        self.assert_as_plain(commands, pipelined=True)

    def test_random_commands_in_random_databases(self):
        for seed in range(4):
            self.setUp()
            chance = random.Random(seed)
            commands = []
            for i in range(400):
                key = f"k{chance.randrange(4)}"
                commands.append(chance.choice([
                    ("SELECT", chance.randrange(4)), ("SELECT", chance.randrange(4)), ("SET", key, i), ("GET", key),
                    ("GET", key), ("GET", key), ("DEL", key), ("EXISTS", key), ("STRLEN", key), ("APPEND", key, "x"),
                    ("MGET", "k0", "k1", "k2", "k3"), ("MOVE", key, chance.randrange(5)),
                    ("COPY", key, f"k{chance.randrange(4)}", "DB", chance.randrange(4), "REPLACE"),
                    ("SWAPDB", chance.randrange(4), chance.randrange(4)), ("DBSIZE",), ("FLUSHDB",)]))
            with self.subTest(seed=seed):
                self.assert_as_plain(commands, pipelined=seed % 2 == 0)

    def test_hello_keeps_the_database_and_reset_leaves_it(self):
        self.assert_as_plain([("SET", "k", "zero"), ("SELECT", 3), ("SET", "k", "three"), ("RESET",), ("GET", "k"),
                              ("SELECT", 3), ("GET", "k"), ("RESET",), ("SELECT", 0), ("GET", "k")])
        for client in (self.client(3), self.client(3, at=plain)):
            client.call("SET", "kept", "three")
            self.assertEqual(client.call("HELLO", 3)[b"proto"], 3)
            self.assertEqual(client.call("GET", "kept"), b"three")

    def test_transactions_run_in_the_database(self):
        for protocol in (2, 3):
            self.assert_as_plain([("SET", "k", "zero"), ("SELECT", 3), ("MULTI",), ("SET", "k", "three"), ("GET", "k"),
                                  ("DBSIZE",), ("EXEC",), ("GET", "k"), ("SELECT", 0), ("GET", "k"), ("MULTI",), ("GET", "k"),
                                  ("DISCARD",), ("SELECT", 3), ("WATCH", "k"), ("GET", "k"), ("MULTI",), ("INCR", "n"),
                                  ("EXEC",), ("SELECT", 0), ("EXISTS", "n")], protocol)

    def test_a_transaction_watched_in_one_database_runs_in_the_one_selected_since(self):
        self.assert_as_plain([("SET", "k", "zero"), ("WATCH", "k"), ("SELECT", 3), ("SET", "k", "three"), ("GET", "k"),
                              ("WATCH", "w"), ("SELECT", "16"), ("MULTI",), ("GET", "k"), ("SET", "w", 1), ("EXEC",),
                              ("GET", "w"), ("SELECT", 0), ("GET", "w"), ("GET", "k"), ("MULTI",), ("GET", "k"), ("EXEC",)])
        # Another client's transaction in database 0 gets no connection that was left in database 3.
        self.assert_as_plain([("MULTI",), ("GET", "k"), ("GET", "w"), ("EXEC",)])

    def test_blocking_commands_pop_from_the_database(self):
        self.assert_as_plain([("RPUSH", "l", "zero"), ("SELECT", 3), ("RPUSH", "l", "three"), ("BLPOP", "l", 1),
                              ("EXISTS", "l"), ("BLPOP", "l", 0.05), ("SELECT", 0), ("LRANGE", "l", 0, -1),
                              ("BLPOP", "l", 1), ("EXISTS", "l")])


class CachedApart(Case):
    def test_one_key_has_a_value_in_each_database(self):
        writer = self.direct()
        readers = [self.client(database) for database in range(4)]
        for database in range(4):
            writer.pipeline([("SELECT", database), ("SET", "k", f"v{database}")])
        for database, reader in enumerate(readers):
            self.warm(reader, "k", b"v%d" % database)
        before = sidecar.hits
        for database, reader in enumerate(readers):
            self.assertEqual(reader.call("GET", "k"), b"v%d" % database)
        self.assertEqual(sidecar.hits, before + 4)

    def test_clients_of_one_database_share_its_entries(self):
        self.direct(5).call("SET", "shared", "v")
        self.warm(self.client(5), "shared", b"v")
        other = self.client(5)
        before = sidecar.hits
        self.assertEqual(other.call("GET", "shared"), b"v")
        self.assertEqual(sidecar.hits, before + 1)

    def test_an_absent_key_of_one_database_is_not_absent_in_another(self):
        self.direct(2).call("SET", "here", "v")
        zero, two = self.client(), self.client(2)
        self.warm(zero, "here", None)
        self.warm(two, "here", b"v")
        self.direct().call("SET", "here", "now")
        eventually(lambda: zero.call("GET", "here") == b"now", "the new key", MAX_STALENESS_S)
        self.assertEqual(two.call("GET", "here"), b"v")

    def test_foreign_writes_are_heard_of_in_each_database(self):
        readers = {database: self.client(database) for database in (0, 3, 7)}
        for i in range(20):
            for written, reader in readers.items():
                writer = self.direct(written)
                value = b"%d in %d" % (i, written)
                writer.call("SET", "k", value)
                self.clients.remove(writer)
                writer.close()
                eventually(lambda: reader.call("GET", "k") == value, f"{value} to be seen", MAX_STALENESS_S)
                # All read again, so that the next write meets entries of all databases.
                for database, other in readers.items():
                    other.pipeline([("GET", "k")] * 2)
        for database, reader in readers.items():
            self.assertEqual(reader.call("GET", "k"), b"19 in %d" % database)

    def test_own_writes_are_seen_by_others_of_the_database_at_once(self):
        writers = [self.client(database) for database in (0, 3)]
        readers = [self.client(database) for database in (0, 3)]
        for i in range(100):
            for writer, reader in zip(writers, readers):
                self.assertEqual(writer.call("SET", "own", i), b"OK")
                self.assertEqual(reader.pipeline([("GET", "own")] * 2), [b"%d" % i] * 2)

    def test_expiry_is_each_databases_own(self):
        self.direct().call("SET", "e", "stays")
        self.direct(3).call("SET", "e", "goes", "PX", 400)
        zero, three = self.client(), self.client(3)
        self.warm(zero, "e", b"stays")
        eventually(lambda: three.call("GET", "e") is None, "its end", MAX_STALENESS_S)
        self.assertEqual(zero.call("GET", "e"), b"stays")


class AcrossDatabases(Case):
    """Commands that name another database than the client's."""

    def filled(self, *databases):
        for database in databases:
            self.direct(database).call("SET", "k", f"v{database}")
        readers = [self.client(database) for database in databases]
        for database, reader in zip(databases, readers):
            self.warm(reader, "k", b"v%d" % database)
        return readers

    def test_move_takes_a_key_from_one_database_into_another(self):
        zero, three = self.client(), self.client(3)
        for i in range(20):
            zero.call("SET", "m", i)
            self.warm(zero, "m", b"%d" % i)
            self.warm(three, "m", None)
            self.assertEqual(zero.call("MOVE", "m", 3), 1)
            self.assertEqual([zero.call("GET", "m"), three.call("GET", "m")], [None, b"%d" % i])
            self.assertEqual(three.call("DEL", "m"), 1)

    def test_a_foreign_move_is_heard_of_in_both(self):
        zero, three = self.client(), self.client(3)
        self.direct().call("SET", "m", "v")
        self.warm(zero, "m", b"v")
        self.warm(three, "m", None)
        self.assertEqual(self.direct().call("MOVE", "m", 3), 1)
        eventually(lambda: [zero.call("GET", "m"), three.call("GET", "m")] == [None, b"v"], "the move", MAX_STALENESS_S)

    def test_copy_into_another_database(self):
        zero, three = self.filled(0, 3)
        self.assertEqual(zero.call("COPY", "k", "k", "DB", 3), 0)
        self.assertEqual(three.call("GET", "k"), b"v3")
        self.assertEqual(zero.call("COPY", "k", "k", "DB", 3, "REPLACE"), 1)
        self.assertEqual([zero.call("GET", "k"), three.call("GET", "k")], [b"v0", b"v0"])
        self.warm(three, "copied", None)
        self.assertEqual(zero.call("COPY", "k", "copied", "DB", 3), 1)
        self.assertEqual([zero.call("GET", "copied"), three.call("GET", "copied")], [None, b"v0"])

    def test_flushdb_empties_one_database_and_flushall_all(self):
        zero, three = self.filled(0, 3)
        three.call("FLUSHDB")
        self.assertEqual([zero.call("GET", "k"), three.call("GET", "k")], [b"v0", None])
        zero.call("FLUSHALL")
        self.assertEqual([zero.call("GET", "k"), three.call("GET", "k")], [None, None])

    def test_foreign_flushes_are_heard_of(self):
        zero, three = self.filled(0, 3)
        self.direct(3).call("FLUSHDB")
        eventually(lambda: [zero.call("GET", "k"), three.call("GET", "k")] == [b"v0", None], "FLUSHDB", MAX_STALENESS_S)
        self.warm(zero, "k", b"v0")
        self.direct(3).call("FLUSHALL")
        eventually(lambda: zero.call("GET", "k") is None, "FLUSHALL", MAX_STALENESS_S)

    def test_own_swapdb_is_seen_at_once_also_of_databases_that_are_not_the_clients(self):
        zero, three, five = self.filled(0, 3, 5)
        got = [b"v0", b"v3", b"v5"]
        for a, b in ((0, 1), (1, 2), (0, 2), (1, 2), (0, 1)):
            zero.call("SWAPDB", (0, 3, 5)[a], (0, 3, 5)[b])
            got[a], got[b] = got[b], got[a]
            self.assertEqual([reader.call("GET", "k") for reader in (zero, three, five)], got)
        self.assertEqual(zero.pipeline([("MULTI",), ("SWAPDB", 3, 5), ("EXEC",)])[2], [b"OK"])
        got[1], got[2] = got[2], got[1]
        self.assertEqual([reader.call("GET", "k") for reader in (zero, three, five)], got)

    def test_a_foreign_swapdb_is_seen_within_max_staleness(self):
        _, three, five = self.filled(0, 3, 5)
        for one, other in ((b"v5", b"v3"), (b"v3", b"v5")):
            server.call("SWAPDB", 3, 5)
            swapped = time.monotonic()
            while time.monotonic() < swapped + MAX_STALENESS_S:
                three.call("GET", "k")
                five.call("GET", "k")
            self.assertEqual([three.call("GET", "k"), five.call("GET", "k")], [one, other])

    def test_a_script_that_selects_leaves_the_clients_database_alone(self):
        zero, three = self.filled(0, 3)
        script = "redis.call('SELECT', 3); redis.call('SET', KEYS[1], 'scripted'); return redis.call('GET', KEYS[1])"
        self.assertEqual(zero.call("EVAL", script, 1, "k"), b"scripted")
        self.assertEqual([zero.call("GET", "k"), three.call("GET", "k")], [b"v0", b"scripted"])


class PinnedThere(Case):
    def test_client_reply_keeps_the_answers_of_select_back(self):
        for address in (sidecar.address, plain.address):
            with Client(address, timeout=PATIENCE_S) as client:
                client.raw(b"".join(encode(*command) for command in [
                    ("CLIENT", "REPLY", "OFF"), ("SELECT", 3), ("SET", "k", "three"), ("SELECT", 99), ("WATCH", "k"),
                    ("SELECT", 4), ("SET", "k", "four"), ("CLIENT", "REPLY", "ON"), ("GET", "k"), ("UNWATCH",),
                    ("CLIENT", "REPLY", "SKIP"), ("SELECT", 3), ("GET", "k"), ("SELECT", 4), ("GET", "k")]))
                self.assertEqual([client.read() for _ in range(6)], [b"OK", b"four", b"OK", b"three", b"OK", b"four"])

    def test_what_was_watched_as_somebody_else_is_not_executed_as_him(self):
        for change in (("HELLO", 3), ("AUTH", "other", "pw")):
            server.call("ACL", "SETUSER", "other", "on", ">pw", "~*", "&*", "+@all")
            self.addCleanup(server.call, "ACL", "DELUSER", "other")
            client = self.client()
            client.pipeline([("WATCH", "w"), change, ("MULTI",)])
            client.call("SET", "w", 1)
            client.send("ACL", "WHOAMI")
            client.read()
            client.send("EXEC")
            # Nothing tells any more whether what was watched changed.
            self.assertEqual(client.read_raw(), b"_\r\n" if change[0] == "HELLO" else b"*-1\r\n")
            self.assertEqual(client.pipeline([("WATCH", "w"), ("MULTI",), ("SET", "w", 1), ("ACL", "WHOAMI"), ("EXEC",)])[4],
                             [b"OK", b"default" if change[0] == "HELLO" else b"other"])

    def test_a_write_in_another_database_does_not_fail_a_watch(self):
        three = self.client(3)
        three.call("SET", "w", 1)
        self.assertEqual(three.call("WATCH", "w"), b"OK")
        self.direct().call("SET", "w", "elsewhere")
        self.assertEqual(three.pipeline([("MULTI",), ("INCR", "w"), ("EXEC",)])[2], [2])
        self.assertEqual(three.call("WATCH", "w"), b"OK")
        self.direct(3).call("SET", "w", 9)
        self.assertIsNone(three.pipeline([("MULTI",), ("INCR", "w"), ("EXEC",)])[2])

    def test_select_within_a_transaction_is_refused_and_aborts_it(self):
        client = self.client()
        self.assertEqual(client.call("MULTI"), b"OK")
        with self.assertRaises(ReplyError):
            client.call("SELECT", 3)
        with self.assertRaises(ReplyError) as refused:
            client.call("EXEC")
        self.assertEqual(refused.exception.code, "EXECABORT")
        self.assertIn(b" db=0 ", client.call("CLIENT", "INFO"))

    def test_a_blocked_client_hears_of_a_push_in_its_database_only(self):
        for protocol in (2, 3):
            three = self.client(3, protocol=protocol)
            three.send("BLPOP", "queue", 0)
            self.client().call("RPUSH", "queue", "not for it")
            self.direct(1).call("RPUSH", "queue", "nor this")
            eventually(lambda: server.info("clients")["blocked_clients"] == "1", "the client to block")
            self.client(3).call("RPUSH", "queue", "for it")
            self.assertEqual(three.read(), [b"queue", b"for it"])
            self.assertEqual(self.client().call("LPOP", "queue"), b"not for it")

    def test_messages_know_no_databases(self):
        three = self.client(3, protocol=3)
        three.send("SUBSCRIBE", "news")
        eventually(lambda: server.call("PUBSUB", "NUMSUB", "news")[1] == 1, "the subscription")
        self.assertEqual(self.client(5).call("PUBLISH", "news", "hello"), 1)
        self.assertEqual(list(three.read_push())[:2], [b"subscribe", b"news"])
        self.assertEqual(list(three.read_push()), [b"message", b"news", b"hello"])
        # In RESP3 a subscriber may go on, into another database too, and stays one.
        self.assertEqual(three.call("SET", "k", "three"), b"OK")
        self.assertEqual(three.call("SELECT", 4), b"OK")
        self.assertIsNone(three.call("GET", "k"))
        server.call("PUBLISH", "news", "again")
        self.assertEqual(list(three.read_push()), [b"message", b"news", b"again"])

    def test_a_resp2_subscriber_may_not_select(self):
        for at in (sidecar, plain):
            client = self.client(at=at)
            client.call("SUBSCRIBE", "news")
            with self.assertRaises(ReplyError) as refused:
                client.call("SELECT", 3)
            self.assertIn("Can't execute 'select'", str(refused.exception))
            client.call("UNSUBSCRIBE", "news")
            self.assertEqual(client.call("SELECT", 3), b"OK")


class InDatabase:
    """A sidecar, or a server, whose clients are all in one database."""

    def __init__(self, at, database):
        self.at, self.database = at, database

    def client(self):
        client = self.at.client(timeout=PATIENCE_S)
        client.call("SELECT", self.database)
        return client


class UnderLoad(Case):
    def test_nobody_is_told_an_old_value_while_all_databases_write_the_same_keys(self):
        databases = (0, 3, 7)
        with contextlib.ExitStack() as stack:
            traffics = []
            for database in databases:
                direct = stack.enter_context(InDatabase(server, database).client())
                traffics.append(stack.enter_context(
                    Traffic(InDatabase(sidecar, database), direct.call, MAX_STALENESS_S, keys=3, readers=2)))
            before = sidecar.hits
            for i in range(10):
                traffics[0].run(0.2)
                # Others' databases change places, and keys come and go where nobody looks.
                self.client(11).pipeline([("SET", self.name(i), i), ("MOVE", self.name(i), 12), ("SWAPDB", 11, 12)])
                server.call("SWAPDB", 12, 13)
            for traffic in traffics:
                traffic.wait_progress()
        for database, traffic in zip(databases, traffics):
            self.assertEqual((database, traffic.lies[:3], traffic.error_texts), (database, [], set()))
        self.assertGreater(sidecar.hits, before + 100)

    def name(self, i):
        return f"traffic:own:{i % 3}"


class ManyClients(Case):
    def test_a_herd_that_selects_one_database_costs_one_question(self):
        one = Sidecar(server.url)
        self.addCleanup(one.close)
        self.direct(9).call("SET", "herd", "nine")
        clients = [self.client(at=one) for _ in range(200)]
        clients[0].call("PING")
        before = int(server.info("stats")["total_connections_received"])
        server.signal(signal.SIGSTOP)
        try:
            for client in clients:
                client.raw(encode("SELECT", 9) + encode("GET", "herd"))
            time.sleep(0.3)
        finally:
            server.signal(signal.SIGCONT)
        for client in clients:
            self.assertEqual([client.read(), client.read()], [b"OK", b"nine"])
        opened = int(server.info("stats")["total_connections_received"]) - before
        # The question, two workers' data connections and a fill link; two of this test's own.
        self.assertLess(opened, 20)

    def test_a_herd_that_selects_what_is_no_database_is_refused_each(self):
        clients = [self.client() for _ in range(100)]
        for n, client in enumerate(clients):
            client.raw(encode("SELECT", 100 + n % 3) + encode("SELECT", 0))
        for client in clients:
            client.timeout = PATIENCE_S
            with self.assertRaisesRegex(ReplyError, "^ERR DB index is out of range$"):
                reply = client.read()
                if isinstance(reply, ReplyError):
                    raise reply
            self.assertEqual(client.read(), b"OK")

    def test_clients_that_go_before_the_answer_leave_nothing_behind(self):
        one = Sidecar(server.url)
        self.addCleanup(one.close)
        commands = [("SELECT", 5), ("SET", "gone", 1), ("WATCH", "gone"), ("SELECT", 1), ("MULTI",), ("SET", "gone", 2),
                    ("GET", "gone"), ("EXEC",)]
        for n in range(200):
            client = Client(one.address, timeout=PATIENCE_S)
            client.raw(b"".join(encode(*command) for command in commands))
            for _ in range(n % len(commands)):
                client.read()
            if n % 3:  # without a farewell
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        eventually(lambda: one.metric("nearcached_clients") == 0, "their end")
        self.assertEqual(self.client(3, at=one).pipeline([("SET", "after", 1), ("GET", "after")])[1], b"1")


class Elsewhere(unittest.TestCase):
    """Sidecars of their own."""

    def sidecar(self, url, settings=None):
        one = Sidecar(url, settings)
        self.addCleanup(one.close)
        return one

    def client(self, at, **options):
        client = at.client(**options)
        self.addCleanup(client.close)
        return client

    def refusal(self, client, *command):
        with self.assertRaises(ReplyError) as refused:
            client.call(*command)
        return str(refused.exception)

    def test_the_database_of_the_url_is_where_clients_begin_and_where_reset_leads(self):
        with server.client() as direct:
            direct.pipeline([("SET", "u", "zero"), ("SELECT", 6), ("SET", "u", "six")])
        client = self.client(self.sidecar(f"{server.url}/6"))
        self.assertIn(b" db=6 ", client.call("CLIENT", "INFO"))
        self.assertEqual(client.pipeline([("GET", "u"), ("SELECT", 0), ("GET", "u"), ("RESET",), ("GET", "u")]),
                         [b"six", b"OK", b"zero", b"RESET", b"six"])

    def test_before_a_cluster_there_is_database_0_alone(self):
        with Cluster(primaries=3) as cluster:
            client = self.client(self.sidecar(cluster.url))
            self.assertEqual(client.call("SELECT", 0), b"OK")
            for _ in range(3):
                self.assertEqual(self.refusal(client, "SELECT", 1), "ERR SELECT is not allowed in cluster mode")
            self.assertEqual(client.pipeline([("SET", "k", 1), ("SELECT", "1"), ("GET", "k")])[2], b"1")

    def test_each_database_counts_as_an_identity_and_room_comes_back(self):
        one = self.sidecar(server.url, {"limits.identities": 3})
        clients = [self.client(one) for _ in range(4)]
        self.assertEqual([clients[n].call("SELECT", n) for n in (1, 2)], [b"OK"] * 2)
        self.assertEqual(self.refusal(clients[3], "SELECT", 3),
                         "ERR nearcached: too many different users and databases (limits.identities)")
        self.assertEqual([one.metric(f"nearcached_identities{which}") for which in ("", "_max")], [3, 3])
        self.assertEqual(clients[3].call("SELECT", 2), b"OK")
        clients[1].call("SELECT", 0)
        self.assertEqual(clients[3].call("SELECT", 3), b"OK")
        self.assertEqual(clients[3].pipeline([("SET", "counted", 3), ("GET", "counted")])[1], b"3")

    def test_users_keep_apart_in_a_database_and_auth_keeps_it(self):
        server.call("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
        server.call("ACL", "SETUSER", "bound", "on", ">pw", "~*", "&*", "+@all", "-select")
        self.addCleanup(server.call, "ACL", "DELUSER", "app", "bound")
        one = self.sidecar(server.url)
        with server.client() as direct:
            direct.pipeline([("SELECT", 3), ("SET", "a", "three"), ("SELECT", 0), ("SET", "a", "zero")])
        client = self.client(one)
        self.assertEqual(client.pipeline([("SELECT", 3), ("AUTH", "app", "pw"), ("GET", "a"), ("GET", "a"), ("ACL", "WHOAMI")]),
                         [b"OK", b"OK", b"three", b"three", b"app"])
        self.assertEqual(client.call("HELLO", 3, "AUTH", "app", "pw")[b"proto"], 3)
        self.assertEqual(client.pipeline([("GET", "a"), ("RESET",), ("GET", "a"), ("ACL", "WHOAMI")]),
                         [b"three", b"RESET", b"zero", b"default"])
        bound = self.client(one, username="bound", password="pw")
        self.assertTrue(self.refusal(bound, "SELECT", 3).startswith("NOPERM"))
        self.assertEqual(bound.call("GET", "a"), b"zero")

    def test_without_a_password_select_says_what_the_upstream_says(self):
        with RedisServer(password="sesame") as locked:
            one = self.sidecar(f"redis://{locked.address}")
            client = self.client(one)
            self.assertEqual(self.refusal(client, "SELECT", 3), "NOAUTH Authentication required.")
            self.assertEqual(client.pipeline([("AUTH", "sesame"), ("SELECT", 3), ("SET", "k", 1)]), [b"OK"] * 3)
            self.assertIn(b" db=3 ", client.call("CLIENT", "INFO"))

    def test_sidecars_that_tell_each_other_do_so_for_every_database(self):
        settings = {"coherence.mode": "bus", "coherence.bus.type": "redis", "coherence.max_staleness": "5s"}
        writing, reading = (self.sidecar(server.url, settings) for _ in range(2))
        for one in (writing, reading):
            eventually(lambda one=one: any(node["state"] == "bus" for node in one.stats()["upstream"]["nodes"]), "the bus")
        writers, readers = ([self.client(at) for _ in range(2)] for at in (writing, reading))
        for clients in (writers, readers):
            self.assertEqual(clients[1].call("SELECT", 3), b"OK")
        told = []
        for i in range(60):
            for writer, reader in zip(writers, readers):
                value = b"%d of %d" % (i, writers.index(writer))
                writer.call("SET", "bus", value)
                begun = time.monotonic()
                eventually(lambda: reader.call("GET", "bus") == value, "the message")
                told.append(time.monotonic() - begun)
                reader.pipeline([("GET", "bus")] * 3)
        self.assertLess(sorted(told)[len(told) * 9 // 10], 0.25)
        self.assertGreater(reading.hits, 100)

    def test_a_server_that_comes_back_is_greeted_with_the_database_again(self):
        with RedisServer(appendonly=True) as other:
            one = self.sidecar(other.url)
            client = self.client(one)
            client.pipeline([("SET", "k", "zero"), ("SELECT", 3), ("SET", "k", "three")])
            other.kill()
            other.start()

            def answered():
                try:
                    return client.call("GET", "k") == b"three"
                except ReplyError:
                    return False
            eventually(answered, "database 3 to be read again")
            self.assertEqual(client.pipeline([("MULTI",), ("GET", "k"), ("EXEC",)])[2], [b"three"])


if __name__ == "__main__":
    main()
