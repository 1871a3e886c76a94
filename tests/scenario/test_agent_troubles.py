"""The agent's disk is full, a worker stands still, or lacks what it needs: what was to be reported is reported later, and nobody waits for it."""

import json
import os
import resource
import shutil
import signal
import socket
import time

from agent_world import connect, world  # noqa: F401
from harness import AGENT, LIMIT, Proc, TcpServer, echo_until_eof, is_gone, send, wait_for, workers_of


def talk(port, data):
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: s.recv(65536), b""))


def start_limited(agent):
    """The supervisor anew, in a way that a file over its limit is an error and not a signal."""
    agent.proc.stop()
    env = agent.stack.env()
    agent.proc = Proc(["sh", "-c", f"trap '' XFSZ; exec {AGENT} --config {agent.folder}/agent.conf"], agent.folder / "log", env=env)
    agent.stack.procs.append(agent.proc)
    agent.stack.wait_connected(agent.target)


def streams_reported(stack):
    records = stack.audit()
    return tuple(sum(r["event"] == event for r in records) for event in ("stream.open", "stream.close"))


def test_reports_survive_a_full_disk(stack):
    agent = stack.agents["web-1"]
    start_limited(agent)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    assert talk(port, b"one") == b"one"
    wait_for(lambda: streams_reported(stack) == (1, 1), "the first stream to be reported", every=0.1)

    spool = agent.folder / "state" / "reports"
    room = spool.stat().st_size + 100  # for no whole report, but for an acknowledgement
    resource.prlimit(agent.proc.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    assert talk(port, b"two") == b"two"
    agent.proc.wait_log("supervisor gone")  # by the worker: the supervisor's own log is over the limit as well
    assert talk(port, b"three") == b"three"
    assert streams_reported(stack) == (1, 1)

    resource.prlimit(agent.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: streams_reported(stack) == (3, 3), "all streams to be reported", every=0.1)
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0


def test_what_is_taken_away_while_reports_cannot_be_kept(stack):
    """A worker whose reports are not taken has no channel for most of the time; what it is told is told all the same."""
    agent = stack.agents["web-1"]
    start_limited(agent)
    a, b = TcpServer(echo_until_eof), TcpServer(echo_until_eof)
    p, (port_a, port_b) = stack.forward("web-1", f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}")
    on_a = socket.create_connection(("127.0.0.1", port_a), LIMIT)
    on_a.settimeout(LIMIT)
    on_a.sendall(b"a")
    assert on_a.recv(1) == b"a"
    wait_for(lambda: streams_reported(stack) == (1, 0), "the first stream to be reported", every=0.1)

    room = (agent.folder / "state" / "reports").stat().st_size + 100
    resource.prlimit(agent.proc.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    assert talk(port_b, b"two") == b"two"
    agent.proc.wait_log("supervisor gone")
    deny = {"Sid": "Less", "Effect": "Deny", "Principal": {"User": ["dev"]}, "Action": ["tunnel:OpenTcp"], "Resource": ["*"]}
    deny["Condition"] = {"NumericEquals": {"tunnel:Port": [a.port]}}
    stack.cli("put-policy", "less", "-", input=json.dumps({"Version": "2026-01-01", "Statement": [deny]}))
    assert is_gone(on_a)
    assert talk(port_b, b"still") == b"still"
    assert streams_reported(stack) == (1, 0)
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0


def test_an_end_survives_a_full_disk(stack):
    agent = stack.agents["web-1"]
    start_limited(agent)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    assert talk(port, b"one") == b"one"
    resource.prlimit(agent.proc.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert talk(port, b"two") == b"two"
    worker = set(stack.worker_pids()) - {agent.proc.pid}
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    wait_for(lambda: not worker & set(stack.worker_pids()), "the worker to be gone")
    resource.prlimit(agent.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: streams_reported(stack) == (2, 2), "its last words to be reported", every=0.1)
    wait_for(lambda: not list((agent.folder / "run").glob("s-*")), "the runtime folder to be empty")


def test_a_worker_that_stands_still_keeps_nobody(stack):
    """Its queue of connections fills up with those of dead supervisors; a new one connects all the same."""
    agent = stack.agents["web-1"]
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    assert talk(port, b"one") == b"one"
    (worker,) = set(stack.worker_pids()) - {agent.proc.pid}
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(8):
            agent.proc.kill()
            agent.proc.p.wait()
            agent.restart()
            agent.proc.wait_log("connected")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert talk(port, b"two") == b"two"
    wait_for(lambda: streams_reported(stack) == (2, 2), "both streams to be reported", every=0.1)
    assert [s["state"] for s in stack.json("list-sessions")] == ["active"]
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    wait_for(lambda: not list((agent.folder / "run").glob("s-*")), "the runtime folder to be empty")


def test_a_worker_that_finds_no_runtime_folder_ends_in_order(world):
    p = world.start()
    c, _ = connect(world)
    (world.folder / "run").rmdir()
    c.send(world.offer())
    refused = c.recv("accepted", "refused")
    assert refused["type"] == "refused" and "No such file" in refused["text"]
    p.wait_log("worker gone")
    assert world.workers() == [] and "Assertion" not in p.text() and "Sanitizer" not in p.text()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_worker_without_descriptors_rests_until_it_can_take_its_supervisor(world):
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    (worker,) = world.workers()
    p.kill()
    p.p.wait()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]))
    p = world.start()
    p.wait_log("worker adopted")  # it waits in the worker's queue
    spent = cpu_ticks(worker)
    time.sleep(1)
    assert cpu_ticks(worker) - spent < os.sysconf("SC_CLK_TCK") / 4
    assert "new settings" not in p.text()
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    p.wait_log("new settings")


def test_sessions_that_ended_with_the_machine_leave_nothing_behind(stack):
    """Nobody reports of them any more; what was known of their reports is not kept for ever."""
    agent = stack.agents["web-1"]
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{TcpServer(echo_until_eof).port}")
    assert talk(port, b"one") == b"one"
    wait_for(lambda: streams_reported(stack) == (1, 1), "the stream to be reported", every=0.1)
    agent.proc.kill()
    agent.proc.p.wait()
    send(signal.SIGKILL, workers_of(agent.folder / "run"))
    shutil.rmtree(agent.folder / "run")
    agent.restart()
    stack.wait_connected("web-1")
    head = json.loads((agent.folder / "state" / "reports").read_text().splitlines()[0])
    assert head["sessions"] == {}
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
