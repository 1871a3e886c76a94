#!/usr/bin/python3
"""Ten thousand agents and a thousand sessions on one server, with coming and going, for some minutes.

The crowd is there all the time: its agents beat their hearts, its sessions carry 64 bytes there and back every few seconds, each
compared. Beside it others come, have short sessions and go; every fifth of them is killed instead, and leaves its sessions to
the server. The run fails when a byte is wrong, a session ends or fails that should not, the server's memory or its descriptors
grow after the warm-up, or when a session that was started has not exactly one start and one end in a whole audit log.
"""

import argparse
import collections
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("scenario", "chaos"):
    sys.path.insert(0, str(HERE.parent / folder))

import audit  # noqa: E402
from harness import Stack, wait_for  # noqa: E402
from swarm import Swarm, allow_files  # noqa: E402
from watch import usage  # noqa: E402

PER_SWARM = 5000  # agents that one process plays: each session of theirs needs up to 14 descriptors besides
PATIENCE = 900  # seconds for what takes long on a busy machine
KILLED_EVERY = 5
FEWEST = 9  # samples, to tell growth
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def check(condition, text):
    if not condition:
        raise Failed(text)


class Samples:
    """Descriptors and memory of the server, in the same situation each time: between two of the churn's rounds."""

    def __init__(self, pid):
        self.pid, self.rows, self.began = pid, [], time.monotonic()

    def take(self):
        fds, kib = usage(self.pid)
        self.rows.append((round(time.monotonic() - self.began, 1), fds, kib))

    def growth(self):
        """(descriptors, KiB) by which the last third's median is above the first third's."""
        third = len(self.rows) // 3
        return tuple(statistics.median(r[i] for r in self.rows[-third:]) - statistics.median(r[i] for r in self.rows[:third]) for i in (1, 2))


class Load:
    def __init__(self, folder, options):
        self.o, self.folder = options, folder
        self.stack = Stack(folder)
        self.crowd, self.rounds, self.churned, self.report = [], 0, 0, {}

    # -- the crowd

    def start_crowd(self):
        began = time.monotonic()
        count = -(-self.o.agents // PER_SWARM)
        for i in range(count):
            agents, sessions = (n // count + (i < n % count) for n in (self.o.agents, self.o.sessions))
            swarm = Swarm(self.stack, agents, sessions, "--prefix", f"crowd{i}", "--ping-ms", self.o.ping_ms, "--hold", name=f"crowd{i}")
            swarm.wait(lambda s: s["agents"]["connected"] == s["agents"]["wanted"], "the agents to be connected", PATIENCE)
            self.crowd.append(swarm)
        self.note(f"{self.o.agents} agents are connected", seconds_to_connect=round(time.monotonic() - began))

    def idle(self):
        """What the heartbeats cost, before there are sessions."""
        kib, cpu, began = usage(self.stack.server.pid)[1] - self.bare_kib, cpu_s(self.stack.server.pid), time.monotonic()
        time.sleep(self.o.idle)  # the measurement itself
        share = (cpu_s(self.stack.server.pid) - cpu) / (time.monotonic() - began)
        self.note(f"idle: {100 * share:.1f} % of a core, {kib / self.o.agents:.1f} KiB an agent", idle_core_share=share, idle_kib=kib)

    def start_sessions(self):
        began = time.monotonic()
        for swarm in self.crowd:
            swarm.ask("go")
        for swarm in self.crowd:
            swarm.wait_up(PATIENCE)
        self.note(f"{self.o.sessions} sessions are up", seconds_to_start=round(time.monotonic() - began))

    def note(self, text, **numbers):
        print(text, flush=True)
        self.report |= numbers

    # -- the coming and going

    def churn(self):
        """One round: agents come with their sessions, and go."""
        self.rounds += 1
        killed = self.rounds % KILLED_EVERY == 0
        swarm = Swarm(self.stack, self.o.churn // 2, self.o.churn, "--prefix", "churn", "--ping-ms", "200", name="churn")
        swarm.wait_up(PATIENCE)
        swarm.wait(lambda s: s["round_trips"]["count"] >= self.o.churn, "bytes to come back", PATIENCE)
        self.churned += self.o.churn
        if killed:
            swarm.p.kill()
            swarm.p.wait()
        else:
            code, s = swarm.quit(PATIENCE)
            check(code == 0, f"the churn of round {self.rounds}: {json.dumps(s)}\n{swarm.tail()}")

    def crowd_is_well(self):
        for swarm in self.crowd:
            s = swarm.stats()
            well = s["errors"] == s["mismatches"] == s["sessions"]["over"] == s["sessions"]["failed"] == 0
            check(well and s["sessions"]["up"] == s["sessions"]["wanted"], f"the crowd: {json.dumps(s)}\n{swarm.tail()}")

    def turn(self, seconds, samples=None):
        until = time.monotonic() + seconds
        while time.monotonic() < until or samples and len(samples.rows) < FEWEST:
            self.churn()
            if samples:
                samples.take()
            self.crowd_is_well()

    def hold(self):
        pid = self.stack.server.pid
        self.turn(60 * self.o.warm_up)
        self.note(f"warm: {self.rounds} rounds of churn")
        for swarm in self.crowd:
            swarm.ask("mark")
        samples, cpu, began = Samples(pid), cpu_s(pid), time.monotonic()
        self.turn(60 * self.o.minutes, samples)
        share = (cpu_s(pid) - cpu) / (time.monotonic() - began)
        trips = [swarm.stats()["round_trips"] for swarm in self.crowd]
        fds, kib = samples.growth()
        self.note(
            f"{self.rounds} rounds of churn; growth: {fds:+.0f} descriptors, {kib:+.0f} KiB of {samples.rows[-1][2]}; {100 * share:.0f} % of a core",
            samples=samples.rows, grown_fds=fds, grown_kib=kib, core_share=share, round_trips=trips,
        )  # fmt: skip
        check(fds <= self.o.churn, f"the server's descriptors grow by {fds:.0f}")
        check(kib <= max(4096, samples.rows[0][2] * 0.03), f"the server's memory grows by {kib:.0f} KiB")

    # -- the end

    def finish(self):
        began = time.monotonic()
        heirs = Swarm(self.stack, self.o.churn // 2, 0, "--prefix", "churn", name="churn")  # take the place of who was killed
        heirs.wait(lambda s: s["agents"]["connected"] == self.o.churn // 2, "the last agents", PATIENCE)
        heirs.quit(PATIENCE)
        for swarm in self.crowd:
            code, s = swarm.quit(PATIENCE)
            check(code == 0 and s["sessions"]["ends"].get("0", 0) == s["sessions"]["wanted"], f"the crowd at its end: {json.dumps(s)}\n{swarm.tail()}")
        wait_for(lambda: self.stack.json("list-sessions", "--state", "active") == [], "the sessions that were left behind to end", PATIENCE, 1)
        self.note("all sessions are over", seconds_to_end=round(time.monotonic() - began))

    def account(self):
        records = [json.loads(line) for line in self.stack.cli("audit", "--from", "1", "--output", "json", limit=PATIENCE).stdout.splitlines()]
        check(not audit.wrong(records), audit.wrong(records))
        starts, ends = (collections.Counter(r["session"] for r in records if r["event"] == f"session.{word}") for word in ("start", "end"))
        check(set(starts.values()) == {1} and starts == ends, f"sessions without one start and one end: {sorted(s for s in starts | ends if not starts[s] == ends[s] == 1)[:10]}")
        wanted = self.churned + self.o.sessions
        check(len(starts) == wanted, f"{wanted} sessions were up, the audit log has {len(starts)}")
        self.note(f"{len(starts)} sessions in {len(records)} audit records, each with its end", sessions=len(starts), records=len(records))

    def run(self):
        allow_files(self.o.agents + 8 * (self.o.sessions + self.o.churn) + 200)
        self.stack.start_server()
        self.bare_kib = usage(self.stack.server.pid)[1]
        self.start_crowd()
        self.idle()
        self.start_sessions()
        self.hold()
        self.finish()
        self.account()


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=10, help="how long after the warm-up (default: %(default)s)")
    p.add_argument("--warm-up", type=float, default=2, help="minutes before growth counts (default: %(default)s)")
    p.add_argument("--agents", type=int, default=10_000, help="(default: %(default)s)")
    p.add_argument("--sessions", type=int, default=1_000, help="of the crowd (default: %(default)s)")
    p.add_argument("--churn", type=int, default=40, help="sessions a round of those that come and go (default: %(default)s)")
    p.add_argument("--ping-ms", type=int, default=5000, help="each session of the crowd sends so often (default: %(default)s)")
    p.add_argument("--idle", type=float, default=20, help="seconds for the measurement without sessions (default: %(default)s)")
    p.add_argument("--report", type=Path, help="a file for what was measured, JSON")
    return p.parse_args()


def main():
    o = options()
    folder = Path(tempfile.mkdtemp(prefix="tl-"))
    load = Load(folder, o)
    try:
        load.run()
    except (Failed, AssertionError, OSError) as e:
        print(f"{e}\n{load.stack.tails()}\nthe logs are in {folder}", file=sys.stderr)
        return 1
    finally:
        load.stack.close()
        if o.report:
            o.report.write_text(json.dumps(load.report))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
