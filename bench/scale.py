"""What one server holds and starts: idle agents, idle sessions, sessions a second; judging by policies."""

import subprocess
import time

from paths import BUILD, Server
from nets import Loopback
from measure import cpu_s, rss_kib
from swarm import Swarm

POLICY = BUILD / "tests" / "unit" / "server" / "policy" / "bench_policy"
WATCH_S = 15
PATIENCE_S = 1200


def idle_agents(a, folder, say):
    """Memory of the server for an agent that is connected and does nothing, and what its heartbeats cost."""
    say(f"{a.agents} idle agents")
    stack = Server(folder / "agents", Loopback()).start_server()
    try:
        Swarm(stack, 10, 0, "--prefix", "warm").wait(lambda s: s["agents"]["connected"] == 10, "the first agents")
        before = rss_kib([stack.server.pid])
        swarm = Swarm(stack, a.agents, 0)
        swarm.wait(lambda s: s["agents"]["connected"] == a.agents, "the agents to be connected", PATIENCE_S)
        grown = rss_kib([stack.server.pid]) - before
        cpu, begun = cpu_s([stack.server.pid]), time.monotonic()
        time.sleep(WATCH_S)  # the measurement itself
        share = (cpu_s([stack.server.pid]) - cpu) / (time.monotonic() - begun)
        return {"agents": a.agents, "kib_per_agent": grown / a.agents, "core_share": share}
    finally:
        stack.close()


def sessions(a, folder, say):
    """From StartSession to bytes that came back, as fast as answers come; clients, workers and server share the machine."""
    say(f"{a.starts} sessions in a row")
    stack = Server(folder / "starts", Loopback()).start_server()
    try:
        agents = min(50, a.starts)
        Swarm(stack, agents, 0, "--prefix", "warm").wait(lambda s: s["agents"]["connected"] == agents, "the first agents")
        before, cpu, begun = rss_kib([stack.server.pid]), cpu_s([stack.server.pid]), time.monotonic()
        swarm = Swarm(stack, agents, a.starts, "--ping-ms", "60000")
        swarm.wait(lambda s: s["agents"]["connected"] == agents, "the agents", PATIENCE_S)
        cpu, begun = cpu_s([stack.server.pid]), time.monotonic()
        swarm.wait(lambda s: s["sessions"]["up"] == a.starts, "the sessions to be up", PATIENCE_S)
        took, used = time.monotonic() - begun, cpu_s([stack.server.pid]) - cpu
        return {"sessions": a.starts, "per_s": a.starts / took, "per_server_core_s": a.starts / max(used, 0.01),
                "server_kib_per_session": (rss_kib([stack.server.pid]) - before) / a.starts}  # fmt: skip
    finally:
        stack.close()


def policies():
    if not POLICY.exists():
        return None
    return subprocess.run([POLICY], capture_output=True, text=True, check=True).stdout.strip().split("\n")


def measure(a, folder, say):
    return {"idle_agents": idle_agents(a, folder, say), "sessions": sessions(a, folder, say), "policies": policies()}
