"""Ways from a client to a server on loopback: each has an entry port, and the processes that carry the bytes by their part.

Every way that encrypts does so between neighbours with TLS 1.3 or SSH and AES-128-GCM. What the middle sees differs: see `secret`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "scenario"))

from harness import BUILD, CLI, USER, Proc, Stack, family, free_port, make_ca, wait_for  # noqa: E402
from swarm import Swarm  # noqa: E402

PUMP = BUILD / "bench" / "tunnel-pump"
TARGET = "bench-1"
SUITE = "TLS_AES_128_GCM_SHA256"
SWARM_MAX = 1000  # sessions of one process: both ends of each are in it, 14 descriptors, and 20,000 are common


def answers(prefix, port, host="127.0.0.1"):
    return subprocess.run([*prefix, "nc", "-z", host, str(port)], capture_output=True).returncode == 0


class Way:
    """name, what its middle sees, and once started: entry (a port), parts {"client" | "relay" | "target": [Proc]}."""

    secret = "the middle sees plaintext"
    needs = ()

    def __init__(self, folder, to, net):
        self.net = net
        self.folder, self.to, self.parts, self.entry = folder / type(self).__name__.lower(), to, {}, free_port()
        self.folder.mkdir()

    @classmethod
    def missing(cls):
        return [n for n in cls.needs if not shutil.which(n)]

    def run(self, part, *args, **kw):
        proc = Proc([*self.net.prefix(part), *args], self.folder / f"{part}.log", **kw)
        self.parts.setdefault(part, []).append(proc)
        return proc

    def file(self, name, text, mode=0o600):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def await_port(self, part, port):
        host = self.net.relay if part == "relay" else "127.0.0.1"

        def open_or_dead():
            self.assert_alive()
            return answers(self.net.prefix(part), port, host)

        wait_for(open_or_dead, f"{self.name} to listen")

    def assert_alive(self):
        for procs in self.parts.values():
            for p in procs:
                assert p.alive(), f"{' '.join(p.args)} ended:\n{p.text()[-2000:]}"

    def pids(self, part):
        return family(p.pid for p in self.parts.get(part, ()))

    @contextlib.contextmanager
    def hold(self, count):
        """So many idle connections through this way, while a with block lasts."""
        p = subprocess.Popen([*self.net.prefix("client"), PUMP, "hold", str(self.entry), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if not p.stdout.readline():
                raise RuntimeError(f"{self.name} does not hold {count} connections")
            yield
        finally:
            p.stdin.close()
            p.wait(60)

    def close(self):
        for procs in self.parts.values():
            for pid in sorted(family(p.pid for p in procs), reverse=True):
                try:
                    os.kill(pid, 15)
                except ProcessLookupError:
                    pass
            for p in procs:
                p.stop(15)


class Chain(Way):
    """Three proxies: TCP to TLS, TLS to TLS, TLS to TCP. Equal work without our features."""

    def start(self):
        make_ca(self.folder / "tls")
        tls = self.folder / "tls"
        self.pem = self.file("both.pem", (tls / "server.pem").read_text() + (tls / "server.key").read_text())
        relay, target = free_port(), free_port()
        at = self.net.relay
        for part, listen, to, tls_in, tls_out in (
            ("target", f"127.0.0.1:{target}", f"127.0.0.1:{self.to}", True, False),
            ("relay", f"{at}:{relay}", f"127.0.0.1:{target}", True, True),
            ("client", f"127.0.0.1:{self.entry}", f"{at}:{relay}", False, True),
        ):
            self.start_part(part, listen, to, tls_in, tls_out)
            self.await_port(part, int(listen.rsplit(":", 1)[1]))


class Nginx(Chain):
    name, needs = "nginx", ("nginx",)

    def start_part(self, part, listen, to, tls_in, tls_out):
        accept = f"ssl_certificate {self.pem}; ssl_certificate_key {self.pem}; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE};"
        dial = f"proxy_ssl on; proxy_ssl_protocols TLSv1.3; proxy_ssl_conf_command Ciphersuites {SUITE};"
        conf = self.file(f"{part}.conf", f"""
daemon off; worker_processes 1; pid {self.folder}/{part}.pid; error_log {self.folder}/{part}.err;
include /etc/nginx/modules-enabled/*stream.conf;
events {{ worker_connections 10000; }}
stream {{ server {{ listen {listen}{" ssl" if tls_in else ""}; tcp_nodelay on; proxy_timeout 1h;
{accept if tls_in else ""} {dial if tls_out else ""} proxy_pass {to}; }} }}
""")  # fmt: skip
        self.run(part, "nginx", "-c", conf, "-e", self.folder / f"{part}.err")


class Haproxy(Chain):
    name, needs = "haproxy", ("haproxy",)

    def start_part(self, part, listen, to, tls_in, tls_out):
        conf = self.file(f"{part}.conf", f"""
global
  maxconn 5000
  nbthread 1
  ssl-server-verify none
  ssl-default-bind-ciphersuites {SUITE}
  ssl-default-server-ciphersuites {SUITE}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen it
  bind {listen}{f" ssl crt {self.pem}" if tls_in else ""}
  server to {to}{" ssl" if tls_out else ""}
""")  # fmt: skip
        self.run(part, "haproxy", "-db", "-f", conf)


class Stunnel(Chain):
    """Its middle is one process with two services: TLS to TCP, TCP to TLS."""

    name, needs = "stunnel", ("stunnel",)

    def start_part(self, part, listen, to, tls_in, tls_out):
        middle = f"127.0.0.1:{free_port()}"
        common = f"accept = {{}}\nconnect = {{}}\nciphersuites = {SUITE}\n"
        text = f"foreground = yes\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\ndebug = 4\ncert = {self.pem}\n"
        if tls_in:
            text += "[in]\n" + common.format(listen, middle if tls_out else to)
        if tls_out:
            text += "[out]\nclient = yes\n" + common.format(middle if tls_in else listen, to)
        self.run(part, "stunnel", self.file(f"{part}.conf", text))


class Sshd:
    """A bastion's sshd, and what connects to it."""

    needs = ("ssh", "ssh-keygen")

    def keys(self):
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        self.file("authorized_keys", (self.folder / "user.pub").read_text())

    def sshd(self, part, pam="no"):
        Path("/run/sshd").mkdir(exist_ok=True)
        port = free_port()
        conf = self.file(f"{part}-sshd.conf", f"""
Port {port}
ListenAddress {self.net.relay if part == "relay" else "127.0.0.1"}
HostKey {self.folder}/host
AuthorizedKeysFile {self.folder}/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM {pam}
PidFile none
MaxStartups 1000
""")  # fmt: skip
        self.run(part, "/usr/sbin/sshd", "-D", "-e", "-f", conf)
        self.await_port(part, port)
        return port

    def ssh(self, port, *more, at=None):
        return ["ssh", "-F", "/dev/null", "-i", self.folder / "user", "-p", port, "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "IPQoS=none",
                "-o", "ExitOnForwardFailure=yes", "-c", "aes128-gcm@openssh.com", *more, f"{USER}@{at or self.net.relay}"]  # fmt: skip


class Raw(Sshd, Way):
    """Straight to the server, and to a target's sshd as a machine has it (with PAM)."""

    name, secret = "loopback", "nothing stands between"

    def start(self):
        self.entry = self.to
        self.keys()
        self.direct = self.sshd("target", pam="yes")

    def shell(self, *command):
        return [*self.ssh(self.direct, at="127.0.0.1"), *command], None


class Bastion(Sshd, Way):
    name = "ssh -R/-L"

    def start(self):
        self.keys()
        self.bastion, there = self.sshd("relay"), free_port()
        self.run("target", *self.ssh(self.bastion, "-N", "-R", f"127.0.0.1:{there}:127.0.0.1:{self.to}"))
        self.await_port("target", there)
        self.run("client", *self.ssh(self.bastion, "-N", "-L", f"127.0.0.1:{self.entry}:127.0.0.1:{there}"))
        self.await_port("client", self.entry)


class Jump(Sshd, Way):
    """A reverse tunnel to the target's own sshd, and ProxyJump through the bastion."""

    name, secret = "ssh ProxyJump", "the middle sees ciphertext"

    def start(self):
        self.keys()
        self.bastion, self.there, own = self.sshd("relay"), free_port(), self.sshd("target")
        self.run("target", *self.ssh(self.bastion, "-N", "-R", f"127.0.0.1:{self.there}:127.0.0.1:{own}"))
        self.await_port("target", self.there)
        self.run("client", *self.inner("-N", "-L", f"127.0.0.1:{self.entry}:127.0.0.1:{self.to}"))
        self.await_port("client", self.entry)

    def inner(self, *more):
        proxy = " ".join(map(str, [*self.ssh(self.bastion), "-W", f"127.0.0.1:{self.there}"]))
        return self.ssh(self.there, "-o", f"ProxyCommand={proxy}", *more, at="127.0.0.1")

    def shell(self, *command):
        return [*self.inner(), *command], None


class Server(Stack):
    """As it is installed: the log tells what an operator wants to know."""

    def __init__(self, folder, net, reactors=1):
        super().__init__(folder, reactors=reactors, address=net.relay)
        self.net = net

    def place(self, role, args):
        return [*self.net.prefix({"client": "client", "server": "relay", "agent": "target"}[role]), *args]

    def write_conf(self):
        super().write_conf()
        conf = self.folder / "server.conf"
        conf.write_text(conf.read_text().replace('level = "debug"', 'level = "info"'))


class Tunnel(Way):
    name, secret = "tunnel", "the middle sees ciphertext"

    def start(self):
        self.stack = Server(self.folder / "s", self.net)
        self.stack.start_server()
        self.stack.start_agent(TARGET)
        self.forward, (self.entry,) = self.stack.forward(TARGET, f"127.0.0.1:{self.to}")

    def pids(self, part):
        if part == "relay":
            return {self.stack.server.pid}
        return {self.forward.pid} if part == "client" else set(self.stack.workers())

    def shell(self, *command):
        args = [str(CLI), "start-session", "--target", TARGET, "--login", USER, "--quiet", "--", *command]
        return args, self.stack.env()

    @contextlib.contextmanager
    def hold(self, count):
        """Idle sessions: what the relay holds. (Idle connections of one session are nothing to it.)"""
        swarms = []
        try:
            while count > 0:
                swarms.append(self.swarm(f"idle{len(swarms)}", min(count, SWARM_MAX)))
                count -= swarms[-1].sessions
            yield
        finally:
            for swarm in swarms:
                swarm.p.stdin.close()
            for swarm in swarms:
                swarm.p.wait(120)

    def swarm(self, name, sessions):
        swarm = Swarm(self.stack, min(sessions, 20), sessions, "--ping-ms", "600000", "--prefix", name, name=name)
        swarm.wait_up(600)
        return swarm

    def close(self):
        self.stack.close()


ALL = [Raw, Nginx, Haproxy, Stunnel, Bastion, Jump, Tunnel]
