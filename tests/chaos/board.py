"""What the processes of one run share: arrays in anonymous shared memory, inherited through fork().

Each cell is 8 bytes and aligned, so a reader sees an old or a new number, never half of one. Most have one writing process
(the key's writer, the reader of that number, the main process). `seen` and `absent_at` have several, each of which raises
what it read: a raise may be lost to another one's, but every number that stands there was true when it was written.

They are floors, loaded before a request is sent: a read that lies above them needs no judging. What does not is kept and
judged at the end by the whole history, so a cell that is behind hides nothing but work.
"""

from multiprocessing import RawArray, RawValue


class Board:
    def __init__(self, keys, sidecars, readers, writers):
        self.keys = keys
        self.sent = RawArray("q", keys)           # the highest version that a writer has begun to send
        self.written = RawArray("q", keys)        # the highest version acknowledged, by whatever way
        self.absent = RawArray("q", keys)         # the highest version sent that is or becomes absent
        self.absent_from = RawArray("d", keys)    # not before this moment (0: at once)
        self.expired_at = RawArray("d", keys)     # the last written version is no value after this moment
        self.own = [RawArray("q", keys) for _ in range(sidecars)]        # the highest acknowledged through this sidecar
        self.seen = [RawArray("q", keys) for _ in range(sidecars)]       # the highest a read through it has returned
        self.absent_at = [RawArray("d", keys) for _ in range(sidecars)]  # when the last read answered "absent" was sent
        self.reads = RawArray("q", readers)
        self.writes = RawArray("q", writers)
        self.away = RawArray("b", sidecars)       # writers leave this sidecar alone: it is stopped or killed
        self.stop = RawValue("b", 0)
        self.pause = RawValue("b", 0)             # writers begin nothing new
        self.paused = RawArray("b", writers)      # and say here that nothing of theirs is on its way, nor resting
        self.flushed = RawArray("d", 4)           # the flush to enter into the histories: number, sent, acknowledged, sidecar
        self.settled_at = RawValue("d", 0.0)      # what was sent before may be still on its way until then

    def total_reads(self):
        return sum(self.reads)

    def total_writes(self):
        return sum(self.writes)
