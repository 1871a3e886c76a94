"""A command without a terminal does not outlive its session, but for what was sent away on purpose."""

import os
import signal
import subprocess

import pytest
from harness import LIMIT, USER, LineReader, command_line, family, send, wait_for

COMMAND = """
exec 3<&0
setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo daemon $!
nohup sleep 1000 </dev/null >/dev/null 2>&1 & echo nohup $!
sleep 1000 & echo child $!
cat <&3 >/dev/null & echo reader $!
echo shell $$
wait
"""


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ignores_hangup(pid):
    with open(f"/proc/{pid}/status") as f:
        (mask,) = [line.split()[1] for line in f if line.startswith("SigIgn:")]
    return int(mask, 16) & 1 << (signal.SIGHUP - 1)


def start(stack):
    p = stack.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "bash", "-c", f"'{COMMAND}'", stdin=subprocess.PIPE)
    out = LineReader(p.stdout)
    pids = {name: int(out.wait(name).split()[1]) for name in ("daemon", "nohup", "child", "reader", "shell")}
    wait_for(lambda: os.getsid(pids["daemon"]) == pids["daemon"], "setsid to have done its work")
    wait_for(lambda: ignores_hangup(pids["nohup"]), "nohup to have done its work")
    return p, pids


def by_server(stack, p):
    (session,) = stack.json("list-sessions")
    stack.cli("terminate-session", session["id"])


def by_client(stack, p):
    p.terminate()


def by_worker(stack, p):
    for pid in set(stack.worker_pids()) - {stack.agents["web-1"].proc.pid}:
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("end", [by_server, by_client, by_worker])
def test_a_command_is_hung_up_with_its_session(stack, end):
    agent = stack.agents["web-1"]
    p, pids = start(stack)
    try:
        agent.proc.wait_log("sshd runs 1 command(s)")
        end(stack, p)
        p.wait(LIMIT)
        wait_for(lambda: not runs(pids["shell"]) and not runs(pids["child"]), "the command to be gone")
        assert runs(pids["daemon"]) and runs(pids["nohup"])
        agent.proc.wait_log("hung up")
    finally:
        for pid in pids.values():
            if runs(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_hangs_nothing_up(stack):
    """Its sshd ends with its connection. What reads its input finds the end; what does not goes on."""
    p, pids = start(stack)
    try:
        stack.agents["web-1"].proc.wait_log("sshd runs 1 command(s)")
        workers = stack.workers()
        daemons = family(workers) - family([pids["shell"]]) - {*workers, pids["daemon"]}
        daemons = {pid for pid in daemons if command_line(pid)}  # one that has ended and waits to be missed has none
        assert daemons and all(command_line(pid)[0].startswith("sshd") for pid in daemons)
        send(signal.SIGKILL, workers)
        wait_for(lambda: not any(runs(pid) for pid in daemons), "sshd to be gone")
        wait_for(lambda: not runs(pids["reader"]), "what reads to be gone")
        assert runs(pids["shell"]) and runs(pids["child"]) and runs(pids["nohup"]) and runs(pids["daemon"])
        assert p.wait(LIMIT) != 0
    finally:
        send(signal.SIGKILL, pids.values())


def test_what_a_command_left_behind_is_left(stack):
    r = stack.cli("start-session", "--target", "web-1", "--login", USER, "--", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    pid = int(r.stdout)
    try:
        wait_for(lambda: len(stack.worker_pids()) == 1, "the worker to be gone")
        assert runs(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
