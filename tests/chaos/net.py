"""The network that faults hit: namespaces with veth pairs and nft rules (root), or a proxy of ours in user space.

Both know the same words. A leg is "client" or "target"; a way is "up" (to the relay) or "down".
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import sockets

HERE = Path(__file__).resolve().parent
CHAIN = "add table inet chaos\nadd chain inet chaos in { type filter hook prerouting priority raw; }\n"


def why_no_netns():
    """None when namespaces can be used here, else the reason."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "nft", "nsenter"):
        if not shutil.which(tool):
            return f"no {tool}"
    name = f"tcx{os.getpid()}"
    r = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if r.returncode == 0:
        r = subprocess.run(["nsenter", f"--net=/run/netns/{name}", "nft", "-f", "-"], input=CHAIN, capture_output=True, text=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return r.stderr.strip().split("\n")[0] or "no namespaces" if r.returncode else None


class NetNs:
    """Three namespaces: the client's with two uplinks (one is up), the target's, the server's.

    What is dropped is dropped where it arrives, so the sender learns nothing.
    """

    mode, address = "netns", "10.77.0.1"

    def __init__(self):
        self.lock, self.holes, self.uplink, self.port = threading.Lock(), [], 0, None
        self.ns = {role: f"tc{os.getpid()}{role[0]}" for role in ("client", "target", "server")}
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        for name in self.ns.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.ns["server"], "addr", "add", f"{self.address}/32", "dev", "lo")
        for number, (role, link) in enumerate((("client", "up0"), ("client", "up1"), ("target", "up0")), 1):
            here, there = f"{role[0]}{number}", self.ns["server"]
            run("ip", "link", "add", here, "netns", there, "type", "veth", "peer", "name", link, "netns", self.ns[role])
            self.ip("server", f"addr add 10.77.{number}.1/24 dev {here}", f"link set {here} up")
        self.ip("client", *self.uplink_on(0))
        self.ip("target", "link set up0 up", "addr add 10.77.3.2/24 dev up0", "route add default via 10.77.3.1")
        for role in self.ns:
            self.nft(role, CHAIN)

    def uplink_on(self, n):
        net = f"10.77.{n + 1}"
        return [f"link set up{n} up", f"addr add {net}.2/24 dev up{n}", f"route add default via {net}.1"]

    def prefix(self, role):
        return ["nsenter", f"--net=/run/netns/{self.ns[role]}"]

    def ip(self, role, *lines):
        subprocess.run(["ip", "-n", self.ns[role], "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def nft(self, role, text):
        subprocess.run([*self.prefix(role), "nft", "-f", "-"], input=text, text=True, check=True)

    def attach(self, stack):
        self.port = stack.port
        self.ports = {stack.port}  # of relays

    def set_clients(self, pids):
        pass

    def cut(self, pids, how):
        return sum(sockets.cut(pid, self.ports, how) for pid in pids)

    def hole(self, legs, ways):
        key = [(leg, way) for leg in legs for way in ways]
        with self.lock:
            self.holes.append(key)
            self.apply()
        return key

    def heal(self, key):
        with self.lock:
            self.holes.remove(key)
            self.apply()

    def apply(self):
        now = {spot for key in self.holes for spot in key}
        rules = {"server": [], "client": [], "target": []}
        for leg, way in now:
            at, link = ("server", f'"{leg[0]}*"') if way == "up" else (leg, '"up*"')
            rules[at].append(f"add rule inet chaos in iifname {link} drop\n")
        for role, lines in rules.items():
            self.nft(role, "flush chain inet chaos in\n" + "".join(lines))

    def roam(self, while_gone):
        """The client's address and route go away, and others come."""
        with self.lock:
            old, self.uplink = self.uplink, 1 - self.uplink
            self.ip("client", f"addr flush dev up{old}", f"link set up{old} down")
        while_gone()
        self.ip("client", *self.uplink_on(self.uplink))

    def leftovers(self):
        pids = set()
        for name in self.ns.values():
            r = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            pids |= {int(p) for p in r.stdout.split()}
        return pids

    def close(self):
        for name in self.ns.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class ProxyNet:
    """Both legs go through one process of ours; it tells them apart by the process that opened them."""

    mode, address = "proxy", "127.0.0.1"

    def __init__(self):
        self.p, self.lock = None, threading.Lock()

    def prefix(self, role):
        return []

    def attach(self, stack):
        self.p = subprocess.Popen(
            [sys.executable, str(HERE / "proxy.py"), str(stack.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = json.loads(self.p.stdout.readline())["port"]

    def ask(self, **command):
        with self.lock:
            self.p.stdin.write(json.dumps(command) + "\n")
            self.p.stdin.flush()
            return json.loads(self.p.stdout.readline())["n"]

    def set_clients(self, pids):
        self.ask(do="clients", pids=pids)

    def cut(self, pids, how):
        ports = [local for pid in pids for local, _ in sockets.connections(pid, {self.port})]
        return self.ask(do="cut", ports=ports, how=how)

    def hole(self, legs, ways):
        key = [(leg, way) for leg in legs for way in ways]
        for leg, way in key:
            self.ask(do="hole", leg=leg, way=way, on=True)
        return key

    def heal(self, key):
        for leg, way in key:
            self.ask(do="hole", leg=leg, way=way, on=False)

    def roam(self, while_gone):
        """The old address is lost at once; until the new one comes, nothing of the client passes."""
        key = self.hole(["client"], ["up", "down"])
        self.ask(do="roam")
        while_gone()
        self.ask(do="roam")
        self.heal(key)

    def leftovers(self):
        return set()

    def close(self):
        if self.p:
            self.p.stdin.close()
            self.p.wait(20)


def run(*args):
    subprocess.run(args, check=True)
