"""One measurement of one way each; run.py takes them in turns, so that a busy moment hits all alike."""

import json
import os
import subprocess
import time

from paths import PUMP

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PARTS = ("client", "relay", "target")


def pump(way, *args):
    r = subprocess.run([*way.net.prefix("client"), PUMP, *map(str, args)], capture_output=True, text=True, timeout=300)
    if r.returncode != 0:
        raise RuntimeError(f"tunnel-pump {' '.join(map(str, args))}: {r.stderr.strip()}")
    return json.loads(r.stdout)


def cpu_s(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICK


def rss_kib(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as f:
                total += int(f.read().split()[1]) * PAGE // 1024
        except OSError:
            pass
    return total


def bulk(way, direction, streams, mib):
    """MB/s, and CPU seconds a GiB by part."""
    before = {p: cpu_s(way.pids(p)) for p in PARTS}
    result = {"mb_per_s": pump(way, direction, way.entry, streams, mib)["mb_per_s"]}
    gib = streams * mib / 1024
    for p in PARTS:
        result[f"{p}_cpu_s_per_gib"] = (cpu_s(way.pids(p)) - before[p]) / gib
    return result


def ping(way, count, size=64):
    return pump(way, "ping", way.entry, count, size)


def ping_beside_bulk(way, count):
    """Round trips while another connection of the same way is downloading as fast as it goes."""
    load = subprocess.Popen([*way.net.prefix("client"), PUMP, "down", str(way.entry), "1", "1000000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return ping(way, count)
    finally:
        load.kill()
        load.wait()


def opens(way, count, at_once=4):
    return pump(way, "open", way.entry, count, at_once)


def none_held(way, pings, rounds):
    """Round trips before there are idle connections, to compare those of held() with."""
    for _ in range(rounds):
        yield {f"none_{k}": v for k, v in ping(way, pings).items()}


def held(way, count, pings, rounds):
    """One by one: the relay's memory for each of so many idle connections (ours: sessions), KiB; round trips beside them."""
    before = rss_kib(way.pids("relay"))
    with way.hold(count):
        yield {"relay_kib": (rss_kib(way.pids("relay")) - before) / count}
        for _ in range(rounds):
            yield ping(way, pings)


def shell(way, command, data=None):
    """Seconds for a command on the target, by the way's own ssh; data: so many MiB of zeros go to its input."""
    args, env = way.shell(*command)
    source = subprocess.Popen(["head", "-c", str(data << 20), "/dev/zero"], stdout=subprocess.PIPE) if data else None
    begun = time.monotonic()
    r = subprocess.run(list(map(str, args)), stdin=source.stdout if source else subprocess.DEVNULL, capture_output=True, env=env, timeout=300)
    took = time.monotonic() - begun
    if source:
        source.stdout.close()
        source.wait()
    if r.returncode != 0:
        raise RuntimeError(f"{way.name}: {' '.join(command)}: {r.stderr.decode()[-500:]}")
    return took
