"""Standard input and output as a stream's end: terminals, and directions that end one before the other."""

import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import CLI, LIMIT, LineReader, TcpServer, echo_until_eof, free_port, wait_for


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


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_descriptors_that_are_closed(stack, closed):
    """They are as /dev/null."""
    server = TcpServer(echo_until_eof)
    command = f"exec {CLI} start-session --target web-1 --to 127.0.0.1:{server.port} {closed}"
    r = subprocess.run(["bash", "-c", command], env=stack.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == 0, r


def test_a_server_whose_standard_descriptors_are_closed(bare):
    bare.place = lambda role, args: ["bash", "-c", 'exec "$0" "$@" <&- >&- 2>&-', *map(str, args)] if role == "server" else args
    bare.start_server()
    assert {os.readlink(f"/proc/{bare.server.pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}


def test_a_reader_that_has_enough(stack):
    """As in any pipe: the writer ends by it, and says nothing."""

    def endless(c):
        try:
            while True:
                c.sendall(b"x" * 65536)
        except OSError:
            pass

    p = stack.cli_popen("start-session", "--target", "web-1", "--to", f"127.0.0.1:{TcpServer(endless).port}", stdin=subprocess.PIPE)
    assert p.stdout.read(1) == b"x"
    p.stdout.close()
    assert p.wait(LIMIT) == 128 + signal.SIGPIPE
    assert p.stderr.read() == b""


def test_a_service_that_breaks_off_has_refused_nothing(stack):
    def reset(c):
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()

    p = stack.cli_popen("start-session", "--target", "web-1", "--to", f"127.0.0.1:{TcpServer(reset).port}", stdin=subprocess.PIPE)
    p.stdin.write(b"x")
    p.stdin.flush()
    assert p.wait(LIMIT) == 1
    assert b"Connection reset by peer (io)" in p.stderr.read()


def test_a_port_where_nobody_listens(stack):
    r = stack.cli("start-session", "--target", "web-1", "--to", f"127.0.0.1:{free_port()}", check=False)
    assert (r.returncode, "(refused)" in r.stderr) == (237, True), r.stderr
