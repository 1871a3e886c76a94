"""A Redis master with two replicas, and three Sentinels that name another master when it dies."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scenario"))

from harness import Proc, free_port, wait_for  # noqa: E402

NAME = "main"
SERVER = """bind 127.0.0.1
port {port}
dir {folder}
save ""
appendonly yes
appendfsync always
repl-diskless-sync-delay 0
"""
SENTINEL = """port {port}
dir {folder}
sentinel monitor main 127.0.0.1 {master} 2
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 10000
"""
SETTLE_S = 90  # a server that was away longer than down-after is made a replica by the Sentinels, and copies everything


class Member:
    """A redis-server or a Sentinel in a folder of its own; Redis keeps in its file whose replica it is."""

    def __init__(self, prefix, folder):
        self.prefix, self.folder, self.port, self.proc = prefix, folder, free_port(), None
        folder.mkdir()

    def configure(self, template, **values):
        (self.folder / "redis.conf").write_text(template.format(port=self.port, folder=self.folder, **values))

    def start(self, *options):
        self.proc = Proc([*self.prefix, "redis-server", self.folder / "redis.conf", *options], self.folder / "redis.log")
        wait_for(lambda: "PONG" in self.ask("ping"), f"{self.folder.name} to answer")

    def ask(self, *words):
        assert self.proc.alive(), self.proc.text()[-2000:]
        return subprocess.run([*self.prefix, "redis-cli", "-p", str(self.port), *words], capture_output=True, text=True).stdout

    def kill(self):
        self.proc.kill()
        self.proc.p.wait()


class RedisFleet:
    """Where one redis-server would do for the nodes: option() for their configuration, kill() and start() for whoever is master."""

    def __init__(self, folder, prefix):
        folder.mkdir()
        self.down = None
        self.servers = [Member(prefix, folder / f"redis-{n}") for n in (1, 2, 3)]
        self.sentinels = [Member(prefix, folder / f"sentinel-{n}") for n in (1, 2, 3)]
        first = self.servers[0].port
        for s in self.servers:
            s.configure(SERVER if s.port == first else f"{SERVER}replicaof 127.0.0.1 {first}\n")
            s.start()
        for s in self.sentinels:
            s.configure(SENTINEL, master=first)
            s.start("--sentinel")
        self.settle()

    def option(self):
        """All replicas are waited for: docs/store-redis.md says what is lost with fewer."""
        names = ", ".join(f'"127.0.0.1:{s.port}"' for s in self.sentinels)
        return f'sentinels = [ {names} ]; master_name = "{NAME}"; wait_replicas = 2;'

    def master(self):
        """Whom the Sentinels name, when they agree."""
        said = {s.ask("sentinel", "get-master-addr-by-name", NAME).split()[-1] for s in self.sentinels}
        return next((s for s in self.servers if {str(s.port)} == said), None)

    def whole(self):
        """One master, and everybody else follows it and has all that it has."""
        master = self.master()
        if not master or not master.proc.alive():
            return False
        followers = [s for s in self.servers if s is not master]
        links = [s.ask("info", "replication") for s in followers]
        known = all("slaves=2,sentinels=3" in s.ask("info", "sentinel") for s in self.sentinels)
        return known and all(f"master_port:{master.port}\n" in i.replace("\r", "") and "master_link_status:up" in i for i in links)

    def settle(self):
        wait_for(self.whole, "Redis to be whole", SETTLE_S, 0.1)

    def kill(self):
        self.down = wait_for(self.master, "the Sentinels to agree who is the master")
        self.down.kill()

    def await_succession(self):
        """Until another one has the place of the one that was killed."""
        wait_for(lambda: self.master() not in (None, self.down), "the Sentinels to name another master", SETTLE_S, 0.05)

    def start(self):
        self.down.start()

    def close(self):
        for member in (*self.sentinels, *self.servers):
            if member.proc and member.proc.alive():
                member.kill()
