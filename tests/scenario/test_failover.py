"""A node of a cluster is killed: how long until its sessions flow again elsewhere.
TUNNEL_FAILOVER_ROUNDS, TUNNEL_FAILOVER_SESSIONS, TUNNEL_FAILOVER_SETTLES (seconds between two deaths) and
TUNNEL_FAILOVER_REPORT=FILE make a measurement of it."""

import json
import os
import shutil
import socket
import threading
import time

import pytest
from cluster import Cluster
from harness import LIMIT, TcpServer, echo_until_eof, wait_for
from test_cluster import home, kill

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
ROUNDS = int(os.environ.get("TUNNEL_FAILOVER_ROUNDS", "2"))
SETTLES = float(os.environ.get("TUNNEL_FAILOVER_SETTLES", "0"))
SESSIONS = int(os.environ.get("TUNNEL_FAILOVER_SESSIONS", "5"))


class Pinger(threading.Thread):
    """Sends a number, waits for it to come back, and so on; knows when the last one that was sent behind a moment came."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.c = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.sent_at = self.back_at = 0.0
        self.broken = None
        self.over = False

    def run(self):
        n = 0
        try:
            while not self.over:
                n += 1
                what = n.to_bytes(8, "big")
                sent_at = time.monotonic()
                self.c.sendall(what)
                got = b""
                while len(got) < 8:
                    part = self.c.recv(8 - len(got))
                    assert part, "the connection ended"
                    got += part
                assert got == what, "lost or twice"
                self.sent_at, self.back_at = sent_at, time.monotonic()
                time.sleep(0.005)
        except (OSError, AssertionError) as e:
            self.broken = e

    def back_since(self, moment):
        assert self.broken is None, self.broken
        return self.back_at if self.sent_at >= moment else None

    def first_back_since(self, moment):
        """When something first came back behind that moment; what was under way at it counts, if it came later."""
        assert self.broken is None, self.broken
        return self.back_at if self.back_at > moment else None


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p / 100 * len(values)))]


def test_its_sessions_flow_again(folder):
    cluster = Cluster(folder)
    pingers, took = [], []
    try:
        cluster.start_server()
        cluster.start_agent()
        echo = TcpServer(echo_until_eof)
        for _ in range(SESSIONS):
            _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
            pingers.append(Pinger(port))
            pingers[-1].start()
        for _ in range(ROUNDS):
            node = home(cluster)
            started = time.monotonic()
            wait_for(lambda: all(p.back_since(started) for p in pingers), "all to flow")
            time.sleep(SETTLES)  # an agent that is thrown out again and again takes its time
            kill(node)
            killed = time.monotonic()
            first = {}

            def all_back():
                for p in pingers:
                    if p not in first and (at := p.first_back_since(killed + 0.002)):
                        first[p] = at
                return len(first) == len(pingers)

            wait_for(all_back, "all to flow again", every=0.002)
            took += [at - killed for at in first.values()]
            node.start_server()
        figures = {p: round(1000 * percentile(took, p)) for p in (50, 99, 100)}
        text = {"sessions": SESSIONS, "rounds": ROUNDS, "ms": figures}
        if report := os.environ.get("TUNNEL_FAILOVER_REPORT"):
            with open(report, "w") as f:
                json.dump(text, f)
    finally:
        for p in pingers:
            p.over = True
        cluster.close()
