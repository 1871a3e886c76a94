"""A short storm: every kind of fault once, with load on the session, and every byte compared. scripts/chaos is the long one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BUILD

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "chaos"))

import audit  # noqa: E402
import clerk  # noqa: E402
import content  # noqa: E402
import faults  # noqa: E402
import net  # noqa: E402


@pytest.mark.parametrize("mode", ["proxy", "netns", "cluster"])
def test_every_kind_of_fault_once(mode, tmp_path):
    reason = net.why_no_netns() if mode != "proxy" else None
    if reason:
        pytest.skip(f"no network namespaces: {reason}")
    kinds = list(faults.CLUSTER_DECK if mode == "cluster" else faults.DECK)
    # storms that are short, and whose sleeps are long enough to be felt on a machine that is busy
    args = ["--cluster", "--seed", "2516"] if mode == "cluster" else ["--mode", mode, "--seed", "227"]
    args += ["--faults", str(len(kinds)), "--longest", "1", "--rate", "8", "--report", str(tmp_path)]
    r = subprocess.run(
        [str(ROOT / "scripts" / "chaos"), *args], capture_output=True, text=True, timeout=600,
        env={**os.environ, "TUNNEL_BUILD": str(BUILD)},
    )
    assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert {row["kind"] for row in report["rows"]} == set(kinds)
    assert report["failure"] is None and all(c["ok"] for c in report["checks"])
    assert report["bytes"]["up"] > 1 << 20 and report["bytes"]["down"] > 1 << 20 and report["bytes"]["shorts"] > 0


def checked(stream, step=10_007):
    """What the checker says of a stream that comes in pieces; None: it is right."""
    at = 0

    def more(n):
        return stream[at + step : at + step + n]

    check = content.Checker(content.Content("k"), more)
    try:
        for at in range(0, len(stream), step):
            check.feed(stream[at : at + step])
    except content.Wrong as e:
        return str(e)
    assert check.total == len(stream)
    return None


def test_a_wrong_byte_is_found_and_located():
    good = content.Content("k").at(0, 1_000_000)
    assert checked(good) is None
    lost = checked(good[:300_000] + good[301_234:])
    assert lost.startswith("byte 300000:") and lost.endswith("1234 bytes off: missing")
    twice = checked(good[:300_000] + good[290_000:])
    assert twice.startswith("byte 300000:") and twice.endswith("10000 bytes off: sent twice")
    changed = checked(good[:300_000] + bytes([good[300_000] ^ 1]) + good[300_001:])
    assert changed.startswith("byte 300000:") and changed.endswith("what follows is in its place")
    assert checked(content.Content("other").at(0, 1000)).startswith("byte 0:")


def chain(n):
    records, prev = [], audit.FIRST
    for i in range(1, n + 1):
        r = {"event": "x", "node": "node-1", "prev": prev, "text": "ü"}
        r["hash"] = prev = audit.record_hash(r)
        records.append({"seq": i, **r})
    return records


def test_a_broken_audit_chain_is_found():
    assert audit.wrong(chain(5)) is None
    assert audit.wrong(chain(5)[:2] + chain(5)[3:]) == "record 3 is missing; there is 4"
    changed = chain(5)
    changed[2]["text"] = "u"
    assert audit.wrong(changed).startswith("record 3 was changed")
    exchanged = chain(5)
    exchanged[3]["prev"] = audit.FIRST
    exchanged[3]["hash"] = audit.record_hash(exchanged[3])
    assert audit.wrong(exchanged).startswith("record 4 does not follow")


def test_a_change_that_was_answered_and_is_not_in_the_log_is_found():
    c = clerk.Clerk(None)
    c.answered = ["clerk-1", "clerk-3"]
    record = {"event": "target.enrollment", "target": "clerk-1"}
    assert c.missing([record, {"event": "target.enrolled", "target": "clerk-3"}]) == ["clerk-3"]
    assert c.missing([record, record | {"target": "clerk-3"}]) == []


def test_a_seed_gives_the_same_storm():
    def first(seed):
        storm = faults.schedule(seed)
        return [(s.kind, s.after, s.pause, [vars(f) for f in s.faults]) for _, s in zip(range(60), storm)]

    assert first(5) == first(5) != first(6)
    assert {kind for kind, *_ in first(5)[: len(faults.DECK)]} == set(faults.DECK)
