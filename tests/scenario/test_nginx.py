"""A server behind nginx, with the configuration that docs/operators.md gives."""

import re
import shutil
import socket
from pathlib import Path

import pytest
from harness import USER, Proc, Stack, TcpServer, echo_until_eof, free_port, wait_for

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def configuration(stack, port):
    """The guide's block, with the names and places of the test."""
    (text,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(), re.S)
    for old, new in (("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("tunnel.example.com", "localhost"), ("/etc/nginx/tunnel.pem", f"{stack.folder}/tls/server.pem"),
                     ("/etc/nginx/tunnel.key", f"{stack.folder}/tls/server.key"), ("/etc/tunnel/ca.pem", f"{stack.folder}/tls/ca.pem"), ("127.0.0.1:8443", f"127.0.0.1:{stack.port}")):
        assert old in text, old
        text = text.replace(old, new)
    places = "".join(f"{name}_temp_path {stack.folder}/nginx-{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root; " if USER == "root" else ""
    return f"{user}daemon off; pid {stack.folder}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {places}\n{text} }}"


@pytest.fixture
def fronted(folder):
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    s, port = Stack(folder), free_port()
    (folder / "nginx.conf").write_text(configuration(s, port))
    s.url = s.relay_url = f"https://localhost:{port}"
    s.nginx = Proc([shutil.which("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"], folder / "nginx.log")
    s.procs.append(s.nginx)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "nginx to listen")
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()


def test_a_session_through_nginx(fronted):
    s = fronted
    assert s.json("whoami")["subject"] == "dev"
    r = s.cli("start-session", "--target", "web-1", "--login", USER, "--", "head", "-c", "3000000", "/dev/zero", text=False)
    assert r.stdout == bytes(3000000)
    p, (port,) = s.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    with socket.create_connection(("127.0.0.1", port), 60) as c:
        c.sendall(b"through two TLS and one more")
        assert c.recv(100) == b"through two TLS and one more"
        assert all(row["remote_address"].startswith("127.0.0.1") for row in s.audit() if row.get("remote_address"))
    assert s.port != int(s.url.rsplit(":", 1)[1])
