"""Shutting somebody out: revoke returns when nothing of theirs lives, and they do not come back until it is lifted."""

import json
import signal
import socket

import pytest
from harness import LIMIT, Stack, TcpServer, echo_until_eof, is_gone, send, wait_for
from test_cli_ends import Clients
from test_enroll import enroll

OP = {"TUNNEL_KEY_ID": "KOP", "TUNNEL_SECRET": "the-secret-of-op-0123"}
SECOND = {"TUNNEL_KEY_ID": "KDEV2", "TUNNEL_SECRET": "the-second-of-dev-0123"}
POLICY = {
    "Version": "2026-01-01",
    "Statement": [{"Effect": "Allow", "Principal": {"User": ["dev", "op"]}, "Action": ["tunnel:*"], "Resource": ["*"]}],
}


@pytest.fixture
def two(folder):
    """dev, with two keys, and the operator op."""
    s = Stack(folder, policy=POLICY)
    s.write_credentials(
        {
            s.key_id: ("dev", s.secret, []),
            "KDEV2": ("dev", SECOND["TUNNEL_SECRET"], []),
            "KOP": ("op", OP["TUNNEL_SECRET"], []),
        }
    )
    try:
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()


def revoke(stack, *args, check=True):
    r = stack.cli("revoke", *args, "--output", "json", check=check, **OP)
    return json.loads(r.stdout), r.stderr


def json_as(stack, who, *args):
    return json.loads(stack.cli(*args, "--output", "json", **who).stdout)


def forbidden(stack, *args, words, **who):
    r = stack.cli(*args, check=False, **who)
    assert r.returncode == 232 and words in r.stderr, (r.returncode, r.stderr)


def test_a_revoked_principal_is_out_everywhere(two):
    clients = Clients(two)
    r = two.cli("revoke", "--principal", "dev", "--reason", "laptop stolen", **OP)
    assert "3 sessions ended, gone everywhere after" in r.stdout and r.stderr == "", (r.stdout, r.stderr)
    assert json_as(two, OP, "list-sessions", "--state", "active") == []
    clients.end_with(241, "principal was revoked by op: laptop stolen")
    assert not two.workers()
    forbidden(two, "whoami", words="principal dev was revoked at")
    forbidden(two, "start-session", "--target", "web-1", "--to", "127.0.0.1:1", words="laptop stolen", **SECOND)
    # It is in the store, not in this process alone.
    two.server.kill()
    two.server.p.wait()
    two.start_server()
    forbidden(two, "list-targets", words="principal dev was revoked")
    (one,) = json_as(two, OP, "list-revocations")
    assert (one["kind"], one["principal"], one["by"], one["reason"]) == ("principal", "dev", "op", "laptop stolen")
    two.cli("lift-revocation", one["id"], **OP)
    assert two.json("whoami")["subject"] == "dev"
    two.wait_connected("web-1")
    Clients(two)
    events = [r for r in two.audit() if r["event"].startswith("revocation.")]
    assert [(r["event"], r["principal"], r["by"]) for r in events] == [
        ("revocation.put", "dev", "op"),
        ("revocation.delete", "dev", "op"),
    ]
    ended = [r for r in two.audit() if r["event"] == "session.end"]
    assert len(ended) == 3 and {(r["code"], r["by"]) for r in ended} == {(4007, "op")}
    assert [r for r in two.audit() if r["event"] == "denied" and r["subject"] == "dev" and "was revoked" in r["text"]]


def test_only_the_credential_that_is_revoked_is_out(two):
    echo = TcpServer(echo_until_eof)
    mine, (port,) = two.forward("web-1", f"127.0.0.1:{echo.port}")
    env = two.env
    two.env = lambda **more: env(**(SECOND | more))
    other, (other_port,) = two.forward("web-1", f"127.0.0.1:{echo.port}")
    two.env = env
    with socket.create_connection(("127.0.0.1", other_port), LIMIT) as c:
        c.sendall(b"before")
        assert c.recv(6) == b"before"
        answer, _ = revoke(two, "--credential", two.key_id, "--for", "12h")
        assert answer["sessions"] == 1 and answer["revocation"]["expires_at"]
        assert mine.wait(LIMIT) == 241
        c.sendall(b"after!")
        assert c.recv(6) == b"after!", "the session of the other key goes on"
    forbidden(two, "whoami", words=f"credential {two.key_id} was revoked")
    assert json_as(two, SECOND, "whoami")["credential"] == "KDEV2"


def test_one_session_is_revoked(two):
    clients = Clients(two)
    answer, _ = revoke(two, "--session", clients.ids[0])
    assert answer["sessions"] == 1 and answer["revocation"] is None and answer["unconfirmed"] == []
    assert len(two.json("list-sessions", "--state", "active")) == 2
    r = two.cli("revoke", "--session", clients.ids[0], check=False, **OP)
    assert r.returncode == 1 and "had ended" in r.stderr, r.stderr
    r = two.cli("revoke", "--session", "s-nobody", check=False, **OP)
    assert r.returncode == 233, r.stderr


def test_an_agent_that_cannot_be_told_is_named(two):
    echo = TcpServer(echo_until_eof)
    _, (port,) = two.forward("web-1", f"127.0.0.1:{echo.port}")
    agent = two.agents["web-1"]
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        c.sendall(b"up")
        assert c.recv(2) == b"up"
        agent.proc.kill()
        agent.proc.p.wait()
        wait_for(lambda: json_as(two, OP, "describe-target", "web-1")["state"] != "connected", "the agent to be missed")
        r = two.cli("revoke", "--principal", "dev", **OP)
        assert "1 session ended" in r.stdout and "web-1 has no agent connected" in r.stderr, r.stderr
        assert is_gone(c)
    # Its worker is cut off, too: it learns it from the relay.
    wait_for(lambda: not two.workers(), "the worker to end")


def test_an_agent_that_does_not_answer_is_named(two):
    echo = TcpServer(echo_until_eof)
    p, _ = two.forward("web-1", f"127.0.0.1:{echo.port}")
    wait_for(lambda: two.json("list-sessions", "--state", "active"), "the session to be active")
    (session,) = two.json("list-sessions", "--state", "active")
    send(signal.SIGSTOP, [two.agents["web-1"].proc.pid])
    answer, complaint = revoke(two, "--principal", "dev", check=False)
    send(signal.SIGCONT, [two.agents["web-1"].proc.pid])
    assert answer["unconfirmed"] == [session["id"]] and "has not said that it has ended" in complaint
    assert p.wait(LIMIT) == 241


def test_nobody_shuts_himself_out(two):
    r = two.cli("revoke", "--principal", "op", check=False, **OP)
    assert r.returncode == 1 and "revoke yourself" in r.stderr, r.stderr
    r = two.cli("revoke", "--credential", "KOP", check=False, **OP)
    assert r.returncode == 1 and "credential of this very call" in r.stderr, r.stderr


def test_whoever_may_not_revoke_learns_nothing(two):
    deny = {"Version": "2026-01-01", "Statement": [{"Effect": "Deny", "Principal": {"User": ["dev"]}, "Action": ["tunnel:Revoke"], "Resource": ["*"]}]}
    two.cli("put-policy", "no-revoke", "-", input=json.dumps(deny), **OP)
    revoke(two, "--credential", "KDEV2")
    for args in (("--principal", "op"), ("--session", "s-nobody"), ("--credential", "x")):
        forbidden(two, "revoke", *args, words="may not tunnel:Revoke")
    assert two.json("list-revocations") == []
    (one,) = json_as(two, OP, "list-revocations")
    forbidden(two, "lift-revocation", one["id"], words="may not tunnel:Revoke")


def test_an_enrolment_token_of_somebody_revoked_is_worthless(two):
    token = two.cli("create-enrollment", "web-2").stdout.strip()
    revoke(two, "--principal", "dev")
    options = ["--server", two.url, "--token", token, "--ca-file", two.folder / "tls" / "ca.pem"]
    r = enroll(two, "--state-dir", two.folder / "state-web-2", *options)
    assert r.returncode == 1 and "principal dev was revoked" in r.stderr, r.stderr
