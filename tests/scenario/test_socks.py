"""start-session --socks: real clients, rude ones, and what policy and the target's own list say of it."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from harness import LIMIT, LineReader, TcpServer, echo_until_eof, free_port, wait_for
from test_cli_resume import end, session_of, state_files
from test_forward import talk
from test_resume import slow_hash


def start(stack, *args, target="web-1"):
    """A running session with a SOCKS proxy; p.port is its port."""
    p = stack.cli_popen("start-session", "--target", target, "--socks", "0", *args)
    p.lines = LineReader(p.stderr)
    p.port = int(re.search(r":(\d+) for SOCKS", p.lines.wait("for SOCKS")).group(1))
    return p


def ask(host, port):
    """SOCKS 5: the greeting and the request for a name, in one go."""
    name = host.encode()
    return b"\5\1\0" + b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big")


def read(s, n):
    got = b""
    while len(got) < n and (data := s.recv(n - len(got))):
        got += data
    return got


def connect(proxy, host, port):
    """A connection through the proxy, and the reply code."""
    s = socket.create_connection(("127.0.0.1", proxy), LIMIT)
    s.sendall(ask(host, port))
    assert read(s, 2) == b"\5\0"
    return s, read(s, 10)[1]


def page(c):
    head = b""
    while b"\r\n\r\n" not in head:
        head += c.recv(4096)
    body = b"from " + head.split(b" ")[1]
    c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def curl(*args, code=0):
    r = subprocess.run(["curl", "-sS", "--max-time", str(int(LIMIT)), *args], capture_output=True, text=True)
    assert r.returncode == code, r.stderr
    return r.stdout


def test_curl(stack):
    web, echo = TcpServer(page), TcpServer(echo_until_eof)
    p = start(stack, "--port-forward", f"0:127.0.0.1:{echo.port}")
    port = int(re.search(r":(\d+) for 127", "\n".join(p.lines.lines)).group(1))
    for option in "--socks5-hostname", "--socks5", "--socks4a":
        assert curl(option, f"127.0.0.1:{p.port}", f"http://localhost:{web.port}/{option}") == f"from /{option}"
    assert talk(port, b"beside it") == b"beside it"
    curl("--socks5-hostname", f"127.0.0.1:{p.port}", f"http://127.0.0.1:{free_port()}/", code=97)
    assert end(p) == 0
    opened = wait_for(lambda: [o for r in stack.audit() if r["event"] == "stream.open" and (o := r["endpoint"])][3:] and
                      [r["endpoint"] for r in stack.audit() if r["event"] == "stream.open"], "the streams in the audit log")
    assert opened.count(f"localhost:{web.port}") >= 2 and f"127.0.0.1:{echo.port}" in opened


def test_bytes_that_come_with_the_request_are_the_streams(stack):
    echo = TcpServer(echo_until_eof)
    p = start(stack)
    with socket.create_connection(("127.0.0.1", p.port), LIMIT) as s:
        s.sendall(ask("127.0.0.1", echo.port) + b"ahead of the reply")
        assert read(s, 12)[:4] == b"\5\0\5\0"
        s.shutdown(socket.SHUT_WR)
        assert read(s, 100) == b"ahead of the reply"


def test_what_the_target_says_becomes_the_reply(bare):
    bare.start_server()
    bare.start_agent(allow=("tcp:127.0.0.1:*", "tcp:nowhere.invalid:*"))
    p = start(bare)
    for host, port, code in ("127.0.0.1", free_port(), 5), ("127.0.0.2", 80, 2), ("nowhere.invalid", 80, 4):
        s, got = connect(p.port, host, port)
        assert got == code, host
        assert s.recv(1) == b"", "and the connection ends, without a reset"
        s.close()


def test_rude_clients(stack):
    echo = TcpServer(echo_until_eof)
    p = start(stack)
    there = ("127.0.0.1", p.port)
    silent = [socket.create_connection(there, LIMIT) for _ in range(300)]  # more than are served at once
    for s in silent[:100]:
        s.sendall(b"\5\1\0\5\1\0\3\30half")
    for said, answer in ((b"GET / HTTP/1.1\r\n\r\n", b""), (b"\6\1\0", b""), (b"\5\1\2", b"\5\xff"), (b"\4\1\0\120\0\0\0\1" + b"x" * 100000, b"\0\x5b" + bytes(6))):
        for s in silent[:30]:
            s.close()
        silent = silent[30:]
        with socket.create_connection(there, LIMIT) as s:
            try:
                s.sendall(said)
            except ConnectionError:
                pass
            try:
                assert read(s, 100) == answer, said
            except ConnectionResetError:
                assert len(said) > 65536, "more than is listened to"
    for s in silent:
        s.close()
    s, code = connect(p.port, "127.0.0.1", echo.port)
    assert code == 0
    s.sendall(b"still here")
    assert read(s, 10) == b"still here"
    s.close()
    assert end(p) == 0


def half_closed(port):
    """Connections of a local port whose other end has closed."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [r for r in rows if int(r[1].split(":")[1], 16) == port and r[3] == "08"]


def test_a_client_that_does_not_wait_for_the_answer(bare):
    """It hangs up while the target connects: nothing is left of it."""
    bare.start_server()
    bare.start_agent(allow=("tcp:*:*",), conf='connect_timeout = "5m";')
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]
    held = [socket.socket() for _ in range(3)]
    for s in held:
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))  # fills the queue: a further one gets no answer
    p = start(bare)
    s = socket.create_connection(("127.0.0.1", p.port), LIMIT)
    s.sendall(ask("127.0.0.1", port))
    assert read(s, 2) == b"\5\0"
    s.close()
    wait_for(lambda: not half_closed(p.port), "its connection to be closed")
    assert end(p) == 0
    for s in (full, *held):
        s.close()


def test_the_relay_is_killed_with_bytes_under_way(stack):
    server = TcpServer(slow_hash)
    p = start(stack)
    s, code = connect(p.port, "127.0.0.1", server.port)
    assert code == 0
    import hashlib

    block, h = os.urandom(1 << 20), hashlib.sha256()
    for n in range(24):
        s.sendall(block)
        h.update(block)
        if n == 8:
            stack.server.kill()
            stack.server.p.wait()
            stack.start_server()
    s.shutdown(socket.SHUT_WR)
    assert b"".join(iter(lambda: s.recv(4096), b"")).decode() == h.hexdigest()
    s.close()
    p.lines.wait("resumed after")


def write_policy(stack, *statements):
    (stack.folder / "policies" / "base.json").write_text(json.dumps({"Version": "2026-01-01", "Statement": list(statements)}))
    stack.server.kill(signal.SIGHUP)


def test_policy(stack):
    """Every endpoint is allowed without conditions on host and port alone; what is named may depend on them."""
    echo, other = TcpServer(echo_until_eof), TcpServer(echo_until_eof)
    rights = {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": "tunnel:*", "Resource": "*"}
    narrow = [{**rights, "NotAction": "tunnel:OpenTcp"}, {**rights, "Action": "tunnel:OpenTcp", "Condition": {"NumericEquals": {"tunnel:Port": echo.port}}}]
    del narrow[0]["Action"]
    p = start(stack)
    s, code = connect(p.port, "127.0.0.1", echo.port)
    assert code == 0
    write_policy(stack, *narrow)
    assert p.wait(LIMIT) == 241, "nothing is left of it"
    with pytest.raises((ConnectionResetError, AssertionError)):
        s.sendall(b"x")
        assert read(s, 1) == b"x"
    r = stack.cli("start-session", "--target", "web-1", "--socks", "0", check=False)
    assert r.returncode == 232 and "endpoint *" in r.stderr, r.stderr
    assert any(r["event"] == "denied" and "endpoint *" in r["text"] or r["event"] == "denied" and r["action"] == "tunnel:OpenTcp" for r in stack.audit())
    p = start(stack, "--allow", f"127.0.0.1:{echo.port}")
    s, code = connect(p.port, "127.0.0.1", echo.port)
    assert code == 0
    s.close()
    s, code = connect(p.port, "127.0.0.1", other.port)
    assert code == 2
    s.close()
    assert end(p) == 0


def test_a_part_of_the_session_is_taken_away(stack):
    """The proxy's every endpoint goes, with its connections; the port that is named stays."""
    echo, other = TcpServer(echo_until_eof), TcpServer(echo_until_eof)
    rights = {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": "tunnel:*", "Resource": "*"}
    p = start(stack, "--port-forward", f"0:127.0.0.1:{echo.port}")
    port = int(re.search(r":(\d+) for 127", "\n".join(p.lines.lines)).group(1))
    s, code = connect(p.port, "127.0.0.1", other.port)
    assert code == 0
    write_policy(stack, rights, {**rights, "Effect": "Deny", "Action": "tunnel:OpenTcp", "Condition": {"NumericEquals": {"tunnel:Port": other.port}}})
    try:
        assert s.recv(1) == b""
    except ConnectionResetError:
        pass
    s.close()
    s, code = connect(p.port, "127.0.0.1", other.port)
    assert code == 2
    s.close()
    assert talk(port, b"goes on") == b"goes on"
    assert end(p) == 0


def test_resumed_by_another_client(stack):
    echo = TcpServer(echo_until_eof)
    p = start(stack, "--port-forward", f"0:127.0.0.1:{echo.port}")
    session = session_of(stack)
    (file,) = state_files(stack)
    assert json.loads(file.read_text())["socks"] == [f"127.0.0.1:{p.port}"]
    p.kill()
    p.wait()
    q = stack.cli_popen("resume-session", session)
    q.lines = LineReader(q.stderr)
    q.lines.wait(f"listening on 127.0.0.1:{p.port} for SOCKS")
    s, code = connect(p.port, "127.0.0.1", echo.port)
    assert code == 0
    s.close()
    assert end(q) == 0


def test_a_port_that_others_reach_is_warned_of(stack):
    p = stack.cli_popen("start-session", "--target", "web-1", "--socks", "*:0")
    p.lines = LineReader(p.stderr)
    p.lines.wait("for SOCKS")
    assert any("warning" in line for line in p.lines.lines)
    assert end(p) == 0
    p = start(stack)
    assert not any("warning" in line for line in p.lines.lines)
    assert end(p) == 0


def test_usage(stack):
    for args, words in (
        (["--socks", "x"], "--socks x: expected [BIND:]PORT"),
        (["--allow", "a:1"], "--allow belongs to --socks"),
        (["--socks", "0", "--allow", "a"], "--allow a: expected HOST:PORT"),
        (["--socks", "0", "--stdio"], "exclude each other"),
        (["--socks", "0", "--", "ls"], "a command needs SSH"),
    ):
        r = stack.cli("start-session", "--target", "web-1", *args, check=False)
        assert r.returncode == 2 and words in r.stderr, (args, r.stderr)
    assert stack.json("list-sessions") == []
