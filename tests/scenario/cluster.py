"""Several nodes on one Redis, for tests of a fleet."""

import json
import socket
import subprocess

from harness import Proc, Stack, free_port, wait_for


class Redis:
    """Keeps every answered write; killed and started again on the same files."""

    def __init__(self, folder, *options):
        self.folder, self.options, self.proc = folder, options, None
        folder.mkdir()
        self.path = folder / "redis.sock"
        self.start()

    def start(self):
        self.path.unlink(missing_ok=True)
        args = ["redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.folder, "--save", "", "--appendonly", "yes",
                "--appendfsync", "always", *self.options]
        self.proc = Proc(args, self.folder / "redis.log")
        wait_for(self.answers, "redis to answer")

    def answers(self):
        assert self.proc.alive(), self.proc.text()
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(self.path))
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def cli(self, *args):
        return subprocess.run(["redis-cli", "-s", self.path, *args], capture_output=True, text=True, check=True).stdout

    def option(self):
        return f'address = "{self.path}";'

    def kill(self):
        self.proc.kill()
        self.proc.p.wait()

    def close(self):
        self.kill()


class Node(Stack):
    """One server of a fleet; as a Stack it is a client that talks to this node alone."""

    def __init__(self, fleet, name, conf):
        super().__init__(fleet.folder / name, conf=conf, address=fleet.address)
        self.fleet, self.node, self.ca_key = fleet, name, f"{fleet.folder}/ssh_ca"
        for file in ("ca.pem", "server.pem", "server.key"):
            (self.folder / "tls" / file).unlink()
            (self.folder / "tls" / file).symlink_to(fleet.folder / "tls" / file)
        self.key_id, self.secret = fleet.key_id, fleet.secret

    def place(self, role, args):
        return self.fleet.place(role, args)

    def urls(self):
        return self.fleet.urls()

    def store(self):
        return f'plugin = "store-redis"; {self.fleet.redis.option()}'

    def write_profile(self, name="default", extra=None):
        every, self.urls = self.urls, lambda: json.dumps([self.url])
        super().write_profile(name, extra)
        self.urls = every


class Fleet:
    """What a Stack becomes whose server is several nodes; as a client it knows them all."""

    def make_nodes(self, count, conf="", redis=None):
        self.redis = redis or Redis(self.folder / "redis")
        self.nodes = {}
        for i in range(1, count + 1):
            (self.folder / f"node-{i}").mkdir()
            self.nodes[f"node-{i}"] = Node(self, f"node-{i}", conf)

    def urls(self):
        return json.dumps([n.url for n in self.nodes.values()])

    def start_server(self):
        self.write_profile()
        for node in self.nodes.values():
            node.start_server()
        wait_for(lambda: all(len(n.json("list-nodes")) == len(self.nodes) for n in self.nodes.values()), "the nodes to see each other")
        return self

    def others(self, node):
        return [n for n in self.nodes.values() if n is not node]

    def tails(self):
        return "\n".join([super().tails(), *(n.tails() for n in self.nodes.values())])

    def close(self):
        super().close()
        for node in self.nodes.values():
            node.close()
        self.redis.close()


class Cluster(Fleet, Stack):
    def __init__(self, folder, count=3, conf=""):
        super().__init__(folder)
        self.make_nodes(count, conf)
