"""Runs the load tests one after the other; each writes its section of loadtest/RESULTS.md, and its plots.

    loadtest/compare.sh                                    # everything
    loadtest/compare.sh --quick                            # smoke runs, some 10 s each; writes nothing
    loadtest/compare.sh --only latency,connections         # these; the other sections stay
    loadtest/compare.sh --only compare -- --scenarios hit  # one, with options of its own

A program whose needs are not installed is skipped and says so; its section stays as it is. `deploy/packages.sh server bench`
installs what they need. Exit code 1 when one failed.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from sections import LOADTEST, ORDER, ROOT, assemble

SKIPPED = 77  # exit code, CTest's convention
VALKEY_TAKERS = ("compare", "memory_per_item")


def parse_arguments():
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    programs = [name for name in ORDER if (LOADTEST / f"{name}.py").exists()]
    parser = argparse.ArgumentParser(
        prog="loadtest/compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smoke runs, some seconds each; writes no file")
    parser.add_argument(
        "--assemble", action="store_true", help="measure nothing: put RESULTS.md together of what is in results/"
    )
    parser.add_argument("--only", default=",".join(programs), help=f"any of {','.join(programs)}")
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME=HOST:PORT,pid=N",
        help="a further server, already running, beside those of compare",
    )
    parser.add_argument("--valkey", metavar="PATH", help="a valkey-server to put beside, if not the one on PATH")
    parser.add_argument("--traces", metavar="FOLDER", help="the traces for hit_ratio, which is skipped without")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="where the programs are")
    options = parser.parse_args(sys.argv[1:split])
    options.only = options.only.split(",")
    options.passed_on = sys.argv[split + 1 :]
    unknown = set(options.only) - set(programs)
    if unknown:
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}")
    if options.passed_on and len(options.only) != 1:
        parser.error("options behind -- are for one program: name it with --only")
    return options


def command(options, name):
    words = [
        sys.executable,
        str(LOADTEST / f"{name}.py"),
        "--build",
        str(options.build),
        "--quick" if options.quick else "--write",
        *options.passed_on,
    ]
    if name == "compare":
        for endpoint in options.endpoint:
            words += ["--endpoint", endpoint]
    if name == "hit_ratio" and options.traces:
        words += ["--traces", options.traces]
    if name in VALKEY_TAKERS and options.valkey:
        words += ["--valkey", options.valkey]
    return words


def main():
    options = parse_arguments()
    if options.assemble:
        assemble(LOADTEST)
        return 0
    outcomes = {}
    for name in options.only:
        started = time.monotonic()
        print(f"--- {name}", file=sys.stderr, flush=True)
        code = subprocess.run(command(options, name), check=False).returncode
        word = {0: "done", SKIPPED: "skipped"}.get(code, f"FAILED, exit code {code}")
        outcomes[name] = (code, f"{word}, {time.monotonic() - started:.0f} s")
    for name, (_, text) in outcomes.items():
        print(f"{name}: {text}", file=sys.stderr)
    return 1 if any(code not in (0, SKIPPED) for code, _ in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
