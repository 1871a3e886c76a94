"""tunnel-cli login: signing in at an OpenID Connect issuer, and how long that lasts."""

import datetime
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import LIMIT, USER, LineReader, Stack, TcpServer, echo_until_eof, wait_for, write_secret
from oidc_issuer import Issuer


@pytest.fixture
def issuer(folder):
    i = Issuer(folder / "issuer")
    yield i
    i.close()


@pytest.fixture
def unstarted(folder, issuer):
    """A server that takes the issuer's tokens, and the profile "sso" that signs in there."""
    s = Stack(
        folder,
        auth=f'{{ plugin = "auth-jwt"; issuer = "{issuer.url}"; audience = "cli"; follow_issuer = true; ca_file = "{issuer.ca}"; leeway = "0s"; '
        f'jwks_cache = "{folder}/jwks.cache"; }}, {{ plugin = "auth-hmac"; credentials = "{folder}/hmac-credentials"; }}',
    )
    s.issuer = issuer
    profile(s, issuer)
    try:
        yield s
    finally:
        s.close()


@pytest.fixture
def sso(unstarted):
    return unstarted.start_server()


def profile(stack, issuer, more="", name="sso", url=None):
    stack.write_profile(name, f'auth = "oidc"; issuer = "{url or issuer.url}"; client_id = "cli"; issuer_ca_file = "{issuer.ca}"; {more}')


def login(stack, check=True, **kw):
    return stack.cli("login", "--profile", "sso", check=check, **kw)


def signed_in(stack):
    stack.issuer.subject = "dev"
    login(stack)
    return stack


def kept(stack):
    (file,) = (stack.folder / "cli-state" / "tunnel" / "signin").glob("*.json")
    return file


def whoami(stack, check=True):
    return stack.cli("whoami", "--profile", "sso", "--output", "json", check=check)


def refused(r, code, *words):
    assert r.returncode == code, (r.returncode, r.stderr)
    for word in words:
        assert word in r.stderr, r.stderr
    assert r.stdout == ""


def leave(stack, seconds):
    """What is kept says that the token ends then; the server knows better."""
    text = json.loads(kept(stack).read_text())
    now = int(time.time() * 1000)
    write_secret(kept(stack), json.dumps(text | {"obtained_at_ms": now - 3600000, "expires_at_ms": now + seconds * 1000}))


def forms(issuer, path):
    return [form for p, form in issuer.forms if p == path]


# -- signing in


def test_signing_in(sso):
    """The prompt is shown before anybody has confirmed; nothing but the result goes to standard output."""
    p = sso.cli_popen("login", "--profile", "sso", "--quiet")
    err = LineReader(p.stderr)
    page = err.wait("https://")
    assert page.startswith(f"{sso.issuer.url}/activate?user_code=")
    code = page.partition("user_code=")[2]
    err.wait(code)
    wait_for(lambda: len(sso.issuer.polls) >= 2, "the issuer to be asked again")
    sso.issuer.subject = "dev"
    assert p.wait(LIMIT) == 0
    out = p.stdout.read().decode()
    assert out.startswith(f"Signed in at {sso.issuer.url} as dev until "), out
    who = json.loads(whoami(sso).stdout)
    assert (who["subject"], who["provider"]) == ("dev", "auth-jwt")
    ends = datetime.datetime.fromisoformat(who["expires_at"].replace("Z", "+00:00"))
    left = ends - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(seconds=sso.issuer.life - 60) < left <= datetime.timedelta(seconds=sso.issuer.life)
    file = kept(sso)
    assert (file.stat().st_mode & 0o7777, file.parent.stat().st_mode & 0o7777) == (0o600, 0o700)
    assert sso.issuer.refreshed == 0, "the first token still does"


def test_programs_read_the_prompt(sso):
    p = sso.cli_popen("login", "--profile", "sso", "--output", "json")
    out = LineReader(p.stdout)
    prompt = json.loads(out.wait("{"))
    assert prompt["verification_uri"] == f"{sso.issuer.url}/activate"
    assert prompt["verification_uri_complete"].endswith(prompt["user_code"]) and prompt["expires_at"].endswith("Z")
    sso.issuer.subject = "dev"
    done = json.loads(out.wait("{"))
    assert (done["issuer"], done["subject"], done["refreshes"]) == (sso.issuer.url, "dev", True)
    assert p.wait(LIMIT) == 0


def test_what_the_issuer_is_asked_for(sso):
    write_secret(sso.folder / "client-secret", "s3cret/+&=\n")
    sso.issuer.secret = "s3cret/+&="
    profile(sso, sso.issuer, f'client_secret_file = "{sso.folder}/client-secret"; scopes = "openid groups"; audience = "a b"; resource = "https://tunnel.example.com/?x";')
    signed_in(sso)
    (asked,) = forms(sso.issuer, "/device")
    assert asked["scope"] == "openid groups" and asked["audience"] == "a b" and asked["resource"] == "https://tunnel.example.com/?x"
    assert asked["code_challenge_method"] == "S256" and asked["client_id"] == "cli" and "client_secret" not in asked
    polled = forms(sso.issuer, "/token")[-1]
    assert polled["grant_type"].endswith(":device_code") and len(polled["code_verifier"]) >= 43
    sso.issuer.secret = "another"
    refused(login(sso, check=False), 230, "invalid_client: the secret is wrong")


def test_the_access_token_can_be_the_one(sso):
    """For the server it is another audience; and one that is no JWT is of no use."""
    sso.server.stop()
    sso.auth = sso.auth.replace('audience = "cli"', 'audience = "https://tunnel.example.com"')
    sso.start_server()
    profile(sso, sso.issuer, 'token = "access_token"; resource = "https://tunnel.example.com";')
    sso.issuer.refreshes_with_id_token = False
    signed_in(sso)
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"
    sso.issuer.opaque = True
    refused(login(sso, check=False), 231, "the access_token is not a JWT", 'token = "id_token"')


def test_only_a_profile_with_an_issuer_signs_in(sso):
    refused(sso.cli("login", check=False), 230, 'auth = "oidc"')
    refused(sso.cli("login", "x", "--profile", "sso", check=False), 2, "no arguments")
    sso.write_profile("half", 'auth = "oidc"; issuer = "https://id.example.com";')
    refused(sso.cli("login", "--profile", "half", check=False), 230, "client_id")
    for url in ("http://localhost:1", "http://127.0.0.1:1"):
        profile(sso, sso.issuer, url=url)
        refused(login(sso, check=False), 230, "issuer", "https")


# -- what an issuer may answer


def test_denied_and_too_late(sso):
    sso.issuer.denied = True
    refused(login(sso, check=False), 231, "the sign-in was denied")
    sso.issuer.denied, sso.issuer.replies = False, [(400, {"error": "expired_token"})]
    refused(login(sso, check=False), 231, "nobody confirmed the code in time")
    sso.issuer.code_life = 3
    refused(login(sso, check=False), 231, "nobody confirmed the code in time")
    assert not list((sso.folder / "cli-state").glob("**/*.json"))


def test_slower_when_it_says_so(sso):
    sso.issuer.replies = [(400, {"error": "authorization_pending"}), (400, {"error": "slow_down"})]
    signed_in(sso)
    first, second, third = sso.issuer.polls
    assert second - first >= 1 and third - second >= 6


def test_an_issuer_that_stumbles_is_asked_again(sso):
    sso.issuer.replies = [(503, {"error": "temporarily_unavailable"}), (200, b"<html>"), (429, {})]
    signed_in(sso)
    assert len(sso.issuer.polls) == 4


@pytest.mark.parametrize(
    "metadata, raw, words",
    [
        ({"issuer": "https://evil.example.com"}, None, ['the issuer "https://evil.example.com", expected']),
        ({"issuer": None}, None, ['the issuer "", expected']),
        ({"device_authorization_endpoint": None}, None, ["no device_authorization_endpoint"]),
        ({"device_authorization_endpoint": "http://localhost:1/device"}, None, ["device_authorization_endpoint", "https"]),
        ({"token_endpoint": None}, None, ["no token_endpoint"]),
        ({"token_endpoint": ["x"]}, None, ["token_endpoint", "printable"]),
        ({}, b'{"issuer": ', ["but no JSON"]),
        ({}, b" ", ["longer than 262144 bytes"]),
    ],
)
def test_a_wrong_discovery_document_is_told(sso, metadata, raw, words):
    sso.issuer.metadata = metadata
    if raw:
        sso.issuer.raw["/.well-known/openid-configuration"] = raw if raw.strip() else raw * 300000
    r = login(sso, check=False)
    refused(r, 230 if "longer" not in words[0] else 1, *words)
    assert not sso.issuer.forms, "nothing was sent to it"


@pytest.mark.parametrize(
    "answer, words",
    [
        (b"[]", "has no device_code"),
        (b'{"device_code": "x", "user_code": "A-1", "verification_uri": "javascript:alert(1)"}', "verification_uri"),
        (b'{"device_code": "x", "user_code": "A\\u001b[2J", "verification_uri": "https://localhost/"}', "user_code"),
        (b'{"device_code": "x", "user_code": "A-1", "verification_uri": "https://localhost/", "verification_uri_complete": "http://evil/"}', "https"),
    ],
)
def test_a_wrong_prompt_is_not_shown(sso, answer, words):
    sso.issuer.raw["/device"] = answer
    refused(login(sso, check=False), 230, words)


def test_tokens_of_others_are_not_kept(sso):
    sso.issuer.subject = "dev"
    for claims, words in (
        ({"iss": "https://evil.example.com"}, "is of the issuer"),
        ({"aud": "another"}, "is not for the client"),
        ({"exp": None}, "does not say when it ends"),
        ({"sub": None}, "does not say whose it is"),
    ):
        sso.issuer.replies = [(200, {"id_token": sso.issuer.mint(**claims), "refresh_token": "r"})]
        refused(login(sso, check=False), 231, words)
    sso.issuer.replies = [(200, {"access_token": "x"})]
    refused(login(sso, check=False), 231, "gave no id_token")
    sso.issuer.replies = [(200, b"{}" + b" " * 300000)]
    refused(login(sso, check=False), 231, "longer than")
    refused(whoami(sso, check=False), 230, "not signed in", "tunnel-cli login --profile sso")


def test_an_issuer_of_another_ca_or_away(sso):
    profile(sso, sso.issuer)
    text = (sso.folder / "cli.conf").read_text()
    (sso.folder / "cli.conf").write_text(text.replace(f'issuer_ca_file = "{sso.issuer.ca}"', f'issuer_ca_file = "{sso.folder}/tls/ca.pem"'))
    refused(login(sso, check=False), 235, "certificate", "issuer_ca_file")
    profile(sso, sso.issuer)
    sso.issuer.away = True
    refused(login(sso, check=False), 235, "localhost")


def test_somebody_else_in_its_place_ends_nothing(sso):
    """A network that answers for the issuer, as hotels' do, is not the issuer saying no."""
    signed_in(sso)
    leave(sso, -1)
    other = Issuer(sso.folder / "other")
    text = (sso.folder / "cli.conf").read_text()
    (sso.folder / "cli.conf").write_text(text.replace(f'issuer_ca_file = "{sso.issuer.ca}"', f'issuer_ca_file = "{other.ca}"'))
    other.close()
    refused(whoami(sso, check=False), 235, "certificate")
    profile(sso, sso.issuer)
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"


# -- a sign-in that goes on


def test_refreshed_before_it_ends(sso):
    signed_in(sso)
    first = json.loads(kept(sso).read_text())
    for n in (1, 2):
        leave(sso, 30)
        assert json.loads(whoami(sso).stdout)["subject"] == "dev" and sso.issuer.refreshed == n
    assert json.loads(whoami(sso).stdout)["subject"] == "dev" and sso.issuer.refreshed == 2
    assert sso.issuer.reused == 0
    now = json.loads(kept(sso).read_text())
    assert now["refresh_token"] != first["refresh_token"] and now["token"] != first["token"]
    assert kept(sso).stat().st_mode & 0o7777 == 0o600


def test_the_issuer_ends_it(sso):
    signed_in(sso)
    sso.issuer.live.clear()
    leave(sso, 30)
    refused(whoami(sso, check=False), 230, "the sign-in is over", "run: tunnel-cli login --profile sso")
    refused(whoami(sso, check=False), 230, "not signed in", "run: tunnel-cli login --profile sso")
    login(sso)
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"


def test_an_issuer_that_is_away_ends_nothing(sso):
    """While the token lasts it is used; then the exit code says who is away; and then it goes on."""
    signed_in(sso)
    sso.issuer.away = True
    leave(sso, 30)
    n = len(sso.issuer.asked)
    assert json.loads(whoami(sso).stdout)["subject"] == "dev" and len(sso.issuer.asked) > n
    leave(sso, -1)
    refused(whoami(sso, check=False), 235, "localhost")
    sso.issuer.away = False
    assert json.loads(whoami(sso).stdout)["subject"] == "dev" and sso.issuer.refreshed == 1
    for answer in ((503, {}), (400, {"error": "invalid_client"})):
        leave(sso, -1)
        sso.issuer.replies = [answer]
        assert whoami(sso, check=False).returncode in (230, 235)
    assert json.loads(whoami(sso).stdout)["subject"] == "dev", "neither ended the sign-in"


def test_a_secret_that_cannot_be_read_ends_nothing(sso):
    secret = sso.folder / "client-secret"
    write_secret(secret, "s3cret\n")
    sso.issuer.secret = "s3cret"
    profile(sso, sso.issuer, f'client_secret_file = "{secret}";')
    signed_in(sso)
    leave(sso, -1)
    secret.chmod(0o644)
    refused(whoami(sso, check=False), 230, "client_secret_file", f"chmod 600 {secret}")
    secret.chmod(0o600)
    secret.write_text("\n")
    refused(whoami(sso, check=False), 230, "client_secret_file", f"{secret} is empty")
    secret.write_text("s3cret\n")
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"


def test_tab_does_not_wait_for_the_issuer(sso):
    """What it answers late is kept, and there for the next press."""
    signed_in(sso)
    leave(sso, -1)
    answer = threading.Event()
    sso.issuer.before_refresh = lambda: answer.wait(LIMIT)

    def tab():
        return [line.split("\t")[0] for line in sso.cli("complete", "--", "get-policy", "--profile", "sso", "").stdout.splitlines()]

    assert tab() == []
    wait_for(lambda: forms(sso.issuer, "/token")[-1]["grant_type"] == "refresh_token", "the refresh")
    answer.set()
    wait_for(lambda: tab() == ["base"], "the policies")
    assert (sso.issuer.refreshed, sso.issuer.reused) == (1, 0)


def test_another_person_cannot_come_with_a_refresh(sso):
    signed_in(sso)
    leave(sso, 30)
    for grant in sso.issuer.live.values():
        grant["sub"] = "mallory"
    refused(whoami(sso, check=False), 230, "another subject", "tunnel-cli login")


def test_a_refresh_without_an_id_token(sso):
    sso.issuer.refreshes_with_id_token = False
    signed_in(sso)
    leave(sso, 30)
    refused(whoami(sso, check=False), 230, "gave no id_token", 'token = "access_token"')


def test_many_at_once_refresh_once(sso):
    """Each refresh token is good once; whoever comes second with one ends the sign-in for all."""
    signed_in(sso)
    file = kept(sso)
    leave(sso, -1)
    together = threading.Event()
    sso.issuer.before_refresh = lambda: together.wait(LIMIT)
    processes = [sso.cli_popen("whoami", "--profile", "sso") for _ in range(6)]
    wait_for(lambda: forms(sso.issuer, "/token")[-1]["grant_type"] == "refresh_token", "one to refresh")
    lock = os.stat(str(file) + ".lock").st_ino
    wait_for(lambda: sum(has_open(p.pid, lock) for p in processes) == 6, "the others to wait for it")
    together.set()
    assert [p.wait(LIMIT) for p in processes] == [0] * 6, [p.stderr.read() for p in processes]
    assert (sso.issuer.refreshed, sso.issuer.reused) == (1, 0)


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_interrupted_while_it_refreshes_is_still_signed_in(sso, interrupt):
    signed_in(sso)
    leave(sso, -1)
    answer = threading.Event()
    sso.issuer.before_refresh = lambda: answer.wait(LIMIT)
    p = sso.cli_popen("whoami", "--profile", "sso")
    wait_for(lambda: forms(sso.issuer, "/token")[-1]["grant_type"] == "refresh_token", "it to refresh")
    p.send_signal(interrupt)
    answer.set()
    assert p.wait(LIMIT) == -interrupt
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"
    assert (sso.issuer.refreshed, sso.issuer.reused) == (1, 0)


def signal_waits(pid, signum):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & 1 << (signum - 1) for line in lines if line.startswith(("SigPnd:", "ShdPnd:")))


def waits_for_a_lock(pid):
    return "futex" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize("interrupts", [1, 2])
def test_a_session_that_ends_while_it_refreshes_leaves_the_sign_in_whole(unstarted, interrupts):
    s = unstarted
    s.conf = "session: { bind_to_identity = true; };"
    s.start_server()
    s.start_agent()
    s.issuer.life = 20
    signed_in(s)
    p = s.cli_popen("start-session", "--profile", "sso", "--target", "web-1", "--port-forward", "0:127.0.0.1:9")
    p.lines = LineReader(p.stderr)
    p.lines.wait("listening on")
    asked, answer = threading.Event(), threading.Event()
    s.issuer.before_refresh = lambda: (asked.set(), answer.wait(LIMIT))
    assert asked.wait(LIMIT), "the session is renewed"
    for _ in range(interrupts):
        p.send_signal(signal.SIGINT)
        wait_for(lambda: not signal_waits(p.pid, signal.SIGINT), "it to be heard")
    wait_for(lambda: p.poll() is not None or waits_for_a_lock(p.pid), "the session to be over")
    answer.set()
    p.wait(LIMIT)
    leave(s, -1)
    assert json.loads(whoami(s).stdout)["subject"] == "dev"
    assert s.issuer.reused == 0


def has_open(pid, inode):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.stat(f"/proc/{pid}/fd/{fd}").st_ino == inode:
                return True
        except OSError:
            pass
    return False


def test_one_who_is_killed_leaves_no_lock(sso):
    signed_in(sso)
    leave(sso, -1)
    stuck = threading.Event()
    sso.issuer.before_refresh = lambda: stuck.wait(LIMIT)
    p = sso.cli_popen("whoami", "--profile", "sso")
    wait_for(lambda: forms(sso.issuer, "/token")[-1]["grant_type"] == "refresh_token", "the refresh")
    p.kill()
    p.wait()
    sso.issuer.replies = [(500, {})]  # what the killed one gets
    stuck.set()
    wait_for(lambda: not sso.issuer.replies, "the killed one's call to be over")
    assert json.loads(whoami(sso).stdout)["subject"] == "dev"


def test_nobody_else_reads_or_sees_it(sso):
    """Not in arguments, not in what is logged; and a file that others could read is not used."""
    signed_in(sso)
    text = json.loads(kept(sso).read_text())
    r = sso.cli("whoami", "--profile", "sso", "--debug")
    r2 = sso.cli("login", "--profile", "sso", "--debug", "--output", "json")
    for said in (r.stdout, r.stderr, r2.stdout, r2.stderr, sso.server.text()):
        for secret in (text["token"], text["refresh_token"], sso.issuer.forms[-1][1]["device_code"]):
            assert secret not in said
    kept(sso).chmod(0o644)
    refused(whoami(sso, check=False), 230, "chmod 600")
    kept(sso).chmod(0o600)
    write_secret(kept(sso), "{}")
    refused(whoami(sso, check=False), 230, "format")


def test_signing_out(sso):
    signed_in(sso)
    refresh = json.loads(kept(sso).read_text())["refresh_token"]
    assert sso.cli("logout", "--profile", "sso").stdout == f"Signed out at {sso.issuer.url}.\n"
    assert sso.issuer.revoked == [refresh]
    refused(whoami(sso, check=False), 230, "not signed in")
    assert json.loads(sso.cli("logout", "--profile", "sso", "--output", "json").stdout)["was_signed_in"] is False
    signed_in(sso)
    sso.issuer.away = True
    r = sso.cli("logout", "--profile", "sso")
    assert r.stdout.startswith("Signed out") and "the issuer was not told" in r.stderr
    refused(whoami(sso, check=False), 230, "not signed in")


def test_profiles_that_ask_for_the_same_share_a_sign_in(sso):
    signed_in(sso)
    profile(sso, sso.issuer, name="other")
    assert json.loads(sso.cli("whoami", "--profile", "other", "--output", "json").stdout)["subject"] == "dev"
    profile(sso, sso.issuer, 'scopes = "openid";', name="third")
    refused(sso.cli("whoami", "--profile", "third", check=False), 230, "not signed in", "--profile third")


def test_a_bound_session_goes_on_under_refreshed_tokens(unstarted):
    """login, a session, the end of the first token and of more, logout."""
    s = unstarted
    s.conf = "session: { bind_to_identity = true; };"
    s.start_server()
    s.start_agent()
    s.issuer.life = 40
    signed_in(s)
    echo = TcpServer(echo_until_eof)
    p = s.cli_popen("start-session", "--profile", "sso", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo.port}")
    p.lines = LineReader(p.stderr)
    port = int(p.lines.wait("listening on").split(" for ")[0].rsplit(":", 1)[1])
    second = s.cli_popen("start-session", "--profile", "sso", "--target", "web-1", "--login", USER, "--", "cat", stdin=subprocess.PIPE)
    second.lines = LineReader(second.stderr)
    c = socket.create_connection(("127.0.0.1", port))
    c.sendall(b"before")
    assert c.recv(64) == b"before"
    both = wait_for(lambda: (x := s.json("list-sessions", "--state", "active")) and len(x) == 2 and x, "both sessions", every=0.2)
    first = {x["id"]: x["expires_at"] for x in both}

    def outlived():
        now = {x["id"]: x["expires_at"] for x in s.json("list-sessions", "--state", "active")}
        assert now.keys() == first.keys(), p.lines.lines
        parse = datetime.datetime.fromisoformat
        gone = all(parse(t.replace("Z", "+00:00")) < datetime.datetime.now(datetime.timezone.utc) for t in first.values())
        return gone and s.issuer.refreshed >= 2

    wait_for(outlived, "the first token to be over", every=0.5)
    assert s.issuer.reused == 0
    c.sendall(b"after")
    assert c.recv(64) == b"after"
    second.stdin.write(b"still here\n")
    second.stdin.flush()
    assert second.stdout.readline() == b"still here\n", second.lines.lines
    s.cli("logout", "--profile", "sso")
    assert p.wait(90) == 238, "without a sign-in nothing fresh is to be had"
    wait_for(lambda: p.lines.eof, "the last line")
    assert "not signed in" in "\n".join(p.lines.lines)
    second.stdin.close()
    second.wait(90)
    c.close()
    echo.close()
