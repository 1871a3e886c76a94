"""A server whose store is Redis: what becomes of sessions while Redis is away."""

import shutil
import socket
import subprocess

import harness
import pytest
from harness import LIMIT, Proc, TcpServer, echo_until_eof, wait_for

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")


class RedisStack(harness.Stack):
    """The store is a redis-server of the stack's own."""

    def start_redis(self):
        (self.folder / "redis").mkdir(exist_ok=True)
        self.socket = self.folder / "redis" / "s"
        self.redis = Proc(["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder / "redis", "--save", "",
                           "--appendonly", "yes", "--appendfsync", "always"], self.folder / "redis.log")
        self.procs.append(self.redis)
        wait_for(lambda: "PONG" in self.redis_cli("ping"), "redis")

    def redis_cli(self, *args):
        return subprocess.run(["redis-cli", "-s", self.socket, *args], capture_output=True, text=True, timeout=LIMIT).stdout

    def write_conf(self):
        super().write_conf()
        path = self.folder / "server.conf"
        text = path.read_text()
        sqlite = f'plugin = "store-sqlite"; path = "{self.folder}/state/tunnel.db";'
        assert sqlite in text
        path.write_text(text.replace(sqlite, f'plugin = "store-redis"; address = "{self.socket}";'))


@pytest.fixture
def on_redis(folder):
    s = RedisStack(folder)
    try:
        s.start_redis()
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()


def test_sessions_outlive_redis(on_redis):
    s = on_redis
    p, (port,) = s.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:

        def echoes(text):
            c.sendall(text)
            got = b""
            while len(got) < len(text):
                got += c.recv(len(text))
            return got == text

        assert echoes(b"before")
        sessions = s.json("list-sessions")
        s.redis.kill()
        for i in range(20):
            assert echoes(b"%d" % i * 10000)
        refused = s.cli("start-session", "--target", "web-1", "--port-forward", "0:127.0.0.1:1", check=False)
        assert refused.returncode not in (0, 255) and "store" in refused.stderr, refused
        assert echoes(b"while redis is away")
        s.start_redis()
        wait_for(lambda: s.cli("list-sessions", check=False).returncode == 0, "the store to work again")
        after = s.json("list-sessions")
        assert [x["id"] for x in after] == [x["id"] for x in sessions] and len(after) == 1
        assert echoes(b"after")
        p2, (port2,) = s.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
        with socket.create_connection(("127.0.0.1", port2), LIMIT) as c2:
            c2.sendall(b"new")
            assert c2.recv(3) == b"new"
        assert echoes(b"still there")
    assert [r["event"] for r in s.audit()].count("session.start") == 2
    assert s.cli("verify-audit", check=False).returncode == 0
