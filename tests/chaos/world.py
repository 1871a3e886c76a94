"""What the faults hit: relay, agent, sessions with their load; real processes, each where the network wants it."""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenario"))

from clerk import LATER, Clerk  # noqa: E402
from cluster import Fleet  # noqa: E402
from harness import CLI, USER, Stack, wait_for, write_secret  # noqa: E402
from load import LIVE  # noqa: E402
from redis_fleet import RedisFleet  # noqa: E402

PYTHON = "/usr/bin/python3"
TARGET = "web-1"
ROLES = {"server": "server", "agent": "target", "client": "client"}


class Trouble(Exception):
    """Something that must not happen has happened."""


class World(Stack):
    def __init__(self, folder, net, seed, rate=0.0):
        super().__init__(folder, address=net.address)
        self.net, self.seed, self.rate = net, seed, rate
        self.sessions, self.loads = [], []
        net.attach(self)
        self.admin_url = self.url
        if net.port != self.port:
            self.url = self.relay_url = f"https://localhost:{net.port}"
        for sub in ("live", "reports", "pings"):
            (self.folder / sub).mkdir()
        self.load_log = open(self.folder / "load.log", "ab")
        self.clerk = Clerk(self.ask)

    def place(self, role, args):
        return [*self.net.prefix(ROLES[role]), *map(str, args)]

    # -- processes

    def begin(self, kinds):
        self.start_server()
        self.start_agent()
        self.serve = self.load("serve", "port", where="target")
        port = int(wait_for(lambda: self.text_of("port"), "the load's server"))
        for number, kind in enumerate(kinds, 1):
            known = {s["id"] for s in self.list_sessions()}
            session = {"ssh": SshSession, "tcp": TcpSession}[kind](self, f"s{number}", port)
            self.sessions.append(session)
            session.id = wait_for(lambda: self.new_session(known), "the session to be active")
            self.net.set_clients([s.cli_pid for s in self.sessions])
        for session in self.sessions:
            session.start_load()
        self.clerk.start()

    def new_session(self, known):
        """The one session that both ends are attached to and that was not there before."""
        both = {"client": True, "target": True}
        new = [s["id"] for s in self.list_sessions("active") if s["id"] not in known and s["attached"] == both]
        return new[0] if len(new) == 1 else None

    def text_of(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def load_args(self, role, name, *more):
        return [
            PYTHON, str(HERE / "load.py"), role, "--dir", str(self.folder), "--name", name,
            "--seed", str(self.seed), "--rate", str(self.rate), *more,
        ]

    def load(self, role, name, *more, where="client", **kw):
        return self.spawn([*self.net.prefix(where), *self.load_args(role, name, *more)], name, **kw)

    def spawn(self, args, name, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", self.load_log)
        p = subprocess.Popen(args, stderr=self.load_log, env=self.env(), **kw)
        p.chaos_name = name
        self.procs.append(p)
        self.loads.append(p)
        return p

    # -- what there is to know

    def relays(self):
        return {"relay": self.server}

    def stop_store(self):
        pass

    def ask(self, *args):
        """tunnel-cli, once, beside the server, where no fault gets between."""
        return subprocess.run(
            [*self.net.prefix("server"), str(CLI), *args], capture_output=True, text=True, timeout=120,
            env=self.env(TUNNEL_CONFIG=str(self.admin_conf())),
        )  # fmt: skip

    def admin_conf(self):
        conf = self.folder / "admin.conf"
        if not conf.exists():
            text = (self.folder / "cli.conf").read_text().replace(self.url, self.admin_url)
            write_secret(conf, text)
        return conf

    def admin(self, *args):
        """What tunnel-cli prints, as soon as there is somebody to answer."""

        def answer():
            r = self.ask(*args)
            return r if r.returncode != LATER else None

        r = wait_for(answer, "a server that is not busy")
        if r.returncode != 0:
            raise Trouble(f"tunnel-cli {' '.join(args)} exited with {r.returncode}: {r.stderr.strip()}")
        return r.stdout

    def list_sessions(self, state=None):
        more = ["--state", state] if state else []
        return json.loads(self.admin("list-sessions", "--output", "json", *more))

    def audit_records(self):
        return [json.loads(line) for line in self.admin("audit", "--from", "1", "--output", "json").splitlines()]

    def live(self, name):
        try:
            return LIVE.unpack((self.folder / "live" / name).read_bytes())
        except (OSError, struct.error):  # not made yet
            return (0, 0, 0, 0)

    def pings(self):
        return [f"{s.name}.ping.client" for s in self.sessions]

    def sinks(self):
        return [f"{s.name}.{way}.sink" for s in self.sessions for way in ("up", "down")]

    def flowing(self, since_ns):
        """Does everything flow again: pings that were sent since then are answered, every sink has got more?"""
        return all(self.live(p)[2] >= since_ns for p in self.pings()) and all(self.live(s)[1] >= since_ns for s in self.sinks())

    def not_flowing(self, since_ns):
        stuck = [p for p in self.pings() if self.live(p)[2] < since_ns] + [s for s in self.sinks() if self.live(s)[1] < since_ns]
        return ", ".join(stuck)

    def supervisor(self):
        return self.agents[TARGET].proc

    def workers(self, sessions=None):
        """The processes that serve these sessions (all, when not said) on the target."""
        found = []
        for pid in self.worker_pids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"worker" in words and (sessions is None or any(s.id.encode() in words for s in sessions)):
                found.append(pid)
        return found

    def complaints(self):
        """What is wrong now, the likely cause first: wrong content, an ended session, then those who only lost their partner."""
        errors = []
        for path in sorted((self.folder / "reports").glob("*.json")):
            report = json.loads(path.read_text())
            if "error" in report:
                errors.append(f"{report['name']}: {report['error']}")
        content = [e for e in errors if ": byte " in e or "short connection" in e and "came back" in e]
        ended = [
            f"{s.name}: {s.what} ended with {s.p.returncode} in the middle of the run: {s.last_words()}"
            for s in self.sessions
            if s.p.poll() is not None
        ]
        lost = [f"{p.chaos_name} ended with {p.returncode} in the middle of the run" for p in self.loads if p.poll() is not None]
        asked = [self.clerk.error] if self.clerk.error else []
        return content + ended + asked + [e for e in errors if e not in content] + lost

    def check(self):
        """Raises Trouble when a process is gone that should be there, or an end has complained."""
        if self.complaints():
            time.sleep(1)  # what follows from it shows too, and perhaps what it follows from
            first, *others = self.complaints()
            raise Trouble("\n  ".join([first, *others]))

    # -- what faults do

    def stop_server(self, graceful):
        if graceful:
            code = self.server.stop(60)
            if code != 0:
                raise Trouble(f"the relay ended with {code} on SIGTERM: {self.server.text()[-300:]}")
        else:
            self.server.kill()
            self.server.p.wait()

    def restart_server(self):
        """Returns when (monotonic ns) it was ready."""
        self.start_server()
        return made_at(self.folder / "ready")

    def kill_supervisor(self):
        self.supervisor().kill()
        self.supervisor().p.wait()
        (self.supervisor_folder() / "ready").unlink(missing_ok=True)

    def supervisor_folder(self):
        return self.agents[TARGET].folder

    def restart_supervisor(self):
        self.agents[TARGET].restart()
        ready = self.supervisor_folder() / "ready"
        wait_for(ready.exists, "the agent's ready file", limit=90)
        return made_at(ready)

    # -- end

    def finish_load(self, limit):
        (self.folder / "stop").touch()
        end = time.monotonic() + limit
        for p in self.loads:
            if p is self.serve:
                continue
            try:
                p.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Trouble(f"{p.chaos_name} did not come to its end within {limit:.0f} s of the stop") from None
            if p.returncode != 0:
                raise Trouble(f"{p.chaos_name} ended with {p.returncode}")

    def close(self):
        super().close()
        self.load_log.close()


def made_at(path):
    """When (monotonic ns) a file was written."""
    return time.monotonic_ns() - max(0, time.time_ns() - path.stat().st_mtime_ns)


class Session:
    """One session with its load: bulk up, bulk down, ping-pong."""

    def __init__(self, world, name):
        self.world, self.name, self.id = world, name, None

    def last_words(self):
        return ""


class SshSession(Session):
    """One ssh connection through tunnel-cli as ProxyCommand; each kind of load is a channel of it."""

    what = "ssh"

    def __init__(self, world, name, port):
        super().__init__(world, name)
        folder = world.folder / name
        folder.mkdir(mode=0o700)
        start = ["start-session", "--target", TARGET, "--login", USER, "--stdio", "--ssh-dir", folder]
        self.control = folder / "mux"
        self.options = [
            "-F", "/dev/null", "-S", str(self.control),
            "-o", "ProxyCommand=" + " ".join(map(str, [CLI, *start])),
            "-o", f"IdentityAgent={folder}/agent",
            "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes", "-o", f"HostKeyAlias={TARGET}", "-o", "BatchMode=yes", "-T",
        ]
        self.log = folder / "log"
        with open(self.log, "ab") as log:
            self.p = subprocess.Popen(
                world.place("client", ["ssh", "-M", "-N", *self.options, f"{USER}@{TARGET}"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=world.env(),
            )
        world.procs.append(self.p)
        wait_for(lambda: self.p.poll() is not None or self.control.exists(), "ssh's control socket")
        self.cli_pid = wait_for(lambda: child_running(self.p.pid, CLI), "ssh's tunnel-cli")

    def last_words(self):
        return self.log.read_text(errors="replace")[-600:].strip()

    def ssh(self, *command):
        return self.world.place("client", ["ssh", *self.options, f"{USER}@{TARGET}", " ".join(command)])

    def start_load(self):
        w, n = self.world, self.name
        up = w.load("source", f"{n}.up.src", stdout=subprocess.PIPE)
        w.spawn(self.ssh(*w.load_args("sink", f"{n}.up.sink")), f"{n}.up ssh", stdin=up.stdout)
        up.stdout.close()
        down = w.spawn(self.ssh(*w.load_args("source", f"{n}.down.src")), f"{n}.down ssh", stdout=subprocess.PIPE)
        w.load("sink", f"{n}.down.sink", stdin=down.stdout)
        down.stdout.close()
        w.load("ping", f"{n}.ping.client", "--", *self.ssh(*w.load_args("pong", f"{n}.ping.pong")))

    def end(self):
        subprocess.run(self.world.place("client", ["ssh", *self.options, "-O", "exit", TARGET]), capture_output=True, timeout=60)
        self.p.wait(60)


class TcpSession(Session):
    """One port-forward session: bulk, ping-pong and many short connections are streams of their own."""

    what = "tunnel-cli"

    def __init__(self, world, name, port):
        super().__init__(world, name)
        self.p, (self.port,) = world.forward(TARGET, f"127.0.0.1:{port}")
        self.cli_pid = self.p.pid

    def last_words(self):
        return " / ".join(self.p.lines.lines[-3:])

    def start_load(self):
        w, n = self.world, self.name
        there = ("--connect", f"127.0.0.1:{self.port}")
        w.load("source", f"{n}.up.src", *there, "--head", f"sink {n}.up.sink")
        w.load("sink", f"{n}.down.sink", *there, "--head", f"source {n}.down.src")
        w.load("ping", f"{n}.ping.client", *there, "--head", f"pong {n}.ping.pong")
        w.load("shorts", f"{n}.shorts", *there)

    def end(self):
        self.p.terminate()
        self.p.wait(60)


def child_running(pid, program):
    """The descendant of a process that runs this program, or None."""
    try:
        kids = [int(k) for k in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return None
    for kid in kids:
        try:
            if os.readlink(f"/proc/{kid}/exe") == str(program):
                return kid
        except OSError:
            continue
        found = child_running(kid, program)
        if found:
            return found
    return None


class ClusterWorld(Fleet, World):
    """Three nodes on a Redis with replicas and Sentinels. What hits the relay hits the node where the sessions are."""

    def __init__(self, folder, net, seed, rate=0.0):
        super().__init__(folder, net, seed, rate)
        self.make_nodes(3, redis=RedisFleet(self.folder / "redis", net.prefix("server")))
        net.ports = {n.port for n in self.nodes.values()}
        self.down = None

    def relays(self):
        return {name: node.server for name, node in self.nodes.items()}

    def stop_store(self):
        self.redis.close()

    def new_session(self, known):
        """Who is attached is known to one of the nodes alone; an active one has been paired."""
        new = [s["id"] for s in self.list_sessions("active") if s["id"] not in known]
        return new[0] if len(new) == 1 else None

    def home(self):
        """The node where the sessions are."""
        return self.nodes[{s["node"] for s in self.list_sessions("active")}.pop()]

    def stop_server(self, graceful):
        self.down = self.home()
        if graceful:
            code = self.down.server.stop(60)
            if code != 0:
                raise Trouble(f"{self.down.node} ended with {code} on SIGTERM: {self.down.server.text()[-300:]}")
        else:
            self.down.server.kill()
            self.down.server.p.wait()

    def restart_server(self):
        self.down.start_server()
        return made_at(self.down.folder / "ready")
