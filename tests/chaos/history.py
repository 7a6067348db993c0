"""What was written, and whether a read may have seen it. Pure: no socket, no clock.

Every key has one writer, which numbers its writes 1, 2, 3 ... (0 is the value before the load) and starts none before the
previous one is over. A write is *certain* when it was acknowledged and can't be rolled back by a failover; every other one
(error, timeout, acknowledged but perhaps lost with its primary) is *uncertain*: it may have landed or not. After an
uncertain write its key rests until nothing of it can be still on its way, so that it can't land behind a later one.

    version x was held by the upstream at most during   [ sent(x) , until(x) ]
    until(x) = the first moment a certain write after x was acknowledged

Both ends are generous: the real interval lies inside. So a violation reported here is one, whatever the timing of the
tool's processes; and a stale read is missed only by as much as an acknowledgement took to reach the writer.
"""

from array import array
from bisect import bisect_left
from dataclasses import dataclass

NEVER = float("inf")


@dataclass(slots=True)
class Write:
    key: int
    version: int
    sent: float
    acknowledged: float  # meaningful only when certain
    certain: bool


@dataclass(slots=True)
class Read:
    """A read through the sidecar: when it was sent, when its answer was in, and what it said (None: no such key)."""

    key: int
    version: int
    sent: float
    answered: float


class KeyHistory:
    """One key's writes. Plain arrays: a run of ten minutes has more than a million of them."""

    __slots__ = ("sent", "certain_versions", "certain_times")

    def __init__(self):
        self.sent = array("d")              # of version 1, 2, 3 ...
        self.certain_versions = array("q")  # ascending
        self.certain_times = array("d")     # of their acknowledgements, ascending as well

    def until(self, version):
        """The last moment the upstream may have held this version."""
        index = bisect_left(self.certain_versions, version + 1)
        return self.certain_times[index] if index < len(self.certain_times) else NEVER

    def since(self, version):
        """The first moment the upstream may have held it; NEVER for one that nobody wrote."""
        if version == 0:
            return -NEVER
        return self.sent[version - 1] if version <= len(self.sent) else NEVER

    def is_certain(self, version):
        index = bisect_left(self.certain_versions, version)
        return version == 0 or (index < len(self.certain_versions) and self.certain_versions[index] == version)


class History:
    def __init__(self, writes=()):
        self.keys = {}
        for write in sorted(writes, key=lambda write: (write.key, write.version)):
            self._add(write)

    def _add(self, write):
        key = self.keys.setdefault(write.key, KeyHistory())
        key.sent.append(write.sent)
        if len(key.sent) != write.version:
            raise ValueError(f"key {write.key}: version {len(key.sent)} is missing from the history")
        if write.certain:
            key.certain_versions.append(write.version)
            key.certain_times.append(write.acknowledged)

    def key(self, key):
        return self.keys.setdefault(key, KeyHistory())

    def staleness(self, read):
        """For how long, when it was requested, the upstream had no longer held what this read returned; 0 when it did."""
        if read.version is None:
            return NEVER
        return max(0.0, read.sent - self.key(read.key).until(read.version))

    def check_read(self, read, staleness_max):
        """None, or what is wrong with it."""
        if read.version is None:
            return f"key {read.key}: absent, but keys are never deleted"
        if self.key(read.key).since(read.version) > read.answered:
            return f"key {read.key}: version {read.version} was read before it was written"
        stale = self.staleness(read)
        if stale > staleness_max:
            return f"key {read.key}: version {read.version} was read {stale:.3f} s after the upstream had replaced it"
        return None

    def check_order(self, key, earlier_version, later_version):
        """Two reads of one session, the second sent after the first was answered. Only what can't be rolled back counts."""
        if later_version < earlier_version and self.key(key).is_certain(earlier_version):
            return f"key {key}: went back in time from version {earlier_version} to {later_version} within one session"
        return None

    def admissible_now(self, key):
        """The versions the upstream may hold when all is quiet: the last certain one and every uncertain one after it."""
        history = self.key(key)
        last = history.certain_versions[-1] if history.certain_versions else 0
        return set(range(last, len(history.sent) + 1))
