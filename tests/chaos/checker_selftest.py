#!/usr/bin/python3
"""The judge judged: histories with one planted fault each, and a whole run against a cache that lies, must fail."""

import random
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from board import Board  # noqa: E402
from history import History, NEVER, Read, Write  # noqa: E402
from workers import Plan, Report, check_read_back, check_reply, make_value, parse_value  # noqa: E402

STALE_MAX = 1.0


def certain(version, sent, acknowledged, key=1):
    return Write(key, version, sent, acknowledged, True)


def uncertain(version, sent, key=1):
    return Write(key, version, sent, sent + 0.5, False)


def read(version, sent, answered=None, key=1):
    return Read(key, version, sent, sent + 0.001 if answered is None else answered)


class HistoryOfOneKey(unittest.TestCase):
    def setUp(self):
        self.history = History([certain(1, 10.0, 10.1), certain(2, 20.0, 20.1)])

    def verdict(self, a_read):
        return self.history.check_read(a_read, STALE_MAX)

    def test_a_read_of_the_current_value_is_accepted_however_late(self):
        self.assertIsNone(self.verdict(read(2, 900.0)))

    def test_a_value_replaced_less_than_a_second_before_is_accepted(self):
        self.assertIsNone(self.verdict(read(1, 21.09)))

    def test_a_value_replaced_more_than_a_second_before_is_a_violation(self):
        self.assertIn("after the upstream had replaced it", self.verdict(read(1, 21.2)))

    def test_the_initial_value_is_judged_like_any_other(self):
        self.assertIsNone(self.verdict(read(0, 11.0)))
        self.assertIsNotNone(self.verdict(read(0, 11.2)))

    def test_a_late_answer_does_not_excuse_nor_accuse(self):
        self.assertIsNone(self.verdict(read(1, 20.5, answered=60.0)))
        self.assertIsNotNone(self.verdict(read(1, 21.2, answered=21.3)))

    def test_a_value_read_before_it_was_sent_is_a_violation(self):
        self.assertIn("before it was written", self.verdict(read(2, 19.0, answered=19.9)))
        self.assertIsNone(self.verdict(read(2, 19.9, answered=20.05)))

    def test_a_version_nobody_wrote_is_a_violation(self):
        self.assertIsNotNone(self.verdict(read(7, 30.0)))

    def test_an_absent_key_is_a_violation(self):
        self.assertIn("absent", self.verdict(read(None, 30.0)))

    def test_other_keys_are_not_mixed_up(self):
        history = History([certain(1, 10.0, 10.1, key=1), certain(1, 50.0, 50.1, key=2)])
        self.assertIsNotNone(history.check_read(read(0, 40.0, key=1), STALE_MAX))
        self.assertIsNone(history.check_read(read(0, 40.0, key=2), STALE_MAX))


class UncertainWrites(unittest.TestCase):
    def test_they_may_be_seen_or_not_until_a_certain_write_follows(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0), certain(3, 30.0, 30.1)])
        for version in (1, 2):
            self.assertIsNone(history.check_read(read(version, 29.0), STALE_MAX))
            self.assertIsNone(history.check_read(read(version, 31.0), STALE_MAX))
            self.assertIsNotNone(history.check_read(read(version, 31.2), STALE_MAX))

    def test_they_do_not_excuse_what_was_replaced_before_them(self):
        history = History([certain(1, 10.0, 10.1), certain(2, 20.0, 20.1), uncertain(3, 21.0)])
        self.assertIsNotNone(history.check_read(read(1, 25.0), STALE_MAX))

    def test_at_the_end_the_last_certain_and_all_uncertain_after_it_are_admissible(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0), certain(3, 30.0, 30.1), uncertain(4, 40.0)])
        self.assertEqual(history.admissible_now(1), {3, 4})
        self.assertEqual(history.admissible_now(99), {0})

    def test_a_session_may_only_go_back_from_what_could_be_rolled_back(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0)])
        self.assertIsNone(history.check_order(1, 2, 1))
        self.assertIn("back in time", history.check_order(1, 1, 0))
        self.assertIsNone(history.check_order(1, 1, 2))


class HistoryAgainstASlowJudge(unittest.TestCase):
    def test_random_histories_agree_with_a_search_over_all_writes(self):
        for seed in range(300):
            chance = random.Random(seed)
            now, writes = 0.0, []
            for version in range(1, chance.randint(2, 12)):
                sent = now + chance.random()
                now = sent + chance.random()
                writes.append(Write(1, version, sent, now, chance.random() < 0.7))
            history = History(chance.sample(writes, len(writes)))
            for _ in range(20):
                a_read = read(chance.randint(0, len(writes)), chance.uniform(0, now + 3))
                until = min((w.acknowledged for w in writes if w.certain and w.version > a_read.version), default=NEVER)
                since = -NEVER if a_read.version == 0 else writes[a_read.version - 1].sent
                good = since <= a_read.answered and a_read.sent - until <= STALE_MAX
                self.assertEqual(history.check_read(a_read, STALE_MAX) is None, good, f"seed {seed}: {a_read}")


class WhatAReaderNotices(unittest.TestCase):
    def setUp(self):
        self.plan = Plan(0, 10, 2, 0.99, 100, 5.0, [], "unused", None)
        self.board = Board(10, 1, 2)
        self.board.sent[3] = 9
        self.report = Report("reader 0")
        self.seen = {}

    def answer(self, reply, certain_before=0, own_before=0, key=3):
        check_reply(self.plan, self.board, self.report, read(None, 1.0, key=key), reply, certain_before, own_before,
                    self.seen)
        return [text for _, text in self.report.violations]

    def test_a_current_value_leaves_no_trace(self):
        self.assertEqual(self.answer(make_value(3, 9, 1, 100), 9, 9), [])
        self.assertEqual((self.report.suspects, self.report.regressions), ([], []))

    def test_an_own_acknowledged_write_that_is_missing_is_a_violation(self):
        self.assertIn("was lost", self.answer(make_value(3, 7, 1, 100), 8, 8)[0])

    def test_a_foreign_acknowledged_write_that_is_missing_is_kept_for_the_history(self):
        self.assertEqual(self.answer(make_value(3, 7, 1, 100), 8, 7), [])
        self.assertEqual(self.report.suspects[0].version, 7)

    def test_an_older_value_than_the_session_saw_is_kept_for_the_history(self):
        self.answer(make_value(3, 7, 1, 100))
        self.answer(make_value(3, 6, 1, 100))
        self.assertEqual(self.report.regressions, [(3, 7, 6)])

    def test_another_keys_value_is_a_violation(self):
        self.assertIn("not its own", self.answer(make_value(4, 1, 0, 100))[0])

    def test_a_version_not_yet_sent_is_a_violation(self):
        self.assertIn("never written", self.answer(make_value(3, 10, 1, 100))[0])

    def test_no_value_is_a_violation(self):
        self.assertIn("absent", self.answer(None)[0])

    def test_garbage_is_a_violation(self):
        self.assertTrue(self.answer(b"xyz"))

    def test_a_pipelined_read_behind_the_own_write_must_match_exactly(self):
        check_read_back(self.plan, self.report, certain(9, 1.0, 1.1, key=3), make_value(3, 8, 1, 100))
        self.assertIn("pipelined GET", self.report.violations[0][1])

    def test_values_carry_their_version_back(self):
        for size in (0, 1, 5000):
            self.assertEqual(parse_value(3, make_value(3, 123, 1, size), 2), 123)


class AWholeRun(unittest.TestCase):
    def run_against(self, cache_seconds):
        command = [sys.executable, str(HERE / "mixed_load.py"), "--seconds", "8", "--no-faults", "--keys", "300", "--seed",
                   "1", "--readers", "2", "--binary", str(HERE / "naive_cache.py"), "--set", f"cache_seconds={cache_seconds}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def test_against_a_cache_that_trusts_a_time_to_live_fails_for_stale_reads_and_lost_writes(self):
        done = self.run_against(2.5)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"FAIL  reads of values not held within the last 1 s: \d+")
        self.assertRegex(done.stdout, r"FAIL  own writes lost, wrong values, stuck or dropped clients: \d+")
        self.assertRegex(done.stdout, r"ok    L1 was in use")

    def test_against_something_that_caches_nothing_fails_only_because_nothing_was_proved(self):
        done = self.run_against(0)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"FAIL  L1 was in use")
        self.assertEqual(done.stdout.count("  FAIL  "), 1, done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=1)
