#!/usr/bin/python3
"""Plain ssh all day, as editors use it, while the relay is killed again and again; every byte is compared.

One server, one target, and an ssh with nothing but what `tunnel-cli ssh-config` writes:
  - an editor's connection: ssh -T -D, which starts a server process on the target; through -D two pulses, a download, an upload
    and short connections reach it, and in the end another ssh finds the same process
  - connections beside it that are sessions of their own, and channels of one ControlMaster, with a numbered line a second both ways
  - ssh commands, git and rsync now and then
The relay gets SIGKILL every --every seconds, as soon as everything has moved since the last time.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("scenario", "chaos", "soak"):
    sys.path.insert(0, str(HERE.parent / folder))

import activities as act  # noqa: E402
from harness import LineReader, Stack, free_port, send, wait_for  # noqa: E402
from plain_ssh import HOST, Ssh  # noqa: E402
from pulse import Wrong  # noqa: E402

FAR = f"/usr/bin/python3 {HERE}/far.py"
BACK_LIMIT = 180  # seconds until everything moves again; else it hangs


class Editor:
    """ssh -T -D and the process that it starts on the target, or finds there."""

    def __init__(self, ssh, folder):
        self.ssh, self.folder = ssh, folder
        folder.mkdir()
        self.connect_ssh()

    def connect_ssh(self):
        self.socks = free_port()
        self.p = self.ssh.popen("-T", "-D", self.socks, "-o", "ExitOnForwardFailure=yes", HOST, "sh", stderr=open(self.folder / "editor.err", "ab"))
        start = f"[ -e {self.folder}/server ] || setsid nohup {FAR} editor {self.folder} >{self.folder}/log 2>&1 </dev/null &\n"
        wait = f"while ! [ -e {self.folder}/server ]; do sleep 0.1; done; echo at $(cat {self.folder}/server); exec cat\n"
        self.p.stdin.write((start + wait).encode())
        self.p.stdin.flush()
        words = LineReader(self.p.stdout).wait("at ").split()
        self.port, self.pid = int(words[1]), int(words[2])

    def connect(self):
        return act.socks_connect(self.socks, self.port)

    def state(self):
        with self.connect() as c:
            c.sendall(b"state\n")
            return json.loads(b"".join(iter(lambda: c.recv(1 << 16), b"")))

    def found_again(self):
        """The connection is lost for good; another one finds the process that was there."""
        pid = self.pid
        self.p.kill()
        self.p.wait()
        self.connect_ssh()
        if self.pid != pid or self.state()["pid"] != pid:
            raise Wrong(f"the editor's server was {pid} and is {self.pid}")

    def close(self):
        send(signal.SIGKILL, [self.pid])
        self.p.stdin.close()


class Soak:
    def __init__(self, folder, options):
        self.o, self.folder = options, folder
        self.stack = Stack(folder)
        self.kills, self.back, self.editor, self.running = 0, [], None, []

    def begin(self):
        self.stack.start_server()
        self.stack.start_agent()
        ssh = Ssh(self.stack)
        master = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self.folder}/cm-%C", "-o", "ControlPersist=yes")
        self.stop_master = lambda: ssh(*master, "-O", "exit", HOST, check=False)
        self.editor = Editor(ssh, self.folder / "editor")
        files = act.Files(ssh, HOST, self.folder / "files", act.random_for(self.o.seed, "files"))
        rng = act.random_for(self.o.seed, "short")
        for n in range(2):
            self.add(act.SshPulse(f"parallel-{n}", ssh, HOST, f"exec {FAR} pulse"))
            self.add(act.SocksPulse(f"socks-pulse-{n}", self.editor.connect))
        for n in range(3):
            self.add(act.SshPulse(f"channel-{n}", ssh, HOST, f"exec {FAR} pulse", *master))
        self.download = self.add(act.Download("download", self.editor.connect, self.o.rate))
        self.add(act.Upload("upload", self.editor.connect, self.o.rate))
        self.add(act.Repeated("short", lambda n: act.echo_once(self.editor.connect, rng), 1))
        self.add(act.Repeated("command", lambda n: self.command(files, n), 5))
        self.add(act.Repeated("git", files.git, self.o.files_every))
        self.add(act.Repeated("rsync", files.rsync, self.o.files_every))
        self.sessions = self.live_sessions()

    def add(self, activity):
        self.running.append(activity.start())
        return activity

    @staticmethod
    def command(files, number):
        said = files.run("ssh", "-F", files.ssh.config, "-o", "BatchMode=yes", HOST, f"echo {number}")
        if said != f"{number}\n":
            raise Wrong(f"echo {number} says {said!r}")

    def live_sessions(self):
        """The ids of those that are to last: what the long connections are."""
        return {s["id"] for s in self.stack.json("list-sessions")}

    def trouble(self):
        return [f"{a.name}: {a.error or 'it ended'}" for a in self.running if a.error or not a.thread.is_alive()]

    def all_move(self, since):
        if self.trouble():
            raise Wrong("; ".join(self.trouble()))
        return all(a.steps > n for a, n in since.items())

    def moved(self, activities, what):
        since = {a: a.steps for a in activities}
        began = time.monotonic()
        wait_for(lambda: self.all_move(since), what, BACK_LIMIT, 0.05)
        return time.monotonic() - began

    def long_ones(self):
        return [a for a in self.running if not isinstance(a, act.Repeated)]

    def kill(self):
        self.stack.server.kill()
        self.stack.start_server()
        self.kills += 1
        self.back.append(round(self.moved(self.long_ones(), "all connections to move again"), 1))
        print(f"kill {self.kills}: all move again after {self.back[-1]} s; " + " ".join(f"{a.name} {a.steps}" for a in self.running), flush=True)

    def storm(self):
        began = time.monotonic()
        while not self.done(time.monotonic() - began):
            until = time.monotonic() + self.o.every
            self.moved(self.running, "everything to be done once")
            wait_for(lambda: self.all_move({}) and time.monotonic() >= until, "the next kill", self.o.every + BACK_LIMIT, 0.2)
            self.kill()
        self.moved(self.running, "everything to be done once")
        return round(time.monotonic() - began)

    def done(self, seconds):
        return self.kills >= self.o.kills if self.o.kills else seconds >= 60 * self.o.minutes

    def finish(self):
        for a in self.running:
            a.stop()
        for a in self.running:
            a.thread.join(BACK_LIMIT)
            if a.error or a.thread.is_alive():
                raise Wrong(f"{a.name}: {a.error or 'it does not end'}")
        sent = self.editor.state()["sent"]["download"]
        if sent != self.download.check.total:
            raise Wrong(f"download: {sent} bytes were sent, {self.download.check.total} came")
        self.editor.found_again()

    def run(self):
        self.begin()
        seconds = self.storm()
        self.finish()
        return {
            "seconds": seconds, "kills": self.kills, "back_s": self.back,
            "activities": {a.name: {"steps": a.steps, "longest_pause_s": round(a.longest_s, 1), "refused": getattr(a, "refused", 0)} for a in self.running},
        }

    def close(self):
        if self.editor:
            self.stop_master()
            self.editor.close()
        self.stack.close()


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=60, help="how long (default: %(default)s)")
    p.add_argument("--kills", type=int, default=0, help="end after so many instead")
    p.add_argument("--every", type=float, default=60, help="seconds between kills of the relay (default: %(default)s)")
    p.add_argument("--files-every", type=float, default=15, help="seconds between one git, or rsync, and the next (default: %(default)s)")
    p.add_argument("--rate", type=float, default=250_000, help="bytes a second of download and upload (default: %(default)s)")
    p.add_argument("--seed", default=str(os.getpid()), help="of sizes and contents")
    p.add_argument("--report", type=Path, help="a file for what was counted, JSON")
    return p.parse_args()


def main():
    o = options()
    folder = Path(tempfile.mkdtemp(prefix="ts-"))
    soak = Soak(folder, o)
    try:
        report = soak.run()
    except (Wrong, AssertionError, OSError) as e:
        print(f"seed {o.seed}: {e}\n{soak.stack.tails()}\nthe logs are in {folder}", file=sys.stderr)
        return 1
    finally:
        soak.close()
    shutil.rmtree(folder)
    print(json.dumps(report, indent=1))
    if o.report:
        o.report.write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
