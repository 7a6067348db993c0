#!/usr/bin/env python3
"""Write-behind when its disk fails: full, read-only, with errors of writes and of syncs, and a directory that can't be used.

Nothing that was acknowledged is lost, also by a kill -9 right after, and clients are answered throughout. A full filesystem
is a real one, a small tmpfs in a mount namespace of this program's own (skipped where there is none to be had); errors of
calls are made by support/failing_disk.c (skipped without a C compiler)."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

OWN_MOUNTS = "--own-mounts"


def take_own_mounts():
    """Starts this program again in a mount namespace that ends with it; returns where that is not possible."""
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if OWN_MOUNTS in sys.argv or not shutil.which("unshare"):
        return
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", place], stderr=subprocess.DEVNULL, check=False)
    if tried.returncode != 0:
        return
    if os.getuid() != 0:
        # This user is called root there, and what root has in the common folder is not its own.
        own = Path(tempfile.gettempdir()) / f"nearcached-user-{os.getuid()}"
        own.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(own)
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv, OWN_MOUNTS])


if __name__ == "__main__":
    take_own_mounts()

from system import PATIENCE_S, RedisServer, ReplyError, ServerError, Sidecar, eventually, main  # noqa: E402

MOUNTS = OWN_MOUNTS in sys.argv
sys.argv = [word for word in sys.argv if word != OWN_MOUNTS]
FILESYSTEM = "1m"
SHIM_SOURCE = Path(__file__).resolve().parents[1] / "support" / "failing_disk.c"
# Long enough to see that a write was deferred.
SLOW = {"write_behind.batch_interval": "1500ms", "write_behind.batch_records": 1000}
REFUSED = "the write-behind log can't be written"  # to writes of a key that a restart would replay over


def setUpModule():
    global server
    server = RedisServer()


def tearDownModule():
    server.close()


class Case(unittest.TestCase):
    environment = None

    def setUp(self):
        server.call("FLUSHALL")
        self.directory = Path(tempfile.mkdtemp(prefix="nearcached-log-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.upstream = self.client(server)
        self.acknowledged = {}  # key -> value
        self.refused = {}  # key -> values that may be there as well, since

    def client(self, where):
        client = where.client(timeout=PATIENCE_S)
        self.addCleanup(client.close)
        return client

    def start(self, url=None, **more):
        settings = {"write_behind.enabled": "true", "write_behind.log_dir": str(self.directory / "log"),
                    "write_behind.segment_bytes": "64KB", "write_behind.durability": "deferred", "upstream.swapdb": "never",
                    **SLOW, **more}
        sidecar = Sidecar(url or server.url, settings, environment=self.environment)
        self.addCleanup(sidecar.close)
        return sidecar

    def write(self, client, keys, value):
        """One by one; remembers what was acknowledged."""
        for key in keys:
            try:
                client.call("SET", key, value)
                self.acknowledged[key] = value.encode()
                self.refused.pop(key, None)
            except ReplyError as error:
                self.assertIn(REFUSED, str(error))
                self.refused.setdefault(key, set()).add(value.encode())

    def assert_all_upstream(self, keys=None):
        keys = sorted(self.acknowledged if keys is None else keys)
        self.assert_acknowledged(keys, self.upstream.call("MGET", *keys))

    def assert_acknowledged(self, keys, values):
        allowed = {key: {self.acknowledged[key], *self.refused.get(key, ())} for key in keys}
        wrong = {key: value for key, value in zip(keys, values) if value not in allowed[key]}
        self.assertEqual(wrong, {}, f"acknowledged was {dict((key, self.acknowledged[key]) for key in wrong)}")

    def assert_fails(self, sidecar):
        """It says that its disk does, everywhere."""
        self.assertEqual(sidecar.metric("nearcached_write_behind_mode", mode="through"), 1)
        self.assertEqual(sidecar.metric("nearcached_write_behind_mode", mode="log"), 0)
        self.assertGreater(sidecar.metric("nearcached_write_behind_log_failures_total"), 0)
        sidecar.wait_for_log("write_behind_log_failed")

    def assert_good_again(self, sidecar, client):
        """It found out by itself, and defers."""
        sidecar.wait_for_log("write_behind_log_good")
        self.assertEqual(sidecar.metric("nearcached_write_behind_mode", mode="log"), 1)
        self.write(client, ["deferred-again"], "1")
        self.assertIsNone(self.upstream.call("GET", "deferred-again"))
        self.assertEqual(client.call("GET", "deferred-again"), b"1")

    def assert_all_here_and_upstream(self, sidecar):
        """After a start: here at once, upstream once it is asked for."""
        client = self.client(sidecar)
        keys = sorted(self.acknowledged)
        self.assert_acknowledged(keys, [client.call("GET", key) for key in keys])
        self.assertEqual(client.call("NEAR.FLUSH", "WRITES"), b"OK")
        self.assert_all_upstream()


@unittest.skipUnless(MOUNTS, "no filesystem can be mounted here")
class FullFilesystem(Case):
    def setUp(self):
        super().setUp()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FILESYSTEM}", "none", self.directory], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.directory], check=True)
        self.foreign = self.directory / "foreign"

    def fill(self):
        with self.foreign.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def fill_until_it_notices(self, sidecar, client):
        """The segment that is being written was given its space; the next one is not."""
        self.fill()
        for i in range(1000):
            if sidecar.stats()["write_behind"]["mode"] == "through":
                break
            self.write(client, [f"filling:{i}:{j}" for j in range(10)], "x" * 500)
        self.assert_fails(sidecar)

    def test_writes_go_through_while_it_is_full_and_are_deferred_when_it_is_not(self):
        sidecar = self.start()
        client = self.client(sidecar)
        self.write(client, [f"before:{i}" for i in range(50)], "1")
        self.assertIsNone(self.upstream.call("GET", "before:0"))
        self.fill_until_it_notices(sidecar, client)
        new = [f"during:{i}" for i in range(50)]
        self.write(client, new, "2")
        self.assert_all_upstream(new)
        self.assertEqual(self.refused, {})
        self.foreign.unlink()
        self.assert_good_again(sidecar, client)
        self.write(client, [*new, "before:0"], "3")
        sidecar.kill()
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)

    def test_the_log_itself_fills_it(self):
        sidecar = self.start(**{"write_behind.log_max_bytes": "1GB"})
        client = self.client(sidecar)
        for i in range(1000):
            self.write(client, [f"k:{i}:{j}" for j in range(4)], "x" * 2000)
            if sidecar.stats()["write_behind"]["mode"] == "through":
                break
        self.assert_fails(sidecar)
        self.assertEqual(self.refused, {})
        # What is flushed frees its segments, without anybody's help.
        client.call("NEAR.FLUSH", "WRITES")
        self.assert_all_upstream()
        self.assert_good_again(sidecar, client)

    def test_a_dead_letter_that_finds_no_place_waits_for_it(self):
        own = RedisServer()
        self.addCleanup(own.close)
        own.call("ACL", "SETUSER", "default", "resetkeys", "~may:*")
        sidecar = self.start(own.url)
        client = self.client(sidecar)
        client.call("SET", "may:a", "1")
        self.fill()
        self.assertEqual(client.call("SET", "not:a", "x" * 5000), b"OK")
        self.assertEqual(sidecar.http("/flush", "POST")[0], 403)
        other = self.client(sidecar)
        other.send("NEAR.FLUSH", "WRITES")
        sidecar.wait_for_log("write_behind_dead_letter_kept.*No space left on device")
        sidecar.wait_for_log("write_behind_dead_letter .*not:a.*NOPERM")
        self.foreign.unlink()
        self.assertEqual(other.read(), b"OK")
        self.assertEqual(sidecar.stats()["write_behind"]["dead"], 1)
        self.assertIn("not:a", (self.directory / "log" / "dead-letters.log").read_text())

    def test_kill_while_it_is_full(self):
        sidecar = self.start()
        client = self.client(sidecar)
        self.write(client, [f"before:{i}" for i in range(50)], "1")
        self.fill_until_it_notices(sidecar, client)
        self.write(client, [f"during:{i}" for i in range(50)], "2")
        sidecar.kill()
        self.fill()
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)
        client = self.client(sidecar)
        self.write(client, [f"later:{i}" for i in range(50)], "3")
        self.foreign.unlink()
        eventually(lambda: sidecar.stats()["write_behind"]["mode"] == "log", "the log to be good")
        self.write(client, ["after"], "4")
        sidecar.kill()
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)

    def test_read_only_from_the_start(self):
        (self.directory / "log").mkdir()
        subprocess.run(["mount", "-o", "remount,bind,ro", self.directory], check=True)
        with self.assertRaises(ServerError) as caught:
            self.start()
        self.assertRegex(str(caught.exception), "exited with 1\n")
        self.assertRegex(str(caught.exception), "log_dir.*Read-only file system")

    def test_read_only_after_a_kill(self):
        sidecar = self.start()
        self.write(self.client(sidecar), [f"k{i}" for i in range(50)], "1")
        sidecar.kill()
        subprocess.run(["mount", "-o", "remount,bind,ro", self.directory], check=True)
        with self.assertRaisesRegex(ServerError, "log_dir.*Read-only file system"):
            sidecar.start()
        subprocess.run(["mount", "-o", "remount,bind,rw", self.directory], check=True)
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)


@unittest.skipUnless(shutil.which("cc"), "no C compiler here")
class FailingCalls(Case):
    KINDS = ("fdatasync 5", "fdatasync 28", "pwritev 5", "pwritev 28", "pwritev short", "pwritev torn")

    @classmethod
    def setUpClass(cls):
        cls.built = Path(tempfile.mkdtemp(prefix="nearcached-shim-"))
        cls.addClassCleanup(shutil.rmtree, cls.built, True)
        cls.shim = cls.built / "failing_disk.so"
        subprocess.run(["cc", "-std=c11", "-O1", "-shared", "-fPIC", "-o", cls.shim, SHIM_SOURCE, "-ldl"], check=True)

    def setUp(self):
        super().setUp()
        self.control = self.directory / "control"
        self.environment = {"LD_PRELOAD": str(self.shim), "FAILING_DISK": str(self.control)}
        if "ASAN_OPTIONS" in os.environ:
            self.environment["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"] + ":verify_asan_link_order=0"

    def disturb(self, *lines):
        """At once: a file that is being written would be read in part."""
        new = self.control.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.control)

    def heal(self):
        self.control.unlink(missing_ok=True)

    def fresh(self, **more):
        """A sidecar on a log of its own, and fifty writes that are only there."""
        shutil.rmtree(self.directory / "log", ignore_errors=True)
        server.call("FLUSHALL")
        self.acknowledged.clear()
        self.refused.clear()
        sidecar = self.start(**more)
        client = self.client(sidecar)
        self.write(client, [f"before:{i}" for i in range(50)], "1")
        self.assertIsNone(self.upstream.call("GET", "before:0"))
        return sidecar, client

    def test_each_failure_and_the_way_back(self):
        for kind in self.KINDS:
            with self.subTest(kind=kind):
                sidecar, client = self.fresh()
                self.disturb(kind)
                new = [f"during:{i}" for i in range(50)]
                self.write(client, new, "2")
                self.assert_all_upstream(set(new) - set(self.refused))
                self.assert_fails(sidecar)
                self.assertEqual(self.refused, {})
                self.heal()
                self.assert_good_again(sidecar, client)
                self.write(client, [*new, "before:0"], "3")
                sidecar.kill()
                sidecar.start()
                self.assert_all_here_and_upstream(sidecar)
                sidecar.close()

    def test_each_failure_and_a_kill_right_after(self):
        for kind in self.KINDS:
            for healed in (True, False):
                with self.subTest(kind=kind, healed=healed):
                    sidecar, client = self.fresh()
                    self.disturb(kind)
                    self.write(client, [f"during:{i}" for i in range(50)], "2")
                    sidecar.kill()
                    if healed:
                        self.heal()
                    sidecar.start()
                    self.assert_all_here_and_upstream(sidecar)
                    self.heal()
                    sidecar.close()

    def test_what_was_flushed_while_the_disk_failed_is_not_undone_by_an_older_record(self):
        """The log has the first value for sure and can't have the second, which waited for the disk and then left."""
        for kind in self.KINDS:
            for end in (Sidecar.kill, Sidecar.stop):
                with self.subTest(kind=kind, end=end.__name__):
                    sidecar, client = self.fresh()
                    self.disturb(kind)
                    self.write(client, ["before:0"], "2")
                    end(sidecar)
                    self.heal()
                    sidecar.start()
                    self.assert_all_here_and_upstream(sidecar)
                    sidecar.close()

    def test_a_direct_write_is_not_let_go_by_a_superseding_record_that_the_disk_refused(self):
        """Either it is refused, or a restart does not replay the older record over it."""
        for kind in self.KINDS:
            with self.subTest(kind=kind):
                sidecar, client = self.fresh()
                self.disturb(kind)
                try:
                    client.call("GETSET", "before:0", "2")
                    self.acknowledged["before:0"] = b"2"
                except ReplyError as error:
                    self.assertIn(REFUSED, str(error))
                sidecar.kill()
                self.heal()
                sidecar.start()
                self.assert_all_here_and_upstream(sidecar)
                sidecar.close()

    def test_no_new_segment_can_be_made(self):
        """Of a filesystem that has become read-only, that is full, or whose directory can't be synced."""
        for kind in ("openat 30", "fallocate 28", "fsync 5"):
            with self.subTest(kind=kind):
                sidecar, client = self.fresh()
                self.disturb(kind)
                for i in range(1000):
                    self.write(client, [f"filling:{i}:{j}" for j in range(10)], "x" * 500)
                    if sidecar.stats()["write_behind"]["mode"] == "through":
                        break
                self.assert_fails(sidecar)
                self.write(client, [f"during:{i}" for i in range(50)], "2")
                self.assert_all_upstream(key for key in self.acknowledged if key.startswith("during"))
                sidecar.kill()
                self.heal()
                sidecar.start()
                self.assert_all_here_and_upstream(sidecar)
                sidecar.close()

    def test_a_start_that_must_cut_a_torn_tail_needs_some_space(self):
        """Its header may be all that says what was durable before, and goes into a segment of its own first."""
        sidecar, client = self.fresh()
        self.disturb("pwritev torn", "fallocate 28")
        self.write(client, ["during"], "x" * 500)
        self.assert_fails(sidecar)
        sidecar.kill()
        self.disturb("fallocate 28")
        with self.assertRaisesRegex(ServerError, "No space left on device"):
            sidecar.start()
        self.heal()
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)

    def test_what_waits_for_the_disk_when_it_fails_is_flushed_at_once_and_answered(self):
        sidecar, client = self.fresh(**{"write_behind.batch_interval": "60s"})
        self.disturb("fdatasync 5")
        replies = client.pipeline([("SET", f"k{i}", "1") for i in range(500)])
        self.assertEqual(set(replies), {b"OK"})
        self.acknowledged.update((f"k{i}", b"1") for i in range(500))
        self.assert_all_upstream(f"k{i}" for i in range(500))
        sidecar.kill()
        self.heal()
        sidecar.start()
        self.assert_all_here_and_upstream(sidecar)

    def test_a_disk_that_fails_now_and_then_and_kills(self):
        """Writers of versions, while failures come and go: what was acknowledged last is there, or what was sent later."""
        rng = random.Random(time.time_ns())
        sidecar = self.start(**{"write_behind.batch_interval": "20ms", "write_behind.segment_bytes": "4KB"})
        writers = [VersionWriter(sidecar, f"w{i}") for i in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(12):
                time.sleep(rng.uniform(0.0, 0.4))
                self.disturb(rng.choice([*self.KINDS, "openat 30", "fsync 5"]))
                time.sleep(rng.choice([0.005, 0.1, 0.5, 1.5]))
                if rng.random() < 0.5:
                    self.heal()
                if rng.random() < 0.6:
                    sidecar.kill()
                    self.start_or_heal(sidecar)
                self.heal()
        finally:
            for writer in writers:
                writer.end()
        sidecar.kill()
        sidecar.start()
        with sidecar.client(timeout=PATIENCE_S) as client:
            client.call("NEAR.FLUSH", "WRITES")
        for writer in writers:
            self.assertEqual(writer.problems, [])
            for key, (acknowledged, sent) in writer.versions.items():
                version = int(self.upstream.call("GET", key) or 0)
                self.assertTrue(acknowledged <= version <= sent,
                                f"{key}: {version}, acknowledged {acknowledged}, sent {sent}")
        self.assertGreater(sum(acknowledged for writer in writers for acknowledged, _ in writer.versions.values()), 500)


    def start_or_heal(self, sidecar):
        """A start may refuse while the disk fails, but it has to say so."""
        try:
            sidecar.start()
        except ServerError as error:
            self.assertRegex(str(error), "exited with 1\n(.*\n)*.*write_behind.log_dir")
            self.heal()
            sidecar.start()


class VersionWriter(threading.Thread):
    """Puts rising versions into its keys, one after the other, through whatever happens."""

    def __init__(self, sidecar, prefix):
        super().__init__()
        self.sidecar = sidecar
        self.versions = {f"{prefix}:{i}": (0, 0) for i in range(10)}  # (acknowledged, sent)
        self.problems = []
        self.ended = threading.Event()

    def run(self):
        client = None
        while not self.ended.is_set():
            for key, (acknowledged, sent) in self.versions.items():
                self.versions[key] = (acknowledged, sent + 1)
                try:
                    client = client or self.sidecar.client(timeout=PATIENCE_S)
                    client.call("SET", key, str(sent + 1))
                    self.versions[key] = (sent + 1, sent + 1)
                except (OSError, EOFError):
                    client = None
                    time.sleep(0.01)
                except ReplyError as error:
                    if REFUSED not in str(error):
                        self.problems.append(str(error))

    def end(self):
        self.ended.set()
        self.join()


class UnusableDirectory(Case):
    def test_a_file_in_its_place(self):
        (self.directory / "log").write_text("not a directory")
        with self.assertRaises(ServerError) as caught:
            self.start()
        self.assertRegex(str(caught.exception), "exited with 1\n")
        self.assertRegex(str(caught.exception), "log_dir.*Not a directory")

    def test_one_whose_parent_is_missing(self):
        with self.assertRaisesRegex(ServerError, "log_dir.*No such file or directory"):
            self.start(**{"write_behind.log_dir": str(self.directory / "none" / "log")})

    def test_two_on_one_the_first_goes_on(self):
        first = self.start()
        client = self.client(first)
        self.write(client, [f"k{i}" for i in range(50)], "1")
        with self.assertRaises(ServerError) as caught:
            self.start()
        self.assertRegex(str(caught.exception), "exited with 1\n")
        self.assertIn(f"in use by another process ({first.pid})", str(caught.exception))
        self.write(client, [f"k{i}" for i in range(50)], "2")
        first.kill()
        first.start()
        self.assert_all_here_and_upstream(first)


if __name__ == "__main__":
    main()
