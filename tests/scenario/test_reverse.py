"""start-session --reverse: the target listens, and what connects there comes to an endpoint of the client's."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import harness
import pytest
from harness import BUILD, LIMIT, LineReader, TcpServer, echo_until_eof, free_port, is_gone, opens_nothing, wait_for
from test_cli_resume import end, session_of, state_files, stop
from test_forward import talk
from test_socks import curl, page, write_policy
from test_unix_forward import UnixServer

RIGHTS = {"Effect": "Allow", "Principal": {"User": ["dev"]}, "Action": "tunnel:*", "Resource": "*"}
LISTEN = ("ssh", "tcp:127.0.0.1:*", "listen:127.0.0.1:1024-65535")


def start(stack, *specs, args=()):
    """A running session; p.ports are the ports that the target listens on."""
    reverse = [x for s in specs for x in ("--reverse", s)]
    p = stack.cli_popen("start-session", "--target", "web-1", *reverse, *args)
    p.lines = LineReader(p.stderr)
    p.ports = [int(re.search(r":(\d+) on web-1", p.lines.wait(" on web-1 for ")).group(1)) for _ in specs]
    return p


def is_closed(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def records(stack, event, kind):
    return [r for r in stack.audit() if r["event"] == event and r.get("kind") == kind]


def in_force(stack, *statements, allowed, action="AcceptTcp"):
    write_policy(stack, *statements)
    ask = ("simulate-policy", "--principal", "dev", "--target", "web-1", "--action", action, "--host", "127.0.0.1", "--port", "8080")
    wait_for(lambda: stack.cli(*ask, check=False).returncode == (0 if allowed else 245), "the policy to be in force")


@pytest.fixture
def open_stack(bare):
    bare.start_server()
    bare.start_agent(allow=LISTEN)
    return bare


@pytest.fixture
def echo():
    server = TcpServer(echo_until_eof)
    yield server
    server.close()


def test_curl_at_the_target(open_stack, echo, folder):
    """A web server at the client's side, also one on a unix socket, and many connections at once."""
    web = TcpServer(page)
    there = UnixServer(folder / "echo.sock", echo_until_eof)
    wanted = free_port()
    p = start(open_stack, f"{wanted}:localhost:{web.port}", f"localhost:0:127.0.0.1:{echo.port}", f"0:{folder}/echo.sock", args=("-L", f"0:127.0.0.1:{echo.port}"))
    assert wanted in p.ports
    port = dict(re.findall(r":(\d+) on web-1 for (\S+) here", "\n".join(p.lines.lines)))
    port = {to: int(at) for at, to in port.items()}
    assert curl(f"http://127.0.0.1:{wanted}/x") == "from /x"
    data = os.urandom(300_000)
    assert talk(port[f"{folder}/echo.sock"], data) == data
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(talk(port[f"127.0.0.1:{echo.port}"], bytes([n]) * 200_000) == bytes([n]) * 200_000)) for n in range(30)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [True] * 30
    local = int(re.search(r"127\.0\.0\.1:(\d+) for 127", "\n".join(p.lines.lines)).group(1))
    assert talk(local, b"the other way") == b"the other way"
    assert end(p) == 0
    wait_for(lambda: all(map(is_closed, port.values())), "the target to listen no more")
    places = {f"listen:127.0.0.1:{n}" for n in port.values()}
    wait_for(lambda: len(records(open_stack, "stream.open", "accepted")) == 32 and {r["endpoint"] for r in records(open_stack, "stream.open", "listen")} == places, "the audit log")
    came = [r["endpoint"] for r in records(open_stack, "stream.open", "accepted")]
    assert sum(bool(re.fullmatch(rf"listen:127\.0\.0\.1:{wanted} from 127\.0\.0\.1:\d+", at)) for at in came) == 1, came
    there.close()


def both_ways(port, total, on_progress):
    """Sends total bytes to an echo and reads as many; returns the digests."""
    sent, got, block = hashlib.sha256(), hashlib.sha256(), os.urandom(1 << 20)
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        def read():
            while data := s.recv(65536):
                got.update(data)

        reader = threading.Thread(target=read)
        reader.start()
        for n in range(total >> 20):
            s.sendall(block)
            sent.update(block)
            on_progress(n)
        s.shutdown(socket.SHUT_WR)
        reader.join(LIMIT)
    return sent.hexdigest(), got.hexdigest()


def test_the_relay_is_killed_with_bytes_under_way_both_ways(open_stack, echo):
    p = start(open_stack, f"0:127.0.0.1:{echo.port}")

    def kill(n):
        if n in (6, 20):
            open_stack.server.kill()
            open_stack.server.p.wait()
            open_stack.start_server()

    mine, theirs = both_ways(p.ports[0], 32 << 20, kill)
    assert mine == theirs
    p.lines.wait("resumed after")
    assert talk(p.ports[0], b"a new one") == b"a new one", "it still listens"
    assert end(p) == 0


def test_the_supervisor_is_restarted(open_stack, echo):
    p = start(open_stack, f"0:127.0.0.1:{echo.port}")
    agent = open_stack.agents["web-1"]
    with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
        s.sendall(b"1")
        assert s.recv(1) == b"1"
        agent.proc.kill()
        agent.proc.p.wait()
        s.sendall(b"2")
        assert s.recv(1) == b"2"
        assert talk(p.ports[0], b"without it") == b"without it"
        agent.restart()
        open_stack.wait_connected("web-1")
        s.sendall(b"3")
        assert s.recv(1) == b"3"
    assert talk(p.ports[0], b"with it") == b"with it"
    assert end(p) == 0


def test_what_policy_says(open_stack, echo):
    """Rights to open things at the target are no right to listen there; one that is taken away ends it at once."""
    usual = {**RIGHTS, "Action": ["tunnel:StartSession", "tunnel:ResumeSession", "tunnel:Open*", "tunnel:List*", "tunnel:Describe*"]}
    narrow = {**RIGHTS, "Action": "tunnel:AcceptTcp", "Condition": {"StringEquals": {"tunnel:Host": "127.0.0.1"}}}
    audit = {**RIGHTS, "Action": ["tunnel:ReadAudit", "tunnel:GetPolicy"]}
    in_force(open_stack, usual, audit, allowed=False)
    r = open_stack.cli("start-session", "--target", "web-1", "--reverse", f"8080:127.0.0.1:{echo.port}", check=False)
    assert r.returncode == 232 and "tunnel:AcceptTcp" in r.stderr and "listen:127.0.0.1:8080" in r.stderr, r.stderr
    assert any(r["event"] == "denied" and r["action"] == "tunnel:AcceptTcp" for r in open_stack.audit())
    in_force(open_stack, usual, audit, narrow, allowed=True)
    r = open_stack.cli("start-session", "--target", "web-1", "--reverse", f"0.0.0.0:8080:127.0.0.1:{echo.port}", check=False)
    assert r.returncode == 232 and "listen:0.0.0.0:8080" in r.stderr, r.stderr
    p = start(open_stack, f"0:127.0.0.1:{echo.port}", args=("-L", f"0:127.0.0.1:{echo.port}"))
    local = int(re.search(r"127\.0\.0\.1:(\d+) for 127", "\n".join(p.lines.lines)).group(1))
    with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        write_policy(open_stack, usual, audit)
        assert is_gone(s), "a connection that came there"
    wait_for(lambda: is_closed(p.ports[0]), "the target to listen no more")
    p.lines.wait("no longer listening")
    assert talk(local, b"goes on") == b"goes on", "what else the session has"
    assert end(p) == 0
    in_force(open_stack, usual, audit, narrow, allowed=True)
    p = start(open_stack, f"0:127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        write_policy(open_stack, usual, audit)
        assert is_gone(s)
    assert p.wait(LIMIT) == 241, "nothing is left of it"
    assert is_closed(p.ports[0])


def test_revoked(open_stack, echo):
    open_stack.write_credentials({open_stack.key_id: ("dev", open_stack.secret, []), "KOP": ("op", "o" * 40, [])})
    in_force(open_stack, {**RIGHTS, "Principal": {"User": ["dev", "op"]}}, allowed=True)
    p = start(open_stack, f"0:127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        harness.write_secret(open_stack.folder / "op-credentials", f'key_id = "KOP";\nsecret = "{"o" * 40}";\n')
        open_stack.write_profile("op", f'auth = "hmac"; credentials = "{open_stack.folder}/op-credentials";')
        open_stack.cli("revoke", "--profile", "op", "--session", session_of(open_stack))
        assert is_closed(p.ports[0]), "when revoke is answered nobody listens there"
        assert is_gone(s)
    assert p.wait(LIMIT) == 241


def test_the_targets_own_list(bare, echo):
    """By default a target listens for nobody."""
    bare.start_server()
    agent = bare.start_agent()
    spec = f"0:127.0.0.1:{echo.port}"
    r = bare.cli("start-session", "--target", "web-1", "--reverse", spec, check=False)
    assert r.returncode == 237 and "allow list" in r.stderr and "listen:127.0.0.1:0" in r.stderr, r.stderr
    r = bare.cli("start-session", "--target", "web-1", "-L", f"0:127.0.0.1:{echo.port}", "--reverse", spec, check=False)
    assert r.returncode == 237 and "allow list does not hold listen:127.0.0.1:0 (not-allowed)" in r.stderr, r.stderr
    conf = agent.folder / "agent.conf"
    before = conf.read_text()
    conf.write_text(before.replace('"ssh"', '"ssh", "listen:127.0.0.0/8:*"'))
    agent.proc.kill(signal.SIGHUP)
    p = wait_for(lambda: try_start(bare, spec), "the agent to allow it")
    with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        conf.write_text(before)
        agent.proc.kill(signal.SIGHUP)
        assert is_gone(s)
    p.lines.wait("no longer listening")
    assert is_closed(p.ports[0])
    assert end(p) == 0


def try_start(stack, spec):
    p = stack.cli_popen("start-session", "--target", "web-1", "--reverse", spec)
    p.lines = LineReader(p.stderr)
    try:
        p.ports = [int(re.search(r":(\d+) on web-1", p.lines.wait(" on web-1 for ")).group(1))]
        return p
    except AssertionError:
        assert p.wait(LIMIT) == 237
        return None


def test_a_port_that_is_taken(open_stack, echo):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    r = open_stack.cli("start-session", "--target", "web-1", "--reverse", f"{port}:127.0.0.1:{echo.port}", check=False)
    assert r.returncode == 237 and f"web-1 does not listen on 127.0.0.1:{port}" in r.stderr and "somebody does that already" in r.stderr, r.stderr
    taken.close()
    p = start(open_stack, f"{port}:127.0.0.1:{echo.port}")
    assert talk(port, b"now") == b"now"
    assert end(p) == 0
    for bad in "8080", "8080:web", "target:8080:web:80", "/run/l.sock:web:80", "8080:web:0", "[::1:8080:web:80":
        r = open_stack.cli("start-session", "--target", "web-1", "--reverse", bad, check=False)
        assert r.returncode == 2 and "--reverse" in r.stderr and "expected" in r.stderr, r.stderr


def test_nobody_answers_at_the_client(open_stack):
    p = start(open_stack, f"0:127.0.0.1:{free_port()}", f"0:{open_stack.folder}/none.sock")
    for port, word in zip(p.ports, ("(refused)", "(unreachable)")):
        assert opens_nothing(port)
        p.lines.wait(word)
    wait_for(lambda: len([r for r in open_stack.audit() if r["event"] == "stream.close" and "refused: connect" in r["reason"]]) == 1, "the audit log")
    assert end(p) == 0


@contextlib.contextmanager
def black_hole():
    """The port of a listener whose queue is full: who connects gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as s, contextlib.ExitStack() as waiting:
        for _ in range(4):
            c = waiting.enter_context(socket.socket())
            c.setblocking(False)
            c.connect_ex(s.getsockname())
        yield s.getsockname()[1]


def test_what_the_client_is_to_reach_is_silent(open_stack):
    """Whoever came there is not kept for the minutes that a kernel tries."""
    with black_hole() as hole:
        p = start(open_stack, f"0:127.0.0.1:{hole}")
        with socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) as s:
            assert is_gone(s)
        assert "no answer within 10000 ms (refused)" in p.lines.wait(f"connect 127.0.0.1:{hole}")
        assert end(p) == 0


def test_all_addresses_get_a_warning(bare, echo):
    bare.start_server()
    bare.start_agent(allow=("listen:*:1024-65535",))
    p = start(bare, f"*:0:127.0.0.1:{echo.port}")
    assert any("warning: whoever reaches 0.0.0.0:0 of the target" in line for line in p.lines.lines), p.lines.lines
    assert talk(p.ports[0], b"x") == b"x"
    assert end(p) == 0
    p = start(bare, f"[::1]:0:127.0.0.1:{echo.port}")
    assert not any("warning" in line for line in p.lines.lines)
    assert is_closed(p.ports[0]) and talk(p.ports[0], b"x", "::1") == b"x", "that address alone"
    assert end(p) == 0


def test_more_connections_than_it_takes_wait(open_stack, echo):
    p = start(open_stack, f"0:127.0.0.1:{echo.port}")
    held = [socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT) for _ in range(64)]
    for s in held:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
    late = socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT)
    late.sendall(b"late")
    open_stack.agents["web-1"].proc.wait_log("64 came there and are open")
    held.pop().close()
    assert late.recv(4) == b"late"
    assert end(p) == 0


def test_what_comes_there_leaves_streams_to_the_client(open_stack, echo):
    """However many programs at the target connect to however many places."""
    p = start(open_stack, *[f"0:127.0.0.1:{echo.port}"] * 4, args=("-L", f"0:127.0.0.1:{echo.port}"))
    local = int(re.search(r"127\.0\.0\.1:(\d+) for 127", "\n".join(p.lines.lines)).group(1))
    held = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(64) for port in p.ports]
    open_stack.agents["web-1"].proc.wait_log("128 connections that came to the target are open")
    assert talk(local, b"x") == b"x"
    late = socket.create_connection(("127.0.0.1", p.ports[0]), LIMIT)
    late.sendall(b"late")
    for s in held:
        s.close()
    assert late.recv(4) == b"late"
    assert end(p) == 0


def test_another_client_brings_it_back(open_stack, echo):
    p = start(open_stack, f"{free_port()}:127.0.0.1:{echo.port}")
    session = session_of(open_stack)
    (file,) = state_files(open_stack)
    assert json.loads(file.read_text())["reverse"] == [f"127.0.0.1:{p.ports[0]}:127.0.0.1:{echo.port}"]
    for kill in True, False:
        if kill:
            p.kill()
            p.wait()
        old = p
        p = open_stack.cli_popen("resume-session", session)
        p.lines, p.ports = LineReader(p.stderr), old.ports
        p.lines.wait(f":{p.ports[0]} on web-1")
        assert talk(p.ports[0], b"again") == b"again"
    assert old.wait(LIMIT) == 242
    r = open_stack.cli("resume-session", session, "--reverse", "8080:127.0.0.1:80", check=False)
    assert r.returncode == 2 and "allows listen:127.0.0.1" in r.stderr, r.stderr
    assert end(p) == 0


def test_the_old_worker_holds_the_port_a_moment_longer(open_stack, echo):
    p = start(open_stack, f"{free_port()}:127.0.0.1:{echo.port}")
    (old,) = open_stack.workers()
    stop(old)
    p.kill()
    p.wait()
    q = open_stack.cli_popen("resume-session", session_of(open_stack))
    q.lines = LineReader(q.stderr)
    open_stack.agents["web-1"].proc.wait_log("somebody does that already")
    os.kill(old, signal.SIGCONT)
    q.lines.wait(f":{p.ports[0]} on web-1 for ")
    assert talk(p.ports[0], b"again") == b"again"
    assert end(q) == 0


def test_a_target_that_opens_what_nobody_asked_for(bare, monkeypatch):
    monkeypatch.setattr(harness, "AGENT", BUILD / "tests" / "doubles" / "hostile-agent")
    came = []

    def note(c):
        came.append(c.recv(100))

    bare.start_server()
    agent = bare.start_agent(allow=LISTEN)
    here = TcpServer(note)
    p = start(bare, f"0:127.0.0.1:{here.port}")
    assert p.ports == [8080], "it says what it likes"
    text = wait_for(lambda: (t := agent.proc.text()).count("0 bytes came") >= 250 and t, "all to be answered")
    closed = re.findall(r"closed (\d+): (\S+),", text)
    assert len({c for _, c in closed if c != "ok"}) == 1 and closed[0][1] == "not-allowed", closed[:10]
    assert bare.json("list-sessions")[0]["state"] == "active"
    assert end(p) == 0
    assert came == [b"good"], came
    here.close()


def ticks(p):
    return sum(map(int, open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))


def test_a_target_that_says_half_a_port(bare, monkeypatch):
    """The client sleeps over it."""
    monkeypatch.setattr(harness, "AGENT", BUILD / "tests" / "doubles" / "hostile-agent")
    bare.start_server()
    agent = bare.start_agent(allow=LISTEN)
    p = bare.cli_popen("start-session", "--target", "web-1", "--reverse", "1234:127.0.0.1:9")
    p.lines = LineReader(p.stderr)
    agent.proc.wait_log("session up")
    before, began = ticks(p), time.monotonic()
    for _ in range(10):
        bare.json("list-sessions")
    share = (ticks(p) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
    assert share < 0.05, f"{share:.0%} of a core"
    assert end(p) == 0


def test_a_client_that_asks_for_more_than_it_may(open_stack, echo):
    p = subprocess.Popen([BUILD / "tests" / "doubles" / "hostile-cli", "start-session", "--target", "web-1", "--reverse", f"0:127.0.0.1:{echo.port}"],
                         env=open_stack.env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    open_stack.procs.append(p)
    p.lines = LineReader(p.stderr)
    p.lines.wait("as many are left as may be")
    text = "\n".join(p.lines.lines)
    assert text.count(": not-allowed: ") == 5, "four places, and a kind that is not its to open"
    assert text.count(": limit: ") == 136 and "has the target listen at 64 places" in text
    assert end(p) == 0
