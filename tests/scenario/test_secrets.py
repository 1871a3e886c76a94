"""Nothing that is secret, and nothing that passed through a session, is left behind: not in a log, not in what server, agent
and CLI keep. A secret may stand in the one file that is there to hold it; and the search is shown to find what is there."""

import base64
import hashlib
import re
import secrets
import signal
import socket
import subprocess

import pytest
from harness import LIMIT, USER, TcpServer, echo_until_eof, wait_for
from rawclient import RawSession

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END")


def files(folder):
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]


def forms(secret):
    """As it is, and as it might be written down."""
    raw = secret.encode() if isinstance(secret, str) else secret
    yield raw
    yield raw.hex().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).rstrip(b"=")


def found(folder, wanted):
    """[(what, file)]: where something of this stands, but for the file that is there to hold it."""
    hits = []
    for path in files(folder):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        for what, (secret, home) in wanted.items():
            if name != home and any(form in content for form in forms(secret)):
                hits.append((what, name))
    return hits


def ssh_through(stack, marker):
    """The marker goes to a command as its input and comes back as its output; it is no part of the command."""
    r = stack.cli("start-session", "--target", "web-1", "--login", USER, "--", "cat", input=marker)
    assert r.stdout == marker


def tcp_through(stack, marker):
    echo = TcpServer(echo_until_eof)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(marker.encode() * 100)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while data := s.recv(65536):
            got += data
        assert got == marker.encode() * 100
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    (stack.folder / "cli.log").write_bytes("\n".join(p.lines.lines).encode())
    echo.close()


def private_keys(folder):
    """Each private key's own text, with its file."""
    for path in files(folder):
        for i, m in enumerate(PRIVATE_KEY.finditer(path.read_bytes())):
            body = re.sub(rb"\s", b"", m[1])
            # OpenSSH's and PKCS #8's both begin with what is no secret: the middle has the number
            yield str(path.relative_to(folder)), body[len(body) // 2 : len(body) // 2 + 24]


@pytest.fixture
def lived(bare):
    """A server at its most talkative, all of it used, some of it refused; and what must not be found."""
    export = bare.folder / "audit.jsonl"
    bare.conf = f'audit: {{ file = "{export}"; }};'
    bare.start_server()
    bare.start_agent()
    wanted = {"secret of a credential": (bare.secret, "hmac-credentials")}
    wanted["secret of a credential, CLI"] = (bare.secret, "cli-credentials")
    wanted["enrolment token that was used"] = ((bare.folder / "agent-web-1" / "token").read_text(), "agent-web-1/token")
    wanted["enrolment token"] = (bare.cli("create-enrollment", "web-2").stdout.strip(), None)
    for kind, send in (("ssh", ssh_through), ("tcp", tcp_through)):
        marker = f"payload-{secrets.token_hex(16)}"
        send(bare, marker)
        wanted[f"payload of {kind}"] = (marker, None)
    raw = RawSession(bare)
    wanted["session token"] = (raw.token, None)
    credentials = raw.credentials()
    wanted["proof"] = (credentials["DPoP"], None)
    bare.cli("whoami", "--config", "/nonexistent", check=False)
    wait_for(lambda: any(r["event"] == "stream.close" for r in bare.audit()), "the streams in the audit log", every=0.1)
    assert bare.server.stop() == 0
    for i, (name, body) in enumerate(private_keys(bare.folder)):
        wanted[f"private key {i} of {name}"] = (body, name)
    return bare, wanted


def test_no_secret_and_no_payload_is_left_behind(lived):
    stack, wanted = lived
    # the secret of a credential has two homes
    hits = [h for h in found(stack.folder, wanted) if h not in {
        ("secret of a credential", "cli-credentials"), ("secret of a credential, CLI", "hmac-credentials")}]
    assert hits == []
    searched = {str(p.relative_to(stack.folder)) for p in files(stack.folder)}
    assert {"server.log", "agent-web-1/log", "state/tunnel.db", "audit.jsonl", "state/ssh_ca"} <= searched
    assert len([w for w in wanted if w.startswith("private key")]) >= 3, wanted.keys()
    # and one that is planted is found
    with (stack.folder / "agent-web-1" / "log").open("a") as log:
        log.write(f'msg="{base64.b64encode(wanted["payload of ssh"][0].encode()).decode()}"\n')
    assert ("payload of ssh", "agent-web-1/log") in found(stack.folder, wanted)


def test_what_holds_a_secret_is_for_its_owner_alone(lived):
    stack, _ = lived
    holders = {name for name, _ in private_keys(stack.folder)} | {"hmac-credentials", "cli-credentials", "state/tunnel.db"}
    loose = {name: oct((stack.folder / name).stat().st_mode & 0o777) for name in holders if (stack.folder / name).stat().st_mode & 0o077}
    assert loose == {}
    assert (stack.folder / "state").stat().st_mode & 0o077 == 0


def test_the_key_of_a_login_is_in_no_file(stack):
    """Not while its ssh runs, and not when both were killed."""
    run = stack.folder / "r"
    run.mkdir(0o700)
    real = stack.env
    stack.env = lambda **more: real(XDG_RUNTIME_DIR=str(run), **more)
    p = stack.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "cat", stdin=subprocess.PIPE)
    p.stdin.write(b"up\n")
    p.stdin.flush()
    assert p.stdout.readline() == b"up\n", p.stderr.read()
    (folder,) = run.glob("tunnel-*")
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "known_hosts").exists()
    assert list(private_keys(run)) == []
    p.kill()
    p.wait()
    assert list(private_keys(run)) == []
    p.stdin.close()


def test_the_store_has_tokens_as_hashes_alone(lived):
    """What is looked for is there to be looked for: the hash of a session's token stands in the store."""
    stack, wanted = lived
    token = wanted["session token"][0]
    digest = hashlib.sha256(token.encode()).digest()
    assert any(form in p.read_bytes() for p in files(stack.folder / "state") for form in forms(digest))


@pytest.mark.parametrize("what", ["payload of ssh", "payload of tcp", "session token", "enrolment token", "secret of a credential"])
@pytest.mark.parametrize("place", ["server.log", "agent-web-1/log", "state/tunnel.db", "state/left-behind"])
def test_the_search_finds_what_is_planted(folder, what, place):
    """The search itself, without a run: what is planted, as it is or encoded, is found."""
    secret = secrets.token_hex(20)
    path = folder / place
    path.parent.mkdir(exist_ok=True, parents=True)
    for form in forms(secret):
        path.write_bytes(b"\0\xff before" + form + b"after\0")
        assert found(folder, {what: (secret, None)}) == [(what, place)]
        assert found(folder, {what: (secret, place)}) == []
    path.write_bytes(b"nothing")
    assert found(folder, {what: (secret, None)}) == []
