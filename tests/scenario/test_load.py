"""Some hundreds of sessions that come and go beside some that stay, in seconds. scripts/load is the long one."""

import json
import os
import subprocess
from pathlib import Path

from harness import BUILD

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_grows_and_every_session_is_accounted_for(tmp_path):
    report = tmp_path / "report.json"
    args = "--agents 40 --sessions 10 --churn 8 --ping-ms 100 --idle 0.5 --warm-up 0.05 --minutes 0.2".split()
    r = subprocess.run(
        [str(ROOT / "scripts" / "load"), *args, "--report", str(report)],
        capture_output=True, text=True, timeout=390, env={**os.environ, "TUNNEL_BUILD": str(BUILD)},
    )
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-6000:]
    counted = json.loads(report.read_text())
    assert counted["sessions"] > 10 and counted["records"] > 10 * counted["sessions"] / 2, counted
    assert len(counted["samples"]) >= 9, counted
