"""Standard input and output as a stream's end: terminals, and directions that end one before the other."""

import fcntl
import os
import pty
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import CLI, LIMIT, LineReader, TcpServer, echo_until_eof, wait_for


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    yield ours, theirs
    for fd in (ours, theirs):
        os.close(fd)


def is_nonblocking(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def descriptors(pid, name):
    """How many descriptors of that file the process has."""
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(fd))
        except FileNotFoundError:
            pass
    return sum(1 for link in links if name in link)


def test_target_ends_first_and_a_terminal_later(stack, terminal):
    """The output's end comes while the input is open; then the input ends. The terminal is as it was."""
    ours, theirs = terminal
    server = TcpServer(lambda c: (c.sendall(b"hello\n"), c.shutdown(1), c.recv(1)))
    p = stack.cli_popen("start-session", "--target", "web-1", "--to", f"127.0.0.1:{server.port}", stdin=theirs, stdout=theirs)
    assert b"hello" in os.read(ours, 100)
    name = os.ttyname(theirs)
    wait_for(lambda: descriptors(p.pid, name) == 1, "the output to be closed")
    assert is_nonblocking(theirs), "the input still is the same terminal"
    os.write(ours, b"\x04")
    assert p.wait(LIMIT) == 0, p.stderr.read()
    assert not is_nonblocking(theirs)


def test_input_ends_first(stack, terminal):
    ours, theirs = terminal
    go = threading.Event()

    def server(c):
        while c.recv(100):
            pass
        go.wait(LIMIT)
        c.sendall(b"late\n")

    p = stack.cli_popen(
        "start-session", "--target", "web-1", "--to", f"127.0.0.1:{TcpServer(server).port}", stdin=theirs, stdout=theirs
    )
    name = os.ttyname(theirs)
    wait_for(lambda: descriptors(p.pid, name) == 2, "the stream to begin")
    os.write(ours, b"\x04")
    wait_for(lambda: descriptors(p.pid, name) == 1, "the input to be closed")
    assert is_nonblocking(theirs), "a terminal that is stopped must not stop the session"
    go.set()
    assert p.wait(LIMIT) == 0, p.stderr.read()
    assert b"late" in os.read(ours, 100)
    assert not is_nonblocking(theirs)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_forward_without_descriptors_waits(stack):
    """More connections than the process may have files: they wait, without a busy loop, and are served later."""
    server = TcpServer(echo_until_eof)
    command = f"ulimit -n 40; exec {CLI} start-session --target web-1 --port-forward 0:127.0.0.1:{server.port}"
    p = subprocess.Popen(["bash", "-c", command], env=stack.env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stack.procs.append(p)
    port = int(re.search(r":(\d+) for", LineReader(p.stderr).wait("listening on")).group(1))
    connections = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(60)]
    wait_for(lambda: len(os.listdir(f"/proc/{p.pid}/fd")) >= 32, "all descriptors but the reserve to be in use")
    cpu, end = cpu_seconds(p.pid), time.monotonic() + 1
    wait_for(lambda: time.monotonic() > end, "a second to pass")
    assert cpu_seconds(p.pid) - cpu < 0.5
    for i, c in enumerate(connections):
        c.sendall(b"%d" % i)
        c.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: c.recv(100), b"")) == b"%d" % i
        c.close()
