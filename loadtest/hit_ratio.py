#!/usr/bin/env python3
"""The miss ratios of the daemon's own L1 over real cache traces, beside the best published policy of each.

--traces names a folder of NAME.txt.zst and reference.csv (trace,capacity_kind,capacity,policy,miss_ratio). Each cell of the
reference is replayed through l1_replay, which is the L1's own code, unsharded and in 16 shards as in production. Regret is
this L1's miss ratio less the best published one, in points; a better result counts as negative in "mean regret" and as 0 in
"mean of losses". --write also renews hit_ratio.csv.
"""

import argparse
import csv
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sections

SHARDS = (1, 16)
KINDS = {"objects": ("--objects", 0.5), "bytes_max10": ("--bytes", 0.3)}  # its option of l1_replay, and the goal in points
# Belady's are bounds and not policies; prototypes of this one are no rivals either.
NO_RIVALS = ("Belady", "Hybrid")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections.add_arguments(parser)
    parser.add_argument("--traces", type=Path, help="the folder of the traces; without it nothing is measured")
    return sections.finish_arguments(parser)


def best_published(traces):
    """{(trace, kind, capacity): (miss ratio, policy)}"""
    best = {}
    with open(traces / "reference.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["capacity_kind"] not in KINDS or row["policy"].startswith(NO_RIVALS):
                continue
            cell = (row["trace"], row["capacity_kind"], int(row["capacity"]))
            best[cell] = min(best.get(cell, (2.0, "")), (float(row["miss_ratio"]), row["policy"]))
    return dict(sorted(best.items()))


def replay(options, cell, shards):
    trace, kind, capacity = cell
    done = subprocess.run(
        [options.build / "l1_replay", "--trace", options.traces / f"{trace}.txt.zst", KINDS[kind][0], str(capacity),
         "--shards", str(shards)], capture_output=True, text=True, check=True)
    return float(re.search(r"^miss_ratio\s+(\S+)", done.stdout, re.M)[1])


def main():
    options = parse_arguments()
    if options.traces is None:
        print("SKIPPED: no folder of traces is named (--traces)")
        return 77
    best = best_published(options.traces)
    if options.quick:
        best = dict([cell for cell in best.items() if cell[0][0] == "lirs_loop"])
    asked = [(cell, shards) for cell in best for shards in SHARDS]
    with ThreadPoolExecutor(2) as pool:
        ratios = dict(zip(asked, pool.map(lambda one: replay(options, *one), asked)))
    rows = [(*cell, policy, ratio, *(ratios[cell, shards] for shards in SHARDS)) for cell, (ratio, policy) in best.items()]
    lines = sections.where(options)
    lines += ["", "| capacity | cells | shards | mean regret, points | mean of losses |", "|---|---:|---:|---:|---:|"]
    reach = []
    for kind, (_, goal) in KINDS.items():
        for index, shards in enumerate(SHARDS):
            regrets = [100 * (row[5 + index] - row[4]) for row in rows if row[1] == kind]
            if not regrets:
                continue
            losses = statistics.mean(max(regret, 0) for regret in regrets)
            lines.append(f"| {kind} | {len(regrets)} | {shards} | {statistics.mean(regrets):.2f} | {losses:.2f} |")
            if shards == 1:
                reach.append(sections.goal(f"mean regret over the traces, {kind}, points", statistics.mean(regrets), goal))
    lines += ["", *reach, "", "| trace | capacity | best published | its miss ratio | this L1 | regret | in 16 shards |",
              "|---|---:|---|---:|---:|---:|---:|"]
    for trace, kind, capacity, policy, ratio, own, sharded in rows:
        lines.append(f"| {trace} | {capacity:,} {kind.removesuffix('_max10')} | {policy} | {ratio:.4f} | {own:.4f} "
                     f"| {100 * (own - ratio):.2f} | {sharded:.4f} |")
    if options.write:
        with open(sections.LOADTEST / "hit_ratio.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trace", "capacity_kind", "capacity", "best_published", "best_miss_ratio", "miss_ratio",
                             "miss_ratio_16_shards", "regret_points"])
            for trace, kind, capacity, policy, ratio, own, sharded in rows:
                writer.writerow([trace, kind, capacity, policy, f"{ratio:.4f}", f"{own:.4f}", f"{sharded:.4f}",
                                 f"{100 * (own - ratio):.2f}"])
    sections.emit(options, "hit_ratio", "Miss ratios over real traces", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
