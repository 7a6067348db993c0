#!/usr/bin/env python3
"""Who a client is: checked with the upstream, with connections and L1 entries of its own."""

import random
import unittest

from system import (Client, Cluster, RedisServer, ReplyError, Sidecar, ServerError, encode, eventually, main)

PASSWORD = "sesame"
USERS = {
    "app": (">app-pw", "~*", "&*", "+@all"),
    "narrow": (">narrow-pw", "~a:*", "&*", "+@all"),
    "reader": (">reader-pw", "~*", "&*", "+@read", "+@connection", "+client|tracking", "+info", "+cluster|info",
               "+cluster|nodes",
               "+cluster|slots", "+cluster|shards"),
    "odd:user": (">p@ss:/?#%word", "~*", "&*", "+@all"),
}


def add_users(node):
    for name, rules in USERS.items():
        node.call("ACL", "SETUSER", name, "on", *rules)


def setUpModule():
    global cluster, anonymous, configured
    cluster = Cluster(primaries=3, password=PASSWORD)
    for node in cluster.nodes:
        add_users(node)
    nobody = cluster.url.replace(f":{PASSWORD}@", "")
    anonymous = Sidecar(nobody)
    configured = Sidecar(cluster.url)


def tearDownModule():
    for server in (anonymous, configured, cluster):
        server.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        for one in (anonymous, configured):
            if not one.alive:
                code = one.process.poll()
                one.start()
                self.fail(f"the sidecar ended with {code}")

    def client(self, sidecar=None, **options):
        client = (sidecar or anonymous).client(**options)
        self.clients.append(client)
        return client

    def reference(self):
        """A connection straight to a node, not authenticated."""
        client = Client(cluster.nodes[0].address)
        self.clients.append(client)
        return client

    def assert_as_redis(self, *commands):
        ours, theirs = self.client(), self.reference()
        for command in commands:
            with self.subTest(command=command):
                ours.send(*command)
                theirs.send(*command)
                self.assertEqual(ours.read_raw(), theirs.read_raw())


class WhatWorkedBeforeWorksHere(Case):
    """No credentials configured: the clients' own URLs carry them."""

    def test_a_password_alone(self):
        for protocol in (2, 3):
            client = self.client(protocol=protocol, password=PASSWORD)
            self.assertEqual(client.pipeline([("SET", "p", protocol), ("GET", "p"), ("MGET", "p", "p:no", "p:none")]),
                             [b"OK", b"%d" % protocol, [b"%d" % protocol, None, None]])

    def test_a_user_and_a_password(self):
        for protocol in (2, 3):
            client = self.client(protocol=protocol, username="app", password="app-pw")
            self.assertEqual(client.call("SET", "u", 1), b"OK")
            self.assertEqual(client.call("ACL", "WHOAMI"), b"app")
            self.assertIn(b"user=app", client.call("CLIENT", "INFO"))

    def test_odd_characters_in_names_and_passwords(self):
        client = self.client(username="odd:user", password="p@ss:/?#%word")
        self.assertEqual(client.call("ACL", "WHOAMI"), b"odd:user")

    def test_reads_of_an_authenticated_user_become_hits(self):
        client = self.client(username="app", password="app-pw")
        client.call("SET", "hit", "v")

        def hit():
            before = anonymous.hits
            client.pipeline([("GET", "hit")] * 3)
            return anonymous.hits > before
        eventually(hit, "a hit for a user that only clients named")
        cluster.call("SET", "hit", "foreign")
        eventually(lambda: client.call("GET", "hit") == b"foreign", "the invalidation for that user's entries", 2)

    def test_the_identity_can_change_on_one_connection(self):
        client = self.client(username="app", password="app-pw")
        self.assertEqual(client.call("ACL", "WHOAMI"), b"app")
        client.call("AUTH", "narrow", "narrow-pw")
        self.assertEqual(client.call("ACL", "WHOAMI"), b"narrow")
        client.call("AUTH", PASSWORD)
        self.assertEqual(client.call("ACL", "WHOAMI"), b"default")
        client.call("HELLO", 3, "AUTH", "app", "app-pw")
        self.assertEqual(client.call("ACL", "WHOAMI"), b"app")


class Refused(Case):
    def test_wrong_credentials_get_the_upstreams_words(self):
        self.assert_as_redis(("AUTH", "wrong"), ("AUTH", "app", "wrong"), ("AUTH", "nobody", "x"), ("AUTH", ""),
                             ("AUTH", "app", ""),
                             ("HELLO", 3, "AUTH", "app", "wrong"), ("HELLO", 3, "AUTH", "default", "wrong"))

    def test_nobody_is_told_to_authenticate(self):
        self.assert_as_redis(("GET", "x"), ("SET", "x", 1), ("INCR", "x"), ("DBSIZE",), ("NOSUCH", "x"))
        for protocol in ((), ("HELLO", 2)):
            client = self.client()
            if protocol:
                client.pipeline([protocol])
            for command in (("GET", "x"), ("MGET", "x", "y", "z"), ("MSET", "x", 1, "y", 1), ("DEL", "x", "y"),
                            ("KEYS", "*"), ("EVAL", "return 1", 0)):
                with self.assertRaisesRegex(ReplyError, "^NOAUTH"):
                    client.call(*command)

    def test_nobody_gets_nothing_from_the_l1_of_others(self):
        client = self.client(username="app", password="app-pw")
        client.call("SET", "secret", "v")
        for _ in range(5):
            client.call("GET", "secret")
        for _ in range(5):
            with self.assertRaisesRegex(ReplyError, "^NOAUTH"):
                self.client().call("GET", "secret")
            with self.assertRaisesRegex(ReplyError, "^NOAUTH"):
                self.client().call("MGET", "secret", "secret")

    def test_a_failed_auth_does_not_change_who_one_is(self):
        client = self.client(username="app", password="app-pw")
        for wrong in (("AUTH", "wrong"), ("AUTH", "narrow", "wrong"), ("HELLO", 3, "AUTH", "narrow", "wrong")):
            with self.assertRaisesRegex(ReplyError, "^WRONGPASS"):
                client.call(*wrong)
            self.assertEqual(client.call("ACL", "WHOAMI"), b"app")

    def test_reset_ends_the_identity(self):
        client = self.client(username="app", password="app-pw")
        client.call("RESET")
        with self.assertRaisesRegex(ReplyError, "^NOAUTH"):
            client.call("GET", "x")

    def test_a_password_that_was_changed_is_asked_for_anew(self):
        for node in cluster.nodes:
            node.call("ACL", "SETUSER", "changing", "on", ">one", "~*", "+@all")
        self.assertEqual(self.client(username="changing", password="one").call("SET", "c", 1), b"OK")
        for node in cluster.nodes:
            node.call("ACL", "SETUSER", "changing", "<one", ">two")
        with self.assertRaisesRegex(ReplyError, "^WRONGPASS"):
            self.client(username="changing", password="one")
        self.assertEqual(self.client(username="changing", password="two").call("SET", "c", 2), b"OK")


class Apart(Case):
    def test_a_key_that_one_user_may_not_read_is_not_served_from_anothers_entry(self):
        broad = self.client(username="app", password="app-pw")
        narrow = self.client(username="narrow", password="narrow-pw")
        broad.call("MSET", "a:1", "mine", "b:1", "theirs", "b:2", "theirs")
        for _ in range(5):
            self.assertEqual(broad.call("GET", "b:1"), b"theirs")
            self.assertEqual(narrow.call("GET", "a:1"), b"mine")
            for command in (("GET", "b:1"), ("MGET", "a:1", "b:1"), ("SET", "b:1", "x"), ("STRLEN", "b:1")):
                with self.assertRaisesRegex(ReplyError, "^NOPERM"):
                    narrow.call(*command)
        self.assertEqual(broad.call("GET", "b:1"), b"theirs")

    def test_a_user_that_may_only_read_cannot_write(self):
        reader = self.client(username="reader", password="reader-pw")
        self.client(username="app", password="app-pw").call("SET", "r", 1)
        self.assertEqual(reader.call("GET", "r"), b"1")
        for command in (("SET", "r", 2), ("DEL", "r", "s"), ("MSET", "r", 1, "s", 2), ("FLUSHALL",)):
            with self.assertRaisesRegex(ReplyError, "^NOPERM"):
                reader.call(*command)
        self.assertEqual(reader.call("GET", "r"), b"1")

    def test_one_users_write_is_anothers_next_read(self):
        broad = self.client(username="app", password="app-pw")
        narrow = self.client(username="narrow", password="narrow-pw")
        for i in range(300):
            narrow.call("SET", "a:x", i)
            self.assertEqual(broad.call("GET", "a:x"), b"%d" % i)
            broad.call("SET", "a:x", -i)
            self.assertEqual(narrow.call("GET", "a:x"), b"%d" % -i)

    def test_auth_in_the_middle_of_a_pipeline_takes_effect_exactly_there(self):
        commands = [("AUTH", "app", "app-pw"), ("SET", "b:k", "v"), ("GET", "b:k"), ("AUTH", "narrow", "narrow-pw"),
                    ("GET", "b:k"), ("GET", "a:k"),
                    ("AUTH", "app", "app-pw"), ("GET", "b:k"), ("AUTH", "wrong"), ("GET", "b:k"), ("RESET",),
                    ("GET", "b:k"), ("AUTH", PASSWORD),
                    ("STRLEN", "b:k")]
        expected = [b"OK", b"OK", b"v", b"OK", "NOPERM", None, b"OK", b"v", "WRONGPASS", b"v", b"RESET", "NOAUTH", b"OK", 1]
        for _ in range(10):
            replies = self.client().pipeline(commands)
            self.assertEqual([r.code if isinstance(r, ReplyError) else r for r in replies], expected)

    def test_random_changes_of_identity_answer_as_the_server_does(self):
        rng = random.Random(7)
        choices = [("AUTH", "app", "app-pw"), ("AUTH", "narrow", "narrow-pw"), ("AUTH", "narrow", "bad"),
                   ("AUTH", PASSWORD), ("RESET",),
                   ("GET", "{a}:1"), ("SET", "{a}:1", 1), ("GET", "a:1"), ("APPEND", "a:1", "x"), ("ACL", "WHOAMI"),
                   ("STRLEN", "{a}:1")]
        twin = RedisServer(password=PASSWORD)
        self.addCleanup(twin.close)
        add_users(twin)
        theirs = Client(twin.address)
        self.clients.append(theirs)
        self.client(configured).call("DEL", "{a}:1", "a:1")
        commands = [("AUTH", PASSWORD)] + [rng.choice(choices) for _ in range(300)]
        ours = self.client()
        ours.raw(b"".join(encode(*command) for command in commands))
        for i, command in enumerate(commands):
            theirs.send(*command)  # one by one: Redis 8 and Valkey 8 leave out AUTH's error in the midst of a pipeline
            self.assertEqual(ours.read_raw(), theirs.read_raw(), f"command {i}: {command}")


class Configured(Case):
    def test_configured_credentials_serve_clients_that_bring_none(self):
        client = self.client(configured)
        self.assertEqual(client.pipeline([("SET", "conf", 1), ("GET", "conf")]), [b"OK", b"1"])
        configured.wait_caching(links=3)

    def test_clients_may_still_be_somebody_else(self):
        narrow = self.client(configured, username="narrow", password="narrow-pw")
        self.client(configured).call("SET", "b:conf", 1)
        self.client(configured).call("GET", "b:conf")
        with self.assertRaisesRegex(ReplyError, "^NOPERM"):
            narrow.call("GET", "b:conf")
        narrow.call("RESET")
        self.assertEqual(narrow.call("GET", "b:conf"), b"1")

    def test_user_and_password_file(self):
        with RedisServer(password=PASSWORD) as server:
            add_users(server)
            file = server.directory / "password"
            file.write_text("app-pw\nsecond line\n")
            with Sidecar(f"redis://{server.address}",
                         {"upstream.username": "app", "upstream.password_file": file}) as sidecar:
                self.assertEqual(sidecar.call("ACL", "WHOAMI"), b"app")
                sidecar.wait_caching()

    def test_the_password_in_the_environment(self):
        with RedisServer(password=PASSWORD) as server, \
                Sidecar(f"redis://{server.address}", environment={"NEARCACHED_UPSTREAM__PASSWORD": PASSWORD}) as sidecar:
            self.assertEqual(sidecar.call("SET", "e", 1), b"OK")

    def test_wrong_configured_credentials_are_told_to_clients_and_logged(self):
        with RedisServer(password=PASSWORD) as server, Sidecar(f"redis://:bad@{server.address}") as sidecar:
            with self.assertRaisesRegex(ReplyError, "^WRONGPASS"):
                sidecar.call("GET", "x")
            self.assertNotIn("bad@", "\n".join(sidecar.log))
            sidecar.wait_for_log("WRONGPASS")
            with sidecar.client(password=PASSWORD) as client:
                self.assertEqual(client.call("SET", "x", 1), b"OK")

    def test_secrets_are_in_no_log_and_no_page(self):
        client = self.client(username="app", password="app-pw")
        client.call("GET", "x")
        text = "\n".join([*anonymous.log, *configured.log, anonymous.http("/stats")[1], configured.http("/metrics")[1],
                          configured.http("/")[1]])
        for secret in (PASSWORD, "app-pw"):
            self.assertNotIn(secret, text)


class Limit(Case):
    def test_more_identities_than_allowed_are_refused_and_the_others_go_on(self):
        with RedisServer() as server:
            for i in range(6):
                server.call("ACL", "SETUSER", f"u{i}", "on", f">p{i}", "~*", "+@all")
            with Sidecar(server.url, {"limits.identities": 4}) as few:
                kept, refused = [], 0
                for i in range(6):
                    try:
                        kept.append(few.client(username=f"u{i}", password=f"p{i}"))
                    except ReplyError as error:
                        self.assertIn("limits.identities", str(error))
                        refused += 1
                self.assertGreaterEqual(refused, 1)
                self.assertLessEqual(len(kept), 4)
                for client in kept:
                    self.assertEqual(client.call("SET", "x", 1), b"OK")
                    client.close()

                def room():
                    try:
                        with few.client(username="u5", password="p5") as late:
                            return late.call("PING") == b"PONG"
                    except (ReplyError, ServerError):
                        return False
                eventually(room, "room for another identity once the others have gone")


if __name__ == "__main__":
    main()
