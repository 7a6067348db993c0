"""The deny list and the configuration's own users, before a real server: who is let in, to what, and that no secret is told."""

import hashlib
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from system import BINARY, RedisServer, ReplyError, Sidecar, eventually  # noqa: E402

SECRET, OTHER, MAPPED, FILED = "Tops3cret", "0ther-s3cret", "mapped-s3cret", "filed-s3cret"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


USERS = f"""
users:
  - name: app
    password_hashes: ["{sha256(SECRET)}"]
    commands: ["+@all", "-@dangerous", "+info"]
    keys: ["app:*", "%R~shared:*"]
    channels: ["app.*"]
  - name: reader
    password_hashes: ["{sha256(OTHER)}", "{sha256(SECRET)}"]
    password_files: [PASSWORD_FILE]
    commands: "+@all"
    keys: "*"
    channels: "*"
    read_only: true
  - name: mapped
    password_hashes: ["{sha256(SECRET)}"]
    commands: "+@all"
    keys: "*"
    channels: "*"
    upstream_username: inner
    upstream_password: {MAPPED}
  - name: twin
    password_hashes: ["{sha256(SECRET)}"]
    commands: "+@all"
    keys: "*"
"""


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RedisServer()
        cls.server.call("ACL", "SETUSER", "inner", "on", f">{MAPPED}", "~*", "&*", "+@all", "-flushall")
        cls.sidecar = Sidecar(cls.server.url, {"upstream.swapdb": "never"}, start=False)
        config = cls.sidecar.directory / "users.yaml"
        password_file = cls.sidecar.directory / "password"
        password_file.write_text(FILED + "\nnot this line\n")
        config.write_text(USERS.replace("PASSWORD_FILE", str(password_file)))
        cls.sidecar.args = ["--config", str(config)]
        cls.sidecar.start()

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.close()
        cls.server.close()

    def setUp(self):
        self.server.call("FLUSHALL")

    def client(self, user=None, password=SECRET, **options):
        client = self.sidecar.client(**options)
        self.addCleanup(client.close)
        if user:
            self.assertEqual(client.call("AUTH", user, password), b"OK")
        return client

    def refusal(self, client, *command):
        with self.assertRaises(ReplyError) as refused:
            client.call(*command)
        return str(refused.exception)


class LettingIn(Case):
    def test_before_auth_nothing_but_auth(self):
        client = self.client()
        for command in (("PING",), ("GET", "app:1"), ("MULTI",), ("SUBSCRIBE", "app.x"), ("NEAR.UPSTREAM",), ("JSON.GET", "k"),
                        ("SELECT", 0), ("CLIENT", "LIST"), ("MONITOR",)):
            self.assertEqual(self.refusal(client, *command), "NOAUTH Authentication required.", command)
        self.assertEqual(self.refusal(client, "SHUTDOWN"), "NOAUTH Authentication required.")
        self.assertIn("NOAUTH HELLO must be called", self.refusal(client, "HELLO", 3))
        self.assertEqual(client.call("AUTH", "app", SECRET), b"OK")
        self.assertEqual(client.call("PING"), b"PONG")

    def test_wrong_passwords_and_users_get_the_servers_words(self):
        client = self.client()
        for words in (("app", "wrong"), ("app", ""), ("app", OTHER), ("nobody", SECRET), ("default", SECRET), (SECRET,),
                      ("inner", MAPPED), ("app", sha256(SECRET))):
            self.assertEqual(self.refusal(client, "AUTH", *words),
                             "WRONGPASS invalid username-password pair or user is disabled.", words)
        self.assertEqual(self.refusal(client, "GET", "app:1"), "NOAUTH Authentication required.")

    def test_every_password_of_a_user_lets_it_in(self):
        for password in (OTHER, SECRET, FILED):
            self.client("reader", password)
        self.assertIn("WRONGPASS", self.refusal(self.client(), "AUTH", "reader", "not this line"))

    def test_hello_lets_in_as_well_and_reset_puts_out(self):
        client = self.client()
        reply = client.call("HELLO", 3, "AUTH", "app", SECRET, "SETNAME", "me")
        self.assertEqual(reply[b"proto"], 3)
        self.assertEqual(client.call("CLIENT", "GETNAME"), b"me")
        self.assertIn("WRONGPASS", self.refusal(client, "HELLO", 2, "AUTH", "app", "wrong"))
        self.assertEqual(client.call("GET", "app:1"), None)
        client.call("RESET")
        self.assertEqual(self.refusal(client, "GET", "app:1"), "NOAUTH Authentication required.")

    def test_a_pipeline_that_begins_with_auth_is_somebody_from_there_on(self):
        client = self.client()
        replies = client.pipeline([("GET", "app:1"), ("AUTH", "app", SECRET), ("SET", "app:1", "x"), ("GET", "app:1"),
                                   ("AUTH", "app", "wrong"), ("GET", "app:1"), ("GET", "other")])
        self.assertIn("NOAUTH", str(replies[0]))
        self.assertEqual(replies[1:4], [b"OK", b"OK", b"x"])
        self.assertIn("WRONGPASS", str(replies[4]))
        self.assertEqual(replies[5], b"x")
        self.assertIn("NOPERM", str(replies[6]))

    def test_a_user_is_another_one_to_the_upstream(self):
        client = self.client("mapped")
        self.assertEqual(client.call("SET", "k", 1), b"OK")
        self.assertIn("NOPERM", self.refusal(client, "FLUSHALL"))  # the upstream's own ACL
        self.assertEqual(client.call("ACL", "WHOAMI"), b"mapped")
        self.assertIn(b"user=mapped", client.call("CLIENT", "LIST"))


class Permissions(Case):
    def test_commands_keys_and_channels_are_checked_before_l1(self):
        self.server.call("MSET", "app:1", 1, "shared:1", 2, "other", 3)
        reader = self.client("reader")
        eventually(lambda: reader.call("GET", "app:1") == b"1", "what the server was told past the sidecar")
        for _ in range(3):  # in L1 for everybody of that upstream user
            self.assertEqual([reader.call("GET", key) for key in ("app:1", "shared:1", "other")], [b"1", b"2", b"3"])
        app = self.client("app")
        self.assertEqual([app.call("GET", "app:1"), app.call("GET", "shared:1")], [b"1", b"2"])
        no_key = "NOPERM this user has no permissions to access one of the keys used as arguments"
        for command in (("GET", "other"), ("MGET", "app:1", "other"), ("SET", "shared:1", 1), ("EXISTS", "other"),
                        ("DEL", "app:1", "other"), ("EVAL", "return 1", 1, "other"), ("RENAME", "app:1", "other"),
                        ("BLPOP", "other", 1), ("OBJECT", "ENCODING", "other"), ("WATCH", "other")):
            self.assertEqual(self.refusal(app, *command), no_key, command)
        self.assertEqual(self.refusal(app, "FLUSHALL"), "NOPERM this user has no permissions to run the 'flushall' command")
        self.assertEqual(self.refusal(app, "CONFIG", "GET", "*"),
                         "NOPERM this user has no permissions to run the 'config|get' command")
        for command in (("SUBSCRIBE", "other"), ("PSUBSCRIBE", "*"), ("PUBLISH", "other", 1)):
            self.assertIn("one of the channels", self.refusal(app, *command))
        self.assertEqual(app.call("SUBSCRIBE", "app.news"), [b"subscribe", b"app.news", 1])

    def test_a_refused_command_aborts_the_transaction(self):
        app = self.client("app")
        replies = app.pipeline([("MULTI",), ("SET", "app:1", 1), ("SET", "other", 1), ("EXEC",), ("GET", "app:1")])
        self.assertEqual(replies[:2], [b"OK", b"QUEUED"])
        self.assertIn("NOPERM", str(replies[2]))
        self.assertIn("EXECABORT", str(replies[3]))
        self.assertIsNone(replies[4])

    def test_a_reader_changes_nothing(self):
        reader = self.client("reader")
        for command in (("SET", "a", 1), ("FLUSHALL",), ("EVAL", "return redis.call('SET','a','1')", 0), ("GETEX", "a"),
                        ("LPUSH", "a", 1), ("MSET", "a", 1), ("XADD", "a", "*", "f", "v"), ("RESTORE", "a", 0, "x")):
            self.assertIn("NOPERM", self.refusal(reader, *command), command)
        self.assertEqual(self.server.call("DBSIZE"), 0)

    def test_near_upstream_is_no_way_round(self):
        app = self.client("app")
        self.server.call("SET", "other", 1)
        node = self.server.address
        self.assertIn("one of the keys", self.refusal(app, "NEAR.UPSTREAM", node, "GET", "other"))
        self.assertIn("NOPERM", self.refusal(app, "NEAR.UPSTREAM", node, "CONFIG", "GET", "*"))
        self.assertIn("NOPERM", self.refusal(app, "NEAR.UPSTREAM", node, "SHUTDOWN"))
        self.assertTrue(self.server.alive)

    def test_users_of_one_upstream_user_share_l1_and_others_do_not(self):
        self.server.call("SET", "k", "v")
        one, twin, mapped = (self.client(name) for name in ("reader", "twin", "mapped"))
        for _ in range(3):
            one.call("GET", "k")
        hits = self.sidecar.metric("nearcached_l1_hits_total")
        self.assertEqual(twin.call("GET", "k"), b"v")
        self.assertEqual(self.sidecar.metric("nearcached_l1_hits_total"), hits + 1)
        self.assertEqual(mapped.call("GET", "k"), b"v")
        self.assertEqual(self.sidecar.metric("nearcached_l1_hits_total"), hits + 1)


class DenyList(unittest.TestCase):
    def setUp(self):
        self.server = RedisServer(args=["--enable-debug-command", "yes"])
        self.addCleanup(self.server.close)

    def client(self, settings):
        sidecar = Sidecar(self.server.url, settings)
        self.addCleanup(sidecar.close)
        client = sidecar.client()
        self.addCleanup(client.close)
        return client

    def test_what_is_named_is_refused_also_where_l1_would_have_answered(self):
        client = self.client({"security.deny_commands": "[get, 'config|set', keys]"})
        client.call("SET", "k", 1)
        for command in (("GET", "k"), ("CONFIG", "SET", "maxmemory", 0), ("KEYS", "*")):
            with self.assertRaisesRegex(ReplyError, "NOPERM nearcached: '.*security.deny_commands"):
                client.call(*command)
        self.assertEqual(client.call("CONFIG", "GET", "maxmemory"), [b"maxmemory", b"0"])
        replies = client.pipeline([("MULTI",), ("GET", "k"), ("EXEC",)])
        self.assertIn("NOPERM", str(replies[1]))
        self.assertIn("EXECABORT", str(replies[2]))

    def test_an_empty_list_leaves_it_to_the_upstream(self):
        client = self.client({"security.deny_commands": "[]"})
        self.assertEqual(client.call("DEBUG", "SLEEP", 0), b"OK")
        client.send("SHUTDOWN", "NOSAVE")
        self.server.process.wait(10)
        self.assertFalse(self.server.alive)


class Secrets(Case):
    def test_no_secret_is_told_anywhere(self):
        client = self.client("reader")
        client.call("GET", "a")
        with self.assertRaises(ReplyError):
            client.call("AUTH", "app", "wr0ng-s3cret")
        texts = ["\n".join(self.sidecar.log), repr(client.call("INFO")), repr(client.call("CONFIG", "GET", "*")),
                 repr(client.call("SLOWLOG", "GET", -1)), repr(client.call("CLIENT", "LIST")),
                 *(self.sidecar.http(page)[1] for page in ("/", "/metrics", "/stats", "/config")),
                 subprocess.run([BINARY, *self.sidecar.command[1:], "--print-config"], capture_output=True, text=True).stdout]
        self.assertIn("users:", texts[-1])
        self.assertIn("users:", texts[-2])
        for text in texts:
            for secret in (SECRET, OTHER, MAPPED, FILED, "wr0ng-s3cret", *(sha256(word) for word in (SECRET, OTHER))):
                self.assertNotIn(secret, text)


class AdminToken(unittest.TestCase):
    def test_it_permits_emptying_l1_and_is_wanted_for_all_but_probes(self):
        with RedisServer() as server, Sidecar(server.url, start=False) as sidecar:
            file = sidecar.directory / "token"
            file.write_text("adm1n-t0ken\n")
            sidecar.settings["admin.token_file"] = str(file)
            sidecar.start()
            with sidecar.client() as client:
                client.call("SET", "kept", "1")
                eventually(lambda: client.call("GET", "kept") == b"1" and sidecar.hits > 0, "a hit")
                self.assertEqual(sidecar.http("/stats", token="adm1n-t0ken")[0], 200)
                self.assertEqual([sidecar.http(page)[0] for page in ("/livez", "/readyz", "/metrics")], [200] * 3)
                self.assertEqual([sidecar.http(page)[0] for page in ("/", "/stats", "/config")], [401] * 3)
                self.assertEqual(sidecar.http("/purge", "POST", "adm1n-t0keN")[0], 401)
                self.assertNotIn("adm1n-t0ken", sidecar.http("/config", token="adm1n-t0ken")[1])
                self.assertEqual(sidecar.http("/purge", "POST", "adm1n-t0ken")[0], 200)
                misses = sidecar.metric("nearcached_l1_misses_total")
                self.assertEqual(client.call("GET", "kept"), b"1")
                self.assertEqual(sidecar.metric("nearcached_l1_misses_total"), misses + 1)
            for content in ("", "\n"):
                file.write_text(content)
                refused = subprocess.run([BINARY, *sidecar.command[1:], "--check-config"], capture_output=True, text=True)
                self.assertEqual(refused.returncode, 2)
                self.assertIn("admin.token_file", refused.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
