"""What a machine runs out of (disk, descriptors, processes), a clock that jumps, a store or a provider that is slow.

Each time: who asks is told what and why, nobody else is held up, nothing that was answered is lost, and it works again by itself."""

import errno
import os
import resource
import signal
import socket
import subprocess
import threading
from pathlib import Path

import harness
import pytest
from cluster import Redis
from failing import Failing
from harness import LIMIT, TcpServer, echo_until_eof, wait_for
from rawclient import RawSession, call
from test_store_redis import OnRedis

HOUR = 3600


class Echo:
    """A TCP session to an echo."""

    def __init__(self, stack):
        self.target = TcpServer(echo_until_eof)
        self.p, (self.port,) = stack.forward("web-1", f"127.0.0.1:{self.target.port}")
        self.s = self.connect()
        assert self.works()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)

    def works(self):
        self.s.sendall(b"ping")
        return self.s.recv(4) == b"ping"


class Wrapped(harness.Stack):
    """wrap(role, args): what runs a program of that role."""

    wrap = staticmethod(lambda role, args: args)

    def place(self, role, args):
        return self.wrap(role, args)


@pytest.fixture
def wrapped(folder):
    s = Wrapped(folder)
    try:
        yield s
    finally:
        s.close()


@pytest.fixture
def failing(wrapped):
    """A server, an agent and clients whose calls can be made to fail: failing.of[role]."""
    wrapped.of = {role: Failing(wrapped.folder / f"failing-{role}") for role in ("server", "agent", "client")}
    wrapped.wrap = lambda role, args: wrapped.of[role].before(args)
    wrapped.start_server()
    wrapped.start_agent()
    return wrapped


def start(stack):
    """(201, the id) of a session that was started, or (status, problem document)."""
    try:
        return 201, RawSession(stack).id
    except AssertionError as e:
        return e.args[0]


def starts_again(stack):
    return wait_for(lambda: (got := start(stack))[0] == 201 and got[1], "sessions to start again", every=0.1)


def is_ready(stack):
    return call(stack, "GET", "/readyz")[0] == 200


def refused(stack, code, *words):
    """What tunnel-cli says that is not let start a session, with its exit code."""
    r = stack.cli("start-session", "--target", "web-1", "--to", "127.0.0.1:9", check=False)
    assert r.returncode == code and all(w in r.stderr for w in words), r
    return r.stderr


def check_answered(stack, answered):
    """Each session that was answered is in the log, and the log is whole."""
    assert answered <= {r["session"] for r in stack.audit() if r["event"] == "session.start"}
    assert "records are whole" in stack.cli("verify-audit").stdout


def in_a_namespace(stack, role, script):
    """That program of the stack runs behind a shell's script, with mounts of its own."""
    args = ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh"]
    if subprocess.run([*args, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mounts of one's own: it takes root")
    stack.wrap = lambda r, a: [*args, *map(str, a)] if r == role else a


# -- disk


def fill(path):
    with open(path, "wb", buffering=0) as f, pytest.raises(OSError) as e:
        while True:
            f.write(bytes(4096))
    assert e.value.errno == errno.ENOSPC


def test_a_full_disk(wrapped):
    state = wrapped.folder / "state"
    state.mkdir(mode=0o700)
    in_a_namespace(wrapped, "server", f"mount -t tmpfs -o size=6m,mode=700 none {state}")
    wrapped.start_server()
    wrapped.start_agent()
    echo, ballast = Echo(wrapped), Path(f"/proc/{wrapped.server.pid}/root{state}/ballast")
    fill(ballast)
    answered = set()
    while (got := start(wrapped))[0] == 201:  # the database has some room of its own
        answered.add(got[1])
    assert got[0] == 503 and ("the disk is full" in got[1]["detail"] or "audit records wait" in got[1]["detail"]), got
    assert not is_ready(wrapped)
    refused(wrapped, 235, "try again")
    assert echo.works() and "the disk is full" in wrapped.server.text()
    ballast.unlink()
    answered.add(starts_again(wrapped))
    wait_for(lambda: is_ready(wrapped), "the server to be ready", every=0.1)
    assert echo.works()
    check_answered(wrapped, answered)


def test_a_state_folder_of_the_server_that_is_read_only(wrapped):
    wrapped.start_server()
    wrapped.start_agent()
    answered = {starts_again(wrapped)}
    assert wrapped.server.stop() == 0
    state = wrapped.folder / "state"
    in_a_namespace(wrapped, "server", f"mount --bind {state} {state}; mount -o remount,bind,ro {state}")
    with pytest.raises(AssertionError, match="the server did not start") as e:
        wrapped.start_server()
    assert f"{state}" in str(e.value) and "ead-only" in str(e.value) and wrapped.server.p.returncode == 1, e.value
    wrapped.wrap = Wrapped.wrap
    wrapped.start_server()
    answered.add(starts_again(wrapped))
    check_answered(wrapped, answered)


def test_a_state_folder_of_the_agent_that_is_read_only(wrapped):
    wrapped.start_server()
    agent = wrapped.start_agent()
    agent.proc.stop()
    state = agent.folder / "state"
    in_a_namespace(wrapped, "agent", f"mount --bind {state} {state}; mount -o remount,bind,ro {state}")
    p = harness.Proc(wrapped.place("agent", agent.proc.args), agent.folder / "log", env=wrapped.env())
    wrapped.procs.append(p)
    assert p.p.wait(LIMIT) == 1
    assert f"{state}" in p.text() and "Read-only file system" in p.text(), p.text()
    agent.restart()
    starts_again(wrapped)


@pytest.mark.parametrize("kind, errnum, words", [("write", errno.EROFS, "commit: disk I/O error"), ("sync", errno.EIO, "commit: disk I/O error")], ids=["read-only", "no-sync"])
def test_a_disk_that_takes_nothing_any_more(failing, kind, errnum, words):
    """As when the kernel finds a fault of the disk while the server runs."""
    echo, answered = Echo(failing), {starts_again(failing)}
    failing.of["server"].fail(kind, errnum)
    status, problem = start(failing)
    assert status == 503 and ("store: " in problem["detail"] or "audit records wait" in problem["detail"]), problem
    refused(failing, 235, "try again")
    assert not is_ready(failing) and words in failing.server.text()
    assert echo.works() and failing.of["server"].count(kind)[1]
    failing.of["server"].heal()
    answered.add(starts_again(failing))
    wait_for(lambda: is_ready(failing), "the server to be ready", every=0.1)
    assert echo.works()
    check_answered(failing, answered)


# -- the clock


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("who", ["server", "client"])
def test_a_clock_that_jumps(failing, who, seconds):
    """Whose signatures are of another time is told so; what runs goes on, and comes back from a cut."""
    echo, answered = Echo(failing), {starts_again(failing)}
    failing.of[who].jump(seconds)
    refused(failing, 231, "check the clocks")
    doctor = failing.cli("doctor", check=False)
    assert doctor.returncode != 0 and "set this machine's clock" in doctor.stdout
    assert echo.works()
    failing.of[who].jump(0)
    answered.add(starts_again(failing))
    assert echo.works()
    check_answered(failing, answered)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
def test_the_clock_of_an_agent_jumps(failing, seconds):
    """It goes by the server's: its sessions start and go on."""
    echo, agent = Echo(failing), failing.agents["web-1"]
    failing.of["agent"].jump(seconds)
    another = Echo(failing)
    assert echo.works() and another.works()
    failing.server.stop()
    failing.start_server()
    failing.wait_connected("web-1")
    assert echo.works() and another.works()
    failing.of["agent"].jump(0)
    assert Echo(failing).works() and agent.proc.alive()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_jump_of_the_clock_ends_nothing_early(wrapped, seconds):
    """How long an end was away, and how long nothing happened, is not told by the wall clock."""
    wrapped.conf = 'session: { detach_grace = "10s"; idle_timeout = "50m"; };'
    server = Failing(wrapped.folder / "failing")
    wrapped.wrap = lambda role, args: server.before(args) if role == "server" else args
    wrapped.start_server()
    wrapped.start_agent()
    echo, left = Echo(wrapped), Echo(wrapped)
    server.jump(seconds)
    left.p.kill()
    wait_for(lambda: wrapped.server.text().count("session ended") == 1, "the session that was left to end, so that all were looked at")
    assert echo.works()
    server.jump(0)
    (ended,) = wrapped.json("list-sessions", "--state", "ended")
    assert ended["end"]["code"] == 4006
    assert len(wrapped.json("list-sessions", "--state", "active")) == 1


# -- file descriptors and processes


def leave_descriptors(pid, n):
    """That process may have n descriptors more than it has; what gives them back."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    have = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    limit = 0
    while n or limit in have:
        n -= limit not in have
        limit += 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", [0, 20], ids=["none", "those-kept"])
def test_a_server_without_descriptors(stack, left):
    """Connections are closed at once while there are some for the server's own work; without any they wait."""
    echo, answered = Echo(stack), {starts_again(stack)}
    heal = leave_descriptors(stack.server.pid, left)
    if left:
        assert "timeout" not in refused(stack, 235, f"localhost:{stack.port}")
    else:
        waiting = socket.create_connection(("127.0.0.1", stack.port), LIMIT)
    stack.server.wait_log("new connections are closed, or wait")
    assert echo.works()
    heal()
    answered.add(starts_again(stack))
    if not left:
        waiting.close()
    assert echo.works() and stack.server.text().count("new connections are closed") == 1
    check_answered(stack, answered)


def test_an_agent_without_descriptors(stack):
    """The session that cannot be started is refused with the reason; what runs goes on."""
    echo, agent = Echo(stack), stack.agents["web-1"]
    heal = leave_descriptors(agent.proc.pid, 1)
    refused(stack, 237, "cannot make a socket for a worker: Too many open files")
    assert echo.works() and "Too many open files" in agent.proc.text()
    heal()
    assert Echo(stack).works() and echo.works()


def test_a_worker_without_descriptors(stack):
    """A stream that has no descriptor is refused; those that are open go on, and later ones work."""
    echo, agent = Echo(stack), stack.agents["web-1"]
    (worker,) = set(stack.worker_pids()) - {agent.proc.pid}
    heal = leave_descriptors(worker, 0)
    try:
        with echo.connect() as s:
            assert s.recv(1) == b""
    except ConnectionResetError:
        pass  # perhaps inside connect()
    wait_for(lambda: any("Too many open files" in line for line in echo.p.lines.lines), "the client to be told why")
    assert echo.works()
    heal()
    echo.s = echo.connect()
    assert echo.works()


@pytest.mark.parametrize("nth", [1, 2], ids=["first", "second"])
def test_a_worker_that_cannot_be_forked(failing, nth):
    echo, agent = Echo(failing), failing.of["agent"]
    agent.fail("fork", errno.EAGAIN, nth)
    refused(failing, 237, "cannot fork a worker: Resource temporarily unavailable")
    assert echo.works() and agent.count("fork")[1] == 1
    agent.heal()
    assert Echo(failing).works() and echo.works()


def test_an_sshd_that_cannot_be_forked(failing):
    """The login is refused with the reason, and the next one works."""
    agent = failing.of["agent"]
    agent.fail("fork", errno.EAGAIN, 3)  # behind the two that make a worker
    login = ["start-session", "--target", "web-1", "--login", harness.USER, "--", "echo", "in"]
    r = failing.cli(*login, check=False)
    assert r.returncode == 237 and "cannot fork sshd: Resource temporarily unavailable" in r.stderr, r
    agent.heal()
    assert failing.cli(*login).stdout == "in\n"


# -- who is slow


def test_a_redis_that_is_slow(folder):
    """It stands still for 5 s, as with a slow disk or a long script: who asks meanwhile is answered in time, and told if not."""
    s = OnRedis(folder)
    s.redis = Redis(folder / "redis")
    try:
        s.start_server()
        s.start_agent()
        echo, answered = Echo(s), {starts_again(s)}
        sleep = subprocess.Popen(["redis-cli", "-s", s.redis.path, "DEBUG", "SLEEP", "5"], stdout=subprocess.DEVNULL)
        started = []
        asking = threading.Thread(target=lambda: started.append(start(s)))
        asking.start()
        while sleep.poll() is None:
            assert echo.works() and call(s, "GET", "/healthz")[0] == 200
        asking.join()
        ((status, answer),) = started
        assert status == 201 or (status == 503 and "store" in answer["detail"]), answer
        answered |= {answer} if status == 201 else set()
        answered.add(starts_again(s))
        wait_for(lambda: is_ready(s), "the server to be ready", every=0.1)
        assert echo.works() and s.server.alive()
        check_answered(s, answered)
    finally:
        s.close()
        s.redis.close()


def test_an_auth_provider_that_hangs(bare):
    """It is asked before the one that knows the caller: who calls is told that it does not answer; sessions go on."""
    hold = bare.folder / "hold"
    moody = f'{{ plugin = "{harness.BUILD}/tests/doubles/plugins/auth-moody.so"; needed = "1"; answer = 4; hold = "{hold}"; }}'
    bare.auth = f'{moody}, {{ plugin = "auth-hmac"; credentials = "{bare.folder}/hmac-credentials"; }}'
    bare.start_server()
    bare.start_agent()
    echo = Echo(bare)
    hold.touch()
    refused(bare, 235, "the server found no answer in time", "try again")
    assert echo.works() and call(bare, "GET", "/healthz")[0] == 200
    hold.unlink()
    answered = {starts_again(bare)}
    assert echo.works()
    check_answered(bare, answered)
