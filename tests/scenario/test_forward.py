"""Many TCP connections over one session: parallel, half-closed, refused."""

import hashlib
import os
import signal
import socket
import threading

import pytest
from harness import LIMIT, LineReader, TcpServer, echo_until_eof, free_port, wait_for


def talk(port, data, host="127.0.0.1"):
    """Sends data, half-closes, reads to the end."""
    with socket.create_connection((host, port), LIMIT) as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

        t = threading.Thread(target=send)
        t.start()
        got = b"".join(iter(lambda: s.recv(65536), b""))
        t.join()
        return got


def test_50_parallel_connections(stack):
    server = TcpServer(echo_until_eof)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{server.port}")
    wrong = []

    def one(i):
        data = os.urandom(200_000 + i * 1000)
        if hashlib.sha256(talk(port, data)).digest() != hashlib.sha256(data).digest():
            wrong.append(i)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    assert len(stack.json("list-sessions", "--state", "ended")) == 1
    # The agent reports on its own connection, after the fact.
    wait_for(lambda: len([r for r in stack.audit() if r["event"] == "stream.open"]) == 50, "50 streams in the audit log")


def test_several_ports_in_one_session(stack):
    one, two = TcpServer(lambda c: c.sendall(b"one")), TcpServer(lambda c: c.sendall(b"two"))
    _, ports = stack.forward("web-1", f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}")
    assert [talk(port, b"") for port in ports] == [b"one", b"two"]


def test_a_forward_listens_where_it_is_told(stack):
    server = TcpServer(echo_until_eof)
    p = stack.cli_popen("start-session", "--target", "web-1", "--port-forward", f"127.0.0.2:0:127.0.0.1:{server.port}")
    port = int(LineReader(p.stderr).wait("listening on 127.0.0.2:").split(" for ")[0].rsplit(":", 1)[1])
    assert talk(port, b"there", "127.0.0.2") == b"there"
    with pytest.raises(ConnectionRefusedError):
        talk(port, b"here")


def test_half_close_from_the_client(stack):
    """`nc -N`: the far side sees the end of input and answers afterwards."""

    def count(c):
        total = 0
        while data := c.recv(65536):
            total += len(data)
        c.sendall(f"{total} bytes".encode())

    _, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(count).port}")
    assert talk(port, b"x" * 100_000) == b"100000 bytes"


def test_half_close_from_the_target(stack):
    """The target closes its direction first; the client's bytes still arrive."""
    got, done = [], threading.Event()

    def server(c):
        c.sendall(b"bye")
        c.shutdown(socket.SHUT_WR)
        while data := c.recv(65536):
            got.append(data)
        done.set()

    _, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(server).port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        assert b"".join(iter(lambda: s.recv(100), b"")) == b"bye"
        s.sendall(b"y" * 50_000)
    assert done.wait(LIMIT)
    assert b"".join(got) == b"y" * 50_000


def test_nc_style_pipe(stack):
    server = TcpServer(echo_until_eof)
    data = os.urandom(3_000_000)
    r = stack.cli("start-session", "--target", "web-1", "--to", f"127.0.0.1:{server.port}", input=data, text=False)
    assert r.stdout == data


def test_connection_refused_is_told(stack):
    port = free_port()
    r = stack.cli("start-session", "--target", "web-1", "--to", f"127.0.0.1:{port}", input="", check=False)
    assert r.returncode == 237
    assert "refused" in r.stderr and str(port) in r.stderr


def test_both_reactors_carry_a_session(bare):
    """With many legs on two reactors, some sessions have their ends on different ones; all must flow."""
    bare.start_server()
    bare.start_agent()
    server = TcpServer(echo_until_eof)
    forwards = [bare.forward("web-1", f"127.0.0.1:{server.port}") for _ in range(6)]
    for i, (_, (port,)) in enumerate(forwards):
        data = os.urandom(1_000_000 + i)
        assert talk(port, data) == data
