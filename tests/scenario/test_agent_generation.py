"""A session that another client resumes: the agent is offered a higher generation of it."""

import os
import signal
import socket

from agent_world import connect, world  # noqa: F401
from harness import LIMIT, LineReader, TcpServer, echo_until_eof, wait_for


def answer(c):
    m = c.recv("accepted", "refused", "session-closed")
    return m["type"], m["session"], m["generation"]


def files(world):
    return sorted(os.listdir(world.folder / "run"))


def test_a_higher_generation_takes_over(world):
    world.start()
    c, _ = connect(world)
    c.send(world.offer())  # without one: the first
    assert answer(c) == ("accepted", "s-1", 1)
    (first,) = world.workers()
    c.send(world.offer(generation=2, token="u" * 43))
    assert answer(c) == ("accepted", "s-1", 2)
    wait_for(lambda: first not in world.workers(), "the earlier worker to be gone")
    wait_for(lambda: files(world) == ["s-1@2.sock"], "its files to be gone")
    (second,) = world.workers()
    c.send(world.offer(generation=2))  # again: answered, nothing changes
    assert answer(c) == ("accepted", "s-1", 2)
    c.send(world.offer(generation=1))  # late: ignored
    c.send(world.offer("s-2"))
    assert answer(c) == ("accepted", "s-2", 1)
    assert second in world.workers() and len(world.workers()) == 2
    c.close(4002)
    c, hello = connect(world)
    assert sorted(hello["sessions"], key=lambda s: s["id"]) == [{"id": "s-1", "generation": 2}, {"id": "s-2", "generation": 1}]
    c.send({"type": "terminate", "session": "s-1", "code": 4003, "text": "operator"})
    assert answer(c) == ("session-closed", "s-1", 2)  # and none of the first generation before it
    wait_for(lambda: files(world) == ["s-2.sock"], "its files to be gone")


def test_two_generations_over_a_restart(world):
    """The earlier worker stands still while it is superseded, and the supervisor dies."""
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer(generation=3))
    assert answer(c) == ("accepted", "s-1", 3)
    (old,) = world.workers()
    os.kill(old, signal.SIGSTOP)
    c.send(world.offer(generation=4))
    assert answer(c) == ("accepted", "s-1", 4)
    (new,) = set(world.workers()) - {old}
    p.kill()
    p.p.wait()
    assert files(world) == ["s-1@3.sock", "s-1@4.sock"]
    world.start()
    c, hello = connect(world)
    assert hello["sessions"] == [{"id": "s-1", "generation": 4}]
    os.kill(old, signal.SIGCONT)
    wait_for(lambda: world.workers() == [new], "the earlier worker to be gone")
    wait_for(lambda: files(world) == ["s-1@4.sock"], "its files to be gone")
    c.send(world.offer(generation=4))
    assert answer(c) == ("accepted", "s-1", 4)  # and no session-closed before it


def test_an_earlier_worker_that_dies_is_nobodys_end(world):
    world.start()
    c, _ = connect(world)
    c.send(world.offer())
    assert answer(c) == ("accepted", "s-1", 1)
    (old,) = world.workers()
    os.kill(old, signal.SIGSTOP)
    c.send(world.offer(generation=2))
    assert answer(c) == ("accepted", "s-1", 2)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: files(world) == ["s-1@2.sock"], "its files to be gone")
    c.send(world.offer(generation=2))
    assert answer(c) == ("accepted", "s-1", 2)


def test_a_refusal_names_its_generation(world):
    world.conf(["tcp:127.0.0.1:5432"])
    world.start()
    c, _ = connect(world)
    c.send(world.offer())
    assert answer(c) == ("accepted", "s-1", 1)
    c.send(world.offer(generation=2, grant={"tcp": ["10.0.0.1:1"], "expires_at_ms": 1}))
    assert answer(c) == ("refused", "s-1", 2)
    wait_for(lambda: world.workers() == [], "the earlier worker to be gone")
    for wrong in (0, -1, "2", 10**9):
        c.send(world.offer(generation=wrong))
        assert c.closed() == 4008
        c, hello = connect(world)
        assert hello["sessions"] == []


def resume(stack, dest):
    (session,) = stack.json("list-sessions")
    p = stack.cli_popen("resume-session", session["id"], "--port-forward", f"0:{dest}")
    p.lines = LineReader(p.stderr)
    return p, int(p.lines.wait("listening on").split(" for ")[0].rsplit(":", 1)[1])


def talk(port, word):
    s = socket.create_connection(("127.0.0.1", port), LIMIT)
    s.settimeout(LIMIT)
    s.sendall(word)
    assert s.recv(100) == word
    return s


def test_resumed_for_real_twice_and_over_a_restart(stack):
    agent = stack.agents["web-1"]
    dest = f"127.0.0.1:{TcpServer(echo_until_eof).port}"
    first, (port,) = stack.forward("web-1", dest)
    held = [talk(port, b"one")]
    (worker,) = set(stack.worker_pids()) - {agent.proc.pid}
    first.kill()
    second, port = resume(stack, dest)
    held.append(talk(port, b"two"))
    wait_for(lambda: worker not in stack.worker_pids(), "the earlier worker to be gone")
    agent.proc.kill()
    agent.proc.p.wait()
    agent.restart()
    stack.wait_connected("web-1")
    third, port = resume(stack, dest)  # from a client that lives
    held.append(talk(port, b"three"))
    assert second.wait(LIMIT) != 0

    def lost():
        return [r["reason"] for r in stack.audit() if r["event"] == "stream.close"]

    wait_for(lambda: len(lost()) == 2, "the lost streams in the audit log", every=0.1)
    assert all("resumed by another client" in reason for reason in lost())
    (session,) = stack.json("list-sessions")
    assert session["state"] == "active" and len(set(stack.worker_pids()) - {agent.proc.pid}) == 1
    assert not any(r["event"] == "session.end" for r in stack.audit())
    third.send_signal(signal.SIGINT)
    assert third.wait(LIMIT) == 0
    wait_for(lambda: os.listdir(agent.folder / "run") == [], "the last worker's files to be gone")
