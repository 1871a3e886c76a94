"""Calls of the C library that fail in our programs, and a wall clock that jumps: the other side of tests/support/failing_calls.h."""

import mmap
import struct

from harness import BUILD

LIBRARY = BUILD / "tests" / "support" / "failing_calls.so"
KINDS = ["alloc", "write", "sync", "open", "socket", "fork", "thread"]
ALWAYS = 1 << 62
CALL = struct.Struct("=qqqqq")


class Failing:
    """One file, and the processes that were started with env() look into it. Until told otherwise nothing fails."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(8 + CALL.size * len(KINDS)))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)

    def env(self):
        return {"LD_PRELOAD": str(LIBRARY), "FAILING_CALLS": str(self.path)}

    def before(self, args):
        """The arguments of a program that looks into it."""
        return ["env", *(f"{k}={v}" for k, v in self.env().items()), *map(str, args)]

    def at(self, kind):
        return 8 + CALL.size * KINDS.index(kind)

    def fail(self, kind, errnum, first=1, last=ALWAYS):
        """The calls of that kind from the first-th from now on to the last-th."""
        CALL.pack_into(self.map, self.at(kind), 0, 0, errnum, 0, 0)
        CALL.pack_into(self.map, self.at(kind), first, last, errnum, 0, 0)

    def heal(self, kind=None):
        for k in [kind] if kind else KINDS:
            struct.pack_into("=qq", self.map, self.at(k), 0, 0)

    def count(self, kind):
        """(calls, failed) since the last fail()."""
        return CALL.unpack_from(self.map, self.at(kind))[3:]

    def jump(self, seconds):
        struct.pack_into("=q", self.map, 0, seconds * 1000)
