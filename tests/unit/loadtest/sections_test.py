#!/usr/bin/env python3
"""How loadtest/ puts RESULTS.md together, and its statistics."""

import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "loadtest"))

import sections  # noqa: E402


class Assembly(unittest.TestCase):
    def assembled(self, names):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "results").mkdir()
            for name in names:
                (folder / "results" / f"{name}.md").write_text(f"## {name}\n")
            sections.assemble(folder)
            return (folder / "RESULTS.md").read_text()

    def test_sections_stand_in_their_order_whenever_they_were_written(self):
        text = self.assembled(["outage", "compare", "latency"])
        self.assertLess(text.index("## compare"), text.index("## latency"))
        self.assertLess(text.index("## latency"), text.index("## outage"))

    def test_an_unknown_section_stands_behind_the_known_ones(self):
        text = self.assembled(["zoo", "aardvark", "outage"])
        self.assertLess(text.index("## outage"), text.index("## aardvark"))
        self.assertLess(text.index("## aardvark"), text.index("## zoo"))

    def test_each_section_stands_once_and_assembling_again_changes_nothing(self):
        self.assertEqual(self.assembled(["compare"]).count("## compare"), 1)
        self.assertEqual(self.assembled(["compare"]), self.assembled(["compare"]))

    def test_results_begin_with_the_goals_of_all_sections(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "results").mkdir()
            reached, missed = sections.goal("CPU: a, b", 0.5, 0.5), sections.goal("bytes, of some", 1234.4, 1000, digits=0)
            more = sections.goal("writes", 0.75, 1.5, at_least=True)
            (folder / "results" / "compare.md").write_text(f"## Side by side\n\n{reached}\n- other\n{missed}\n{more}\n")
            sections.assemble(folder)
            text = (folder / "RESULTS.md").read_text()
        self.assertIn("| CPU: a, b | at most 0.50 | 0.50 | reached | Side by side |\n", text)
        self.assertIn("| bytes, of some | at most 1,000 | 1,234 | missed by 23 % | Side by side |\n", text)
        self.assertIn("| writes | at least 1.50 | 0.75 | missed by 50 % | Side by side |\n", text)
        self.assertLess(text.index("| bytes, of some"), text.index("## Side by side"))

    def test_the_tree_has_the_results_that_its_sections_make(self):
        found = (ROOT / "loadtest" / "RESULTS.md").read_text()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "results").symlink_to(ROOT / "loadtest" / "results")
            sections.assemble(Path(folder))
            self.assertEqual(
                (Path(folder) / "RESULTS.md").read_text(), found, "loadtest/run_all.py --assemble puts it together"
            )

    def test_plots_that_the_results_show_are_there(self):
        text = (ROOT / "loadtest" / "RESULTS.md").read_text()
        for name in [part.split(")")[0] for part in text.split("](plots/")[1:]]:
            self.assertTrue((ROOT / "loadtest" / "plots" / name).exists(), name)


class Figures(unittest.TestCase):
    def test_the_spread_is_half_the_range_in_percent_of_the_median(self):
        self.assertEqual(sections.spread([8, 10, 14]), 30)
        self.assertEqual(sections.spread([0, 0, 0]), 0)

    def test_command_lines_name_neither_the_build_nor_folders_elsewhere(self):
        words = [str(ROOT / "loadtest" / "compare.py"), "--build", "/x/y", "--write", "--valkey", "/a/b/valkey-server"]
        with mock.patch.object(sys, "argv", words):
            self.assertEqual(sections.command_line(), "loadtest/compare.py --write --valkey valkey-server")


if __name__ == "__main__":
    unittest.main()
