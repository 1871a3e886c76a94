"""What tests do with a machine: our packages are installed, set up by the commands of the README, used."""

import itertools
import os
import re
import secrets
from pathlib import Path

from machine import wait_for

SOURCE = Path(__file__).resolve().parents[2]
WORK = Path(os.environ["TUNNEL_PACKAGES_WORK"])
RELEASES = os.environ["TUNNEL_PACKAGES_RELEASES"].split()
NAMES = ("tunnel-server", "tunnel-agent", "tunnel-cli", "tunnel-dev")


def readme(heading):
    """The commands of the README's block after this heading, without their comments."""
    text = (SOURCE / "README.md").read_text().partition(f"**{heading}.**")[2]
    block = re.search(r"```sh\n(.*?)```", text, re.S)[1]
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


def guide(heading, kind="sh", document="docs/operators.md"):
    """The blocks below a heading of a document: of commands, or of another kind."""
    section = re.search(rf"(?ms)^## {heading}\n(.*?)(^## |\Z)", (SOURCE / document).read_text())[1]
    return [text for of, text in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", section) if of == kind]


def install(m, version):
    return m.sh(f"apt-get install -y -qq --no-install-recommends /debs/{version}/*.deb")


def active(m, unit):
    return m.sh(f"systemctl is-active {unit}", check=False).strip()


def edit(m, name, *changes):
    text = m.path(name).read_text()
    for old, new in changes:
        assert old in text, (name, old)
        text = text.replace(old, new)
    m.path(name).write_text(text)


def certificate(m):
    m.sh("cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
         "-addext subjectAltName=DNS:localhost -keyout privkey.pem -out fullchain.pem && chmod 600 privkey.pem && cp fullchain.pem /etc/tunnel-ca.pem")


def set_up_server(m):
    secret = secrets.token_hex(20)
    certificate(m)
    commands = readme("Server")
    assert commands[0].startswith("cd ") and commands[-1] == "systemctl start tunnel-server"
    for command in commands[1:]:
        m.sh(f"{commands[0]} && {command}")
        if command.startswith("cp server.conf"):
            edit(m, "/etc/tunnel/server.conf", ("tunnel.example.com", "localhost"))
        if "hmac-credentials" in command:
            edit(m, "/etc/tunnel/hmac-credentials", ("replace-this-with-a-random-secret", secret), ("replace-this-with-another-random-secret", secret))
    m.sh("mkdir -p /root/.config/tunnel")
    m.write("/root/.config/tunnel/key", f'key_id = "AKALICE01"; secret = "{secret}";\n', 0o600)
    m.write("/root/.config/tunnel/config", 'default: { server = "https://localhost:8443"; ca_file = "/etc/tunnel-ca.pem"; auth = "hmac"; credentials = "/root/.config/tunnel/key"; };\n')
    assert active(m, "tunnel-server") == "active", m.journal("tunnel-server")
    assert "alice" in m.answer("tunnel-cli whoami")


def set_up_agent(m):
    for command in readme("Target"):
        m.sh(f"cd /root && {command}")
        if command.startswith("cp "):
            edit(m, "/etc/tunnel/agent.conf", ("tunnel.example.com", "localhost"), ("// ca_file", "ca_file"), ("/etc/tunnel/ca.pem", "/etc/tunnel-ca.pem"))
    assert active(m, "tunnel-agent") == "active", m.journal("tunnel-agent")
    connected(m)


def connected(m):
    wait_for(lambda: re.search(r"web-1.*\bconnected\b", m.sh("tunnel-cli list-targets", check=False)), "web-1 to be connected")


def login(m):
    """A session with a command; what that prints."""
    return m.answer("tunnel-cli start-session --target web-1 --login root -- id -un").strip()


class Stream:
    """A session whose command gives back what it is sent; every byte is compared."""

    def __init__(self, m):
        self.p = m.popen("tunnel-cli start-session --target web-1 --login root -- cat")
        self.numbers = itertools.count()
        self.say()

    def say(self):
        line = f"{next(self.numbers)} {secrets.token_hex(2000)}\n".encode()
        self.p.stdin.write(line)
        got = b""
        while len(got) < len(line):
            part = self.p.stdout.read(len(line) - len(got))
            assert part, f"the session ended after {len(got)} bytes with {self.p.wait()}"
            got += part
        assert got == line

    def end(self):
        self.p.stdin.close()
        assert self.p.stdout.read() == b"" and self.p.wait() == 0


def main_pid(m, unit):
    return m.sh(f"systemctl show -p MainPID --value {unit}").strip()
