"""What server and agent tell systemd: ready, reloading, stopping, and that their loops turn."""

import ctypes
import os
import signal
import socket
from pathlib import Path

import pytest
from harness import LIMIT, wait_for

WATCHDOG_S = 1.5
PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000


class Systemd:
    """The socket that NOTIFY_SOCKET names, and the environment that goes with it."""

    def __init__(self, folder, monkeypatch):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))

    def next(self):
        return self.socket.recv(4096).decode()

    def wait(self, word):
        """What else the message says that has the word."""
        while word not in (words := self.next().split("\n")):
            pass
        return [w for w in words if w != word]

    def wait_silence(self):
        """Until nothing came for as long as systemd waits before it takes the program for dead."""
        self.socket.settimeout(WATCHDOG_S)
        try:
            while True:
                self.next()
        except TimeoutError:
            self.socket.settimeout(60)


@pytest.fixture
def systemd(folder, monkeypatch):
    s = Systemd(folder, monkeypatch)
    yield s
    s.socket.close()


def test_the_server_tells_of_its_states(bare, systemd):
    bare.start_server()
    systemd.wait("READY=1")
    systemd.wait("WATCHDOG=1")
    bare.server.kill(signal.SIGHUP)
    systemd.wait("RELOADING=1")
    systemd.wait("READY=1")
    systemd.wait("WATCHDOG=1")
    assert b"NOTIFY_SOCKET" in Path(f"/proc/{bare.server.pid}/environ").read_bytes()  # what it was started with
    bare.server.kill(signal.SIGTERM)
    (said,) = systemd.wait("STOPPING=1")
    name, _, us = said.partition("=")
    assert name == "EXTEND_TIMEOUT_USEC" and int(us) > 20 * 1000000, "longer than drain_timeout, and as long again"
    assert bare.server.p.wait(LIMIT) == 0


def stop_thread(tid):
    """Stops one thread alone, as a tracer may; None where tracing is forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, tid, None, None) != 0:
        return None
    os.waitpid(tid, WALL)
    return lambda: libc.ptrace(PTRACE_DETACH, tid, None, None)


@pytest.mark.parametrize("which", ["reactor-0", "reactor-1"])
def test_a_reactor_that_hangs_is_noticed(bare, systemd, which):
    bare.reactors = 2
    bare.start_server()
    systemd.wait("WATCHDOG=1")
    names = {p.name: (p / "comm").read_text().strip() for p in Path(f"/proc/{bare.server.pid}/task").iterdir()}
    (tid,) = [int(t) for t, name in names.items() if name == which]
    go_on = stop_thread(tid)
    if not go_on:
        pytest.skip("no thread can be stopped here: ptrace is forbidden")
    systemd.wait_silence()
    go_on()
    systemd.wait("WATCHDOG=1")


def test_the_agent_tells_of_its_states(bare, systemd, monkeypatch):
    told = os.environ.pop("NOTIFY_SOCKET")
    bare.start_server()
    monkeypatch.setenv("NOTIFY_SOCKET", told)
    agent = bare.start_agent()
    systemd.wait("STATUS=connected")
    systemd.wait("WATCHDOG=1")
    agent.proc.kill(signal.SIGSTOP)
    systemd.wait_silence()
    agent.proc.kill(signal.SIGCONT)
    systemd.wait("WATCHDOG=1")
    agent.proc.kill(signal.SIGHUP)
    systemd.wait("RELOADING=1")
    systemd.wait("READY=1")
    agent.proc.kill(signal.SIGTERM)
    systemd.wait("STOPPING=1")
    wait_for(lambda: not agent.proc.alive(), "the agent to end")


def test_without_a_watchdog_nobody_is_told(bare, systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", "1")  # another process is meant
    bare.start_server()
    systemd.wait("READY=1")
    bare.server.kill(signal.SIGTERM)
    said = []
    while not any(text.startswith("STOPPING=1\n") for text in said):
        said.append(systemd.next())
    assert "WATCHDOG=1" not in said
    assert bare.server.p.wait(LIMIT) == 0
