#!/usr/bin/python3
"""The target's side of a soak, started through ssh.

  pulse          numbered lines on standard input and output
  editor FOLDER  the server process that an editor leaves on the target: it listens on loopback, writes port and pid to
                 FOLDER/server, and lives until it is told to end. Each connection begins with a line that says what it is:
                 pulse | down KEY BYTES_A_SECOND | up KEY | echo | state | end
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "chaos"))

from content import BLOCK, Checker, Content  # noqa: E402
from pulse import Pulse  # noqa: E402

PIECE = 1 << 16


def stdio_pulse():
    Pulse("far", "near", 0, 1, lambda: os.close(1)).run()


def steady(content, rate, enough):
    """The blocks of a content at so many bytes a second until enough() is true."""
    began, number = time.monotonic(), 0
    while not enough():
        yield content.block(number)
        number += 1
        ahead = number * BLOCK / rate - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(min(ahead, BLOCK / rate))


class Editor:
    def __init__(self, folder):
        self.folder, self.began = folder, time.time()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.lock, self.lines, self.sent = threading.Lock(), 0, {}

    def run(self):
        part = self.folder / "server.part"
        part.write_text(f"{self.listener.getsockname()[1]} {os.getpid()}\n")
        part.rename(self.folder / "server")
        while True:
            c, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            words = self.first_line(c).split()
            {"pulse": self.pulse, "down": self.down, "up": self.up, "echo": self.echo, "state": self.state, "end": self.end}[words[0]](c, *words[1:])

    @staticmethod
    def first_line(c):
        line = b""
        while not line.endswith(b"\n"):
            byte = c.recv(1)
            if not byte:
                raise SystemExit
            line += byte
        return line.decode()

    def pulse(self, c):
        Pulse("far", "near", c.fileno(), c.fileno(), lambda: c.shutdown(socket.SHUT_WR), on_line=self.count).run()

    def count(self, _):
        with self.lock:
            self.lines += 1

    def down(self, c, key, rate):
        """Until the other side closes its direction; how much it was is part of the state."""
        asked = threading.Event()
        threading.Thread(target=lambda: (c.recv(1), asked.set()), daemon=True).start()
        for block in steady(Content(key), float(rate), asked.is_set):
            c.sendall(block)
            self.sent[key] = self.sent.get(key, 0) + len(block)
        c.shutdown(socket.SHUT_WR)

    def up(self, c, key):
        """Checks what comes, answers with its length and digest."""
        check = Checker(Content(key))
        while data := c.recv(PIECE):
            check.feed(data)
        c.sendall(f"{check.total} {check.sha.hexdigest()}\n".encode())

    def echo(self, c):
        while data := c.recv(PIECE):
            c.sendall(data)
        c.shutdown(socket.SHUT_WR)

    def state(self, c):
        c.sendall(json.dumps({"pid": os.getpid(), "began": self.began, "lines": self.lines, "sent": self.sent}).encode())

    def end(self, c):
        os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "pulse":
        stdio_pulse()
    else:
        Editor(Path(sys.argv[2])).run()
