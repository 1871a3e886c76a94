"""tunnel-agent doctor: a verdict for each thing that a target needs, beside a running agent and without."""

import json
import os
import shutil
import subprocess

import pytest
from harness import AGENT, LIMIT, free_port, wait_for

ALL = {"config", "allow", "state", "enrolment", "agent", "sshd", "proxy", "dns", "tcp", "tls", "identity", "clock", "workers"}


def doctor(agent, *args, code=None, **env):
    r = subprocess.run([str(AGENT), "doctor", "--config", str(agent.folder / "agent.conf"), *args], capture_output=True, text=True, timeout=LIMIT,
                       env={**os.environ, "no_proxy": "*", **env})
    assert code in (None, r.returncode), r.stdout + r.stderr
    return r


def checks(agent, code, **env):
    """Verdict and text of each check."""
    answer = json.loads(doctor(agent, "--output", "json", code=code, **env).stdout)
    assert answer["ok"] == (code == 0)
    return {c["check"]: (c["verdict"], c["text"] + " " + c.get("advice", "")) for c in answer["checks"]}


def change(agent, old, new):
    conf = agent.folder / "agent.conf"
    text = conf.read_text()
    assert old in text, text
    conf.write_text(text.replace(old, new))


def test_all_is_well_and_the_agent_keeps_its_place(stack):
    agent = stack.agents["web-1"]
    connects = stack.server.text().count("agent connected")
    found = checks(agent, 0)
    assert set(found) == ALL
    assert {check for check, (verdict, _) in found.items() if verdict != "ok"} <= {"proxy"}, found
    assert "web-1" in found["identity"][1] and str(agent.proc.pid) in found["agent"][1]
    assert stack.server.text().count("agent connected") == connects and agent.proc.alive()
    assert "another agent" not in (agent.folder / "log").read_text()
    said = doctor(agent, code=0).stdout
    assert said.splitlines()[-1] == "this machine can serve sessions" and len(said.splitlines()) >= len(ALL)


def test_without_a_server(stack):
    agent = stack.agents["web-1"]
    stack.server.stop()
    found = checks(agent, 1)
    assert found["tcp"][0] == "fail" and "refused" in found["tcp"][1] and "tls" not in found


def test_a_wrong_ca_and_a_wrong_name(stack):
    agent = stack.agents["web-1"]
    change(agent, f"{stack.folder}/tls/ca.pem", "/etc/ssl/certs/ca-certificates.crt")
    found = checks(agent, 1)
    assert found["tcp"][0] == "ok" and found["tls"][0] == "fail" and "ca_file" in found["tls"][1]
    change(agent, "localhost", "no-such-host.invalid")
    assert checks(agent, 1)["dns"][0] == "fail"


def test_a_ca_file_that_is_not_there(stack):
    """What is wrong is here, so nobody is dialled, and nobody else is blamed."""
    agent = stack.agents["web-1"]
    change(agent, f"{stack.folder}/tls/ca.pem", f"{stack.folder}/missing.pem")
    found = checks(agent, 1)
    assert found["tls"][0] == "fail" and "missing.pem" in found["tls"][1] and "ca_file" in found["tls"][1]
    assert "tcp" not in found and "identity" not in found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_somebody_else_is_told_who_is_to_look(stack):
    """What he may not see is not said to be missing."""
    agent = stack.agents["web-1"]
    stack.folder.chmod(0o755)
    for folder in stack.folder, agent.folder, agent.folder / "agent.conf":
        folder.chmod(0o755)
    r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(AGENT), "doctor", "--config", str(agent.folder / "agent.conf")],
                       capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == 1 and "systemctl start" not in r.stdout and "enroll" not in r.stdout.partition("enrolment")[0], r.stdout + r.stderr
    lines = r.stdout.splitlines()
    for check in "state", "enrolment", "sshd":
        at = next(i for i, line in enumerate(lines) if line.split()[1:2] == [check])
        assert "run this, and the agent, as the user to whom the folder belongs" in lines[at + 1], r.stdout


def test_a_target_that_was_deregistered(stack):
    agent = stack.agents["web-1"]
    agent.proc.stop()
    stack.cli("deregister-target", "web-1")
    found = checks(agent, 1)
    assert found["identity"][0] == "fail" and "not enrolled" in found["identity"][1] and "enrol it again" in found["identity"][1]
    assert found["agent"][0] == "warn"


def test_keys_and_folders(stack):
    agent = stack.agents["web-1"]
    key = agent.folder / "state" / "identity.pem"
    key.chmod(0o644)
    assert checks(agent, 1)["enrolment"][0] == "fail"
    key.chmod(0o600)
    (agent.folder / "state").chmod(0o755)
    assert checks(agent, 1)["state"][0] == "fail"
    (agent.folder / "state").chmod(0o700)
    agent.proc.stop()
    shutil.rmtree(agent.folder / "state")
    found = checks(agent, 1)
    assert found["state"][0] == "fail" and found["enrolment"][0] == "fail" and "create-enrollment" in found["enrolment"][1]
    assert found["identity"][0] == "skipped"


def test_settings_that_cannot_be_read(stack):
    agent = stack.agents["web-1"]
    with (agent.folder / "agent.conf").open("a") as f:
        f.write('colour = "blue";\n')
    found = checks(agent, 1)
    assert set(found) == {"config"} and "colour" in found["config"][1]
    assert doctor(agent, "--output", "yaml").returncode == 2


def test_a_proxy(stack):
    port = free_port()
    found = checks(stack.agents["web-1"], 1, https_proxy=f"http://127.0.0.1:{port}", no_proxy="")
    assert found["proxy"][0] == "ok" and str(port) in found["proxy"][1]
    assert found["tcp"][0] == "fail" and "dns" not in found


def test_a_clock_that_is_wrong(stack, fake_clock):
    found = checks(stack.agents["web-1"], 1, **fake_clock("+10m"))
    assert found["clock"][0] == "fail" and "ahead" in found["clock"][1]


def test_an_sshd_that_does_not_take_its_configuration(stack):
    agent = stack.agents["web-1"]
    fake = agent.folder / "sshd"
    fake.write_text("#!/bin/sh\necho 'line 3: Bad configuration option' >&2\nexit 255\n")
    fake.chmod(0o755)
    with (agent.folder / "agent.conf").open("a") as f:
        f.write(f'sshd_path = "{fake}";\n')
    found = checks(agent, 1)
    assert found["sshd"][0] == "fail" and "Bad configuration option" in found["sshd"][1]
    assert not list((agent.folder / "run").glob("doctor*"))


def test_workers_that_were_killed(stack):
    agent = stack.agents["web-1"]
    stale = agent.folder / "run" / "s-aaaaaaaaaaaaaaaaaaaa.sock"
    stale.touch()
    found = checks(agent, 0)
    assert found["workers"][0] == "warn" and "1 sockets" in found["workers"][1]
    stale.unlink()
    wait_for(lambda: checks(agent, 0)["workers"][0] == "ok", "the workers to be fine")


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_what_it_says_does_not_steer_the_terminal(command):
    r = subprocess.run([AGENT, command, "--config", "/nope\x1b[2J\x9b2J"], capture_output=True, text=True, timeout=LIMIT)
    said = r.stdout + r.stderr
    assert r.returncode == 1 and "/nope?[2J" in said and "\x1b" not in said and "\x9b" not in said
