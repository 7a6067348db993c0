#!/usr/bin/env python3
"""The judgement of loadtest/outage.py, on made-up runs: each promise that is broken must be found, and no other."""

import sys
import types
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "loadtest"), str(ROOT / "tests" / "support")]

import cut_proxy  # noqa: E402
import outage  # noqa: E402
from outage_clients import Batch, Seen, value_text  # noqa: E402
from resp import ReplyError  # noqa: E402

CUT, RESTORED, END = 100.0, 130.0, 140.0


def options():
    return types.SimpleNamespace(max_staleness_ms=1000, max_stale_s=60, keys=2, sidecars=1, refill_max=4, settle=10.0)


def scene(acknowledged=()):
    return types.SimpleNamespace(
        options=options(), kinds={"bounded": ["b:0"], "stale_ok": ["s:0"]},
        times={"quiet": CUT - 1, "cut": CUT, "restored": RESTORED, "end": END},
        writer=types.SimpleNamespace(acknowledged={"b:0": [], "s:0": [], **dict(acknowledged)}))


def reader(kind, *reads):
    """reads: (sent, received, version or None for an error)."""
    seen = Seen(kind, 0)
    key = "b:0" if kind == "bounded" else "s:0"
    for sent, received, version in reads:
        seen.note([key], sent, received, [ReplyError("ERR away") if version is None else value_text(0, version).encode()])
    return seen


class Judgement(unittest.TestCase):
    def figures(self, **changes):
        return {"unproven": 0, "oldest_ms": {"bounded": 999.0, "stale_ok": 59_000.0}, "back_in_time": 0,
                "stale_ok": {"values": 10, "errors": 0}, "reload_gets": 8, "given_up": 0, "in_flight_max": 4, "steady_after_s": 1.0, **changes}

    def test_nothing_is_found_where_everything_holds(self):
        self.assertEqual(list(outage.findings(self.figures(), options())), [])

    def test_each_broken_promise_is_found(self):
        for change in ({"unproven": 1}, {"back_in_time": 1}, {"oldest_ms": {"bounded": 1001.0, "stale_ok": 0.0}},
                       {"oldest_ms": {"bounded": 0.0, "stale_ok": 60_001.0}}, {"stale_ok": {"values": 10, "errors": 1}},
                       {"stale_ok": {"values": 0, "errors": 0}}, {"reload_gets": 9}, {"in_flight_max": 5},
                       {"steady_after_s": None}):
            with self.subTest(change):
                self.assertEqual(len(list(outage.findings(self.figures(**change), options()))), 1)

    def test_what_was_given_up_during_the_cut_is_no_herd_but_more_is(self):
        self.assertEqual(list(outage.findings(self.figures(reload_gets=58, given_up=50), options())), [])
        self.assertEqual(len(list(outage.findings(self.figures(reload_gets=59, given_up=50), options()))), 1)

    def test_reads_are_given_up_when_they_fail_or_outlast_the_cut(self):
        failed, outlasting, after = (CUT + 1, CUT + 2, None), (RESTORED - 1, RESTORED, 0), (RESTORED, RESTORED + 1, None)
        seen = [reader("bounded", failed, outlasting, after), reader("stale_ok")]
        self.assertEqual(outage.cut_figures(scene(), seen)["given_up"], 1 + outage.BATCH)

    def test_only_values_asked_for_after_the_last_proof_ran_out_are_unproven(self):
        cases = (((CUT + 0.9, CUT + 0.95, 0), 0), ((CUT + 0.9, CUT + 2, 0), 0), ((CUT + 1.1, CUT + 1.2, 0), 1),
                 ((CUT + 1.1, CUT + 2, None), 0), ((RESTORED - 0.1, RESTORED + 0.1, 0), 0), ((CUT - 1, CUT - 0.9, 0), 0))
        for read, expected in cases:
            with self.subTest(read):
                figures = outage.cut_figures(scene(), [reader("bounded", read), reader("stale_ok", read)])
                self.assertEqual(figures["unproven"], expected)

    def test_a_value_is_as_old_as_its_successor_when_it_was_asked_for(self):
        written = {"b:0": [CUT + 5, CUT + 6]}
        seen = [reader("bounded", (CUT + 5.5, CUT + 9, 0), (CUT + 7, CUT + 9, 1), (CUT + 9, CUT + 9.1, 2))]
        self.assertAlmostEqual(outage.staleness_figures(scene(written), seen)["oldest_ms"]["bounded"], 1000)
        asked_before = [reader("bounded", (CUT + 4, CUT + 9, 0))]
        self.assertEqual(outage.staleness_figures(scene(written), asked_before)["oldest_ms"]["bounded"], 0)

    def test_a_reader_sees_a_key_go_back(self):
        self.assertEqual(reader("bounded", (1, 2, 1), (3, 4, 1), (5, 6, 0)).back_in_time, 1)

    def test_steady_is_when_it_lasts(self):
        metered = [({int((RESTORED + 0.25) * cut_proxy.BINS_PER_SECOND): 9}, 0)]
        before = Seen("bounded", 0)
        before.batches = [Batch(0, CUT - 1 + i / 10 + 0.05, 10, 0) for i in range(10)]
        after = Seen("bounded", 0)
        after.batches = [Batch(0, RESTORED + i / 10 + 0.05, 10 if i else 0, 0 if i else 10) for i in range(100)]
        found = outage.recovery_figures(scene(), [before, after], metered)
        self.assertEqual(found["hit_ratio_before"], 1.0)
        self.assertAlmostEqual(found["steady_after_s"], 0.3)  # 0.0 errors, 0.1 well, 0.2 misses, from 0.3 on well

    def test_patterns_are_counted_wherever_the_stream_is_cut(self):
        stream = b"*2\r\n$4\r\nPTTL\r\n$1\r\nk\r\n" * 3
        for step in range(1, len(stream)):
            counter = cut_proxy.Counter(cut_proxy.PTTL)
            self.assertEqual(sum(counter.feed(stream[i:i + step]) for i in range(0, len(stream), step)), 3, step)


if __name__ == "__main__":
    unittest.main()
