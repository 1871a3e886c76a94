"""What docs/security.md says of the processes, of the installed units under a systemd that lives: read from the kernel."""

import re

from installed import SOURCE, Stream, active, connected, edit, guide, install, login, main_pid, set_up_agent, set_up_server
from machine import wait_for

CAPABILITIES = ("CapPrm", "CapEff", "CapBnd", "CapAmb")
# linux/capability.h: ports below 1024, sockets in folders of others
KEPT = 1 << 10 | 1 << 1
OWN_KEYS = 256 << 10


def status(m, pid):
    return dict(re.findall(r"(?m)^(\w+):\s+(.*)$", m.sh(f"cat /proc/{pid}/status")))


def capabilities(m, pid):
    return {row: int(status(m, pid)[row], 16) for row in CAPABILITIES}


def filters(m, pid):
    """How many filters of system calls a process is behind; the machine, being a container, has some itself."""
    of = status(m, pid)
    assert (of["Seccomp"] == "2") == (int(of["Seccomp_filters"]) > 0)
    return int(of["Seccomp_filters"])


def limit(m, pid, name):
    """The soft one."""
    soft = re.search(rf"(?m)^{name} +(\S+)", m.sh(f"cat /proc/{pid}/limits"))[1]
    return 1 << 62 if soft == "unlimited" else int(soft)


def workers(m):
    return set(m.sh("pgrep -f '[t]unnel-agent worker'", check=False).split())


def check_sandboxed(m, pid, user):
    of = status(m, pid)
    assert m.sh(f"ps -o user:32= -p {pid}").strip() == user
    assert filters(m, pid) > filters(m, 1) and of["NoNewPrivs"] == "1"
    assert set(capabilities(m, pid).values()) == {0}


def keys_of(files):
    """How much memory the server locks for so many descriptors."""
    size = 4 << 20
    while size < 128 << 20 and size // 128 < files:
        size *= 2
    return size


def check_keys(m, pid, size):
    """As much memory is locked as is needed: nobody here has CAP_IPC_LOCK, so the limit lets them."""
    assert status(m, pid)["VmLck"] == f"{size >> 10} kB"
    assert limit(m, pid, "Max locked memory") >= size
    assert "may be swapped out" not in m.sh(f"journalctl --no-pager -o cat _PID={pid}", check=False)


def check_limits(m):
    """What the unit lets the server lock suffices for as many descriptors as it lets it have, also where this machine lets it have fewer."""
    files, memory = m.sh("systemctl show --value -p LimitNOFILE -p LimitMEMLOCK tunnel-server").split()
    assert int(memory) >= keys_of(int(files))


def check_no_dumps(m, pid):
    """The limit, and what holds without it: the kernel gives the files in /proc of who is not dumpable to root."""
    assert limit(m, pid, "Max core file size") == 0
    assert m.sh(f"stat -c %U /proc/{pid}/mem").strip() == "root"


def check_crash(m, pid):
    """No dump of the agent is left even where the limit, raised from outside, would allow one; and it comes back."""
    m.sh(f"prlimit --pid {pid} --core=unlimited && kill -ABRT {pid}")
    wait_for(lambda: main_pid(m, "tunnel-agent") not in ("0", pid), "systemd to start it again")
    said = m.journal("tunnel-agent")
    assert "code=killed, status=6/ABRT" in said and "dumped" not in said, said
    assert m.sh("ls -d /core*", check=False).startswith("ls:")
    connected(m)


# What a program tries in the unit's place. Outside of it others may do all of this, so it is the unit that refuses it.
PROBE = r"""
sub told { my ($what, $done) = @_; print "$what: ", ($done ? "done" : (sort grep { $!{$_} } keys %!)[0]), "\n"; }
told("chown", chown($<, $( + 0, $ARGV[0]));
told("priority", setpriority(0, 0, 19));
told("packets", socket(my $s, 17, 3, 0));
told("write", open(my $f, ">", "/srv/probe-$<"));
told("homes", opendir(my $h, "/home"));
told("processes", -e "/proc/1");
told("devices", -e "/dev/console");
"""
ALLOWED = {"chown": "done", "priority": "done", "packets": "EPERM", "write": "done", "homes": "done", "processes": "done", "devices": "done"}
REFUSED = {"chown": "EPERM", "priority": "EPERM", "packets": "EAFNOSUPPORT", "write": "EROFS", "homes": "EACCES", "processes": "ENOENT", "devices": "ENOENT"}


def probed(m, command):
    m.write("/usr/local/bin/probe", PROBE)
    m.sh("chmod 1777 /srv && rm -f /run/probe")
    m.sh(command)
    return dict(line.split(": ") for line in m.sh("cat /run/probe").splitlines())


def check_refuses(m, unit, user, folder):
    """The same program as that user, and as that unit."""
    assert probed(m, f"runuser -u {user} -- perl /usr/local/bin/probe {folder} >/run/probe") == ALLOWED
    drop_in = f"/run/systemd/system/{unit}.service.d/zz-probe.conf"
    program = f"Type=oneshot\nRestart=no\nExecStart=\nExecStart=perl /usr/local/bin/probe {folder}\nStandardOutput=file:/run/probe"
    m.sh(f"mkdir -p {drop_in.rpartition('/')[0]} && printf '[Service]\n{program}\n' >{drop_in} && systemctl daemon-reload")
    assert probed(m, f"systemctl restart {unit}") == REFUSED
    m.sh(f"rm {drop_in} && systemctl daemon-reload && systemctl reset-failed {unit} && systemctl restart {unit}")  # so many starts in so short a time count as a loop
    connected(m)


def check_server(m):
    pid = main_pid(m, "tunnel-server")
    check_sandboxed(m, pid, "tunnel")
    check_keys(m, pid, keys_of(limit(m, pid, "Max open files")))
    check_limits(m)
    check_no_dumps(m, pid)


def check_agent_of_root(m):
    """It has what the machine has, and so do sessions with logins; one that only forwards has given it up."""
    pid, machine = main_pid(m, "tunnel-agent"), capabilities(m, 1)
    assert capabilities(m, pid) == machine and machine["CapEff"]
    logins, stream = workers(m), Stream(m)
    (logins,) = workers(m) - logins
    forwards, forward = workers(m), Forward(m)
    (forwards,) = workers(m) - forwards
    for p, new_privileges in ((pid, "0"), (logins, "0"), (forwards, "1")):
        of = status(m, p)
        assert (of["Uid"].split()[0], of["NoNewPrivs"], filters(m, p)) == ("0", new_privileges, filters(m, 1))
        check_keys(m, p, OWN_KEYS)
        assert limit(m, p, "Max core file size") == 0
    assert capabilities(m, logins) == machine
    assert max(capabilities(m, forwards).values()) == KEPT & machine["CapBnd"] and capabilities(m, forwards)["CapBnd"] == KEPT
    check_crash(m, pid)
    stream.say()
    stream.end()
    forward.ask()
    forward.end()


class Forward:
    """A connection to the machine's Redis."""

    def __init__(self, m):
        self.p = m.popen("tunnel-cli start-session --target web-1 --to 127.0.0.1:6379")
        self.ask()

    def ask(self):
        self.p.stdin.write(b"PING\r\n")
        said = self.p.stdout.readline()
        assert said == b"+PONG\r\n", said

    def end(self):
        self.p.stdin.close()
        assert self.p.stdout.read() == b"" and self.p.wait() == 0


def forward_only(m):
    """By the drop-in's own words."""
    name = "tunnel-agent-forward-only.conf"
    m.sh("systemctl stop tunnel-agent; mkdir -p /etc/systemd/system/tunnel-agent.service.d")
    m.sh(f"cp /usr/share/tunnel/examples/{name} /etc/systemd/system/tunnel-agent.service.d/")
    for command in re.findall(r"(?m)^#   (.*)", (SOURCE / "etc/systemd" / name).read_text()):
        m.sh(command)
    edit(m, "/etc/tunnel/agent.conf", ('"ssh", ', ""))
    m.sh("systemctl daemon-reload && systemctl restart tunnel-agent")
    connected(m)


def check_agent_that_forwards(m):
    pid, forward = main_pid(m, "tunnel-agent"), Forward(m)
    (worker,) = workers(m)
    for p in (pid, worker):
        check_sandboxed(m, p, "tunnel-agent")
        check_keys(m, p, OWN_KEYS)
        check_no_dumps(m, p)
    forward.end()


def test_what_the_processes_may_do(machine):
    m = machine
    install(m, 1)
    set_up_server(m)
    set_up_agent(m)
    edit(m, "/etc/tunnel/agent.conf", ('[ "ssh" ]', '[ "ssh", "tcp:127.0.0.1:6379" ]'))
    m.sh("systemctl restart tunnel-agent && systemctl start redis-server")
    connected(m)
    check_server(m)
    check_agent_of_root(m)
    forward_only(m)
    check_agent_that_forwards(m)
    check_refuses(m, "tunnel-agent", "tunnel-agent", "/var/lib/tunnel-agent")
    check_refuses(m, "tunnel-server", "tunnel", "/var/lib/tunnel")


def use_redis(m, address):
    conf = m.path("/etc/tunnel/server.conf").read_text()
    store = f'store: {{ plugin = "store-redis"; address = "{address}"; user = "tunnel"; password_file = "/etc/tunnel/redis-password"; }};'
    m.write("/etc/tunnel/server.conf", re.sub(r"(?m)^store: .*", store, conf))
    m.sh("systemctl restart tunnel-server")
    assert active(m, "tunnel-server") == "active", m.journal("tunnel-server")
    assert "alice" in m.answer("tunnel-cli whoami")
    check_sandboxed(m, main_pid(m, "tunnel-server"), "tunnel")


def test_a_store_on_redis(machine):
    """By docs/store-redis.md, over TCP, and then over its socket, in the server's sandbox."""
    m = machine
    install(m, 1)
    set_up_server(m)
    (settings,), (rights,) = guide("The server", "", "docs/store-redis.md"), guide("Rights", "", "docs/store-redis.md")[:1]
    (group,), (over_socket,) = guide("Redis on the same machine", "sh", "docs/store-redis.md"), guide("Redis on the same machine", "", "docs/store-redis.md")
    with m.path("/etc/redis/redis.conf").open("a") as conf:
        conf.write("\n" + settings + rights.replace("PASSWORD", "s3cret") + over_socket)
    m.sh("umask 077 && printf s3cret >/etc/tunnel/redis-password && chown tunnel /etc/tunnel/redis-password")
    m.sh(f"systemctl restart redis-server && rm /var/lib/tunnel/tunnel.db* && {group}")
    use_redis(m, "127.0.0.1:6379")
    set_up_agent(m)
    assert login(m) == "root"
    use_redis(m, "/run/redis/redis-server.sock")
    connected(m)
    assert login(m) == "root"
    assert "records are whole" in m.answer("tunnel-cli verify-audit")
    assert not m.path("/var/lib/tunnel/tunnel.db").exists()
