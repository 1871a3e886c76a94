"""Lines of server and agent can be found by the session or the request that they are about, in either format."""

import json
import re
import shlex
import subprocess

import pytest
from harness import LIMIT, USER, LineReader, Stack, send, wait_for

SESSION, REQUEST = re.compile(r"\bs-[a-z0-9]{20}\b"), re.compile(r"\br-[a-z0-9]{16}\b")


def fields_of(line, form):
    """The fields of a line; what is no line of the format fails."""
    if form == "json":
        return json.loads(line)
    found = {}
    for word in shlex.split(line):
        key, equals, value = word.partition("=")
        assert equals and re.fullmatch("[a-z_]+", key) and key not in found, line
        found[key] = value
    return found


@pytest.fixture(params=["logfmt", "json"])
def talkative(request, folder):
    """Server and agent log all that they can, in that format."""
    s = Stack(folder)
    s.form = request.param
    write = s.write_conf

    def write_conf():
        write()
        conf = s.folder / "server.conf"
        conf.write_text(conf.read_text().replace('level = "debug";', f'level = "debug"; format = "{s.form}";'))

    s.write_conf = write_conf
    try:
        s.start_server()
        s.start_agent(log=f'format = "{s.form}";')
        yield s
    finally:
        s.close()


def lines(stack):
    """Every line of both logs, as fields."""
    for log in (stack.folder / "server.log", stack.folder / "agent-web-1" / "log"):
        for line in log.read_text().splitlines():
            yield line, fields_of(line, stack.form)


def check(stack):
    """Each line that is about a session or a request carries its id as a field, and nothing else there. What was said of a session, by msg."""
    of_sessions = {}
    for line, fields in lines(stack):
        assert {"ts", "level", "program", "msg"} <= fields.keys(), line
        named = set(SESSION.findall(line))
        if named:
            assert fields.get("session") in named and len(named) == 1, line
            of_sessions.setdefault(fields["session"], set()).add(fields["msg"])
        else:
            assert "session" not in fields or SESSION.fullmatch(fields["session"]), line
        if REQUEST.search(line):
            assert REQUEST.fullmatch(fields.get("request_id", "")), line
    return of_sessions


def test_lines_about_a_session_carry_its_id(talkative):
    """Sessions of all kinds: that end by themselves, are resumed by another client, refused, ended; whose worker or relay dies."""
    s = talkative
    s.cli("start-session", "--target", "web-1", "--login", USER, "--", "true")
    forward, (port,) = s.forward("web-1", "127.0.0.1:9")
    (live,) = s.json("list-sessions")
    forward.kill()
    forward.wait()
    again = s.cli_popen("resume-session", live["id"])
    LineReader(again.stderr).wait("listening on")
    s.server.kill()
    s.start_server()
    s.wait_connected("web-1")
    lost = s.cli_popen("start-session", "--target", "web-1", "--login", USER, "--", "cat", stdin=subprocess.PIPE)
    wait_for(lambda: len(s.json("list-sessions")) == 2, "the other session")
    new = next(x["id"] for x in s.json("list-sessions") if x["id"] != live["id"])
    wait_for(lambda: any(f.get("session") == new and f["msg"].startswith("sshd runs") for _, f in lines(s)), "its command to run")
    s.cli("terminate-session", live["id"])
    again.wait(LIMIT)
    send(9, [pid for pid in s.workers()])
    wait_for(lambda: not s.json("list-sessions"), "all sessions to be over")
    lost.stdin.close()
    lost.wait(LIMIT)
    said = check(s)
    assert len(said) == 3, said
    for words in said.values():
        assert {"session started", "worker started", "session up", "session ended"} <= words, said
    assert {"session resumed by a new client", "stream opened"} <= said[live["id"]] | said[new], said
    assert "its worker died without an exit record" in said[new], said
    assert any(w.startswith("sshd: Accepted publickey") for w in said[new]), said


def test_a_request_that_fails_can_be_found(talkative):
    """The client's line names the request, and so does the server's about it."""
    s = talkative
    s.cli("list-targets")
    subprocess.run(["sqlite3", s.folder / "state" / "tunnel.db", "drop table _document"], check=True, capture_output=True)
    r = s.cli("list-targets", check=False)
    assert r.returncode != 0, r
    (request,) = REQUEST.findall(r.stderr)
    assert f"; request {request}" in r.stderr, r.stderr
    wait_for(lambda: any(f.get("request_id") == request for _, f in lines(s)), "the server's line about it")
    line = next(f for _, f in lines(s) if f.get("request_id") == request)
    assert line["level"] == "error" and "/v1/targets" in line["msg"] and line["error"], line
    check(s)
