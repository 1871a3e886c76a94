"""Plain ssh and what runs it, with nothing but the configuration that ssh-config writes."""

import functools
import hashlib
import http.server
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import CLI, LIMIT, USER, LineReader, family, free_port, send, wait_for
from plain_ssh import HOST, Ssh

MIB = 1 << 20


@pytest.fixture
def ssh(stack):
    return Ssh(stack)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_command_with_no_question_and_a_certified_host(ssh, stack):
    r = ssh("-v", HOST, "echo out; exit 7", check=False)
    assert (r.stdout, r.returncode) == ("out\n", 7), r.stderr
    assert re.search(r"Server host certificate: ssh-ed25519-cert\S+ .* ID \"web-1\"", r.stderr), r.stderr
    assert "Host 'web-1' is known and matches the ED25519-CERT host certificate" in r.stderr, r.stderr
    assert "is not a listed principal" not in r.stderr
    (session,) = stack.json("list-sessions", "--state", "ended")
    assert (session["login"], session["target"]) == (USER, "web-1")


def test_scp_sftp_and_rsync(ssh, tmp_path):
    src = tmp_path / "src"
    src.write_bytes(os.urandom(8 * MIB))
    for n, copy in enumerate(
        (
            lambda a, b: ssh.run("scp", "-B", a, b),
            lambda a, b: ssh.run("scp", "-B", "-O", a, b),
            lambda a, b: ssh.run("rsync", "-a", "-e", ssh.command, a, b),
        )
    ):
        there, back = tmp_path / f"there-{n}", tmp_path / f"back-{n}"
        copy(src, f"{HOST}:{there}")
        copy(f"{HOST}:{there}", back)
        assert digest(back) == digest(src)
    ssh.run("sftp", "-b", "-", HOST, stdin=None, input=f"put {src} {tmp_path}/put\nget {tmp_path}/put {tmp_path}/got\n")
    assert digest(tmp_path / "got") == digest(src)


def test_git_clone_and_push(ssh, tmp_path):
    bare, work = tmp_path / "bare.git", tmp_path / "work"
    env = {"GIT_SSH_COMMAND": ssh.command, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    ssh.run("git", "init", "-q", "--bare", "-b", "main", bare)
    ssh.run("git", "clone", "-q", f"{HOST}:{bare}", work, env=env)
    (work / "file").write_bytes(os.urandom(MIB))
    ssh.run("git", "-C", work, "add", "file")
    ssh.run("git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one")
    ssh.run("git", "-C", work, "push", "-q", "origin", "HEAD:main", env=env)
    again = tmp_path / "again"
    ssh.run("git", "clone", "-q", f"ssh://{HOST}{bare}", again, env=env)
    assert digest(again / "file") == digest(work / "file")


def test_many_connections_at_once_are_sessions_of_their_own(ssh, stack):
    """Each one logs in with a certificate, whichever of them holds the place where ssh asks for it."""
    many = [ssh.popen(HOST, f"echo here {n}") for n in range(6)]
    assert [p.communicate(timeout=120)[0] for p in many] == [b"here %d\n" % n for n in range(6)], stack.tails()
    wait_for(lambda: len(stack.json("list-sessions", "--state", "ended")) == 6, "six sessions to be over")
    run = ssh.dir / "run" / HOST
    assert [p.name for p in run.iterdir()] == ["known_hosts"], "no key, and no socket of who is gone"


def test_one_that_was_killed_is_stepped_over(ssh, stack):
    """Where it left its socket, the next one answers; and one that lives goes on answering when the newest is gone."""
    first = ssh.popen(HOST, "echo up; cat")
    LineReader(first.stdout).wait("up")
    agent = ssh.dir / "run" / HOST / "agent"
    mine = os.readlink(agent)
    second = ssh.popen(HOST, "echo up; cat")
    LineReader(second.stdout).wait("up")
    assert os.readlink(agent) != mine
    second.stdin.close()
    wait_for(lambda: os.readlink(agent) == mine, "the first to be asked again")
    send(signal.SIGKILL, family([first.pid]))
    first.wait(LIMIT)
    assert os.path.islink(agent) and ssh(HOST, "echo here").stdout == "here\n"
    assert not os.path.lexists(agent.parent / mine)
    second.wait(LIMIT)


def test_control_master(stack):
    """One session for all of them; the command whose connection it was is interrupted, and the others go on."""
    ssh = Ssh(stack, more=f"Host *\n\tControlMaster auto\n\tControlPath {stack.folder}/cm-%C\n\tControlPersist yes\n")
    first = ssh.popen(HOST, "echo up; cat", start_new_session=True)
    LineReader(first.stdout).wait("up")
    second = ssh.popen(HOST, "echo up; cat")
    lines = LineReader(second.stdout)
    lines.wait("up")
    os.killpg(first.pid, signal.SIGINT)
    first.wait(LIMIT)
    second.stdin.write(b"more\n")
    second.stdin.close()
    lines.wait("more")
    assert second.wait(LIMIT) == 0
    assert ssh(HOST, "echo here").stdout == "here\n"
    assert len(stack.json("list-sessions")) == 1 and stack.json("list-sessions", "--state", "ended") == []
    ssh("-O", "exit", HOST)
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end with its ssh")


def free_socks(ssh, *more):
    """A running ssh -D as editors start it; (process, port)."""
    port = free_port()
    p = ssh.popen("-T", "-D", port, "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=60", *more, HOST, "echo up; cat")
    LineReader(p.stdout).wait("up")
    return p, port


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def copyfile(self, source, out):
        """/file?slow comes at 1 MB/s: curl's own limit lets a few MB pass at once."""
        if not self.path.endswith("?slow"):
            return super().copyfile(source, out)
        while piece := source.read(32 << 10):
            out.write(piece)
            time.sleep(0.03)


@pytest.fixture
def web(tmp_path):
    """Serves a file of 4 MiB; (its URL, the file)."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(os.urandom(4 * MIB))
    handler = functools.partial(Quiet, directory=tmp_path / "www")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/file", tmp_path / "www" / "file"
    server.shutdown()
    server.server_close()


def test_a_dynamic_forward(ssh, stack, web, tmp_path):
    url, file = web
    p, port = free_socks(ssh)
    got = [tmp_path / f"got-{n}" for n in range(3)]
    curls = [subprocess.Popen(["curl", "-sS", "--proxy", f"socks5h://127.0.0.1:{port}", "-o", g, url], env=stack.env()) for g in got]
    assert [c.wait(LIMIT) for c in curls] == [0, 0, 0]
    assert {digest(g) for g in got} == {digest(file)}
    p.stdin.close()
    assert p.wait(LIMIT) == 0


def test_a_server_process_is_found_again(ssh, stack):
    """What an editor leaves running on the target, and comes back to after its connection was lost for good."""
    first = ssh.popen(HOST, f"nohup sh -c 'echo $$ >{stack.folder}/pid; exec sleep 1000' >/dev/null 2>&1 </dev/null & echo up; cat")
    LineReader(first.stdout).wait("up")
    pid = int(wait_for(lambda: (p := stack.folder / "pid").exists() and p.read_text().strip(), "the server process"))
    try:
        send(signal.SIGKILL, family([first.pid]))
        first.wait(LIMIT)
        stack.server.kill()
        stack.start_server()
        stack.wait_connected("web-1")
        assert ssh(HOST, f"kill -0 {pid} && echo runs").stdout == "runs\n"
    finally:
        os.kill(pid, signal.SIGKILL)


def relay_killed_while(stack, p, folder, kills=2):
    """Kills the relay each time that bytes have come since."""
    def size():
        return sum(f.stat().st_size for f in folder.iterdir() if f.is_file())

    for _ in range(kills):
        at = size()
        wait_for(lambda: size() > at or p.poll() is not None, "bytes to come", 120)
        assert p.poll() is None, f"it was over before the relay was killed: {p.returncode}\n{stack.tails()}"
        stack.server.kill()
        stack.start_server()
    assert p.wait(240) == 0, stack.tails()


@pytest.mark.parametrize("tool", ["scp", "sftp", "rsync", "socks"])
def test_the_relay_is_killed_while_it_works(ssh, stack, tool, web, tmp_path):
    url, src = web
    folder = tmp_path / "there"
    folder.mkdir()
    end = None
    if tool == "socks":
        end, port = free_socks(ssh)
    args = {
        "scp": ["scp", "-F", ssh.config, "-B", "-l", "8000", src, f"{HOST}:{folder}/got"],
        "sftp": ["sftp", "-F", ssh.config, "-l", "8000", "-b", stack.folder / "batch", HOST],
        "rsync": ["rsync", "--bwlimit=1000", "--whole-file", "-e", ssh.command, src, f"{HOST}:{folder}/got"],
        "socks": end and ["curl", "-sS", "-N", "--proxy", f"socks5h://127.0.0.1:{port}", "-o", folder / "got", f"{url}?slow"],
    }[tool]
    (stack.folder / "batch").write_text(f"put {src} {folder}/got\n")
    p = subprocess.Popen(list(map(str, args)), env=stack.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.procs.append(p)
    relay_killed_while(stack, p, folder)
    assert digest(folder / "got") == digest(src)
    if end:
        end.stdin.close()
        assert end.wait(LIMIT) == 0


@pytest.mark.parametrize("name", ["x'$(touch {f}/oops)'", "-oProxyCommand=x", "A B", "a;b"])
def test_a_login_that_is_none_runs_nothing(ssh, stack, name):
    r = ssh("-l", name.format(f=stack.folder), "web-1.tunnel", "true", check=False)
    assert r.returncode == 255 and not (stack.folder / "oops").exists(), r
    assert stack.json("list-sessions", "--state", "ended") == []


def test_a_host_that_is_no_target(ssh):
    assert "expected TARGET.tunnel" not in ssh("nobody@localhost", "true", check=False).stderr, "not ours"
    r = ssh("root@web-2.tunnel", "true", check=False)
    assert r.returncode == 255 and "web-2" in r.stderr and "not-found" in r.stderr, r.stderr


def test_a_profile_has_a_suffix_of_its_own(stack):
    stack.write_profile("lab")
    ssh = Ssh(stack, "--profile", "lab", "--suffix", "lab")
    assert ssh(f"{USER}@web-1.lab", "echo here", env={"TUNNEL_CONFIG": None, "TUNNEL_PROFILE": "nothing"}).stdout == "here\n"


def test_install_and_include(stack):
    home = stack.folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    config = home / ".ssh" / "config"
    config.write_text("Host *\n\tUser somebody\n")
    config.chmod(0o640)
    printed = stack.cli("ssh-config", HOME=str(home)).stdout
    r = stack.cli("ssh-config", "--install", HOME=str(home))
    line = f'Include "{home}/.ssh/tunnel/tunnel.conf"'
    assert line in r.stdout and (home / ".ssh" / "tunnel" / "tunnel.conf").read_text() == printed
    assert config.read_text() == "Host *\n\tUser somebody\n"
    for _ in range(2):
        stack.cli("ssh-config", "--install", "--include", HOME=str(home))
        assert config.read_text() == f"{line}\nHost *\n\tUser somebody\n"
    assert config.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("args, says", [
    (["--suffix", "Lab"], "lower case"), (["--suffix", "a/b"], "letters, digits"), (["--dir", "/tmp/a'b"], "cannot hold"),
    (["--include"], "belongs to --install"), (["x"], "no arguments"),
])
def test_wrong_usage_of_ssh_config(bare, args, says):
    r = subprocess.run([CLI, "ssh-config", *args], capture_output=True, text=True, env={"HOME": str(bare.folder), "PATH": os.environ["PATH"]})
    assert r.returncode == 2 and says in r.stderr, r
