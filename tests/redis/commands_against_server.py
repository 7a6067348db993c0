#!/usr/bin/env python3
"""The command table against a real redis-server, which this starts on a free port and ends by its process id.

  1. commands.inc and docs/commands.md are what the generator makes of this server's COMMAND; of a newer server's every command
     is in docs/commands.md.
  2. For about two thousand calls protocol::extract_keys (through --cli) finds the keys that COMMAND GETKEYS finds. Where it
     says "unclear" although GETKEYS answers, the server itself must refuse the call as malformed: nothing valid is given up.
  3. Where we differ from GETKEYS on purpose, the server's own behaviour shows that we are right.

Exit 0: all well; 1: failures, listed; 77: no redis-server (a failure where the environment has CI set).
"""
import argparse
import difflib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "protocol"))
import generate_commands as generator  # noqa: E402

START_SECONDS_MAX = 20
START_ATTEMPTS = 5
CALLS_MIN = 1000  # fewer means that the generators below have stopped generating
FAILURES_SHOWN = 20
SEED = 20240
SKIPPED = 77

# Sharded channels are routed like keys; COMMAND GETKEYS leaves them out ("not_key").
CHANNEL_COMMANDS = {"spublish", "ssubscribe", "sunsubscribe"}


class Server:
    """One redis-server with nothing on disk but its temporary folder."""

    def __init__(self, binary):
        self.folder = tempfile.TemporaryDirectory(prefix="nearcached-commands-")
        for _ in range(START_ATTEMPTS):  # another process may take the port between the probe and the start
            self.port = free_port()
            self.process = subprocess.Popen(
                [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                 "--dir", self.folder.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self.answers():
                return
            self.end_process()
        self.folder.cleanup()
        raise RuntimeError("redis-server does not start")

    def answers(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                client = generator.RespClient("127.0.0.1", self.port)
                pid = dict(line.split(":", 1) for line in client.call("INFO", "server").decode().splitlines()
                           if ":" in line)["process_id"]
                client.close()
                return int(pid) == self.process.pid
            except OSError:
                time.sleep(0.02)
        return False

    def end_process(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def end(self):
        self.end_process()
        self.folder.cleanup()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- Calls -------------------------------------------------------------------------------------------------------------


def plain_calls(commands):
    """Every command and subcommand at its least arity and up to six arguments over it."""
    for command in generator.everything(commands):
        if command["name"] in generator.NEWER_SUBCOMMANDS or command["subcommands"]:
            continue
        words = command["name"].split("|")
        arity = command["arity"]
        for count in [arity] if arity > 0 else range(-arity, -arity + 7):
            yield words + [f"a{i}" for i in range(len(words), count)]


def keys(rng, most=4):
    return [f"key{rng.randrange(9)}" for _ in range(rng.randint(1, most))]


def shuffled(rng, options):
    """Some of the options, in any order, in any case."""
    chosen = [option for option in options if rng.random() < 0.5]
    rng.shuffle(chosen)
    return [either_case(rng, word) if i == 0 else word for option in chosen for i, word in enumerate(option)]


def either_case(rng, word):
    return rng.choice([word.upper(), word.lower(), word.title()])


def counted(rng, *before, after=()):
    """A command whose keys are counted; the count is sometimes wrong."""
    names = keys(rng)
    count = rng.choice([len(names)] * 6 + [0, -1, len(names) + 1, len(names) + 9, 99999999999, "x", "", "1.5", "+1"])
    return [*before, str(count), *names, *after]


def script_call(rng):
    name = rng.choice(["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"])
    return counted(rng, name, "script", after=rng.choice([(), ("x", "y")]))


def zset_call(rng):
    if rng.random() < 0.5:
        return counted(rng, rng.choice(["ZUNIONSTORE", "ZINTERSTORE", "zdiffstore"]), "target",
                       after=shuffled(rng, [["AGGREGATE", "MAX"]]))
    return counted(rng, rng.choice(["ZUNION", "ZINTER", "ZDIFF", "zintercard", "SINTERCARD"]),
                   after=shuffled(rng, [["WITHSCORES"], ["LIMIT", "1"]]))


def pop_call(rng):
    if rng.random() < 0.5:
        return counted(rng, rng.choice(["LMPOP", "ZMPOP"]), after=["LEFT", *shuffled(rng, [["COUNT", "2"]])])
    return counted(rng, rng.choice(["BLMPOP", "BZMPOP"]), "0.1", after=["MIN"])


def sort_call(rng):
    options = [["BY", "w_*"], ["GET", "#"], ["GET", "limit"], ["LIMIT", "0", "5"], ["ASC"], ["ALPHA"], ["BY", "store"]]
    if rng.random() < 0.2:
        return ["SORT_RO", *keys(rng, 1), *shuffled(rng, options)]
    options += [["STORE", "target"], ["STORE", "other"]]
    return [either_case(rng, "sort"), *keys(rng, 1), *shuffled(rng, options), *rng.choice([[], [], ["STORE"]])]


def geo_call(rng):
    place = rng.choice([["GEORADIUS", *keys(rng, 1), "15", "37"], ["GEORADIUSBYMEMBER", *keys(rng, 1), "store"]])
    options = [["WITHDIST"], ["COUNT", "3"], ["ASC"], ["STORE", "target"], ["STOREDIST", "other"]]
    return [*place, "200", "km", *shuffled(rng, options)]


def migrate_call(rng):
    options = shuffled(rng, [["COPY"], ["REPLACE"], ["AUTH", rng.choice(["pw", "keys", "auth2"])], ["AUTH2", "keys", "auth"]])
    key = rng.choice(["", "", "key"])
    tail = [either_case(rng, "keys"), *keys(rng)] if rng.random() < 0.7 else []
    return ["MIGRATE", "127.0.0.1", "1", key, "0", "10", *options, *tail]


def stream_call(rng):
    names = keys(rng)
    ids = ["0"] * (len(names) + rng.choice([0, 0, 0, 0, 1, -1]))
    options = shuffled(rng, [["COUNT", "2"], ["BLOCK", "5"]])
    if rng.random() < 0.5:
        return ["XREAD", *options, either_case(rng, "streams"), *names, *ids]
    return ["XREADGROUP", "GROUP", rng.choice(["g", "block", "streams"]), "c", *options,
            *shuffled(rng, [["NOACK"]]), either_case(rng, "streams"), *names, *ids]


def option_calls(rng):
    yield ["MIGRATE", "127.0.0.1", "1", "", "0", "10", "KEYS"]
    makers = [script_call, zset_call, pop_call, sort_call, geo_call, migrate_call, stream_call]
    for maker in makers:
        for _ in range(150):
            yield maker(rng)


# --- Comparing ---------------------------------------------------------------------------------------------------------


def ask_cli(cli, calls):
    """The answer of extract_keys to each call: a list of keys, or one of the CLI's words."""
    lines = [" ".join(word.encode().hex() or "." for word in call) for call in calls]
    result = subprocess.run([cli], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=True)
    answers = result.stdout.splitlines()
    if len(answers) != len(calls):
        raise RuntimeError(f"{len(calls)} calls, {len(answers)} answers")
    return [[call[int(position)] for position in answer.split()] if answer[0].isdigit() else answer
            for call, answer in zip(calls, answers)]


def ask_server(client, call):
    """COMMAND GETKEYS: a list of keys, or its error's text."""
    reply = client.call("COMMAND", "GETKEYS", *call)
    return str(reply) if isinstance(reply, generator.RespError) else [key.decode() for key in reply]


def difference(client, call, ours, theirs):
    """What is wrong with our answer, or None."""
    if call[0].lower() in CHANNEL_COMMANDS:
        return None if ours == (call[1:2] if call[0] == "spublish" else call[1:] or "none") else f"channels: {ours}"
    if call[0] == "pfmerge" and len(call) == 2:
        return None  # check_purposeful_differences
    if isinstance(theirs, list):
        if ours == theirs or (ours == "none" and not theirs):
            return None
        if ours == "unclear":
            refusal = client.call(*as_executable(call))
            if isinstance(refusal, generator.RespError) and str(refusal).startswith("ERR"):
                return None
            return f"unclear, but GETKEYS gives {theirs} and the server does not call it malformed: {refusal!r}"
        return f"{ours}, GETKEYS gives {theirs}"
    if "no key arguments" in theirs or len(call) == 1:  # of a lone name GETKEYS only says that it is too short a call
        return None if ours == "none" else f"{ours}, GETKEYS says: {theirs}"
    return None if ours == "unclear" else f"{ours}, GETKEYS says: {theirs}"


def as_executable(call):
    """A script call is refused for its unknown script before its key count is looked at, so a script that exists is put in."""
    if call[0].lower() in ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"):
        return ["EVAL", "return 1", *call[2:]]
    return call


def learned(server_commands, call, theirs):
    """True if a newer server's command, which the daemon learns from COMMAND INFO, has the keys that its triple says."""
    command = server_commands.get(call[0].lower())
    if command is None or not isinstance(theirs, list):
        return isinstance(theirs, str)
    last = command["last"] if command["last"] >= 0 else len(call) + command["last"]
    return theirs == call[command["first"]:last + 1:command["step"] or 1]


def compare_keys(client, cli, commands):
    table_is_older = not generator.server_version(client).startswith(generator.SERVER_SERIES)
    by_name = {command["name"]: command for command in commands}
    calls = [*plain_calls(commands), *option_calls(random.Random(SEED))]
    calls = [list(call) for call in dict.fromkeys(tuple(call) for call in calls)]
    failures = [] if len(calls) >= CALLS_MIN else [f"only {len(calls)} calls were generated"]
    compared = 0
    newer = set()
    for call, ours in zip(calls, ask_cli(cli, calls)):
        theirs = ask_server(client, call)
        if table_is_older and ours == "unknown" and learned(by_name, call, theirs):
            newer.add(call[0])
            continue
        wrong = difference(client, call, ours, theirs)
        compared += isinstance(ours, list)
        if wrong:
            failures.append(f"{' '.join(word or chr(39) * 2 for word in call)}: {wrong}")
    print(f"{len(calls)} calls compared with COMMAND GETKEYS, {compared} of them with keys, {len(failures)} differ"
          f"{', newer than the table: ' + ' '.join(sorted(newer)) if newer else ''}")
    return failures


def check_purposeful_differences(client, cli):
    """Calls whose keys GETKEYS gets wrong: the server's behaviour decides."""
    failures = []
    client.call("FLUSHALL")
    client.call("RPUSH", "list", "1")
    client.call("XADD", "stream", "1-1", "field", "value")
    client.call("XGROUP", "CREATE", "stream", "g", "0")
    sort = ["SORT", "list", "STORE", "store", "ASC"]
    group = ["XREADGROUP", "COUNT", "1", "GROUP", "g", "streams", "STREAMS", "stream", ">"]
    merge = ["PFMERGE", "target"]
    sort_keys, group_keys, merge_keys = ask_cli(cli, [sort, group, merge])
    if sort_keys != ["list", "store"] or client.call(*sort) != 1 or \
            client.call("EXISTS", "store") != 1 or client.call("EXISTS", "ASC") != 0:
        failures.append(f"SORT ... STORE store ASC does not store at 'store' alone, or we say otherwise: {sort_keys}")
    delivered = client.call(*group)
    if group_keys != ["stream"] or not isinstance(delivered, list) or delivered[0][0] != b"stream":
        failures.append(f"a consumer named streams: {group_keys}, the server delivers {delivered!r}")
    if merge_keys != ["target"] or client.call(*merge) != b"OK" or client.call("EXISTS", "target") != 1:
        failures.append(f"PFMERGE of nothing does not make its target, or we say otherwise: {merge_keys}")
    return failures


def compare_table(client, commands):
    version = generator.server_version(client)
    if not version.startswith(generator.SERVER_SERIES):
        return undecided(commands)
    failures = []
    for path, made in ((generator.COMMANDS_INC, generator.generate(commands)), (generator.COMMANDS_MD, generator.document(commands))):
        failures += difflib.unified_diff(path.read_text().splitlines(), made.splitlines(), f"{path.name} as committed",
                                         "as generated now", lineterm="", n=0)
    return failures


def undecided(commands):
    """What a newer server has, and docs/commands.md does not list. Of a module any command is learned by its specifications."""
    listed = {line.split("|")[1].strip() for line in generator.COMMANDS_MD.read_text().splitlines() if line.startswith("| ")}
    new = [command for command in generator.everything(commands) if "module" not in command["flags"] and not command["subcommands"]]
    return [f"{command['name']} is not in docs/commands.md: generator.NEWER_COMMANDS" for command in new
            if generator.title(command["name"]) not in listed and command["name"].split("|")[0] not in generator.NEWER_COMMANDS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, help="the program extract_keys_cli")
    parser.add_argument("--redis-server", default=shutil.which(os.environ.get("NEARCACHED_REDIS_SERVER") or "redis-server"))
    options = parser.parse_args()
    if options.redis_server is None:
        print("no redis-server here: nothing was compared")
        return 1 if os.environ.get("CI") else SKIPPED
    server = Server(options.redis_server)
    try:
        client = generator.RespClient("127.0.0.1", server.port)
        commands = generator.read_commands(client)
        failures = compare_table(client, commands)
        failures += compare_keys(client, options.cli, commands)
        failures += check_purposeful_differences(client, options.cli)
        client.close()
    finally:
        server.end()
    for failure in failures[:FAILURES_SHOWN]:
        print("FAILED", failure)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
