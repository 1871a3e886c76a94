"""/metrics of a server that runs, against docs/metrics.md, the Grafana dashboard and the alerts."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml
from harness import LIMIT, USER, wait_for

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD, ALERTS = ROOT / "etc/grafana/tunnel.json", ROOT / "etc/prometheus/alerts.yml"


def scrape(stack):
    r = stack.curl("/metrics")
    assert r.returncode == 0, r.stderr
    return r.stdout


def families(text):
    """Name -> type and label names, as the scrape has them."""
    found = {name: (kind, set()) for name, kind in re.findall(r"(?m)^# TYPE (\S+) (\w+)$", text)}
    for name, labels in re.findall(r"(?m)^(\w+)(?:\{(.*)\})? \S+$", text):
        family = name if name in found else re.sub(r"_(bucket|sum|count)$", "", name)
        found[family][1].update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    return {name: what for name, what in found.items() if not re.match("tunnel_plugin_(auth|store)_", name)}  # not those of plugins


def value(text, series):
    return sum(float(v) for v in re.findall(rf"(?m)^{re.escape(series)} (\S+)$", text))


def documented():
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| (.*?) \|", (ROOT / "docs/metrics.md").read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def samples(there):
    """The names that an expression may have."""
    return {name + tail for name, (kind, _) in there.items() for tail in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}


def names_in(expression):
    return set(re.findall(r"\b(?:tunnel|process)_\w+", expression))


def test_every_metric_is_documented_and_counts(stack):
    assert stack.cli("start-session", "--target", "web-1", "--login", USER, "--", "head", "-c", "100000", "/dev/zero").returncode == 0
    wait_for(lambda: value(scrape(stack), "tunnel_sessions_ended_total") == 1, "the session's end to be counted", every=0.1)
    text = scrape(stack)
    assert families(text) == documented()
    assert value(text, 'tunnel_relay_bytes_total{direction="to_client"}') > 100000
    assert value(text, 'tunnel_auth_verdicts_total{provider="auth-hmac",outcome="accepted"}') > 0
    assert value(text, "tunnel_audit_records_total") > 2 and value(text, "tunnel_agents_connected") == 1
    calls = value(text, 'tunnel_plugin_call_seconds_count{plugin="store-sqlite"}')
    assert calls > 0 and calls == value(text, 'tunnel_plugin_call_seconds_bucket{plugin="store-sqlite",le="+Inf"}')
    assert value(text, 'tunnel_reactor_delay_seconds_count{reactor="0"}') > 0
    assert value(text, "process_open_fds") > 5 and value(text, "process_resident_memory_bytes") > 1e6


def test_the_dashboard_can_be_imported(bare):
    bare.start_server()
    there = samples(families(scrape(bare)))
    d = json.loads(DASHBOARD.read_text())
    assert d["schemaVersion"] >= 30 and d["uid"] and d["title"] and "id" not in d
    variables = {v["name"]: v for v in d["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    assert names_in(variables["instance"]["query"]["query"]) <= there
    assert len({p["id"] for p in d["panels"]}) == len(d["panels"])
    used = set()
    for panel in d["panels"]:
        assert panel["type"] in ("row", "stat", "timeseries"), panel["type"]
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        for target in panel.get("targets", []):
            assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            names = names_in(target["expr"])
            assert names and names <= there, f"{panel['title']}: no such metric: {names - there}"
            assert target["expr"].count("(") == target["expr"].count(")") and "$instance" in target["expr"]
            used |= names
    assert {n for n in there if not re.search("_(sum|count)$", n)} <= used, "a metric has no panel"


def test_the_alerts_are_rules(bare):
    bare.start_server()
    there = samples(families(scrape(bare)))
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    assert len(group["rules"]) >= 10
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert names_in(rule["expr"]) <= there, rule
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"] and rule["annotations"]["what_to_do"]
    if shutil.which("promtool"):  # of the large package prometheus; it reads expressions as a whole
        r = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=LIMIT)
        assert r.returncode == 0, r.stdout + r.stderr


def test_an_answer_has_its_request_id(bare):
    bare.start_server()
    for path, status in (("/v1/whoami", 200), ("/v1/nothing", 404)):
        r = bare.curl(path, "-i")
        (id,) = re.findall(r"(?im)^x-request-id: (r-\w+)\r?$", r.stdout)
        assert f" {status} " in r.stdout.splitlines()[0]
        assert status == 200 or f'"{id}"' in r.stdout.replace(" ", "")
