#!/usr/bin/python3
"""Real processes, real load, a seeded schedule of faults; at the end every byte is compared. See scripts/chaos --help."""

import argparse
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True

import audit  # noqa: E402
import faults  # noqa: E402
import net  # noqa: E402
import report  # noqa: E402
import watch  # noqa: E402
from world import ClusterWorld, Trouble, World  # noqa: E402

RECOVERY_S = 60
FD_GROWTH, MIB_GROWTH = 64, 256


def arguments():
    p = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Runs relay, agent, client and sshd under full load, breaks network and processes again and again, and proves "
        "at the end that no byte was lost and none came twice. Exit code 1 when anything is wrong.",
    )
    p.add_argument("--minutes", type=float, default=5, help="how long (5)")
    p.add_argument("--faults", type=int, help="stop after so many strikes of the schedule instead")
    p.add_argument("--seed", type=int, help="the schedule and the content; default: a new one, which is printed")
    p.add_argument("--sessions", type=int, default=2, help="1: ssh, 2: ssh and port-forward, then in turns (2)")
    p.add_argument("--mode", choices=("auto", "netns", "proxy"), default="auto",
                   help="network namespaces (root), or a proxy in user space; auto: namespaces when they can be had")  # fmt: skip
    p.add_argument("--cluster", action="store_true", help="three nodes on a Redis with replicas and Sentinels; needs network namespaces")
    p.add_argument("--longest", type=float, default=faults.LONG, help="seconds: the longest black hole (8)")
    p.add_argument("--rate", type=float, default=0, help="MB/s of each bulk stream; 0: as fast as it goes (0)")
    p.add_argument("--report", type=Path, help="folder for report.json, report.txt, and the logs when it fails")
    p.add_argument("--keep", action="store_true", help="keep the logs of a good run too")
    p.add_argument("--list", type=int, metavar="N", help="print the first N strikes of the seed's schedule, do nothing")
    return p.parse_args()


class Run:
    def __init__(self, a, folder, network):
        self.a, self.folder, self.net = a, folder, network
        self.world, self.watch = None, None
        self.strikes, self.checks, self.failure = [], [], None
        self.aborted = False
        self.deck, self.felt = (faults.CLUSTER_DECK, faults.CLUSTER_FELT) if a.cluster else (faults.DECK, faults.FELT)
        self.began, self.end_ns, self.streams = time.monotonic(), 0, []
        self.growth = []

    def say(self, text):
        print(f"{time.monotonic() - self.began:8.1f}  {text}", flush=True)

    # -- the run

    def whole(self):
        """Sets failure to the first thing that was wrong."""
        try:
            self.set_up()
            self.storm()
            self.check_end()
        except (Trouble, AssertionError, OSError, subprocess.SubprocessError) as e:
            self.fail(str(e) or type(e).__name__)
        except Exception:  # a fault of this program: not to be taken for a good run
            self.fail("chaos itself failed: " + traceback.format_exc(chain=False).strip().split("\n")[-1])
            traceback.print_exc()
        except BaseException:
            self.aborted = True
            raise
        finally:
            self.end_ns = self.end_ns or time.monotonic_ns()
            self.tear_down()

    def fail(self, text):
        if not self.failure:
            self.failure = text.split("\n")[0]
            self.say("WRONG: " + text[:3000])
            self.evidence()

    def set_up(self):
        self.world = (ClusterWorld if self.a.cluster else World)(self.folder, self.net, self.a.seed, self.a.rate * 1e6)
        kinds = list(itertools.islice(itertools.cycle(("ssh", "tcp")), self.a.sessions))
        self.world.begin(kinds)
        self.wait_flow(time.monotonic_ns(), "the load to start")
        self.watch = watch.Watch(self.processes, self.known)
        self.watch.start()
        self.say(f"seed {self.a.seed}, mode {self.net.mode}: {', '.join(s.name + ' ' + s.what for s in self.world.sessions)}; the load runs")

    def processes(self):
        w = self.world
        named = {name: proc.pid for name, proc in w.relays().items()} | {"agent supervisor": w.supervisor().pid}
        named |= {f"{s.name} client": s.cli_pid for s in w.sessions}
        for s in w.sessions:
            for pid in w.workers([s])[:1]:
                named[f"{s.name} worker"] = pid
        return named

    def proxy_pid(self):
        return {self.net.p.pid} if getattr(self.net, "p", None) else set()

    def known(self):
        own = [p.p if hasattr(p, "p") else p for p in [*self.world.procs, *self.world.relays().values()]]
        return {p.pid for p in own} | self.proxy_pid()

    def wait_flow(self, since_ns, what):
        end = time.monotonic() + RECOVERY_S
        ticks = 0
        while not self.world.flowing(since_ns):
            time.sleep(0.005)
            ticks += 1
            if ticks % 40 == 0:
                self.world.check()
            if time.monotonic() > end:
                raise Trouble(f"waited {RECOVERY_S} s for {what}; not flowing: {self.world.not_flowing(since_ns)}")
        self.world.check()

    def storm(self):
        end = time.monotonic() + 60 * self.a.minutes
        for number, strike in enumerate(faults.schedule(self.a.seed, self.a.longest, self.deck), 1):
            if number > self.a.faults if self.a.faults else time.monotonic() > end:
                break
            strike.said = strike.text(self.world)
            self.strikes.append(strike)
            strike.run(self.world)
            self.wait_flow(strike.lift_ns, f"recovery after strike {number} ({strike.said})")
            took = (time.monotonic_ns() - strike.lift_ns) / 1e6
            self.say(f"{number:5}  {strike.said}: flows {took:.0f} ms after the lift")
            time.sleep(strike.pause)

    # -- the end

    def expect(self, what, problem):
        self.checks.append({"what": what if not problem else f"{what}: {problem}", "ok": not problem})
        if problem:
            self.fail(f"{what}: {problem}")

    def check_end(self):
        w = self.world
        self.end_ns = time.monotonic_ns()
        active = {s["id"] for s in w.list_sessions("active")}
        gone = [s.name for s in w.sessions if s.id not in active]
        self.expect("no session ended before its time", ", ".join(gone))
        w.clerk.stop()
        w.finish_load(120)
        self.watch.stop()
        self.growth = self.watch.growth()
        self.compare()
        self.expect("no process grows", self.grown())
        self.expect("each fault was felt", self.unfelt())
        for s in w.sessions:
            s.end()
        ids = {s.id: s for s in w.sessions}
        ends = self.poll_ends(ids)
        self.expect("each session was ended by its client (4000)", ", ".join(f"{ids[i].name}: {e}" for i, e in ends.items() if e != 4000))
        records = w.audit_records()
        self.expect(f"the audit log is one whole chain ({len(records)} records)", audit.wrong(records))
        lost, asked = w.clerk.missing(records), f"{len(w.clerk.answered)} answered, {w.clerk.refused} told to try again"
        self.expect(f"every change that was answered is in it ({asked})", ", ".join(lost))
        for event in ("session.start", "session.end"):
            counts = {i: sum(r.get("event") == event and r.get("session") == i for r in records) for i in ids}
            self.expect(f"each session has one {event} in it", ", ".join(f"{ids[i].name}: {n}" for i, n in counts.items() if n != 1))

    def poll_ends(self, ids, limit=30):
        end = time.monotonic() + limit
        while True:
            now = {s["id"]: s["end"]["code"] for s in self.world.list_sessions("ended") if s["id"] in ids}
            if len(now) == len(ids) or time.monotonic() > end:
                return {i: now.get(i, "has not ended") for i in ids}
            time.sleep(0.1)

    def compare(self):
        reports = {p.stem: json.loads(p.read_text()) for p in (self.folder / "reports").glob("*.json")}
        for s in self.world.sessions:
            for way in ("up", "down"):
                self.compare_ends(f"{s.name}.{way}", reports, "src", "sink")
            self.compare_ends(f"{s.name}.ping", reports, "client", "pong")
            if s.what != "ssh":
                r = reports.get(f"{s.name}.shorts", {"error": "no report"})
                self.streams.append({
                    "name": f"{s.name}.shorts", "bytes": r.get("bytes", 0), "rounds": r.get("rounds", 0),
                    "verdict": r.get("error") or f"{r['rounds']} connections, all came back whole",
                })  # fmt: skip
                self.expect(f"{s.name}.shorts: every short connection came back whole", r.get("error"))

    def compare_ends(self, name, reports, one, other):
        a, b = (reports.get(f"{name}.{end}", {"error": f"{end}: no report"}) for end in (one, other))
        problem = a.get("error") or b.get("error")
        if not problem and a["bytes"] != b["bytes"]:
            problem = f"{a['bytes']} bytes at one side, {b['bytes']} at the other"
        if not problem and a.get("sha256") != b.get("sha256"):
            problem = "the same length, but another SHA-256"
        verdict = problem or ("equal, SHA-256 " + a["sha256"][:16] if "sha256" in a else f"equal, {a['rounds']} rounds")
        self.streams.append({"name": name, "bytes": b.get("bytes", 0), "rounds": b.get("rounds", 0), "verdict": verdict})
        self.expect(f"{name}: both sides have the same bytes", problem)

    def grown(self):
        return ", ".join(
            f"{r['process']}: fds {r['fds'][0]} to {r['fds'][1]}, {r['mib'][0]:.0f} to {r['mib'][1]:.0f} MiB"
            for r in self.growth
            if r["fds"][1] > r["fds"][0] + FD_GROWTH or r["mib"][1] > r["mib"][0] + MIB_GROWTH
        )

    def tear_down(self):
        if self.watch and self.watch.is_alive():
            self.watch.stop()
            self.growth = self.watch.growth()
        try:
            if self.world and not self.aborted:
                self.close_world()
        finally:
            if self.failure or self.aborted:
                watch.kill_children(self.proxy_pid())
            self.net.close()

    def close_world(self):
        w = self.world
        if self.failure:
            return w.close()
        try:
            self.expect("agent and relay stop with 0 on SIGTERM", self.stop_daemons())
            w.serve.terminate()
            w.serve.wait(20)
            self.expect("no process is left over", self.leftovers())
        except AssertionError as e:
            self.fail(str(e))
        finally:
            w.close()

    def stop_daemons(self):
        codes = {"agent": self.world.supervisor().stop()} | {name: proc.stop() for name, proc in self.world.relays().items()}
        self.world.stop_store()
        return ", ".join(f"{k}: {v}" for k, v in codes.items() if v != 0)

    def leftovers(self, limit=20):
        end = time.monotonic() + limit
        while True:
            watch.bury(self.known())
            left = {p for p in watch.children() if watch.state_of(p) not in ("Z", None)} - self.proxy_pid()
            left |= self.net.leftovers()
            if not left or time.monotonic() > end:
                return ", ".join(f"{p} ({command_of(p)})" for p in left)
            time.sleep(0.1)

    # -- telling

    def evidence(self):
        """What is known at the moment of a failure, beside the logs."""
        lines = []
        for role in ("client", "target", "server"):
            r = subprocess.run([*self.net.prefix(role), "ss", "-tnpoi"], capture_output=True, text=True)
            lines.append(f"== {role}\n{r.stdout}")
        if self.world and any(p and p.alive() for p in self.world.relays().values()):
            try:
                lines.append("== sessions\n" + json.dumps(self.world.list_sessions(), indent=1))
            except (Trouble, AssertionError, subprocess.SubprocessError) as e:
                lines.append(f"== sessions: {e}")
        lines += [f"{(s.start_ns / 1e9):.3f} to {(s.lift_ns / 1e9):.3f}  {s.said}" for s in self.strikes[-10:]]
        (self.folder / "evidence.txt").write_text("\n".join(lines) + "\n")

    def measured(self):
        """(strikes that were lifted, ping streams, a row for each of the strikes)."""
        streams = [report.Pings(p) for p in sorted((self.folder / "pings").glob("*.bin"))]
        done = [s for s in self.strikes if s.lift_ns]
        rows = report.measure(done, streams, self.end_ns)
        for row, strike in zip(rows, done):
            row["at_s"] = round(strike.start_ns / 1e9 - self.began, 3)
        return done, streams, rows

    def unfelt(self):
        """Proof that the storm was one."""
        done, _, rows = self.measured()
        weak = [r for r in rows if r["kind"] in self.felt and r["longest_pause_ms"] < 0.5 * r["held_ms"]]
        texts = [f"strike {r['number']} ({r['text']}): {r['longest_pause_ms']:.0f} ms" for r in weak]
        texts += [f"{s.said}: no connection was there" for s in done if s.idle()]
        return "; ".join(texts)

    def result(self):
        sessions = self.world.sessions if self.world else []
        done, streams, rows = self.measured()
        total = {way: sum(s["bytes"] for s in self.streams if s["name"].endswith(way)) for way in ("up", "down")}
        total["pings"] = sum(len(p.sent) for p in streams)
        total["shorts"] = sum(s["rounds"] for s in self.streams if s["name"].endswith("shorts"))
        return {
            "seed": self.a.seed, "mode": self.net.mode, "seconds": time.monotonic() - self.began, "failure": self.failure,
            "folder": str(self.folder), "sessions": [{"name": s.name, "kind": s.what, "id": s.id} for s in sessions],
            "faults": sum(len(s.faults) for s in done), "strikes": len(done), "bytes": total,
            "table": report.by_kind(rows, list(self.deck)), "histogram": report.histogram([g for p in streams for g in p.gaps()]),
            "streams": self.streams, "growth": self.growth, "checks": self.checks, "rows": rows,
        }  # fmt: skip


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120].strip()
    except OSError:
        return "gone"


def choose_net(mode):
    reason = net.why_no_netns() if mode in ("auto", "netns") else "not wanted"
    if reason and mode == "netns":
        sys.exit(f"scripts/chaos: no network namespaces here: {reason}")
    if reason and mode == "auto":
        print(f"no network namespaces here ({reason}): a proxy in user space instead")
    return net.ProxyNet() if reason else net.NetNs()


def print_schedule(a):
    class Names:
        sessions = [type("S", (), {"name": f"s{n + 1}"}) for n in range(a.sessions)]

    for number, strike in enumerate(itertools.islice(faults.schedule(a.seed, a.longest, faults.CLUSTER_DECK if a.cluster else faults.DECK), a.list), 1):
        print(f"{number:5}  {strike.text(Names)}")


def keep(a, folder, failed):
    """The logs stay where something was wrong; the pings' notes are big and stay too then."""
    if a.report and (failed or a.keep):
        shutil.copytree(folder, a.report / "logs", dirs_exist_ok=True, copy_function=copy_file)
    if not failed or a.report:
        shutil.rmtree(folder, ignore_errors=True)


def copy_file(source, to):
    """No sockets."""
    if os.path.isfile(source):
        shutil.copy2(source, to)


def main():
    a = arguments()
    if a.seed is None:
        a.seed = secrets.randbelow(10**6)
    if a.list:
        return print_schedule(a)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    watch.adopt_orphans()
    network = choose_net("netns" if a.cluster else a.mode)
    folder = Path(tempfile.mkdtemp(prefix="tc-"))  # a short name: sockets have to fit in it
    run = Run(a, folder, network)
    try:
        run.whole()
    finally:
        if run.aborted:
            shutil.rmtree(folder, ignore_errors=True)
    result = run.result()
    out = a.report or folder
    out.mkdir(parents=True, exist_ok=True)
    result["folder"] = str(a.report / "logs") if a.report else str(folder)
    report.write(out, result)
    print("\n" + report.text(result), end="")
    keep(a, folder, bool(run.failure))
    return 1 if run.failure else 0


if __name__ == "__main__":
    sys.exit(main())
