#!/usr/bin/python3
"""One end of a stream under load. Started by the chaos runner on both sides of a session, never by hand.

  source   writes content until the stop file is there, then closes its direction
  sink     reads to the end and checks every byte
  ping     64 bytes out, the same 64 back, again and again; notes when each was sent and answered
  pong     answers
  shorts   many short connections: open, send, half-close, read it all back
  serve    the target's TCP server for all of these

Each end leaves a report (JSON) when it is done, and keeps a small live file (counters) while it runs.
"""

import argparse
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from content import BLOCK, Checker, Content, Wrong

PIECE = 1 << 18
PING = struct.Struct(">8sQQ40s")
PAIR = struct.Struct("<QQ")
LIVE = struct.Struct("@QQQQ")  # written whole: bytes (or rounds), time of the last progress, of the last answered ping: sent, answered


class Spot:
    """What an end tells while it runs and when it is done."""

    def __init__(self, folder, name):
        self.folder, self.name = Path(folder), name
        path = self.folder / "live" / name
        path.write_bytes(bytes(LIVE.size))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), LIVE.size)

    def live(self, count, sent=0, answered=0):
        LIVE.pack_into(self.map, 0, count, time.monotonic_ns(), sent, answered)

    def report(self, **fields):
        path = self.folder / "reports" / (self.name + ".json")
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"name": self.name, **fields}))
        part.rename(path)

    def stopping(self):
        return (self.folder / "stop").exists()


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def source(spot, key, fd, rate, close):
    content, check, number = Content(key), Checker(Content(key)), 0
    began = time.monotonic()
    try:
        while number % 16 or not spot.stopping():
            block = content.block(number)
            write_all(fd, block)
            check.sha.update(block)
            number += 1
            spot.live(number * BLOCK)
            if rate and number * BLOCK > rate * (time.monotonic() - began):
                time.sleep(0.005)
        tail = content.block(number)[: 1 + number % 997]  # a stream need not end at a block's end
        write_all(fd, tail)
        check.sha.update(tail)
        close()
    except OSError as e:
        return spot.report(role="source", bytes=number * BLOCK, error=f"writing: {e}")
    spot.report(role="source", bytes=number * BLOCK + len(tail), sha256=check.sha.hexdigest())


def sink(spot, key, fd):
    check = Checker(Content(key), lambda n: read_for_a_while(fd, n))
    try:
        while data := os.read(fd, PIECE):
            check.feed(data)
            spot.live(check.total)
    except (OSError, Wrong) as e:
        spot.report(role="sink", bytes=check.total, error=str(e))
        os._exit(1)
    spot.report(role="sink", bytes=check.total, sha256=check.sha.hexdigest())


def read_exactly(fd, n):
    data = b""
    while len(data) < n:
        more = os.read(fd, n - len(data))
        if not more:
            return data
        data += more
    return data


def read_for_a_while(fd, n):
    data = b""
    while len(data) < n and select.select([fd], [], [], 5)[0]:
        more = os.read(fd, n - len(data))
        if not more:
            break
        data += more
    return data


def ping(spot, out_fd, in_fd, close, every):
    number, notes = 0, open(spot.folder / "pings" / (spot.name + ".bin"), "wb", buffering=1 << 16)
    try:
        while number % 50 or not spot.stopping():
            sent = time.monotonic_ns()
            request = PING.pack(b"keystrok", number, sent, b"%040d" % number)
            write_all(out_fd, request)
            answer = read_exactly(in_fd, PING.size)
            answered = time.monotonic_ns()
            if answer != request:
                raise Wrong(f"request {number}: sent {request.hex()}, answered {answer.hex() or 'the end of the stream'}")
            number += 1
            notes.write(PAIR.pack(sent, answered))
            spot.live(number, sent, answered)
            time.sleep(every)
        close()
        rest = read_exactly(in_fd, 1)
        if rest:
            raise Wrong(f"after the last answer came {rest.hex()}")
    except (OSError, Wrong) as e:
        return spot.report(role="ping", rounds=number, error=str(e))
    finally:
        notes.close()
    spot.report(role="ping", rounds=number, bytes=number * PING.size)


def pong(spot, in_fd, out_fd):
    number = 0
    try:
        while request := read_exactly(in_fd, PING.size):
            if len(request) < PING.size or PING.unpack(request)[1] != number:
                raise Wrong(f"request {number}: got {request.hex()}")
            write_all(out_fd, request)
            number += 1
    except (OSError, Wrong) as e:
        return spot.report(role="pong", rounds=number, error=str(e))
    spot.report(role="pong", rounds=number, bytes=number * PING.size)


class Shorts:
    """A few threads, each with one short connection after the other."""

    def __init__(self, spot, address, seed):
        self.spot, self.address, self.seed = spot, address, seed
        self.lock, self.count, self.bytes, self.error = threading.Lock(), 0, 0, None

    def once(self, rng):
        data = rng.randbytes(rng.choice((1, 64, 1000, 20_000, 200_000)))
        with socket.create_connection(self.address, 180) as c:
            sender = threading.Thread(target=self.send, args=(c, data))
            sender.start()
            got = b"".join(iter(lambda: c.recv(PIECE), b""))
            sender.join()
        if got != data:
            raise Wrong(f"{len(data)} bytes sent, {len(got)} came back, equal up to {len(os.path.commonprefix([got, data]))}")
        return len(data)

    def send(self, c, data):
        try:
            c.sendall(b"echo -\n" + data)
            c.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the reader sees it too

    def run(self, number):
        rng = random.Random(f"{self.seed}:{number}")
        while not self.error and not self.spot.stopping():
            try:
                n = self.once(rng)
            except (OSError, Wrong) as e:
                with self.lock:
                    self.error = self.error or f"short connection {self.count}: {e or type(e).__name__}"
                return
            with self.lock:
                self.count += 1
                self.bytes += n
                self.spot.live(self.count)
            time.sleep(0.1 + 0.2 * rng.random())

    def all(self, threads):
        workers = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        extra = {"error": self.error} if self.error else {}
        self.spot.report(role="shorts", rounds=self.count, bytes=self.bytes, **extra)


def serve_one(a, c):
    """The first line says what to be: role, name."""
    head = b""
    while not head.endswith(b"\n"):
        byte = c.recv(1)
        if not byte:
            return
        head += byte
    role, name = head.decode().split()
    if role == "echo":
        while data := c.recv(PIECE):
            c.sendall(data)
        return
    spot, fd = Spot(a.dir, name), c.fileno()
    close = lambda: c.shutdown(socket.SHUT_WR)  # noqa: E731
    if role == "source":
        source(spot, stream_key(a, name), fd, a.rate, close)
        c.recv(1)
    elif role == "sink":
        sink(spot, stream_key(a, name), fd)
    elif role == "pong":
        pong(spot, fd, fd)


def serve(a):
    """A child a connection. Its port goes into the file named by --name."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as s:
        part = Path(a.dir) / (a.name + ".part")
        part.write_text(str(s.getsockname()[1]))
        part.rename(Path(a.dir) / a.name)
        while True:
            c, _ = s.accept()
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if os.fork() == 0:
                s.close()
                try:
                    with c:
                        serve_one(a, c)
                except OSError:
                    pass
                os._exit(0)
            c.close()


def stream_key(a, name):
    """Both ends of a stream have names that differ in the last part only."""
    return f"{a.seed}:{name.rsplit('.', 1)[0]}"


def tcp_end(a):
    """(fd to read, fd to write, close for writing) of a connection whose far end was told what to be."""
    c = socket.create_connection(a.connect, 180)
    c.settimeout(None)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.sendall(a.head.encode() + b"\n")
    tcp_end.kept = c
    return c.fileno(), c.fileno(), lambda: c.shutdown(socket.SHUT_WR)


def command_end(a):
    """The same of a child's standard input and output (ssh), or of our own."""
    if not a.command:
        return 0, 1, lambda: os.close(1)
    p = subprocess.Popen(a.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    command_end.kept = p
    return p.stdout.fileno(), p.stdin.fileno(), p.stdin.close


def host_port(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("role", choices=("source", "sink", "ping", "pong", "shorts", "serve"))
    p.add_argument("--dir", required=True)
    p.add_argument("--name", required=True)
    p.add_argument("--seed", default="0")
    p.add_argument("--rate", type=float, default=0, help="bytes a second of a source; 0: as fast as it goes")
    p.add_argument("--every", type=float, default=0.005, help="seconds between an answer and the next ping")
    p.add_argument("--connect", type=host_port)
    p.add_argument("--head", default="", help="first line to the far end: role, name")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    a = p.parse_args(words[:at])
    a.command = words[at + 1 :]
    return a


def main():
    a = arguments()
    if a.role == "serve":
        return serve(a)
    spot = Spot(a.dir, a.name)
    if a.role == "shorts":
        return Shorts(spot, a.connect, a.seed).all(4)
    in_fd, out_fd, close = tcp_end(a) if a.connect else command_end(a)
    if a.role == "source":
        source(spot, stream_key(a, a.name), out_fd, a.rate, close)
        os.read(in_fd, 1)  # the far end closes when it has everything
    elif a.role == "sink":
        sink(spot, stream_key(a, a.name), in_fd)
    elif a.role == "ping":
        ping(spot, out_fd, in_fd, close, a.every)
    else:
        pong(spot, in_fd, out_fd)
    child = getattr(command_end, "kept", None)
    if child and child.wait(120) != 0:
        sys.exit(f"{a.name}: {a.command[0]} ended with {child.returncode}")


if __name__ == "__main__":
    main()
