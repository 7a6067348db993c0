"""redis+sentinel://: the master is found, followed through failovers, and nothing of the old one is served."""

import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from sentinel_set import SentinelSet  # noqa: E402
from servers import wait_for  # noqa: E402
from system import ReplyError, Sidecar, eventually  # noqa: E402

STALENESS = {"coherence.max_staleness": "1s"}


class Case(unittest.TestCase):
    def set(self, **options):
        made = SentinelSet(**options)
        self.addCleanup(made.close)
        return made

    def sidecar(self, url, settings=None):
        made = Sidecar(url, {**STALENESS, "upstream.swapdb": "never", **(settings or {})})
        self.addCleanup(made.close)
        return made

    def client(self, sidecar, **options):
        client = sidecar.client(**options)
        self.addCleanup(client.close)
        return client

    def cached(self, sidecar, client, key):
        """Until a GET is a hit."""
        def hit():
            before = sidecar.metric("nearcached_l1_hits_total")
            client.call("GET", key)
            return sidecar.metric("nearcached_l1_hits_total") > before
        eventually(hit, "a hit")


class Following(Case):
    def test_the_master_is_served_and_a_failover_on_demand_followed(self):
        one = self.set()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")
        self.cached(sidecar, client, "k")
        old = one.master
        one.sentinels[0].call("SENTINEL", "FAILOVER", one.name)
        new = one.wait_master_but(old)
        wait_for(lambda: old.call("ROLE")[0] == b"slave", 20, "the old master to be a replica")
        # Behind the sidecar's back, at the new one.
        new.call("SET", "k", "2")
        time.sleep(1.1)
        self.assertEqual(client.call("GET", "k"), b"2")
        eventually(lambda: client.call("SET", "k", "3") == b"OK", "a write to the new master")
        self.assertEqual(new.call("GET", "k"), b"3")
        self.assertRegex("\n".join(sidecar.log), rf"topology_changed node={new.address}")
        self.cached(sidecar, client, "k")
        new.call("SET", "k", "4")
        eventually(lambda: client.call("GET", "k") == b"4", "the new master's invalidations")

    def test_a_killed_master_is_replaced_and_writes_resume(self):
        one = self.set()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar, timeout=10)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")
        client.call("WAIT", 2, 1000)
        old = one.master
        old.kill()
        killed = time.monotonic()
        new = one.wait_master_but(old)

        def written():
            try:
                return client.call("SET", "k", "2") == b"OK"
            except ReplyError as error:
                self.assertIn("nearcached", str(error))
                return False
        wait_for(written, 15, "a write after the failover")
        self.assertLess(time.monotonic() - killed, 20)
        self.assertEqual((client.call("GET", "k"), new.call("GET", "k")), (b"2", b"2"))
        # The old one comes back as what it was, and is made a replica: nobody listens to it meanwhile.
        old.start()
        for _ in range(20):
            self.assertEqual(client.call("GET", "k"), b"2")
            time.sleep(0.05)

    def test_time_goes_back_once_at_most_in_a_failover(self):
        """What the old master took and had not replicated is lost, as without a sidecar; L1 must not bring it back."""
        one = self.set()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar, timeout=10)
        eventually(lambda: client.call("SET", "n", "0") == b"OK", "a write")
        self.cached(sidecar, client, "n")
        old = one.master
        one.sentinels[0].call("SENTINEL", "FAILOVER", one.name)
        value, setbacks, rounds = 0, 0, 0
        until = time.monotonic() + 6
        while time.monotonic() < until:
            try:
                client.call("SET", "n", value + 1)
                seen = int(client.call("GET", "n"))
                again = int(client.call("GET", "n"))
            except ReplyError:
                continue
            setbacks += (seen < value + 1) + (again < seen)
            value, rounds = again, rounds + 1
        self.assertIsNot(one.master, old)
        self.assertLessEqual(setbacks, 1)
        self.assertGreater(rounds, 50)
        self.assertEqual(one.master.call("GET", "n"), b"%d" % value)

    def test_pinned_connections_go_to_the_new_master(self):
        one = self.set(replicas=1, sentinels=3)
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar, timeout=10)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")
        self.assertEqual(client.pipeline([("MULTI",), ("INCR", "k"), ("EXEC",)])[-1], [2])
        old = one.master
        old.kill()
        one.wait_master_but(old)

        def transacted():
            try:
                return isinstance(client.pipeline([("MULTI",), ("SET", "k", 9), ("EXEC",)])[-1], list)
            except ReplyError:
                return False
        wait_for(transacted, 15, "a transaction after the failover")
        self.assertEqual(one.master.call("GET", "k"), b"9")


class Sentinels(Case):
    def test_one_dead_sentinel_of_three_costs_nothing(self):
        one = self.set()
        one.sentinels[0].kill()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")

    def test_one_configured_sentinel_names_the_others(self):
        one = self.set()
        sidecar = self.sidecar(f"redis+sentinel://{one.sentinels[1].address}/{one.name}")
        client = self.client(sidecar)

        def written():
            try:
                return client.call("SET", "k", "1") == b"OK"
            except ReplyError:
                return False
        eventually(written, "a write")
        one.sentinels[1].kill()
        old = one.master
        one.sentinels[0].call("SENTINEL", "FAILOVER", one.name)
        new = one.wait_master_but(old)
        eventually(lambda: f"topology_changed node={new.address}" in "\n".join(sidecar.log), "the failover to be seen")

    def test_a_minority_is_not_believed(self):
        """Two of three sentinels are gone: whatever the third says, the master stays who it was."""
        one = self.set()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")
        liar = one.sentinels[2]
        for sentinel in one.sentinels[:2]:
            sentinel.kill()
        liar.call("SENTINEL", "REMOVE", one.name)
        liar.call("SENTINEL", "MONITOR", one.name, "127.0.0.1", one.servers[1].port, 1)
        eventually(lambda: "topology_lost" in "\n".join(sidecar.log), "the loss to be said")
        self.assertEqual(client.call("SET", "k", "2"), b"OK")
        self.assertEqual(one.servers[0].call("GET", "k"), b"2")

    def test_an_unknown_master_is_named_in_the_log_and_in_answers(self):
        one = self.set(replicas=0)
        sidecar = self.sidecar(one.url.replace("/mymaster", "/nobody"))
        client = self.client(sidecar)
        with self.assertRaisesRegex(ReplyError, "no master is known"):
            client.call("GET", "k")
        time.sleep(3)  # several rounds
        self.assertLessEqual("\n".join(sidecar.log).count("name a master of 'nobody'"), 2, "said again and again")
        self.assertRegex("\n".join(sidecar.log), "0 of 3 sentinels name a master of 'nobody'; .* No such master with that name")

    def test_sentinels_and_servers_with_passwords(self):
        one = self.set(replicas=1, password="server-secret", sentinel_password="sentinel-secret")
        sidecar = self.sidecar(one.url, {"upstream.sentinel.password": "sentinel-secret"})
        client = self.client(sidecar)
        eventually(lambda: client.call("SET", "k", "1") == b"OK", "a write")
        self.assertNotIn("secret", "\n".join(sidecar.log))
        refused = self.sidecar(one.url, {"upstream.sentinel.password": "wrong"})
        eventually(lambda: "topology_refused" in "\n".join(refused.log), "the refusal to be said")
        self.assertRegex("\n".join(refused.log), "WRONGPASS|NOAUTH")
        self.assertNotIn("secret", "\n".join(refused.log))

    def test_sentinels_that_come_later_are_waited_for(self):
        one = self.set(replicas=0, sentinels=1)
        one.sentinels[0].kill()
        sidecar = self.sidecar(one.url)
        client = self.client(sidecar)
        with self.assertRaisesRegex(ReplyError, "no master is known"):
            client.call("PING") and client.call("GET", "k")
        one.sentinels[0].start()

        def written():
            try:
                return client.call("SET", "k", "1") == b"OK"
            except ReplyError:
                return False
        eventually(written, "a write")


if __name__ == "__main__":
    unittest.main(verbosity=2)
