"""Numbered lines both ways, one a second: each side writes its own and checks those of the other.

A line is "SIDE NUMBER"; the last one, "SIDE end NUMBER", says how many there were, and then that direction is closed. A line
that is missing, repeated or changed is Wrong, and so is a stream that ends without its last line.
"""

import os
import threading
import time


class Wrong(Exception):
    pass


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


class Pulse:
    """One side of it, on two descriptors (which may be the same). on_line(count) is called for each line that was right."""

    def __init__(self, mine, theirs, in_fd, out_fd, close_out, every=1.0, on_line=lambda count: None):
        self.mine, self.theirs, self.in_fd, self.out_fd = mine, theirs, in_fd, out_fd
        self.close_out, self.every, self.on_line = close_out, every, on_line
        self.sent = self.received = 0
        self.error, self.ended, self.over = None, False, threading.Event()

    def run(self):
        """Until both directions are closed; (lines sent, lines received)."""
        writer = threading.Thread(target=self.write, daemon=True)
        writer.start()
        try:
            self.read()
        finally:
            self.over.set()
        writer.join()
        if self.error:
            raise Wrong(self.error)
        return self.sent, self.received

    def stop(self):
        """No more lines of ours."""
        self.over.set()

    def write(self):
        try:
            while not self.over.is_set():
                write_all(self.out_fd, f"{self.mine} {self.sent}\n".encode())
                self.sent += 1
                self.over.wait(self.every)
            write_all(self.out_fd, f"{self.mine} end {self.sent}\n".encode())
            self.close_out()
        except OSError as e:
            self.error = f"after {self.sent} lines could not write: {e}"

    def read(self):
        rest = b""
        while data := os.read(self.in_fd, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.line(line)
        if rest or not self.ended:
            raise Wrong(f"the stream ended after {self.received} lines, at {rest[:80]!r}")

    def line(self, line):
        if self.ended:
            raise Wrong(f"after the last line came {line[:80]!r}")
        self.ended = line == f"{self.theirs} end {self.received}".encode()
        if self.ended:
            return
        if line != f"{self.theirs} {self.received}".encode():
            raise Wrong(f'expected "{self.theirs} {self.received}", got {line[:80]!r}')
        self.received += 1
        self.on_line(self.received)
