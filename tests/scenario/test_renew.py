"""A session that ends with its credential (session.bind_to_identity) lives on under fresh ones, as long as there are any."""

import datetime
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from harness import USER, LineReader, TcpServer, echo_until_eof, wait_for, write_secret
from test_refusals import jwt_stack  # noqa: F401

LIFE_S = 12  # of a token


@pytest.fixture
def bound(jwt_stack):  # noqa: F811
    s = jwt_stack
    s.server.stop()
    s.conf = "session: { bind_to_identity = true; };"
    s.auth = s.auth.replace("audience =", 'leeway = "0s"; audience =')
    s.start_server()
    s.start_agent()
    s.echo = TcpServer(echo_until_eof)
    s.token(exp=int(time.time()) + LIFE_S)
    yield s
    s.echo.close()


def replace_token(stack, **claims):
    """At once: clients read it at any time."""
    write_secret(stack.folder / "token.new", stack.mint(**claims))
    os.rename(stack.folder / "token.new", stack.folder / "token")


@pytest.fixture
def issuer(bound):
    """It puts a new token in place every few seconds."""
    stop = threading.Event()

    def issue():
        n = 0
        while not stop.wait(3):
            n += 1
            replace_token(bound, exp=int(time.time()) + LIFE_S, jti=f"t-{n}")

    thread = threading.Thread(target=issue, daemon=True)
    thread.start()
    yield bound
    stop.set()
    thread.join()


def start(stack, *args, **kw):
    p = stack.cli_popen("start-session", "--profile", "jwt", "--target", "web-1", *args, **kw)
    p.lines = LineReader(p.stderr)
    return p


def listening(p):
    p.port = int(p.lines.wait("listening on").split(" for ")[0].rsplit(":", 1)[1])
    return p


def forward(stack):
    return listening(start(stack, "--port-forward", f"0:127.0.0.1:{stack.echo.port}"))


def active(stack):
    return {s["id"]: s for s in stack.json("list-sessions", "--state", "active")}


def the_session(stack):
    (session,) = active(stack).values()
    return session


def is_past(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) < datetime.datetime.now(datetime.timezone.utc)


def events(stack, name):
    return [a for a in stack.audit() if a["event"] == name]


def exchange(c, text):
    c.sendall(text)
    got = b""
    while len(got) < len(text):
        part = c.recv(65536)
        assert part, "the connection was closed"
        got += part
    assert got == text


def end(p):
    p.terminate()
    assert p.wait(60) == 0


def test_all_kinds_outlive_their_first_token(issuer):
    """And more of them: byte for byte, on the streams that were opened under the first one."""
    s = issuer
    ssh = start(s, "--login", USER, "--", "cat", stdin=subprocess.PIPE)
    stdio = start(s, "--to", f"127.0.0.1:{s.echo.port}", stdin=subprocess.PIPE)
    fwd = forward(s)
    conn = socket.create_connection(("127.0.0.1", fwd.port))
    exchange(conn, b"before")
    first = wait_for(lambda: len(active(s)) == 3 and active(s), "all three to be active", every=0.2)
    assert all(x["identity_expires_at"] == x["expires_at"] for x in first.values()), first

    def renewed_twice():
        now = active(s)
        assert now.keys() == first.keys(), first.keys() - now.keys()
        renewals = [a["session"] for a in events(s, "session.renew")]
        return all(renewals.count(i) >= 2 and is_past(x["expires_at"]) for i, x in first.items())

    wait_for(renewed_twice, "the first tokens to be over", every=0.5)
    exchange(conn, b"after " * 1000)
    for p in (ssh, stdio):
        p.stdin.write(b"still here\n")
        p.stdin.flush()
        assert p.stdout.readline() == b"still here\n"
        p.stdin.close()
        assert p.wait(60) == 0
    conn.close()
    end(fwd)
    for p in (ssh, stdio, fwd):
        assert "could not be renewed" not in "\n".join(p.lines.lines)


def test_a_token_command_is_asked_again_and_stays_off_the_terminal(bound):
    s = bound
    asked = s.folder / "asked"
    command = f"echo x >> {asked}; echo noise >&2; cat; cat {s.folder}/token"
    s.write_profile("command", f'auth = "jwt"; token_command = "{command}";')
    p = s.cli_popen("start-session", "--profile", "command", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{s.echo.port}")
    p.lines = LineReader(p.stderr)
    listening(p)
    wait_for(lambda: active(s), "the session", every=0.2)
    ends = the_session(s)["expires_at"]
    replace_token(s, exp=int(time.time()) + 600)
    wait_for(lambda: the_session(s)["expires_at"] > ends, "the renewal", every=0.2)
    assert len(asked.read_text().splitlines()) >= 2
    end(p)
    assert "\n".join(p.lines.lines).count("noise") == 1, "only when it was started"


def test_a_session_of_a_key_that_does_not_expire_is_as_it_was(bound):
    s = bound
    p, _ = s.forward("web-1", f"127.0.0.1:{s.echo.port}")
    wait_for(lambda: active(s), "the session", every=0.2)
    before = the_session(s)
    assert before["identity_expires_at"] is None
    call = ["curl", "-sS", "--fail-with-body", "--cacert", f"{s.folder}/tls/ca.pem", "-X", "POST", "--aws-sigv4", "aws:amz:default:tunnel"]
    call += ["--user", f"{s.key_id}:{s.secret}", f"{s.url}/v1/sessions/{before['id']}/renew"]
    after = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)["session"]
    assert after["expires_at"] == before["expires_at"]
    end(p)


def test_without_anything_fresh_it_ends_and_that_is_told_once(bound):
    p = forward(bound)
    assert p.wait(90) == 238
    wait_for(lambda: p.lines.eof, "the last line")
    said = "\n".join(p.lines.lines)
    assert said.count("could not be renewed") == 1, said
    assert "no credential that lasts longer" in said
    assert "is over: the credential that the session is bound to expired and was not renewed" in said
    (ended,) = events(bound, "session.end")
    assert ended["code"] == 4004 and "was not renewed" in ended["reason"]


def test_somebody_elses_token_renews_nothing(bound):
    """Of the same provider, even allowed everything: to him the session does not exist, and it ends with its own token."""
    s = bound
    everyone = {"Sid": "E", "Effect": "Allow", "Principal": "*", "Action": ["tunnel:*"], "Resource": ["*"]}
    s.cli("put-policy", "everyone", "-", input=json.dumps({"Version": "2026-01-01", "Statement": [everyone]}))
    p = forward(s)
    replace_token(s, sub="mallory", exp=int(time.time()) + 600)
    assert "no session" in p.lines.wait("could not be renewed")
    assert p.wait(90) == 238
    assert not events(s, "session.renew")


def test_the_server_restarts_while_renewals_are_due(issuer):
    s = issuer
    p = forward(s)
    conn = socket.create_connection(("127.0.0.1", p.port))
    exchange(conn, b"before")
    first = the_session(s)["expires_at"]
    s.server.kill()
    s.server.p.wait()
    s.start_server()
    wait_for(lambda: is_past(first), "the first token to be over", every=0.2)
    exchange(conn, b"after")
    session = the_session(s)
    assert session["expires_at"] > first and session["state"] == "active"
    conn.close()
    end(p)


def test_a_resumed_session_is_renewed_too(issuer):
    s = issuer
    p = forward(s)
    wait_for(lambda: active(s), "the session", every=0.2)
    session = the_session(s)["id"]
    p.kill()
    p.wait()
    q = s.cli_popen("resume-session", session, "--profile", "jwt")
    q.lines = LineReader(q.stderr)
    listening(q)
    first = the_session(s)["expires_at"]
    wait_for(lambda: is_past(first), "the token that it was resumed with to be over", every=0.2)
    kept = json.loads((s.folder / "cli-state" / "tunnel" / "sessions" / f"{session}.json").read_text())
    assert kept["expires_at_ms"] > time.time() * 1000, "what is kept for a further client goes with it"
    with socket.create_connection(("127.0.0.1", q.port)) as conn:
        exchange(conn, b"after")
    end(q)
