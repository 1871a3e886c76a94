"""A command without a terminal does not outlive its session, but for what was sent away on purpose."""

import os
import signal
import subprocess

import pytest
from harness import LIMIT, USER, LineReader, wait_for

COMMAND = """
setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo daemon $!
nohup sleep 1000 </dev/null >/dev/null 2>&1 & echo nohup $!
sleep 1000 & echo child $!
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
    pids = {name: int(out.wait(name).split()[1]) for name in ("daemon", "nohup", "child", "shell")}
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


def test_what_a_command_left_behind_is_left(stack):
    r = stack.cli("start-session", "--target", "web-1", "--login", USER, "--", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    pid = int(r.stdout)
    try:
        wait_for(lambda: len(stack.worker_pids()) == 1, "the worker to be gone")
        assert runs(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
