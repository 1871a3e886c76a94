"""The supervisor dies, is upgraded, is away: its sessions notice nothing, and can still be ended."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest
from harness import AGENT, LIMIT, USER, TcpServer, echo_until_eof, is_gone, wait_for, workers_of

MIB = 1 << 20


def workers(agent):
    return workers_of(agent.folder / "run")


def leg_events(stack):
    """Attaches and detaches of legs: as many as before means the same epoch."""
    return [r["event"] for r in stack.audit() if r["event"] in ("session.attach", "session.detach")]


def kill_supervisor(agent):
    agent.proc.kill()
    agent.proc.p.wait()


def talk(s, word):
    s.sendall(word)
    assert s.recv(100) == word


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), LIMIT)
    s.settimeout(LIMIT)
    return s


def session(stack):
    (one,) = stack.json("list-sessions")
    return one


def test_a_transfer_goes_on_without_a_supervisor(stack):
    """All but the first bytes, and the end, while there is none."""
    agent = stack.agents["web-1"]
    p = stack.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "sha256sum", stdin=subprocess.PIPE)
    h, block = hashlib.sha256(), os.urandom(MIB)

    def push(n):
        for _ in range(n):
            p.stdin.write(block)
            h.update(block)
        p.stdin.flush()

    push(8)  # more than the pipes hold: the transfer is under way
    before = leg_events(stack)
    kill_supervisor(agent)
    push(64)
    assert leg_events(stack) == before and workers(agent)
    p.stdin.close()
    assert p.stdout.read().decode().split()[0] == h.hexdigest()
    assert p.wait(LIMIT) == 0
    wait_for(lambda: not workers(agent), "the worker to be gone")
    agent.restart()
    wait_for(lambda: any(r["event"] == "stream.close" for r in stack.audit()), "the transfer in the audit log", every=0.1)
    (closed,) = [r for r in stack.audit() if r["event"] == "stream.close"]
    assert closed["bytes_in"] > 72 * MIB


def test_upgrade_over_a_live_session(bare):
    """systemd's way with KillMode=process: the file is replaced, SIGTERM, a new one from the same path."""
    stack = bare
    stack.start_server()
    program = stack.folder / "tunnel-agent"
    shutil.copy(AGENT, program)
    agent = stack.start_agent(wait=False)
    agent.proc.stop()
    agent.proc.args[0] = str(program)
    agent.restart()
    stack.wait_connected("web-1")
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    s = connect(port)
    talk(s, b"one")
    before, old, (worker,) = leg_events(stack), agent.proc, workers(agent)

    shutil.copy(AGENT, stack.folder / "new")
    os.rename(stack.folder / "new", program)
    assert agent.proc.stop() == 0
    talk(s, b"alone")
    with connect(port) as other:
        talk(other, b"opened while nobody was there")
    agent.restart()
    stack.wait_connected("web-1")
    agent.proc.wait_log("worker adopted")
    assert os.readlink(f"/proc/{worker}/exe").endswith("(deleted)") and agent.proc.pid != old.pid
    talk(s, b"two")
    assert workers(agent) == [worker] and leg_events(stack) == before
    assert session(stack)["state"] == "active" and session(stack)["attached"] == {"client": True, "target": True}
    wait_for(lambda: sum(r["event"] == "stream.open" for r in stack.audit()) == 2, "both streams in the audit log", every=0.1)
    wait_for(lambda: any(r["event"] == "stream.close" for r in stack.audit()), "the end of the second one", every=0.1)

    stack.cli("terminate-session", session(stack)["id"])
    agent.proc.wait_log("session over (4000)")  # by the worker
    assert p.wait(LIMIT) != 0
    wait_for(lambda: not workers(agent), "the worker to be gone")
    wait_for(lambda: os.listdir(agent.folder / "run") == [], "its files to be gone")


def terminate(stack):
    stack.cli("terminate-session", session(stack)["id"])
    return 4000  # by its owner


def revoke(stack):
    none = {"Version": "2026-01-01", "Statement": [{"Sid": "No", "Effect": "Deny", "Principal": {"User": ["dev"]}, "Action": ["tunnel:OpenTcp"], "Resource": ["*"]}]}
    (stack.folder / "no.json").write_text(json.dumps(none))
    stack.cli("put-policy", "no", stack.folder / "no.json")
    return 4007


@pytest.mark.parametrize("end", [terminate, revoke])
def test_a_session_ends_without_a_supervisor(stack, end):
    agent = stack.agents["web-1"]
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    s = connect(port)
    talk(s, b"one")
    kill_supervisor(agent)
    code = end(stack)
    assert p.wait(LIMIT) != 0
    assert is_gone(s)
    wait_for(lambda: not workers(agent), "the worker to be gone")
    assert f"session over ({code})" in (agent.folder / "log").read_text()


@pytest.mark.parametrize("end", [terminate, revoke])
def test_a_worker_that_was_away_is_told_when_it_comes_back(proxied, end):
    agent = proxied.agents["web-1"]
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    s = connect(port)
    talk(s, b"one")
    kill_supervisor(agent)
    proxied.proxy.held = True
    proxied.proxy.cut()
    wait_for(lambda: session(proxied)["attached"] == {"client": False, "target": False}, "both legs to be down", every=0.1)
    end(proxied)
    # It comes back all the time: by the relay it knows, which is out of reach, and by the control plane.
    wait_for(lambda: not workers(agent), "the worker to be gone")
    assert "session over" in (agent.folder / "log").read_text()
    assert p.wait(LIMIT) != 0


def test_a_restarted_server_is_told_of_all_sessions(stack):
    ends = [stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}") for _ in range(3)]
    streams = [connect(ports[0]) for _, ports in ends]
    for s in streams:
        talk(s, b"one")
    stack.server.kill()
    stack.server.p.wait()
    stack.start_server()
    stack.wait_connected("web-1")
    for s in streams:
        talk(s, b"two")
    assert len(workers(stack.agents["web-1"])) == 3
    assert [x["state"] for x in stack.json("list-sessions")] == ["active"] * 3
