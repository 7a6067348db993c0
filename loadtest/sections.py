"""The sections of RESULTS.md, and what the programs that write them share: where they ran, medians, plots.

A program prints its section; with --write it also puts it into results/NAME.md, its plots into plots/, and RESULTS.md is put
together anew from all sections there are. So one experiment can be repeated without losing the others.
"""

import datetime
import http.client
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOADTEST = ROOT / "loadtest"
sys.path.insert(0, str(ROOT / "tests" / "support"))

# The order of RESULTS.md; a section of another name goes behind these.
ORDER = (
    "compare",
    "value_sizes",
    "instructions",
    "two_workers",
    "latency",
    "connections",
    "memory_per_item",
    "l1_memory",
    "hit_ratio",
    "compression",
    "invalidation_delay",
    "tracking_cost",
    "outage",
    "write_behind",
)
HEAD = """\
# Load test results

Written by the programs of this folder (`loadtest/compare.sh` runs all of them, `PROGRAM --write` one); what they do and what
the columns mean is in [README.md](README.md). Figures are ratios or are taken side by side; absolute times are those of the
machine named in each section. All servers, the load and whatever else went on shared its cores.
"""
GOAL = re.compile(r"^- goal: (.+): (\S+?), wanted (at most|at least) (\S+): (reached|missed.*)$", re.M)


def add_arguments(parser):
    """The options that every program of this folder has."""
    parser.add_argument("--quick", action="store_true", help="a smoke run of some seconds; its figures mean nothing")
    parser.add_argument(
        "--write", action="store_true", help="put the section into loadtest/RESULTS.md, the plots into loadtest/plots"
    )
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="where the programs are")
    parser.add_argument("--binary", type=Path, help="nearcached, if elsewhere")


def finish_arguments(parser):
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick: its figures are not for --write")
    options.binary = options.binary or options.build / "nearcached"
    options.load_before = load_average()
    return options


def first_line(*command):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=10)
        return (done.stdout + done.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "not available"


def machine():
    text = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    model = models[0] if models else platform.machine()
    return f"{len(models)} x {model}, {int(memory) // 2**20} GB, Linux {platform.release()}"


def load_average():
    return Path("/proc/loadavg").read_text().split()[0]


def shown(path):
    """A path or command as it may stand in the results: relative to the repository."""
    return str(path).replace(str(ROOT) + "/", "")


def where(options, *versions):
    """The first lines of every section: when, which revision, on what, between which versions."""
    revision = first_line("git", "-C", ROOT, "describe", "--always", "--exclude=*")
    sources = ("CMakeLists.txt", "cmake", "protocol", "tiers", "config", "daemon")
    if subprocess.run(["git", "-C", ROOT, "diff", "--quiet", "HEAD", "--", *sources], check=False).returncode != 0:
        revision += " with changes"
    return [
        f"- {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, revision {revision}",
        f"- {machine()}; load average before the start {options.load_before}, after the end {load_average()}",
        *(f"- {version}" for version in versions if version),
        f"- `{command_line()}`",
    ]


def command_line():
    """This program's, without --build, and with the names alone of programs elsewhere."""
    words = iter([shown(Path(sys.argv[0]).resolve()), *sys.argv[1:]])
    kept = []
    for word in words:
        if word == "--build":
            next(words, None)
        else:
            kept.append(Path(word).name if word.startswith("/") else word)
    return " ".join(kept)


def emit(options, name, title, lines):
    """Prints a section and, with --write, files it. Headings within `lines` are ### and lower."""
    text = "\n".join([f"## {title}", "", *lines]).rstrip() + "\n"
    print(text)
    if options.write:
        folder = LOADTEST / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        assemble(LOADTEST)


def goal(what, measured, wanted, digits=2, at_least=False):
    """The line of a section that says whether a number was reached; RESULTS.md begins with all of them."""
    if measured >= wanted if at_least else measured <= wanted:
        word = "reached"
    else:
        word = f"missed by {100 * abs(measured / wanted - 1):.0f} %" if wanted > 0 else "missed"
    bound = "at least" if at_least else "at most"
    return f"- goal: {what}: {measured:,.{digits}f}, wanted {bound} {wanted:,.{digits}f}: {word}"


def goals_table(sections):
    """Of the goals in {name: text of a section}: where each stands."""
    rows = [
        f"| {what} | {bound} {wanted} | {measured} | {word} | {text.splitlines()[0].removeprefix('## ')} |"
        for text in sections.values()
        for what, measured, bound, wanted, word in GOAL.findall(text)
    ]
    head = ["## Numbers to reach", "", "| what | wanted | measured | | section |", "|---|---:|---:|---|---|"]
    return "\n".join([*head, *rows]) + "\n" if rows else ""


def assemble(folder):
    """RESULTS.md from results/*.md: the goals of all, then each."""
    rank = {name: index for index, name in enumerate(ORDER)}
    found = sorted((folder / "results").glob("*.md"), key=lambda path: (rank.get(path.stem, len(ORDER)), path.stem))
    texts = {path.stem: path.read_text() for path in found}
    (folder / "RESULTS.md").write_text("\n".join(filter(None, [HEAD, goals_table(texts), *texts.values()])))


def spread(values):
    """Half the distance between the lowest and the highest, in percent of the median."""
    middle = statistics.median(values)
    return 0 if middle == 0 else 50 * (max(values) - min(values)) / middle


def median(results, value):
    return statistics.median(value(result) for result in results)


def cpu(result):
    """CPU us per operation of one run of the generator."""
    return result["cpu_us_per_op"]["user"] + result["cpu_us_per_op"]["system"]


def metrics(sidecar):
    """{name and labels as they stand in /metrics: value}"""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}


def rss_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} is gone")


def pyplot():
    """matplotlib for SVGs that differ only where the data do; None, with a word on stderr, where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: python3-matplotlib is not installed for this interpreter", file=sys.stderr)
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "nearcached",
            "svg.fonttype": "none",
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
        }
    )
    from matplotlib import pyplot as module

    return module


def save_plot(options, figure, name, caption):
    """The lines that show it in the section; the file is written with --write only."""
    if options.write:
        (LOADTEST / "plots").mkdir(exist_ok=True)
        path = LOADTEST / "plots" / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    else:
        figure.savefig(os.devnull, format="svg")
    return [f"![{caption}](plots/{name}.svg)", ""]
