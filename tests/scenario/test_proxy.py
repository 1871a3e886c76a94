"""Everything goes through an HTTP proxy: where the server's URL points, nobody listens."""

import base64
import subprocess

import pytest
from harness import LIMIT, USER, CutProxy, LineReader, Stack, free_port, wait_for


class ConnectProxy(CutProxy):
    """An HTTP proxy that knows CONNECT alone, asks for a password, and takes every address for the server's."""

    __slots__ = ("seen",)

    def __init__(self, port):
        self.seen = []  # (user, address) of all that it let through
        super().__init__(port)

    def handle(self, c):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += c.recv(4096) or b"\r\n\r\n"
        (method, address, _), *fields = (line.split(" ", 2) for line in head.decode().split("\r\n")[:-2])
        secret = next((x[-1].removeprefix("Basic ") for x in fields if x[0].lower() == "proxy-authorization:"), "")
        user, _, password = base64.b64decode(secret).decode().partition(":")
        if method != "CONNECT" or password != "let me":
            c.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
            return
        self.seen.append((user, address))
        c.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
        self.join(c)

    def url(self, user):
        return f"http://{user}:let%20me@127.0.0.1:{self.port}"

    def users(self):
        return [user for user, _ in self.seen]


@pytest.fixture
def behind(folder):
    s = Stack(folder)
    s.proxy = ConnectProxy(s.port)
    s.url = s.relay_url = f"https://localhost:{free_port()}"
    try:
        s.start_server()
        s.write_profile(extra=f'auth = "hmac"; credentials = "{folder}/cli-credentials"; proxy = "{s.proxy.url("cli")}";')
        s.start_agent(conf=f'proxy = "{s.proxy.url("agent")}";')
        yield s
    finally:
        s.close()
        s.proxy.close()


def test_a_command_through_a_proxy_that_cuts(behind):
    proxy = behind.proxy
    assert proxy.users().count("agent") >= 2, "enrolment and control"
    before = len(proxy.seen)
    p = behind.cli_popen(
        "start-session", "--target", "web-1", "--login", USER, "--", "while read x; do echo got $x; done; exit 7", stdin=subprocess.PIPE
    )
    out, err = LineReader(p.stdout), LineReader(p.stderr)

    def say(word):
        p.stdin.write(word + b"\n")
        p.stdin.flush()
        out.wait("got " + word.decode())

    say(b"one")
    assert proxy.users()[before:].count("agent") >= 1, "a leg"
    assert proxy.users()[before:].count("cli") >= 2, "a call and a leg"
    before = len(proxy.seen)
    assert proxy.cut() >= 3, "the legs and the control connection"
    say(b"two")
    err.wait("resumed after")
    wait_for(lambda: proxy.users()[before:].count("agent") >= 2, "the agent to be back")
    p.stdin.close()
    assert p.wait(LIMIT) == 7
    assert {address for _, address in proxy.seen} == {behind.url.removeprefix("https://")}


def test_the_environments_proxy(behind):
    behind.write_profile()
    start = ["start-session", "--target", "web-1", "--login", USER, "--", "exit 7"]
    assert behind.cli(*start, check=False, https_proxy=behind.proxy.url("env")).returncode == 7
    before = len(behind.proxy.seen)
    assert behind.proxy.users().count("env") >= 2
    for env in ({}, {"https_proxy": behind.proxy.url("env"), "no_proxy": "localhost"}):
        assert behind.cli(*start, check=False, **env).returncode == 235
    assert "env" not in behind.proxy.users()[before:]


def test_a_wrong_password_is_told(behind):
    wrong = behind.proxy.url("env").replace("let%20me", "letmein")
    behind.write_profile()
    r = behind.cli("whoami", check=False, https_proxy=wrong)
    assert r.returncode == 235 and "407" in r.stderr, r.stderr
    assert "letmein" not in r.stderr
