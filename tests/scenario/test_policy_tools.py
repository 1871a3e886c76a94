"""simulate-policy and who-can: what the policies say of people who need not exist."""

import json
import signal

import pytest
from harness import Stack, wait_for

POLICY = {
    "Version": "2026-01-01",
    "Statement": [
        {"Sid": "Admin", "Effect": "Allow", "Principal": {"User": "dev"}, "Action": "*", "Resource": "*"},
        {"Sid": "Web", "Effect": "Allow", "Principal": {"Group": "ops"}, "Action": "tunnel:StartSession", "Resource": "target/*",
         "Condition": {"StringEquals": {"target:Tag/role": "web"}}},
        {"Sid": "Logins", "Effect": "Allow", "Principal": {"Group": "ops"}, "Action": "tunnel:OpenSsh", "Resource": "target/*",
         "Condition": {"StringEquals": {"target:Tag/role": "web", "tunnel:Login": ["deploy", "root"]}}},
        {"Sid": "OfficeOnly", "Effect": "Deny", "NotPrincipal": {"User": "dev"}, "Action": "*", "Resource": "*",
         "Condition": {"NotIpAddress": {"tunnel:SourceIp": "10.0.0.0/8"}}},
        {"Sid": "NotEve", "Effect": "Deny", "Principal": {"User": "eve"}, "Action": "*", "Resource": "*"},
        {"Sid": "Postgres", "Effect": "Allow", "Principal": "*", "Action": "tunnel:OpenTcp", "Resource": "target/db-*",
         "Condition": {"NumericEquals": {"tunnel:Port": 5432}, "StringLike": {"tunnel:Claim/mail": "*@example.com"}}},
        {"Sid": "Rotated", "Effect": "Allow", "Principal": {"User": "sec"}, "Action": "tunnel:Revoke", "Resource": "principal/*"},
    ],
}


@pytest.fixture
def asked(folder):
    """A server with that policy and a target web-1 with the tag role=web."""
    s = Stack(folder, policy=POLICY)
    try:
        s.start_server()
        s.start_agent("web-1", tags=("role=web",))
        yield s
    finally:
        s.close()


def decided(stack, *args, code):
    """Effect and statement of each action."""
    r = stack.cli("simulate-policy", *args, "--output", "json", check=False)
    assert r.returncode == code, (r.returncode, r.stderr)
    answer = json.loads(r.stdout)
    assert answer["allowed"] == (code == 0)
    return [(d["action"].removeprefix("tunnel:"), d["effect"], d["statement"]) for d in answer["decisions"]]


def test_allow_and_deny_name_their_statement(asked):
    ops = ["--principal", "ann", "--group", "ops", "--target", "web-1", "--login"]
    office = ["--source-ip", "10.1.2.3"]
    assert decided(asked, *ops, "root", *office, code=0) == [("StartSession", "allow", "Web"), ("OpenSsh", "allow", "Logins")]
    assert decided(asked, *ops, "ann", *office, code=245) == [("StartSession", "allow", "Web"), ("OpenSsh", "no-match", None)]
    assert decided(asked, *ops, "root", code=245) == [("StartSession", "deny", "OfficeOnly"), ("OpenSsh", "deny", "OfficeOnly")]
    eve = ["--principal", "eve", "--group", "ops", "--group", "x", "--target", "web-1", *office]
    assert decided(asked, *eve, code=245) == [("StartSession", "deny", "NotEve")]
    r = asked.cli("simulate-policy", *ops, "ann", *office, check=False)
    assert r.returncode == 245 and r.stderr == ""
    assert "statement Web of policy base" in r.stdout and "no statement allows it" in r.stdout, r.stdout
    assert [line.split()[2] for line in r.stdout.splitlines()] == ["DECISION", "allow", "deny"], r.stdout


def test_what_the_options_say_is_the_request(asked):
    someone = ["--principal", "bob", "--action", "OpenTcp", "--source-ip", "10.0.0.1", "--host", "127.0.0.1"]
    mail = ["--claim", "mail=bob@example.com"]
    yes = [("OpenTcp", "allow", "Postgres")]
    assert decided(asked, *someone, *mail, "--target", "db-7", "--port", "5432", code=0) == yes
    assert decided(asked, *someone, *mail, "--target", "db-7", "--port", "22", code=245) == [("OpenTcp", "no-match", None)]
    assert decided(asked, *someone, "--target", "db-7", "--port", "5432", code=245) == [("OpenTcp", "no-match", None)]
    ops = ["--principal", "ann", "--group", "ops", "--target", "web-1", "--source-ip", "10.1.2.3"]
    assert decided(asked, *ops, "--tag", "role=db", code=245) == [("StartSession", "no-match", None)], "not the target's own tags"
    assert decided(asked, "--principal", "sec", "--source-ip", "10.0.0.1", "--action", "tunnel:Revoke", "--resource", "principal/bob",
                   code=0) == [("Revoke", "allow", "Rotated")]


@pytest.mark.parametrize("args, words", [
    ([], "--principal"),
    (["--principal", "a"], "--target"),
    (["--principal", "a", "--target", "t", "--resource", "audit"], "--target or --resource"),
    (["--principal", "a", "--resource", "audit"], "--action"),
    (["--principal", "a", "--target", "t", "--port", "99999"], "1 to 65535"),
    (["--principal", "a", "--target", "t", "--time", "yesterday"], "2026-01-31T09:15:00Z"),
    (["--principal", "a", "--target", "t", "--claim", "=x"], "NAME=VALUE"),
])
def test_wrong_usage(asked, args, words):
    r = asked.cli("simulate-policy", *args, check=False)
    assert r.returncode == 2 and words in r.stderr and r.stdout == "", (r.returncode, r.stderr)


def test_a_typing_mistake_is_no_refusal(asked):
    r = asked.cli("simulate-policy", "--principal", "a", "--target", "web-1", "--action", "OpenSSH", check=False)
    assert r.returncode == 1 and "tunnel:OpenSSH" in r.stderr and "OpenSsh" in r.stderr, (r.returncode, r.stderr)
    r = asked.cli("who-can", "--target", "web-1", "--action", "ReadAudit", check=False)
    assert r.returncode == 1 and "OpenSsh" in r.stderr, r.stderr


def rows(answer):
    return {(r["statement"], a.removeprefix("tunnel:")): r for r in answer["reach"] for a in r["actions"]}


def test_who_can(asked):
    found = rows(asked.json("who-can", "--target", "web-1"))
    assert set(found) == {("Admin", a) for a in ("StartSession", "OpenSsh", "OpenTcp", "OpenUnix")} | {("Web", "StartSession"), ("Logins", "OpenSsh")}
    admin = found["Admin", "OpenSsh"]
    assert admin["who"] == {"user": "dev"} and admin["certain"] and admin["if"] == admin["unless"] == []
    logins = found["Logins", "OpenSsh"]
    assert logins["who"] == {"group": "ops"} and not logins["certain"]
    assert logins["if"] == [{"StringEquals": {"tunnel:Login": ["deploy", "root"]}}]
    office, eve = logins["unless"]
    assert office["if"] == [{"NotIpAddress": {"tunnel:SourceIp": "10.0.0.0/8"}}]
    assert office["who"] == [{"everyone_except": {"users": ["dev"], "groups": []}}]
    assert (eve["statement"], eve["who"], eve["if"]) == ("NotEve", [{"user": "eve"}], [])
    text = asked.cli("who-can", "--target", "web-1").stdout
    assert "user dev" in text and "StartSession,OpenSsh,OpenTcp,OpenUnix" in text and "always" in text, text
    assert 'if tunnel:Login StringEquals "deploy" or "root"' in text and "unless user eve (base/NotEve)" in text, text


def test_who_can_with_what_is_known(asked):
    known = ["who-can", "--target", "web-1", "--action", "OpenSsh", "--source-ip", "10.1.1.1", "--login"]
    found = rows(asked.json(*known, "root"))
    assert set(found) == {("Admin", "OpenSsh"), ("Logins", "OpenSsh")}
    assert found["Logins", "OpenSsh"]["if"] == [] and len(found["Logins", "OpenSsh"]["unless"]) == 1
    assert set(rows(asked.json(*known, "ann"))) == {("Admin", "OpenSsh")}


def test_who_can_says_what_simulate_says(asked):
    """A change of the policy is in both answers at once."""
    shut = {"Version": "2026-01-01", "Statement": {"Sid": "Shut", "Effect": "Deny", "Principal": {"Group": "ops"}, "Action": "tunnel:Open*",
                                                  "Resource": "target/web-1"}}
    (asked.folder / "shut.json").write_text(json.dumps(shut))
    asked.cli("put-policy", "shut", asked.folder / "shut.json")
    assert ("Logins", "OpenSsh") not in rows(asked.json("who-can", "--target", "web-1"))
    assert decided(asked, "--principal", "ann", "--group", "ops", "--target", "web-1", "--login", "root", "--source-ip", "10.1.2.3", code=245) == [
        ("StartSession", "allow", "Web"), ("OpenSsh", "deny", "Shut")]


def test_they_are_for_those_who_may_read_policies(asked):
    asked.write_credentials({asked.key_id: ("dev", asked.secret, []), "KANN": ("ann", "the-secret-of-ann-0123", ["ops"])})
    asked.server.kill(signal.SIGHUP)
    ann = {"TUNNEL_KEY_ID": "KANN", "TUNNEL_SECRET": "the-secret-of-ann-0123"}

    def known():
        return asked.cli("whoami", check=False, **ann).returncode == 0

    wait_for(known, "the server to know ann")
    for args in (["who-can", "--target", "web-1"], ["simulate-policy", "--principal", "a", "--target", "web-1"]):
        r = asked.cli(*args, check=False, **ann)
        assert r.returncode == 232 and "tunnel:GetPolicy" in r.stderr and r.stdout == "", (args, r.stderr)
    r = asked.cli("who-can", "--target", "web-9", check=False)
    assert r.returncode == 233 and "web-9" in r.stderr, r.stderr


BROKEN = {
    "Version": "2026-01-01",
    "Statement": [
        {"Sid": "A", "Effect": "Allow", "Principal": "*", "Action": ["tunnel:OpenSsh", "tunnel:OpenShell"], "Resource": "web-1",
         "Condition": {"StringEquls": {"tunnel:Login": "x"}}},
        {"Sid": "B", "Effect": "Allow", "Principal": "*", "Action": "*"},
    ],
}
PLACES = ["Statement[0].Action[1]", "Statement[0].Resource", "Statement[0].Condition.StringEquls", "Statement[1]"]


def test_each_mistake_of_a_policy_is_told(asked):
    (asked.folder / "broken.json").write_text(json.dumps(BROKEN))
    r = asked.cli("put-policy", "broken", asked.folder / "broken.json", check=False)
    lines = r.stderr.splitlines()
    assert r.returncode == 1 and lines[0] == "tunnel-cli: 4 mistakes (invalid-request)", r.stderr
    assert [line.split(": ")[1] for line in lines[1:]] == PLACES
    assert '"tunnel:OpenShell"; did you mean tunnel:OpenSsh? allowed: tunnel: StartSession' in lines[1], lines[1]
    assert lines[1].endswith("OpenSsh, OpenTcp, OpenUnix, AcceptTcp, ListNodes"), "nothing is cut"


def test_a_server_tells_each_mistake_of_a_file(bare):
    """Of a file it will not start with, and of one that a reload finds."""
    bare.start_server()
    (bare.folder / "policies" / "broken.json").write_text(json.dumps(BROKEN))
    bare.server.kill(signal.SIGHUP)
    for place in PLACES:
        bare.server.wait_log(f"policy broken: {place}: ")
    bare.server.wait_log("4 mistakes; the first")


def test_what_is_no_address_is_refused(asked):
    r = asked.cli("simulate-policy", "--principal", "ann", "--target", "web-1", "--source-ip", "fish", check=False)
    assert r.returncode == 2 and "--source-ip fish: expected an address" in r.stderr
    for address in ("192.0.2.7", "2001:db8::7"):
        asked.cli("simulate-policy", "--principal", "dev", "--target", "web-1", "--source-ip", address)


@pytest.mark.parametrize("command", ["simulate-policy --principal ann", "who-can"])
def test_what_is_no_time_is_refused(asked, command):
    for time in ("tomorrow", "2026-02-30T09:15:00Z", "9:15", "2026-01-31"):
        r = asked.cli(*command.split(), "--target", "web-1", "--time", time, check=False)
        assert r.returncode == 2 and f"--time {time}: expected a time, such as 2026-01-31T09:15:00Z" in r.stderr, r
    assert asked.cli(*command.split(), "--target", "web-1", "--time", "2026-01-31T10:15:00+01:00", check=False).returncode in (0, 245)


@pytest.mark.parametrize("key, value, form", [
    ("tunnel:CurrentTime", "tomorrow", "2026-01-31T09:15:00Z"), ("tunnel:CurrentTime", ["2026-01-31T09:15:00Z", "9:15"], "2026-01-31T09:15:00Z"),
    ("tunnel:SourceIp", "fish", "192.0.2.7"),
])
def test_the_server_refuses_it_too(asked, key, value, form):
    body = {"subject": "ann", "action": "tunnel:Revoke", "resource": "principal/bob", "context": {key: value}}
    r = asked.curl("/v1/policies:simulate", "--json", json.dumps(body))
    problem = json.loads(r.stdout)
    assert problem["status"] == 400 and key in r.stdout and form in r.stdout, r.stdout


@pytest.mark.parametrize("action, resource, says", [
    ("tunnel:StartSession", "session/*", "Statement[0].Action: tunnel:StartSession is never asked about what Resource names; it is about: target/"),
    (["tunnel:OpenSsh", "tunnel:ReadAudit"], ["target/*", "session/*"], "Statement[0].Action[1]: tunnel:ReadAudit is never asked"),
    ("tunnel:Revoke", "audit", "it is about: principal/"),
    ("tunnel:*Session", ["session/*"], None), ("tunnel:Revoke", "session/*", None), ("*", "nodes", None),
])
def test_a_statement_that_can_never_apply_is_refused(asked, action, resource, says):
    policy = {"Version": "2026-01-01", "Statement": [{"Effect": "Deny", "Principal": {"User": "x"}, "Action": action, "Resource": resource}]}
    (asked.folder / "never.json").write_text(json.dumps(policy))
    r = asked.cli("put-policy", "never", asked.folder / "never.json", check=False)
    assert (r.returncode, says in r.stderr) == (1, True) if says else r.returncode == 0, r.stderr
