"""Each single call of the C library that our programs make fails once: nothing crashes, whoever cannot go on says why, and what was
answered is there afterwards.

A call is picked here and there; TUNNEL_SWEEP=all in the environment takes every one, for hours, TUNNEL_SWEEP=n each n-th."""

import errno
import os
import signal
import subprocess

import pytest
from failing import ALWAYS, Failing
from harness import AGENT, LIMIT, Proc, Stack, wait_for, write_secret
from rawclient import call

ERRORS = {"alloc": errno.ENOMEM, "write": errno.ENOSPC, "sync": errno.EIO, "open": errno.EMFILE, "socket": errno.EMFILE, "fork": errno.EAGAIN,
          "thread": errno.EAGAIN}
SWEEP = os.environ.get("TUNNEL_SWEEP", "")


def picked(calls, few):
    """Of that many calls the ones that are to fail, the first and the last among them."""
    if SWEEP:
        return range(1, calls + 1, 1 if SWEEP == "all" else int(SWEEP))
    return sorted({1 + i * (calls - 1) // max(few - 1, 1) for i in range(few)}) if calls else []


class Faulty(Stack):
    """The program of one role looks into failing."""

    role, failing = None, None

    def place(self, role, args):
        return self.failing.before(args) if self.failing and role == self.role else args


@pytest.fixture
def faulty(folder):
    s = Faulty(folder)
    try:
        yield s
    finally:
        s.close()


def counted(failing, kind, run):
    """How many calls of that kind run makes when all is well."""
    failing.fail(kind, 0, ALWAYS)
    run()
    failing.heal()
    return failing.count(kind)[0]


def ended_well(p, text):
    """Not by a signal; and who gives up says why."""
    code = p.wait(LIMIT)
    assert code >= 0 and "Sanitizer" not in text(), f"ended with {code}:\n{text()}"
    assert code == 0 or "level=error" in text() or "tunnel-" in text(), f"it gave up ({code}) without a word"


DENY_BOB = {"Version": "2026-01-01", "Statement": [{"Sid": "x", "Effect": "Deny", "Principal": {"User": ["bob"]}, "Action": ["*"], "Resource": ["*"]}]}


class ServerLife:
    """A server comes up, is told of a policy, and goes."""

    def __init__(self, stack):
        self.stack, self.answered, self.n = stack, set(), 0

    def __call__(self):
        s, name = self.stack, f"p-{self.n}"
        self.n += 1
        ready = s.folder / "ready"
        ready.unlink(missing_ok=True)
        server = Proc(s.place("server", s.server.args[-3:]), s.folder / "server.log")
        s.procs.append(server)
        wait_for(lambda: ready.exists() or not server.alive(), "the server to be up or to have given up")
        if server.alive():
            status, _ = call(s, "PUT", f"/v1/policies/{name}", DENY_BOB)
            self.answered |= {name} if status in (200, 201) else set()
            server.kill(signal.SIGTERM)
        ended_well(server.p, server.text)


@pytest.mark.parametrize("kind", ["alloc", "write", "sync", "open", "socket", "thread"])
def test_a_server(faulty, kind):
    faulty.start_server()
    faulty.server.stop()
    faulty.role, faulty.failing = "server", Failing(faulty.folder / "failing")
    life = ServerLife(faulty)
    calls = counted(faulty.failing, kind, life)
    assert calls and life.answered == {"p-0"}
    for n in picked(calls, 4):
        faulty.failing.fail(kind, ERRORS[kind], n, n)
        life()
    faulty.failing = None
    faulty.start_server()
    assert life.answered <= {p["name"] for p in faulty.json("list-policies")}
    assert {f"policy/{name}" for name in life.answered} <= {r.get("resource") or f"policy/{r.get('policy')}" for r in faulty.audit()}
    assert "records are whole" in faulty.cli("verify-audit").stdout


COMMANDS = [["list-targets"], ["start-session", "--target", "web-1", "--to", "127.0.0.1:9"]]


@pytest.mark.parametrize("kind", ["alloc", "open", "socket", "thread"])
@pytest.mark.parametrize("command", COMMANDS, ids=[c[0] for c in COMMANDS])
def test_a_client(faulty, command, kind):
    faulty.start_server()
    faulty.start_agent()
    faulty.role, faulty.failing = "client", Failing(faulty.folder / "failing")
    well = []
    calls = counted(faulty.failing, kind, lambda: well.append(faulty.cli(*command, check=False).returncode))
    for n in picked(calls, 5):
        faulty.failing.fail(kind, ERRORS[kind], n, n)
        r = faulty.cli(*command, check=False)
        assert r.returncode >= 0 and (r.returncode in well or r.stderr), (kind, n, r)
    faulty.failing.heal()
    assert faulty.cli(*command, check=False).returncode in well


@pytest.mark.parametrize("kind", ["alloc", "write", "sync", "open", "socket"])
def test_an_enrolment(faulty, kind):
    """It can be done again with a new token, whatever the first one left."""
    faulty.start_server()
    agent = faulty.start_agent()
    agent.proc.stop()
    faulty.role, faulty.failing = "agent", Failing(faulty.folder / "failing")
    conf, token = agent.folder / "agent.conf", agent.folder / "token"

    def enrol():
        write_secret(token, faulty.cli("create-enrollment", "web-1").stdout.strip())
        args = faulty.place("agent", [AGENT, "enroll", "--config", conf, "--token-file", token])
        r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=LIMIT, env=faulty.env())
        assert r.returncode >= 0 and (r.returncode == 0 or r.stderr), (kind, r)
        return r

    calls = counted(faulty.failing, kind, enrol)
    for n in picked(calls, 4):
        faulty.failing.fail(kind, ERRORS[kind], n, n)
        enrol()
    faulty.failing = None
    assert enrol().returncode == 0
    agent.restart()
    faulty.wait_connected("web-1")


@pytest.mark.parametrize("kind", ["alloc", "write", "sync", "open", "socket", "fork", "thread"])
def test_an_agent(faulty, kind):
    """It comes up and carries a session, or says why not; the next one does."""
    faulty.start_server()
    agent = faulty.start_agent()
    agent.proc.stop()
    faulty.role, faulty.failing = "agent", Failing(faulty.folder / "failing")
    session = ["start-session", "--target", "web-1", "--give-up", "20s", "--to", "127.0.0.1:9"]  # a worker fails as well

    def life():
        p = Proc(faulty.place("agent", agent.proc.args[-3:]), agent.folder / "log", env=faulty.env())
        faulty.procs.append(p)
        wait_for(lambda: "msg=connected" in p.text() or not p.alive(), "the agent to be up or to have given up")
        if p.alive():
            r = faulty.cli(*session, check=False)
            assert r.stderr and "not connected for" not in r.stderr, r  # nobody listens there
            p.kill(signal.SIGTERM)
        ended_well(p.p, p.text)

    for n in picked(counted(faulty.failing, kind, life), 4):
        faulty.failing.fail(kind, ERRORS[kind], n, n)
        life()
    faulty.failing.heal()
    agent.restart()
    faulty.wait_connected("web-1")
    assert "Connection refused" in faulty.cli(*session, check=False).stderr
