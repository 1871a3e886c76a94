"""Little memory, from what a program just starts with to plenty of it: it works, or refuses or ends and says why. Nothing crashes or
hangs, the sessions of others go on, and what was answered is in the log."""

import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from harness import CLI, LIMIT, SERVER, Proc, wait_for
from rawclient import call
from test_failing_calls import DENY_BOB
from test_outages import Echo, check_answered, is_ready, start, starts_again, wrapped  # noqa: F401

MIB = 1 << 20
WORDS = ("memory", "Resource temporarily unavailable", "failed to map segment", "cannot start a thread")
LAST_WORD = "out of memory, and the reserve is used up: ending, so that a restart can help"

pytestmark = pytest.mark.skipif(
    any(name in SERVER.read_bytes() for name in (b"__asan_init", b"__tsan_init")), reason="sanitizers need terabytes of addresses"
)


def limited(size, args):
    return ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(size // 1024), *map(str, args)]


def size_of(pid, row="VmSize"):
    return 1024 * int(re.search(rf"{row}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def ended_well(code, text):
    """With a word; and by a signal only where that word says so."""
    assert any(w in text for w in WORDS), f"ended with {code}, and said {text!r}"
    assert code > 0 or (code == -signal.SIGABRT and LAST_WORD in text), f"ended with {code}: {text}"


class ServerLife:
    """A server comes up in so much memory, is asked for changes, and goes; answered: the policies that it said it has."""

    def __init__(self, stack):
        self.stack, self.answered, self.n = stack, set(), 0

    def __call__(self, size):
        """Whether it came up."""
        s, ready = self.stack, self.stack.folder / "ready"
        ready.unlink(missing_ok=True)
        server = Proc(limited(size, s.server.args), s.folder / "server.log")
        s.procs.append(server)
        wait_for(lambda: ready.exists() or not server.alive(), "the server to be up or to have given up")
        came_up = server.alive()
        for _ in range(3 if came_up else 0):
            self.change()
        if server.alive():
            assert server.stop() == 0
        else:
            ended_well(server.p.returncode, server.text())
        return came_up

    def change(self):
        self.n += 1
        status, answer = call(self.stack, "PUT", f"/v1/policies/p-{self.n}", DENY_BOB)
        assert status in (0, 200, 201) or (status == 503 and "memory" in answer["detail"]), (status, answer)
        if status in (200, 201):
            self.answered.add(f"p-{self.n}")


def one_arena(role, args):
    """All threads allocate from one place, so that what is left is left for nobody else."""
    return ["env", "MALLOC_ARENA_MAX=1", *map(str, args)] if role == "server" else args


def test_a_server_that_starts_with_little(wrapped):  # noqa: F811
    """Every limit on the way to the least that it starts with is one more to end well at."""
    wrapped.wrap = one_arena
    wrapped.start_server()
    few, enough = 4 * MIB, size_of(wrapped.server.pid, "VmPeak")
    wrapped.server.stop()
    life = ServerLife(wrapped)
    assert not life(few)
    while enough - few > 2 * MIB:
        size = (few + enough) // 2
        few, enough = (few, size) if life(size) else (size, enough)
    for more in (0, 2, 4, 8):
        life(enough + more * MIB)
    wrapped.start_server()
    assert life.answered and life.answered <= {p["name"] for p in wrapped.json("list-policies")}
    assert life.answered <= {r.get("policy") for r in wrapped.audit()}
    assert "records are whole" in wrapped.cli("verify-audit").stdout


def test_a_server_whose_memory_runs_out_under_way(wrapped):  # noqa: F811
    """Starts are refused for want of memory and work again with it; the session that runs goes on."""
    wrapped.wrap = one_arena
    wrapped.start_server()
    wrapped.start_agent()
    echo, answered, refused, pid = Echo(wrapped), {starts_again(wrapped)}, [], wrapped.server.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    for left in (0, MIB // 4, MIB):
        resource.prlimit(pid, resource.RLIMIT_AS, (size_of(pid) + left, before[1]))
        for _ in range(8):
            status, answer = start(wrapped)
            if status == 201:
                answered.add(answer)
            else:
                refused.append((status, answer))
        assert echo.works() and wrapped.server.alive()
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        answered.add(starts_again(wrapped))
    for status, answer in refused:  # 0: its TLS found none, so there was nothing to say it with
        assert status == 0 or (status == 503 and re.search("memory|audit record|recorded", answer["detail"])), (status, answer)
    assert any(answer and "the server is out of memory" in answer["detail"] for _, answer in refused)
    assert re.search('level=error.*"[^"]*out of memory', wrapped.server.text())
    wait_for(lambda: is_ready(wrapped), "the server to be ready", every=0.1)
    assert echo.works()
    check_answered(wrapped, answered)


LIMITS = [4, 12, 20, 22, 23, 24, 26, 30, 40, 50, 64, 256]  # MiB: not loaded, no threads, all is well


def test_a_client(stack):
    echo = Echo(stack)
    args = [CLI, "start-session", "--target", "web-1", "--give-up", "2s", "--to", f"127.0.0.1:{echo.target.port}"]
    clients = [
        subprocess.Popen(limited(size * MIB, args), env=stack.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for size in LIMITS
    ]
    ended = [(p.communicate("ping", timeout=LIMIT), p.returncode) for p in clients]
    worked = [size for size, ((out, _), code) in zip(LIMITS, ended) if code == 0 and out == "ping"]
    for size, ((out, err), code) in zip(LIMITS, ended):
        if size not in worked:
            ended_well(code, err)
    assert worked and worked == LIMITS[-len(worked) :] and any("cannot start threads" in err for (_, err), _ in ended)
    assert echo.works()


def test_an_agent(stack):
    """Its sessions are processes of their own: those that run go on, new ones have the limit, too."""
    echo, agent = Echo(stack), stack.agents["web-1"]
    session = ["start-session", "--target", "web-1", "--give-up", "2s", "--to", f"127.0.0.1:{echo.target.port}"]
    agent.proc.stop()
    worked = []
    for size in LIMITS:
        p = Proc(limited(size * MIB, agent.proc.args), agent.folder / "log", env=stack.env())
        stack.procs.append(p)
        said = lambda: "msg=connected" in p.text() or "cannot start threads" in p.text()  # noqa: B023, E731
        wait_for(lambda: said() or not p.alive(), "the agent to be up, or to say why not")  # noqa: B023
        if "msg=connected" in p.text():
            r = stack.cli(*session, input="ping", check=False)
            worked += [size] if r.stdout == "ping" else []
            assert r.stdout == "ping" or (r.returncode > 0 and any(w in r.stderr for w in WORDS)), r
        if p.alive():
            assert p.stop() == 0
        else:
            ended_well(p.p.returncode, p.text())
        assert echo.works()
    assert worked and worked == LIMITS[-len(worked) :]
    agent.restart()
    stack.wait_connected("web-1")
    assert stack.cli(*session, input="ping").stdout == "ping" and echo.works()
