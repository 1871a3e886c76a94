"""A person at a terminal: shells, commands, copies, over the user's own ssh and a real sshd that listens nowhere."""

import hashlib
import os
import pty
import pwd
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import CLI, LIMIT, USER, LineReader, command_line, family, wait_for, write_secret

MIB = 1 << 20


def start(target="web-1"):
    return ["start-session", "--target", target, "--login", USER]


def test_command_output_and_exit_code(stack):
    r = stack.cli(*start(), "--", "echo out; echo err >&2; exit 7", check=False)
    assert (r.stdout, r.returncode) == ("out\n", 7), r.stderr
    assert "err\n" in r.stderr


def test_stdin_reaches_the_command_binary_clean(stack):
    data = bytes(range(256)) * 5000
    r = stack.cli(*start(), "--", "sha256sum", input=data, text=False)
    assert r.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_interactive_shell_on_a_terminal(stack):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(str(CLI), [str(CLI), *start()], stack.env(TERM="xterm", PS1="$ "))
    seen = b""

    def until(pattern):
        nonlocal seen
        end = time.monotonic() + LIMIT
        while not re.search(pattern, seen):
            assert time.monotonic() < end, seen + stack.tails().encode()
            if select.select([fd], [], [], 0.2)[0]:
                try:
                    seen += os.read(fd, 4096)
                except OSError:
                    break
        return re.search(pattern, seen)

    os.write(fd, b"tty; echo mark-$((40+2))\n")
    assert until(rb"mark-42")
    assert b"/dev/pts/" in seen
    os.write(fd, b"exit 5\n")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 5


def test_certificate_is_what_sshd_accepted(stack):
    """One of the server's CA, whose key id is the session."""
    env = stack.cli(*start(), "--", "env").stdout
    assert "SSH_CONNECTION=" in env
    assert "TUNNEL_" not in env
    (session,) = stack.json("list-sessions", "--state", "ended")
    assert session["principal"] == "dev" and session["login"] == USER
    agent = stack.agents["web-1"]
    agent.proc.wait_log("Accepted publickey")
    accepted = re.findall(r"Accepted publickey for (\S+) from .*-CERT \S+ ID (\S+) \(serial \d+\) CA ED25519 ([^\s\"]+)", agent.proc.text())
    ca = subprocess.run(["ssh-keygen", "-lf", str(stack.folder / "state" / "ssh_ca")], capture_output=True, text=True, check=True).stdout.split()[1]
    assert accepted == [(USER, session["id"], ca)]


def test_rsync_100_mb_each_way(stack, tmp_path):
    src, there, back = tmp_path / "src", tmp_path / "there", tmp_path / "back"
    src.write_bytes(os.urandom(100 * MIB))
    rsh = f"{CLI} start-session --login {USER} --target"
    for a, b in ((src, f"web-1:{there}"), (f"web-1:{there}", back)):
        r = subprocess.run(["rsync", "--whole-file", "-e", rsh, str(a), str(b)], env=stack.env(), capture_output=True, text=True, timeout=300)
        assert r.returncode == 0, r.stderr + stack.tails()
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(src.read_bytes()).digest()


def through_us(ssh_dir, user=USER):
    """What the manual tells a plain ssh or scp, and no config of whoever runs the tests."""
    return [
        "-F", "/dev/null",
        "-o", f"ProxyCommand={CLI} start-session --stdio --ssh-dir {ssh_dir} --login {user} --target web-1",
        "-o", f"IdentityAgent={ssh_dir}/agent", "-o", f"UserKnownHostsFile={ssh_dir}/known_hosts",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
    ]


def test_scp_100_mb_each_way_through_proxycommand(stack, tmp_path):
    """The first of them finds nothing of an earlier session."""
    src, there, back, ssh_dir = tmp_path / "src", tmp_path / "there", tmp_path / "back", stack.folder / "ssh"
    src.write_bytes(os.urandom(100 * MIB))
    for a, b in ((src, f"{USER}@web-1:{there}"), (f"{USER}@web-1:{there}", back)):
        r = subprocess.run(["scp", *through_us(ssh_dir), str(a), str(b)], env=stack.env(), capture_output=True, text=True, timeout=300)
        assert r.returncode == 0, r.stderr + stack.tails()
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(src.read_bytes()).digest()
    assert sorted(p.name for p in ssh_dir.iterdir()) == ["known_hosts"], "no key on disk"


def test_two_at_once_share_a_folder(stack):
    """The first is logged in when the second takes its place; a third comes when both are over."""
    ssh_dir = stack.folder / "ssh"
    ssh = ["ssh", *through_us(ssh_dir), f"{USER}@web-1"]
    first = subprocess.Popen([*ssh, "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=stack.env())
    stack.procs.append(first)
    LineReader(first.stdout).wait("up")
    for _ in range(2):
        r = subprocess.run([*ssh, "echo here"], env=stack.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
        assert (r.returncode, r.stdout) == (0, "here\n"), r.stderr + stack.tails()
        if first.stdin:
            first.stdin.close()
            assert first.wait(LIMIT) == 0, first.stderr.read()
            first.stdin = None


def test_the_agent_of_a_session_has_one_certificate(stack):
    """As ssh-add sees it, which can take it away no more than it can add to it."""
    ssh_dir = stack.folder / "ssh"
    p = stack.cli_popen("start-session", "--stdio", "--ssh-dir", ssh_dir, "--login", USER, "--target", "web-1", stdin=subprocess.PIPE)
    LineReader(p.stdout).wait("SSH-2.0")

    def ssh_add(*args):
        env = stack.env(SSH_AUTH_SOCK=str(ssh_dir / "agent"))
        return subprocess.run(["ssh-add", *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)

    listed = ssh_add("-l")
    assert listed.returncode == 0 and re.fullmatch(r"256 SHA256:\S+ tunnel \(ED25519-CERT\)\n", listed.stdout), listed
    assert os.stat(ssh_dir / "agent").st_mode & 0o777 == 0o600
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stack.folder / "other")], check=True)
    for args in (["-D"], ["-x"], [str(stack.folder / "other")]):
        assert ssh_add(*args).returncode != 0, args
    assert ssh_add("-l").stdout == listed.stdout
    p.stdin.close()
    assert p.wait(LIMIT) == 0
    assert ssh_add("-l").returncode == 2, "nobody answers any more"


def test_the_key_of_a_session_stays_out_of_the_agent_of_its_user(stack):
    sock = stack.folder / "users-agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.procs.append(agent)
    wait_for(sock.exists, "the user's agent")
    (stack.folder / "ssh_config").write_text("AddKeysToAgent yes\n")
    r = stack.cli(*start(), f"--ssh-arg=-F{stack.folder}/ssh_config", "--", "echo up", SSH_AUTH_SOCK=str(sock))
    assert r.stdout == "up\n"
    listed = subprocess.run(["ssh-add", "-l"], env=stack.env(SSH_AUTH_SOCK=str(sock)), capture_output=True, text=True)
    assert "no identities" in listed.stdout, listed


def cpu_has_aes():
    return " aes " in next((line for line in open("/proc/cpuinfo") if line.startswith(("flags", "Features"))), "") + " "


def in_place(home, command):
    """The command, for which the folder is this user's ~/.ssh. In a mount namespace of its own; needs root."""
    own = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".ssh"
    return ["unshare", "--mount", "sh", "-c", f"mkdir -p -m 700 {own} && mount --bind {home} {own} && exec \"$@\"", "sh", *command]


def as_root(test):
    return pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to put other files in the place of those that ssh reads")(test)


@as_root
def test_a_systems_config_that_ssh_reads_but_does_not_include(stack):
    """One that others could write; in a user namespace without root all of them are such."""
    config = stack.folder / "ssh_config"
    config.write_text("Host *\n\tSendEnv LC_*\n")
    config.chmod(0o666)
    script = f'mount --bind {config} /etc/ssh/ssh_config && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(CLI), *start(), "--", "echo up $LC_OWN"]
    r = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=stack.env(LC_OWN="own"))
    assert r.stdout == "up own\n", r.stderr + stack.tails()


@as_root
@pytest.mark.parametrize("chosen, cipher", [(None, "aes128-gcm@openssh.com"), ("aes256-ctr", "aes256-ctr")])
def test_the_cipher_is_fast_where_the_user_has_not_chosen_one(stack, chosen, cipher):
    if not chosen and not cpu_has_aes():
        pytest.skip("this CPU has no AES, so ssh chooses")
    home = stack.folder / "dot-ssh"
    home.mkdir(mode=0o700)
    write_secret(home / "config", f"Host web-1\n\tCiphers {chosen}\n" if chosen else "")
    command = [str(CLI), *start(), "--ssh-arg=-v", "--", "echo up $LC_OWN"]
    r = subprocess.run(in_place(home, command), capture_output=True, text=True, timeout=LIMIT, env=stack.env(LC_OWN="own"))
    assert r.stdout == "up own\n", r.stderr + stack.tails()  # the system's config sends LC_*
    assert f"client->server cipher: {cipher}" in r.stderr, r.stderr


def test_a_command_under_nohup_outlives_its_terminal(stack):
    """ssh ignores what its caller ignores."""
    p = stack.cli_popen(
        *start(), "--", "echo up; read line; echo went on", stdin=subprocess.PIPE,
        preexec_fn=lambda: (os.setsid(), signal.signal(signal.SIGHUP, signal.SIG_IGN)),
    )
    lines = LineReader(p.stdout)
    lines.wait("up")
    os.killpg(p.pid, signal.SIGHUP)
    p.stdin.write(b"go\n")
    p.stdin.flush()
    lines.wait("went on")
    assert p.wait(LIMIT) == 0, p.stderr.read()


def test_target_chosen_by_tag(bare):
    bare.start_server()
    bare.start_agent("db-1", tags=["role=db", "env=test"])
    bare.start_agent("web-1", tags=["role=web", "env=test"])
    r = bare.cli("start-session", "--target", "tag:role=db,env=test", "--login", USER, "--", "echo here")
    assert r.stdout == "here\n"
    assert [s["target"] for s in bare.json("list-sessions", "--state", "ended")] == ["db-1"]


def test_nothing_of_ours_listens_on_the_target(stack):
    p = stack.cli_popen(*start(), "--", "echo up; read line", stdin=subprocess.PIPE)
    LineReader(p.stdout).wait("up")
    ours = family([stack.agents["web-1"].proc.pid, *stack.workers()])
    words = [" ".join(command_line(pid)) for pid in ours]
    assert any(w.startswith("sshd") for w in words) and any(w.endswith("read line") for w in words), words
    out = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    assert f"pid={stack.server.pid}," in out, "who listens is told"
    for line in out.splitlines():
        assert not ours & set(map(int, re.findall(r"pid=(\d+)", line))), line
    p.stdin.close()
    assert p.wait(LIMIT) == 1  # read saw the end of input
