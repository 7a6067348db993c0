#!/usr/bin/env python3
"""The upstream is cut from two sidecars for 30 s. What is answered meanwhile, and what does its return cost the upstream?

Readers of each sidecar go round all keys, bounded ones (the default) and `stale_ok` ones (prefix "s:"), everyone in the same
order. A writer goes straight to the upstream, through the cut as well, except where the upstream itself is stopped. Forms:

    stall    a proxy in between stops forwarding: connections stay up and silent
    refuse   the proxy resets all connections and closes its port
    stop     SIGSTOP of the upstream

Exit code 1 when one of these does not hold:
  - no bounded key is answered with a value once the cut is older than max_staleness: nobody can have proven it
  - no value, at any time, had been replaced for longer than max_staleness (stale_ok: max_stale) when it was asked for
  - no reader sees a key go back in time
  - stale_ok keys are answered with values throughout, but for those that were invalidated in the moment of the cut: nothing
    that was known to hold is left of them (1 answer in 10,000 is tolerated)
  - after the return each key is read upstream once per sidecar, whatever the number of readers (5 % are tolerated); what
    was sent upstream during the cut and given up may still arrive there, and is not held against it
  - fills in flight stay within coherence.refill_max per sidecar
  - within --settle the hit ratio is back to 95 % of what it was
"""

import argparse
import collections
import json
import signal
import sys
import time
from pathlib import Path

import sections
from sections import first_line
from cut_proxy import BINS_PER_SECOND, CutProxy
from invalidation_delay import calls
from outage_clients import BATCH, Readers, Writer
from servers import RedisServer, ServerError, Sidecar, require, wait_for

FORMS = ("stall", "refuse", "stop")
WARM_UP_MAX_S = 60.0
QUIET_S = 1.0          # without writes, before the cut: the hit ratio that is to be reached again
WRITES_AFTER_CUT_S = 0.2
WINDOW_S = 0.1         # hit ratios are taken over so long
STEADY_SHARE = 0.95
STEADY_WINDOWS = 5     # so many in a row make it steady
HERD_TOLERANCE = 1.05


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", default=",".join(FORMS), help="any of stall,refuse,stop")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the outage (30)")
    parser.add_argument("--settle", type=float, default=10.0, help="how long is watched afterwards (10)")
    parser.add_argument("--keys", type=int, default=1000, help="of each kind (1000)")
    parser.add_argument("--sidecars", type=int, default=2)
    parser.add_argument("--readers", type=int, default=4, help="per sidecar and kind of key (4)")
    parser.add_argument("--pause-ms", type=float, default=20.0, help="each reader sends 50 reads every so often (20)")
    parser.add_argument("--writes", type=int, default=200, help="foreign writes per second (200)")
    parser.add_argument("--max-staleness-ms", type=int, default=1000)
    parser.add_argument("--max-stale-s", type=int, default=60)
    parser.add_argument("--refill-max", type=int, default=64, help="coherence.refill_max of the sidecars (64)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", default="redis-server", help="the server to run")
    parser.add_argument("--json", type=Path, help="all figures")
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.forms, options.seconds, options.settle, options.keys = "refuse", 2.0, 3.0, 100
    options.forms = options.forms.split(",")
    if not set(options.forms) <= set(FORMS):
        parser.error(f"--forms: any of {', '.join(FORMS)}")
    return options


def configuration(options):
    """The auditor is off: its comparisons are GETs as well, and here GETs are counted."""
    return f"""\
threads: 1
upstream: {{ swapdb: never }}
coherence: {{ max_staleness: {options.max_staleness_ms}ms, refill_max: {options.refill_max}, audit_one_in: 0 }}
namespaces:
  - {{ prefix: "s:", consistency: stale_ok, max_stale: {options.max_stale_s}s }}
"""


class Scene:
    """The servers, the proxy between them, the readers and the writer of one outage; and its times."""

    def __init__(self, options):
        self.options = options
        self.redis = RedisServer(binary=options.redis)
        self.proxy = CutProxy(self.redis.port, options.sidecars)
        config = self.redis.directory / "nearcached.yaml"
        config.write_text(configuration(options))
        self.sidecars = [Sidecar(f"redis://127.0.0.1:{port}", args=["--config", config], binary=options.binary)
                         for port in self.proxy.ports]
        self.kinds = {"bounded": [f"b:{i}" for i in range(options.keys)], "stale_ok": [f"s:{i}" for i in range(options.keys)]}
        self.readers = Readers()
        self.writer = Writer(self.redis, self.kinds, options.writes, options.seed)
        self.times = {}

    def start_load(self):
        for index, sidecar in enumerate(self.sidecars):
            for kind, keys in self.kinds.items():
                for _ in range(self.options.readers):
                    self.readers.add(kind, index, sidecar.address, keys, self.options.pause_ms / 1000)
        self.writer.start()

    def warm_up(self):
        """Until a whole second passes in which nothing had to be read upstream."""
        deadline = time.monotonic() + WARM_UP_MAX_S
        before, now = -1, 0
        while now != before:
            if time.monotonic() > deadline:
                raise ServerError("the sidecars don't keep what they read: without any write, GETs go on upstream")
            time.sleep(1.0)
            before, now = now, calls([self.redis], "get")

    def cut(self, form):
        if form == "stop":
            self.redis.signal(signal.SIGSTOP)
            wait_for(lambda: stopped(self.redis.pid), 5, "the upstream to stop")
        else:
            self.proxy.order(form)
        self.times["cut"] = time.monotonic()

    def restore(self, form):
        self.times["restored"] = time.monotonic()
        if form == "stop":
            self.redis.signal(signal.SIGCONT)
        else:
            self.proxy.order("pass")

    def close(self):
        self.readers.stop.set()
        for sidecar in self.sidecars:
            sidecar.close()
        self.redis.close()
        self.proxy.close()


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def run(form, options):
    """One outage; its figures, and what did not hold."""
    scene = Scene(options)
    try:
        scene.start_load()
        scene.writer.proceed()
        time.sleep(2.0)
        scene.writer.pause()
        scene.warm_up()
        scene.times["quiet"] = time.monotonic()
        time.sleep(QUIET_S)
        gets_before, fills_before = calls([scene.redis], "get"), calls([scene.redis], "pttl")
        scene.proxy.order("forget")
        scene.cut(form)
        if form != "stop":
            time.sleep(WRITES_AFTER_CUT_S)
            scene.writer.proceed()
        time.sleep(max(0.0, scene.times["cut"] + options.seconds - time.monotonic()))
        scene.writer.pause()
        scene.restore(form)
        time.sleep(options.settle)
        scene.times["end"] = time.monotonic()
        gets, fills = calls([scene.redis], "get") - gets_before, calls([scene.redis], "pttl") - fills_before
        metered = scene.proxy.order("report")
        scene.writer.finish()
        seen = scene.readers.finish()
    finally:
        scene.close()
    figures = {"form": form, "seconds": options.seconds, "reload_gets": gets, "reload_fills": fills, **metered_figures(scene, metered)}
    figures.update(cut_figures(scene, seen))
    figures.update(staleness_figures(scene, seen))
    figures.update(recovery_figures(scene, seen, metered))
    figures["findings"] = list(findings(figures, options))
    return figures


def metered_figures(scene, metered):
    """What the proxies saw since the cut."""
    together = collections.Counter()
    for gets, _ in metered:
        together.update(gets)
    after = {moment: count for moment, count in together.items() if moment / BINS_PER_SECOND >= scene.times["restored"] - 0.01}
    return {"gets_while_cut": sum(together.values()) - sum(after.values()),
            "peak_gets_per_10ms": max(after.values(), default=0),
            "in_flight_max": max(most for _, most in metered)}


def cut_figures(scene, seen):
    """What was answered between the cut and the return, by kind of key."""
    cut, restored = scene.times["cut"], scene.times["restored"]
    proven_until = cut + scene.options.max_staleness_ms / 1000
    figures = {"unproven": 0, "given_up": 0, "back_in_time": sum(reader.back_in_time for reader in seen), "codes": {}}
    for reader in seen:
        within = [batch for batch in reader.batches if batch.sent > cut and batch.received < restored]
        of_kind = figures.setdefault(reader.kind, {"values": 0, "errors": 0, "slowest_ms": 0.0})
        of_kind["values"] += sum(batch.values for batch in within)
        of_kind["errors"] += sum(batch.errors for batch in within)
        slowest = max((batch.received - batch.sent for batch in within), default=0.0)
        of_kind["slowest_ms"] = max(of_kind["slowest_ms"], 1000 * slowest)
        figures["given_up"] += sum(batch.errors for batch in within)
        figures["given_up"] += sum(BATCH for batch in reader.batches if cut < batch.sent < restored <= batch.received)
        if reader.kind == "bounded":
            figures["unproven"] += sum(batch.values for batch in within if batch.sent > proven_until)
        for code, count in reader.codes.items():
            codes = figures["codes"].setdefault(reader.kind, collections.Counter())
            codes[code] += count
    return figures


def staleness_figures(scene, seen):
    """For how long what was answered had been replaced, at most, when it was asked for; by kind of key."""
    oldest = {kind: 0.0 for kind in scene.kinds}
    for reader in seen:
        for (key, version), sent in reader.last_sent.items():
            acknowledged = scene.writer.acknowledged[key]
            if version < len(acknowledged):  # element i is version i + 1: this one's successor
                oldest[reader.kind] = max(oldest[reader.kind], sent - acknowledged[version])
    return {"oldest_ms": {kind: 1000 * age for kind, age in oldest.items()}}


def hit_ratios(scene, seen, metered, start, end):
    """[(time, share of the answers that were values and did not go upstream)] by window."""
    values, asked, gets = collections.Counter(), collections.Counter(), collections.Counter()
    for reader in seen:
        for batch in reader.batches:
            window = int((batch.received - start) / WINDOW_S)
            values[window] += batch.values
            asked[window] += batch.values + batch.errors
    for of_sidecar, _ in metered:
        for moment, count in of_sidecar.items():
            gets[int((moment / BINS_PER_SECOND - start) / WINDOW_S)] += count
    windows = range(int((end - start) / WINDOW_S))
    return [(i * WINDOW_S, (values[i] - gets[i]) / asked[i] if asked[i] else 0.0) for i in windows]


def recovery_figures(scene, seen, metered):
    times = scene.times
    quiet = hit_ratios(scene, seen, [], times["quiet"], times["cut"])
    before = sum(ratio for _, ratio in quiet) / len(quiet)
    after = [ratio for _, ratio in hit_ratios(scene, seen, metered, times["restored"], times["end"])]
    steady = next((i for i in range(len(after) - STEADY_WINDOWS + 1)
                   if all(ratio >= STEADY_SHARE * before for ratio in after[i:i + STEADY_WINDOWS])), None)
    return {"hit_ratio_before": before, "steady_after_s": None if steady is None else round(steady * WINDOW_S, 3)}


def findings(figures, options):
    """What does not hold of what is promised."""
    if figures["unproven"]:
        yield f"{figures['unproven']} bounded reads were answered with a value that nobody can have proven"
    for kind, bound_ms in (("bounded", options.max_staleness_ms), ("stale_ok", 1000 * options.max_stale_s)):
        if figures["oldest_ms"][kind] > bound_ms:
            yield f"a {kind} value had been replaced {figures['oldest_ms'][kind]:.0f} ms before it was asked for"
    if figures["back_in_time"]:
        yield f"{figures['back_in_time']} reads went back in time"
    if figures["stale_ok"]["errors"] * 10_000 > figures["stale_ok"]["values"] or not figures["stale_ok"]["values"]:
        yield f"stale_ok: {figures['stale_ok']['errors']} errors and {figures['stale_ok']['values']} values during the outage"
    once = 2 * options.keys * options.sidecars
    given_up = figures["given_up"] + options.refill_max * options.sidecars  # and the fills that the cut surprised
    if figures["reload_gets"] - given_up > once * HERD_TOLERANCE:
        yield (f"a herd: {figures['reload_gets']} GETs reached the upstream, at most {given_up} of them sent and "
               f"given up during the outage, where {once} were enough")
    if figures["in_flight_max"] > options.refill_max:
        yield f"{figures['in_flight_max']} fills in flight, {options.refill_max} allowed"
    if figures["steady_after_s"] is None:
        yield f"no steady state within {options.settle} s"


def table(results, options):
    once = 2 * options.keys * options.sidecars
    lines = ["| form | bounded while cut: values / errors | oldest bounded, ms | stale_ok while cut: values / errors "
             "| slowest stale_ok, ms | oldest stale_ok, s | GETs after the return (once each: %d) | of these fills | given up before | peak GETs / 10 ms "
             "| fills in flight | steady after |" % once, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for figures in results:
        bounded, stale_ok = figures["bounded"], figures["stale_ok"]
        steady = "never" if figures["steady_after_s"] is None else f"{figures['steady_after_s']:.1f} s"
        lines.append(f"| {figures['form']} | {bounded['values']} / {bounded['errors']} | {figures['oldest_ms']['bounded']:.0f} "
                     f"| {stale_ok['values']} / {stale_ok['errors']} | {stale_ok['slowest_ms']:.0f} "
                     f"| {figures['oldest_ms']['stale_ok'] / 1000:.1f} | {figures['reload_gets']} | {figures['reload_fills']} | {figures['given_up']} "
                     f"| {figures['peak_gets_per_10ms']} | {figures['in_flight_max']} | {steady} |")
    return lines


def main():
    options = parse_arguments()
    require(options.redis)
    results = []
    for form in options.forms:
        results.append(run(form, options))
        print(f"{form}: done", file=sys.stderr, flush=True)
    introduction = [f"{options.sidecars} sidecars, {2 * options.readers} readers each that go round {options.keys:,} bounded and "
                    "as many `stale_ok` keys; `max_staleness`", f"{options.max_staleness_ms} ms, `refill_max` "
                    f"{options.refill_max}; the upstream is away for {options.seconds:g} s.", ""]
    found = [f"- **not kept**, {figures['form']}: {finding}" for figures in results for finding in figures["findings"]]
    sections.emit(options, "outage", "The upstream away",
                  [*sections.where(options, first_line(options.redis, "--version"), "sidecars: 1 worker each"), "",
                   *introduction, *table(results, options), "",
                   *(found or ["- all that it checks was kept (`--help` lists it)"])])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    for figures in results:
        for finding in figures["findings"]:
            print(f"FAILED: {figures['form']}: {finding}")
    return 1 if any(figures["findings"] for figures in results) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"outage: {error}")
