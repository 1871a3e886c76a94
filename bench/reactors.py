"""Does a second reactor carry as much again? On two cores the ends of the sessions would be what is measured, so each reactor gets
a tenth of a core (SCHED_DEADLINE, which needs root), and the ends have the rest."""

import subprocess
import time
from pathlib import Path

from nets import Loopback
from paths import Server
from swarm import Swarm

PERIOD_NS = 10_000_000
SHARE = 10  # percent of a core
SESSIONS = 16
PATIENCE_S = 120


def hold_back(pid):
    """The reactors of a server have their share, and no more."""
    held = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("reactor-"):
            runtime = str(PERIOD_NS * SHARE // 100)
            period = str(PERIOD_NS)
            subprocess.run(["chrt", "-d", "--sched-runtime", runtime, "--sched-deadline", period, "--sched-period", period, "-p", "0", task.name], check=True, capture_output=True)
            held += 1
    return held


def mb_per_s(a, folder, count):
    """Echoed bulk of several sessions, both directions together."""
    stack = Server(folder / f"reactors-{count}", Loopback(), reactors=count).start_server()
    try:
        swarm = Swarm(stack, SESSIONS, SESSIONS, "--bulk")
        swarm.wait_up(PATIENCE_S)
        if hold_back(stack.server.pid) != count:
            raise RuntimeError(f"the server does not have {count} threads called reactor-…")
        seconds = 1 if a.quick else 10
        time.sleep(seconds / 4)  # the windows settle
        before, began = swarm.stats()["bytes"]["checked"], time.monotonic()
        time.sleep(seconds)  # the measurement itself
        moved, took = swarm.stats()["bytes"]["checked"] - before, time.monotonic() - began
        swarm.p.kill()  # what is under way would go on through the slow reactors
        return 2 * moved / took / 1e6
    finally:
        stack.close()


def measure(a, folder, say):
    """None and why, where it cannot be done."""
    say(f"reactors, each with {SHARE} % of a core")
    try:
        one, two = ([mb_per_s(a, folder / f"{r}", n) for r in range(1 if a.quick else 3)] for n in (1, 2))
    except subprocess.CalledProcessError as e:
        return {"missing": e.stderr.decode().strip()}
    return {"share": SHARE, "sessions": SESSIONS, "one": one, "two": two}
