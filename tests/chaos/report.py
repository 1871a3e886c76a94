"""Pauses out of the pings' notes, and the tables and JSON that tell them."""

import bisect
import json
import math
from array import array

GAP_MS = 50  # a longer round trip is a pause, and stands in the histogram
TAIL_MS = 500  # a pause this long that comes right behind a recovery still belongs to the fault
MS = 1_000_000


class Pings:
    """One stream's rounds: when each was sent and answered (monotonic ns)."""

    def __init__(self, path):
        pairs = array("Q")
        data = path.read_bytes() if path.exists() else b""
        pairs.frombytes(data[: len(data) // 16 * 16])
        self.sent, self.answered = pairs[0::2], pairs[1::2]

    def gaps(self):
        return [(a - s) / MS for s, a in zip(self.sent, self.answered) if a - s >= GAP_MS * MS]

    def after_lift(self, start, lift, end):
        """ms from the lift to the answer from which on all flows: of the first ping sent after it, or, when another long
        pause begins within a second of that, its end. None: no ping was sent between lift and end."""
        i = bisect.bisect_left(self.sent, lift)
        if i == len(self.sent) or self.answered[i] > end:
            return None
        back = self.answered[i]
        for j in range(i, min(len(self.sent), bisect.bisect_left(self.sent, min(end, back + 1000 * MS)))):
            if self.answered[j] - self.sent[j] >= TAIL_MS * MS and self.answered[j] <= end:
                back = self.answered[j]
        return (back - lift) / MS

    def longest(self, start, end):
        """The longest round trip, in ms, of those under way behind start and answered by end; and its end, in ms from start."""
        first, last = bisect.bisect_left(self.answered, start), bisect.bisect_right(self.answered, end)
        rounds = [(self.answered[j] - self.sent[j], self.answered[j]) for j in range(first, last)]
        if not rounds:
            return 0.0, 0.0
        length, at = max(rounds)
        return length / MS, (at - start) / MS


def measure(strikes, streams, end):
    """For each strike the worst stream: (kind, ms after the lift, ms of the longest pause, ms from the start to its end)."""
    rows = []
    for n, strike in enumerate(strikes):
        until = strikes[n + 1].start_ns if n + 1 < len(strikes) else end
        lifts = [x for x in (p.after_lift(strike.start_ns, strike.lift_ns, until) for p in streams) if x is not None]
        longest, from_start = max((p.longest(strike.start_ns, until) for p in streams), default=(0.0, 0.0))
        rows.append({
            "number": n + 1, "kind": strike.kind, "faults": [f.kind for f in strike.faults], "text": strike.said,
            "at_s": None, "held_ms": (strike.lift_ns - strike.start_ns) / MS, "after_lift_ms": max(lifts, default=None),
            "longest_pause_ms": longest, "pause_end_from_start_ms": from_start,
        })  # fmt: skip
    return rows


def quantiles(values):
    v = sorted(values)
    if not v:
        return {"p50": None, "p90": None, "p99": None, "max": None}
    pick = lambda q: v[min(len(v) - 1, math.ceil(q * len(v)) - 1)]  # noqa: E731
    return {"p50": pick(0.5), "p90": pick(0.9), "p99": pick(0.99), "max": v[-1]}


def by_kind(rows, kinds):
    out = []
    for kind in [*kinds, "all"]:
        mine = [r for r in rows if kind in ("all", r["kind"])]
        out.append({
            "kind": kind, "times": len(mine), "faults": sum(len(r["faults"]) for r in mine),
            "after_lift_ms": quantiles([r["after_lift_ms"] for r in mine if r["after_lift_ms"] is not None]),
            "longest_pause_ms": quantiles([r["longest_pause_ms"] for r in mine]),
            "from_start_ms": quantiles([r["pause_end_from_start_ms"] for r in mine]),
        })  # fmt: skip
    return out


def histogram(gaps):
    edges = [50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 8000, 12000, 20000]
    counts = [0] * len(edges)
    for g in gaps:
        counts[bisect.bisect_right(edges, g) - 1] += 1
    return [{"from_ms": a, "to_ms": b, "pauses": n} for a, b, n in zip(edges, [*edges[1:], None], counts)]


def cell(q):
    return "".join(f"{'-' if q[k] is None else format(q[k], '.0f'):>7}" for k in ("p50", "p90", "p99", "max"))


def table_text(table):
    lines = [
        f"{'':16}{'':14}{'from the lift':>28}  {'longest pause':>28}  {'its end, from the start':>28}",
        f"{'fault':16}{'times':>7}{'faults':>7}" + "  ".join([f"{'p50':>7}{'p90':>7}{'p99':>7}{'max':>7}"] * 3) + "   ms",
    ]
    for r in table:
        cells = "  ".join(cell(r[k]) for k in ("after_lift_ms", "longest_pause_ms", "from_start_ms"))
        lines.append(f"{r['kind']:16}{r['times']:>7}{r['faults']:>7}{cells}")
    return "\n".join(lines)


def histogram_text(rows):
    top = max([r["pauses"] for r in rows] or [1]) or 1
    lines = []
    for r in rows:
        label = f"{r['from_ms']} to {r['to_ms']}" if r["to_ms"] else f"over {r['from_ms']}"
        lines.append(f"{label:>16} ms {r['pauses']:>6}  {'#' * math.ceil(50 * r['pauses'] / top)}")
    return "\n".join(lines)


def streams_text(streams):
    lines = [f"{'stream':14}{'bytes':>18}  {'both sides'}"]
    for s in streams:
        lines.append(f"{s['name']:14}{s['bytes']:>18,}  {s['verdict']}")
    return "\n".join(lines)


def growth_text(rows):
    lines = [f"{'process':22}{'lives':>6}{'fds first':>10}{'last':>7}{'most':>7}{'MiB first':>11}{'last':>8}{'most':>8}"]
    for r in rows:
        lines.append(
            f"{r['process']:22}{r['lives']:>6}{r['fds'][0]:>10}{r['fds'][1]:>7}{r['fds'][2]:>7}"
            f"{r['mib'][0]:>11.1f}{r['mib'][1]:>8.1f}{r['mib'][2]:>8.1f}"
        )
    return "\n".join(lines)


def text(r):
    hours = f"{r['seconds'] / 60:.1f} min"
    total = r["bytes"]
    parts = [
        f"chaos: seed {r['seed']}, mode {r['mode']}, {hours}, {len(r['sessions'])} sessions "
        f"({', '.join(s['name'] + ' ' + s['kind'] for s in r['sessions'])})",
        f"{r['faults']} faults in {r['strikes']} strikes; up {total['up'] / 1e9:.2f} GB, down {total['down'] / 1e9:.2f} GB, "
        f"{total['pings']} pings, {total['shorts']} short connections; together {sum(total[k] for k in ('up', 'down')) / 1e9:.2f} GB",
        table_text(r["table"]),
        f"pauses of {GAP_MS} ms and more, of all ping streams\n" + histogram_text(r["histogram"]),
        streams_text(r["streams"]),
        growth_text(r["growth"]),
        "\n".join(f"{'ok  ' if c['ok'] else 'WRONG'} {c['what']}" for c in r["checks"]),
    ]
    if r["failure"]:
        parts.append(f"FAILED: {r['failure']}\nseed {r['seed']}; logs in {r['folder']}")
    else:
        parts.append("nothing was lost, nothing came twice")
    return "\n\n".join(parts) + "\n"


def write(folder, r):
    (folder / "report.json").write_text(json.dumps(r, indent=1) + "\n")
    (folder / "report.txt").write_text(text(r))
