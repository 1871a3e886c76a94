"""The whole way of a sign-in with an issuer that is not ours."""

import datetime
import json
import socket

import pytest

from glewlwyd import CLIENT, RESOURCE, SECRET, Glewlwyd
from harness import LIMIT, LineReader, Stack, TcpServer, echo_until_eof, wait_for, write_secret

LIFE_S = 20  # of a token
EVERYBODY = {"Version": "2026-01-01", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "tunnel:*", "Resource": "*"}}


@pytest.fixture
def issuer(folder):
    g = Glewlwyd(folder / "glewlwyd", LIFE_S)
    yield g
    g.close()


def started(folder, issuer, audience):
    s = Stack(
        folder, policy=EVERYBODY, conf="session: { bind_to_identity = true; };",
        auth=f'{{ plugin = "auth-jwt"; issuer = "{issuer.url}"; audience = "{audience}"; follow_issuer = true; ca_file = "{issuer.ca}"; leeway = "0s"; }}, '
        f'{{ plugin = "auth-hmac"; credentials = "{folder}/hmac-credentials"; }}',
    )
    write_secret(folder / "client-secret", SECRET)
    return s.start_server()


def profile(stack, issuer, more=""):
    own = f'issuer = "{issuer.url}"; client_id = "{CLIENT}"; client_secret_file = "{stack.folder}/client-secret"; issuer_ca_file = "{issuer.ca}";'
    stack.write_profile("sso", f'auth = "oidc"; {own} scopes = "openid"; {more}')


def sign_in(stack, issuer):
    p = stack.cli_popen("login", "--profile", "sso", "--output", "json")
    out = LineReader(p.stdout)
    prompt = json.loads(out.wait("{"))
    issuer.confirm(prompt["verification_uri_complete"])
    done = json.loads(out.wait("{"))
    assert p.wait(LIMIT) == 0 and done["refreshes"] is True
    return done["subject"]


def whoami(stack, code=0):
    r = stack.cli("whoami", "--profile", "sso", "--output", "json", check=False)
    assert r.returncode == code, r.stderr
    return json.loads(r.stdout) if code == 0 else r.stderr


def test_from_login_to_logout(folder, issuer):
    """A session that is bound to its credential outlives several of them, and ends with the sign-in."""
    s = started(folder, issuer, RESOURCE)
    echo = TcpServer(echo_until_eof)
    try:
        profile(s, issuer, f'token = "access_token"; resource = "{RESOURCE}";')
        assert "run: tunnel-cli login --profile sso" in whoami(s, 230)
        subject = sign_in(s, issuer)
        assert whoami(s)["subject"] == subject
        s.start_agent()
        p = s.cli_popen("start-session", "--profile", "sso", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo.port}")
        p.lines = LineReader(p.stderr)
        port = int(p.lines.wait("listening on").split(" for ")[0].rsplit(":", 1)[1])
        c = socket.create_connection(("127.0.0.1", port))
        c.sendall(b"before")
        assert c.recv(64) == b"before"
        (first,) = s.json("list-sessions", "--state", "active")
        ends = datetime.datetime.fromisoformat(first["expires_at"].replace("Z", "+00:00"))

        def outlived():
            (now,) = s.json("list-sessions", "--state", "active")
            assert now["id"] == first["id"]
            renewals = [a for a in s.audit() if a["event"] == "session.renew"]
            return datetime.datetime.now(datetime.timezone.utc) > ends and len(renewals) >= 2

        wait_for(outlived, "the first token to be over", every=0.5)
        c.sendall(b"after")
        assert c.recv(64) == b"after"
        r = s.cli("logout", "--profile", "sso")
        assert r.stdout.startswith("Signed out") and r.stderr == "", r.stderr
        assert p.wait(90) == 238
        assert "not signed in" in whoami(s, 230)
    finally:
        s.close()
        echo.close()


def test_an_id_token_does_for_as_long_as_it_lasts(folder, issuer):
    """This issuer gives none with a refresh, which is told, and what to do."""
    s = started(folder, issuer, CLIENT)
    try:
        profile(s, issuer)
        subject = sign_in(s, issuer)
        assert whoami(s)["subject"] == subject
        r = wait_for(lambda: (r := s.cli("whoami", "--profile", "sso", check=False)).returncode not in (0, 231) and r, "its end", every=0.5)
        assert r.returncode == 230 and "gave no id_token" in r.stderr and 'token = "access_token"' in r.stderr, r.stderr
    finally:
        s.close()
