"""The key of the SSH certificate authority is changed while sessions run and start, with a real sshd and ssh that know nothing
but the authority: at no step does one fail that should not. The steps are those of the manual, and so are the commands."""

import re
import subprocess
import threading
from pathlib import Path

import pytest
from harness import CLI, LIMIT, SERVER, USER, LineReader, wait_for
from plain_ssh import HOST, Ssh

PAGE = Path(__file__).resolve().parents[2] / "docs" / "man" / "tunnel-server.8"


def manual_steps(places):
    """The commands of the manual's four steps, for our places."""
    text = PAGE.read_text().split(".Sh CHANGING THE SSH CA KEY")[1].split(".Sh ")[0]
    blocks = re.findall(r"(?s)\.Bd -literal\n(.*?)\.Ed", text)
    assert len(blocks) == 4
    for name, ours in places.items():
        assert any(name in block for block in blocks), name
        blocks = [block.replace(name, str(ours)) for block in blocks]
    return [block.replace("\\e\n", "\\\n").replace("\\&", "") for block in blocks]


class Authority:
    """A server whose CA has a key and a list in a folder of its own."""

    def __init__(self, stack):
        self.stack, self.folder = stack, stack.folder / "ca"
        self.folder.mkdir()
        self.key, self.trusted = self.folder / "ssh_ca", self.folder / "ssh_ca_trusted"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.trusted.write_text("")
        stack.write_conf, self.write_conf = self.written, stack.write_conf

    def written(self):
        self.write_conf()
        conf = self.stack.folder / "server.conf"
        text = conf.read_text()
        ours = f'ssh: {{ ca_key = "{self.key}"; ca_trusted = "{self.trusted}"; }};'
        conf.write_text(re.sub(r"(?m)^ssh: .*$", ours, text))

    def steps(self):
        """Each runs its commands and waits until the server has read what they changed."""
        places = {"/etc/tunnel/ssh_ca": self.key, "systemctl reload tunnel-server": f"kill -HUP {self.stack.server.pid}"}
        return [lambda commands=commands: self.run(commands) for commands in manual_steps(places)]

    def run(self, commands):
        before = self.stack.server.text().count("msg=reloaded")
        r = subprocess.run(["bash", "-e", "-c", commands], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        if "kill -HUP" in commands:
            wait_for(lambda: self.stack.server.text().count("msg=reloaded") > before, "the reload")

    def public(self):
        words = subprocess.run(["ssh-keygen", "-y", "-f", self.key], capture_output=True, text=True, check=True).stdout
        return " ".join(words.split()[:2])


def ssh(stack, name, *options, target="web-1"):
    """A plain ssh through us that knows the host by its certificate alone, whatever else the CLI tells it."""
    ssh_dir = stack.folder / name
    return [
        "ssh", "-F", "/dev/null", "-o", f"ProxyCommand={CLI} start-session --stdio --ssh-dir {ssh_dir} --login {USER} --target {target}",
        "-o", f"KnownHostsCommand=/bin/grep ^@cert-authority {ssh_dir}/known_hosts", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-v",
        *(options or ("-o", f"IdentityAgent={ssh_dir}/agent")), f"{USER}@{target}",
    ]  # fmt: skip


def run(stack, command, *options, target="web-1", name="ssh"):
    return subprocess.run(
        [*ssh(stack, name, *options, target=target), command], env=stack.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
    )


def works(stack, target="web-1"):
    r = run(stack, "echo here", target=target)
    assert (r.returncode, r.stdout) == (0, "here\n"), r.stderr + stack.tails()
    assert f"Host '{target}' is known and matches the ED25519-CERT host certificate" in r.stderr, r.stderr


class PlainSsh(Ssh):
    """ssh with what ssh-config writes, and how many authorities it believes."""

    def works(self, trusted):
        r = self("-v", HOST, "echo here")
        assert r.stdout == "here\n" and "Host 'web-1' is known and matches the ED25519-CERT host certificate" in r.stderr, r.stderr
        known = [line.split() for line in (self.dir / "run" / HOST / "known_hosts").read_text().splitlines()]
        assert sorted(words[3] for words in known if words[:2] == ["@cert-authority", "web-1"]) == sorted(key.split()[1] for key in trusted), known


@pytest.fixture
def authority(bare):
    a = Authority(bare)
    bare.start_server()
    bare.start_agent("web-1")
    bare.start_agent("away-1")
    return a


def stolen(authority, stack, by):
    """Options for a key that somebody certified by that CA key himself."""
    key = stack.folder / "forged"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    cert = stack.folder / f"forged-{Path(by).name}-cert.pub"
    subprocess.run(["ssh-keygen", "-q", "-s", by, "-I", "forged", "-n", USER, "-V", "-5m:+1h", f"{key}.pub"], check=True)
    (stack.folder / "forged-cert.pub").rename(cert)
    return ["-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", "-i", str(key), "-o", f"CertificateFile={cert}"]


class Live:
    """A session that was there before, and answers to each line."""

    def __init__(self, stack):
        self.p = subprocess.Popen([*ssh(stack, "live"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=stack.env())
        stack.procs.append(self.p)
        self.lines = LineReader(self.p.stdout)

    def answers(self, word):
        self.p.stdin.write(word.encode() + b"\n")
        self.p.stdin.flush()
        self.lines.wait(word)

    def close(self):
        self.p.stdin.close()
        assert self.p.wait(LIMIT) == 0


class Starts:
    """Sessions that start all the time; the first that fails is kept."""

    def __init__(self, stack):
        self.stack, self.over, self.failed, self.count = stack, False, None, 0
        self.thread = threading.Thread(target=self.go)
        self.thread.start()

    def go(self):
        while not self.over and not self.failed:
            r = run(self.stack, "echo here", name="starts")
            self.count += 1
            if (r.returncode, r.stdout) != (0, "here\n"):
                self.failed = r.stderr

    def some_more(self):
        """One that began from now on is over."""
        least = self.count + 2
        wait_for(lambda: self.count >= least or self.failed, "sessions to start")
        assert not self.failed, self.failed + self.stack.tails()

    def end(self):
        self.over = True
        self.thread.join()
        assert not self.failed, self.failed + self.stack.tails()


def test_the_key_is_changed_under_way(authority, bare):
    """A session that lives through it, sessions that start at each step and between, and an agent that misses all of it."""
    old = authority.public()
    works(bare)
    bare.agents["away-1"].proc.stop()
    live, starts = Live(bare), Starts(bare)
    live.answers("before")
    saved = bare.folder / "old"
    saved.write_bytes(authority.key.read_bytes())
    saved.chmod(0o600)
    mine = stolen(authority, bare, saved)
    try:
        for i, step in enumerate(authority.steps()):
            step()
            live.answers(f"after-step-{i + 1}")
            starts.some_more()
            works(bare)
            assert (run(bare, "echo in", *mine).stdout == "in\n") == (i < 3), "what the old key signed is good while it is trusted"
    finally:
        starts.end()
    new = authority.public()
    assert new != old
    assert (bare.agents["web-1"].folder / "state" / "ssh_ca.pub").read_text().split() == new.split()
    refused = run(bare, "echo in", *mine)
    assert (refused.returncode, refused.stdout) == (255, "") and "Permission denied" in refused.stderr, refused.stderr
    live.close()
    bare.agents["away-1"].restart()
    bare.wait_connected("away-1")
    works(bare, "away-1")
    assert (bare.agents["away-1"].folder / "state" / "ssh_ca.pub").read_text().split() == new.split()


def test_plain_ssh_while_two_authorities_are_known(authority, bare):
    """What ssh-config wrote before goes on working at each step, with the keys of that step, and a session that was there before lives through all of them."""
    old, ssh = authority.public(), PlainSsh(bare)
    ssh.works([old])
    live = ssh.popen(HOST, "echo up; cat")
    lines = LineReader(live.stdout)
    lines.wait("up")
    for i, step in enumerate(authority.steps()):
        step()
        next_key = bare.folder / "ca" / "ssh_ca.next.pub"
        keys = {old, authority.public(), *([" ".join(next_key.read_text().split()[:2])] if next_key.exists() else [])}
        ssh.works([old] if i == 0 else keys if i < 3 else [authority.public()])
    assert authority.public() != old
    live.stdin.write(b"still here\n")
    live.stdin.close()
    lines.wait("still here")
    assert live.wait(LIMIT) == 0


def test_a_restart_in_the_middle_of_it(authority, bare):
    """Server and agent come back between the steps, in either order."""
    steps = authority.steps
    for i in range(4):
        steps()[i]()
        if i % 2:
            bare.agents["web-1"].proc.stop()
        assert bare.server.stop() == 0
        bare.start_server()
        if i % 2:
            bare.agents["web-1"].restart()
        bare.wait_connected("web-1")
        works(bare)


def test_files_that_are_wrong_leave_the_old_ones_in_use(authority, bare):
    good = authority.key.read_bytes()
    for what, words in (
        (lambda: authority.key.chmod(0o640), f"{authority.key}: mode 0640 lets others read a secret; run: chmod 600"),
        (lambda: authority.key.write_text("nonsense"), "not an OpenSSH private key file"),
        (lambda: authority.key.unlink(), "No such file"),
        (lambda: authority.trusted.write_text("ssh-ed25519 AAAA"), f"{authority.trusted}: line 1: "),
        (lambda: authority.trusted.chmod(0o666), f"{authority.trusted}: mode 0666 lets others change it"),
    ):
        what()
        check = subprocess.run([SERVER, "--config", bare.folder / "server.conf", "--check-config"], capture_output=True, text=True)
        assert (check.returncode == 1 and words in check.stderr) or words == "No such file", check
        before = bare.server.text().count("reloaded in part")
        bare.server.kill(1)
        wait_for(lambda: bare.server.text().count("reloaded in part") > before, "the reload")
        said = [line for line in bare.server.text().splitlines() if "reload: ssh: " in line][-1]
        assert words in said and "the old one stays in use" in said
        works(bare)
        authority.key.unlink(missing_ok=True)
        authority.key.write_bytes(good)
        authority.key.chmod(0o600)
        authority.trusted.write_text("")
        authority.trusted.chmod(0o644)


@pytest.mark.parametrize("mode", ["0640", "0604", "0660"])
def test_a_server_whose_ca_key_others_can_read_does_not_start(authority, bare, mode):
    assert bare.server.stop() == 0
    authority.key.chmod(int(mode, 8))
    for more in ([], ["--check-config"]):
        r = subprocess.run([SERVER, "--config", bare.folder / "server.conf", *more], capture_output=True, text=True, timeout=LIMIT)
        assert r.returncode == 1, r
        assert f"{authority.key}: mode {mode} lets others read a secret; run: chmod 600 {authority.key}" in r.stderr, r.stderr
    assert not (bare.folder / "ready").exists()
