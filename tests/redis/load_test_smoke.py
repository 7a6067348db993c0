#!/usr/bin/env python3
"""One program of loadtest/ in its --quick form: it ends well, prints a section with filled tables, and writes no file.

    load_test_smoke.py PROGRAM BUILD_FOLDER
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests" / "support"))
import servers  # noqa: E402

LOADTEST = ROOT / "loadtest"
SKIPPED = 77
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("NEARCACHED_BUILT")}


def written():
    return {
        path: path.stat().st_mtime_ns
        for folder in (LOADTEST, LOADTEST / "results", LOADTEST / "plots")
        for path in folder.glob("*.*")
        if path.suffix in (".md", ".svg")
    }


def faults(text):
    """What is wrong with a section."""
    if not re.match(r"## \S", text):
        yield "it does not begin with its heading"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    if len(rows) < 3:
        yield "it has no table"
    if re.search(r"\b(nan|inf|None)\b", "\n".join(rows)):
        yield "a figure is missing"
    if "revision" not in text or "load average" not in text:
        yield "it does not say where it was taken"


def main():
    name, build = sys.argv[1:]
    servers.require("redis-server", "redis-cli")
    before = written()
    done = subprocess.run(
        [sys.executable, str(LOADTEST / f"{name}.py"), "--quick", "--build", build],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    print(done.stdout, done.stderr, sep="\n")
    if done.returncode == SKIPPED:
        return SKIPPED
    found = list(faults(done.stdout)) + (["it wrote files"] if written() != before else [])
    found += [f"exit code {done.returncode}"] if done.returncode else []
    for fault in found:
        print(f"FAILED: {name}: {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
