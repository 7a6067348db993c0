"""Makes a failing sequence small while it fails in the same way, and writes and reads sequences as scripts.

Delta debugging over single commands (each a step of its own where it may be): halves, quarters and so on are taken out as
long as the same finding stays. Then all connections become one where that still fails, and cuts go.
"""

import json
import time

from runner import InvalidSequence


def flat(sequence):
    """One command a step, no cuts: what a sequence is when no pipelining is needed."""
    return [(connection, [command], []) for connection, commands, _ in sequence for command in commands]


class Shrinker:
    """`run`: a sequence's Difference or None. Ends after `seconds`, with the smallest sequence so far."""

    def __init__(self, run, seconds=60.0, clock=time.monotonic):
        self.run = run
        self.clock = clock
        self.deadline = clock() + seconds
        self.difference = None

    def shrink(self, sequence, difference):
        self.difference = difference
        sequence = sequence[:difference.step + 1]
        if self._fails(flat(sequence)):
            sequence = flat(sequence)
        sequence = self._fewer(sequence)
        if self._fails(one := [(0, commands, cuts) for _, commands, cuts in sequence]):
            sequence = self._fewer(one)
        if any(len(commands) > 1 for _, commands, _ in sequence):
            sequence = self._shorter_chunks(sequence)
        if self._fails(uncut := [(connection, commands, []) for connection, commands, _ in sequence]):
            sequence = uncut
        return sequence, self.difference

    def _fails(self, sequence):
        if self.clock() > self.deadline:
            return False
        try:
            found = self.run(sequence)
        except InvalidSequence:
            return False
        if found is None or found.signature != self.difference.signature:
            return False
        self.difference = found
        return True

    def _fewer(self, steps):
        """ddmin's complements: without one of n parts."""
        size = max(1, len(steps) // 2)
        while len(steps) > 1 and self.clock() < self.deadline:
            at, removed = 0, False
            while at < len(steps):
                rest = steps[:at] + steps[at + size:]
                if rest and self._fails(rest):
                    steps, removed = rest, True
                else:
                    at += size
            if size == 1 and not removed:
                return steps
            size = max(1, size // 2)
        return steps

    def _shorter_chunks(self, steps):
        for at, (connection, commands, cuts) in enumerate(steps):
            smaller = [(connection, [command], cuts) for command in commands]
            rest = self._fewer_in(steps, at, smaller, cuts)
            steps = steps[:at] + [(connection, rest, [])] + steps[at + 1:] if rest else steps
        return steps

    def _fewer_in(self, steps, at, singles, cuts):
        connection = steps[at][0]
        kept = [commands[0] for _, commands, _ in singles]
        i = 0
        while i < len(kept) and len(kept) > 1:
            fewer = kept[:i] + kept[i + 1:]
            if self._fails(steps[:at] + [(connection, fewer, [])] + steps[at + 1:]):
                kept = fewer
            else:
                i += 1
        return kept if len(kept) < len(singles) else None


def write_script(sequence, comment=""):
    """One step a line: [connection, [[word...]...], [cut...]], each byte a character of Latin-1."""
    lines = [f"# {line}" for line in comment.splitlines()]
    for connection, commands, cuts in sequence:
        words = [[word.decode("latin-1") for word in command] for command in commands]
        lines.append(json.dumps([connection, words, cuts] if cuts else [connection, words]))
    return "\n".join(lines) + "\n"


def read_script(text):
    sequence = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        connection, commands, *cuts = json.loads(line)
        sequence.append((connection, [tuple(word.encode("latin-1") for word in command) for command in commands],
                         cuts[0] if cuts else []))
    return sequence
