"""The Debian packages on a fresh Debian that boots: installed, set up by the commands of the README, used, upgraded under a
live session, removed, purged; nothing is left. scripts/test-packages builds what this installs."""

import itertools
import json
import os
import re
import secrets
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from machine import LIMIT, Machine, chroot, copy, run, wait_for  # noqa: E402

SOURCE = Path(__file__).resolve().parents[2]
WORK = Path(os.environ["TUNNEL_PACKAGES_WORK"])
RELEASES = os.environ["TUNNEL_PACKAGES_RELEASES"].split()
NAMES = ("tunnel-server", "tunnel-agent", "tunnel-cli", "tunnel-dev")


@pytest.fixture(params=RELEASES)
def machine(request):
    """Fresh, booted, with what our packages depend on and none of them; the packages of two versions lie in /debs/1 and /debs/2."""
    release = request.param
    root = copy(WORK / release / "root", WORK / f"test-{release}")
    copy(WORK / release / "debs", root / "debs")
    needs = {dep for name in NAMES for field in ("Depends", "Recommends") for dep in deb_field(root, name, field) if "c-compiler" not in dep} | {"sqlite3"}  # the guide's backup
    chroot(root, "apt-get update -qq && apt-get satisfy -y -qq --no-install-recommends " + f"'{', '.join(sorted(needs))}'")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    m = Machine(root)
    m.sh("systemctl disable --now ssh.service ssh.socket", check=False)  # no sshd needs to listen
    try:
        yield m
    finally:
        m.off()


def deb_field(root, name, field):
    (deb,) = (root / "debs/1").glob(f"{name}_*.deb")
    return filter(None, run("dpkg-deb", "-f", deb, field).strip().split(", "))


def readme(heading):
    """The commands of the README's block after this heading, without their comments."""
    text = (SOURCE / "README.md").read_text().partition(f"**{heading}.**")[2]
    block = re.search(r"```sh\n(.*?)```", text, re.S)[1]
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


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
    assert "alice" in m.sh("tunnel-cli whoami")


def set_up_agent(m):
    for command in readme("Target"):
        m.sh(f"cd /root && {command}")
        if command.startswith("cp "):
            edit(m, "/etc/tunnel/agent.conf", ("tunnel.example.com", "localhost"), ("// ca_file", "ca_file"), ("/etc/tunnel/ca.pem", "/etc/tunnel-ca.pem"))
    assert active(m, "tunnel-agent") == "active", m.journal("tunnel-agent")
    connected(m)


def connected(m):
    wait_for(lambda: re.search(r"web-1.*\bconnected\b", m.sh("tunnel-cli list-targets", check=False)), "web-1 to be connected")


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


def check_installed(m):
    for unit in ("tunnel-server", "tunnel-agent"):
        assert m.sh(f"systemctl is-enabled {unit}", check=False).strip() == "enabled"
        assert active(m, unit) == "inactive"  # not configured, and so no failure either
    assert m.sh("stat -c '%U %G %a' /var/lib/tunnel /etc/tunnel").split() == ["tunnel", "tunnel", "700", "root", "root", "755"]
    assert m.sh("stat -c '%U %G %a' /var/lib/tunnel-agent").split() == ["root", "root", "700"]
    assert m.sh("systemd-analyze verify --man=no tunnel-server.service tunnel-agent.service 2>&1") == ""
    assert m.sh("systemctl --failed --no-legend | grep tunnel", check=False) == ""


def check_running(m):
    assert m.sh(f"ps -o user= -p {main_pid(m, 'tunnel-server')}").strip() == "tunnel"
    assert m.sh("tunnel-cli start-session --target web-1 --login root -- id -un").strip() == "root"
    assert m.sh("pkg-config --modversion tunnel-plugin", check=False)  # of tunnel-dev
    assert m.sh("MANPAGER=cat man -w tunnel-cli 2>/dev/null || ls /usr/share/man/man1/tunnel-cli.1.gz")


def check_upgrade(m):
    stream, key = Stream(m), m.path("/var/lib/tunnel-agent/identity.pem").read_bytes()
    edit(m, "/etc/tunnel/server.conf", ('level = "info"', 'level = "debug"'))
    conf = m.path("/etc/tunnel/server.conf").read_text()
    before = {unit: main_pid(m, unit) for unit in ("tunnel-server", "tunnel-agent")}
    install(m, 2)
    stream.say()
    for unit, pid in before.items():
        assert active(m, unit) == "active" and main_pid(m, unit) != pid, m.journal(unit)
    connected(m)
    for _ in range(20):
        stream.say()
    assert m.path("/etc/tunnel/server.conf").read_text() == conf
    assert m.path("/var/lib/tunnel-agent/identity.pem").read_bytes() == key
    m.sh("systemctl reload tunnel-server tunnel-agent")
    stream.say()
    stream.end()
    assert m.sh("tunnel-cli start-session --target web-1 --login root -- id -un").strip() == "root"


def check_removal(m):
    """The agent's leaves sessions; the server's keeps what was written."""
    stream = Stream(m)
    said = m.sh("apt-get remove -y -qq tunnel-agent")
    assert "1 sessions go on" in said, said
    stream.say()
    assert m.path("/var/lib/tunnel-agent/identity.pem").exists() and m.path("/etc/tunnel/agent.conf").exists()
    install(m, 2)
    connected(m)
    stream.say()
    m.sh("apt-get purge -y -qq tunnel-agent")
    wait_for(lambda: m.sh("pgrep -f '[t]unnel-agent worker'", check=False) == "", "the session's process to end")
    m.sh("pkill -x tunnel-cli", check=False)  # one that was not told waits for as long as the session may be detached
    assert stream.p.wait(LIMIT) != 0
    m.sh("apt-get remove -y -qq tunnel-server")
    assert m.path("/etc/tunnel/server.conf").exists() and m.path("/var/lib/tunnel/tunnel.db").exists()
    install(m, 2)
    assert active(m, "tunnel-server") == "active"
    assert "web-1" in m.sh("tunnel-cli list-targets")


def guide(heading, kind="sh"):
    """The blocks of commands below a heading of the operators' guide."""
    section = re.search(rf"(?ms)^## {heading}\n(.*?)(^## |\Z)", (SOURCE / "docs/operators.md").read_text())[1]
    return re.findall(rf"```{kind}\n(.*?)```", section, re.S)


def served(m):
    """The certificate that the server shows."""
    return m.sh("openssl s_client -connect localhost:8443 -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256")


def check_certbot_hook(m):
    """As certbot runs it after a renewal; the session goes on. A pair that does not fit leaves the old one in use."""
    (hook,) = guide("Certificate")
    name, lineage = "/etc/letsencrypt/renewal-hooks/deploy/tunnel", "/etc/letsencrypt/live/tunnel.example.com"
    m.sh(f"mkdir -p {name.rsplit('/', 1)[0]} {lineage}")
    m.write(name, hook, 0o755)
    before, stream = served(m), Stream(m)
    m.sh("cd /root && mkdir -p old && cp *.pem old/")
    certificate(m)  # of itself, so it is another CA as well
    m.sh("cat /root/old/fullchain.pem >>/etc/tunnel-ca.pem && systemctl reload tunnel-agent")
    m.sh(f"cp /root/*.pem {lineage}/ && RENEWED_LINEAGE={lineage} RENEWED_DOMAINS=tunnel.example.com {name}")
    wait_for(lambda: served(m) not in ("", before), "the new certificate")
    assert m.sh("stat -c '%U %a' /etc/tunnel/server.key").split() == ["tunnel", "600"]
    stream.say()
    assert "alice" in m.sh("tunnel-cli whoami")
    now = served(m)
    m.sh(f"cp /root/old/privkey.pem {lineage}/ && RENEWED_LINEAGE={lineage} {name}", check=False)
    wait_for(lambda: "the old one stays in use" in m.journal("tunnel-server"), "the refusal")
    assert served(m) == now
    m.sh(f"cp /root/privkey.pem {lineage}/ && RENEWED_LINEAGE={lineage} {name}")
    stream.say()
    stream.end()


def check_backup(m):
    """What came after the copy is gone, all else is there; agents connect, and the SSH CA is the one they know."""
    backup, restore = guide("What to keep")
    m.write("/root/later.json", '{"Version": "2026-01-01", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "tunnel:Revoke", "Resource": "*"}]}')
    m.sh("set -e\n" + backup)
    assert m.sh("stat -c '%U %a' /var/backups/tunnel.db /var/backups/tunnel-ssh_ca").split() == ["root", "600"] * 2
    m.sh("tunnel-cli put-policy later /root/later.json")
    m.sh("set -e\n" + restore)
    assert active(m, "tunnel-server") == "active", m.journal("tunnel-server")
    assert m.sh("stat -c '%U %G %a' /var/lib/tunnel/tunnel.db /var/lib/tunnel/ssh_ca").split() == ["tunnel", "tunnel", "600"] * 2
    connected(m)
    assert "later" not in m.sh("tunnel-cli list-policies")
    assert m.sh("tunnel-cli start-session --target web-1 --login root -- id -un").strip() == "root"


def check_logs(m):
    """log.format, and every line in it."""
    edit(m, "/etc/tunnel/server.conf", ('format = "logfmt"', 'format = "json"'))
    m.sh("systemctl restart tunnel-server")
    connected(m)
    said = m.sh("journalctl --no-pager -o cat _PID=" + main_pid(m, "tunnel-server")).splitlines()
    assert said and all(json.loads(line)["program"] == "tunnel-server" for line in said), said


def check_port(m):
    """The drop-in for a port below 1024."""
    (drop_in,) = guide("Under systemd", "ini")
    m.sh("mkdir -p /etc/systemd/system/tunnel-server.service.d")
    m.write("/etc/systemd/system/tunnel-server.service.d/override.conf", drop_in)
    edit(m, "/etc/tunnel/server.conf", ("0.0.0.0:8443", "0.0.0.0:443"))
    m.sh("systemctl daemon-reload && systemctl restart tunnel-server")
    assert "HTTP/1.1 200" in m.sh("printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -connect localhost:443 2>/dev/null")


def test_the_operators_guide(machine):
    """Its commands, as they stand there, on a machine that was set up by the README."""
    install(machine, 1)
    set_up_server(machine)
    set_up_agent(machine)
    check_certbot_hook(machine)
    check_backup(machine)
    check_logs(machine)
    check_port(machine)


def test_a_life(machine):
    m = machine
    files, users = m.files(), m.path("/etc/passwd").read_text() + m.path("/etc/group").read_text()
    install(m, 1)
    check_installed(m)
    set_up_server(m)
    set_up_agent(m)
    check_running(m)
    check_upgrade(m)
    check_removal(m)
    m.sh(f"apt-get purge -y -qq {' '.join(NAMES)}")
    m.sh("rm -rf /root/.config /root/token /root/*.pem /etc/tunnel-ca.pem")  # ours
    left = m.files()
    assert sorted(left.items() ^ files.items()) == []
    assert m.path("/etc/passwd").read_text() + m.path("/etc/group").read_text() == users
    assert m.sh("systemctl list-unit-files | grep tunnel; ls -d /run/tunnel*; pgrep -a tunnel", check=False).count("\n") <= 1  # ls: none
    assert m.sh("pgrep tunnel", check=False) == ""

