"""Faults from outside: lines that swallow everything, a second client with the same key, servers that are killed or leave."""

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import threading
import time

import pytest
from harness import LIMIT, TcpServer, echo_until_eof, wait_for
from rawclient import RawSession, call
from websockets.exceptions import ConnectionClosed

MIB = 1 << 20


def exchange(port, total, at, action):
    """Sends random bytes to an echo and calls action() once `at` have come back; digests of what went and what came."""
    went, came, got = hashlib.sha256(), hashlib.sha256(), 0
    block = os.urandom(MIB)

    def send():
        for _ in range(total // MIB):
            s.sendall(block)
            went.update(block)
        s.shutdown(socket.SHUT_WR)

    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        sender = threading.Thread(target=send)
        sender.start()
        while data := s.recv(65536):
            came.update(data)
            if got < at <= got + len(data):
                action()
            got += len(data)
        sender.join()
    assert got == total
    return went.hexdigest(), came.hexdigest()


def stops(p):
    """Ends a forward by its user; everything it said."""
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    wait_for(lambda: p.lines.eof, "the end of what it says")
    return "\n".join(p.lines.lines)


@pytest.mark.parametrize("up, down", [(True, False), (False, True), (True, True)], ids=["up", "down", "both"])
@pytest.mark.parametrize("who", ["client", "target"])
def test_a_black_hole_under_load_is_left(proxied, who, up, down):
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    holes = []

    def dig():  # /proc/net/tcp may miss a line while others come and go
        pids = [p.pid] if who == "client" else proxied.worker_pids()
        holes.append(wait_for(lambda: proxied.proxy.hole(pids, up, down), "the leg at the proxy"))

    went, came = exchange(port, 24 * MIB, 4 * MIB, dig)
    assert holes == [1] and went == came
    said = stops(p)
    assert said.count("connection lost") <= 1 and said.count("resumed after") <= 1, said


def test_an_idle_black_hole_is_left(proxied):
    """Nothing was said when it began: it is noticed all the same, before anybody wants to say something."""
    p, (port,) = proxied.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(b"one")
        assert s.recv(3) == b"one"
        legs = proxied.proxy.count
        wait_for(lambda: proxied.proxy.hole([p.pid]), "the leg at the proxy")
        wait_for(lambda: proxied.proxy.count > legs, "a new leg")
        s.sendall(b"two")
        assert s.recv(3) == b"two"
    assert stops(p).count("connection lost") <= 1


async def told(ws):
    """The last text message; the close code and reason."""
    last = None
    try:
        while True:
            m = await asyncio.wait_for(ws.recv(), LIMIT)
            if isinstance(m, str):
                last = json.loads(m)
    except ConnectionClosed:
        return last, ws.close_code, ws.close_reason


async def attached(session):
    ws = await session.leg()
    assert json.loads(await asyncio.wait_for(ws.recv(), LIMIT))["type"] == "attached"
    return ws


def test_a_second_attach_replaces_the_first(stack):
    async def case():
        session = RawSession(stack)
        one = await attached(session)
        two = await attached(session)
        closing, code, reason = await told(one)
        assert (closing["type"], closing["code"], closing["retry"]) == ("closing", 4001, False)
        assert code == 4001 and reason and reason == closing["reason"]
        assert stack.json("describe-session", session.id)["state"] != "ended"
        await two.close(1000)

    asyncio.run(case())
    ended = wait_for(lambda: stack.json("list-sessions", "--state", "ended"), "the end of the session")
    assert ended[0]["end"]["code"] == 4000


def check_chain(records):
    """The audit log as PROTOCOL and the server's own check have it: no gap, each record's hash, each node's chain."""
    heads = {}
    for n, r in enumerate(records, 1):
        bare = {k: v for k, v in r.items() if k not in ("hash", "seq")}
        text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert r["seq"] == n and r["hash"] == hashlib.sha256(text.encode()).hexdigest(), r
        assert r["prev"] == heads.get(r["node"], "0" * 64), r
        heads[r["node"]] = r["hash"]


def whole_audit(stack):
    return [json.loads(line) for line in stack.cli("audit", "--from", 1, "--output", "json").stdout.splitlines()]


def test_what_was_answered_survives_kills_of_the_server(bare):
    bare.conf = 'session: { detach_grace = "1s"; };'
    bare.start_server()
    bare.start_agent()
    answered, lives = [], 4

    def start_some(stop):
        for _ in range(3):
            try:
                answered.append(RawSession(bare).id)
            except AssertionError:
                pass  # the server is away, or busy
            if stop.is_set():
                return

    for life in range(lives):
        before, stop = len(answered), threading.Event()
        threads = [threading.Thread(target=start_some, args=(stop,)) for _ in range(8)]
        for t in threads:
            t.start()
        if life < lives - 1:  # somewhere in the middle of their work, which 24 starts are
            enough = before + random.randint(1, 16)
            wait_for(lambda: len(answered) >= enough or not any(t.is_alive() for t in threads), "some sessions", every=0.001)
            time.sleep(random.random() / 50)
            bare.server.kill()
            bare.server.p.wait()
            stop.set()
        for t in threads:
            t.join()
        if life < lives - 1:
            bare.start_server()
    assert len(answered) >= lives
    records = whole_audit(bare)
    check_chain(records)
    started = {r["session"] for r in records if r["event"] == "session.start"}
    assert set(answered) <= started

    def unfinished():
        return [s for state in ("starting", "active") for s in bare.json("list-sessions", "--state", state)]

    wait_for(lambda: not unfinished(), "all sessions to end", limit=2 * LIMIT, every=0.2)
    for session in answered:
        s = bare.json("describe-session", session)
        assert s["state"] == "ended" and s["end"]["code"] and s["end"]["text"], s
    records = whole_audit(bare)
    check_chain(records)
    ends = [r["session"] for r in records if r["event"] == "session.end"]
    assert set(answered) <= set(ends) and len(ends) == len(set(ends))


def test_a_drain_ends_though_a_leg_reads_nothing(bare):
    bare.conf = 'drain_timeout = "2s";'
    bare.start_server()
    bare.start_agent()
    forwards = [bare.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}") for _ in range(2)]
    sockets = [socket.create_connection(("127.0.0.1", port), LIMIT) for _, (port,) in forwards]

    def echoes(word):
        for s in sockets:
            s.sendall(word)
            assert s.recv(len(word)) == word

    async def case():
        reads, deaf = RawSession(bare), RawSession(bare)
        ws, mute = await attached(reads), deaf.mute_leg()
        wait_for(lambda: bare.json("describe-session", deaf.id).get("attached", {}).get("client"), "the deaf leg", every=0.1)
        stopped = asyncio.get_running_loop().run_in_executor(None, bare.server.stop)
        closing, code, _ = await told(ws)
        assert (closing["type"], closing.get("code"), closing.get("retry"), code) == ("closing", 4002, True, 4002)
        assert await stopped == 0
        mute.close()
        bare.start_server()
        await (await attached(reads)).close(1000)

    echoes(b"before")
    asyncio.run(case())
    echoes(b"after")
    for s in sockets:
        s.close()
    for p, _ in forwards:
        assert stops(p).count("resumed after") == 1


def ended_as(stack, p, exit_code, code, words):
    """The client's exit code and last words, and what the server says of the session."""
    assert p.wait(LIMIT) == exit_code
    wait_for(lambda: p.lines.eof, "the end of what it says")
    said = "\n".join(p.lines.lines)
    assert words in said, said
    (session,) = stack.json("list-sessions", "--state", "ended")
    assert session["end"]["code"] == code and words in session["end"]["text"], session
    return said


def test_an_idle_session_ends(bare):
    bare.conf = 'session: { idle_timeout = "4s"; };'
    bare.start_server()
    bare.start_agent()
    p, _ = bare.forward("web-1", "127.0.0.1:9")
    said = ended_as(bare, p, 239, 4005, "idle too long")
    assert said.count("the session ends at") == 1, said


def test_a_session_whose_target_stays_away_ends(bare):
    bare.conf = 'session: { detach_grace = "1s"; };'
    bare.start_server()
    agent = bare.start_agent()
    p, (port,) = bare.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    went, came = exchange(port, MIB, 1, lambda: None)
    assert went == came
    agent.proc.kill()
    for pid in set(bare.worker_pids()) - {agent.proc.pid}:
        os.kill(pid, signal.SIGKILL)
    ended_as(bare, p, 240, 4006, "nobody came back")


def test_a_session_whose_client_stays_away_ends(bare):
    bare.conf = 'session: { detach_grace = "1s"; };'
    bare.start_server()
    bare.start_agent()
    p, (port,) = bare.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    went, came = exchange(port, MIB, 1, lambda: None)
    assert went == came
    p.kill()
    (session,) = wait_for(lambda: bare.json("list-sessions", "--state", "ended"), "the session to end")
    assert session["end"]["code"] == 4006
    supervisor = {bare.agents["web-1"].proc.pid}
    wait_for(lambda: set(bare.worker_pids()) == supervisor, "the worker to be gone")
    assert call(bare, "POST", f"/v1/sessions/{session['id']}/attach")[0] == 401
