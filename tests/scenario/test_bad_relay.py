"""A relay that means harm, between our two ends: every byte arrives as it was sent, or none does; both ends live on.

TUNNEL_ABUSE_SEEDS=40 tries so many seeds (one fits between the other tests); a failed one is repeated by its number with TUNNEL_ABUSE_SEED.
"""

import os
import random
import secrets
import socket
import threading

import pytest
from bad_relay import KINDS, BadRelay
from harness import LIMIT, Stack, TcpServer, echo_until_eof, wait_for

ONE = os.environ.get("TUNNEL_ABUSE_SEED")
SEEDS = [int(ONE)] if ONE else range(1, 1 + int(os.environ.get("TUNNEL_ABUSE_SEEDS", "1")))
BYTES = 3_000_000


@pytest.fixture
def world(folder):
    s = Stack(folder)
    try:
        yield s
    finally:
        s.close()


def stream(port, sent):
    """What comes back of what is sent, and what went wrong."""
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.settimeout(LIMIT)

        def send():
            for at in range(0, len(sent), 10000):
                s.sendall(sent[at : at + 10000])
            s.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while data := s.recv(65536):
            got += data
        sender.join(LIMIT)
    return bytes(got)


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_arrive_as_they_were_sent(world, seed):
    kinds = [k for k in KINDS if k != "withhold"] * 2
    random.Random(seed).shuffle(kinds)
    kinds.insert(len(kinds) // 2, "withhold")
    relay = BadRelay(world.folder / "tls", world.port, seed, kinds)
    world.relay_url = f"https://localhost:{relay.port}"
    world.start_server()
    world.start_agent()
    echo = TcpServer(echo_until_eof)
    p, (port,) = world.forward("web-1", f"127.0.0.1:{echo.port}")
    workers = wait_for(world.workers, "the session's worker")
    while relay.kinds:
        sent = secrets.token_bytes(BYTES // 10)
        got = stream(port, sent)
        assert got == sent, f"seed {seed}, after {relay.done}: {len(got)} bytes of {len(sent)} came back, or other ones"
        assert p.poll() is None and world.workers() == workers, f"seed {seed}, after {relay.done}: an end died"
    sent = secrets.token_bytes(BYTES)
    assert stream(port, sent) == sent
    assert sorted(relay.done) == sorted(kinds)
    p.terminate()
    assert p.wait(LIMIT) in (0, 143)
    wait_for(lambda: not world.workers(), "the worker to end")
    for log in (world.server.text(), world.agents["web-1"].proc.text(), "\n".join(p.lines.lines)):
        assert world.secret not in log and "Bearer " not in log
    relay.close()
    echo.close()
