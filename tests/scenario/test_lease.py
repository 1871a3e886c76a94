"""An agent that the control plane cannot reach: with a lease its sessions freeze, and go on when it is back."""

import socket

import pytest
from harness import LIMIT, CutProxy, Stack, TcpServer, echo_until_eof, is_gone, opens_nothing, wait_for

FROZEN, GOES_ON = "the session is frozen", "the session goes on"


@pytest.fixture
def leased(folder):
    """The agent's control connection goes through a proxy, the legs do not."""
    s = Stack(folder, conf='session: { control_lease = "1s"; };')
    s.proxy = CutProxy(s.port)
    try:
        direct, s.url = s.url, f"https://localhost:{s.proxy.port}"
        s.start_server()
        s.agent = s.start_agent()
        s.url = direct
        s.write_profile()
        s.start_agent("web-2")
        yield s
    finally:
        s.close()
        s.proxy.close()


def connect(port):
    c = socket.create_connection(("127.0.0.1", port), LIMIT)
    say(c, b"hello")
    return c


def say(c, what):
    c.sendall(what)
    got = b""
    while len(got) < len(what):
        got += c.recv(len(what) - len(got))
    assert got == what


def is_silent(c, other):
    """Nothing comes, while the other is answered again and again."""
    for _ in range(20):
        say(other, b"x" * 1000)
    try:
        c.setblocking(False)
        return c.recv(1) is None
    except BlockingIOError:
        return True
    finally:
        c.settimeout(LIMIT)


def frozen_then_back(stack, cut, back):
    dest = f"127.0.0.1:{TcpServer(echo_until_eof).port}"
    p, (port,) = stack.forward("web-1", dest)
    _, (other_port,) = stack.forward("web-2", dest)
    with connect(port) as c, connect(other_port) as other:
        cut()
        wait_for(lambda: FROZEN in stack.agent.proc.text(), "the worker to freeze")
        c.sendall(b"while it is frozen")
        assert is_silent(c, other)
        assert opens_nothing(port)
        p.lines.wait("out of the control plane's reach")
        back()
        got = b""
        while len(got) < 18:
            got += c.recv(18 - len(got))
        assert got == b"while it is frozen", "not a byte is lost"
        say(c, b"and on")
        connect(port).close()


def test_the_control_connection_is_away(leased):
    def cut():
        leased.proxy.held = True
        leased.proxy.cut()

    def back():
        leased.proxy.held = False

    frozen_then_back(leased, cut, back)
    assert GOES_ON in leased.agent.proc.text()


def test_the_supervisor_is_away(leased):
    def cut():
        leased.agent.proc.kill()
        leased.agent.proc.p.wait()

    frozen_then_back(leased, cut, leased.agent.restart)


def test_a_connection_that_was_on_its_way(leased):
    """It is there when the session is frozen, and nobody's."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as slow, socket.create_connection(slow.getsockname()):
        port = slow.getsockname()[1]  # its queue is full: another connection is tried again and again
        p, (here,) = leased.forward("web-1", f"127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", here), LIMIT) as c:
            wait_for(lambda: is_asked_for(port), "the target to connect")
            leased.proxy.held = True
            leased.proxy.cut()
            wait_for(lambda: FROZEN in leased.agent.proc.text(), "the worker to freeze")
            slow.accept()[0].close()
            assert is_gone(c)
            leased.agent.proc.wait_log("stream refused")
            assert "stream opened" not in leased.agent.proc.text()
            leased.proxy.held = False
            leased.agent.proc.wait_log(GOES_ON)


def is_asked_for(port):
    """A connection to it is on its way: SYN_SENT."""
    with open("/proc/net/tcp") as f:
        return any(row.split()[2].endswith(f":{port:04X}") and row.split()[3] == "02" for row in list(f)[1:])


def test_without_a_lease_it_goes_on(stack):
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    with connect(port) as c:
        stack.agents["web-1"].proc.kill()
        stack.agents["web-1"].proc.p.wait()
        wait_for(lambda: stack.json("describe-target", "web-1")["state"] != "connected", "the agent to be missed")
        say(c, b"still here")
        assert FROZEN not in stack.agents["web-1"].proc.text()
