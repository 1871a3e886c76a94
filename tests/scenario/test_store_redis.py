"""A server whose store is Redis: what becomes of sessions while Redis is away."""

import getpass
import shutil
import socket
import subprocess

import harness
import pytest
from cluster import Redis
from harness import LIMIT, LineReader, TcpServer, echo_until_eof, wait_for
from rawclient import RawSession, call

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")


class OnRedis(harness.Stack):
    def store(self):
        return f'plugin = "store-redis"; address = "{self.redis.path}";'


@pytest.fixture
def on_redis(folder):
    s = OnRedis(folder)
    s.redis = Redis(folder / "redis")
    try:
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()
        s.redis.close()


class Forward:
    """A TCP session to an echo."""

    def __init__(self, stack):
        self.p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
        self.s = socket.create_connection(("127.0.0.1", port), LIMIT)

    def echoes(self, text):
        self.s.sendall(text)
        got = b""
        while len(got) < len(text):
            more = self.s.recv(len(text))
            assert more, "the session is over"
            got += more
        return got == text


class Shell:
    """An SSH session that says back what it is told."""

    def __init__(self, stack):
        self.p = stack.cli_popen("start-session", "--target", "web-1", "--login", getpass.getuser(), "--", "cat", stdin=subprocess.PIPE)
        self.lines = LineReader(self.p.stdout)

    def echoes(self, word):
        self.p.stdin.write(word + b"\n")
        self.p.stdin.flush()
        return self.lines.wait(word.decode()).strip() == word.decode()

    def end(self):
        self.p.stdin.close()
        assert self.p.wait(LIMIT) == 0


def test_sessions_outlive_redis(on_redis):
    s = on_redis
    forward, shell = Forward(s), Shell(s)
    assert forward.echoes(b"before") and shell.echoes(b"before")
    sessions = {x["id"] for x in s.json("list-sessions")}
    assert len(sessions) == 2
    s.redis.kill()
    for i in range(20):
        assert forward.echoes(b"%d" % i * 10000) and shell.echoes(b"away-%d" % i)
    refused = s.cli("start-session", "--target", "web-1", "--port-forward", "0:127.0.0.1:1", check=False)
    assert refused.returncode not in (0, 255) and "store" in refused.stderr, refused
    with pytest.raises(AssertionError, match="503"):
        RawSession(s)
    assert forward.echoes(b"still") and shell.echoes(b"still")
    s.redis.start()
    wait_for(lambda: s.cli("list-sessions", check=False).returncode == 0, "the store to work again", every=0.1)
    assert {x["id"] for x in s.json("list-sessions")} == sessions
    assert forward.echoes(b"after") and shell.echoes(b"after")
    wait_for(lambda: call(s, "GET", "/readyz")[0] == 200, "the server to be ready", every=0.1)
    another = Forward(s)
    assert another.echoes(b"new") and forward.echoes(b"old")
    shell.end()
    assert [r["event"] for r in s.audit()].count("session.start") == 3
    assert "records are whole" in s.cli("verify-audit").stdout


def test_redis_killed_while_sessions_start(on_redis):
    """Every session that was answered to its client is in the store after Redis was killed and has read its file again."""
    s = on_redis
    answered = []
    for turn in range(3):
        starting = {
            f"{turn}.{i}": s.cli_popen("start-session", "--target", "web-1", "--port-forward", "0:127.0.0.1:1", "--reason", f"{turn}.{i}")
            for i in range(4)
        }
        readers = [LineReader(p.stderr) for p in starting.values()]
        wait_for(lambda: any("listening on" in line for r in readers for line in r.lines), "a session to start")
        s.redis.kill()
        s.redis.start()
        wait_for(lambda: all(r.eof or any("listening on" in line for line in r.lines) for r in readers), "each to start or to be refused")
        answered += [name for name, p in starting.items() if p.poll() is None]
        wait_for(lambda: s.cli("list-sessions", check=False).returncode == 0, "the store to work again", every=0.1)
    assert answered and set(answered) <= {x["reason"] for x in s.json("list-sessions")}
    assert set(answered) <= {r.get("reason") for r in s.audit() if r["event"] == "session.start"}
