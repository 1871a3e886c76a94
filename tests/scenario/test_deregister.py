"""A target that is deregistered: its sessions, its key and its tokens go with it."""

import re
import subprocess

from harness import AGENT, TcpServer, echo_until_eof, wait_for, write_secret

REFUSED = "an agent was refused"


def stamps(text, words):
    """When lines with these words were logged, in seconds of the day."""
    found = re.findall(rf"(?m)^ts=\S+T(\d+):(\d+):([\d.]+)Z .*{words}", text)
    return [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in found]


def test_its_agent_is_told_and_comes_back_seldom(stack):
    s = stack
    echo = TcpServer(echo_until_eof)
    p, _ = s.forward("web-1", f"127.0.0.1:{echo.port}")
    agent = s.agents["web-1"]
    s.cli("deregister-target", "web-1")
    assert p.wait(60) == 243
    assert [x["state"] for x in s.json("list-sessions", "--state", "ended")] == ["ended"]
    (end,) = [a for a in s.audit() if a["event"] == "session.end"]
    assert (end["code"], end["reason"]) == (4011, "the target was deregistered")
    wait_for(lambda: not s.workers(), "its worker to end")
    agent.proc.wait_log("the server refuses target web-1: the target was deregistered")
    wait_for(lambda: len(stamps(s.server.text(), REFUSED)) >= 2, "two attempts to come back", every=0.5)
    first, second = stamps(s.server.text(), REFUSED)[:2]
    assert (second - first) % 86400 >= 14, "it does not hammer the server"
    assert "target web-1 is not enrolled (any more)" in agent.proc.text()
    assert agent.proc.text().count("is not enrolled (any more)") == 1, "an outage is logged once"
    assert agent.proc.alive()
    echo.close()


def test_tokens_that_nobody_has_used_go_too(stack):
    s = stack
    unused = s.cli("create-enrollment", "web-1").stdout.strip()
    s.cli("deregister-target", "web-1")
    write_secret(s.folder / "unused", unused)
    options = ["--server", s.url, "--ca-file", s.folder / "tls" / "ca.pem", "--state-dir", s.folder / "another"]
    r = subprocess.run([str(AGENT), "enroll", *map(str, options), "--token-file", str(s.folder / "unused")],
                       capture_output=True, text=True, env=s.env())
    assert r.returncode == 1 and "the enrolment token is unknown" in r.stderr, r.stderr
    assert s.json("list-targets") == []
