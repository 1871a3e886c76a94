#!/usr/bin/python3
"""This project and its peers, in one run on one machine. See scripts/bench --help."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import paths  # noqa: E402
import control  # noqa: E402
import measure  # noqa: E402
import nets  # noqa: E402
import peers  # noqa: E402
import reactors  # noqa: E402
import scale  # noqa: E402
import tables  # noqa: E402

WAYS = [*paths.ALL, *peers.ALL]


def arguments():
    p = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures tunnel and its peers in turns over loopback, prints tables and writes results.json, report.md and plots. What counts "
        "are the ratios within a run; a machine that is busy or noisy shows in their spread.",
    )
    p.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the results (build/bench)")
    p.add_argument("--rounds", type=int, default=5, help="how often each is measured; medians are told (5)")
    p.add_argument("--mib", type=int, default=1024, help="MiB of a bulk transfer (1024)")
    p.add_argument("--pings", type=int, default=5000, help="round trips of a measurement (5000)")
    p.add_argument("--idle", type=int, default=2000, help="idle connections of a way; of tunnel: sessions (2000)")
    p.add_argument("--agents", type=int, default=2000, help="idle agents on one server; 10000 takes minutes (2000)")
    p.add_argument("--starts", type=int, default=1000, help="sessions to start in a row (1000); five times as many when their ends are left out")
    p.add_argument("--only", metavar="NAME", action="append", choices=[w.name for w in WAYS], help="these ways only; may be repeated")
    p.add_argument("--append", action="store_true", help="to what --out has already: a long run in parts, with --only and --skip")
    p.add_argument("--quick", action="store_true", help="everything once and small: does it work?")
    p.add_argument("--skip", action="append", default=[], choices=["ways", "held", "shell", "far", "scale", "reactors", "control"], help="leave a part out; may be repeated")
    a = p.parse_args()
    if a.quick:
        a.rounds, a.mib, a.pings, a.idle, a.agents, a.starts = 1, 64, 200, 50, 50, 20
    return a


class Samples:
    """Values by (way, what), and their medians."""

    def __init__(self):
        self.values = {}

    def add(self, way, what, result):
        for key, value in result.items():
            self.values.setdefault(way, {}).setdefault(f"{what}.{key}", []).append(value)

    def medians(self):
        return {way: {k: statistics.median(v) for k, v in what.items()} for way, what in self.values.items()}


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure_ways(a, ways, samples):
    for number in range(1, a.rounds + 1):
        for way in ways:
            say(f"round {number} of {a.rounds}: {way.name}")
            for direction in ("up", "down"):
                samples.add(way.name, f"{direction}1", measure.bulk(way, direction, 1, a.mib))
                samples.add(way.name, f"{direction}4", measure.bulk(way, direction, 4, a.mib // 4))
            samples.add(way.name, "idle", measure.ping(way, a.pings))
            samples.add(way.name, "beside", measure.ping_beside_bulk(way, a.pings // 5))
            samples.add(way.name, "open", measure.opens(way, a.pings // 5))


def measure_held(a, ways, samples):
    """All ways with none first: what is left of some thousand connections that end takes a while to go."""
    for way in ways:
        say(f"none idle: {way.name}")
        for result in measure.none_held(way, a.pings, a.rounds):
            samples.add(way.name, "held", result)
    for way in ways:
        say(f"{a.idle} idle: {way.name}")
        for result in measure.held(way, a.idle, a.pings, a.rounds):
            samples.add(way.name, "held", result)


LOGINS = 9  # a round: short as they are, they vary


def measure_shells(a, ways, samples):
    ways = [w for w in ways if hasattr(w, "shell")]
    mib = a.mib // 2
    for number in range(1, a.rounds + 1):
        for way in ways:
            say(f"round {number} of {a.rounds}: ssh by {way.name}")
            for _ in range(LOGINS):
                samples.add(way.name, "ssh", {"login_s": measure.shell(way, ["true"])})
            samples.add(way.name, "ssh", {"mb_per_s": mib * 1.048576 / measure.shell(way, ["cat >/dev/null"], data=mib)})


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    release = next((line.split("=")[1].strip().strip('"') for line in open("/etc/os-release") if line.startswith("PRETTY_NAME")), "")
    return {"date": datetime.date.today().isoformat(), "cpu": model, "cores": os.cpu_count(), "system": release, "kernel": platform.release(),
            "versions": versions()}  # fmt: skip


def toolchain(program):
    """What a Go program was built with, which its speed depends on; known where there is a Go to ask."""
    if not shutil.which("go"):
        return ""
    r = subprocess.run(["go", "version", shutil.which(program)], capture_output=True, text=True)
    return f" ({r.stdout.strip().rsplit(': ', 1)[1]})" if r.returncode == 0 and ": go" in r.stdout else ""


def versions():
    out = {}
    for name, args in (("nginx", ["nginx", "-v"]), ("haproxy", ["haproxy", "-v"]), ("OpenSSH", ["ssh", "-V"]), ("OpenSSL", ["openssl", "version"]),
                       ("chisel", ["chisel", "--version"]), ("frp", ["frps", "--version"]), ("rathole", ["rathole", "--version"])):  # fmt: skip
        if shutil.which(args[0]):
            r = subprocess.run(args, capture_output=True, text=True)
            text = (r.stdout + r.stderr).split("\n")[0].strip()
            out[name] = (text if name.lower() in text.lower() else f"{name} {text}") + toolchain(args[0])
    return out


@contextlib.contextmanager
def running(kinds, net):
    """The server that all lead to, and each way to it; stopped at the end, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="tb-"))  # a short name: sockets have to fit in it
    ways = []
    server = paths.Proc([*net.prefix("target"), paths.PUMP, "serve", folder / "port"], folder / "pump.log")
    try:
        to = int(paths.wait_for(lambda: (folder / "port").exists() and (folder / "port").read_text().strip(), "tunnel-pump to listen"))
        for kind in kinds:
            if kind.missing():
                say(f"{kind.name}: not measured, there is no {', '.join(kind.missing())}")
                continue
            ways.append(kind(folder, to, net))
            ways[-1].start()
        yield ways
    finally:
        for way in ways:
            way.close()
        server.stop(15)
        shutil.rmtree(folder, ignore_errors=True)


def measure_near(a, kinds, samples):
    with running(kinds, nets.Loopback()) as ways:
        if "ways" not in a.skip:
            measure_ways(a, ways, samples)
        if "held" not in a.skip:
            measure_held(a, ways, samples)
        if "shell" not in a.skip:
            measure_shells(a, ways, samples)


LINES = ((20, 0.0), (100, 0.0), (20, 0.1))  # ms there and back, percent lost


def measure_far(a, kinds, samples):
    """One stream over a long line; the TCP of client and relay crosses it, so the peers show what a line can give."""
    if nets.Far.missing():
        return say(f"no long line: {nets.Far.missing()}")
    kinds = [k for k in kinds if k in (paths.Nginx, paths.Bastion, paths.Tunnel)]
    for rtt, loss in LINES:
        net = nets.Far(rtt, loss)
        try:
            with running(kinds, net) as ways:
                for way in ways:
                    say(f"{net.name}: {way.name}")
                    for direction in ("up", "down"):
                        samples.add(way.name, f"{net.name}, {direction}", {"mb_per_s": measure.bulk(way, direction, 1, max(8, a.mib // 4))["mb_per_s"]})
        finally:
            net.close()


def main():
    a = arguments()
    if not paths.PUMP.exists():
        sys.exit(f"scripts/bench: {paths.PUMP} is missing; scripts/bench builds it when TUNNEL_BUILD is not set")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    samples, results = Samples(), {"machine": machine(), "options": {k: str(v) for k, v in vars(a).items()}}
    if a.append and (a.out / "results.json").exists():
        before = json.loads((a.out / "results.json").read_text())
        samples.values, results = before["samples"], {**before, **results}
    kinds = [k for k in WAYS if not a.only or k.name in a.only]
    measure_near(a, kinds, samples)
    if "far" not in a.skip:
        measure_far(a, kinds, samples)
    if "scale" not in a.skip:
        with tempfile.TemporaryDirectory(prefix="tb-") as folder:
            results["scale"] = scale.measure(a, Path(folder), say)
    if "reactors" not in a.skip:
        with tempfile.TemporaryDirectory(prefix="tb-") as folder:
            results["reactors"] = reactors.measure(a, Path(folder), say)
    if "control" not in a.skip:
        with tempfile.TemporaryDirectory(prefix="tb-") as folder:
            results["control"] = control.measure(a, Path(folder), say)
    results |= {"medians": samples.medians(), "samples": samples.values, "secret": {w.name: w.secret for w in WAYS},
                "left_out": {w.name: w.missing() for w in WAYS if w.missing()}}  # fmt: skip
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = tables.report(results, a.out)
    (a.out / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
