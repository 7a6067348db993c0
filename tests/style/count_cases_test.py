#!/usr/bin/env python3
"""What tests/run.sh counts: nothing that failed may be counted as passed."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import count_cases  # noqa: E402


def entry(output="", inner="", status="run"):
    return f'<testcase name="t" status="{status}">{inner}<system-out>{output}</system-out></testcase>'


class CountCasesTest(unittest.TestCase):
    def count(self, *entries):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as handle:
            handle.write(f"<testsuite>{''.join(entries)}</testsuite>")
            handle.flush()
            return count_cases.count_file(handle.name)

    def test_a_passing_catch_program_counts_its_cases(self):
        self.assertEqual(self.count(entry("===\nAll tests passed (5 assertions in 2 test cases)\n\n")), [2, 0, 0])
        self.assertEqual(self.count(entry("All tests passed (1 assertion in 1 test case)")), [1, 0, 0])

    def test_a_failing_catch_program_counts_both(self):
        output = "test cases: 5 | 3 passed | 2 failed\nassertions: 9 | 7 passed | 2 failed\n"
        self.assertEqual(self.count(entry(output, '<failure message=""/>', "fail")), [3, 2, 0])

    def test_a_catch_program_of_which_all_cases_failed(self):
        self.assertEqual(self.count(entry("test cases: 2 | 2 failed\n", '<failure message=""/>', "fail")), [0, 2, 0])

    def test_a_crash_behind_a_good_summary_is_a_failure(self):
        output = "All tests passed (5 assertions in 2 test cases)"
        self.assertEqual(self.count(entry(output, '<failure message="SEGFAULT"/>', "fail")), [2, 1, 0])

    def test_a_crash_without_summary_is_one_failure(self):
        self.assertEqual(self.count(entry("", '<failure message="SEGFAULT"/>', "fail")), [0, 1, 0])

    def test_a_program_without_tests_is_a_failure(self):
        self.assertEqual(self.count(entry("No tests ran")), [0, 1, 0])

    def test_a_plain_program_counts_as_one_and_unittest_by_its_summary(self):
        self.assertEqual(self.count(entry("fine"), entry("Ran 7 tests in 0.1s\n\nOK")), [8, 0, 0])

    def test_a_skipped_or_missing_program_is_not_passed(self):
        self.assertEqual(self.count(entry(inner='<skipped message="SKIP_RETURN_CODE=4"/>', status="notrun")), [0, 0, 1])
        self.assertEqual(self.count(entry(status="disabled")), [0, 0, 1])
        self.assertEqual(self.count(entry(inner='<failure message="Not Run"/>', status="fail")), [0, 1, 0])


if __name__ == "__main__":
    unittest.main()
