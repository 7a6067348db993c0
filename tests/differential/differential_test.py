"""The differential test's bounded run, and tests of the test: it must see a difference, and shrink it.

NEARCACHED_BINARY or NEARCACHED_BUILT_BINARY names the daemon, as in tests/redis.
"""

import os
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
for folder in (Path(__file__).resolve().parents[1] / "support", Path(__file__).resolve().parent):
    sys.path.insert(0, str(folder))
import servers  # noqa: E402
from differential import Bench, Findings, run_seeds  # noqa: E402
from exceptions import Rules  # noqa: E402
from generator import Generator  # noqa: E402
from grammar import GROUPS  # noqa: E402
from runner import Difference, Runner  # noqa: E402
from scripted import sequences  # noqa: E402
from shrinker import Shrinker, read_script, write_script  # noqa: E402
from wire import message_end, parse  # noqa: E402

servers.require("redis-server", "redis-cli")
if not os.environ.get("NEARCACHED_BINARY") and os.environ.get("NEARCACHED_BUILT_BINARY"):
    os.environ["NEARCACHED_BINARY"] = os.environ["NEARCACHED_BUILT_BINARY"]
SANITIZED = bool(os.environ.get("ASAN_OPTIONS") or os.environ.get("TSAN_OPTIONS"))
COMMANDS = 700 if SANITIZED else 4000
SHRINK_SECONDS = 20.0


class OneServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bench = Bench()

    @classmethod
    def tearDownClass(cls):
        cls.bench.__exit__()

    def test_scripted_sequences_are_answered_as_by_redis(self):
        runner = self.bench.runner()
        for name, sequence in sequences():
            with self.subTest(name):
                difference = runner.run(sequence)
                self.assertIsNone(difference, f"{name}: {difference}")

    def test_random_sequences_are_answered_as_by_redis(self):
        hits = self.bench.hits()
        runner, findings = run_seeds(self.bench, range(1, 4), COMMANDS, (2, 3), findings=Findings(SHRINK_SECONDS))
        self.assertFalse(findings.kinds, "printed above")
        self.assertGreater(self.bench.hits() - hits, runner.commands // 200, "L1 was not tested")
        self.assertGreater(sum(runner.answered.values()), runner.commands // 2, "most commands were errors")

    def test_two_servers_that_differ_are_found_out(self):
        """A server that has another database than the plain one: the run must not be blind."""
        def clean_one_only():
            self.bench.clean()
            self.bench.clients[0].call("SET", "s0", "only here")
        runner = Runner(self.bench.plain.address, self.bench.sidecar.address, clean_one_only, self.bench.rules)
        sequence = Generator(1, ["strings", "keys"]).sequence(200) + [(0, [(b"KEYS", b"*")], [])]
        self.assertIsNotNone(runner.run([(0, [(b"GET", b"s0")], []), *sequence]))


class BeforeACluster(unittest.TestCase):
    """Commands of one slot; what spans slots is tests/redis/across_cluster_test.py's."""

    def test_random_sequences_are_answered_as_by_redis(self):
        with Bench(cluster=True) as bench:
            hits = bench.hits()
            runner, findings = run_seeds(bench, range(1, 4), COMMANDS, (2, 3), findings=Findings(SHRINK_SECONDS))
            self.assertFalse(findings.kinds, "printed above")
            self.assertGreater(bench.hits() - hits, runner.commands // 200, "L1 was not tested")
            self.assertGreater(sum(runner.answered.values()), runner.commands // 2, "most commands were errors")


class TheTestItself(unittest.TestCase):
    def test_a_seed_makes_the_same_sequence_again(self):
        self.assertEqual(Generator(7).sequence(500), Generator(7).sequence(500))
        self.assertNotEqual(Generator(7).sequence(500), Generator(8).sequence(500))

    def test_every_group_is_said(self):
        for name in GROUPS:
            words = {command[0] for _, commands, _ in Generator(3, [name]).sequence(200) for command in commands}
            self.assertGreater(len(words), 1, name)

    def test_a_script_is_read_as_it_was_written(self):
        sequence = Generator(5).sequence(300)
        self.assertEqual(read_script(write_script(sequence, "why\nand where")), sequence)

    def test_a_failure_shrinks_to_the_commands_that_make_it(self):
        def run(sequence):
            said = [(at, command) for at, (_, commands, _) in enumerate(sequence) for command in commands]
            names = [command[0] for _, command in said]
            if b"LSET" in names and b"APPEND" in names[names.index(b"LSET"):]:
                at, command = next(pair for pair in said[names.index(b"LSET"):] if pair[1][0] == b"APPEND")
                return Difference(at, command, b":1\r\n", b":2\r\n")
            return None
        sequence = Generator(2, ["strings", "lists"]).sequence(2000)
        difference = run(sequence)
        self.assertIsNotNone(difference)
        small, difference = Shrinker(run, seconds=60).shrink(sequence, difference)
        self.assertEqual([commands[0][0] for _, commands, _ in small], [b"LSET", b"APPEND"])
        self.assertTrue(all(connection == 0 and not cuts for connection, _, cuts in small))

    def test_only_listed_differences_pass(self):
        rules = Rules({"smembers"})
        self.assertTrue(rules.alike((b"SMEMBERS", b"k"), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n"))
        self.assertFalse(rules.alike((b"SMEMBERS", b"k"), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\nb\r\n"))
        self.assertFalse(rules.alike((b"LRANGE", b"k"), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n"))
        self.assertTrue(rules.alike((b"PTTL", b"k"), b":5000000\r\n", b":4999990\r\n"))
        self.assertFalse(rules.alike((b"PTTL", b"k"), b":-1\r\n", b":10\r\n"))
        self.assertFalse(rules.alike((b"INFO",), b"$1\r\na\r\n", b"-ERR no\r\n"))
        self.assertFalse(rules.alike((b"TTL", b"k"), b"-ERR a\r\n", b"-ERR b\r\n"))
        self.assertFalse(rules.alike((b"GET", b"k"), b"$-1\r\n", b"_\r\n"))
        self.assertTrue(rules.alike((b"EXEC",), b"*1\r\n:100\r\n", b"*1\r\n:99\r\n", [(b"TTL", b"k")]))
        self.assertFalse(rules.alike((b"EXEC",), b"*1\r\n:100\r\n", b"*1\r\n:99\r\n", [(b"STRLEN", b"k")]))

    def test_a_message_ends_where_it_ends(self):
        message = b"*4\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n:1\r\n*-1\r\n_\r\n"
        for cut in range(len(message)):
            self.assertEqual(message_end(message[:cut], 0), -1)
        self.assertEqual(message_end(message + b"+OK\r\n", 0), len(message))
        self.assertEqual(len(parse(message)[1]), 4)


if __name__ == "__main__":
    unittest.main()
