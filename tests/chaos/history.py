"""What was written, and whether a read may have seen it. Pure: no socket, no clock.

Every key has one writer, which numbers its writes 1, 2, 3 ... (0 is the value before the load) and starts none before the
previous one is over. Deleting is a write like any other: its version is *absent*. A version that expires is a value first
and absent later. FLUSHALL is a deletion of every key, made while all writers pause.

A write is *certain* when it was acknowledged and can't be rolled back by a failover; every other one (error, timeout,
acknowledged but perhaps lost with its primary) is *uncertain*: it may have landed or not. After an uncertain write its key
rests until nothing of it can be still on its way, so that it can't land behind a later one.

    version x was what the upstream held at most during   [ sent(x) , until(x) ]
    until(x) = the first moment a certain write after x was acknowledged
    a value that expires after t is one during            [ sent(x) , landed(x) + t ]   and absent from sent(x) + t on

Both ends are generous: the real interval lies inside. So a violation reported here is one, whatever the timing of the
tool's processes; and a stale read is missed only by as much as an acknowledgement took to reach the writer.

What a read said is a version, ABSENT (no such key), or PRESENT (EXISTS: some value). ABSENT stands for any absent version
and is given the one that excuses the product most.
"""

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

NEVER = float("inf")
ABSENT = -1
PRESENT = -2
DELETED = -1.0         # a write's `lives`: the key is gone by it
STAYS = 0.0
EXPIRY_SLACK_S = 0.010  # the server counts whole milliseconds, on a clock it looks at now and then


@dataclass(slots=True)
class Write:
    key: int
    version: int
    sent: float
    acknowledged: float  # meaningful only when certain
    certain: bool
    lives: float = STAYS  # DELETED, STAYS, or the seconds until it expires


@dataclass(slots=True)
class Read:
    """A read through a sidecar: when it was sent, when its answer was in, what it said (a version, ABSENT or PRESENT).

    The rest is what was known before it was sent: `own`, the highest version acknowledged through this sidecar; `seen`, the
    highest one that a read through this sidecar had returned; `absent_at`, when a read that this sidecar had answered with
    "no such key" had been sent; `told`, a version that this client knew of by another way.
    """

    key: int
    what: int
    sent: float
    answered: float
    sidecar: int = 0
    own: int = 0
    seen: int = 0
    absent_at: float = 0.0
    told: int = 0


class KeyHistory:
    """One key's writes. Plain arrays: a long run has millions of them."""

    __slots__ = ("sent", "lives", "certain_versions", "certain_times", "absent_versions")

    def __init__(self):
        self.sent = array("d")              # of version 1, 2, 3 ...
        self.lives = array("d")
        self.certain_versions = array("q")  # ascending
        self.certain_times = array("d")     # of their acknowledgements, ascending as well
        self.absent_versions = array("q")   # those that are or become absent, ascending

    def add(self, write):
        self.sent.append(write.sent)
        self.lives.append(write.lives)
        if len(self.sent) != write.version:
            raise ValueError(f"key {write.key}: version {len(self.sent)} is missing from the history")
        if write.lives != STAYS:
            self.absent_versions.append(write.version)
        if write.certain:
            self.certain_versions.append(write.version)
            self.certain_times.append(write.acknowledged)

    def certain_in(self, above, up_to):
        """Whether a certain write is among the versions above .. up_to (the first of them left out)."""
        return bisect_right(self.certain_versions, above) < bisect_right(self.certain_versions, up_to)

    def until(self, version):
        """The last moment the upstream may have held what this version left there."""
        index = bisect_right(self.certain_versions, version)
        return self.certain_times[index] if index < len(self.certain_times) else NEVER

    def since(self, version):
        """The first moment; NEVER for a version that nobody wrote."""
        if version == 0:
            return -NEVER
        return self.sent[version - 1] if 0 < version <= len(self.sent) else NEVER

    def landed(self, version):
        """The last moment at which it may have been executed, if ever."""
        index = bisect_left(self.certain_versions, version)
        if index < len(self.certain_versions) and self.certain_versions[index] == version:
            return self.certain_times[index]
        return self.sent[version] if version < len(self.sent) else NEVER

    def lives_of(self, version):
        return STAYS if version == 0 else self.lives[version - 1]

    def value_window(self, version):
        """(first, last) moment at which this version may have been read as a value; empty for a deletion."""
        since, until = self.since(version), self.until(version)
        if since == NEVER or self.lives_of(version) == DELETED:
            return NEVER, -NEVER
        if self.lives_of(version) != STAYS:
            until = min(until, self.landed(version) + self.lives_of(version) + EXPIRY_SLACK_S)
        return since, until

    def absent_window(self, version):
        """(first, last) moment at which this version may have been read as no such key."""
        since, lives = self.since(version), self.lives_of(version)
        if lives not in (DELETED, STAYS):
            since += lives - EXPIRY_SLACK_S
        return (NEVER, -NEVER) if lives == STAYS else (since, self.until(version))

    def absent_within(self, first, last):
        """The absent versions that may have been read as such at some moment of the interval, in rising order."""
        index = bisect_left(self.certain_times, first)
        lowest = self.certain_versions[index - 1] if index else 0
        for position in range(bisect_left(self.absent_versions, lowest), len(self.absent_versions)):
            since, until = self.absent_window(self.absent_versions[position])
            if self.since(self.absent_versions[position]) > last:
                return
            if since <= last and until >= first:
                yield self.absent_versions[position]

    def candidates(self, what, answered):
        """The versions an answer of that moment can stand for, be it as stale as it may, and their windows, falling."""
        window = self.absent_window if what == ABSENT else self.value_window
        if what >= 0:
            versions = (what,)
        elif what == ABSENT:
            versions = reversed(self.absent_versions)
        else:
            versions = range(bisect_right(self.sent, answered), -1, -1)
        for version in versions:
            since, until = window(version)
            if since <= answered:
                yield version, until

    def highest(self, what, answered):
        """The highest version that the answer can stand for; -1: none."""
        return next((version for version, _ in self.candidates(what, answered)), -1)

    def staleness(self, what, sent, answered):
        """For how long, when the read was sent, the upstream had no longer held it; NEVER when it never had until the
        answer came; 0 when it may have held it between the two."""
        best = NEVER
        for version, until in self.candidates(what, answered):
            best = min(best, max(0.0, sent - until))
            if best <= sent - self.until(version):
                break  # older versions had been replaced before
        return best


class History:
    def __init__(self, writes=()):
        self.keys = {}
        for write in sorted(writes, key=lambda write: (write.key, write.version)):
            self.keys.setdefault(write.key, KeyHistory()).add(write)

    def key(self, key):
        return self.keys.setdefault(key, KeyHistory())

    def staleness(self, read):
        return self.key(read.key).staleness(read.what, read.sent, read.answered)

    def check_age(self, read, staleness_max):
        """None, or how the read breaks the bound."""
        stale = self.staleness(read)
        if stale == NEVER:
            return f"{named(read)} was read before it was written"
        if stale > staleness_max:
            return f"{named(read)} was read {stale:.3f} s after the upstream had replaced it"
        return None

    def _missed(self, read, floor):
        """Whether the answer is older than what `floor` says, and not because that was rolled back."""
        key = self.key(read.key)
        highest = key.highest(read.what, read.answered)
        return highest < floor and key.certain_in(highest, floor)

    def check_own(self, read):
        """None, or the write that its own sidecar had acknowledged before, and that it missed."""
        if self._missed(read, read.own):
            return f"{named(read)} was read; version {read.own} had been acknowledged through the sidecar before"
        return None

    def check_told(self, read):
        """None, or the write that this client had been told of, and that it missed."""
        if self._missed(read, read.told):
            return f"{named(read)} was read; the client had been told of version {read.told}"
        return None

    def check_order(self, read, staleness_max):
        """None, or how the key went back in time: earlier reads through the sidecar were answered before this was sent."""
        if self._missed(read, read.seen):
            return f"{named(read)} was read after version {read.seen}"
        if read.absent_at:
            first = read.absent_at - staleness_max
            lowest = next(iter(self.key(read.key).absent_within(first, read.sent)), 0)
            if self._missed(read, lowest):
                return f"{named(read)} was read after the deletion that is version {lowest} had been"
        return None

    def admissible_now(self, key):
        """What may be read when all is quiet, from the last certain write on: a set of versions and ABSENT."""
        history = self.key(key)
        last = history.certain_versions[-1] if history.certain_versions else 0
        candidates = range(last, len(history.sent) + 1)
        values = {version for version in candidates if history.lives_of(version) == STAYS}
        expiring = {version for version in candidates if history.lives_of(version) > 0}
        gone = {ABSENT} if len(values) < len(candidates) else set()
        return values | expiring | gone


def named(read):
    what = {ABSENT: "no such key", PRESENT: "some value"}.get(read.what, f"version {read.what}")
    return f"key {read.key}, sidecar {read.sidecar}: {what}"
