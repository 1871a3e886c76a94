"""Memory and file descriptors of the product's processes while all goes on; and the dead of others, which fall to us."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SETTLED = 5  # samples before the first that counts
CURVE = 40  # samples of the longest life that the JSON shows: fds, MiB


def adopt_orphans():
    """From now on whoever loses its parent becomes our child, so nothing can be left over unseen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children():
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += [int(k) for k in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


def bury(known):
    """Takes the exit codes of dead children that nobody else waits for."""
    for pid in children():
        if pid not in known and state_of(pid) == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def kill_children(but):
    """Ends all that is left, the orphans that come to us meanwhile too."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        left = [p for p in children() if p not in but]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def usage(pid):
    """(file descriptors, KiB of memory), or None when it is gone."""
    try:
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return fds, int(line.split()[1])
    except OSError:
        pass
    return None


class Watch(threading.Thread):
    """processes(): name -> pid, asked at each sample. A name may get other pids in turn (restarts)."""

    def __init__(self, processes, known, every=1.0):
        super().__init__(daemon=True)
        self.processes, self.known, self.every = processes, known, every
        self.samples, self.over = {}, threading.Event()

    def run(self):
        while not self.over.wait(self.every):
            bury(self.known())
            for name, pid in self.processes().items():
                seen = usage(pid)
                if seen:
                    self.samples.setdefault(name, {}).setdefault(pid, []).append(seen)

    def stop(self):
        self.over.set()
        self.join()

    def growth(self):
        rows = []
        for name, lives in sorted(self.samples.items()):
            every = [s for samples in lives.values() for s in samples]
            life = max(lives.values(), key=len)
            first, last = life[min(SETTLED, len(life) - 1)], life[-1]
            rows.append({
                "process": name, "lives": len(lives),
                "fds": [first[0], last[0], max(s[0] for s in every)],
                "curve": [[n, round(kib / 1024, 1)] for n, kib in life[:: max(1, len(life) // CURVE)]],
                "mib": [first[1] / 1024, last[1] / 1024, max(s[1] for s in every) / 1024],
            })  # fmt: skip
        return rows
