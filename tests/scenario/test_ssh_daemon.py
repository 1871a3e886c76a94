"""An agent that starts no sshd: it hands SSH to a daemon that runs on the machine, set up as etc/agent.conf says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import USER, Proc, free_port, in_place_of

ETC = Path(__file__).resolve().parents[2] / "etc"


@pytest.fixture
def keys(bare):
    """A folder that agents have for /etc/ssh: of it they read the host keys that they report."""
    folder = bare.folder / "etc-ssh"
    folder.mkdir()
    if not (prefix := in_place_of("/etc/ssh", folder)):
        pytest.skip("needs root and a mount namespace")
    bare.place = lambda role, args: [*prefix, *args] if role == "agent" else args
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ssh_host_ed25519_key"], check=True)
    return folder


def start_daemon(stack, port, keys, ca):
    recipe = re.findall(r"(?m)^//\s+(AuthorizedPrincipals.*)$", (ETC / "agent.conf").read_text())
    assert len(recipe) == 2 and recipe[0].endswith("%u@web-1")
    lines = [f"ListenAddress 127.0.0.1:{port}", f"HostKey {keys}/ssh_host_ed25519_key", f"TrustedUserCAKeys {ca}", *recipe]
    lines += ["AuthorizedKeysFile none", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PidFile none"]
    (stack.folder / "sshd_config").write_text("\n".join(lines) + "\n")
    os.makedirs("/run/sshd", exist_ok=True)
    daemon = Proc(["/usr/sbin/sshd", "-D", "-e", "-f", stack.folder / "sshd_config"], stack.folder / "sshd.log")
    stack.procs.append(daemon)
    daemon.wait_log("Server listening")
    return daemon


def test_a_daemon_on_the_machine(bare, keys):
    port = free_port()
    bare.start_server()
    agent = bare.start_agent(conf=f'ssh = "127.0.0.1:{port}";')
    bare.start_agent("db-1", conf=f'ssh = "127.0.0.1:{port}";')
    daemon = start_daemon(bare, port, keys, agent.folder / "state" / "ssh_ca.pub")
    r = bare.cli("start-session", "--target", "web-1", "--login", USER, "--", "echo out; echo err >&2; exit 7", check=False)
    assert (r.stdout, r.returncode) == ("out\n", 7), r.stderr + bare.tails()
    assert "err\n" in r.stderr
    (session,) = bare.json("list-sessions", "--state", "ended")
    daemon.wait_log(f"ID {session['id']} ")
    assert "sshd" not in agent.proc.text(), "none was started"
    # Its certificates are for sessions with web-1.
    r = bare.cli("start-session", "--target", "db-1", "--login", USER, "--", "echo out", check=False)
    assert (r.stdout, r.returncode) == ("", 255) and "Permission denied" in r.stderr, r.stderr
