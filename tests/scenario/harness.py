"""A whole installation for one test: a server, agents, and tunnel-cli, with real processes on loopback, in one temp folder.

Nothing here sleeps for a fixed time: wait_for polls a condition until it holds or a generous limit is over.
"""

import datetime
import ipaddress
import itertools
import json
import os
import pwd
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from ports import free_port  # noqa: E402, F401

BUILD = Path(os.environ.get("TUNNEL_BUILD", Path(__file__).resolve().parents[2] / "build" / "dev"))
SERVER = BUILD / "server" / "tunnel-server"
AGENT = BUILD / "agent" / "tunnel-agent"
CLI = BUILD / "cli" / "tunnel-cli"
PLUGINS = BUILD / "plugins"
LIMIT = float(os.environ.get("TUNNEL_TEST_LIMIT", "60"))
USER = pwd.getpwuid(os.geteuid()).pw_name


def wait_for(condition, what, limit=LIMIT, every=0.02):
    """Polls until condition() is true; returns its value. Fails with `what` in the message."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit:.0f} s for {what}")
        time.sleep(every)


def is_gone(s):
    """The peer ended or reset this connection."""
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def opens_nothing(port):
    """A new connection is ended at once, which may be so early that connect() itself tells of it."""
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
            return is_gone(s)
    except ConnectionError:
        return True


def children(pid):
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            pass
    return found


def family(pids):
    """These processes and all that they started, and so on."""
    found, todo = set(), list(pids)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children(pid)
    return found


def command_line(pid):
    """The arguments; [] of a process that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def workers_of(runtime_dir):
    """Pids of an agent's session workers, whatever file their program was."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        args = command_line(pid)
        if args[1:2] == ["worker"] and str(runtime_dir) in args:
            found.append(int(pid))
    return found


def in_place_of(path, ours):
    """What runs a command for which ours stands at path, in a mount namespace of its own; None without the rights to."""
    args = [str(a) for a in ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', ours, path)]
    return args if subprocess.run([*args, "true"], capture_output=True).returncode == 0 else None


def trusted_by_the_system(ca, folder):
    """What runs a command for which the CA is one of the system's, kept in folder; None without the rights to."""
    hashed = subprocess.run(["openssl", "x509", "-noout", "-subject_hash", "-in", ca], check=True, capture_output=True, text=True)
    folder.mkdir()
    for name in (f"{hashed.stdout.strip()}.0", "ca-certificates.crt"):
        (folder / name).write_bytes(Path(ca).read_bytes())
    return in_place_of("/etc/ssl/certs", folder)


def send(sig, pids):
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass


def tails(folder):
    """The ends of the logs in a test's folder."""
    out = []
    for log in [*folder.glob("*.log"), *folder.glob("log"), *folder.glob("agent-*/log"), *folder.glob("node-*/server.log")]:
        out.append(f"--- {log.name} of {log.parent.name}\n" + log.read_text(errors="replace")[-2500:])
    return "\n".join(out)


class Proc:
    """A background process whose stdout and stderr go to a log file."""

    def __init__(self, args, log, env=None, **kw):
        self.log = Path(log)
        self.args = [str(a) for a in args]
        with open(self.log, "ab") as f:
            self.start_at = f.tell()
            self.p = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=env, **kw)

    @property
    def pid(self):
        return self.p.pid

    def text(self):
        with open(self.log, "rb") as f:
            f.seek(self.start_at)
            return f.read().decode(errors="replace")

    def alive(self):
        return self.p.poll() is None

    def wait_log(self, needle, limit=LIMIT):
        """The first line with needle in it."""

        def seen():
            for line in self.text().splitlines():
                if needle in line:
                    return line
            if not self.alive():
                raise AssertionError(f"{self.args[0]} ended ({self.p.returncode}) before it logged {needle!r}:\n{self.text()[-3000:]}")
            return None

        return wait_for(seen, f"{needle!r} in {self.log}", limit)

    def kill(self, sig=signal.SIGKILL):
        """Who is killed is gone when this returns, and so is free what it listened on."""
        if self.alive():
            self.p.send_signal(sig)
        if sig == signal.SIGKILL:
            self.p.wait(LIMIT)

    def stop(self, limit=LIMIT):
        """SIGTERM, then the exit code."""
        self.kill(signal.SIGTERM)
        try:
            return self.p.wait(limit)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise AssertionError(f"{self.args[0]} did not stop on SIGTERM:\n{self.text()[-3000:]}")


def make_ca(folder, address="127.0.0.1", name="test CA"):
    """ca.pem, server.pem, server.key in folder, for localhost and an address."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)

    def build(name, key, issuer, issuer_key, ca):
        b = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if ca:
            usage = dict.fromkeys("digital_signature content_commitment key_encipherment data_encipherment key_agreement".split(), False)
            usage |= dict(key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
            b = b.add_extension(x509.KeyUsage(**usage), critical=True)
        else:
            b = b.add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("localhost"),
                        *(x509.IPAddress(ipaddress.ip_address(a)) for a in sorted({"127.0.0.1", "::1", address})),
                    ]
                ),
                critical=False,
            )
        return b.sign(issuer_key, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca = build(name, ca_key, ca_name, ca_key, True)
    cert = build("localhost", key, ca_name, ca_key, False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(cert.public_bytes(pem))
    write_secret(
        folder / "server.key",
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def write_secret(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


ALLOW_ALL = {
    "Version": "2026-01-01",
    "Statement": [{"Sid": "Everything", "Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": ["tunnel:*"], "Resource": ["*"]}],
}


class Agent:
    def __init__(self, stack, target, folder, proc):
        self.stack, self.target, self.folder, self.proc = stack, target, folder, proc

    def restart(self):
        self.proc = Proc(self.proc.args, self.folder / "log")
        self.stack.procs.append(self.proc)


class Stack:
    """One server with its state, and what talks to it."""

    def __init__(self, folder, reactors=2, policy=ALLOW_ALL, conf="", auth=None, address="127.0.0.1"):
        self.folder, self.address = Path(folder), address
        self.reactors, self.conf, self.auth = reactors, conf, auth
        self.procs, self.agents = [], {}
        self.port = free_port()
        self.url = f"https://{'localhost' if address == '127.0.0.1' else address}:{self.port}"
        self.relay_url = self.url
        self.node, self.ca_key = "node-1", f"{self.folder}/state/ssh_ca"
        make_ca(self.folder / "tls", address)
        (self.folder / "policies").mkdir()
        (self.folder / "policies" / "base.json").write_text(json.dumps(policy))
        self.key_id, self.secret = "KDEV", secrets.token_hex(20)
        self.server = None

    def urls(self):
        """Where clients and agents reach the servers, as a list of a config file."""
        return json.dumps([self.url])

    def place(self, role, args):
        """Where the processes of a role (server, agent, client) run; a subclass may put something before the arguments."""
        return args

    # -- server

    def write_credentials(self, users=None):
        users = users or {self.key_id: ("dev", self.secret, [])}
        rows = [
            f'{{ key_id = "{k}"; secret = "{s}"; subject = "{u}"; groups = [{", ".join(json.dumps(g) for g in groups)}]; }}'
            for k, (u, s, groups) in users.items()
        ]
        write_secret(self.folder / "hmac-credentials", "credentials = (\n  " + ",\n  ".join(rows) + "\n);\n")

    def store(self):
        return f'plugin = "store-sqlite"; path = "{self.folder}/state/tunnel.db";'

    def write_conf(self):
        auth = self.auth or f'{{ plugin = "auth-hmac"; credentials = "{self.folder}/hmac-credentials"; }}'
        (self.folder / "server.conf").write_text(
            f"""
listen = "{self.address}:{self.port}";
advertise_url = "{self.relay_url}";
server_urls = {self.urls()};
node = "{self.node}";
state_dir = "{self.folder}/state";
plugin_dir = "{PLUGINS}";
ready_file = "{self.folder}/ready";
reactors = {self.reactors};
policy_dir = "{self.folder}/policies";
tls: {{ certificate = "{self.folder}/tls/server.pem"; key = "{self.folder}/tls/server.key"; }};
ssh: {{ ca_key = "{self.ca_key}"; }};
log: {{ level = "debug"; }};
store: {{ {self.store()} }};
auth = ( {auth} );
{self.conf}
"""
        )

    def start_server(self):
        (self.folder / "state").mkdir(mode=0o700, exist_ok=True)
        if not (self.folder / "hmac-credentials").exists():
            self.write_credentials()
        self.write_conf()
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        self.server = Proc(self.place("server", [SERVER, "--config", self.folder / "server.conf"]), self.folder / "server.log")
        self.procs.append(self.server)

        def up():
            if not self.server.alive():
                raise AssertionError("the server did not start:\n" + self.server.text()[-3000:])
            return ready.exists()

        wait_for(up, "the server's ready file")
        self.write_profile()
        return self

    def write_profile(self, name="default", extra=None):
        write_secret(self.folder / "cli-credentials", f'key_id = "{self.key_id}";\nsecret = "{self.secret}";\n')
        extra = extra or f'auth = "hmac"; credentials = "{self.folder}/cli-credentials";'
        text = f'{name}: {{ server = {self.urls()}; ca_file = "{self.folder}/tls/ca.pem"; {extra} }};\n'
        path = self.folder / "cli.conf"
        old = path.read_text() if path.exists() else ""
        kept = "".join(line for line in old.splitlines(True) if not line.startswith(name + ":"))
        path.write_text(kept + text)

    # -- command line

    def env(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("TUNNEL_")}
        env["TUNNEL_CONFIG"] = str(self.folder / "cli.conf")
        env["XDG_STATE_HOME"] = str(self.folder / "cli-state")
        env.update(more)
        return {k: v for k, v in env.items() if v is not None}

    def cli(self, *args, input=None, check=True, limit=LIMIT, text=True, **env):
        r = subprocess.run(
            self.place("client", [str(CLI), *map(str, args)]), input=input, capture_output=True, text=text, timeout=limit, env=self.env(**env)
        )
        if check and r.returncode != 0:
            raise AssertionError(f"tunnel-cli {' '.join(map(str, args))} exited with {r.returncode}:\n{r.stderr}\n{self.tails()}")
        return r

    def curl(self, path, *args):
        """A signed call of the API."""
        words = ["curl", "-sS", "--noproxy", "*", "--cacert", self.folder / "tls/ca.pem", "--aws-sigv4", "aws:amz:default:tunnel", "-K", "-", *args, self.url + path]
        return subprocess.run([str(w) for w in words], input=f'user = "{self.key_id}:{self.secret}"\n', capture_output=True, text=True, timeout=LIMIT)

    def cli_popen(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        p = subprocess.Popen(self.place("client", [str(CLI), *map(str, args)]), env=self.env(), **kw)
        self.procs.append(p)
        return p

    def json(self, *args):
        return json.loads(self.cli(*args, "--output", "json").stdout)

    def forward(self, target, *dests):
        """A running --port-forward; returns (process, [local ports])."""
        args = []
        for d in dests:
            args += ["--port-forward", f"0:{d}"]
        p = self.cli_popen("start-session", "--target", target, *args)
        err = LineReader(p.stderr)
        ports = [int(err.wait(f"listening on").split(" for ")[0].rsplit(":", 1)[1]) for _ in dests]
        p.lines = err
        return p, ports

    # -- agents

    def start_agent(self, target="web-1", allow=("ssh", "tcp:127.0.0.1:*"), tags=(), conf="", wait=True, log=""):
        folder = self.folder / f"agent-{target}"
        folder.mkdir(mode=0o700, exist_ok=True)
        args = [x for t in tags for x in ("--tag", t)]
        token = self.cli("create-enrollment", target, *args).stdout.strip()
        write_secret(folder / "token", token)
        (folder / "agent.conf").write_text(
            f"""
server = {self.urls()};
ca_file = "{self.folder}/tls/ca.pem";
state_dir = "{folder}/state";
runtime_dir = "{folder}/run";
allow = [ {", ".join(json.dumps(a) for a in allow)} ];
ready_file = "{folder}/ready";
log: {{ level = "debug"; {log} }};
{conf}
"""
        )
        env = self.env()
        r = subprocess.run(
            self.place("agent", [str(AGENT), "enroll", "--config", str(folder / "agent.conf"), "--token-file", str(folder / "token")]),
            capture_output=True, text=True, timeout=LIMIT, env=env,
        )
        assert r.returncode == 0, r.stderr + self.tails()
        proc = Proc(self.place("agent", [AGENT, "--config", folder / "agent.conf"]), folder / "log", env=env)
        self.procs.append(proc)
        agent = self.agents[target] = Agent(self, target, folder, proc)
        if wait:
            self.wait_connected(target)
        return agent

    def wait_connected(self, target):
        """The server is asked once the agent has said so, which costs less than to ask it again and again; or each second."""
        proc, not_said = self.agents[target].proc, itertools.count(1)

        def connected():
            if not proc.alive():
                raise AssertionError(f"the agent of {target} ended ({proc.p.returncode}):\n{proc.text()[-3000:]}")
            if "msg=connected" not in proc.text() and next(not_said) % 50:
                return False
            return any(t["id"] == target and t["state"] == "connected" for t in self.json("list-targets"))

        wait_for(connected, f"target {target} to be connected")

    def audit(self):
        return [json.loads(line) for line in self.cli("audit", "--from", "1", "--output", "json").stdout.splitlines()]

    # -- end

    def tails(self):
        return tails(self.folder)

    def worker_pids(self):
        """Session workers outlive their supervisor: found by the config they were started for."""
        pids = []
        for p in Path("/proc").glob("[0-9]*"):
            try:
                cmd = (p / "cmdline").read_bytes()
                exe = os.readlink(p / "exe")
            except PermissionError:  # they hide themselves from all but root
                exe = str(AGENT) if b"tunnel-agent" in cmd.split(b"\0")[0] else ""
            except OSError:
                continue
            if exe.startswith(str(AGENT)) and str(self.folder).encode() in cmd:
                pids.append(int(p.name))
        return pids

    def workers(self):
        return [pid for run in self.folder.glob("agent-*/run") for pid in workers_of(run)]

    def end_workers(self):
        """A worker that is asked to end hangs up what runs in its session; one that is killed does not."""
        asked = self.workers()
        send(signal.SIGTERM, asked)
        send(signal.SIGCONT, asked)
        try:
            wait_for(lambda: not self.workers(), "the workers to end", 15)
        except AssertionError:
            send(signal.SIGKILL, self.workers())

    def close(self):
        self.end_workers()
        for p in self.procs:
            proc = p.p if isinstance(p, Proc) else p
            if proc.poll() is None:
                proc.terminate()
        for p in self.procs:
            proc = p.p if isinstance(p, Proc) else p
            try:
                proc.wait(15)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
        send(signal.SIGKILL, self.worker_pids())


class LineReader:
    """Reads a pipe's lines on a thread, so a test can wait for one of them."""

    def __init__(self, stream):
        self.lines, self.at, self.more, self.eof = [], 0, threading.Condition(), False
        threading.Thread(target=self.run, args=(stream,), daemon=True).start()

    def run(self, stream):
        for line in iter(stream.readline, b""):
            with self.more:
                self.lines.append(line.decode(errors="replace").strip())
                self.more.notify_all()
        with self.more:
            self.eof = True
            self.more.notify_all()

    def wait(self, needle, limit=LIMIT):
        """The next line that has needle in it."""
        end = time.monotonic() + limit
        with self.more:
            while True:
                while self.at < len(self.lines):
                    self.at += 1
                    if needle in self.lines[self.at - 1]:
                        return self.lines[self.at - 1]
                left = end - time.monotonic()
                if self.eof or left <= 0:
                    raise AssertionError(f"no line with {needle!r} in:\n" + "\n".join(self.lines))
                self.more.wait(left)


class TcpServer:
    """A thread per connection; handler(socket)."""

    def __init__(self, handler):
        self.s = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.s.getsockname()[1]
        self.handler = handler
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            try:
                self.handler(c)
            except OSError:
                pass

    def close(self):
        self.s.close()


def echo_until_eof(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.shutdown(socket.SHUT_WR)


class Pair:
    """One connection through a proxy, c from the one that dialled, up to the server."""

    def __init__(self, c, up):
        self.c, self.up, self.over = c, up, False
        self.unread = set()  # of these nothing is read any more

    def forward(self):
        while not self.over:
            for s in select.select([s for s in (self.c, self.up) if s not in self.unread], [], [], 0.05)[0]:
                data = b"" if s in self.unread else s.recv(65536)
                if data:
                    (self.up if s is self.c else self.c).sendall(data)
                elif self.unread:
                    self.unread.add(s)
                else:
                    return

    def belongs_to(self, pids):
        """Whether one of these processes dialled it."""
        return socket_of_port(self.c.getpeername()[1]) in {link for pid in pids for link in links_of(pid)}


def links_of(pid):
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield os.readlink(fd)
        except OSError:
            pass


def socket_of_port(port):
    """What the descriptor of the local TCP socket with that port is called in /proc."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[9] != "0":
            return f"socket:[{fields[9]}]"
    return None


class CutProxy:
    """A TCP proxy in front of the server: cut() resets every connection, hole() stops forwarding and closes nothing.

    held: new connections are closed. source: the address from which the server sees them come.
    """

    __slots__ = ("to", "live", "lock", "held", "source", "count", "server", "port")  # a misspelt switch is an error

    def __init__(self, port):
        self.to, self.live, self.lock = port, set(), threading.Lock()
        self.held, self.source, self.count = False, "127.0.0.1", 0
        self.server = TcpServer(self.handle)
        self.port = self.server.port

    def handle(self, c):
        if not self.held:
            self.join(c)

    def join(self, c):
        with socket.create_connection(("127.0.0.1", self.to), source_address=(self.source, 0)) as up:
            for s in (c, up):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(c, up)
            with self.lock:
                self.live.add(pair)
                self.count += 1
            try:
                pair.forward()
            finally:
                with self.lock:
                    self.live.discard(pair)

    def pairs(self):
        with self.lock:
            return list(self.live)

    def cut(self):
        live = self.pairs()
        for pair in live:
            pair.over = True
            for s in (pair.c, pair.up):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        return len(live)

    def hole(self, pids, up=True, down=True):
        """Of the connections that these processes have now: new ones are forwarded. How many there are."""
        mine = [pair for pair in self.pairs() if not pair.unread and pair.belongs_to(pids)]
        for pair in mine:
            pair.unread |= ({pair.c} if up else set()) | ({pair.up} if down else set())
        return len(mine)

    def close(self):
        self.server.close()
        self.cut()
