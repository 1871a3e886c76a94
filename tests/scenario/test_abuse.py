"""Strangers who mean harm: they come slowly, in crowds, with too much, with nonsense, and with guesses. Somebody else's session
keeps its latency meanwhile. See abuse.py."""

import json
import os
import re
import secrets
import signal
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from abuse import ATTACKER, LIMITED, Bystander, header, is_closed, metric, plain, request, secure, unhurt, wait_closed
from harness import SERVER, CutProxy, Stack, wait_for, write_secret
from rawclient import RawSession, b64, spki
from swarm import allow_files, memory_kib


@pytest.fixture
def limited(folder):
    allow_files(20000)
    s = Stack(folder, conf=LIMITED)
    try:
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()


@pytest.fixture
def bystander(limited):
    b = Bystander(limited)
    yield b
    b.close()


def files_of(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


# ---- slowly ----


def drip(sockets, piece):
    for s in sockets:
        try:
            s.sendall(piece)
        except OSError:
            pass


def test_slow_at_every_stage(limited, bystander):
    """A byte now and then, in the TLS handshake, the head, the body, and in the frames of a leg that was let in."""
    each = 60
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    shaking = [plain(limited) for _ in range(each)]
    drip(shaking, hello)
    heads = [secure(limited, alpn=a) for a in ("http/1.1", "tunnel-leg/1") for _ in range(each // 2)]
    drip(heads, b"GET /v1/agent HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    bodies = [secure(limited) for _ in range(each)]
    drip(bodies, b"POST /v1/targets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    legs = [RawSession(limited).mute_leg() for _ in range(3)]
    drip(legs, b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00abcd")

    def slowly():
        for s in (shaking, heads, bodies, legs):
            drip(s, b"x")
        time.sleep(0.05)

    unhurt(limited, bystander, slowly)
    for sockets, what in ((shaking, "handshakes"), (heads, "heads"), (bodies, "bodies")):

        def over():
            drip([s for s in sockets if not is_closed(s)], b"x")
            return all(is_closed(s) for s in sockets)

        wait_for(over, f"the slow {what} to be ended", every=0.3)
    for s in [*shaking, *heads, *bodies, *legs]:
        s.close()


# ---- in crowds ----


@pytest.fixture
def held():
    """Sockets that are closed however the test ends: thousands of them would be missing to the next."""
    sockets = []
    yield sockets
    for s in sockets:
        s.close()


def crowd(stack, sources, each):
    """Half-open connections: TCP is there, and nothing is said."""
    out = []
    for source in sources:
        for _ in range(each):
            try:
                out.append(plain(stack, source))
            except OSError:
                pass
    return out


def test_ten_thousand_half_open_connections_of_one_address(limited, bystander, held):
    before, memory = files_of(limited.server.pid), memory_kib(limited.server.pid)
    unhurt(limited, bystander, lambda: held.extend(crowd(limited, [ATTACKER], 2500 if len(held) < 10000 else 0)))
    held += crowd(limited, [ATTACKER], 10000 - len(held))
    assert len(held) == 10000
    wait_for(lambda: files_of(limited.server.pid) <= before + 510, "all but 500 to be closed")
    # A sanitizer keeps what was freed.
    assert b"__asan_init" in SERVER.read_bytes() or memory_kib(limited.server.pid) - memory < 20 * 1024
    assert metric(limited, "tunnel_connections_refused_total") > 9000
    limited.cli("whoami")
    RawSession(limited)
    assert limited.server.text().count("have shown no credential: some are closed at once") < 10
    wait_closed(held, "the rest to be closed when their time is over")


def test_ten_thousand_half_open_connections_of_many_addresses(limited, bystander, held):
    """Each of them gets less, the more there are; who comes alone finds room."""
    sources = [f"127.0.1.{i}" for i in range(1, 41)]
    held += crowd(limited, sources, 250)
    assert len(held) == 10000
    limited.cli("whoami")
    RawSession(limited)
    unhurt(limited, bystander, lambda: time.sleep(0.05))
    for s in held:
        s.close()
    wait_for(lambda: files_of(limited.server.pid) < 200, "their descriptors to be free again")


# ---- with too much, and with nonsense ----

BIG = b"x" * 300 * 1024
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "name, method, path, headers, body, allowed",
    [
        ("a head of 40 KiB", "GET", "/v1/whoami", ["X-A: " + "a" * 40000], b"", {0, 431}),
        ("200 headers", "GET", "/v1/whoami", [f"X-{i}: a" for i in range(200)], b"", {0, 431}),
        ("a path of 12 KiB", "GET", "/v1/targets/" + "a" * 12000, [], b"", {0, 400, 404, 431}),
        ("a query of 12 KiB", "GET", "/v1/targets?limit=" + "1" * 12000, [], b"", {0, 401, 431}),
        ("a token of 12 KiB", "GET", "/v1/whoami", ["Authorization: Bearer " + "a.b.c" * 2400], b"", {0, 401, 431}),
        ("a body of 300 KiB", "POST", "/v1/targets", [JSON], BIG, {413}),
        ("a body of an exabyte", "POST", "/v1/targets", [JSON, "Content-Length: 1152921504606846976"], b"", {413}),
        ("a length that wraps", "POST", "/v1/targets", [JSON, "Content-Length: 18446744073709551617"], b"", {400, 413}),
        ("JSON that is 200,000 deep", "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b"[" * 200000, {400}),
        ("JSON with a number of 100,000 digits", "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b'{"a":' + b"9" * 100000 + b"}", {400}),
        ("JSON that is not UTF-8", "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b'{"version":"\xff\xfe"}', {400}),
        ("JSON with half a surrogate", "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b'{"version":"\\ud800"}', {400}),
        ("JSON with an overlong slash", "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b'{"version":"\xc0\xaf"}', {400}),
        ("a token that is not UTF-8", "GET", "/v1/whoami", [b"Authorization: Bearer \xff\xfe.\xc0\xaf"], b"", {0, 400, 401}),
        ("a key id that is not UTF-8", "GET", "/v1/whoami", [b"Authorization: AWS4-HMAC-SHA256 Credential=\xff/a/b/c/d, Signature=e, SignedHeaders=f"], b"", {0, 400, 401}),
        ("an id that is not UTF-8", "DELETE", "/v1/sessions/%ff%fe", ["Authorization: Bearer t", "DPoP: x"], b"", {404}),
        ("an id with a NUL", "DELETE", "/v1/sessions/s%00x", ["Authorization: Bearer t", "DPoP: x"], b"", {0, 404}),
        ("an id of raw bytes", "DELETE", b"/v1/sessions/\xff\xfe", ["Authorization: Bearer t", "DPoP: x"], b"", {0, 400, 404}),
        ("a query that is not UTF-8", "POST", "/v1/targets?a=%ff", ["Authorization: Bearer t", JSON], b"{}", {400}),
        ("a proof of 12 KiB", "DELETE", "/v1/sessions/s-1", ["Authorization: Bearer t", "DPoP: " + "a.b.c" * 2400], b"", {0, 401, 404, 431}),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) and " " in v and "/" not in v else "",
)
def test_refused(shared, name, method, path, headers, body, allowed):
    with secure(shared) as s:
        status, head, text = request(s, method, path, headers, body)
    assert status in allowed, (name, status, head, text)
    if status:
        json.loads(text.decode())
    shared.server.text().encode().decode()
    assert shared.server.alive()
    assert shared.curl("/healthz").returncode == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    s = Stack(tmp_path_factory.mktemp("a"), conf='limits: { except = [ "127.0.0.0/8" ]; };')
    try:
        yield s.start_server()
    finally:
        s.close()


def test_a_flood_of_what_is_too_much(limited, bystander):
    def flood():
        for _ in range(10):
            with secure(limited) as s:
                request(s, "POST", "/v1/targets", [JSON, "Authorization: Bearer t"], b"[" * 200000)

    unhurt(limited, bystander, flood)


# ---- with guesses ----


def test_a_key_is_guessed_at(limited):
    """Through the programs: who guesses waits, and is told so; the key's holder, elsewhere, works on. (The wait is longer than
    what a command waits by itself.)"""
    conf = limited.folder / "server.conf"
    conf.write_text(conf.read_text().replace("except = [ ]", "except = [ ]; failures_per_credential = 2"))
    os.kill(limited.server.pid, signal.SIGHUP)
    limited.server.wait_log("reloaded")
    proxy = CutProxy(limited.port)
    proxy.source = ATTACKER
    limited.url, url = f"https://localhost:{proxy.port}", limited.url
    write_secret(limited.folder / "guess", 'key_id = "KDEV";\nsecret = "a-guess-a-guess-a-guess-a-guess";\n')
    limited.write_profile("thief", f'auth = "hmac"; credentials = "{limited.folder}/guess";')
    limited.write_profile("there")
    limited.url = url
    codes = []
    for _ in range(4):
        r = limited.cli("whoami", "--profile", "thief", check=False)
        codes.append(r.returncode)
    assert codes == [231] * 2 + [235] * 2, (codes, r.stderr)
    assert "too many credentials from this address were refused; the next one is looked at in" in r.stderr
    r = limited.cli("whoami", "--profile", "there", check=False)
    assert r.returncode == 235, "right or wrong, a guess there tells nothing"
    limited.cli("whoami")
    limited.cli("list-targets")
    told = [r for r in limited.audit() if r["event"] == "auth.limited"]
    assert [(r["remote_address"], r["kind"], r["credential"]) for r in told] == [(ATTACKER, "identity", "auth-hmac/KDEV")], told
    assert metric(limited, "tunnel_auth_limited_total") == 3
    proxy.close()


def guess(stack, made, method, path, headers, body=b"", source=ATTACKER):
    """Some requests on one connection, each with another random token; (status, Retry-After) of each are noted."""
    with secure(stack, source) as s:
        for _ in range(20):
            status, head, _ = request(s, method, path, [h.replace("?", secrets.token_urlsafe(32)) for h in headers], body)
            made.append((status, header(head, "retry-after")))
            if not status:
                return


def check_guesses(made, most):
    """Some were looked at; the others had to wait, were told how long, and learned nothing."""
    looked_at = sum(status == 401 for status, _ in made)
    waited = [int(after) for status, after in made if status == 429]
    assert looked_at + len(waited) == len(made), made
    assert looked_at <= most and len(waited) > looked_at, (looked_at, len(waited))
    assert all(1 <= after <= 60 for after in waited)


def test_enrolment_tokens_are_guessed_at(limited, bystander):
    key = spki(ec.generate_private_key(ec.SECP256R1()))
    body = json.dumps({"identity_key": key, "link_key": key, "version": "0.1"}).encode()
    made = []
    begun = time.monotonic()

    def flood():
        guess(limited, made, "POST", "/v1/targets", [JSON, "Authorization: Bearer ?"], body)

    while len(made) < 300:
        flood()
    unhurt(limited, bystander, flood)
    check_guesses(made, 110 + (time.monotonic() - begun) * 2)
    limited.start_agent("web-2")
    assert len([r for r in limited.audit() if r["event"] == "auth.limited"]) == 1


def test_tokens_are_stuffed(limited, bystander):
    made = []
    begun = time.monotonic()

    def flood():
        guess(limited, made, "GET", "/v1/whoami", ["Authorization: Bearer ?"])

    while len(made) < 300:
        flood()
    unhurt(limited, bystander, flood)
    check_guesses(made, 110 + (time.monotonic() - begun) * 2)
    limited.cli("whoami")


def test_a_session_token_is_guessed_at(limited):
    session = RawSession(limited)
    statuses = []
    with secure(limited) as s:
        for _ in range(15):
            token = f"Authorization: Bearer {secrets.token_urlsafe(32)}"
            status, head, _ = request(s, "DELETE", f"/v1/sessions/{session.id}", [token, "DPoP: a.b.c"])
            statuses.append(status)
    assert statuses == [401] * 10 + [429] * 5, statuses
    assert int(header(head, "retry-after")) in range(1, 61)
    session.mute_leg().close()


def test_an_agent_is_imitated(limited, bystander):
    """Assertions of a key that is not the target's: the target's agent stays, and comes back."""

    def assertion():
        head = {"alg": "ES256", "typ": "JWT", "kid": "web-1"}
        now = int(time.time())
        claims = {"iss": "web-1", "sub": "web-1", "aud": "tunnel-server", "iat": now, "exp": now + 60, "jti": secrets.token_hex(16)}
        return ".".join(b64(json.dumps(part).encode()) for part in (head, claims)) + "." + b64(secrets.token_bytes(64))

    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {b64(bytes(16))}==",
               "Sec-WebSocket-Protocol: tunnel.control.v1"]
    ends = []

    def try_it():
        with secure(limited, alpn="tunnel-leg/1") as s:
            status, _, rest = request(s, "GET", "/v1/agent", [*upgrade, f"Authorization: Bearer {assertion()}"])
            assert status == 101
            while len(rest) < 4 and (more := s.recv(4096)):
                rest += more
            ends.append(int.from_bytes(rest[2:4], "big"))

    for _ in range(14):
        try_it()
    assert ends == [4401] * 10 + [4503] * 4, ends
    unhurt(limited, bystander, try_it)
    agent = limited.agents["web-1"]
    agent.proc.kill()
    agent.restart()
    limited.wait_connected("web-1")


def test_the_limits_are_read_again(limited):
    def refused(n):
        with secure(limited) as s:
            return [request(s, "GET", "/v1/whoami", ["Authorization: Bearer the-same"])[0] for _ in range(n)]

    assert refused(12) == [401] * 10 + [429] * 2
    conf = limited.folder / "server.conf"
    conf.write_text(conf.read_text().replace("except = [ ]", f'except = [ "{ATTACKER}" ]'))
    os.kill(limited.server.pid, 1)
    limited.server.wait_log("reloaded")
    assert refused(12) == [401] * 12
    assert "needs a restart" not in limited.server.text()
    conf.write_text(conf.read_text().replace(ATTACKER, "10.0.0.1/8"))
    r = limited.place("server", [])
    os.kill(limited.server.pid, 1)
    line = limited.server.wait_log("limits.except")
    assert "bits behind its prefix" in line and re.search(r"server\.conf:\d+: limits\.except: ", line), (line, r)
