"""Drives tunnel-swarm: many agents and sessions against a stack's server, in one process."""

import json
import math
import resource
import socket
import subprocess
import threading
import time

from harness import BUILD, LIMIT, LineReader, wait_for, write_secret

SWARM = BUILD / "tests" / "swarm" / "tunnel-swarm"


def allow_files(n):
    """Servers that a test starts from here on may hold so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < n:
        raise AssertionError(f"{n} open files are needed, the limit is {hard}")
    if soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def percentile(values, p):
    """The value that p of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)] if ordered else 0


class Swarm:
    def __init__(self, stack, agents, sessions, *more, url=None, name="swarm"):
        self.path, self.sessions = stack.folder / f"{name}.log", sessions
        secret = stack.folder / "swarm-secret"
        write_secret(secret, stack.secret)
        allow_files(sessions * 14 + agents + 2000)
        self.log = open(self.path, "wb")
        args = ["--server", url or stack.url, "--ca", stack.folder / "tls" / "ca.pem", "--key-id", stack.key_id]
        args += ["--secret-file", secret, "--agents", agents, "--sessions", sessions, *more]
        self.p = subprocess.Popen(
            [str(SWARM), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=stack.env()
        )
        stack.procs.append(self.p)
        self.out = LineReader(self.p.stdout)
        self.lock = threading.Lock()

    def ask(self, command):
        with self.lock:
            self.p.stdin.write(command.encode() + b"\n")
            self.p.stdin.flush()
            try:
                return json.loads(self.out.wait(""))
            except AssertionError as e:
                raise AssertionError(f"the swarm does not answer {command}:\n{self.tail()}") from e

    def stats(self):
        return self.ask("stats")

    def wait(self, condition, what, limit=LIMIT):
        """Until condition(stats) holds; the stats then."""
        last = {}

        def holds():
            last.clear()
            last.update(self.stats())
            return condition(last)

        try:
            wait_for(holds, what, limit, every=0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}; the swarm: {json.dumps(last)}\n{self.tail()}") from None
        return last

    def wait_up(self, limit=LIMIT):
        return self.wait(lambda s: s["sessions"]["up"] == self.sessions, f"{self.sessions} sessions to be up", limit)

    def wait_answered(self, limit=LIMIT):
        """Nothing new is sent, and all that was sent came back as it should."""
        self.ask("pause")
        return self.wait(lambda s: s["bytes"]["unanswered"] == 0, "all bytes to come back", limit)

    def quit(self, limit=LIMIT):
        """Ends all sessions; (exit code, last stats)."""
        self.p.stdin.write(b"quit\n")
        self.p.stdin.flush()
        stats = json.loads(self.out.wait("", limit))
        return self.p.wait(limit), stats

    def tail(self):
        return self.path.read_text(errors="replace")[-2500:]


class Reachable(threading.Thread):
    """When a port takes connections again, in Unix milliseconds."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.at = port, None
        self.start()

    def run(self):
        while self.at is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                self.at = time.time() * 1000
            except OSError:
                time.sleep(0.002)
