#!/usr/bin/env python3
"""What compression of L1's values gains and costs: none, lz4, zstd, and zstd with a dictionary, on JSON from a seed.

For each size of values there are five times as many bytes of them as L1 may hold, in one Redis. "Zipf" is a run of GETs
over all of them, after one that fills L1: items that L1 then holds, the hit ratio, and the sidecar's own CPU per GET, user
and system. "Hit" is the CPU per GET of a few keys, drawn uniformly, that are all in L1. "Miss" comes from a run of GETs
drawn uniformly from all keys, most of which miss: what its few hits do not explain, over its misses. So it has the way
upstream, the installation and the eviction in it. Hits of the Zipf run are cheaper than those of "hit" where values are
large: few keys are read so often that they stay in the processor's caches. The runs of the algorithms take turns, figures
are medians over the repeats. Everything from min_bytes 64 on is compressed here, so that each algorithm shows what it does
to small values; the default is 1 KB.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile

import sections
from servers import RedisServer, ServerError, Sidecar, require, wait_for

ALGORITHMS = {
    "none": {},
    "lz4": {"l1.compression.algorithm": "lz4"},
    "zstd": {"l1.compression.algorithm": "zstd"},
    "zstd, dictionary": {"l1.compression.algorithm": "zstd", "l1.compression.dictionary": "true"},
}
SIZES = (200, 1000, 8000)
MB = 1 << 20
OVERSIZE = 5      # bytes of values over L1's
HIT_KEYS = 500    # of the runs in which every GET hits
PIPELINE = 16
FIRST_NAMES = ("Alice", "Bruno", "Carla", "Dieter", "Elena", "Farid", "Grace", "Hiroshi", "Ines", "Jonas", "Kaya", "Liam")
LAST_NAMES = ("Anders", "Becker", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Huber", "Ivanov", "Jensen", "Kim")
CITIES = ("Berlin", "Lisboa", "Oslo", "Paris", "Roma", "Sofia", "Tokyo", "Wien", "Zagreb", "Porto", "Lyon", "Turin")
STATES = ("active", "suspended", "invited", "closed")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run (3)")
    parser.add_argument("--megabytes", type=int, default=16, help="l1.max_bytes (16)")
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(sizes=SIZES)
    sections.add_arguments(parser)
    options = sections.finish_arguments(parser)
    if options.quick:
        options.repeats, options.seconds, options.megabytes, options.sizes = 1, 0.2, 4, SIZES[:1]
    return options


def person(rng):
    """Some 190 bytes: what repeats from value to value are names of fields and words, not numbers."""
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    return {"id": rng.randrange(1 << 40), "name": f"{first} {last}", "email": f"{first}.{last}{rng.randrange(9999)}@example.com",
            "state": rng.choice(STATES), "city": rng.choice(CITIES), "balance": rng.randrange(10**7) / 100,
            "created": f"20{rng.randrange(10, 26)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:17:08Z",
            "token": f"{rng.getrandbits(64):016x}"}


def value(seed, size):
    """One person, or a page of them with what pages have besides."""
    rng = random.Random(seed)
    if size < 400:
        return json.dumps(person(rng))
    page = {"page": rng.randrange(1000), "request": f"{rng.getrandbits(128):032x}", "items": []}
    length = 100
    while length < size:
        page["items"].append(person(rng))
        length += len(json.dumps(page["items"][-1])) + 2
    return json.dumps(page)


def fill(redis, options, size):
    """(how many, their mean size). Keys as nearcached_load names them."""
    count = options.megabytes * MB * OVERSIZE // size
    total = 0
    with redis.client(timeout=60) as client:
        client.call("FLUSHALL")
        for begin in range(0, count, 500):
            values = [value(f"{options.seed} {size} {i}", size) for i in range(begin, min(begin + 500, count))]
            total += sum(map(len, values))
            client.pipeline([("SET", f"key:{begin + i:012}", text) for i, text in enumerate(values)])
    return count, total / count


def run(options, sidecar, keys, *extra):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [str(options.build / "nearcached_load"), "--target", f"127.0.0.1:{sidecar.port}", "--keys", str(keys),
                   "--pipeline", str(PIPELINE), "--pid", str(sidecar.pid), "--json", out.name, *extra]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        result = json.load(out)["results"][0]
    if result["nulls"]:
        raise ServerError(f"{result['nulls']} GETs found no value")
    return result


def counts(sidecar):
    """hits, misses, items and the bytes of what was compressed, as INFO has them."""
    with sidecar.client() as client:
        text = client.call("INFO", "nearcached")
    text = text.decode() if isinstance(text, bytes) else text
    return {name.removeprefix("nearcached_l1_"): int(number) for name, _, number in
            (line.partition(":") for line in text.splitlines()) if name.startswith("nearcached_l1_") and number.isdigit()}


def measure(options, redis, size):
    """(keys, mean size, {algorithm: [figures of one repeat]})"""
    keys, mean = fill(redis, options, size)
    seconds = ["--seconds", str(options.seconds)]
    zipf = ["--distribution", "zipf", *seconds]
    sidecars, runs = {}, {name: [] for name in ALGORITHMS}
    try:
        for name, settings in ALGORITHMS.items():
            sidecars[name] = Sidecar(redis.url, {"threads": 1, "upstream.swapdb": "never", "coherence.max_staleness": "20s",
                                                 "l1.max_bytes": f"{options.megabytes}MB", "l1.ttl": "1h",
                                                 "l1.compression.min_bytes": 64, **settings}, binary=options.binary)
            wait_for(lambda: counts(sidecars[name])["hits"] or run(options, sidecars[name], 10, "--seconds", "0.1"), 20, "hits")
            for _ in range(1 if options.quick else 3):
                run(options, sidecars[name], keys, *zipf, "--seed", "77")
        for repeat in range(options.repeats):
            turn = repeat % len(ALGORITHMS)
            names = list(ALGORITHMS)
            for name in names[turn:] + names[:turn]:
                runs[name].append(one_repeat(options, sidecars[name], keys, zipf, seconds, repeat))
        for repeat in range(options.repeats):  # at the end: these leave nothing of what the others have read
            for name, sidecar in sidecars.items():
                runs[name][repeat]["miss"] = miss(options, sidecar, keys, seconds, repeat, runs[name][repeat]["hit"])
            print(f"{size} bytes: repeat {repeat + 1} of {options.repeats}", file=sys.stderr, flush=True)
    finally:
        for sidecar in sidecars.values():
            sidecar.close()
    return keys, mean, runs


def one_repeat(options, sidecar, keys, zipf, seconds, repeat):
    mixed, ratio, after = counted_run(options, sidecar, keys, *zipf, "--seed", str(repeat + 1))
    run(options, sidecar, HIT_KEYS, "--warm", "--seconds", "0.1")
    hit = run(options, sidecar, HIT_KEYS, *seconds, "--seed", str(repeat + 1))
    return {"items": after["items"], "ratio": ratio, "cpu": cpu(mixed), "hit": cpu(hit),
            "shrunk": after["compressed_bytes_after"] / max(1, after["compressed_bytes_before"])}


def miss(options, sidecar, keys, seconds, repeat, hit):
    result, ratio, _ = counted_run(options, sidecar, keys, *seconds, "--seed", str(repeat + 1))
    return (cpu(result) - ratio * hit) / (1 - ratio)


def counted_run(options, sidecar, keys, *extra):
    """(figures of the generator, hit ratio, the sidecar's counts behind it)"""
    before = counts(sidecar)
    result = run(options, sidecar, keys, *extra)
    after = counts(sidecar)
    hits, misses = after["hits"] - before["hits"], after["misses"] - before["misses"]
    return result, hits / (hits + misses), after


def cpu(result):
    return result["cpu_us_per_op"]["user"] + result["cpu_us_per_op"]["system"]


def table(size, keys, mean, runs):
    lines = [f"### {keys:,} values of {mean:.0f} bytes", "",
             "| compression | bytes after | items | gain | hit ratio | CPU us/GET, Zipf | CPU us/hit | CPU us/miss |",
             "|---|---|---|---|---|---|---|---|"]
    plain = statistics.median(figures["items"] for figures in runs["none"])
    for name, repeats in runs.items():
        def median(figure):
            return statistics.median(one[figure] for one in repeats)
        shrunk = f"{100 * median('shrunk'):.0f} %" if name != "none" and median("shrunk") else ""
        lines.append(f"| {name} | {shrunk} | {median('items'):,.0f} | {median('items') / plain:.2f} | "
                     f"{100 * median('ratio'):.1f} % | {median('cpu'):.2f} | {median('hit'):.2f} | {median('miss'):.1f} |")
    return [*lines, ""]


def main():
    options = parse_arguments()
    require("redis-server")
    lines = []
    with RedisServer() as redis:
        for size in options.sizes:
            keys, mean, runs = measure(options, redis, size)
            lines += table(size, keys, mean, runs)
    head = [*sections.where(options, sections.first_line("redis-server", "--version")),
            f"- l1.max_bytes {options.megabytes} MB, {OVERSIZE} times as many bytes of values; one worker; 50 clients, pipeline "
            f"{PIPELINE}; Zipf 0.99; {options.repeats} interleaved repeats of {options.seconds:g} s, medians", ""]
    sections.emit(options, "compression", "Compression of L1's values", head + lines)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(str(error))
