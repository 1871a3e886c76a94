"""A fresh Debian that boots under its own systemd, in a container without a network: debootstrap makes it once, each test
gets a copy. Needs root."""

import os
import shutil
import subprocess
import time
from pathlib import Path

MIRROR = os.environ.get("TUNNEL_DEBIAN_MIRROR", "http://deb.debian.org/debian")
INCLUDE = "systemd,systemd-sysv,dbus,ca-certificates,openssl,procps"
LIMIT = 180
# What a machine writes by itself while it runs, and what apt and dpkg keep of whatever was done.
VOLATILE = ("proc", "sys", "dev", "run", "tmp", "debs", "src", "root/.cache", "var/log", "var/tmp", "var/cache", "var/lib/apt",
            "var/lib/dpkg", "var/lib/systemd", "var/lib/private", "etc/machine-id", "etc/.pwd.lock")
BACKUPS = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}


def wait_for(condition, what, limit=LIMIT):
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit} s for {what}")
        time.sleep(0.05)


def run(*args, check=True, stderr=subprocess.STDOUT, **kw):
    r = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace", **kw)
    assert r.returncode == 0 or not check, f"{' '.join(map(str, args))} exits with {r.returncode}:\n{r.stdout[-6000:]}{(r.stderr or '')[-6000:]}"
    return r.stdout


def base(folder, release):
    """The fresh system that copies are made of."""
    root = folder / release
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        run("debootstrap", "--variant=minbase", f"--include={INCLUDE}", release, root / "root", MIRROR)
        (root / "made").touch()
    return root / "root"


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-a", "--reflink=auto", source, target)
    return target


def chroot(root, command, *binds):
    """Runs a command there with our network, without booting: installs what is needed, builds."""
    flags = [f"--bind={b}" for b in binds]
    return run("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "--setenv=DEBIAN_FRONTEND=noninteractive",
               "-D", root, *flags, "/bin/sh", "-c", command)


class Machine:
    """A copy that is booted. As on a machine of one's own, memory may be locked."""

    def __init__(self, root):
        self.root = root
        self.log = open(f"{root}.log", "wb")
        self.p = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--private-network", "--link-journal=no",
             "--system-call-filter=@memlock", "-D", root],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        self.leader = wait_for(self.find_leader, "the container")
        wait_for(lambda: self.sh("systemctl is-system-running", check=False).strip() in ("running", "degraded"), "the machine to be up")

    def find_leader(self):
        assert self.p.poll() is None, Path(self.log.name).read_text(errors="replace")[-3000:]
        text = Path(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read_text().split()
        return text[0] if text and Path(f"/proc/{text[0]}/root/run/systemd/private").exists() else None

    def command(self, command):
        return ["nsenter", "-t", self.leader, "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", command]

    def sh(self, command, check=True):
        return run(*self.command(command), check=check)

    def answer(self, command):
        """What it writes to stdout alone, without what it tells a person on the way."""
        return run(*self.command(command), stderr=subprocess.PIPE)

    def popen(self, command):
        return subprocess.Popen(self.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def path(self, name):
        return self.root / name.lstrip("/")

    def write(self, name, text, mode=0o644):
        self.path(name).write_text(text)
        self.path(name).chmod(mode)

    def files(self):
        """Every file with its kind, owner and mode, but for what changes by itself."""
        found = {}
        for folder, names, files in os.walk(self.root):
            at = os.path.relpath(folder, self.root)
            at = "" if at == "." else at + "/"
            names[:] = [n for n in names if at + n not in VOLATILE]
            for n in names + files:
                if at + n not in VOLATILE and at + n not in BACKUPS:
                    st = os.lstat(os.path.join(folder, n))
                    found[at + n] = (oct(st.st_mode), st.st_uid, st.st_gid)
        return found

    def journal(self, unit):
        return self.sh(f"journalctl --no-pager -o cat -u {unit} | tail -n 40", check=False)

    def off(self):
        self.p.terminate()
        try:
            self.p.wait(30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        self.log.close()
