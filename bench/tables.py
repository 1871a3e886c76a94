"""The report: tables in Markdown, bars in SVG."""

import statistics
from pathlib import Path

OURS, PEER = "tunnel", "nginx"
UP, DOWN = "more is better", "less is better"
# title, unit, value, which way, and the goals: {peer, or value of our own: ratio that we want to reach or to stay under}
BULK = {"nginx": 0.9, "ssh -R/-L": 1.0, "chisel": 4.0, "chisel without TLS": 4.0, "frp": 3.0}
OWN = {"held.none_p50_us": "with none", "held.none_p99_us": "with none"}
ROWS = [
    ("bulk, one stream up", "MB/s", "up1.mb_per_s", UP, BULK),
    ("bulk, one stream down", "MB/s", "down1.mb_per_s", UP, BULK),
    ("bulk, four streams up", "MB/s", "up4.mb_per_s", UP, {}),
    ("bulk, four streams down", "MB/s", "down4.mb_per_s", UP, {}),
    ("relay, CPU, up", "s/GiB", "up1.relay_cpu_s_per_gib", DOWN, {"nginx": 1.0}),
    ("relay, CPU, down", "s/GiB", "down1.relay_cpu_s_per_gib", DOWN, {"nginx": 1.0}),
    ("client's end, CPU, down", "s/GiB", "down1.client_cpu_s_per_gib", DOWN, {}),
    ("target's end, CPU, down", "s/GiB", "down1.target_cpu_s_per_gib", DOWN, {}),
    ("64 bytes there and back, p50", "µs", "idle.p50_us", DOWN, {"nginx": 1.1}),
    ("64 bytes there and back, p99", "µs", "idle.p99_us", DOWN, {"nginx": 1.2}),
    ("the same beside bulk, p50", "µs", "beside.p50_us", DOWN, {}),
    ("the same beside bulk, p99", "µs", "beside.p99_us", DOWN, {}),
    ("new connections", "1/s", "open.per_s", UP, {"nginx": 5.0}),
    ("64 bytes there and back, no idle connection, p50", "µs", "held.none_p50_us", DOWN, {}),
    ("… {idle} idle connections, or tunnel's sessions, p50", "µs", "held.p50_us", DOWN, {"held.none_p50_us": 1.1}),
    ("64 bytes there and back, no idle connection, p99", "µs", "held.none_p99_us", DOWN, {}),
    ("… {idle} idle connections, or tunnel's sessions, p99", "µs", "held.p99_us", DOWN, {"held.none_p99_us": 1.1}),
    ("relay's memory for an idle connection, or tunnel's session", "KiB", "held.relay_kib", DOWN, {}),
    ("ssh: login", "s", "ssh.login_s", DOWN, {"loopback": 1.1}),
    ("ssh: bulk up", "MB/s", "ssh.mb_per_s", UP, {"ssh ProxyJump": 1.2}),
    ("20 ms away, one stream up", "MB/s", "20 ms, up.mb_per_s", UP, {}),
    ("20 ms away, one stream down", "MB/s", "20 ms, down.mb_per_s", UP, {}),
    ("100 ms away, one stream up", "MB/s", "100 ms, up.mb_per_s", UP, {}),
    ("100 ms away, one stream down", "MB/s", "100 ms, down.mb_per_s", UP, {}),
    ("20 ms away, 0.1 % lost, one stream up", "MB/s", "20 ms, 0.1 % lost, up.mb_per_s", UP, {}),
    ("20 ms away, 0.1 % lost, one stream down", "MB/s", "20 ms, 0.1 % lost, down.mb_per_s", UP, {}),
]
PLOTS = [("bulk", "up1.mb_per_s", "One stream, MB/s"), ("relay-cpu", "down1.relay_cpu_s_per_gib", "Relay, CPU seconds a GiB"),
         ("round-trip", "idle.p50_us", "64 bytes there and back, µs (p50)"), ("open", "open.per_s", "New connections a second")]  # fmt: skip


STARTS_GOAL = 1000  # a second, with SQLite
REACTORS_GOAL = 1.6
OPERATIONS = [("create", "a document is put, 1,000 bytes, two index entries"), ("update", "the same, compared and set"), ("get", "it is got"),
              ("list", "100 of them are listed"), ("append", "a record of 400 bytes is appended"), ("audit", "the audit log's record of a start, chained")]  # fmt: skip
CALLERS = (1, 8, 32)


def number(value):
    return "—" if not value else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(medians, key, way, goals):
    """How our value stands to those that there is a goal for."""
    ours, out = medians.get(OURS, {}).get(key), []
    for other, goal in goals.items():
        name, theirs = (OWN[other], medians.get(OURS, {}).get(other)) if other in OWN else (other, medians.get(other, {}).get(key))
        if ours and theirs:
            ratio = ours / theirs
            met = ratio >= goal if way == UP else ratio <= goal
            out.append(f"{ratio:.2f} × {name} ({'≥' if way == UP else '≤'} {goal}: {'met' if met else 'not met'})")
    return "; ".join(out)


def spread(results):
    """The widest spread of our rounds, tails left out: how noisy the machine was."""
    widest, told = 0.0, {row[2] for row in ROWS if not row[2].endswith("p99_us")}
    for key, values in results["samples"].get(OURS, {}).items():
        if key in told and len(values) > 1 and min(values) > 0:
            widest = max(widest, max(values) / min(values))
    return widest


def ways_table(results):
    medians = results["medians"]
    names = list(medians)
    lines = ["| | " + " | ".join(names) + " | tunnel to its peers |", "| --- |" + " ---: |" * len(names) + " --- |"]
    for title, unit, key, way, goals in ROWS:
        values = [medians[n].get(key) for n in names]
        if any(v is not None for v in values):
            title = title.format(**results["options"])
            lines.append(f"| {title} ({unit}) | " + " | ".join(map(number, values)) + f" | {verdict(medians, key, way, goals)} |")
    return lines


def left_out(results):
    without = [f"{name} (no {', '.join(programs)} on PATH)" for name, programs in results["left_out"].items() if name not in results["medians"]]
    return ["—: not measured." + (" Nor were " + "; ".join(without) + "." if without else ""), ""]


def reactors_line(r):
    if "missing" in r:
        return f"- two reactors: not measured, {r['missing']}"
    one, two = statistics.median(r["one"]), statistics.median(r["two"])
    return (f"- One reactor carries {one:.0f} MB/s of {r['sessions']} sessions with {r['share']} % of a core, two with as much each {two:.0f}: "
            f"{two / one:.2f} × (≥ {REACTORS_GOAL}: {'met' if two / one >= REACTORS_GOAL else 'not met'}). The ends have the rest of the two cores, and are not what limits.")  # fmt: skip


def scale_lines(scale):
    agents, sessions = scale["idle_agents"], scale["sessions"]
    lines = [
        f"- {agents['agents']} idle agents: {agents['kib_per_agent']:.1f} KiB of the server's memory each, {100 * agents['core_share']:.1f} % of a core for all.",
        f"- {sessions['sessions']} sessions started as fast as answers came, to the first byte back: {sessions['per_s']:.0f} a second with clients and "
        f"targets on the same cores; the server alone would do {sessions['per_server_core_s']:.0f} a second of one core; "
        f"{sessions['server_kib_per_session']:.0f} KiB of its memory for each that is idle.",
    ]
    return lines + [f"- {line}" for line in scale["policies"] or ()]


def starts_table(calls):
    """The server's own rate, and who took how much of the machine meanwhile."""
    lines = ["| StartSession with SQLite, signed beforehand, kept TLS connections | calls/s | p50 ms | p99 ms | server CPU ms a call | of the machine: server, "
             "load generator, agents | goal |", "| --- |" + " ---: |" * 5 + " --- |"]  # fmt: skip
    for c in calls:
        shares = ", ".join(f"{100 * c[k]:.0f} %" for k in ("server_share", "generator_share", "agents_share"))
        met = "met" if c["per_s"] >= STARTS_GOAL else "not met"
        lines.append(f"| {c['at_once']} at once | {c['per_s']:.0f} | {c['p50_ms']:.1f} | {c['p99_ms']:.1f} | {c['server_cpu_ms']:.2f} | {shares} | "
                     f"≥ {STARTS_GOAL}: {met} |")  # fmt: skip
    return lines


def stores_table(stores):
    """Operations a second by store and number of callers; answered is durable."""
    names = [n for n in ("SQLite", "Redis") if stores.get(n)]
    columns = [(n, c) for n in names for c in CALLERS]
    lines = [f"Stores: operations a second; what was answered is on the disk, files in {stores['folder']}.", ""]
    lines += ["| | " + " | ".join(f"{n}, {c} at once" for n, c in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for key, title in OPERATIONS:
        lines.append(f"| {title} | " + " | ".join(number(stores[n][f"{key}.{c}"]) for n, c in columns) + " |")
    return lines


def plot(results, out):
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tunnel"  # the same figures give the same file
    from matplotlib import pyplot

    made = []
    for name, key, title in PLOTS:
        rows = [(n, m[key]) for n, m in results["medians"].items() if m.get(key) is not None and n != "loopback"]
        if not rows:
            continue
        figure, axes = pyplot.subplots(figsize=(6, 0.5 + 0.38 * len(rows)))
        names, values = zip(*reversed(rows))
        bars = axes.barh(names, values, color=["#1f6feb" if n == OURS else "#b8c0cc" for n in names])
        axes.bar_label(bars, [number(v) for v in values], padding=3)
        axes.set_title(title, fontsize=11)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.xaxis.set_visible(False)
        axes.margins(x=0.12)
        figure.tight_layout()
        figure.savefig(Path(out) / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
        made.append(f"{name}.svg")
    return made


def report(results, out):
    m = results["machine"]
    lines = [f"{m['cpu']}, {m['cores']} cores, {m['system']}, Linux {m['kernel']}; {m['date']}. " + ", ".join(m["versions"].values()) + "."]
    rounds = max((len(v) for what in results["samples"].values() for v in what.values()), default=0)
    lines += [f"Medians of up to {rounds} rounds in turns; the widest spread within a row of tunnel's, p99 aside: {spread(results):.2f} ×.", ""]
    if results["medians"]:
        lines += [*ways_table(results), ""]
        lines += ["What the middle sees: " + "; ".join(f"{n}: {results['secret'][n]}" for n in results["medians"]) + ".", ""]
        lines += left_out(results)
    if results.get("scale"):
        lines += [*scale_lines(results["scale"]), ""]
    if results.get("reactors"):
        lines += [reactors_line(results["reactors"]), ""]
    if results.get("control"):
        lines += [*starts_table(results["control"]["starts"]), "", *stores_table(results["control"]["stores"]), ""]
    lines += [f"![{name}]({name})" for name in plot(results, out)]
    return "\n".join(lines) + "\n"
