"""A server behind haproxy, with the configuration that docs/operators.md gives."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from harness import USER, LineReader, Proc, Stack, free_port, wait_for

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def configuration(stack, port):
    """The guide's block, with the names and places of the test, and a socket that tells the health of the server."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", GUIDE.read_text(), re.S)
    for old, new in (("bind :443", f"bind 127.0.0.1:{port}"), ("tunnel.example.com", "localhost"), ("/etc/tunnel/ca.pem", f"{stack.folder}/tls/ca.pem"),
                     ("192.0.2.11:8443", f"127.0.0.1:{stack.port}")):
        assert old in text, old
        text = text.replace(old, new)
    return f"global\n    stats socket {stack.folder}/stats\n\n{text}"


def health(stack):
    """What haproxy says of the node: (status, last check)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(stack.folder / "stats"))
        s.sendall(b"show stat\n")
        rows = b"".join(iter(lambda: s.recv(65536), b"")).decode().splitlines()
    names = rows[0].removeprefix("# ").split(",")
    (row,) = [dict(zip(names, r.split(","))) for r in rows[1:] if r.startswith("tunnel,node-1,")]
    return row["status"], row["check_status"], row["check_code"]


def start_haproxy(stack):
    stack.haproxy = Proc([shutil.which("haproxy"), "-db", "-f", stack.folder / "haproxy.cfg"], stack.folder / "haproxy.log")
    stack.procs.append(stack.haproxy)
    wait_for(lambda: (stack.folder / "stats").exists() and socket.socket().connect_ex(("127.0.0.1", stack.front)) == 0, "haproxy to listen")


@pytest.fixture
def fronted(folder):
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    s = Stack(folder)
    s.front = free_port()
    (folder / "haproxy.cfg").write_text(configuration(s, s.front))
    s.url = s.relay_url = f"https://localhost:{s.front}"
    try:
        s.start_server()
        start_haproxy(s)
        wait_for(lambda: health(s) == ("UP", "L7OK", "200"), "the health check")
        s.start_agent()
        yield s
    finally:
        s.close()


def test_a_session_through_haproxy(fronted):
    """It lives through a restart of haproxy and one of the server, which haproxy sees go and come back."""
    s = fronted
    p = s.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "cat", stdin=subprocess.PIPE)
    lines = LineReader(p.stdout)

    def says(word):
        p.stdin.write(word.encode() + b"\n")
        p.stdin.flush()
        lines.wait(word)

    says("through a balancer")
    s.haproxy.kill()
    start_haproxy(s)
    says("through another one")
    s.server.kill()
    wait_for(lambda: health(s)[0] == "DOWN", "haproxy to see that the server is gone")
    s.start_server()
    wait_for(lambda: health(s)[0] == "UP", "haproxy to see it again")
    says("and to a new server")
    p.stdin.close()
    assert p.wait(60) == 0
