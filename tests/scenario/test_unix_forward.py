"""Forwards from and to unix sockets."""

import hashlib
import json
import os
import signal
import socket
import threading

import pytest
from harness import LIMIT, LineReader, TcpServer, echo_until_eof, wait_for
from test_cli_resume import end, session_of, state_files
from test_forward import talk
from test_resume import slow_hash
from test_socks import write_policy


class UnixServer(TcpServer):
    def __init__(self, path, handler):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(str(path))
        self.s.listen(64)
        self.handler = handler
        threading.Thread(target=self.run, daemon=True).start()


def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(LIMIT)
    s.connect(str(path))
    return s


def talk_unix(path, data):
    with dial(path) as s:
        def send():
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused: the answer is empty

        t = threading.Thread(target=send)
        t.start()
        got = b"".join(iter(lambda: s.recv(65536), b""))
        t.join()
        return got


def start(stack, *forwards):
    p = stack.cli_popen("start-session", "--target", "web-1", *(x for f in forwards for x in ("--port-forward", f)))
    p.lines = LineReader(p.stderr)
    p.shown = [p.lines.wait("listening on").split("listening on ")[1].split(" for ")[0] for _ in forwards]
    return p


@pytest.fixture
def sockets(bare, folder):
    """A stack whose agent allows the sockets of a folder, where an echo listens at "echo"; with the folder."""
    bare.start_server()
    there = folder / "there"
    there.mkdir()
    bare.start_agent(allow=("ssh", "tcp:127.0.0.1:*", f"unix:{there}/*"))
    bare.there = there
    server = UnixServer(there / "echo", echo_until_eof)
    yield bare
    server.close()


def test_on_either_side(sockets):
    data = os.urandom(1_000_000)
    echo = TcpServer(echo_until_eof)
    one, two = sockets.folder / "one.sock", sockets.folder / "two.sock"
    p = start(sockets, f"{one}:127.0.0.1:{echo.port}", f"0:{sockets.there}/echo", f"{two}:{sockets.there}/echo")
    assert p.shown[0] == str(one) and p.shown[2] == str(two)
    for path in one, two:
        assert path.stat().st_mode & 0o777 == 0o600
        assert talk_unix(path, data) == data
    assert talk(int(p.shown[1].rsplit(":", 1)[1]), data) == data
    assert end(p) == 0
    assert not one.exists() and not two.exists(), "they go with the session"
    opened = wait_for(lambda: len(found := [(r["kind"], r["endpoint"]) for r in sockets.audit() if r["event"] == "stream.open"]) == 3 and found, "the audit log")
    assert opened.count(("unix", f"unix:{sockets.there}/echo")) == 2 and ("tcp", f"127.0.0.1:{echo.port}") in opened


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(sockets):
    path = sockets.folder / "local.sock"
    forward = f"{path}:{sockets.there}/echo"
    p = start(sockets, forward)
    r = sockets.cli("start-session", "--target", "web-1", "-L", forward, check=False)
    assert r.returncode == 230 and "somebody does that already" in r.stderr, r.stderr
    assert talk_unix(path, b"first") == b"first", "it lives"
    p.kill()
    p.wait()
    assert path.exists()
    q = start(sockets, forward)
    assert talk_unix(path, b"second") == b"second"
    assert end(q) == 0
    path.write_text("precious")
    r = sockets.cli("start-session", "--target", "web-1", "-L", forward, check=False)
    assert r.returncode == 230 and "no socket" in r.stderr
    assert path.read_text() == "precious"


def test_what_the_target_says(sockets):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(sockets.there / "dead"))
    dead.close()
    p = start(sockets, *(f"{sockets.folder}/{n}:{sockets.there}/{n}" for n in ("dead", "none")), f"{sockets.folder}/out:{sockets.folder}/elsewhere")
    for name, word in ("dead", "refused"), ("none", "unreachable"), ("out", "not-allowed"):
        assert talk_unix(sockets.folder / name, b"") == b""
        p.lines.wait(f"({word})")
    assert end(p) == 0


def test_the_relay_is_killed_with_bytes_under_way(sockets):
    server = UnixServer(sockets.there / "hash", slow_hash)
    path = sockets.folder / "local.sock"
    p = start(sockets, f"{path}:{sockets.there}/hash")
    block, h = os.urandom(1 << 20), hashlib.sha256()
    with dial(path) as s:
        for n in range(24):
            s.sendall(block)
            h.update(block)
            if n == 8:
                sockets.server.kill()
                sockets.server.p.wait()
                sockets.start_server()
        s.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: s.recv(4096), b"")).decode() == h.hexdigest()
    p.lines.wait("resumed after")
    assert end(p) == 0
    server.close()


def test_policy_and_the_targets_own_list(sockets):
    rights = {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": "tunnel:*", "Resource": "*"}
    paths = {**rights, "Effect": "Deny", "Action": "tunnel:OpenUnix", "Condition": {"StringNotLike": {"tunnel:Path": f"{sockets.there}/e*"}}}
    other = UnixServer(sockets.there / "other", echo_until_eof)
    write_policy(sockets, rights, paths)
    wait_for(lambda: sockets.cli("simulate-policy", "--principal", "dev", "--target", "web-1", "--path", "/x", check=False).returncode == 245, "the policy to be in force")
    r = sockets.cli("start-session", "--target", "web-1", "-L", f"0:{sockets.there}/other", check=False)
    assert r.returncode == 232 and f"endpoint unix:{sockets.there}/other" in r.stderr, r.stderr
    assert any(r["event"] == "denied" and r["action"] == "tunnel:OpenUnix" for r in sockets.audit())
    write_policy(sockets, rights)
    wait_for(lambda: sockets.cli("simulate-policy", "--principal", "dev", "--target", "web-1", "--path", "/x", check=False).returncode == 0, "the policy to be in force")
    one, two = sockets.folder / "one", sockets.folder / "two"
    p = start(sockets, f"{one}:{sockets.there}/echo", f"{two}:{sockets.there}/other")
    with dial(two) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        write_policy(sockets, rights, paths)
        assert s.recv(1) == b"", "taken away while it is open"
    assert talk_unix(two, b"") == b""
    p.lines.wait("(not-allowed)")
    assert talk_unix(one, b"goes on") == b"goes on"
    with dial(one) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        agent = sockets.agents["web-1"]
        conf = agent.folder / "agent.conf"
        conf.write_text(conf.read_text().replace(f"unix:{sockets.there}/*", f"unix:{sockets.there}/other"))
        agent.proc.kill(signal.SIGHUP)
        assert s.recv(1) == b"", "the target's own list took it away"
    assert end(p) == 0
    other.close()


def test_resumed_by_another_client(sockets):
    path = sockets.folder / "local.sock"
    p = start(sockets, f"{path}:{sockets.there}/echo")
    session = session_of(sockets)
    (file,) = state_files(sockets)
    assert json.loads(file.read_text())["forwards"] == [f"{path}:{sockets.there}/echo"]
    q = sockets.cli_popen("resume-session", session)
    q.lines = LineReader(q.stderr)
    q.lines.wait(f"listening on {path} for")
    assert p.wait(LIMIT) == 242
    assert talk_unix(path, b"still") == b"still", "the old client left the new one's socket alone"
    assert end(q) == 0
    assert not path.exists()


def test_mistakes(sockets):
    for spec in "/l:/../r", "/tmp/../l:a:1", "0:/x/", f"/tmp/{'x' * 110}:a:1":
        r = sockets.cli("start-session", "--target", "web-1", "-L", spec, check=False)
        assert r.returncode == 2 and "expected" in r.stderr, (spec, r.stderr)
