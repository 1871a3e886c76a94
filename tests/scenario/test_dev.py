"""What a newcomer runs: tunnel-server --dev, and scripts/demo. They leave alone what is not theirs."""

import os
import re
import signal
import ssl
import urllib.request
from pathlib import Path

import pytest
from harness import BUILD, LIMIT, SERVER, Proc, wait_for
from terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]


class Dev:
    """tunnel-server --dev with a home, a folder for temporary files and a working folder that are empty."""

    def __init__(self, stack):
        self.stack, self.folders = stack, [stack.folder / name for name in ("home", "tmp", "cwd")]
        self.home, self.tmp, self.cwd = self.folders
        for folder in self.folders:
            folder.mkdir()

    def start(self, *args):
        env = self.stack.env(HOME=str(self.home), TMPDIR=str(self.tmp), XDG_STATE_HOME=None, XDG_CONFIG_HOME=None, TUNNEL_CONFIG=None)
        p = Proc([SERVER, "--dev", *args], self.stack.folder / "dev.log", env=env, cwd=self.cwd)
        self.stack.procs.append(p)
        p.wait_log("agents:")
        p.state, p.config = (re.search(pattern, p.text()).group(1) for pattern in (r"all in (\S+)\n", r"TUNNEL_CONFIG=(\S+)\n"))
        p.url = re.search(r"tunnel-server (https://\S+),", p.text()).group(1)
        return p

    def made(self):
        return sorted(str(path.relative_to(self.stack.folder)) for folder in self.folders for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def dev(bare):
    return Dev(bare)


def whoami(dev, p):
    return dev.stack.json("whoami", "--config", p.config)["subject"]


def test_a_development_server_keeps_to_its_folder(dev):
    state = dev.stack.folder / "state"
    p = dev.start("--state-dir", state)
    assert (p.state, p.config) == (str(state), f"{state}/cli.conf")
    assert whoami(dev, p) == "dev"
    assert f'ca_file = "{state}/ca.pem"' in p.text() and (state / "ca.pem").exists()
    (console,) = re.findall(r"console: (https://localhost:\d+/) \(the key is in " + str(state), p.text())
    with urllib.request.urlopen(console, context=ssl.create_default_context(cafile=state / "ca.pem"), timeout=LIMIT) as answer:
        assert "/console/app.js" in answer.read().decode()
    p.kill(signal.SIGHUP)
    p.wait_log("msg=reloaded")
    assert "needs a restart" not in p.text(), "the ports that it found are in its config"
    assert p.stop() == 0
    kept = {name: (state / name).read_bytes() for name in ("ca.pem", "server.key", "credentials", "server.conf", "cli.conf")}
    again = dev.start("--state-dir", state)
    assert again.url == p.url and console in again.text() and whoami(dev, again) == "dev"
    assert kept == {name: (state / name).read_bytes() for name in kept}
    assert again.stop() == 0
    assert dev.made() == []


def test_a_development_server_has_a_folder_at_home(dev):
    p = dev.start()
    assert p.state == f"{dev.home}/.local/state/tunnel-dev"
    assert whoami(dev, p) == "dev"
    assert p.stop() == 0
    assert dev.made() and all(name.startswith("home/.local/state/tunnel-dev/") for name in dev.made())


@pytest.fixture
def demo(bare):
    (bare.folder / "tmp").mkdir()
    t = Terminal(bare, program=ROOT / "scripts" / "demo", TMPDIR=str(bare.folder / "tmp"), TUNNEL_BUILD=str(BUILD))
    yield t
    if t.pid:
        os.kill(t.pid, signal.SIGTERM)  # what it started ends with it
        t.exit_code()
    t.close()


def in_tmp(bare):
    return os.listdir(bare.folder / "tmp")


def test_the_demo_is_a_shell(bare, demo):
    demo.until(rb'enrolled as "demo"')
    assert len(in_tmp(bare)) == 1
    demo.type("echo mark-$((6*7))\n")
    demo.until(rb"mark-42")
    demo.type("exit 3\n")
    assert demo.exit_code() == 3
    assert in_tmp(bare) == []


def test_the_demo_is_stopped(bare, demo):
    demo.type("echo mark-$((6*7))\n")
    demo.until(rb"mark-42")
    os.kill(demo.pid, signal.SIGTERM)
    assert demo.exit_code() == 143
    assert in_tmp(bare) == []
