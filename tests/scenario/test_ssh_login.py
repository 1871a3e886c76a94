"""Which user a session's commands run as: the login that was asked for and allowed, where the agent is root; its own user, where
it is not; and what is said of every other login."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import CLI, LIMIT, USER, Proc, in_place_of

LOGIN, UID = "tt-login", 54321


def changed(name, folder, change):
    """What runs a command that finds another /etc/NAME, or None: change makes it, line by line as lists of fields."""
    lines = [line.split(":") for line in Path(f"/etc/{name}").read_text().splitlines()]
    ours = folder / name
    ours.write_text("".join(":".join(map(str, x)) + "\n" for x in change(lines)))
    ours.chmod(os.stat(f"/etc/{name}").st_mode & 0o777)
    return in_place_of(f"/etc/{name}", ours)


@pytest.fixture
def temporary_login(bare):
    """A login that this machine has for agents alone, and only while the test runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    home = bare.folder / "home"
    home.mkdir()
    os.chown(home, UID, UID)
    bare.folder.chmod(0o755)
    changes = {
        "passwd": [LOGIN, "x", UID, UID, "", home, "/bin/sh"],
        "shadow": [LOGIN, "*", 19000, 0, 99999, 7, "", "", ""],
        "group": [LOGIN, "x", UID, ""],
    }
    prefixes = [changed(name, bare.folder, lambda lines, new=new: [*lines, new]) for name, new in changes.items()]
    if not all(prefixes):
        pytest.skip("needs a mount namespace")
    bare.place = lambda role, args: [*sum(prefixes, []), *args] if role == "agent" else args
    return home


def allow_logins(stack, *logins):
    rest = ["ListTargets", "DescribeSessions", "EnrollTarget", "StartSession"]
    statements = [{"Effect": "Allow", "Principal": "*", "Action": [f"tunnel:{a}" for a in rest], "Resource": "*"}]
    statements += [{"Effect": "Allow", "Principal": "*", "Action": "tunnel:OpenSsh", "Resource": "*", "Condition": {"StringEquals": {"tunnel:Login": logins}}}]
    (stack.folder / "policies" / "base.json").write_text(json.dumps({"Version": "2026-01-01", "Statement": statements}))


def test_an_agent_that_is_root_becomes_the_login(bare, temporary_login):
    allow_logins(bare, LOGIN)
    bare.start_server()
    bare.start_agent()
    command = "id -un; id -u; id -Gn; pwd; touch made; grep -i -e ^Uid -e ^Gid -e ^CapEff /proc/self/status; exit 7"
    r = bare.cli("start-session", "--target", "web-1", "--login", LOGIN, "--", command, check=False)
    assert r.returncode == 7, r.stderr + bare.tails()
    lines = r.stdout.splitlines()
    assert lines[:4] == [LOGIN, str(UID), LOGIN, str(temporary_login)]
    ids = {line.split()[0]: set(line.split()[1:]) for line in lines[4:]}
    assert ids["Uid:"] == ids["Gid:"] == {str(UID)} and set(*ids["CapEff:"]) == {"0"}, "real, effective, saved and of files"
    assert (temporary_login / "made").stat().st_uid == UID
    (started,) = [s for s in bare.json("list-sessions", "--state", "ended")]
    assert started["login"] == LOGIN


def test_a_login_that_policy_does_not_name(bare, temporary_login):
    """Neither by asking for it, nor with the certificate of another one."""
    allow_logins(bare, LOGIN)
    bare.start_server()
    bare.start_agent()
    r = bare.cli("start-session", "--target", "web-1", "--login", "root", "--", "id -un", check=False)
    assert (r.stdout, r.returncode) == ("", 232) and "login root" in r.stderr and "no statement allows it" in r.stderr, r.stderr
    ssh_dir = bare.folder / "ssh"
    ssh = [
        "ssh", "-F", "/dev/null", "-o", f"ProxyCommand={CLI} start-session --stdio --ssh-dir {ssh_dir} --login {LOGIN} --target web-1",
        "-o", f"IdentityAgent={ssh_dir}/agent", "-o", f"UserKnownHostsFile={ssh_dir}/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
    ]  # fmt: skip
    for login, out, code in ((LOGIN, f"{LOGIN}\n", 0), ("root", "", 255)):
        r = subprocess.run([*ssh, f"{login}@web-1", "id -un"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, env=bare.env())
        assert (r.stdout, r.returncode) == (out, code), r.stderr
    assert "Permission denied" in r.stderr, r.stderr


@pytest.fixture
def unprivileged(bare):
    """The user of an agent that is not root: whoever runs the tests, or games, who gets a shell for it."""
    if os.geteuid() != 0:
        return USER
    shell = changed("passwd", bare.folder, lambda lines: [[*x[:6], "/bin/sh"] if x[0] == "games" else x for x in lines])
    if not shell or not shutil.which("setpriv"):
        pytest.skip("needs a mount namespace and setpriv, to become somebody with a shell")
    bare.place = lambda role, args: [*shell, "setpriv", "--reuid=games", "--regid=games", "--clear-groups", *args] if role == "agent" else args
    return "games"


def start_unprivileged(stack, user):
    """It is enrolled by whoever runs the tests, then its folder is given away."""
    place, stack.place = stack.place, lambda role, args: args
    agent = stack.start_agent("user-1", wait=False)
    agent.proc.stop()
    for folder in (stack.folder, stack.folder / "tls"):
        folder.chmod(0o755)
    if user != USER:
        subprocess.run(["chown", "-R", f"{user}:{user}", str(agent.folder)], check=True)
    agent.proc = Proc(place("agent", agent.proc.args), agent.folder / "log", env=stack.env(HOME="/tmp"))
    stack.procs.append(agent.proc)
    stack.wait_connected("user-1")


def test_an_agent_without_root(bare, unprivileged):
    """It serves its own user, and says so to whoever asks for another one."""
    bare.start_server()
    start_unprivileged(bare, unprivileged)
    as_user = ["start-session", "--target", "user-1", "--login"]
    r = bare.cli(*as_user, unprivileged, "--", "id -un; exit 7", check=False)
    assert (r.stdout, r.returncode) == (f"{unprivileged}\n", 7), r.stderr + bare.tails()
    for other in ("root", "nobody", "no-such-user"):
        r = bare.cli(*as_user, other, "--", "id -un", check=False)
        assert (r.stdout, r.returncode) == ("", 237), r.stderr
        assert f"the agent runs as user {unprivileged} and not as root, so it logs in nobody else, not {other}" in r.stderr, r.stderr
