#!/usr/bin/env python3
"""Reads a JUnit file of CTest and prints "PASSED FAILED SKIPPED" in test cases.

A CTest entry is a whole program. Where its output ends in Catch2's or unittest's summary the cases of that summary are
counted, else the entry counts as one. An entry that failed counts at least one failure, whatever it printed: it may have
crashed behind its summary.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

CATCH_ALL_PASSED = re.compile(r"All tests passed \(.* in (\d+) test cases?\)")
CATCH_SOME_FAILED = re.compile(r"^test cases:\s*(\d+)(.*)$", re.MULTILINE)
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
CATCH_COUNT = re.compile(r"\|\s*(\d+) (passed|failed)")


def last_match(pattern, text):
    found = list(pattern.finditer(text))
    return found[-1] if found else None


def count_output(output):
    """(passed, failed) as the program's own summary has it, or None."""
    if "No tests ran" in output:
        return 0, 1
    some_failed = last_match(CATCH_SOME_FAILED, output)
    if some_failed:
        counts = {kind: int(count) for count, kind in CATCH_COUNT.findall(some_failed.group(2))}
        return counts.get("passed", 0), counts.get("failed", 0)
    for pattern in (CATCH_ALL_PASSED, UNITTEST):
        found = last_match(pattern, output)
        if found:
            return int(found.group(1)), 0
    return None


def count_entry(entry):
    if entry.find("skipped") is not None or entry.get("status") == "disabled":
        return 0, 0, 1
    ran_well = entry.get("status") == "run" and entry.find("failure") is None and entry.find("error") is None
    passed, failed = count_output(entry.findtext("system-out") or "") or ((1, 0) if ran_well else (0, 1))
    if ran_well:
        return passed, failed, 0
    return passed, max(failed, 1), 0


def count_file(path):
    totals = [0, 0, 0]
    for entry in ElementTree.parse(path).getroot().iter("testcase"):
        for i, count in enumerate(count_entry(entry)):
            totals[i] += count
    return totals


def main():
    totals = count_file(sys.argv[1])
    if not any(totals):
        print("no tests", file=sys.stderr)
        return 1
    print(*totals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
