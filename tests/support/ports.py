"""Ports for servers of tests."""

import random
import socket


def free_port():
    """Below the range from which outgoing connections have theirs: a server that is killed finds it free again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low = int(f.read().split()[0])
    while True:
        port = random.randrange(max(1024, low - 20000), low)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
