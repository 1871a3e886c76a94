"""Where the parts of a way run: all on loopback, or the client's far away from relay and target."""

import os
import subprocess
from pathlib import Path

from harness import BUILD

DELAY = BUILD / "bench" / "tunnel-delay"


class Loopback:
    name, relay = "loopback", "127.0.0.1"

    def prefix(self, part):
        return []

    def close(self):
        pass


class Far:
    """Two namespaces, and between them a line of ours that holds each packet back. Needs root."""

    here, relay = "10.78.0.1", "10.78.0.2"

    def __init__(self, rtt_ms, loss_percent=0.0):
        self.name = f"{rtt_ms} ms" + (f", {loss_percent} % lost" if loss_percent else "")
        self.near, self.far = f"tb{os.getpid()}n", f"tb{os.getpid()}f"
        self.p = None
        try:
            self.build(rtt_ms, loss_percent)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def missing():
        """Why there is none, or None."""
        return "it needs root" if os.geteuid() != 0 else None if Path("/dev/net/tun").exists() else "there is no /dev/net/tun"

    def build(self, rtt_ms, loss_percent):
        for ns in (self.near, self.far):
            ip("netns", "add", ns)
            ip("-n", ns, "link", "set", "lo", "up")
        self.p = subprocess.Popen([DELAY, self.near, self.far, str(rtt_ms * 500), str(round(loss_percent * 10_000))], stdout=subprocess.PIPE)
        if not self.p.stdout.readline():
            raise RuntimeError("tunnel-delay does not start")
        for ns, own, other in ((self.near, self.here, self.relay), (self.far, self.relay, self.here)):
            ip("-n", ns, "addr", "add", own, "peer", other, "dev", "far0")
            ip("-n", ns, "link", "set", "far0", "up", "txqueuelen", "10000")

    def prefix(self, part):
        return ["nsenter", f"--net=/run/netns/{self.near if part == 'client' else self.far}"]

    def close(self):
        if self.p:
            self.p.kill()
            self.p.wait()
        for ns in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", ns], capture_output=True)


def ip(*args):
    subprocess.run(["ip", *args], check=True)
