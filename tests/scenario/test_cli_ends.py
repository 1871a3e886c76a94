"""Every way in which a session ends for its client: a sentence, an exit code of its own, no process left, the terminal as
it was. Each cause meets a forward, a stream on standard input and output, and an SSH session at once."""

import json
import os
import signal
import subprocess
import termios
import time
from datetime import datetime, timedelta, timezone

import pytest
from harness import LIMIT, USER, LineReader, TcpServer, children, echo_until_eof, send, wait_for
from terminal import Terminal
from test_refusals import jwt_stack  # noqa: F401


class Clients:
    """One of each kind, all of them up; first the one that takes its time."""

    def __init__(self, stack, *args):
        self.stack, self.all, self.args = stack, {}, ["start-session", "--target", "web-1", *args]
        dest = f"127.0.0.1:{TcpServer(echo_until_eof).port}"
        p = self.start("ssh", "--login", USER, "--", "echo up; cat >/dev/null", stdin=subprocess.PIPE)
        LineReader(p.stdout).wait("up")
        p = self.start("stdio", "--to", dest, stdin=subprocess.PIPE)
        p.stdin.write(b"up\n")
        p.stdin.flush()
        LineReader(p.stdout).wait("up")
        self.start("forward", "-L", f"0:{dest}")
        wait_for(self.three_are_up, "three sessions to be active", every=0.2)

    def start(self, kind, *args, **kw):
        p = self.all[kind] = self.stack.cli_popen(*self.args, *args, **kw)
        p.lines = LineReader(p.stderr)
        return p

    def three_are_up(self):
        sessions = self.stack.json("list-sessions", "--state", "active")
        self.ids = [s["id"] for s in sessions]
        return len(sessions) == 3 and all(s["attached"] == {"client": True, "target": True} for s in sessions)

    def end_with(self, code, words):
        for kind, p in self.all.items():
            assert p.wait(LIMIT) == code, (kind, p.returncode, p.lines.lines)
            wait_for(lambda p=p: p.lines.eof, "the last words")
            text = "\n".join(p.lines.lines)
            assert text.count(" is over") == 1, (kind, text)
            assert words in next(line for line in p.lines.lines if " is over" in line), (kind, text)


def test_ended_by_its_owner(stack):
    clients = Clients(stack)
    for session in clients.ids:
        stack.cli("terminate-session", session)
    clients.end_with(236, "ended by its owner dev")


def test_terminated_by_an_operator(stack):
    clients = Clients(stack)
    stack.write_credentials({stack.key_id: ("dev", stack.secret, []), "KOP": ("op", "the-secret-of-op-0123", [])})
    policy = {"Version": "2026-01-01", "Statement": [{"Effect": "Allow", "Principal": {"User": ["op"]}, "Action": ["tunnel:*"], "Resource": ["*"]}]}
    stack.cli("put-policy", "op", "-", input=json.dumps(policy))
    stack.server.kill(signal.SIGHUP)
    op = {"TUNNEL_KEY_ID": "KOP", "TUNNEL_SECRET": "the-secret-of-op-0123"}
    wait_for(lambda: stack.cli("whoami", check=False, **op).returncode == 0, "op to be known")
    for session in clients.ids:
        stack.cli("terminate-session", session, **op)
    clients.end_with(236, "op")


def test_revoked(stack):
    clients = Clients(stack)
    deny = {"Version": "2026-01-01", "Statement": [{"Sid": "Out", "Effect": "Deny", "Principal": "*", "Action": ["tunnel:Open*"], "Resource": ["*"]}]}
    stack.cli("put-policy", "freeze", "-", input=json.dumps(deny))
    clients.end_with(241, "policy no longer allows the session")


def test_target_deregistered(stack):
    clients = Clients(stack)
    stack.cli("deregister-target", "web-1")
    clients.end_with(243, "the target was deregistered")


def test_idle(bare):
    bare.conf = 'session: { idle_timeout = "6s"; };'
    bare.start_server()
    bare.start_agent()
    clients = Clients(bare)
    clients.end_with(239, "idle too long")
    for p in clients.all.values():
        assert "the session ends at" in "\n".join(p.lines.lines), "it was foretold"


def test_the_target_stays_away(bare):
    bare.conf = 'session: { detach_grace = "3s"; };'
    bare.start_server()
    agent = bare.start_agent()
    clients = Clients(bare)
    agent.proc.kill()
    send(signal.SIGKILL, bare.workers())
    clients.end_with(240, "nobody came back within the detach grace")
    assert "connection lost, resuming…" in "\n".join(clients.all["forward"].lines.lines)


def test_expired(jwt_stack):  # noqa: F811
    jwt_stack.server.stop()
    jwt_stack.conf = "session: { bind_to_identity = true; };"
    jwt_stack.auth = jwt_stack.auth.replace("audience =", 'leeway = "0s"; audience =')
    jwt_stack.start_server()
    jwt_stack.start_agent()
    jwt_stack.token(exp=int(time.time()) + 30)
    clients = Clients(jwt_stack, "--profile", "jwt")
    clients.end_with(238, "was not renewed")
    for p in clients.all.values():
        assert "\n".join(p.lines.lines).count("the session ends at") == 1, p.lines.lines


def test_the_server_never_comes_back(stack):
    clients = Clients(stack, "--give-up", "3s")
    stack.server.kill()
    clients.end_with(235, "not connected for 3 s")


def forbid_resuming(stack, **condition):
    deny = {"Sid": "Stay", "Effect": "Deny", "Principal": "*", "Action": ["tunnel:ResumeSession"], "Resource": ["*"], **condition}
    stack.cli("put-policy", "stay", "-", input=json.dumps({"Version": "2026-01-01", "Statement": [deny]}))


def test_forbidden_to_come_back(proxied):
    """Policy lets the session go on, but not from where its client comes back."""
    forbid_resuming(proxied, Condition={"IpAddress": {"tunnel:SourceIp": "127.0.0.2/32"}})
    clients = Clients(proxied)
    proxied.proxy.source = "127.0.0.2"
    proxied.proxy.cut()
    clients.end_with(232, "tunnel:ResumeSession")


def test_a_time_that_policy_names_comes(stack):
    clients = Clients(stack)
    soon = datetime.now(timezone.utc) + timedelta(seconds=2)
    forbid_resuming(stack, Condition={"DateGreaterThan": {"tunnel:CurrentTime": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}})
    clients.end_with(241, "tunnel:ResumeSession")


def test_revoked_in_an_outage(proxied):
    """It ends while its clients are away, and they hear of it from the control plane: the relay is out of reach."""
    clients = Clients(proxied)
    proxied.proxy.held = True
    proxied.proxy.cut()
    for p in clients.all.values():
        p.lines.wait("connection lost, resuming")
    forbid_resuming(proxied)
    clients.end_with(241, "tunnel:ResumeSession")


@pytest.fixture
def shell(stack):
    t = Terminal(stack, "start-session", "--target", "web-1", "--login", USER)
    t.type("echo mark-$((40+2))\n")
    t.until(rb"mark-42")
    yield t
    t.close()


def test_a_shell_that_is_terminated_leaves_the_terminal_as_it_was(stack, shell):
    (ssh,) = children(shell.pid)
    assert termios.tcgetattr(shell.fd) != shell.modes, "ssh has it in raw mode"
    stack.cli("terminate-session", stack.json("list-sessions")[0]["id"])
    shell.until(rb"\rtunnel-cli: session s-\S+ is over: ended by its owner dev\r+\n")
    assert shell.exit_code() == 236
    assert termios.tcgetattr(shell.fd) == shell.modes
    assert not os.path.exists(f"/proc/{ssh}")


def test_a_stopped_ssh_does_not_keep_an_ended_session(stack, shell):
    (ssh,) = children(shell.pid)
    os.kill(ssh, signal.SIGSTOP)
    stack.cli("terminate-session", stack.json("list-sessions")[0]["id"])
    assert shell.exit_code() == 236
    assert termios.tcgetattr(shell.fd) == shell.modes
    assert not os.path.exists(f"/proc/{ssh}")


def test_an_ssh_that_is_killed_leaves_the_terminal_as_it_was(stack, shell):
    (ssh,) = children(shell.pid)
    os.kill(ssh, signal.SIGKILL)
    assert shell.exit_code() == 128 + signal.SIGKILL
    assert termios.tcgetattr(shell.fd) == shell.modes
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)


def test_sigterm_ends_an_ssh_session(stack, shell):
    os.kill(shell.pid, signal.SIGTERM)
    assert shell.exit_code() == 128 + signal.SIGTERM
    assert termios.tcgetattr(shell.fd) == shell.modes
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)


def test_signals_show_the_state_and_reconnect_under_a_shell(stack, shell):
    os.kill(shell.pid, signal.SIGUSR1)
    shell.until(rb"\rtunnel: session s-\S+ to web-1: up for \d+ s, 1 stream, [^\r]*\r\n")
    os.kill(shell.pid, signal.SIGUSR2)
    shell.type("echo mark-$((50+5))\n")
    shell.until(rb"mark-55")
    shell.type("exit 3\n")
    assert shell.exit_code() == 3
