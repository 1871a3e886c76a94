"""What the processes of a running installation may do, and who may look into them: read from the kernel, not from what they say
of themselves."""

import json
import os
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from harness import LIMIT, SERVER, USER, LineReader, Proc, TcpServer, children, command_line, echo_until_eof, wait_for
from test_ssh_login import start_unprivileged, unprivileged  # noqa: F401

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look into the processes")
MEGABYTE = 1 << 20
# More than a program of ours maps at once; what sanitizers keep beside its memory, of which they have terabytes, has none of its bytes.
SHADOW = 1 << 32
# linux/capability.h
CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE = 1 << 1, 1 << 10


def status(pid):
    return dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def soft_limit(pid, name):
    return re.search(rf"^{name} +(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.M).group(1)


def locked(pid):
    return int(status(pid)["VmLck"].split()[0]) * 1024


def mappings(pid):
    """(from, to, readable, flags) of each: "lo" locked, "dd" not dumped."""
    found = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
        if head:
            found.append([int(head[1], 16), int(head[2], 16), "r" in head[3], []])
        elif line.startswith("VmFlags:"):
            found[-1][3] = line.split()[1:]
    return found


def places(pid, patterns):
    """For each pattern the flags of the mappings that hold these bytes."""
    found = {pattern: [] for pattern in patterns}
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for start, end, readable, flags in mappings(pid):
            try:
                memory.seek(start)
                data = memory.read(end - start) if readable and end - start < SHADOW else b""
            except (OSError, ValueError, OverflowError):
                continue  # of the kernel's own
            for pattern in patterns:
                found[pattern] += [flags] * data.count(pattern)
    return found


def held_session(stack, target="web-1", login=USER, but=None):
    """A session that lasts; the process of the CLI, and the pid of its worker, which is another one than but."""
    client = stack.cli_popen("start-session", "--target", target, "--login", login, "--", "echo up; cat", stdin=subprocess.PIPE)
    LineReader(client.stdout).wait("up")
    (worker,) = set(stack.workers()) - {but}
    return client, worker


@pytest.fixture
def dumps(monkeypatch):
    """What is started here may leave core dumps, also where a sanitizer would forbid them; the soft limit and the hard one."""
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS"):
        monkeypatch.setenv(name, os.environ.get(name, "") + ":disable_coredump=0")
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    wanted = (4096 if hard == resource.RLIM_INFINITY else hard, hard)
    if not wanted[0]:
        pytest.skip("whoever runs the tests allows no core dumps")
    resource.setrlimit(resource.RLIMIT_CORE, wanted)
    yield wanted
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_no_core_dumps(dumps, stack):
    client, worker = held_session(stack)
    for pid in (stack.server.pid, stack.agents["web-1"].proc.pid, worker, client.pid):
        assert soft_limit(pid, "Max core file size") == "0"


def program(pid, name):
    """The pid, once what was started to become the program has become it, and closed itself."""
    return pid if Path(f"/proc/{pid}/comm").read_text().strip() == name and Path(f"/proc/{pid}/mem").stat().st_uid == 0 else None


@needs_root
def test_other_processes_of_its_user_cannot_look_inside(bare, unprivileged):  # noqa: F811
    """The kernel gives what is in /proc of such a process to root."""
    bare.folder.chmod(0o777)
    args = bare.place("agent", [SERVER, "--dev", "--state-dir", bare.folder / "dev"])
    server = Proc(args, bare.folder / "dev.log", env=bare.env(HOME="/tmp"))
    bare.procs.append(server)
    bare.start_server()
    start_unprivileged(bare, unprivileged)
    _, worker = held_session(bare, "user-1", unprivileged)
    for pid, name in ((server.pid, "tunnel-server"), (bare.agents["user-1"].proc.pid, "tunnel-agent"), (worker, "exe")):
        wait_for(lambda: program(pid, name), f"{name} to be closed")
        assert status(pid)["Uid"].split()[0] != "0"


def let_clients_be(bare, user):
    """Server and agent run, and clients are this user's."""
    as_user, bare.place = bare.place, lambda role, args: args
    bare.start_server()
    bare.start_agent()
    bare.folder.chmod(0o777)
    (bare.folder / "tls").chmod(0o755)
    for name in ("cli.conf", "cli-credentials"):
        shutil.chown(bare.folder / name, user)
    bare.place = lambda role, args: as_user("agent", args) if role == "client" else args


@needs_root
def test_ssh_gets_its_key_from_a_client_that_is_not_root(bare, unprivileged):  # noqa: F811
    """It opens it through /proc of the client, who has to let it, and still leaves no core dump."""
    let_clients_be(bare, unprivileged)
    client, _ = held_session(bare)
    assert status(client.pid)["Uid"].split()[0] != "0" and soft_limit(client.pid, "Max core file size") == "0"


@needs_root
def test_a_client_shows_nothing_while_its_credential_is_in_use(bare, unprivileged):  # noqa: F811
    """Not to the ssh either, which is there already; behind the call ssh has to see its key."""
    let_clients_be(bare, unprivileged)
    bare.server.p.send_signal(signal.SIGSTOP)
    try:
        p = bare.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "cat", stdin=subprocess.PIPE)
        wait_for(lambda: any("ProxyUseFdpass" in " ".join(command_line(c)) for c in children(p.pid)), "ssh")
        assert os.stat(f"/proc/{p.pid}/mem").st_uid == 0, "its owner could read its memory"
    finally:
        bare.server.p.send_signal(signal.SIGCONT)
    wait_for(lambda: os.stat(f"/proc/{p.pid}/mem").st_uid != 0, "ssh to be let in")
    p.stdin.close()
    assert p.wait(LIMIT) == 0


@needs_root
def test_keys_are_in_locked_memory_alone(bare):
    """The server's TLS key and the secrets of its callers: wherever their bytes are, the memory is locked and not dumped."""
    users = {f"K{i}": (f"user-{i}", secrets.token_hex(20), []) for i in range(3)}
    bare.write_credentials(users | {bare.key_id: ("dev", bare.secret, [])})
    bare.start_server()
    key = serialization.load_pem_private_key((bare.folder / "tls" / "server.key").read_bytes(), None)
    number = key.private_numbers().private_value
    bare.cli("list-targets")
    in_use = {number.to_bytes(32, "little"), bare.secret.encode(), *(secret.encode() for _, secret, _ in users.values())}
    found = places(bare.server.pid, in_use | {number.to_bytes(32, "big")})
    assert all(found[what] for what in in_use), "the search finds nothing"
    for what, where in found.items():
        for flags in where:
            assert {"lo", "dd"} <= set(flags), (what, flags)


def test_every_process_with_keys_has_locked_memory(stack):
    client, worker = held_session(stack)
    assert locked(stack.server.pid) >= 4 * MEGABYTE
    for pid in (stack.agents["web-1"].proc.pid, worker, client.pid):
        assert locked(pid) == MEGABYTE // 4


def test_where_memory_cannot_be_locked_it_says_so_and_works(bare, unprivileged):  # noqa: F811
    """Root may lock whatever the limit is: so it is the unprivileged agent that has none."""
    lower = shutil.which("prlimit")
    if not lower:
        pytest.skip("needs prlimit")
    bare.start_server()
    place = bare.place
    bare.place = lambda role, args: [lower, "--memlock=0:0", "--", *place(role, args)] if role == "agent" else place(role, args)
    start_unprivileged(bare, unprivileged)
    agent = bare.agents["user-1"].proc
    assert agent.text().count("keys may be swapped out to disk: the limit of locked memory") == 1
    assert "is 0 KiB, and 256 KiB are needed" in agent.text() and locked(agent.pid) == 0
    assert bare.cli("start-session", "--target", "user-1", "--login", unprivileged, "--", "echo up").stdout == "up\n"


def test_a_session_that_only_forwards_gives_up_its_rights(bare):
    """No setuid program helps it, and of root's capabilities it keeps two; one with logins keeps what sshd and sudo need."""
    bare.start_server()
    bare.start_agent()
    target = TcpServer(echo_until_eof)
    _, (port,) = bare.forward("web-1", f"127.0.0.1:{target.port}")
    with socket.create_connection(("127.0.0.1", port)) as c:
        c.sendall(b"x")
        assert c.recv(1) == b"x"
    (forwards,) = bare.workers()
    rights = status(forwards)
    assert rights["NoNewPrivs"] == "1"
    mask = CAP_DAC_OVERRIDE | CAP_NET_BIND_SERVICE
    for row in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(rights[row], 16) & ~mask == 0, row
    if os.geteuid() == 0:
        assert int(rights["CapBnd"], 16) & ~mask == 0
    _, logins = held_session(bare, but=forwards)
    supervisor = status(bare.agents["web-1"].proc.pid)
    assert status(logins)["NoNewPrivs"] == supervisor["NoNewPrivs"] and status(logins)["CapEff"] == supervisor["CapEff"]
    target.close()


WITNESS = """#!/usr/bin/python3
import json, os, resource, signal
fds = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
ignored = [n for n in range(1, 32) if n not in (signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(n) == signal.SIG_IGN]  # python's own two
with open("OUT.part", "w") as f:
    json.dump([dict(os.environ), fds, resource.getrlimit(resource.RLIMIT_CORE), blocked, ignored], f)
os.rename("OUT.part", "OUT")
"""


def test_sshd_inherits_next_to_nothing(bare, dumps, monkeypatch):
    """It has PATH, its socket and a pipe for its words; and the limits that the agent was started with, not those that the agent
    gives itself: they would be those of whoever logs in. Another program in its place tells."""
    monkeypatch.setenv("LD_BIND_NOW", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    out, witness = bare.folder / "told", bare.folder / "witness"
    witness.write_text(WITNESS.replace("OUT", str(out)))
    witness.chmod(0o755)
    bare.start_server()
    bare.start_agent(conf=f'sshd_path = "{witness}";')
    with open(bare.folder / "of-the-test", "w") as stray:
        os.set_inheritable(stray.fileno(), True)
        assert bare.cli("start-session", "--target", "web-1", "--login", USER, "--", "true", check=False).returncode != 0
    environment, fds, core, blocked, ignored = json.loads(wait_for(out.exists, "what it found") and out.read_text())
    assert environment.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # python's own
    assert environment == {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    assert sorted(fds) == ["0", "1", "2"] and fds["0"] == fds["1"]
    assert fds["0"].startswith("socket:") and fds["2"].startswith("pipe:")
    assert (blocked, ignored) == ([], [])
    assert tuple(core) == dumps


def test_a_server_that_is_root_says_that_it_should_not_be(stack):
    said = "runs as root, whose rights it has no use for" in stack.server.text()
    assert said == (os.geteuid() == 0)
