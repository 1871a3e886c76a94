"""The Debian packages on a fresh Debian that boots: installed, set up by the commands of the README, used, upgraded under a
live session, removed, purged; nothing is left. scripts/test-packages builds what this installs."""

import json

from installed import NAMES, Stream, active, certificate, connected, edit, guide, install, login, main_pid, set_up_agent, set_up_server
from machine import LIMIT, wait_for


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
    assert login(m) == "root"
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
    assert login(m) == "root"


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
    assert "web-1" in m.answer("tunnel-cli list-targets")


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
    assert "alice" in m.answer("tunnel-cli whoami")
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
    assert "later" not in m.answer("tunnel-cli list-policies")
    assert login(m) == "root"


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

