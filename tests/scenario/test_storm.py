"""Hundreds of sessions at once: the server dies, drains, or their legs are cut, and all of them go on.

TUNNEL_STORM_SESSIONS=1000 makes it the full storm (300 fit between the other tests); with TUNNEL_STORM_REPORT=FILE a line
of JSON is appended there a storm: how long after the server could be reached again the sessions were up.
"""

import json
import os
import socket
import threading
import time

import pytest
from harness import LIMIT, SERVER, CutProxy, Stack, wait_for
from swarm import Reachable, Swarm, allow_files, memory_kib, percentile

COUNT = int(os.environ.get("TUNNEL_STORM_SESSIONS", "300"))
AGENTS = max(5, COUNT // 20)
PATIENCE = LIMIT * max(3, COUNT / 100)


@pytest.fixture
def storm(bare):
    allow_files(COUNT * 14 + 2000)
    bare.start_server()
    return bare


class Caller(threading.Thread):
    """Asks the API again and again, as somebody who has nothing to do with the storm."""

    def __init__(self, stack):
        super().__init__(daemon=True)
        self.stack, self.done, self.calls = stack, threading.Event(), []
        self.start()

    def run(self):
        while not self.done.is_set():
            begun = time.monotonic()
            r = self.stack.cli("whoami", check=False, limit=PATIENCE)
            self.calls.append((r.returncode, time.monotonic() - begun, r.stderr))

    def stop(self):
        self.done.set()
        self.join(PATIENCE)
        return self.calls


def start_swarm(stack):
    swarm = Swarm(stack, AGENTS, COUNT, "--ping-ms", "1000")
    swarm.wait_up(PATIENCE)
    swarm.ask("mark")
    return swarm


def wait_back(swarm):
    """Every session was lost and is up again."""
    return swarm.wait(
        lambda s: s["sessions"]["up"] == COUNT and s["losses_since_mark"] >= COUNT, "all sessions to come back", PATIENCE
    )


def assert_whole(swarm):
    """No byte lost, doubled or wrong; no session over; every agent there."""
    s = swarm.wait_answered(PATIENCE)
    assert s["mismatches"] == 0 and s["errors"] == 0, s
    assert s["sessions"]["up"] == COUNT and s["sessions"]["over"] == 0, s
    swarm.wait(lambda s: s["agents"]["connected"] == AGENTS, "all agents to be connected", PATIENCE)
    return s


def report(what, stack, swarm, reachable, calls):
    reachable.join(LIMIT)
    ups = [at - reachable.at for at in swarm.ask("ups")]
    line = {"what": what, "sessions": COUNT} | {f"p{p}_ms": round(percentile(ups, p)) for p in (1, 50, 90, 99)}
    line |= {"max_ms": round(max(ups)), "calls": len(calls), "slowest_call_ms": round(max(c[1] for c in calls) * 1000)}
    line |= {"server_kib": memory_kib(stack.server.pid)}
    print(json.dumps(line))
    if "TUNNEL_STORM_REPORT" in os.environ:
        with open(os.environ["TUNNEL_STORM_REPORT"], "a") as f:
            f.write(json.dumps(line) + "\n")


def come_back(stack, swarm, what):
    """Starts the server again on the same port and state; all sessions are back, other callers are served meanwhile."""
    reachable = Reachable(stack.port)
    stack.start_server()
    caller = Caller(stack)
    wait_back(swarm)
    calls = caller.stop()
    assert calls and not [call for call in calls if call[0] != 0], [call for call in calls if call[0] != 0]
    report(what, stack, swarm, reachable, calls)


def end(stack, swarm):
    code, s = swarm.quit(PATIENCE)
    assert code == 0, s
    assert s["sessions"]["ends"] == {"0": COUNT} and s["agents"]["reports_waiting"] == 0, s
    assert stack.json("list-sessions", "--state", "active") == []


def test_a_killed_server_gets_all_sessions_back(storm):
    swarm = start_swarm(storm)
    before = memory_kib(storm.server.pid)
    storm.server.kill()
    storm.server.p.wait()
    come_back(storm, swarm, "killed")
    assert_whole(swarm)
    swarm.ask("resume")
    now = swarm.stats()["bytes"]["checked"]
    swarm.wait(lambda s: s["bytes"]["checked"] >= now + COUNT * 64, "bytes to flow again", PATIENCE)
    # The second server has the same sessions as the first, and had up to three connections for each of their legs. A
    # sanitizer keeps what was freed.
    assert b"__asan_init" in SERVER.read_bytes() or memory_kib(storm.server.pid) < 4 * before + 32 * 1024
    end(storm, swarm)


def test_a_drained_server_gets_all_sessions_back(storm):
    swarm = start_swarm(storm)
    assert storm.server.stop(PATIENCE) == 0
    come_back(storm, swarm, "drained")
    assert_whole(swarm)
    end(storm, swarm)


@pytest.fixture
def cut(folder):
    """The legs go through a proxy, the control connections do not."""
    allow_files(4000)
    s = Stack(folder)
    proxy = CutProxy(s.port)
    s.relay_url = f"https://localhost:{proxy.port}"
    s.proxy = proxy
    try:
        yield s.start_server()
    finally:
        s.close()
        proxy.close()


def cut_one(pair):
    for s in (pair.c, pair.up):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_legs_cut_one_by_one(cut):
    sessions, proxy = 100, cut.proxy
    swarm = Swarm(cut, 10, sessions, "--ping-ms", "100")
    swarm.wait_up(PATIENCE)
    swarm.ask("mark")
    legs = proxy.pairs()
    assert len(legs) >= 2 * sessions
    for pair in legs:
        came = proxy.count
        cut_one(pair)
        wait_for(lambda: proxy.count > came, "a new leg in place of the one that was cut", PATIENCE, every=0.001)
    swarm.wait(
        lambda s: s["sessions"]["up"] == sessions and s["losses_since_mark"] >= sessions, "all sessions to be back", PATIENCE
    )
    s = swarm.wait_answered(PATIENCE)
    assert s["mismatches"] == 0 and s["errors"] == 0 and s["sessions"]["over"] == 0, s
    assert s["agents"]["connects"] == 10, "the control connections were not touched"
    code, s = swarm.quit(PATIENCE)
    assert code == 0 and s["sessions"]["ends"] == {"0": sessions}, s


def test_a_wrong_byte_is_noticed(bare):
    """What all of the above relies on."""
    bare.start_server()
    swarm = Swarm(bare, 1, 3, "--ping-ms", "10", "--spoil", "700")
    s = swarm.wait(lambda s: s["mismatches"] == 1, "the wrong byte to be noticed")
    assert "byte 700 (block 10) is" in s["error_texts"][0]
    code, s = swarm.quit()
    assert code == 1 and s["mismatches"] == 1
