"""doctor: all is well, and each thing that is not is told where it is."""

import json
import os
import socket
import subprocess
import threading

import pytest

from harness import CLI, LIMIT, USER, free_port, make_ca, write_secret

CHECKS = ["config", "proxy", "dns", "tcp", "tls", "clock", "credentials", "target", "policy", "session", "resume"]


def doctor(stack, *args, **env):
    r = stack.cli("doctor", *args, "--output", "json", check=False, **env)
    rows = json.loads(r.stdout)
    assert [row["check"] for row in rows] == CHECKS
    failed = [row["check"] for row in rows if row["verdict"] == "failed"]
    assert r.returncode == (1 if failed else 0), r
    assert all(row["next"] for row in rows if row["verdict"] == "failed")
    return {row["check"]: row for row in rows}, failed


def profile(stack, **settings):
    lines = {"server": stack.url, "ca_file": f"{stack.folder}/tls/ca.pem", "auth": "hmac", "credentials": f"{stack.folder}/cli-credentials"}
    lines.update(settings)
    path = stack.folder / "other.conf"
    path.write_text("default: {" + "".join(f'{k} = "{v}"; ' for k, v in lines.items() if v) + "};\n")
    return {"TUNNEL_CONFIG": str(path)}


def test_all_is_well(stack):
    rows, failed = doctor(stack, "--target", "web-1", "--login", USER)
    assert failed == [] and {row["verdict"] for row in rows.values()} == {"ok"}, rows
    assert "it went on after" in rows["resume"]["text"]
    (session,) = stack.json("list-sessions", "--state", "ended")
    assert session["reason"] == "tunnel-cli doctor" and session["id"] in rows["session"]["text"]
    attached = [r for r in stack.audit() if r["event"] == "session.attach" and r.get("role") == "client"]
    assert len(attached) >= 2, "the leg was another after the cut"


def test_in_words(stack):
    r = stack.cli("doctor")
    lines = [line.split(None, 2)[:2] for line in r.stdout.splitlines()]
    assert lines == [[c, "ok"] for c in CHECKS[:7]] + [[c, "skipped"] for c in CHECKS[7:]]


def test_a_login_that_the_target_does_not_have(stack):
    """sshd alone would greet it, and a person be told no more than "Permission denied"."""
    rows, failed = doctor(stack, "--target", "web-1", "--login", "no-such-login")
    assert failed == ["session"] and ("there is no user no-such-login on this machine" in rows["session"]["text"] or os.geteuid() != 0), rows
    r = stack.cli("start-session", "--target", "web-1", "--login", "no-such-login", "--", "true", check=False)
    assert r.returncode != 0 and ("there is no user no-such-login on this machine" in r.stderr or os.geteuid() != 0), r.stderr


def test_a_port_where_nobody_listens(stack):
    rows, failed = doctor(stack, **profile(stack, server=f"https://localhost:{free_port()}"))
    assert failed == ["tcp"] and "Connection refused" in rows["tcp"]["text"] and "tunnel-server runs" in rows["tcp"]["next"]
    assert rows["tls"]["verdict"] == "skipped"


def test_a_name_that_does_not_exist(stack):
    rows, failed = doctor(stack, **profile(stack, server="https://nowhere.invalid"))
    assert failed == ["dns"] and "getent" in rows["dns"]["next"]


def test_another_ca_and_another_name(stack):
    make_ca(stack.folder / "other-tls")
    rows, failed = doctor(stack, **profile(stack, ca_file=f"{stack.folder}/other-tls/ca.pem"))
    assert failed == ["tls"] and "ca_file" in rows["tls"]["next"]
    rows, failed = doctor(stack, **profile(stack, server=f"https://127.0.0.2:{stack.port}"))
    assert failed in (["tcp"], ["tls"])


def test_something_else_listens_there(stack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"SSH-2.0-x\r\n"), daemon=True).start()
        server.settimeout(30)
        rows, failed = doctor(stack, **profile(stack, server=f"https://localhost:{server.getsockname()[1]}"))
    assert failed == ["tls"], rows


@pytest.mark.parametrize("off, where", [("+10m", "ahead of"), ("-10m", "behind")])
def test_a_clock_that_is_wrong(stack, fake_clock, off, where):
    """The certificate is good at both times, and the signature is not."""
    rows, failed = doctor(stack, **fake_clock(off))
    assert failed == ["clock"], rows
    assert rows["clock"]["text"].endswith(f" s {where} the server's") and "set-ntp" in rows["clock"]["next"], rows["clock"]
    assert 500 < float(rows["clock"]["text"].split()[0]) < 700 + LIMIT, rows["clock"]
    r = stack.cli("doctor", check=False, **fake_clock(off))
    assert r.returncode == 1 and [line.split()[:2] for line in r.stdout.splitlines() if line.startswith("clock")] == [["clock", "FAILED"]], r.stdout


def test_config_and_credentials(stack):
    rows, failed = doctor(stack, TUNNEL_CONFIG="/nonexistent/config")
    assert failed == ["config"] and {rows[c]["verdict"] for c in CHECKS[1:]} == {"skipped"}
    write_secret(stack.folder / "wrong", 'key_id = "KDEV"; secret = "no";\n')
    rows, failed = doctor(stack, **profile(stack, credentials=stack.folder / "wrong"))
    assert failed == ["credentials"] and "unauthenticated" in rows["credentials"]["text"]
    rows, failed = doctor(stack, **profile(stack, credentials=stack.folder / "missing"))
    assert failed == ["credentials"] and "0600" in rows["credentials"]["next"]


def test_a_proxy(stack):
    rows, failed = doctor(stack, **profile(stack, proxy=f"http://127.0.0.1:{free_port()}"))
    assert failed == ["tls"] and "CONNECT" in rows["tls"]["next"] and rows["dns"]["verdict"] == "skipped"


def test_policy_and_target(stack):
    rows, failed = doctor(stack, "--target", "web-2")
    assert failed == ["target"] and "not-found" in rows["target"]["text"]
    (stack.folder / "p.json").write_text(json.dumps({"Version": "2026-01-01", "Statement": [{
        "Sid": "NoRoot", "Effect": "Deny", "Principal": "*", "Action": "tunnel:OpenSsh", "Resource": "*",
        "Condition": {"StringEquals": {"tunnel:Login": "somebody"}}}]}))
    stack.cli("put-policy", "no-root", stack.folder / "p.json")
    rows, failed = doctor(stack, "--target", "web-1", "--login", "somebody")
    assert failed == ["policy"] and "forbidden" in rows["policy"]["text"] and rows["session"]["verdict"] == "skipped"
    stack.agents["web-1"].proc.stop()
    rows, failed = doctor(stack, "--target", "web-1")
    assert failed == ["target"] and "tunnel-agent running" in rows["target"]["next"]


@pytest.mark.parametrize("args", [["x"], ["--target", "a/b"], ["--target", "web-1", "--login", "A B"]])
def test_wrong_usage(bare, args):
    r = subprocess.run([CLI, "doctor", *args], capture_output=True, text=True)
    assert r.returncode == 2
