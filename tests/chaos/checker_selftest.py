#!/usr/bin/python3
"""The judge judged: histories with one planted fault each, and whole runs against sidecars that lie, must fail."""

import random
import re
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from board import Board  # noqa: E402
from history import ABSENT, DELETED, History, NEVER, PRESENT, Read, STAYS, Write  # noqa: E402
from keyspace import FIELDS, Keyspace, WrongValue, is_hash, make_value, parse_value  # noqa: E402
from workers import Batch, Plan, Report, Writer, encode  # noqa: E402
import resp  # noqa: E402

STALE_MAX = 1.0


def certain(version, sent, acknowledged, key=1, lives=STAYS):
    return Write(key, version, sent, acknowledged, True, lives)


def uncertain(version, sent, key=1, lives=STAYS):
    return Write(key, version, sent, sent + 0.5, False, lives)


def read(what, sent, answered=None, key=1, **known):
    return Read(key, what, sent, sent + 0.001 if answered is None else answered, **known)


class HistoryOfOneKey(unittest.TestCase):
    def setUp(self):
        self.history = History([certain(1, 10.0, 10.1), certain(2, 20.0, 20.1)])

    def verdict(self, a_read):
        return self.history.check_age(a_read, STALE_MAX)

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

    def test_an_absent_key_that_was_never_deleted_is_a_violation(self):
        self.assertIsNotNone(self.verdict(read(ABSENT, 30.0)))

    def test_without_any_staleness_what_was_replaced_before_is_a_violation(self):
        self.assertIsNotNone(self.history.check_age(read(1, 20.11), 0.0))
        self.assertIsNone(self.history.check_age(read(1, 20.05), 0.0))

    def test_other_keys_are_not_mixed_up(self):
        history = History([certain(1, 10.0, 10.1, key=1), certain(1, 50.0, 50.1, key=2)])
        self.assertIsNotNone(history.check_age(read(0, 40.0, key=1), STALE_MAX))
        self.assertIsNone(history.check_age(read(0, 40.0, key=2), STALE_MAX))


class DeletedKeys(unittest.TestCase):
    def setUp(self):
        self.history = History([certain(1, 10.0, 10.1), certain(2, 20.0, 20.1, lives=DELETED), certain(3, 30.0, 30.1)])

    def age(self, what, sent, answered=None):
        return self.history.check_age(read(what, sent, answered), STALE_MAX)

    def test_absent_is_accepted_between_deletion_and_creation_and_for_the_bound_behind_it(self):
        for moment in (20.0, 25.0, 31.05):
            self.assertIsNone(self.age(ABSENT, moment))

    def test_absent_before_the_deletion_or_long_after_the_creation_is_a_violation(self):
        self.assertIsNotNone(self.age(ABSENT, 15.0))
        self.assertIsNotNone(self.age(ABSENT, 31.2))

    def test_the_deleted_value_is_a_violation_past_the_bound(self):
        self.assertIsNone(self.age(1, 21.0))
        self.assertIsNotNone(self.age(1, 21.2))

    def test_a_deletion_is_never_a_value(self):
        self.assertIsNotNone(self.age(2, 25.0))

    def test_existence_is_judged_by_all_values_that_there_may_have_been(self):
        self.assertIsNone(self.age(PRESENT, 21.0))
        self.assertIsNotNone(self.age(PRESENT, 25.0))
        self.assertIsNone(self.age(PRESENT, 30.5))

    def test_an_own_deletion_that_is_not_seen_is_a_violation(self):
        self.assertIsNotNone(self.history.check_own(read(1, 20.2, own=2)))
        self.assertIsNotNone(self.history.check_own(read(PRESENT, 20.2, own=2)))
        self.assertIsNone(self.history.check_own(read(ABSENT, 20.2, own=2)))

    def test_an_own_creation_that_is_not_seen_is_a_violation(self):
        self.assertIsNotNone(self.history.check_own(read(ABSENT, 30.2, own=3)))
        self.assertIsNone(self.history.check_own(read(PRESENT, 30.2, own=3)))

    def test_a_value_that_comes_back_after_its_deletion_was_seen_is_a_violation(self):
        self.assertIn("after the deletion", self.history.check_order(read(1, 20.6, absent_at=20.3), STALE_MAX))
        self.assertIsNone(self.history.check_order(read(3, 30.6, absent_at=20.3), STALE_MAX))

    def test_absence_that_comes_back_after_the_creation_was_seen_is_a_violation(self):
        self.assertIsNotNone(self.history.check_order(read(ABSENT, 30.6, seen=3), STALE_MAX))

    def test_absence_is_given_to_the_deletion_that_excuses_most(self):
        history = History([certain(1, 10.0, 10.1, lives=DELETED), certain(2, 20.0, 20.1),
                           certain(3, 20.5, 20.6, lives=DELETED), certain(4, 40.0, 40.1)])
        self.assertIsNone(history.check_order(read(2, 20.9, absent_at=20.8), STALE_MAX))  # it may have seen version 1
        self.assertIsNotNone(history.check_order(read(2, 22.0, absent_at=21.5), STALE_MAX))


class ExpiringKeys(unittest.TestCase):
    def setUp(self):
        self.history = History([certain(1, 10.0, 10.1, lives=2.0), certain(2, 30.0, 30.1)])

    def age(self, what, sent):
        return self.history.check_age(read(what, sent), STALE_MAX)

    def test_the_value_is_accepted_until_it_expires_and_for_the_bound_behind_that(self):
        for moment in (10.0, 12.0, 13.1):
            self.assertIsNone(self.age(1, moment))

    def test_the_value_served_after_that_is_a_violation(self):
        self.assertIsNotNone(self.age(1, 13.2))
        self.assertIsNotNone(self.age(PRESENT, 13.2))

    def test_absence_before_the_expiry_is_a_violation(self):
        self.assertIsNotNone(self.age(ABSENT, 11.0))
        self.assertIsNotNone(self.history.check_own(read(ABSENT, 11.0, own=1)))

    def test_absence_after_it_is_accepted(self):
        self.assertIsNone(self.age(ABSENT, 12.0))
        self.assertIsNone(self.age(ABSENT, 31.0))
        self.assertIsNone(self.history.check_own(read(ABSENT, 12.1, own=1)))

    def test_a_write_of_unknown_outcome_may_expire_late(self):
        history = History([uncertain(1, 10.0, lives=2.0), certain(2, 30.0, 30.1)])
        self.assertIsNone(history.check_age(read(1, 29.0), STALE_MAX))


class UncertainWrites(unittest.TestCase):
    def test_they_may_be_seen_or_not_until_a_certain_write_follows(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0), certain(3, 30.0, 30.1)])
        for version in (1, 2):
            self.assertIsNone(history.check_age(read(version, 29.0), STALE_MAX))
            self.assertIsNone(history.check_age(read(version, 31.0), STALE_MAX))
            self.assertIsNotNone(history.check_age(read(version, 31.2), STALE_MAX))

    def test_they_do_not_excuse_what_was_replaced_before_them(self):
        history = History([certain(1, 10.0, 10.1), certain(2, 20.0, 20.1), uncertain(3, 21.0)])
        self.assertIsNotNone(history.check_age(read(1, 25.0), STALE_MAX))

    def test_at_the_end_the_last_certain_and_all_uncertain_after_it_are_admissible(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0), certain(3, 30.0, 30.1), uncertain(4, 40.0),
                           uncertain(5, 50.0, lives=DELETED)])
        self.assertEqual(history.admissible_now(1), {3, 4, ABSENT})
        self.assertEqual(history.admissible_now(99), {0})

    def test_a_key_may_go_back_only_from_what_could_be_rolled_back(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0)])
        self.assertIsNone(history.check_order(read(1, 21.0, seen=2), STALE_MAX))
        self.assertIn("after version 1", history.check_order(read(0, 21.0, seen=1), STALE_MAX))
        self.assertIsNotNone(history.check_order(read(0, 21.0, seen=2), STALE_MAX))  # behind a certain one all the same
        self.assertIsNone(history.check_order(read(2, 21.0, seen=1), STALE_MAX))

    def test_what_was_told_must_be_seen_unless_it_was_rolled_back(self):
        history = History([certain(1, 10.0, 10.1), uncertain(2, 20.0)])
        self.assertIsNotNone(history.check_told(read(0, 10.2, told=1)))
        self.assertIsNone(history.check_told(read(1, 20.9, told=2)))


class HistoryAgainstASlowJudge(unittest.TestCase):
    """The same questions asked of all writes, one by one."""

    @staticmethod
    def make(chance):
        now, writes = 0.0, []
        for version in range(1, chance.randint(2, 14)):
            sent = now + chance.random()
            now = sent + chance.random()
            lives = chance.choice((STAYS, STAYS, DELETED, chance.uniform(0.1, 2)))
            writes.append(Write(1, version, sent, now, chance.random() < 0.7, lives))
        return writes, now

    @staticmethod
    def windows(writes, what):
        """(version, since, until) in which the answer may have been the truth."""
        for version in range(len(writes) + 1):
            write = writes[version - 1] if version else Write(1, 0, -NEVER, -NEVER, True)
            until = min((w.acknowledged for w in writes if w.certain and w.version > version), default=NEVER)
            following = writes[version].sent if version < len(writes) else NEVER
            landed = write.acknowledged if write.certain else following
            value = (write.sent, until if write.lives == STAYS else min(until, landed + write.lives + 0.01))
            gone = (write.sent + (0 if write.lives == DELETED else write.lives - 0.01), until)
            if what == ABSENT and write.lives != STAYS:
                yield version, *gone
            if what in (version, PRESENT) and write.lives != DELETED:
                yield version, *value

    def test_random_histories_are_judged_alike(self):
        for seed in range(400):
            chance = random.Random(seed)
            writes, end = self.make(chance)
            history = History(chance.sample(writes, len(writes)))
            for _ in range(20):
                what = chance.choice((ABSENT, PRESENT, chance.randint(0, len(writes))))
                a_read = read(what, chance.uniform(0, end + 3), own=chance.randint(0, len(writes)))
                windows = list(self.windows(writes, what))
                good = any(since <= a_read.answered and a_read.sent - until <= STALE_MAX for _, since, until in windows)
                self.assertEqual(history.check_age(a_read, STALE_MAX) is None, good, f"seed {seed}: {a_read}")
                highest = max((version for version, since, _ in windows if since <= a_read.answered), default=-1)
                lost = any(w.certain and highest < w.version <= a_read.own for w in writes)
                self.assertEqual(history.check_own(a_read) is None, not lost, f"seed {seed}: {a_read}")


class Values(unittest.TestCase):
    def setUp(self):
        self.keyspace = Keyspace(100, 2, 400)
        self.board = Board(100, 1, 1, 2)

    def test_they_carry_their_version_back(self):
        for size in (0, 1, 5000):
            self.assertEqual(parse_value(3, make_value(3, 123, 1, size), 2), 123)

    def test_another_keys_value_is_refused(self):
        with self.assertRaisesRegex(WrongValue, "not its own"):
            self.keyspace.from_get([2], make_value(4, 1, 0, 100), self.board)

    def test_their_length_tells_the_version(self):
        self.board.sent[4] = 60
        for version in range(20, 61):
            length = len(self.keyspace.value(4, version))
            self.assertEqual(self.keyspace.from_strlen([4], length, self.board), [version])
        with self.assertRaises(WrongValue):
            self.keyspace.from_strlen([4], 5000, self.board)

    def test_a_hash_put_together_from_two_versions_is_refused(self):
        old, new = self.keyspace.value(3, 1), self.keyspace.value(3, 2)
        whole = {field: new for field in FIELDS}
        self.assertEqual(self.keyspace.from_hgetall([3], whole, self.board), [2])
        self.assertEqual(self.keyspace.from_hgetall([3], {}, self.board), [ABSENT])
        for torn in (whole | {FIELDS[1]: old}, dict(list(whole.items())[1:])):
            with self.assertRaisesRegex(WrongValue, "torn"):
                self.keyspace.from_hgetall([3], torn, self.board)
        with self.assertRaisesRegex(WrongValue, "torn"):
            self.keyspace.from_hmget([3], [new, None, new], self.board)

    def test_every_choice_of_reads_covers_each_key_once(self):
        chance = random.Random(1)
        for _ in range(200):
            keys = chance.sample(range(100), 9)
            reads = self.keyspace.choose_reads(keys, chance)
            self.assertEqual(sorted(key for _, covered, _ in reads for key in covered), sorted(keys))

    def test_commands_are_encoded_as_by_the_other_encoder(self):
        self.assertEqual(encode(("SET", "k", b"v")), resp.encode("SET", "k", b"v"))


class WhatAReaderNotices(unittest.TestCase):
    """The quick judgement on the spot: what it lets pass is right, and what is not right it keeps."""

    KEY = 4

    def setUp(self):
        self.plan = Plan(0, Keyspace(10, 2, 100), 0.99, 5.0, [], ["unused"], None)
        self.board = Board(10, 1, 1, 2)
        self.board.sent[self.KEY] = 9
        self.report = Report("reader 0")

    def answer(self, reply, **floors):
        for name, value in floors.items():
            array = getattr(self.board, name)
            (array[0] if isinstance(array, list) else array)[self.KEY] = value
        batch = Batch(self.plan, self.board, 0, [self.KEY])
        batch.reads = [(("GET", "s:4"), [self.KEY], self.plan.keyspace.from_get)]
        batch.judge(self.report, [reply])
        return [text for _, text in self.report.violations]

    def value(self, version):
        return make_value(self.KEY, version, 0, 100)

    def test_a_current_value_leaves_no_trace_but_that_it_was_seen(self):
        self.assertEqual(self.answer(self.value(9), written=9, own=9, seen=9), [])
        self.assertEqual(self.report.suspects, [])
        self.assertEqual(self.board.seen[0][self.KEY], 9)

    def test_every_floor_that_an_answer_lies_below_makes_it_suspicious(self):
        for floor in ("written", "own", "seen", "absent_at"):
            self.setUp()
            if floor == "absent_at":
                self.board.absent[self.KEY] = 9
            self.answer(self.value(8), **{floor: 9})
            self.assertEqual(len(self.report.suspects), 1, floor)

    def test_a_version_not_yet_sent_is_suspicious(self):
        self.answer(self.value(10))
        self.assertEqual(self.report.suspects[0].what, 10)

    def test_absence_is_suspicious_unless_a_deletion_is_the_newest(self):
        self.answer(None, written=9)
        self.assertEqual(self.report.suspects[0].what, ABSENT)
        self.report.suspects.clear()
        self.answer(None, absent=9)
        self.assertEqual(self.report.suspects, [])

    def test_absence_before_the_expiry_is_suspicious(self):
        self.answer(None, written=9, absent=9, absent_from=1e18)
        self.assertEqual(len(self.report.suspects), 1)

    def test_a_value_that_has_expired_is_suspicious(self):
        self.answer(self.value(9), written=9, expired_at=1.0)
        self.assertEqual(len(self.report.suspects), 1)

    def test_garbage_is_a_violation(self):
        self.assertTrue(self.answer(b"xyz"))


class WhatAWriterNotices(unittest.TestCase):
    def read_back(self, reply, lives=STAYS, answered=1.15):
        plan = Plan(0, Keyspace(10, 2, 100), 0.99, 5.0, [], ["unused"], None)
        report = Report("writer 0")
        writer = Writer(plan, Board(10, 1, 1, 2), 0, report)
        read_of_it = ("GET", "s:4"), [4], plan.keyspace.from_get
        writer.check_read_back(certain(9, 1.0, 1.1, key=4, lives=lives), 0, read_of_it, reply, answered)
        return [text for _, text in report.violations]

    def test_a_pipelined_read_behind_the_own_write_must_match_exactly(self):
        self.assertEqual(self.read_back(make_value(4, 9, 0, 100)), [])
        self.assertIn("pipelined GET", self.read_back(make_value(4, 8, 0, 100))[0])
        self.assertIn("pipelined GET", self.read_back(None)[0])

    def test_behind_a_deletion_nothing_else_than_absence_is_right(self):
        self.assertEqual(self.read_back(None, lives=DELETED), [])
        self.assertTrue(self.read_back(make_value(4, 8, 0, 100), lives=DELETED))

    def test_a_value_may_be_gone_only_when_its_time_is_over(self):
        self.assertTrue(self.read_back(None, lives=0.3))
        self.assertEqual(self.read_back(None, lives=0.3, answered=1.4), [])

    def test_hashes_are_given_a_time_to_live_only_where_the_server_can(self):
        chance = random.Random(1)
        for able in (False, True):
            lives = [Keyspace(1000, 2, 100, able).choose_life(key, chance) for key in range(1000) if is_hash(key)]
            self.assertEqual(max(lives) > 0, able)


class AWholeRun(unittest.TestCase):
    """Three sidecars that lie, each in its own way, in one run: each is found out, and for what it did."""

    def run_against(self, flaws, *further):
        command = [sys.executable, str(HERE / "consistency_check.py"), "--seconds", "3", "--faults", "none", "--keys", "200",
                   "--replicas", "0", "--seed", "1", "--binary", str(HERE / "naive_cache.py"), "--set",
                   f"flaws={'/'.join(flaws)}", *further]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return done.stdout

    def assert_found(self, output, what, sidecars):
        """Exactly these sidecars did it."""
        line = re.search(rf"(?:FAIL|ok  )  {what}: (.*)", output)
        self.assertIsNotNone(line, output)
        found = set(map(int, re.findall(r"sidecar (\d): \d+", line[1])))
        self.assertEqual(found, set(sidecars), f"{what}\n{output}")

    def test_values_that_live_by_the_clock(self):
        output = self.run_against(("stale", "lost", "none"))
        self.assert_found(output, "reads older than the bound", (0,))
        self.assert_found(output, "acknowledged writes lost to their own sidecar", (1,))
        self.assert_found(output, "keys that went back in time", (0, 1))
        self.assertRegex(output, r"ok    L1 was in use")

    def test_values_that_outlive_their_keys_and_answers_of_two_halves_by_caches_that_save_nothing(self):
        output = self.run_against(("undead", "phantom", "torn"))
        self.assert_found(output, "reads older than the bound", (0, 1))
        self.assertRegex(output, r"sidecar 2: HGETALL: key \d+: torn")
        self.assertRegex(output, r"FAIL  L1 was in use")

    def test_what_a_sleeper_remembers_reads_that_run_ahead_of_others_and_values_of_other_keys(self):
        output = self.run_against(("apart", "mixed", "asleep"), "--faults", "sleep", "--sleep", "1.5", "--seconds", "4")
        self.assertRegex(output, r"sidecar 2 stopped")  # what the seed chooses first
        self.assertRegex(output, r"FAIL  reads older than the bound: .*sidecar 2")
        self.assertNotRegex(output, r"(reads older than the bound|acknowledged writes lost).*sidecar 0")
        self.assertRegex(output, r"FAIL  keys that went back in time: .*sidecar 0")
        self.assertRegex(output, r"sidecar 1: GET: key \d+ answered with a value that is not its own")


if __name__ == "__main__":
    unittest.main(verbosity=1)
