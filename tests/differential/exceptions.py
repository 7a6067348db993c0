"""How two replies may differ, and why. What is not listed here must be the same, byte for byte; errors always must.

A command whose order of elements is not defined is known by the server's own tip (`nondeterministic_output_order` in
COMMAND). A random or a timed command that would make the two data sets differ (SPOP of some members, XADD with an id of the
clock, short expiries) has no place here: the generator does not make it.
"""

from wire import parse

SAME_KIND = {  # only the type of the reply is compared
    "info": "figures of the process",
    "time": "the clock",
    "lastsave": "the clock",
    "client|id": "connections are counted by each process for itself",
    "client|info": "addresses, ids, ages",
    "client|list": "addresses, ids, ages",
    "dump": "the order of a table's elements is in the payload, and tables are seeded at random",
    "memory|usage": "sizes of tables depend on their history",
    "randomkey": "random",
    "lolwut": "random pictures",
    "memory|doctor": "speaks of the sidecar as well",
    "object|freq": "decays with time and counts the reads that reached the server",
    "slowlog|get": "durations",
    "slowlog|len": "durations",
    "latency|latest": "durations",
    "latency|reset": "durations: how many kinds of slow commands there were",
}

NEAR = {  # integers may be this far apart, wherever they stand in the reply
    "pubsub|numpat": (4, "subscribers that have gone are gone a moment later, on a connection of their own"),
    "pubsub|numsub": (4, "the same"),
    "pubsub|shardnumsub": (4, "the same"),
    "ttl": (5, "seconds pass"),
    "expiretime": (5, "a relative expiry was set at another moment"),
    "pttl": (5000, "milliseconds pass"),
    "pexpiretime": (5000, "a relative expiry was set at another moment"),
    "object|idletime": (600, "seconds pass, and reads from L1 are not seen by the server"),
    "xpending": (60000, "idle milliseconds"),
    "xinfo|consumers": (60000, "idle milliseconds"),
    "xinfo|stream": (60000, "FULL tells the time of a delivery"),
}

PAIRED = {"hgetall", "config|get"}  # a RESP2 array of pairs: sorted by pair
UNORDERED = {  # in addition to the server's tips
    "hrandfield": "asked for all fields at once: their order is the table's",
    "srandmember": "asked for all members at once: their order is the table's",
    "zrandmember": "asked for all members at once: their order is the table's",
    "spop": "asked for all members at once: their order is the table's",
    "scan": "one call walks the whole table, in the table's order",
    "sscan": "one call walks the whole table, in the table's order",
    "hscan": "one call walks the whole table, in the table's order",
    "zscan": "one call walks the whole table, in the table's order",
    "sort by": "elements of equal weight come in the table's order",
    "pubsub|channels": "channels are in a table",
    "config|get": "settings are in a table",
    "acl|cat": "commands are in a table",
    "command|docs": "commands are in a table",
    "command|list": "commands are in a table",
}


def tips_of(command_reply):
    """The commands, "container|sub" as well, whose order the server calls undefined. `command_reply`: of COMMAND, RESP2."""
    found = set()
    for entry in parse(command_reply)[1]:
        _collect_tips(entry[1], found)
    return found


def _collect_tips(entry, found):
    if any(tip[1] == b"nondeterministic_output_order" for tip in entry[7][1]):
        found.add(entry[0][1].decode().lower())
    for sub in entry[9][1]:
        _collect_tips(sub[1], found)


class Rules:
    """Which replies are as good as equal, for one server's tips."""

    def __init__(self, unordered_by_tip=()):
        self.unordered = set(UNORDERED) | set(unordered_by_tip)
        self.containers = {name.split("|")[0] for name in (*SAME_KIND, *NEAR, *self.unordered) if "|" in name}

    def name(self, command):
        first = command[0].decode("latin-1").lower()
        if first == "sort" and b"BY" in command:
            return "sort by"
        if first in self.containers and len(command) > 1:
            return f"{first}|{command[1].decode('latin-1').lower()}"
        return first

    def unsubscribed_alike(self, expected, got):
        """Of an UNSUBSCRIBE without arguments: the channels come in the table's order, the counts in their own."""
        def parts(messages):
            trees = [parse(message) for message in messages]
            return sorted((kind, words[:2]) for kind, words in trees), [words[2] for _, words in trees]
        return parts(expected) == parts(got)

    def alike(self, command, expected, got, queued=()):
        """`expected` and `got`: the messages' bytes. `queued`: the commands that an EXEC runs."""
        return expected == got or self._alike(command, parse(expected), parse(got), queued)

    def _alike(self, command, expected, got, queued=()):
        if expected == got:
            return True
        if expected[0] != got[0] or expected[0] in "-!" or (expected[1] is None) != (got[1] is None):
            return False
        name = self.name(command)
        if name == "exec":
            replies, others = expected[1], got[1]
            return len(replies) == len(others) == len(queued) and all(map(self._alike, queued, replies, others))
        if name == "hello":
            return _without_id(expected[1]) == _without_id(got[1])
        if name in SAME_KIND:
            return True
        if name in NEAR:
            return _near(expected, got, NEAR[name][0])
        return name in self.unordered and _sorted(expected, name in PAIRED) == _sorted(got, name in PAIRED)


def _without_id(words):
    return [word for i, word in enumerate(words) if i == 0 or words[i - 1] != ("$", b"id")]


def _near(one, other, distance):
    if one[0] != other[0]:
        return False
    if one[0] == ":":
        a, b = int(one[1]), int(other[1])
        return a == b or (a >= 0 and b >= 0 and abs(a - b) <= distance)
    if isinstance(one[1], list) and isinstance(other[1], list):
        return len(one[1]) == len(other[1]) and all(_near(a, b, distance) for a, b in zip(one[1], other[1]))
    return one == other


def _sorted(value, paired):
    kind, children = value
    if not isinstance(children, list):
        return value
    children = [_sorted(child, False) for child in children]
    if kind in "%|" or paired:
        pairs = sorted(zip(children[::2], children[1::2]), key=repr)
        return kind, [child for pair in pairs for child in pair]
    return kind, sorted(children, key=repr)
