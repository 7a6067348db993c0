"""Writers of a run whose sidecars defer writes (consistency_check.py --deferred).

A write has two moments there: its sidecar has acknowledged it, and from then on whoever reads through that sidecar must see
it; later it is flushed, and from then on everybody else must, within the bound. So a write raises the floor of its own
sidecar at once (board.own), and is entered into the history as acknowledged at the moment a direct read of the upstream has
found it there, or one that came after it: that is no earlier than the flush, so nobody is judged wrongly.

The flush is the last writer of a key. So every string has a home, the one sidecar through which it is written; hashes are
not deferred, and are written by any way. A key is often written several times before anybody looks whether the last is upstream,
so that it is dirty and put again; what was acknowledged can't be rolled back, since no fault of such a run takes it from the
upstream.
"""

import random
import time

import keyspace
from history import ABSENT, DELETED
from keyspace import WrongValue
from resp import ReplyError
from workers import WRITE_BATCH_MAX, KeyChooser, Writer

ROUNDS = (1, 1, 2, 4)      # versions of a key, one right after the other
LOOK_INTERVAL_S = 0.005
UPSTREAM_MAX_S = 30.0      # from the answer to the flush, whatever is done to the sidecar meanwhile
EXPIRY_MARGIN_S = 0.02
UNUSED_MAX_S = 0.5         # of a connection, after which it is opened again


def home_of(key, writers, sidecars):
    return key // writers % sidecars


class HomeChooser(KeyChooser):
    """Chooses the way first, then keys that may be written by it."""

    def __init__(self, plan, board, number):
        super().__init__(plan, board, number)
        self.plan = plan
        self.way = "nobody"

    def choose(self, count):
        here = [sidecar for sidecar in range(len(self.plan.sidecars)) if not self.board.away[sidecar]]
        self.way = None if random.random() < 0.15 else random.choice(here) if here else "nobody"
        drawn = super().choose(count * len(self.plan.sidecars))
        return [key for key in drawn if self.fits(key)][:WRITE_BATCH_MAX]

    def fits(self, key):
        return keyspace.is_hash(key) or home_of(key, self.plan.keyspace.writers, len(self.plan.sidecars)) == self.way


class DeferringWriter(Writer):
    def __init__(self, plan, board, number, report):
        super().__init__(plan, board, number, report)
        self.chooser = HomeChooser(plan, board, number)

    def choose_way(self):
        return self.chooser.way

    def write(self, keys, sidecar):
        if sidecar is None:
            super().write(keys, None)
            return
        rounds = []
        for _ in range(random.choice(ROUNDS)):
            rounds.append(self.write_round(keys, sidecar))
            if not all(write.certain for write in rounds[-1]):
                break  # a key whose write is uncertain rests
        last = {write.key: write for writes in rounds for write in writes if write.certain}
        self.await_upstream(last, sidecar)
        for write in (write for writes in rounds for write in writes):
            if write.certain:
                write.acknowledged = last[write.key].acknowledged
            else:
                self.chooser.rest(write.key)
            self.report.add_write(write)
        for write in last.values():
            self.publish(write)

    def write_round(self, keys, sidecar):
        writes = [self.begin(key) for key in keys]
        read_backs = self.write_through(sidecar, writes)
        for write, read_back in zip(writes, read_backs):
            if write.certain:
                self.board.own[sidecar][write.key] = write.version
            if read_back is not None:
                self.check_read_back(write, sidecar, *read_back)
        return writes

    def await_upstream(self, last, sidecar):
        """Looks until the upstream has all of them, and notes when it had."""
        waiting = list(last.values())
        began = time.monotonic()
        while waiting:
            replies = self.look(waiting)
            now = time.monotonic()
            left = []
            for write, reply in zip(waiting, replies):
                if self.has_arrived(write, reply, sidecar):
                    write.acknowledged = time.monotonic()
                else:
                    left.append(write)
            waiting = left
            if waiting and now > began + UPSTREAM_MAX_S:
                self.report.violation(f"sidecar {sidecar}: acknowledged and not upstream after {UPSTREAM_MAX_S:.0f} s: "
                                      f"{[(write.key, write.version) for write in waiting]}, found {replies!r:.200}")
                return
            time.sleep(LOOK_INTERVAL_S)
        if time.monotonic() > began + UNUSED_MAX_S:
            self.open_again()

    def open_again(self):
        """Connections that were not looked at for so long may have been dropped in a fault that is over by now."""
        for session in self.sessions:
            if session.client is not None:
                session.client.close()
                session.client = None

    def look(self, writes):
        try:
            return self.direct.pipeline([self.keyspace.probe_command(write.key) for write in writes])
        except OSError as error:
            return [error] * len(writes)

    def has_arrived(self, write, reply, sidecar):
        """Whether the upstream has it. That a key is not there says nothing while its value may still be on its way; when it
        can have expired, or been deleted by a write without an answer, the sidecar is asked to flush what it has."""
        if isinstance(reply, (ReplyError, OSError)):
            return False
        try:
            what = self.keyspace.probed(write.key, reply)
        except (WrongValue, ValueError) as error:
            self.report.violation(f"upstream: {error}")
            return False
        if what != ABSENT:
            return what >= write.version  # one that was sent behind it and has no answer may be there by now
        if write.lives == DELETED:
            return True
        expired = write.lives > 0 and time.monotonic() > write.sent + write.lives + EXPIRY_MARGIN_S
        return (expired or self.board.absent[write.key] > write.version) and self.flush(sidecar)

    def flush(self, sidecar):
        replies = self.sessions[sidecar].pipeline([("NEAR.FLUSH", "WRITES")])
        return replies is not None and replies[0] == b"OK"


def writer(plan, board, number, report):
    DeferringWriter(plan, board, number, report).run()
