"""The audit log as people and programs read it: what is looked for, what comes, and whether it is whole."""

import json
import re
import signal
import socket
import sqlite3

import pytest
from harness import LIMIT, USER, LineReader, TcpServer, echo_until_eof, wait_for, write_secret
from rawclient import RawSession, call


def lines(stack, *args, **kw):
    return [json.loads(line) for line in stack.cli("audit", *args, "--output", "json", **kw).stdout.splitlines()]


def one_session(stack):
    """A session that passed a few bytes and is over; its id."""
    echo = TcpServer(echo_until_eof)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(b"ping")
        assert s.recv(4) == b"ping"
    wait_for(lambda: any(r["event"] == "stream.close" for r in lines(stack)), "the stream in the audit log", every=0.1)
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0
    echo.close()
    (start,) = lines(stack, "--event", "session.start", "--limit", 1)
    wait_for(lambda: lines(stack, "--event", "session.end", "--session", start["session"]), "the session's end", every=0.1)
    return start["session"]


def test_what_is_looked_for(stack):
    session = one_session(stack)
    stack.cli("describe-target", "nobody-knows", check=False)
    everything = lines(stack, "--from", 1)
    assert [r["seq"] for r in everything] == list(range(1, len(everything) + 1))
    assert lines(stack, "--limit", 3) == everything[-3:]
    assert lines(stack, "--from", 2, "--limit", 3) == everything[1:4]
    of_session = [r for r in everything if r.get("session") == session]
    assert {"session.start", "session.attach", "stream.open", "stream.close", "session.detach", "session.end"} <= {r["event"] for r in of_session}
    assert lines(stack, "--session", session) == of_session
    assert lines(stack, "--session", session, "--event", "stream.*") == [r for r in of_session if r["event"].startswith("stream.")]
    assert lines(stack, "--target", "web-1", "--since", "1h") == [r for r in everything if r.get("target") == "web-1"]
    assert lines(stack, "--since", everything[4]["at"], "--until", everything[-1]["at"]) == [
        r for r in everything if everything[4]["at"] <= r["at"] < everything[-1]["at"]
    ]
    assert lines(stack, "--principal", "nobody") == [] == lines(stack, "--until", "1h")
    table = stack.cli("audit", "--session", session).stdout.splitlines()
    assert table[0].split() == ["SEQ", "TIME", "EVENT", "PRINCIPAL", "TARGET", "SESSION", "DETAILS"]
    assert len(table) == 1 + len(of_session)
    assert re.match(rf"\d+ +\S+Z +session.start +dev +web-1 +{session} +.*kind=tcp,.*allow=\[\S+\],", table[1])


@pytest.mark.parametrize(
    "args, complaint",
    [
        (["--limit", "0"], "--limit"),
        (["--since", "yesterday"], "--since"),
        (["--follow", "--until", "1h"], "--until"),
        (["web-1"], "takes no arguments"),
    ],
)
def test_wrong_usage_is_named(bare, args, complaint):
    r = bare.cli("audit", *args, check=False)
    assert r.returncode == 2 and complaint in r.stderr


def test_follow_misses_nothing_and_repeats_nothing_over_a_restart(stack):
    p = stack.cli_popen("audit", "--follow", "--limit", 1, "--output", "json")
    seen, err = LineReader(p.stdout), LineReader(p.stderr)
    first = json.loads(seen.wait("seq"))["seq"]
    stack.cli("put-policy", "one", stack.folder / "policies" / "base.json")
    seen.wait("policy.put")
    stack.server.kill()
    stack.server.p.wait()
    err.wait("trying again")
    stack.start_server()
    stack.cli("put-policy", "two", stack.folder / "policies" / "base.json")
    seen.wait('"two"')
    stack.wait_connected("web-1")
    one_session(stack)
    everything = lines(stack, "--from", first)
    wait_for(lambda: len(seen.lines) >= len(everything), "all records to be shown")
    assert [json.loads(line) for line in seen.lines][: len(everything)] == everything
    p.terminate()
    p.wait(LIMIT)


def verify(stack, *args, **kw):
    r = stack.cli("verify-audit", *args, "--output", "json", check=False, **kw)
    return r.returncode, json.loads(r.stdout)


def test_a_whole_log_is_told_from_a_changed_one(stack):
    one_session(stack)
    export = stack.folder / "audit.jsonl"
    text = stack.cli("audit", "--from", 1, "--output", "json").stdout
    export.write_text(text)
    code, report = verify(stack, "--file", export)
    n = len(text.splitlines())
    assert (code, report["whole"], report["records"], report["problem"]) == (0, True, n, None)
    (node,) = report["nodes"]
    last = json.loads(text.splitlines()[-1])
    assert node == {"node": "node-1", "records": n, "first": 1, "last": n, "hash": last["hash"]}
    code, report = verify(stack)
    assert code == 0 and report["records"] >= n
    assert f"{n} records are whole" in stack.cli("verify-audit", "--file", "-", input=text).stdout
    rows = text.splitlines(True)
    for wrong, complaint in [
        (rows[:3] + [rows[3].replace("web-1", "web-2").replace("dev", "eve")] + rows[4:], "line 4: record 4: was changed"),
        (rows[:3] + rows[4:], "line 4: record 4: missing"),
        (rows[:3] + ["{\n"] + rows[4:], "line 4: is no record"),
        ([rows[1]] + rows, "line 2: record 1: comes behind"),
    ]:
        export.write_text("".join(wrong))
        code, report = verify(stack, "--file", export)
        assert code == 244 and not report["whole"] and report["problem"].startswith(complaint), report
    export.write_text("".join(rows[:5] + rows[2:]))  # an exporter that was killed
    code, report = verify(stack, "--file", export)
    assert (code, report["records"], report["repeated"]) == (0, n, 3)
    export.write_text(text[:-1] + "\0 and more\n")
    code, report = verify(stack, "--file", export)
    assert code == 244 and "NUL" in report["problem"], report
    assert stack.cli("verify-audit", "--file", stack.folder / "none", check=False).returncode == 230


def test_a_record_that_was_changed_in_the_store_is_found(stack):
    assert stack.server.stop() == 0
    db = sqlite3.connect(stack.folder / "state" / "tunnel.db")
    with db:
        (changed,) = db.execute(
            "UPDATE _log SET record = replace(record, '\"web-1\"', '\"web-2\"') WHERE record LIKE '%target.enrolled%' RETURNING seq"
        ).fetchone()
    db.close()
    stack.start_server()
    code, report = verify(stack)
    assert code == 244 and report["problem"].startswith(f"record {changed}: was changed"), report
    assert report["records"] == changed - 1


class RefusedLog:
    """The store takes documents and refuses records, until it is opened again: a trigger says no."""

    def __init__(self, stack):
        self.db = sqlite3.connect(stack.folder / "state" / "tunnel.db", timeout=LIMIT)
        with self.db:
            self.db.execute("CREATE TRIGGER no_more BEFORE INSERT ON _log BEGIN SELECT RAISE(ABORT, 'no more records'); END")

    def heal(self):
        with self.db:
            self.db.execute("DROP TRIGGER no_more")
        self.db.close()


def is_ready(stack):
    status, _ = call(stack, "GET", "/readyz")
    assert status in (200, 503)
    return status == 200


def start(stack):
    """The status that a StartSession is answered with."""
    try:
        return RawSession(stack).status
    except AssertionError as e:
        return e.args[0][0]


def test_no_session_starts_while_a_record_waits(stack):
    """A record of what has happened (here a denial) cannot be written: it waits, and is there afterwards, in its order."""
    stack.write_credentials({stack.key_id: ("dev", stack.secret, []), "KBOB": ("bob", "b" * 40, [])})
    write_secret(stack.folder / "bob", f'key_id = "KBOB";\nsecret = "{"b" * 40}";\n')
    stack.write_profile("bob", f'auth = "hmac"; credentials = "{stack.folder}/bob";')
    stack.server.kill(signal.SIGHUP)
    stack.server.wait_log("reloaded")
    assert is_ready(stack)
    refused = RefusedLog(stack)
    try:
        r = stack.cli("get-policy", "base", "--profile", "bob", check=False)
        assert r.returncode == 232, r.stderr
        wait_for(lambda: not is_ready(stack), "the node to say that it is not ready")
        assert start(stack) == 503
        assert "an audit record waits to be written" in stack.server.text()
    finally:
        refused.heal()
    wait_for(lambda: is_ready(stack), "the node to be ready again")
    one_session(stack)
    everything = lines(stack, "--from", 1)
    (denied,) = [r for r in everything if r["event"] == "denied"]
    assert denied["subject"] == "bob" and denied["action"] == "tunnel:GetPolicy"
    check = verify(stack)
    assert check[0] == 0, check


def test_sessions_start_where_the_settings_let_them(bare):
    bare.conf = 'audit: { on_failure = "continue"; };'
    bare.start_server()
    bare.start_agent()
    refused = RefusedLog(bare)
    try:
        assert start(bare) == 201
        assert is_ready(bare)
    finally:
        refused.heal()
    started = wait_for(lambda: lines(bare, "--event", "session.start"), "the record that waited")
    assert [r["target"] for r in started] == ["web-1"]
    assert verify(bare)[0] == 0


def test_an_orderly_end_is_no_lost_connection(stack):
    stack.cli("start-session", "--target", "web-1", "--login", USER, "--", "true")
    wait_for(lambda: sum(r["event"] == "session.detach" for r in stack.audit()) == 2, "both legs to be gone")
    reasons = {r["role"]: r["reason"] for r in stack.audit() if r["event"] == "session.detach"}
    assert "connection lost" not in reasons.values(), reasons
