"""What goes wrong, and whether the message is the one a person needs."""

import datetime
import json
import signal
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import LIMIT, USER, LineReader, Stack, TcpServer, free_port, wait_for, write_secret

ISSUER, AUDIENCE = "https://id.example.com", "tunnel"


@pytest.fixture
def jwt_stack(folder):
    """A server that knows JWTs of one P-256 key and SigV4 credentials; the profile "jwt" uses a token file."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "jwt.pem").write_bytes(public)
    s = Stack(
        folder,
        auth=f'{{ plugin = "auth-jwt"; issuer = "{ISSUER}"; audience = "{AUDIENCE}"; key = "ES256:{folder}/jwt.pem"; }},'
        f'{{ plugin = "auth-hmac"; credentials = "{folder}/hmac-credentials"; }}',
    )

    def mint(**claims):
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dev", "iat": now, "nbf": now - 1, "exp": now + 600, **claims}
        return jwt.encode({k: v for k, v in body.items() if v is not None}, pem, algorithm="ES256")

    def token(name="jwt", **claims):
        write_secret(folder / "token", mint(**claims))
        s.write_profile(name, f'auth = "jwt"; token_file = "{folder}/token";')

    s.mint, s.token = mint, token
    try:
        s.start_server()
        yield s
    finally:
        s.close()


def refused(stack, *args, code, words, **kw):
    r = stack.cli(*args, check=False, **kw)
    assert r.returncode == code, (r.returncode, r.stderr, stack.tails())
    for w in words:
        assert w in r.stderr, r.stderr
    assert r.stdout == ""
    return r.stderr


class Answers(BaseHTTPRequestHandler):
    """Answers as many calls as there are in server.waits with server.status and that Retry-After, the next ones well; counts them."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server
        s.calls += 1
        s.may_answer.wait(LIMIT)
        wait = s.waits.pop(0) if s.waits else None
        body = b'{"subject": "dev", "provider": "p", "groups": []}'
        self.send_response(200 if wait is None else s.status)
        if wait:
            self.send_header("Retry-After", str(wait))
        self.send_header("Content-Type", "application/json" if wait is None else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815


class Busy(ThreadingHTTPServer):
    """What stands before the server may answer so, too; its words are not ours."""

    def __init__(self, stack):
        super().__init__(("127.0.0.1", 0), Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(stack.folder / "tls" / "server.pem", stack.folder / "tls" / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answer(429)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, status, *waits):
        self.status, self.waits, self.calls = status, list(waits), 0


@pytest.fixture
def busy(bare):
    """Two of them."""
    bare.busy = [Busy(bare), Busy(bare)]
    bare.urls = lambda: json.dumps([s.url for s in bare.busy])
    bare.write_profile()
    yield bare
    for server in bare.busy:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("when", ["during the call", "during the wait"])
def test_who_waits_can_be_interrupted(busy, when):
    first, second = busy.busy
    first.answer(429, 5, 5)
    if when == "during the call":
        first.may_answer.clear()
    p = busy.cli_popen("start-session", "--target", "web-1", "--to", "127.0.0.1:9", "--debug")
    says = LineReader(p.stderr)
    if when == "during the call":
        wait_for(lambda: first.calls, "the call")
    else:
        says.wait("the server asks to wait")
    p.send_signal(signal.SIGINT)
    says.wait("the same again ends at once")
    first.may_answer.set()
    assert p.wait(LIMIT) != 0 and (first.calls, second.calls) == (1, 0)


def test_who_is_interrupted_asks_no_other_server(busy):
    first, second = busy.busy
    first.answer(503, 0)
    first.may_answer.clear()
    p = busy.cli_popen("start-session", "--target", "web-1", "--to", "127.0.0.1:9")
    says = LineReader(p.stderr)
    wait_for(lambda: first.calls, "the call")
    p.send_signal(signal.SIGINT)
    says.wait("the same again ends at once")
    first.may_answer.set()
    assert p.wait(LIMIT) != 0 and (first.calls, second.calls) == (1, 0)


def test_a_short_wait_is_waited_once(busy):
    """Who is held up at one server is not to try the next."""
    first, second = busy.busy
    for waits, code, calls, words in (
        ([1], 0, 2, ""),
        ([1, 1], 235, 2, "HTTP 429"),
        ([7200], 235, 1, "it is to be asked again in 7200 s"),
        ([0], 235, 1, "HTTP 429"),
    ):
        first.answer(429, *waits)
        r = busy.cli("whoami", check=False)
        assert (r.returncode, first.calls, second.calls) == (code, calls, 0) and words in r.stderr, (waits, r)


def test_a_busy_server_leaves_it_to_the_next(busy):
    first, second = busy.busy
    for waits, code, calls, words in (
        (([1], []), 0, (1, 1), ""),
        (([1], [1]), 235, (1, 1), "HTTP 503"),
        (([1], [0]), 235, (1, 1), "HTTP 503"),
        (([1], [7200]), 235, (1, 1), "it is to be asked again in 7200 s"),
    ):
        first.answer(503, *waits[0])
        second.answer(503, *waits[1])
        r = busy.cli("whoami", check=False)
        assert (r.returncode, first.calls, second.calls) == (code, *calls) and words in r.stderr, (waits, r)
    second.shutdown()
    second.server_close()
    first.answer(503, 1, 1)
    assert "HTTP 503" in busy.cli("whoami", check=False).stderr  # not: the second cannot be reached


def test_a_good_jwt_is_somebody(jwt_stack):
    jwt_stack.token()
    who = jwt_stack.json("whoami", "--profile", "jwt")
    assert (who["subject"], who["provider"]) == ("dev", "auth-jwt")


def test_the_leeway_is_for_the_end_too(jwt_stack):
    jwt_stack.token(exp=int(time.time()) - 1)
    assert jwt_stack.json("whoami", "--profile", "jwt")["subject"] == "dev"


@pytest.mark.parametrize(
    "claims, words",
    [
        ({"exp": int(time.time()) - 3600}, ["expired"]),
        ({"exp": None}, ["exp"]),
        ({"aud": "other"}, ["aud"]),
        ({"iss": "https://evil.example.com"}, ["iss"]),
        ({"nbf": int(time.time()) + 3600}, ["not valid before"]),
        ({"sub": None}, ["sub"]),
    ],
)
def test_a_bad_jwt_is_told_why(jwt_stack, claims, words):
    jwt_stack.token(**claims)
    refused(jwt_stack, "list-targets", "--profile", "jwt", code=231, words=words)


def test_a_token_by_another_key(jwt_stack, folder):
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    now = int(time.time())
    jwt_stack.token()
    write_secret(folder / "token", jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "dev", "exp": now + 60, "nbf": now}, pem, algorithm="ES256"))
    refused(jwt_stack, "list-targets", "--profile", "jwt", code=231, words=["signature"])


def test_a_key_that_a_token_names_is_not_fetched(jwt_stack, folder):
    called = []
    site = TcpServer(lambda c: called.append(c.getpeername()))
    try:
        other = ec.generate_private_key(ec.SECP256R1())
        pem = other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        jwt_stack.token()
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dev", "exp": int(time.time()) + 60}
        for name in ("jku", "x5u"):
            header = {name: f"http://127.0.0.1:{site.port}/keys.json"}
            write_secret(folder / "token", jwt.encode(claims, pem, algorithm="ES256", headers=header))
            refused(jwt_stack, "list-targets", "--profile", "jwt", code=231, words=["signature is wrong"])
        assert called == []
    finally:
        site.close()


def test_an_encrypted_token(jwt_stack, folder):
    jwt_stack.token()
    write_secret(folder / "token", (folder / "token").read_text() + ".AAAA.AAAA")
    refused(jwt_stack, "list-targets", "--profile", "jwt", code=231, words=["no provider recognises this credential"])


def test_a_forged_sigv4(jwt_stack):
    refused(jwt_stack, "list-targets", code=231, words=["key id or secret is wrong"], TUNNEL_KEY_ID="KDEV", TUNNEL_SECRET="guessed")
    refused(jwt_stack, "list-targets", code=231, words=["key id or secret is wrong"], TUNNEL_KEY_ID="KNOBODY", TUNNEL_SECRET="guessed")


def test_no_credential_at_all(jwt_stack, folder):
    jwt_stack.write_profile("none", 'auth = "jwt";')
    refused(jwt_stack, "list-targets", "--profile", "none", code=230, words=["token_file"])


def test_unknown_target(stack):
    refused(stack, "start-session", "--target", "nowhere", "--login", USER, "--", "true", code=233, words=["nowhere", "tunnel-cli list-targets"])
    refused(stack, "start-session", "--target", "web1", "--to", "127.0.0.1:9", code=233, words=["'web1'", "did you mean web-1?"])


def test_a_login_that_the_target_does_not_have(stack):
    """What ssh could say about a connection that nobody greets is left out."""
    r = stack.cli("start-session", "--target", "web-1", "--login", "no-such-user", "--", "true", check=False)
    assert r.returncode == 237 and "no-such-user" in r.stderr and r.stderr.count("\n") == 1, r


def test_target_offline(stack):
    stack.agents["web-1"].proc.stop()
    from harness import wait_for

    wait_for(lambda: stack.json("describe-target", "web-1")["state"] == "disconnected", "the agent to be seen as gone")
    refused(stack, "start-session", "--target", "web-1", "--login", USER, "--", "true", code=234, words=["web-1", "offline"])


def policy(*statements):
    return {"Version": "2026-01-01", "Statement": list(statements)}


def allow(actions, resource="*", **more):
    return {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": actions, "Resource": [resource], **more}


ADMIN = allow(["tunnel:EnrollTarget", "tunnel:ListTargets", "tunnel:ReadAudit", "tunnel:DescribeSessions", "tunnel:ResumeSession"])


def with_policy(folder, document):
    s = Stack(folder, policy=document)
    s.start_server()
    s.start_agent()
    return s


def test_nothing_is_allowed_that_no_statement_allows(folder):
    s = with_policy(folder, policy(ADMIN))
    try:
        words = ["tunnel:StartSession", "target/web-1"]
        refused(s, "start-session", "--target", "web-1", "--login", USER, "--", "true", code=232, words=words)
        assert [r for r in s.audit() if r["event"] == "denied" and r["action"] == "tunnel:StartSession"]
    finally:
        s.close()


def test_a_forbidden_login(folder):
    s = with_policy(
        folder,
        policy(ADMIN, allow(["tunnel:StartSession", "tunnel:OpenSsh"], Condition={"StringEquals": {"tunnel:Login": ["nobody"]}})),
    )
    try:
        refused(s, "start-session", "--target", "web-1", "--login", "root", "--", "true", code=232, words=["web-1"])
    finally:
        s.close()


def test_a_port_that_policy_forbids(folder):
    s = with_policy(
        folder,
        policy(ADMIN, allow(["tunnel:StartSession"]), allow(["tunnel:OpenTcp"], Condition={"NumericEquals": {"tunnel:Port": [5432]}})),
    )
    try:
        port = free_port()
        refused(s, "start-session", "--target", "web-1", "--to", f"127.0.0.1:{port}", code=232, words=["tunnel:OpenTcp", str(port)])
    finally:
        s.close()


def test_a_port_that_the_agent_forbids(bare):
    """The server cannot widen what the machine's own list allows."""
    bare.start_server()
    bare.start_agent(allow=("ssh", "tcp:127.0.0.1:5432"))
    port = free_port()
    refused(bare, "start-session", "--target", "web-1", "--to", f"127.0.0.1:{port}", code=237, words=["allow list", str(port)], input="")


def test_ssh_that_the_agent_forbids(bare):
    bare.start_server()
    bare.start_agent(allow=("tcp:127.0.0.1:*",))
    r = bare.cli("start-session", "--target", "web-1", "--login", USER, "--", "true", check=False)
    assert r.returncode == 237 and "allow list" in r.stderr, r.stderr


def test_server_away(bare):
    bare.write_profile()
    refused(bare, "list-targets", code=235, words=["localhost", str(bare.port)])


def test_usage_errors_cost_no_call(bare):
    bare.write_profile()
    for args, word in [
        (["start-session"], "--target"),
        (["start-session", "--target", "a/b"], "--target"),
        (["start-session", "--target", "a", "--port-forward", "80"], "PORT:HOST:PORT"),
        (["start-session", "--target", "a", "--login", "-oProxyCommand=x"], "--login"),
        (["frobnicate"], "unknown command"),
        (["list-target"], "did you mean list-targets?"),
        (["--profile", "default", "whoami"], "the command comes first"),
        (["list-targets", "--frob"], "unknown option"),
    ]:
        refused(bare, *args, code=2, words=[word])


def test_an_enrolment_token_works_once(stack):
    agent = stack.agents["web-1"]
    agent.proc.stop()
    from harness import AGENT

    r = subprocess.run(
        [str(AGENT), "enroll", "--config", str(agent.folder / "agent.conf"), "--token-file", str(agent.folder / "token")],
        capture_output=True, text=True, env=stack.env(),
    )
    assert r.returncode != 0 and "token" in r.stderr, r.stderr


def test_problem_json_over_plain_curl(stack):
    base = ["curl", "-sS", "--cacert", f"{stack.folder}/tls/ca.pem"]
    r = json.loads(subprocess.run([*base, f"{stack.url}/v1/targets"], capture_output=True, text=True, check=True).stdout)
    assert (r["status"], r["code"]) == (401, "unauthenticated") and r["request_id"]
    sig = ["--aws-sigv4", "aws:amz:default:tunnel", "--user", f"{stack.key_id}:{stack.secret}"]
    r = json.loads(subprocess.run([*base, *sig, f"{stack.url}/v1/targets"], capture_output=True, text=True, check=True).stdout)
    assert [t["id"] for t in r["targets"]] == ["web-1"]
    r = json.loads(subprocess.run([*base, *sig, f"{stack.url}/v1/nothing"], capture_output=True, text=True, check=True).stdout)
    assert r["code"] == "not-found"


@pytest.mark.parametrize("bound", [False, True])
def test_a_session_outlives_its_token_unless_it_is_bound_to_it(jwt_stack, bound):
    jwt_stack.server.stop()
    jwt_stack.conf = f"session: {{ bind_to_identity = {str(bound).lower()}; }};"
    jwt_stack.start_server()
    jwt_stack.start_agent()
    exp = int(time.time()) + 600
    jwt_stack.token(exp=exp)
    jwt_stack.cli("start-session", "--profile", "jwt", "--target", "web-1", "--login", USER, "--", "true")
    session = jwt_stack.json("list-sessions", "--state", "ended")[0]
    ends = datetime.datetime.fromisoformat(session["expires_at"].replace("Z", "+00:00")).timestamp()
    leeway = 30  # as long as the token itself would be taken
    assert (ends == exp + leeway) if bound else (ends > exp + 3600)
