"""Legs drop, the relay dies, the supervisor dies: the session's applications see a pause."""

import hashlib
import os
import signal
import socket
import subprocess
import threading

from harness import LIMIT, USER, LineReader, TcpServer, wait_for


def slow_hash(c):
    """Reads to the end, answers the digest."""
    h = hashlib.sha256()
    while data := c.recv(65536):
        h.update(data)
    c.sendall(h.hexdigest().encode())


def push(port, total, on_progress=lambda sent: None):
    """Sends total random bytes; returns (digest sent, digest the far side saw)."""
    h, sent = hashlib.sha256(), 0
    block = os.urandom(1 << 20)
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        while sent < total:
            part = block[: min(len(block), total - sent)]
            s.sendall(part)
            h.update(part)
            sent += len(part)
            on_progress(sent)
        s.shutdown(socket.SHUT_WR)
        return h.hexdigest(), b"".join(iter(lambda: s.recv(4096), b"")).decode()


def test_legs_cut_again_and_again(proxied):
    server = TcpServer(slow_hash)
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{server.port}")
    cuts = []

    def cut(sent):
        if sent % (4 << 20) == 0 and len(cuts) < 8:
            cuts.append(proxied.proxy.cut())

    mine, theirs = push(port, 40 << 20, cut)
    assert mine == theirs
    assert len(cuts) == 8 and sum(cuts) >= 8
    p.lines.wait("resumed after")


def test_relay_killed_and_restarted(stack):
    server = TcpServer(slow_hash)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{server.port}")
    kills = []

    def kill(sent):
        if sent in (8 << 20, 20 << 20):
            stack.server.kill()
            stack.server.p.wait()
            stack.start_server()
            kills.append(sent)

    mine, theirs = push(port, 32 << 20, kill)
    assert mine == theirs and len(kills) == 2
    p.lines.wait("resumed after")
    assert [s["state"] for s in stack.json("list-sessions")] == ["active"]


def test_supervisor_killed_and_restarted(stack):
    p = stack.cli_popen(
        "start-session", "--target", "web-1", "--login", USER, "--", "while read x; do echo got $x; done", stdin=subprocess.PIPE
    )
    out, err = LineReader(p.stdout), LineReader(p.stderr)

    def say(word):
        p.stdin.write(word + b"\n")
        p.stdin.flush()
        out.wait("got " + word.decode())

    say(b"one")
    agent = stack.agents["web-1"]
    agent.proc.kill()
    agent.proc.p.wait()
    say(b"two")
    agent.restart()
    stack.wait_connected("web-1")
    say(b"three")
    p.stdin.close()
    assert p.wait(LIMIT) == 0
    wait_for(lambda: stack.json("list-sessions", "--state", "ended"), "the session to end")
    wait_for(lambda: err.eof, "the end of what it says")
    assert not [line for line in err.lines if "lost" in line or "resum" in line], err.lines


def test_terminate_ends_it_at_both_ends(stack):
    p = stack.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "echo up; cat >/dev/null", stdin=subprocess.PIPE)
    LineReader(p.stdout).wait("up")
    session = stack.json("list-sessions")[0]
    assert session["attached"] == {"client": True, "target": True}
    workers = set(stack.worker_pids()) - {stack.agents["web-1"].proc.pid}
    stack.cli("terminate-session", session["id"])
    assert p.wait(LIMIT) == 236
    assert "ended by its owner dev" in p.stderr.read().decode()
    wait_for(lambda: not (set(stack.worker_pids()) & workers), "the worker to be gone")
    ended = stack.json("describe-session", session["id"])
    assert (ended["state"], ended["end"]["code"]) == ("ended", 4000)
    assert [r["event"] for r in stack.audit() if r.get("session") == session["id"]].count("session.end") == 1


def test_server_drains_on_sigterm(stack):
    p = stack.cli_popen(
        "start-session", "--target", "web-1", "--login", USER, "--", "while read x; do echo got $x; done", stdin=subprocess.PIPE
    )
    out = LineReader(p.stdout)
    p.stdin.write(b"one\n")
    p.stdin.flush()
    out.wait("got one")
    assert stack.server.stop() == 0
    stack.start_server()
    p.stdin.write(b"two\n")
    p.stdin.flush()
    out.wait("got two")
    p.stdin.close()
    assert p.wait(LIMIT) == 0


def test_sighup_reloads_credentials_and_policies(stack):
    stack.write_credentials({stack.key_id: ("dev", stack.secret, []), "KNEW": ("ann", "new-secret-of-ann-0123", [])})
    stack.server.kill(signal.SIGHUP)
    who = {"TUNNEL_KEY_ID": "KNEW", "TUNNEL_SECRET": "new-secret-of-ann-0123"}
    wait_for(lambda: stack.cli("whoami", check=False, **who).returncode == 0, "ann to be known")
    assert stack.cli("list-targets", "--output", "json", check=False, **who).stdout.strip() == "[]"
    policy = stack.folder / "policies" / "ann.json"
    policy.write_text(
        '{"Version":"2026-01-01","Statement":[{"Effect":"Allow","Principal":{"User":["ann"]},'
        '"Action":["tunnel:ListTargets"],"Resource":["*"]}]}'
    )
    stack.server.kill(signal.SIGHUP)
    wait_for(lambda: "web-1" in stack.cli("list-targets", **who).stdout, "ann's policy to be in force")


def test_a_policy_change_ends_what_it_no_longer_allows(bare):
    import json

    import harness

    bare.start_server()
    bare.start_agent()
    p = bare.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "echo up; cat >/dev/null", stdin=subprocess.PIPE)
    LineReader(p.stdout).wait("up")
    deny = {
        "Version": "2026-01-01",
        "Statement": [{"Sid": "Out", "Effect": "Deny", "Principal": "*", "Action": ["tunnel:OpenSsh"], "Resource": ["*"]}],
    }
    bare.cli("put-policy", "freeze", "-", input=json.dumps(deny))
    assert p.wait(LIMIT) == 241
    assert "polic" in p.stderr.read().decode()
    assert bare.cli("start-session", "--target", "web-1", "--login", USER, "--", "true", check=False).returncode == 232


def test_sighup_says_what_it_does_not_change(stack):
    conf = stack.folder / "server.conf"
    stack.server.kill(signal.SIGHUP)
    stack.server.wait_log("msg=reloaded")
    assert "needs a restart" not in stack.server.text()
    conf.write_text(conf.read_text().replace('advertise_url = "https://', 'workers = 7; advertise_url = "https://other-'))
    stack.server.kill(signal.SIGHUP)
    stack.server.wait_log("changed, but needs a restart (sessions go on over it): advertise_url, workers")
