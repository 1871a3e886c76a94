"""What somebody does all day through plain ssh, as editors do it. Each activity is a thread that counts what it got done;
whatever goes wrong in one, a wrong byte or an end that nobody asked for, is kept for the run to find."""

import hashlib
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
import traceback

from content import BLOCK, Checker, Content
from far import steady
from pulse import Pulse, Wrong

PIECE = 1 << 16
# What says that a connection was refused when it began, since the relay was away: a person would try again.
AWAY = ("no server", "is not connected", "cannot reach", "Connection closed by UNKNOWN", "Connection refused")


class Activity:
    """steps: how many things it got done; longest_s: the longest time between two of them; error: what ended it."""

    def __init__(self, name):
        self.name, self.steps, self.error, self.longest_s = name, 0, None, 0.0
        self.last = None
        self.thread = threading.Thread(target=self.guarded, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def guarded(self):
        try:
            self.run()
        except Exception as e:  # of whatever kind: it belongs into the report
            traceback.print_exc()
            self.error = f"{type(e).__name__}: {e}"

    def step(self, *_):
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - (self.last or now))
        self.last = now
        self.steps += 1

    def stop(self):
        raise NotImplementedError


class SshPulse(Activity):
    """An ssh whose command answers line for line: a session of its own, or a channel of a ControlMaster's."""

    def __init__(self, name, ssh, host, command, *options):
        super().__init__(name)
        self.p = ssh.popen("-T", *options, host, command, stderr=open(ssh.stack.folder / f"{name}.err", "ab"))
        self.pulse = Pulse("near", "far", self.p.stdout.fileno(), self.p.stdin.fileno(), self.p.stdin.close, on_line=self.step)

    def run(self):
        self.pulse.run()
        if self.p.wait() != 0:
            raise Wrong(f"ssh ended with {self.p.returncode}")

    def stop(self):
        self.pulse.stop()


def socks_connect(socks_port, port):
    """A TCP connection to the target's loopback through ssh's -D."""
    c = socket.create_connection(("127.0.0.1", socks_port))
    c.sendall(b"\5\1\0")
    assert c.recv(2, socket.MSG_WAITALL) == b"\5\0"
    c.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack(">H", port))
    answer = c.recv(10, socket.MSG_WAITALL)
    if answer[:2] != b"\5\0":
        raise Wrong(f"the forward to port {port} answers {answer.hex() or 'with its end'}")
    return c


class SocksActivity(Activity):
    """A long connection to the editor's server through -D; first: the line that says what it is."""

    def __init__(self, name, connect, first):
        super().__init__(name)
        self.c = connect()
        self.c.sendall(first.encode() + b"\n")


class SocksPulse(SocksActivity):
    def __init__(self, name, connect):
        super().__init__(name, connect, "pulse")
        fd = self.c.fileno()
        self.pulse = Pulse("near", "far", fd, fd, lambda: self.c.shutdown(socket.SHUT_WR), on_line=self.step)

    def run(self):
        self.pulse.run()

    def stop(self):
        self.pulse.stop()


class Download(SocksActivity):
    def __init__(self, name, connect, rate):
        super().__init__(name, connect, f"down {name} {rate}")
        self.check = Checker(Content(name), lambda n: self.c.recv(n))

    def run(self):
        while data := self.c.recv(PIECE):
            before = self.check.total // BLOCK
            self.check.feed(data)
            if self.check.total // BLOCK > before:
                self.step()

    def stop(self):
        self.c.shutdown(socket.SHUT_WR)


class Upload(SocksActivity):
    def __init__(self, name, connect, rate):
        super().__init__(name, connect, f"up {name}")
        self.key, self.rate, self.over = name, rate, threading.Event()

    def run(self):
        total, sha = 0, hashlib.sha256()
        for block in steady(Content(self.key), self.rate, self.over.is_set):
            self.c.sendall(block)
            total += len(block)
            sha.update(block)
            self.step()
        self.c.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: self.c.recv(PIECE), b"")).decode()
        if answer != f"{total} {sha.hexdigest()}\n":
            raise Wrong(f"{total} bytes were sent, the other side tells of {answer!r}")

    def stop(self):
        self.over.set()


class Repeated(Activity):
    """The same small thing again and again, with a pause between. One that is refused when it begins, since there is no
    relay just then, is tried again and counted."""

    def __init__(self, name, once, pause):
        super().__init__(name)
        self.once, self.pause, self.refused, self.over = once, pause, 0, threading.Event()

    def run(self):
        number = 0
        while not self.over.is_set():
            try:
                self.once(number)
                number += 1
                self.step()
            except subprocess.CalledProcessError as e:
                if not any(text in e.stderr for text in AWAY):
                    raise Wrong(f"{' '.join(map(str, e.cmd))} exits with {e.returncode}: {e.stderr[-2000:]}") from None
                self.refused += 1
            self.over.wait(self.pause)

    def stop(self):
        self.over.set()


def echo_once(connect, rng):
    """A short connection through -D: what goes in comes back."""
    data = rng.randbytes(rng.choice((1, 100, 10_000, 300_000)))
    with connect() as c:
        c.sendall(b"echo\n")
        sender = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b"".join(iter(lambda: c.recv(PIECE), b""))
        sender.join()
    if got != data:
        raise Wrong(f"{len(data)} bytes sent, {len(got)} came back, equal up to {len(os.path.commonprefix([got, data]))}")


class Files:
    """git and rsync through ssh, both ways, in folders of the run's own; what arrives is compared with what was there."""

    def __init__(self, ssh, host, folder, rng):
        self.ssh, self.host, self.folder, self.rng = ssh, host, folder, rng
        folder.mkdir()
        self.bare, self.work = folder / "bare.git", folder / "work"
        self.tree = folder / "tree"
        self.tree.mkdir()
        self.run("git", "init", "-q", "--bare", "-b", "main", self.bare)
        self.run("git", "init", "-q", "-b", "main", self.work)

    def run(self, *args):
        env = self.ssh.stack.env(GIT_SSH_COMMAND=self.ssh.command, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
        return subprocess.run(
            [str(a) for a in args], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=env
        ).stdout

    def git(self, number):
        url, again = f"ssh://{self.host}{self.bare}", self.folder / "again"
        (self.work / f"file-{number % 8}").write_bytes(self.rng.randbytes(200_000))
        self.run("git", "-C", self.work, "add", "-A")
        self.run("git", "-C", self.work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", str(number))
        self.run("git", "-C", self.work, "push", "-q", url, "HEAD:main")
        shutil.rmtree(again, ignore_errors=True)
        self.run("git", "clone", "-q", url, again)
        self.same(self.work, again, {".git"})

    def rsync(self, number):
        (self.tree / f"file-{number % 4}").write_bytes(self.rng.randbytes(500_000))
        there, back = self.folder / "there", self.folder / "back"
        for source, target in ((f"{self.tree}/", f"{self.host}:{there}/"), (f"{self.host}:{there}/", f"{back}/")):
            self.run("rsync", "-a", "--delete", "-e", self.ssh.command, source, target)
        self.same(self.tree, there)
        self.same(self.tree, back)

    @staticmethod
    def same(one, other, without=frozenset()):
        a, b = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file() and not without & set(p.relative_to(f).parts)} for f in (one, other))
        if a != b:
            raise Wrong(f"{one} and {other} differ in {sorted(str(n) for n in a.keys() | b.keys() if a.get(n) != b.get(n))}")


def random_for(seed, name):
    return random.Random(f"{seed}:{name}")
