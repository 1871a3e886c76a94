"""What a session's certificate says, by ssh-keygen; and that sshd refuses whatever it does not say."""

import datetime
import json
import os
import re
import socket
import subprocess

import pytest
from harness import CLI, LIMIT, USER, LineReader, Proc, TcpServer, echo_until_eof, free_port, wait_for

FORWARDS = ["permit-agent-forwarding", "permit-port-forwarding"]


def allow(*actions, **more):
    return {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": [f"tunnel:{a}" for a in actions], "Resource": ["*"], **more}


def write_policy(stack, *statements):
    (stack.folder / "policies" / "base.json").write_text(json.dumps({"Version": "2026-01-01", "Statement": list(statements)}))


ALL = allow("*")
# Logins, and TCP to one port: not to every one.
LOGINS = [allow("StartSession", "OpenSsh", "ListTargets", "DescribeSessions", "EnrollTarget", "ReadAudit", "GetPolicy", "PutPolicy")]
LOGINS += [allow("OpenTcp", Condition={"NumericEquals": {"tunnel:Port": [5432]}})]


class Session:
    """One that lasts until it is closed, with an agent that holds its certificate."""

    def __init__(self, stack, target="web-1"):
        self.stack, self.dir = stack, stack.folder / "ssh"
        args = ["start-session", "--stdio", "--ssh-dir", self.dir, "--login", USER, "--target", target]
        self.p = stack.cli_popen(*args, stdin=subprocess.PIPE)
        LineReader(self.p.stdout).wait("SSH-2.0")
        (self.session,) = stack.json("list-sessions", "--state", "active")

    def certificate(self):
        """{"Serial": "…", "Principals": ["…"], …} as ssh-keygen prints it."""
        env = self.stack.env(SSH_AUTH_SOCK=str(self.dir / "agent"))
        line = subprocess.run(["ssh-add", "-L"], env=env, capture_output=True, text=True, check=True).stdout
        (self.stack.folder / "session-cert.pub").write_text(line)
        text = subprocess.run(["ssh-keygen", "-L", "-f", self.stack.folder / "session-cert.pub"], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in text.splitlines()[1:]:
            name, colon, value = line.strip().partition(":")
            if line.startswith(" " * 16):
                found[last].append(line.strip())
            else:
                last = name
                found[name] = value.strip() if value.strip() not in ("", "(none)") else []
        return found

    def close(self):
        self.p.stdin.close()
        assert self.p.wait(LIMIT) == 0


def ssh_options(known_hosts):
    return [
        "-F", "/dev/null", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=web-1",
    ]  # fmt: skip


def through_us(stack, *args):
    """A plain ssh over a session of its own."""
    ssh_dir = stack.folder / "ssh"
    proxy = f"{CLI} start-session --stdio --ssh-dir {ssh_dir} --login {USER} --target web-1"
    return ["ssh", *ssh_options(ssh_dir / "known_hosts"), "-o", f"ProxyCommand={proxy}", "-o", f"IdentityAgent={ssh_dir}/agent", *args]


@pytest.mark.parametrize("policy, forwards", [([ALL], FORWARDS), (LOGINS, [])])
def test_what_a_certificate_says(bare, policy, forwards):
    write_policy(bare, *policy)
    bare.start_server()
    bare.start_agent()
    s = Session(bare)
    said = s.certificate()
    (started,) = [r for r in bare.audit() if r["event"] == "session.start"]
    assert said["Type"] == "ssh-ed25519-cert-v01@openssh.com user certificate"
    assert said["Key ID"] == f'"{s.session["id"]}"' and started["session"] == s.session["id"]
    assert said["Serial"] == started["ssh_serial"]
    assert said["Principals"] == [USER, f"{USER}@web-1"]
    assert said["Critical Options"] == ["source-address 127.0.0.0/8,::1/128"]
    assert said["Extensions"] == [*forwards, "permit-pty"]
    begin, end = (datetime.datetime.fromisoformat(t) for t in re.findall(r"\d{4}-\S+", said["Valid"]))
    assert end - begin == datetime.timedelta(minutes=11), "ten, and one for clocks"
    ca = (bare.agents["web-1"].folder / "state" / "ssh_ca.pub").read_text()
    listed = subprocess.run(["ssh-keygen", "-lf", "-"], input=ca, capture_output=True, text=True, check=True).stdout.split()
    assert listed[1] in said["Signing CA"]
    s.close()


def test_serials_are_no_two_sessions(bare):
    bare.start_server()
    bare.start_agent()
    for _ in range(3):
        bare.cli("start-session", "--target", "web-1", "--login", USER, "--", "true")
    serials = {r["ssh_serial"] for r in bare.audit() if r["event"] == "session.start"}
    assert len(serials) == 3
    accepted = re.findall(r"\(serial (\d+)\)", bare.agents["web-1"].proc.text())
    assert set(accepted) == serials, "sshd's log has them"


def network_address():
    """One of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("198.51.100.1", 9))
        except OSError:
            return None
        address = s.getsockname()[0]
    return None if address.startswith("127.") else address


@pytest.fixture
def address():
    return network_address() or pytest.skip("needs an address that is not loopback")


def start_daemon(stack, agent, host):
    """An sshd that trusts the CA for bare logins, as somebody else's machine might."""
    port = free_port()
    key = stack.folder / "daemon_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    lines = [f"ListenAddress {host}:{port}", f"ListenAddress 127.0.0.1:{port}", f"HostKey {key}", f"TrustedUserCAKeys {agent.folder}/state/ssh_ca.pub"]
    lines += ["AuthorizedKeysFile none", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PidFile none", "StrictModes no"]
    (stack.folder / "sshd_config").write_text("\n".join(lines) + "\n")
    os.makedirs("/run/sshd", exist_ok=True)
    daemon = Proc(["/usr/sbin/sshd", "-D", "-e", "-f", stack.folder / "sshd_config"], stack.folder / "sshd.log")
    stack.procs.append(daemon)
    daemon.wait_log("Server listening on 127.0.0.1")
    (stack.folder / "known").write_text("web-1 " + key.with_suffix(".pub").read_text())
    return daemon, port


def test_a_stolen_certificate_opens_no_machine_on_the_network(bare, address):
    """Key and certificate are in the wrong hands while they are valid, and a machine trusts the CA for any login."""
    bare.start_server()
    daemon, port = start_daemon(bare, bare.start_agent(), address)
    s = Session(bare)

    def login(host):
        args = ["ssh", *ssh_options(bare.folder / "known"), "-o", f"IdentityAgent={s.dir}/agent", "-p", str(port), f"{USER}@{host}", "echo in"]
        return subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, env=bare.env())

    assert login("127.0.0.1").stdout == "in\n", "it is a good one" + daemon.text()
    r = login(address)
    assert (r.returncode, r.stdout) == (255, "") and "Permission denied" in r.stderr, r.stderr
    daemon.wait_log("not from a permitted source address")
    s.close()


def test_an_agent_whose_daemon_is_not_on_loopback(bare, address):
    """It says so, also when its settings are changed, and the certificates are such that its daemon takes them."""
    bare.start_server()
    agent = bare.start_agent()
    daemon, port = start_daemon(bare, agent, address)
    conf = agent.folder / "agent.conf"
    before = conf.read_text()
    for host, options in ((address, []), ("127.0.0.1", ["source-address 127.0.0.0/8,::1/128"])):
        conf.write_text(before + f'ssh = "{host}:{port}";\n')
        seen = len([r for r in bare.audit() if r["event"] == "agent.connect"])
        agent.proc.kill(1)
        agent.proc.wait_log("settings read again")
        wait_for(lambda: len([r for r in bare.audit() if r["event"] == "agent.connect"]) > seen, "its next hello", every=0.1)
        s = Session(bare)
        assert s.certificate()["Critical Options"] == options
        logins = daemon.text().count("Accepted publickey")
        args = ["ssh", *ssh_options(bare.folder / "known"), "-o", f"IdentityAgent={s.dir}/agent", "-p", str(port), f"{USER}@{host}", "true"]
        assert subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, env=bare.env()).returncode == 0
        assert daemon.text().count("Accepted publickey") == logins + 1
        s.close()


def forwarded(stack, port):
    """(what came back through sshd, ssh's words)"""
    r = subprocess.run(through_us(stack, "-W", f"127.0.0.1:{port}", f"{USER}@web-1"), input="ping\n", capture_output=True, text=True, timeout=LIMIT, env=stack.env())
    return r.stdout, r.stderr


def test_sshd_forwards_for_whom_policy_allows_every_endpoint(bare):
    """And for nobody else: what policy says of endpoints cannot be got round by a login."""
    echo = TcpServer(echo_until_eof)
    write_policy(bare, ALL)
    bare.start_server()
    bare.start_agent()
    assert forwarded(bare, echo.port)[0] == "ping\n"
    agent_there = through_us(bare, "-A", f"{USER}@web-1", "echo ${SSH_AUTH_SOCK:+there}")

    def has_agent():
        sock = bare.folder / "ssh" / "agent"
        return subprocess.run(agent_there, env=bare.env(SSH_AUTH_SOCK=str(sock)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT).stdout

    assert has_agent() == "there\n"
    live = subprocess.Popen(through_us(bare, f"{USER}@web-1", "echo up; cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bare.env())
    bare.procs.append(live)
    LineReader(live.stdout).wait("up")
    write_policy(bare, *LOGINS)
    bare.server.kill(1)
    assert live.wait(LIMIT) != 0, "an sshd that may forward does not go on when that is taken away"
    out, words = forwarded(bare, echo.port)
    assert out == "" and "administratively prohibited" in words, words
    assert has_agent() == "\n"
    echo.close()


def test_the_agent_keeps_to_the_grant_whatever_a_certificate_says(bare):
    """One that somebody with the CA's key made, to forward from anywhere."""
    echo = TcpServer(echo_until_eof)
    write_policy(bare, *LOGINS)
    bare.start_server()
    bare.start_agent()
    key = bare.folder / "forged"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-keygen", "-q", "-s", bare.folder / "state" / "ssh_ca", "-I", "forged", "-n", USER, f"{key}.pub"], check=True)
    args = [a for a in through_us(bare) if not a.startswith("IdentityAgent=")]
    args = [*args[:-1], "-o", "IdentityAgent=none", "-i", key, f"{USER}@web-1"]
    run = {"capture_output": True, "text": True, "timeout": LIMIT, "env": bare.env()}
    assert subprocess.run([*args, "echo in"], stdin=subprocess.DEVNULL, **run).stdout == "in\n"
    r = subprocess.run([*args[:-1], "-W", f"127.0.0.1:{echo.port}", args[-1]], input="ping\n", **run)
    assert r.stdout == "" and "administratively prohibited" in r.stderr, r.stderr
    echo.close()
