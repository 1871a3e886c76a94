"""A client is gone, another one comes back to the same session: resume-session, and what clients leave behind."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from harness import LIMIT, USER, LineReader, TcpServer, echo_until_eof, is_gone, wait_for
from test_forward import talk


def state_files(stack):
    return sorted((stack.folder / "cli-state" / "tunnel" / "sessions").glob("*.json"))


def session_of(stack):
    (session,) = stack.json("list-sessions")
    return session["id"]


def resume(stack, session, *args, n=1):
    """A running resume-session with n forwards; p.ports are the local ports."""
    p = stack.cli_popen("resume-session", session, *args)
    p.lines = LineReader(p.stderr)
    p.ports = [int(re.search(r":(\d+) for", p.lines.wait("listening on")).group(1)) for _ in range(n)]
    return p


def end(p, sig=signal.SIGINT):
    p.send_signal(sig)
    return p.wait(LIMIT)


def wait_ended(stack, session):
    return wait_for(lambda: (s := stack.json("describe-session", session))["state"] == "ended" and s, f"{session} to end", every=0.2)


def stop(pid):
    """SIGSTOP, until all threads of it stand."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all((t / "stat").read_text().rsplit(") ", 1)[1][0] == "T" for t in Path(f"/proc/{pid}/task").iterdir()), "the process to stop")


@pytest.fixture
def echo():
    server = TcpServer(echo_until_eof)
    yield server
    server.close()


def test_a_killed_client_is_followed_by_another(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(stack)
    (file,) = state_files(stack)
    assert file.name == f"{session}.json" and file.stat().st_mode & 0o777 == 0o600
    kept = json.loads(file.read_text())
    assert kept["target"] == "web-1" and kept["forwards"] == [f"127.0.0.1:{port}:127.0.0.1:{echo.port}"]
    assert stack.secret not in file.read_text() and "token" not in kept
    old = socket.create_connection(("127.0.0.1", port), LIMIT)
    p.kill()
    p.wait()
    q = resume(stack, session)
    assert q.ports == [port], "the local port is that of before"
    assert is_gone(old), "a connection of the old client"
    assert talk(port, b"two" * 100_000) == b"two" * 100_000
    assert session_of(stack) == session
    events = [r["event"] for r in stack.audit() if r.get("session") == session]
    assert events.count("session.start") == 1 and events.count("session.resume") == 1, events
    assert end(q) == 0
    assert state_files(stack) == []
    wait_ended(stack, session)


def test_the_client_that_still_runs_makes_way(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(stack)
    q = resume(stack, session)
    assert p.wait(LIMIT) == 242
    p.lines.wait("the session was resumed by another client")
    assert q.ports == [port]
    assert talk(port, b"two") == b"two"
    assert len(state_files(stack)) == 1, "the file is the new client's now"
    third = resume(stack, session, "-L", f"0:127.0.0.1:{echo.port}")
    assert q.wait(LIMIT) == 242
    assert talk(third.ports[0], b"three") == b"three"
    assert end(third) == 0


def test_the_client_that_was_cut_off_is_told_when_it_comes_back(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(stack)
    stop(p.pid)
    try:
        q = resume(stack, session, "-L", f"0:127.0.0.1:{echo.port}")
        assert talk(q.ports[0], b"two") == b"two"
    finally:
        p.send_signal(signal.SIGCONT)
    assert p.wait(LIMIT) == 242
    assert len(state_files(stack)) == 1, "it is the new client's"
    assert talk(q.ports[0], b"three") == b"three"
    assert end(q) == 0


def test_the_client_that_is_cut_off_hears_it_from_the_control_plane(proxied, echo):
    """The relay is out of reach."""
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(proxied)
    proxied.proxy.held = True
    proxied.proxy.cut()
    p.lines.wait("connection lost")
    q = resume(proxied, session)
    assert p.wait(LIMIT) == 242
    p.lines.wait("the session was resumed by another client")
    assert len(state_files(proxied)) == 1, "it is the new client's"
    proxied.proxy.held = False
    assert q.ports == [port] and talk(port, b"two") == b"two"
    assert end(q) == 0


def test_the_old_clients_port_is_waited_for(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    session = session_of(stack)
    stop(p.pid)
    try:
        q = stack.cli_popen("resume-session", session)
        q.lines = LineReader(q.stderr)
        wait_for(lambda: "session.resume" in [r["event"] for r in stack.audit()], "the session to be taken over")
    finally:
        p.send_signal(signal.SIGCONT)
    q.lines.wait(f"listening on 127.0.0.1:{port} for")
    assert p.wait(LIMIT) == 242
    assert talk(port, b"two") == b"two"
    assert end(q) == 0


def test_a_taken_port_leaves_the_session_for_another_try(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    session = session_of(stack)
    p.kill()
    p.wait()
    with socket.create_server(("127.0.0.1", port)):
        r = stack.cli("resume-session", session, check=False)
        assert r.returncode == 230, r.stderr
        assert str(port) in r.stderr and "in use" in r.stderr and f"resume-session {session}" in r.stderr
    q = resume(stack, session)
    assert talk(q.ports[0], b"still there") == b"still there"
    assert end(q) == 0


def test_a_taken_port_starts_no_session(stack, echo):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        r = stack.cli("start-session", "--target", "web-1", "-L", f"{port}:127.0.0.1:{echo.port}", check=False)
    assert r.returncode == 230 and "in use" in r.stderr
    assert stack.json("list-sessions") == []


def test_without_a_file_the_forwards_are_asked_for(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    session = session_of(stack)
    p.kill()
    p.wait()
    state_files(stack)[0].unlink()
    r = stack.cli("resume-session", session, check=False)
    assert r.returncode == 2 and f"127.0.0.1:{echo.port}" in r.stderr and "--port-forward" in r.stderr
    r = stack.cli("resume-session", session, "-L", "0:127.0.0.1:1", check=False)
    assert r.returncode == 2 and "allows" in r.stderr and f"127.0.0.1:{echo.port}" in r.stderr
    q = resume(stack, session, "-L", f"0:127.0.0.1:{echo.port}")
    assert talk(q.ports[0], b"x") == b"x"
    assert end(q) == 0


def test_what_cannot_be_resumed(stack, echo):
    p = stack.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "echo up; cat >/dev/null", stdin=subprocess.PIPE)
    LineReader(p.stdout).wait("up")
    ssh = session_of(stack)
    r = stack.cli("resume-session", ssh, check=False)
    assert r.returncode == 1 and "SSH session" in r.stderr and "start-session --target web-1" in r.stderr
    stack.cli("terminate-session", ssh)
    p.wait(LIMIT)

    r = stack.cli("resume-session", "s-nosuchsession", check=False)
    assert r.returncode == 233 and "list-sessions" in r.stderr
    r = stack.cli("resume-session", check=False)
    assert r.returncode == 2 and "SESSION" in r.stderr

    p, _ = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    session = session_of(stack)
    p.kill()
    p.wait()
    (file,) = state_files(stack)
    stack.cli("terminate-session", session)
    r = stack.cli("resume-session", session, check=False)
    assert r.returncode == 236 and "has ended: ended by its owner dev" in r.stderr and "start-session" in r.stderr
    assert not file.exists(), "a stale file goes when it is met"


def test_somebody_elses_session(stack, echo):
    p, _ = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    session = session_of(stack)
    stack.write_credentials({stack.key_id: ("dev", stack.secret, []), "KEVE": ("eve", "the-secret-of-eve-0123", [])})
    everything = {"Version": "2026-01-01", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["tunnel:*"], "Resource": ["*"]}]}
    stack.cli("put-policy", "all", "-", input=json.dumps(everything))
    stack.server.kill(signal.SIGHUP)
    eve = {"TUNNEL_KEY_ID": "KEVE", "TUNNEL_SECRET": "the-secret-of-eve-0123"}
    wait_for(lambda: stack.cli("whoami", check=False, **eve).returncode == 0, "eve to be known")
    assert stack.cli("describe-session", session, **eve).returncode == 0
    r = stack.cli("resume-session", session, "-L", f"0:127.0.0.1:{echo.port}", check=False, **eve)
    assert r.returncode == 233, r.stderr
    assert p.poll() is None


def test_an_offline_target_keeps_the_session(stack, echo):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(stack)
    p.kill()
    p.wait()
    agent = stack.agents["web-1"]
    agent.proc.kill()
    agent.proc.p.wait()
    wait_for(lambda: stack.json("describe-target", "web-1")["state"] == "disconnected", "the agent to be seen as gone")
    r = stack.cli("resume-session", session, check=False)
    assert r.returncode == 234 and "offline" in r.stderr and "stays" in r.stderr, r.stderr
    agent.restart()
    stack.wait_connected("web-1")
    q = resume(stack, session)
    assert talk(q.ports[0], b"two") == b"two"
    assert end(q) == 0


def test_interrupted_before_the_first_leg(proxied, echo):
    """The session was made but no leg came through: Ctrl-C ends it, and nothing is left on the server."""
    proxied.proxy.held = True
    p = proxied.cli_popen("start-session", "--target", "web-1", "-L", f"0:127.0.0.1:{echo.port}")
    p.lines = LineReader(p.stderr)
    p.lines.wait("listening on")
    session = session_of(proxied)
    assert proxied.json("describe-session", session)["state"] == "starting"
    assert end(p) == 0
    assert wait_ended(proxied, session)["end"]["code"] == 4000
    assert state_files(proxied) == []


def test_interrupted_in_an_outage(proxied, echo):
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    session = session_of(proxied)
    proxied.proxy.held = True
    proxied.proxy.cut()
    p.lines.wait("connection lost")
    gone = {"client": False, "target": False}
    wait_for(lambda: proxied.json("describe-session", session)["attached"] == gone, "both legs to be gone", every=0.1)
    assert end(p) == 0
    assert wait_ended(proxied, session)["end"]["code"] == 4000


def test_a_second_interrupt_leaves_at_once(stack, echo):
    """The server answers nothing any more: the first Ctrl-C tries to say goodbye, the second does not wait for it."""
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    assert talk(port, b"one") == b"one"
    stop(stack.server.pid)
    try:
        p.send_signal(signal.SIGINT)
        p.lines.wait("again leaves at once")
        p.send_signal(signal.SIGINT)
        assert p.wait(LIMIT) == 130
    finally:
        stack.server.kill(signal.SIGCONT)
