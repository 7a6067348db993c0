"""What the processes of one run share: a few arrays in anonymous shared memory, inherited through fork().

Each cell has one writing process (the key's writer, the reader of that number, the main process), is 8 bytes and aligned,
so a reader sees an old or a new number, never half of one. A reader that loads `certain` before it sends its request has a
true lower bound: those writes were over by then.
"""

from multiprocessing import RawArray, RawValue


class Board:
    def __init__(self, keys, readers, writers):
        self.keys = keys
        self.sent = RawArray("q", keys)               # the highest version that a writer has begun to send
        self.certain = RawArray("q", keys)            # the highest version certainly written, by either way
        self.certain_sidecar = RawArray("q", keys)    # the highest version certainly written through the sidecar
        self.reads = RawArray("q", readers)
        self.writes = RawArray("q", writers)
        self.stop = RawValue("b", 0)
        self.careful = RawValue("b", 0)               # writers confirm that a replica has each write
        self.careful_seen = RawArray("b", writers)    # and say here which mode they are in

    def total_reads(self):
        return sum(self.reads)

    def total_writes(self):
        return sum(self.writes)
