#!/usr/bin/env python3
"""Writes protocol/commands.inc and docs/commands.md from the COMMAND reply of a running Redis 7.0.

    protocol/generate_commands.py --connect 127.0.0.1:6379            # rewrites both
    protocol/generate_commands.py --connect 127.0.0.1:6379 --check    # exit 1 if one would change

Facts (arity, flags, key positions, key specifications, subcommands) are Redis's. Decisions (what the sidecar does with a
command, how parts are merged) come from `decide` below: general rules over Redis's flags and tips, and before them the
explicit tables, each row with its reason. To change a decision edit a table here, regenerate, commit both.
"""
import argparse
import pathlib
import socket
import sys

COMMANDS_INC = pathlib.Path(__file__).resolve().parent / "commands.inc"
COMMANDS_MD = pathlib.Path(__file__).resolve().parents[1] / "docs" / "commands.md"
SERVER_SERIES = "7.0."  # the table is made from this series; newer commands come from the upstream's COMMAND INFO
COLUMNS_MAX = 125

# --- Decisions -------------------------------------------------------------------------------------------------------

# Reads that L1 may answer: name -> (caching, form of the RESP2 reply, reason). What all have in common, and check_tables
# asks for where COMMAND can tell: READONLY (else the upstream does not track what was read), one key, at args[1]; the same
# answer every time while the key is not changed, whatever the time; a reply that tests/redis/cached_replies.py has compared
# in both versions of the protocol.
PLAIN, NULL_ARRAY, PAIRS, RANK = "kPlain", "kNullArray", "kPairsFlat", "kRank"
RANGE_OF_ZSET = "ordered by score and member; [member, score] pairs are nested in RESP3 and flat in RESP2"
ANY_ORDER = "no order is promised; that of an unchanged key changes only while its table grows, and then both are right"
WITHIN_STRING = "a part of the string, or a number that follows from it"
CACHED_READS = {
    "get": ("kKey", PLAIN, "the string itself"),
    "getrange": ("kKey", PLAIN, WITHIN_STRING),
    "substr": ("kKey", PLAIN, WITHIN_STRING + "; GETRANGE's old name"),
    "strlen": ("kKey", PLAIN, WITHIN_STRING),
    "getbit": ("kKey", PLAIN, WITHIN_STRING),
    "bitcount": ("kKey", PLAIN, WITHIN_STRING),
    "bitpos": ("kKey", PLAIN, WITHIN_STRING),
    "bitfield_ro": ("kKey", PLAIN, WITHIN_STRING + "; GET is all it takes"),
    "exists": ("kKey", PLAIN, "of one key; stays split, several keys are several reads"),
    "type": ("kKey", PLAIN, "changes only with the key"),
    "expiretime": ("kKey", PLAIN, "an absolute time, and EXPIRE, PERSIST and GETEX invalidate their key"),
    "pexpiretime": ("kKey", PLAIN, "as EXPIRETIME"),
    "lindex": ("kKey", PLAIN, "an element by place"),
    "llen": ("kKey", PLAIN, "a count"),
    "lpos": ("kKey", PLAIN, "places in the list's own order; a null without COUNT, an empty array with it"),
    "lrange": ("kKey", PLAIN, "the list's own order"),
    "hget": ("kFields", PLAIN, "one field"),
    "hmget": ("kFields", PLAIN, "the fields in the order of the arguments"),
    "hgetall": ("kWholeHash", PLAIN, ANY_ORDER),
    "hkeys": ("kWholeHash", PLAIN, ANY_ORDER),
    "hvals": ("kWholeHash", PLAIN, ANY_ORDER),
    "hlen": ("kWholeHash", PLAIN, "a count"),
    "hexists": ("kWholeHash", PLAIN, "0 or 1; of one field, but not worth an HPTTL of its own with every fill"),
    "hstrlen": ("kWholeHash", PLAIN, "a length; otherwise as HEXISTS"),
    "scard": ("kKey", PLAIN, "a count"),
    "sismember": ("kKey", PLAIN, "0 or 1"),
    "smismember": ("kKey", PLAIN, "0 and 1 in the order of the arguments"),
    "smembers": ("kKey", PLAIN, ANY_ORDER),
    "zcard": ("kKey", PLAIN, "a count"),
    "zcount": ("kKey", PLAIN, "a count"),
    "zlexcount": ("kKey", PLAIN, "a count"),
    "zscore": ("kKey", PLAIN, "a double, bulk in RESP2, the same text in both"),
    "zmscore": ("kKey", PLAIN, "doubles and nulls in the order of the arguments"),
    "zrank": ("kKey", RANK, "a number; WITHSCORE (7.2) makes it a pair, and its null an array's"),
    "zrevrank": ("kKey", RANK, "as ZRANK"),
    "zrange": ("kKey", PAIRS, RANGE_OF_ZSET),
    "zrevrange": ("kKey", PAIRS, RANGE_OF_ZSET),
    "zrangebyscore": ("kKey", PAIRS, RANGE_OF_ZSET),
    "zrevrangebyscore": ("kKey", PAIRS, RANGE_OF_ZSET),
    "zrangebylex": ("kKey", PLAIN, "ordered by score and member, never with scores"),
    "zrevrangebylex": ("kKey", PLAIN, "as ZRANGEBYLEX"),
    "geodist": ("kKey", PLAIN, "a bulk string with four digits in both versions"),
    "geohash": ("kKey", PLAIN, "strings and nulls in the order of the arguments"),
    "geopos": ("kKey", NULL_ARRAY, "pairs of doubles, and nulls that stand for a pair, in the order of the arguments"),
    "georadius_ro": ("kKey", PLAIN, "GEOSEARCH's old form"),
    "georadiusbymember_ro": ("kKey", PLAIN, "GEOSEARCH's old form"),
    "geosearch": ("kKey", PLAIN, "nested in both versions; unsorted or with ANY in the order of the zset's cells"),
    "xlen": ("kKey", PLAIN, "a count"),
    "xrange": ("kKey", NULL_ARRAY, "entries by id, fields an array in both versions; COUNT 0 gives a null array"),
    "xrevrange": ("kKey", NULL_ARRAY, "as XRANGE"),
}

# READONLY, of one key, and yet not kept. Every such command is in this table or in CACHED_READS: a new one has to be
# decided.
NOT_CACHED = {
    "dump": "a whole value in a format of the server's version, for RESTORE elsewhere: read once",
    "hrandfield": "another answer every time",
    "hscan": "the cursor means something to the table of one moment",
    "memory|usage": "depends on the allocator and on samples",
    "object|encoding": "changes without an invalidation, with the configuration or a conversion",
    "object|freq": "depends on the time and on other reads",
    "object|idletime": "depends on the time and on other reads",
    "object|refcount": "depends on other keys",
    "pttl": "relative to now; answered from an entry's deadline where there is one",
    "sort_ro": "BY and GET read keys that the call does not name",
    "srandmember": "another answer every time",
    "sscan": "the cursor means something to the table of one moment",
    "ttl": "as PTTL",
    "xinfo|consumers": "idle times",
    "xinfo|groups": "XACK changes it without an invalidation",
    "xinfo|stream": "XACK changes it without an invalidation",
    "xpending": "idle times, and XACK changes it without an invalidation",
    "zrandmember": "another answer every time",
    "zscan": "the cursor means something to the table of one moment",
}

# Commands that block only with an option. Without it they are ordinary keyed commands; needs_own_connection() looks.
BLOCKS_BY_OPTION = {
    "xread": "BLOCK",
    "xreadgroup": "BLOCK",
}

# Redis hides its MAY_REPLICATE flag from COMMAND. These carry it and can change keys without being flagged `write`.
# (PUBLISH and SPUBLISH carry it too, but change no key.)
MAY_REPLICATE = {
    "eval": "a script may write",
    "evalsha": "a script may write",
    "fcall": "a function may write",
    "pfcount": "stores the cardinality it computed in the key",
}

# Flagged `write`, but what they change is not the key space: nothing in L1 depends on it.
CHANGES_NO_KEY = {
    "function|delete": "function libraries",
    "function|flush": "function libraries",
    "function|load": "function libraries",
    "function|restore": "function libraries",
}

# Commands that can change every key of a database: the caller purges instead of fencing.
CHANGES_ALL_KEYS = {
    "flushall": "all databases",
    "flushdb": "the current database",
    "swapdb": "two databases, and Redis sends no invalidation for it",
}

# Keys whose place no key specification can tell; C++ knows their grammar (protocol/key_extraction.cpp).
KEY_GRAMMAR = {
    "sort": "kSort",          # STORE anywhere among the options; its specification is 'unknown'
    "sort_ro": "kSort",       # the patterns of BY and GET are not keys of the call; the specification is 'unknown'
    "migrate": "kMigrate",    # KEYS replaces the key argument; its specification is 'incomplete'
    "xread": "kStreams",      # a value before STREAMS may itself read "streams"
    "xreadgroup": "kStreams",
}

TRACKS = "behind it all of the client's commands are, not before a cluster"
OWN_CONNECTION_STATE = "changes or reads the state of its connection, and the others are shared"
OWN_ANSWER = "about the client's connection to this process"
OWN_CLIENTS = "about the clients of this process; whether the user may is asked of the upstream"
OWN_LATENCY = "of this process; whether the user may is asked of the upstream"
UPSTREAM_ROLE = "would take the upstream away from everybody"
CLUSTER_SHAPE = "changes the cluster for everybody; an operator does that on the node itself"
UPSTREAM_CLIENTS = "ids, addresses and pauses are the upstream's, so it would hit connections of strangers"
CLUSTER_CLIENT = "the sidecar shows itself as one server; on a shared connection the mode would leak to other clients"
TRANSACTION = "transaction state lives in a connection"
OWN_SUBSCRIBERS = "a node tells of its own subscribers only"
ALL_NODES = "without a tip, but only the same setting on every node makes sense behind one address"

DEBUGGER = "can stop or crash the upstream"
# With these reasons: what the default of security.deny_commands names.
DENIED_BY_DEFAULT = {UPSTREAM_ROLE, CLUSTER_SHAPE, DEBUGGER}

# name: (handling, merge, reason). Wins over every rule.
OVERRIDES = {
    "auth": ("kLocal", "kNone", "checked with the upstream, chooses the identity of this session"),
    "echo": ("kLocal", "kNone", "needs nobody"),
    "hello": ("kLocal", "kNone", OWN_ANSWER),
    "info": ("kLocal", "kNone", "the upstream's text and this process's section, put together here"),
    "ping": ("kLocal", "kNone", "asks whether this process lives"),
    "quit": ("kLocal", "kNone", OWN_ANSWER),
    "reset": ("kLocal", "kNone", OWN_ANSWER),
    "select": ("kLocal", "kNone", "session state"),
    "client|getname": ("kLocal", "kNone", OWN_ANSWER),
    "client|getredir": ("kLocal", "kNone", OWN_ANSWER),
    "client|id": ("kLocal", "kNone", OWN_ANSWER),
    "client|info": ("kLocal", "kNone", OWN_ANSWER),
    "client|kill": ("kLocal", "kNone", OWN_CLIENTS),
    "client|list": ("kLocal", "kNone", OWN_CLIENTS),
    "client|no-evict": ("kLocal", "kNone", OWN_ANSWER),
    "client|no-touch": ("kLocal", "kNone", OWN_ANSWER),
    "client|pause": ("kLocal", "kNone", OWN_CLIENTS),
    "client|reply": ("kLocal", "kNone", OWN_ANSWER),
    "client|setinfo": ("kLocal", "kNone", OWN_ANSWER),
    "client|setname": ("kLocal", "kNone", OWN_ANSWER),
    "client|trackinginfo": ("kLocal", "kNone", OWN_ANSWER),
    "client|unpause": ("kLocal", "kNone", OWN_CLIENTS),
    "monitor": ("kLocal", "kNone", OWN_CLIENTS),
    "latency|doctor": ("kLocal", "kNone", OWN_LATENCY),
    "latency|graph": ("kLocal", "kNone", OWN_LATENCY),
    "latency|histogram": ("kLocal", "kNone", OWN_LATENCY),
    "latency|history": ("kLocal", "kNone", OWN_LATENCY),
    "latency|latest": ("kLocal", "kNone", OWN_LATENCY),
    "latency|reset": ("kLocal", "kNone", OWN_LATENCY),
    "memory|doctor": ("kLocal", "kNone", "the upstream's words, and behind them this process's"),
    "slowlog|get": ("kLocal", "kNone", OWN_LATENCY),
    "slowlog|len": ("kLocal", "kNone", OWN_LATENCY),
    "slowlog|reset": ("kLocal", "kNone", OWN_LATENCY),

    "client": ("kPinned", "kNone", "a subcommand this table does not know may change its connection's state"),
    "client|caching": ("kPinned", "kNone", TRACKS),
    "client|tracking": ("kPinned", "kNone", TRACKS),
    "discard": ("kPinned", "kNone", TRANSACTION),
    "exec": ("kPinned", "kNone", TRANSACTION),
    "multi": ("kPinned", "kNone", TRANSACTION),
    "unwatch": ("kPinned", "kNone", TRANSACTION),
    "watch": ("kPinned", "kNone", TRANSACTION),
    "wait": ("kPinned", "kNone", "waits for the writes of its own connection"),

    "client|unblock": ("kDenied", "kNone", UPSTREAM_CLIENTS),
    "asking": ("kDenied", "kNone", CLUSTER_CLIENT),
    "readonly": ("kDenied", "kNone", CLUSTER_CLIENT),
    "readwrite": ("kDenied", "kNone", CLUSTER_CLIENT),
    "debug": ("kAnyNode", "kNone", DEBUGGER),
    "failover": ("kAnyNode", "kNone", UPSTREAM_ROLE),
    "psync": ("kDenied", "kNone", "turns its connection into a replica's"),
    "replconf": ("kDenied", "kNone", "turns its connection into a replica's"),
    "replicaof": ("kAnyNode", "kNone", UPSTREAM_ROLE),
    "script|debug": ("kDenied", "kNone", "turns its connection into a debugger's, and can stop the upstream"),
    "shutdown": ("kAnyNode", "kNone", UPSTREAM_ROLE),
    "slaveof": ("kAnyNode", "kNone", UPSTREAM_ROLE),
    "sync": ("kDenied", "kNone", "turns its connection into a replica's"),
    "cluster|addslots": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|addslotsrange": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|bumpepoch": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|delslots": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|delslotsrange": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|failover": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|flushslots": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|forget": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|meet": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|replicate": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|reset": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|saveconfig": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|set-config-epoch": ("kAnyNode", "kNone", CLUSTER_SHAPE),
    "cluster|setslot": ("kAnyNode", "kNone", CLUSTER_SHAPE),

    "acl|deluser": ("kFanOut", "kAllSucceeded", ALL_NODES),
    "acl|load": ("kFanOut", "kAllSucceeded", ALL_NODES),
    "acl|save": ("kFanOut", "kAllSucceeded", ALL_NODES),
    "acl|setuser": ("kFanOut", "kAllSucceeded", ALL_NODES),
    "config|resetstat": ("kFanOut", "kAllSucceeded", ALL_NODES),
    "config|rewrite": ("kFanOut", "kAllSucceeded", ALL_NODES),

    "msetnx": ("kForward", "kNone", "all or nothing cannot be split: CROSSSLOT, in the upstream's words"),
    "pubsub|channels": ("kFanOut", "kUnion", OWN_SUBSCRIBERS),
    "pubsub|numpat": ("kFanOut", "kSum", OWN_SUBSCRIBERS),
    "pubsub|numsub": ("kFanOut", "kSumPairs", OWN_SUBSCRIBERS),
    "pubsub|shardchannels": ("kFanOut", "kUnion", OWN_SUBSCRIBERS),
    "pubsub|shardnumsub": ("kFanOut", "kSumPairs", OWN_SUBSCRIBERS),
    "randomkey": ("kFanOut", "kRandom", "a node may be empty while others are not"),
}

# Subcommands that Redis 7.0 does not know and clients send anyway: (name, arity, flags). Handling: OVERRIDES.
NEWER_SUBCOMMANDS = {
    "client|no-touch": (3, ["noscript", "loading", "stale"]),  # 7.2
    "client|setinfo": (4, ["noscript", "loading", "stale"]),   # 7.2; current client libraries begin with it
}

# Arities that grew after 7.0. An older upstream refuses the longer call in the words that this table would have used.
NEWER_ARITIES = {
    "zrank": -3,     # 7.2: WITHSCORE
    "zrevrank": -3,  # 7.2: WITHSCORE
}

# Commands of Redis 8 and Valkey 8 that are not in the table: (class, what it does). Those without '|' come to the sidecar with
# what COMMAND INFO says of them, when a client first uses one; a subcommand goes where its container goes.
LEARNED = "as COMMAND INFO describes it"
NEWER_COMMANDS = {
    "client|capa": ("kDenied", "not known here: unknown subcommand"),
    "client|import-source": ("kDenied", "not known here: unknown subcommand"),
    "cluster|myshardid": ("kAnyNode", "with its container"),
    "cluster|slot-stats": ("kAnyNode", "with its container: one node's slots"),
    "commandlog": ("kAnyNode", LEARNED),
    "hexpire": ("kForward", LEARNED), "hexpireat": ("kForward", LEARNED), "hexpiretime": ("kForward", LEARNED),
    "hgetdel": ("kForward", LEARNED), "hgetex": ("kForward", LEARNED), "hpersist": ("kForward", LEARNED),
    "hpexpire": ("kForward", LEARNED), "hpexpireat": ("kForward", LEARNED), "hpexpiretime": ("kForward", LEARNED),
    "hpttl": ("kForward", LEARNED), "hsetex": ("kForward", LEARNED), "httl": ("kForward", LEARNED),
    "script|show": ("kAnyNode", "with its container"),
    "waitaof": ("kPinned", "as WAIT"),
}

# response_policy of a command that is sent to several nodes -> Merge. `special` and `agg_min` have no merge.
MERGES = {
    "all_succeeded": "kAllSucceeded",
    "one_succeeded": "kAllSucceeded",
    "agg_sum": "kSum",
    "agg_logical_and": "kLogicalAnd",
}


def decide(command):
    """(handling, merge) of a command or subcommand."""
    name, flags, tips = command["name"], command["flags"], command["tips"]
    if name in OVERRIDES:
        return OVERRIDES[name][:2]
    if name in CACHED_READS and tips.get("request_policy") is None:
        return "kCachedRead", "kNone"
    if "blocking" in flags and name not in BLOCKS_BY_OPTION:
        return "kPinned", "kNone"
    if "pubsub" in flags and "noscript" in flags:  # SUBSCRIBE and its kin; PUBLISH may be used in scripts
        return "kPinned", "kNone"
    if tips.get("request_policy") == "multi_shard":
        policy = tips.get("response_policy")
        return "kSplit", MERGES[policy] if policy else "kByKey"
    if tips.get("request_policy") in ("all_shards", "all_nodes"):
        policy = tips.get("response_policy")
        if policy is None:
            return "kFanOut", "kConcatenate"
        if policy in MERGES:
            return "kFanOut", MERGES[policy]
        return "kAnyNode", "kNone"  # `special`: texts and maps of one node that do not add up
    return ("kForward" if has_keys(command) else "kAnyNode"), "kNone"


def has_keys(command):
    return command["first"] != 0 or "movablekeys" in command["flags"]


# --- Reading COMMAND ---------------------------------------------------------------------------------------------------


class RespClient:
    """As much RESP2 as COMMAND, COMMAND GETKEYS and INFO need. Not for concurrent use."""

    def __init__(self, host, port, timeout_s=10):
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def call(self, *words):
        self.send(*words)
        return self.read()

    def send(self, *words):
        raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw))

    def read(self):
        """bytes, int, list, None, or a RespError (returned, not raised)."""
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RespError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self.stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise ValueError(f"not RESP2: {line!r}")


class RespError(Exception):
    """An error reply."""


def server_version(client):
    for line in client.call("INFO", "server").decode().splitlines():
        if line.startswith("redis_version:"):
            return line.partition(":")[2]
    raise ValueError("INFO server names no redis_version")


def read_commands(client):
    """All commands, sorted by name, as dicts."""
    commands = [to_command(raw) for raw in client.call("COMMAND")]
    by_name = {command["name"]: command for command in commands}
    for name, (arity, flags) in NEWER_SUBCOMMANDS.items():
        siblings = by_name[name.partition("|")[0]]["subcommands"]
        if all(sibling["name"] != name for sibling in siblings):
            siblings.append({"name": name, "arity": arity, "flags": flags, "categories": ["slow", "connection"], "first": 0, "last": 0, "step": 0,
                             "tips": {}, "specs": [], "subcommands": []})
            siblings.sort(key=lambda command: command["name"])
    return sorted(commands, key=lambda command: command["name"])


def to_command(raw):
    name, arity, flags, first, last, step, categories, tips, specs, subcommands = raw
    pairs = [tip.decode().partition(":") for tip in tips]
    return {
        "name": name.decode().lower(),
        "arity": arity,
        "flags": [flag.decode() for flag in flags],
        "categories": [category.decode().removeprefix("@") for category in categories],
        "first": first,
        "last": last,
        "step": step,
        "tips": {key: value for key, _, value in pairs},
        "specs": [to_spec(dictionary(spec)) for spec in specs],
        "subcommands": sorted((to_command(sub) for sub in subcommands), key=lambda command: command["name"]),
    }


def dictionary(flat):
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def to_spec(spec):
    """The fields of protocol::KeySpec that differ from their defaults, in the order of their declaration."""
    flags = [flag.decode() for flag in spec["flags"]]
    begin, find = dictionary(spec["begin_search"]), dictionary(spec["find_keys"])
    begin_type, find_type = begin["type"].decode(), find["type"].decode()
    begin_spec, find_spec = dictionary(begin["spec"]), dictionary(find["spec"])
    fields = {}
    if begin_type != "unknown":
        fields["begin"] = "KeySpec::Begin::k" + begin_type.capitalize()
    if find_type != "unknown":
        fields["find"] = "KeySpec::Find::k" + find_type.capitalize()
    if begin_type == "index":
        fields["index"] = begin_spec["index"]
    elif begin_type == "keyword":
        fields["index"] = begin_spec["startfrom"]
        fields["keyword"] = '"' + begin_spec["keyword"].decode() + '"'
    if find_type == "range":
        fields["last_key"] = find_spec["lastkey"]
        fields["step"] = find_spec["keystep"]
        fields["limit"] = find_spec["limit"]
    elif find_type == "keynum":
        fields["step"] = find_spec["keystep"]
        fields["keynum_index"] = find_spec["keynumidx"]
        fields["first_key"] = find_spec["firstkey"]
    fields["writes"] = "true" if {"RW", "OW", "RM"} & set(flags) else "false"
    fields["incomplete"] = "true" if "incomplete" in flags else "false"
    defaults = {"index": 0, "last_key": 0, "step": 1, "limit": 0, "keynum_index": 0, "first_key": 0,
                "writes": "false", "incomplete": "false"}
    return tuple((key, value) for key, value in fields.items() if defaults.get(key) != value)


# --- Writing commands.inc ----------------------------------------------------------------------------------------------

# Redis's word -> CommandFlag. Words that nothing here asks for (allow_busy, skip_monitor ...) are left out.
FLAGS = {
    "write": "kFlagWrite",
    "readonly": "kFlagReadonly",
    "denyoom": "kFlagDenyOom",
    "admin": "kFlagAdmin",
    "pubsub": "kFlagPubsub",
    "noscript": "kFlagNoscript",
    "blocking": "kFlagBlocking",
    "loading": "kFlagLoading",
    "stale": "kFlagStale",
    "no_auth": "kFlagNoAuth",
    "movablekeys": "kFlagMovableKeys",
    "fast": "kFlagFast",
    "no_mandatory_keys": "kFlagNoMandatoryKeys",
}
# The order of protocol::kCategories.
CATEGORIES = ("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking "
              "dangerous connection transaction scripting").split()
OWN_FLAGS = (
    (MAY_REPLICATE, "kFlagMayReplicate"),
    (BLOCKS_BY_OPTION, "kFlagBlocksByOption"),
    (CHANGES_ALL_KEYS, "kFlagChangesAllKeys"),
    (CHANGES_NO_KEY, "kFlagChangesNoKey"),
)


def generate(commands):
    """The text of commands.inc."""
    check_tables(commands)
    specs = spec_arrays(commands)
    lines = ["// Made by protocol/generate_commands.py from COMMAND of Redis " + SERVER_SERIES + "x: edit that, not this.",
             ""]
    for content, name in specs.items():
        lines += [f"constexpr KeySpec {name}[] = {{", *(wrap("    {", spec_text(spec)) for spec in content), "};"]
    lines.append("")
    for command in commands:
        if command["subcommands"]:
            lines.append(f"constexpr Command {camel(command['name'])}Subcommands[] = {{")
            lines += [row(sub, specs) for sub in command["subcommands"]]
            lines.append("};")
    lines += ["", "constexpr Command kCommands[] = {"]
    lines += [row(command, specs) for command in commands]
    lines.append("};")
    return "\n".join(lines) + "\n"


# --- Writing docs/commands.md ------------------------------------------------------------------------------------------

CLASSES = {  # Handling -> (word, meaning)
    "kCachedRead": ("L1", "a read that L1 may answer; else it is filled from the node of its key"),
    "kForward": ("forward", "to the node of its keys, which are of one slot; a write fences them"),
    "kSplit": ("split", "keys of several slots are split by slot and the replies merged; not atomic then"),
    "kFanOut": ("all", "to every primary, and the replies merged"),
    "kAnyNode": ("one", "to one node"),
    "kPinned": ("own", "on an upstream connection of the client's own, from a bounded pool"),
    "kLocal": ("here", "answered by the sidecar, which asks the upstream where it must"),
    "kDenied": ("refused", "`-NOPERM`, or an error that says why"),
}
MERGE_WORDS = {
    "kNone": "", "kAllSucceeded": "OK if all said OK", "kSum": "added up", "kLogicalAnd": "1 if all said 1", "kByKey": "by key",
    "kConcatenate": "one after the other", "kUnion": "each element once", "kSumPairs": "added up by name", "kRandom": "one of them",
}


def document(commands):
    """The text of docs/commands.md."""
    lines = ["# Commands", "",
             "Made by `protocol/generate_commands.py` from its tables and from COMMAND of Redis " + SERVER_SERIES + "x: edit those, not",
             "this. What each command's class means:", "", "| class | what happens |", "|---|---|"]
    lines += [f"| {word} | {meaning} |" for word, meaning in CLASSES.values()]
    lines += ["", "In a transaction (MULTI) commands are queued at the node of the transaction's keys, and no read is answered from L1.",
              "Several keys of a command that is not split must be of one slot before a cluster, as Redis Cluster asks for.", "",
              f"## Redis {SERVER_SERIES}x and Valkey", "", "| command | class | why, and how replies are merged |", "|---|---|---|"]
    lines += [document_row(command) for command in everything(commands) if not command["subcommands"]]
    lines += ["", "## Newer commands and modules", "",
              "A command that is not in the table is asked about with COMMAND INFO when a client first uses it, and handled by its flags",
              "and keys: by its keys if it has some, with its writes fenced; on one node if not; a blocking one on a connection of its own.",
              "An unknown subcommand goes where its container goes. Of Redis 8 and Valkey 8:", "",
              "| command | class | why |", "|---|---|---|"]
    lines += [f"| {title(name)} | {CLASSES[handling][0]} | {reason} |" for name, (handling, reason) in sorted(NEWER_COMMANDS.items())]
    return "\n".join(lines) + "\n"


def document_row(command):
    name = command["name"]
    handling, merge = decide(command)
    if name in OVERRIDES and OVERRIDES[name][2] in DENIED_BY_DEFAULT:
        return f"| {title(name)} | refused | {OVERRIDES[name][2]}; `security.deny_commands` can allow it, then to one node |"
    reason = OVERRIDES[name][2] if name in OVERRIDES else CACHED_READS[name][2] if name in CACHED_READS else NOT_CACHED.get(name, "")
    if name in BLOCKS_BY_OPTION:
        reason = f"with {BLOCKS_BY_OPTION[name]} on a connection of its own"
    notes = "; ".join(note for note in (reason, MAY_REPLICATE.get(name, ""), MERGE_WORDS[merge]) if note)
    return f"| {title(name)} | {CLASSES[handling][0]} | {notes} |"


def title(name):
    return name.upper().replace("|", " ")


def check_tables(commands):
    """A row for a command that does not exist is a typing error or a rename: say so instead of ignoring it."""
    known = {command["name"] for command in everything(commands)}
    for table in (CACHED_READS, NOT_CACHED, NEWER_ARITIES, BLOCKS_BY_OPTION, MAY_REPLICATE, CHANGES_NO_KEY,
                  CHANGES_ALL_KEYS, KEY_GRAMMAR, OVERRIDES):
        unknown = sorted(set(table) - known)
        if unknown:
            raise ValueError(f"the tables name commands that the server does not have: {', '.join(unknown)}")
    of_one_key = {command["name"] for command in everything(commands) if reads_one_key(command)}
    if of_one_key != set(CACHED_READS) | set(NOT_CACHED):
        undecided = sorted(of_one_key ^ (set(CACHED_READS) | set(NOT_CACHED)))
        raise ValueError(f"in CACHED_READS or NOT_CACHED if and only if a read of one key: {', '.join(undecided)}")


def reads_one_key(command):
    """READONLY and one key that a call can be told to have: EXISTS is one, PFCOUNT (may write) and MGET's kin are not."""
    if "readonly" not in command["flags"] or command["name"] in MAY_REPLICATE:
        return False
    ends_with_its_key = command["last"] == command["first"] or command["name"] == "exists"
    return command["first"] in (1, 2) and ends_with_its_key


def everything(commands):
    for command in commands:
        yield command
        yield from command["subcommands"]


def spec_arrays(commands):
    """Distinct lists of key specifications -> the name of their array, called after their first user."""
    arrays = {}
    for command in everything(commands):
        content = tuple(command["specs"])
        if content and content not in arrays:
            arrays[content] = camel(command["name"]) + "Keys"
    return arrays


def spec_text(spec):
    return [f".{key} = {value}" for key, value in spec]


def row(command, specs):
    handling, merge = decide(command)
    flags = [FLAGS[word] for word in command["flags"] if word in FLAGS]
    flags += [flag for table, flag in OWN_FLAGS if command["name"] in table]
    fields = [
        f'"{command["name"]}"',
        str(NEWER_ARITIES.get(command["name"], command["arity"])),
        " | ".join(flags) or "0",
        f"Handling::{handling}",
        f"Merge::{merge}",
        str(command["first"]),
        str(command["last"]),
        str(command["step"]),
        specs.get(tuple(command["specs"]), "{}"),
        camel(command["name"]) + "Subcommands" if command["subcommands"] else "{}",
    ]
    caching, form, _reason = CACHED_READS.get(command["name"], ("kNever", PLAIN, ""))
    fields += [f"KeyGrammar::{KEY_GRAMMAR.get(command['name'], 'kSpecs')}", f"Caching::{caching}", f"Resp2Form::{form}",
               hex(sum(1 << CATEGORIES.index(category) for category in command["categories"]))]
    return wrap("    {", fields)


def wrap(start, fields):
    """One initialiser, continued on further lines where it is too long for one."""
    if not fields:
        return start + "},"
    lines, line = [], start
    for i, field in enumerate(fields):
        piece = field + (", " if i + 1 < len(fields) else "},")
        if len(line) + len(piece.rstrip()) > COLUMNS_MAX:
            lines.append(line.rstrip())
            line = "     "
        line += piece
    return "\n".join(lines + [line])


def camel(name):
    return "k" + "".join(part.capitalize() for part in name.replace("|", "-").replace("_", "-").split("-"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connect", required=True, metavar="HOST:PORT")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file is not up to date")
    options = parser.parse_args()
    host, _, port = options.connect.rpartition(":")
    client = RespClient(host, int(port))
    version = server_version(client)
    if not version.startswith(SERVER_SERIES):
        parser.error(f"the table is made from Redis {SERVER_SERIES}x, this server is {version}")
    commands = read_commands(client)
    client.close()
    stale = False
    for path, text in ((COMMANDS_INC, generate(commands)), (COMMANDS_MD, document(commands))):
        if not options.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is not what the generator makes of this server's COMMAND", file=sys.stderr)
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
