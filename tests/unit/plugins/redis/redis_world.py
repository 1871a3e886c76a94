"""Real redis-servers and Sentinels, a store plugin that is driven over pipes, and a proxy that holds bytes back."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "support"))

from ports import free_port  # noqa: E402, F401

PATIENCE = 120  # seconds until a condition that never comes fails a test


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


class Redis:
    """A server in a folder of its own, on a TCP port of 127.0.0.1. Its append-only file outlives kill()."""

    def __init__(self, world, *args, sentinel=None, port_option="--port"):
        self.world, self.args, self.sentinel, self.port_option = world, args, sentinel, port_option
        self.folder = Path(tempfile.mkdtemp(dir=world.folder))
        self.p, self.user, self.port = None, (), free_port()
        self.start()

    def start(self):
        log = open(self.folder / "log", "a")
        if self.sentinel:
            conf = self.folder / "sentinel.conf"
            conf.write_text(f"port {self.port}\ndir {self.folder}\n{self.sentinel}")
            command = ["redis-server", conf, "--sentinel"]
        else:
            command = ["redis-server", "--bind", "127.0.0.1", self.port_option, str(self.port), "--dir", self.folder, "--save", "",
                       "--appendonly", "yes", "--appendfsync", "always", *self.args]
            if self.port_option != "--port":
                command += ["--port", "0"]
        self.p = subprocess.Popen(command, stdout=log, stderr=log)
        until("redis answers", self.is_up)
        return self

    def is_up(self):
        assert self.p.poll() is None, (self.folder / "log").read_text()
        if self.port_option != "--port":
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        said = self.cli("ping", check=False)
        return "PONG" in said or "NOAUTH" in said

    def cli(self, *args, check=True):
        """What redis-cli says."""
        r = subprocess.run(["redis-cli", "-p", str(self.port), *self.user, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE)
        assert not check or (r.returncode == 0 and not r.stdout.startswith(("ERR", "NOPERM", "WRONG"))), r
        return r.stdout.strip() + r.stderr.strip()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def send(self, number):
        os.kill(self.p.pid, number)

    def kill(self):
        if self.p and self.p.poll() is None:
            self.p.kill()
        if self.p:
            self.p.wait()


class Store:
    """The plugin in a process of its own. Answers are awaited by their id; events and storms come into queues."""

    def __init__(self, world, *options, refused=False):
        self.p = subprocess.Popen([world.driver, world.plugin, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, bufsize=1)
        self.lock, self.last_id, self.answers = threading.Condition(), 0, {}
        self.logged, self.storm, self.events = [], [], queue.Queue()
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.read_log, self.read_answers)]
        self.threads[0].start()
        first = json.loads(self.p.stdout.readline())
        self.words = first.get("refused")
        self.threads[1].start()
        if self.words is not None:
            self.p.stdin.close()
            self.p.wait()
        if (self.words is not None) != refused:
            self.kill()
            raise AssertionError(first)

    def read_log(self):
        for line in self.p.stderr:
            self.logged.append(line.rstrip())

    def read_answers(self):
        for line in self.p.stdout:
            a = json.loads(line)
            if "event" in a:
                self.events.put((a["event"], a["message"]))
            elif "storm" in a:
                self.storm.append(a)
            else:
                with self.lock:
                    self.answers[a["id"]] = a
                    self.lock.notify_all()

    def begin(self, op, **args):
        with self.lock:
            self.last_id += 1
            self.p.stdin.write(json.dumps({"op": op, "id": self.last_id, **args}) + "\n")
            return self.last_id

    def end(self, number):
        with self.lock:
            assert self.lock.wait_for(lambda: number in self.answers, PATIENCE), "no answer"
            return self.answers.pop(number)

    def do(self, op, **args):
        return self.end(self.begin(op, **args))

    def ok(self, op, **args):
        a = self.do(op, **args)
        assert a["result"] == "OK", a
        return a

    def put(self, key, value, **args):
        return self.do("put", collection="docs", key=key, value=json.dumps(value), **args)

    def get(self, key):
        rows = self.do("get", collection="docs", key=key)["rows"]
        return json.loads(rows[0][1]) if rows else None

    def works(self):
        return self.do("health")["result"] == "OK"

    def log_lines(self, words):
        return [line for line in self.logged if words in line]

    def close(self):
        """Ends it in good order: what a sanitizer has to say comes now."""
        if self.p.poll() is None:
            self.p.stdin.close()
        code = self.p.wait(PATIENCE)
        for t in self.threads:
            t.join(PATIENCE)
        assert code == (0 if self.words is None else 1), "\n".join(self.logged)

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()


class Proxy:
    """Between a store and a server. hold(): what clients send from now on over the connections of now is kept; later ones pass.
    release(): it is sent on, even where the client has gone. cut: told what the server says, how many bytes of it are the last
    that come through; None: all do."""

    def __init__(self, port, cut=None):
        self.port, self.to, self.cut = None, port, cut
        self.held, self.holding, self.lock = [], set(), threading.Lock()
        self.alive = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            self.alive.append((client, server))
            threading.Thread(target=self.forward, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.forward, args=(server, client, False), daemon=True).start()

    def forward(self, a, b, is_client):
        while True:
            try:
                data = a.recv(65536)
            except OSError:
                data = b""
            with self.lock:
                hold = is_client and a in self.holding
                if hold and data:
                    self.held.append((b, data))
            if not data:
                if not hold:
                    b.close() if is_client else a.close()
                return
            last = None if is_client or not self.cut else self.cut(data)
            if last is not None:
                b.sendall(data[:last])
                for one in (a, b):
                    one.shutdown(socket.SHUT_RDWR)
                return
            try:
                if not hold:
                    b.sendall(data)
            except OSError:
                return

    def hold(self):
        with self.lock:
            self.holding = {client for client, _ in self.alive}

    def release(self):
        with self.lock:
            for server, data in self.held:
                server.sendall(data)
            self.held.clear()


class World:
    def __init__(self, driver, plugin):
        self.driver, self.plugin = driver, plugin
        self.folder = Path(tempfile.mkdtemp(prefix="redis-world-"))
        self.things = []

    def redis(self, *args, **kw):
        self.things.append(Redis(self, *args, **kw))
        return self.things[-1]

    def store(self, redis, *options, **kw):
        """redis: a server, or an address; None: the options say."""
        where = [] if redis is None else [f"address={getattr(redis, 'address', redis)}"]
        self.things.append(Store(self, *where, *options, **kw))
        return self.things[-1]

    def secret(self, name, text, mode=0o600):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def close(self, good):
        """good: the stores must also end well."""
        try:
            for thing in reversed(self.things):
                if isinstance(thing, Redis):
                    thing.send(signal.SIGCONT) if thing.p.poll() is None else None
            for thing in reversed(self.things):
                if isinstance(thing, Store) and good:
                    thing.close()
        finally:
            for thing in reversed(self.things):
                thing.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
