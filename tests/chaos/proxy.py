#!/usr/bin/python3
"""The network between ends and relay, in user space: a TCP proxy whose legs can be cut, black-holed, and lost.

Commands are JSON lines on standard input, each answered by one on standard output:
  {"do": "clients", "pids": […]}                    connections of these processes are the client's leg, others the target's
  {"do": "cut", "ports": […], "how": "rst"|"fin"}   by the local port of the end
  {"do": "hole", "leg": …, "way": "up"|"down", "on": bool}   silence: nothing is read, nothing forwarded, no new connection made
  {"do": "roam"}                                    what the client has open now is silent for ever; new connections work
"""

import collections
import json
import select
import socket
import sys
import threading
import time

import sockets

PIECE = 1 << 16
KEEP_LOST_S = 60


class Link:
    def __init__(self, leg, end):
        self.leg, self.end, self.relay = leg, end, None
        self.port = end.getpeername()[1]
        self.lost = self.dead = False
        self.lost_at, self.open_ways = 0.0, 2


class Proxy:
    def __init__(self, to_port):
        self.to_port = to_port
        self.changed = threading.Condition()
        self.links, self.holes, self.clients = set(), collections.Counter(), []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        for run in (self.accept, self.bury_lost):
            threading.Thread(target=run, daemon=True).start()

    # -- connections

    def accept(self):
        while True:
            end, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(end,), daemon=True).start()

    def leg_of(self, port):
        inode = {local: i for local, _, i in sockets.established("self")}.get(port)
        return "client" if any(inode in sockets.inodes_of(pid) for pid in self.clients) else "target"

    def serve(self, end):
        try:
            link = Link(self.leg_of(end.getpeername()[1]), end)
        except OSError:
            return end.close()
        with self.changed:
            self.links.add(link)
        if not self.pass_gate(link, "up"):
            return self.drop(link)
        try:
            link.relay = socket.create_connection(("127.0.0.1", self.to_port))
        except OSError:
            return self.drop(link)
        for s in (link.end, link.relay):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.pump, args=(link, link.relay, link.end, "down"), daemon=True).start()
        self.pump(link, link.end, link.relay, "up")

    def pass_gate(self, link, way):
        """Waits while the way is black-holed; False when the link is no more."""
        with self.changed:
            self.changed.wait_for(lambda: link.dead or not (link.lost or self.holes[link.leg, way]))
            return not link.dead

    def pump(self, link, source, sink, way):
        try:
            while self.pass_gate(link, way):
                data = source.recv(PIECE)
                if not self.pass_gate(link, way):
                    break
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    break
                sink.sendall(data)
        except OSError:
            if self.pass_gate(link, way):
                self.drop(link)
        with self.changed:
            link.open_ways -= 1
            last = link.open_ways == 0
        if last:
            self.drop(link)
            for s in (link.end, link.relay):
                s.close()

    def drop(self, link):
        """Resets both sides. The pumps close them, so that no number is used again under their hands."""
        with self.changed:
            if link.dead:
                return
            link.dead = True
            self.links.discard(link)
            self.changed.notify_all()
        for s in (link.end, link.relay):
            if s and s.fileno() >= 0:
                sockets.reset(s.fileno())
        if not link.relay:
            link.end.close()

    def bury_lost(self):
        """A lost link is dropped when both ends have given it up."""
        while True:
            time.sleep(0.5)
            with self.changed:
                lost = [x for x in self.links if x.lost]
            for link in lost:
                if time.monotonic() - link.lost_at > KEEP_LOST_S or not link.relay or (gone(link.end) and gone(link.relay)):
                    self.drop(link)

    # -- commands

    def do_clients(self, pids):
        """Also of what is there already: a client is known only once it runs."""
        self.clients = pids
        with self.changed:
            links = list(self.links)
        legs = {link: self.leg_of(link.port) for link in links}
        with self.changed:
            for link, leg in legs.items():
                link.leg = leg
            self.changed.notify_all()

    def do_cut(self, ports, how):
        with self.changed:
            hit = [x for x in self.links if x.port in ports and x.relay and not x.lost]
        for link in hit:
            for s in (link.end, link.relay):
                try:
                    if how == "rst":
                        sockets.reset(s.fileno())
                    else:
                        s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        return len(hit)

    def do_hole(self, leg, way, on):
        with self.changed:
            self.holes[leg, way] += 1 if on else -1
            self.changed.notify_all()

    def do_roam(self):
        with self.changed:
            hit = [x for x in self.links if x.leg == "client" and not x.lost]
            for link in hit:
                link.lost, link.lost_at = True, time.monotonic()
        return len(hit)


def gone(s):
    """Has the other side of this connection closed or reset it?"""
    p = select.poll()
    p.register(s, select.POLLRDHUP)
    return bool(p.poll(0))


def main():
    proxy = Proxy(int(sys.argv[1]))
    print(json.dumps({"port": proxy.listener.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(proxy, "do_" + command.pop("do"))(**command)
        print(json.dumps({"n": answer}), flush=True)


if __name__ == "__main__":
    main()
