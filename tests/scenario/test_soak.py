"""A day of plain ssh, as editors use it, in a minute: the relay is killed twice. scripts/soak is the long one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BUILD

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "soak"))

import pulse  # noqa: E402

LONG = {"parallel-0", "parallel-1", "channel-0", "channel-1", "channel-2", "socks-pulse-0", "socks-pulse-1", "download", "upload"}


def test_the_relay_is_killed_twice(tmp_path):
    report = tmp_path / "report.json"
    r = subprocess.run(
        [str(ROOT / "scripts" / "soak"), "--kills", "2", "--every", "1", "--files-every", "1", "--report", str(report)],
        capture_output=True, text=True, timeout=390, env={**os.environ, "TUNNEL_BUILD": str(BUILD)},
    )
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-6000:]
    counted = json.loads(report.read_text())
    assert counted["kills"] == 2 and counted["activities"].keys() == LONG | {"short", "command", "git", "rsync"}
    assert all(a["steps"] > 0 for a in counted["activities"].values()), counted


def one_side(text):
    """What a side says that reads this from the other one."""
    my_in, their_out = os.pipe()
    my_out = os.open(os.devnull, os.O_WRONLY)
    os.write(their_out, text)
    os.close(their_out)
    side = pulse.Pulse("near", "far", my_in, my_out, lambda: os.close(my_out), every=0.01)
    try:
        return side.run()[1]
    except pulse.Wrong as e:
        return str(e)
    finally:
        os.close(my_in)


@pytest.mark.parametrize("text, says", [
    (b"far 0\nfar 1\nfar end 2\n", 2),
    (b"far 0\nfar 2\n", 'expected "far 1", got b\'far 2\''),
    (b"far 0\nfar 0\n", 'expected "far 1", got b\'far 0\''),
    (b"far 0\nfar 1\nfar end 3\n", 'expected "far 2", got b\'far end 3\''),
    (b"far 0\nfar end 1\nfar 1\n", "after the last line came b'far 1'"),
    (b"far 0\nfar 1\n", "the stream ended after 2 lines"),
    (b"far 0\nfar", "the stream ended after 1 lines, at b'far'"),
])
def test_a_pulse_finds_what_is_wrong(text, says):
    assert str(one_side(text)).startswith(str(says))
