"""What ssh is started with and meanwhile: its helper, and the stream that waits for it."""

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from harness import BUILD, CLI, LIMIT, USER, wait_for

HELPER = BUILD / "libexec" / "tunnel" / "tunnel-pass-fd"
START = ["start-session", "--target", "web-1", "--login", USER, "--quiet"]


def installed(folder, helper=True):
    """A copy of tunnel-cli as it is installed, with its helper or alone."""
    cli = folder / "bin" / "tunnel-cli"
    cli.parent.mkdir()
    shutil.copy(CLI, cli)
    if helper:
        there = folder / "libexec" / "tunnel" / HELPER.name
        there.parent.mkdir(parents=True)
        there.parent.chmod(0o755)
        shutil.copy(HELPER, there)
    return cli


def run(stack, cli, *args):
    r = subprocess.run([cli, *START, *args], capture_output=True, text=True, timeout=LIMIT, env=stack.env())
    assert r.returncode == 0, r.stderr + stack.tails()
    return r.stdout


def proxy_command(stack, cli):
    """What ssh is told to run, by itself."""
    said = run(stack, cli, "--ssh-arg=-G")
    return next(line.split(" ", 1)[1] for line in said.splitlines() if line.startswith("proxycommand "))


def test_ssh_waits_for_no_library_but_the_c_library():
    needed = subprocess.run(["readelf", "-d", HELPER], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
    sanitizers = {name for name in libraries if name.startswith(("libasan", "libtsan", "libubsan", "libm.", "libgcc_s", "libresolv"))}
    assert libraries - sanitizers == {"libc.so.6"}


def test_the_helper_is_found_where_it_is_installed(stack, tmp_path):
    cli = installed(tmp_path)
    assert proxy_command(stack, cli).startswith(f"'{tmp_path}/libexec/tunnel/tunnel-pass-fd' ")
    assert run(stack, cli, "--", "echo up") == "up\n"


def test_tunnel_cli_alone_does_it_itself(stack, tmp_path):
    cli = installed(tmp_path, helper=False)
    assert proxy_command(stack, cli).startswith(f"'{cli}' pass-fd ")
    assert run(stack, cli, "--", "echo up") == "up\n"


def others_can_write(path):
    path.chmod(path.stat().st_mode | stat.S_IWOTH)


def belongs_to_somebody(path):
    os.chown(path, 4711, 4711)


def is_a_link(path):
    real = path.with_name(path.name + ".real")
    path.rename(real)
    path.symlink_to(real)


@pytest.mark.parametrize("what", ["libexec/tunnel", "libexec/tunnel/tunnel-pass-fd"])
@pytest.mark.parametrize("change", [others_can_write, belongs_to_somebody, is_a_link])
def test_a_helper_that_somebody_else_could_have_put_there_is_not_run(stack, tmp_path, what, change):
    if change is belongs_to_somebody and os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    cli = installed(tmp_path)
    change(tmp_path / what)
    assert proxy_command(stack, cli).startswith(f"'{cli}' pass-fd ")


def slow_ssh(stack, tmp_path):
    """An ssh that has not connected yet, and how to let it; its stream is open."""
    slow = tmp_path / "ssh"
    slow.write_text(f'#!/bin/sh\n: > {tmp_path}/started\nread line < {tmp_path}/go\nPATH=${{PATH#*:}} exec ssh "$@"\n')
    slow.chmod(0o755)
    os.mkfifo(tmp_path / "go")
    env = stack.env(PATH=f"{tmp_path}:{os.environ['PATH']}")
    p = subprocess.Popen([CLI, *START, "--", "echo up"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env)
    stack.procs.append(p)
    wait_for((tmp_path / "started").exists, "ssh to be started")
    wait_for(lambda: recorded(stack, "stream.open"), "the stream in the audit log", every=0.1)

    def go():
        (tmp_path / "go").write_text("go\n")
        return p.communicate(timeout=LIMIT)[0]

    return go


def recorded(stack, event):
    return [r for r in stack.audit() if r["event"] == event]


def test_an_ssh_without_a_session_goes_without_a_word(stack, tmp_path):
    """It was started before the session was asked for."""
    stack.start_agent("web-2")
    stack.agents["web-2"].proc.stop()
    (tmp_path / "ssh").write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nPATH=${{PATH#*:}} exec ssh "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    env = stack.env(PATH=f"{tmp_path}:{os.environ['PATH']}")
    for _ in range(5):  # it is met at one or another place of its way
        r = subprocess.run([CLI, "start-session", "--target", "web-2", "--login", USER, "--", "true"], capture_output=True, text=True, timeout=LIMIT, env=env)
        assert r.returncode == 234 and r.stdout == "", r
        assert len(r.stderr.splitlines()) == 1 and "web-2" in r.stderr, r.stderr
        started = (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else "never"
        assert not Path("/proc", started).exists()


def catches(pid, signum):
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) & 1 << (signum - 1)


def test_who_has_enough_of_starting_leaves_nothing(stack):
    """The agent does not answer: the first Ctrl-C waits to end the session that may come, the second for nothing."""
    stack.start_agent("web-2")
    stack.agents["web-2"].proc.stop()
    folder = stack.folder / "tmp"
    folder.mkdir()
    env = stack.env(XDG_RUNTIME_DIR=None, TMPDIR=str(folder))
    p = subprocess.Popen([CLI, "start-session", "--target", "web-2", "--login", USER, "--", "true"], stderr=subprocess.PIPE, text=True, env=env)
    stack.procs.append(p)
    wait_for(lambda: list(folder.glob("tunnel-*/socket")) and catches(p.pid, signal.SIGINT), "the call")
    p.send_signal(signal.SIGINT)
    assert p.stderr.readline() == "\n" and "the same again ends at once" in p.stderr.readline()
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 130
    assert list(folder.iterdir()) == []
    p.stderr.close()


def test_who_connects_for_ssh_waits_until_all_is_ready(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        ours, sshs = socket.socketpair(socket.AF_UNIX)
        with subprocess.Popen([HELPER, tmp_path / "socket"], stdout=sshs, stderr=subprocess.PIPE, text=True) as p, listening.accept()[0] as c:
            assert not select.select([ours], [], [], 0.2)[0]
            c.sendall(b"\0first")
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            with socket.socket(fileno=fds[0]) as passed:
                assert passed.recv(10) == b"first"
            assert p.wait(LIMIT) == 0
        with subprocess.Popen([HELPER, tmp_path / "socket"], stdout=sshs, stderr=subprocess.PIPE, text=True) as p:
            listening.accept()[0].close()
            assert p.wait(LIMIT) == 1 and p.stderr.read() == "", "who was to say it has told why it does not"


def test_the_targets_sshd_starts_while_ssh_does(stack, tmp_path):
    assert slow_ssh(stack, tmp_path)() == "up\n", stack.tails()
    assert len(recorded(stack, "stream.open")) == 1


def test_an_ssh_that_never_connects_ends_its_session(stack):
    assert "OpenSSH" in subprocess.run([CLI, *START, "--ssh-arg=-V"], capture_output=True, text=True, timeout=LIMIT, env=stack.env()).stderr
    wait_for(lambda: [r for r in stack.audit() if r["event"] == "session.end"], "the end in the audit log", every=0.1)


def test_a_stream_that_is_refused_before_ssh_comes_is_told_once(bare, tmp_path):
    bare.start_server()
    bare.start_agent(conf='ssh = "127.0.0.1:1";')
    r = subprocess.run([CLI, *START, "--", "true"], capture_output=True, text=True, timeout=LIMIT, env=bare.env())
    assert r.returncode == 237 and r.stderr.count("(refused)") == 1, r.stderr
    assert r.stderr.count("\n") == 1, "ssh has nothing to add"
