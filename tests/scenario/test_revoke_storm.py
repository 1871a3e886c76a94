"""Hundreds of live sessions of one principal are revoked at once, while they talk.

TUNNEL_REVOKE_SESSIONS=1000 makes it the full one; with TUNNEL_REVOKE_REPORT=FILE a line of JSON is appended there: how
long after the command was given the sessions were over at their clients, and what the server says.
"""

import json
import os
import time

import pytest
from harness import LIMIT, Stack, wait_for
from swarm import Swarm, allow_files, percentile
from test_revoke import OP, POLICY

COUNT = int(os.environ.get("TUNNEL_REVOKE_SESSIONS", "200"))
AGENTS = max(5, COUNT // 20)
PATIENCE = LIMIT * max(3, COUNT / 100)


@pytest.fixture
def crowd(folder):
    s = Stack(folder, policy=POLICY)
    s.write_credentials({s.key_id: ("dev", s.secret, []), "KOP": ("op", OP["TUNNEL_SECRET"], [])})
    allow_files(COUNT * 14 + 2000)
    try:
        yield s.start_server()
    finally:
        s.close()


def report(answer, since_begin):
    line = {"what": "revoke", "sessions": COUNT, "confirmed_ms": answer["took_ms"]}
    line |= {f"over_p{p}_ms": round(percentile(since_begin, p)) for p in (50, 90, 99)}
    line |= {"over_max_ms": round(max(since_begin))}
    print(json.dumps(line))
    if "TUNNEL_REVOKE_REPORT" in os.environ:
        with open(os.environ["TUNNEL_REVOKE_REPORT"], "a") as f:
            f.write(json.dumps(line) + "\n")


def test_all_of_a_principals_sessions_end(crowd):
    swarm = Swarm(crowd, AGENTS, COUNT, "--ping-ms", "1000")
    swarm.wait_up(PATIENCE)
    begin = time.time() * 1000
    r = crowd.cli("revoke", "--principal", "dev", "--output", "json", limit=PATIENCE, **OP)
    answer = json.loads(r.stdout)
    assert answer["sessions"] == COUNT and answer["unconfirmed"] == [] and answer["unreached"] == [], answer
    # What was confirmed had happened: a second look finds nothing that is still to end.
    s = swarm.stats()
    assert s["sessions"]["over"] == COUNT and s["sessions"]["ends"] == {"4007": COUNT}, s
    assert len(swarm.ask("overs")) == COUNT
    report(answer, [at - begin for at in swarm.ask("overs")])
    # Very many ends are recorded behind the answer.
    wait_for(lambda: not json.loads(crowd.cli("list-sessions", "--output", "json", **OP).stdout), "all ends to be recorded", PATIENCE)
