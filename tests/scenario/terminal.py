"""tunnel-cli under a terminal."""

import os
import pty
import re
import select
import signal
import termios
import time

from harness import CLI, LIMIT, wait_for


class Terminal:
    """A terminal with one program, tunnel-cli unless another is named."""

    def __init__(self, stack, *args, program=CLI, **env):
        self.seen, self.stack = b"", stack
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(str(program), [str(program), *map(str, args)], stack.env(TERM="xterm", PS1="$ ", TZ="UTC", **env))
        self.modes = termios.tcgetattr(self.fd)

    def until(self, pattern):
        end = time.monotonic() + LIMIT
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, self.seen.decode(errors="replace") + self.stack.tails()
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    break
        match = re.search(pattern, self.seen)
        assert match, self.seen
        return match

    def type(self, text):
        os.write(self.fd, text.encode())

    def in_front(self):
        """Whether the program itself has the terminal, not a job that it started."""
        return os.tcgetpgrp(self.fd) == self.pid

    def exit_code(self):
        _, status = wait_for(lambda: (r := os.waitpid(self.pid, os.WNOHANG))[0] and r, "the program to end")
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
