"""Upgrades, and agents' connections. Run once for each of the two transports. See harness.main for the arguments."""

import asyncio
import json
import time

from harness import LIMIT, Server, closed, main, run


def test_upgrade_of_wrong_form():
    with Server() as s:
        base = {
            "Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": "Bearer client", "DPoP": "p",
            "Sec-WebSocket-Protocol": "tunnel.leg.v1",
        }

        def status(path="/v1/sessions/s-1/leg", method="GET", **change):
            headers = {**base, **{k.replace("_", "-"): v for k, v in change.items()}}
            with s.raw() as c:
                c.sendall((f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items() if v) + "\r\n").encode())
                first = c.recv(65536).decode(errors="replace")
                code = int(first.split()[1]) if first else 0
                assert code == 101 or "application/problem+json" in first, first
                return code

        assert status() == 101
        assert status(Authorization=None) == 401
        assert status(Authorization="Basic eA==") == 401
        assert status(DPoP=None) == 401
        assert status(Host=None) == 400
        assert status(Sec_WebSocket_Protocol=None) == 400
        assert status(Sec_WebSocket_Protocol="tunnel.control.v1") == 400
        assert status(Sec_WebSocket_Protocol="tunnel.control.v1, tunnel.leg.v1") == 400
        assert status(Sec_WebSocket_Version="8") == 400
        assert status(Sec_WebSocket_Key=None) == 400
        assert status(Connection="keep-alive") == 400
        assert status(method="POST") == 400
        assert status(path="/v1/other") == 404
        assert status(path="/v1/sessions/../leg") == 404
        assert status(path="/v1/agent") == 400
        assert status(path="/v1/agent", Sec_WebSocket_Protocol="tunnel.control.v1", DPoP=None) == 101
        assert status(path="/v1/agent", Sec_WebSocket_Protocol="tunnel.control.v1", Authorization=None) == 401


# ---- control connections ----


async def case_agent(s):
    async with s.agent("web-1") as a:
        # Slow ones among them: order holds, and each is answered.
        for i in range(60):
            await a.send("sleep 20" if i % 20 == 0 else f"m{i}")
        got = [await asyncio.wait_for(a.recv(), LIMIT) for _ in range(60)]
        assert got == ["sleep 20" if i % 20 == 0 else f"m{i}" for i in range(60)], got
        await a.send("x" * 262144)
        assert await s.line("text web-1") == "text web-1 len=262144"
        await a.send("close 4001")
        assert (await closed(a))[0] == 4001
    await s.line("agent-closed web-1 closed by the test")


def test_agent_messages():
    with Server(workers=3) as s:
        run(case_agent(s))


async def case_agent_refused(s):
    for code in (4401, 4402, 4403, 4503):
        a = await s.agent(f"refuse-{code}")
        if code == 4402:
            m = json.loads(await asyncio.wait_for(a.recv(), LIMIT))
            assert m == {"type": "clock", "now_ms": m["now_ms"]} and abs(m["now_ms"] / 1000 - time.time()) < LIMIT
        assert await closed(a) == (code, "refused by the test")
    a = await s.agent("web-1")
    await a.send(b"binary")
    assert (await closed(a))[0] == 4008
    a = await s.agent("web-2")
    await a.send("x" * 262145)
    assert (await closed(a))[0] == 4008
    a = await s.agent("web-3")
    await a.send("hello")
    await a.recv()
    await a.close()
    await s.line("agent-closed web-3")
    assert not any(x.startswith("agent-closed refuse") for x in s.lines)


def masked(text):
    """A client's text frame with mask 0."""
    data = text.encode()
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def test_agent_messages_in_one_record():
    """More messages than are worked on at once, in one TLS record larger than what is read at once."""
    with Server(workers=1, reactors=1) as s:
        with s.raw() as tls:
            tls.sendall(
                b"GET /v1/agent HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Protocol: tunnel.control.v1\r\nAuthorization: Bearer web-1\r\n\r\n"
            )
            got = b""
            while b"\r\n\r\n" not in got:
                got += tls.recv(4096)
            got = got.split(b"\r\n\r\n", 1)[1]
            words = [f"m{i:04}" for i in range(1400)]
            tls.sendall(b"".join(masked(w) for w in words))
            want = b"".join(b"\x81\x05" + w.encode() for w in words)
            while len(got) < len(want):
                more = tls.recv(65536)
                assert more, got[-100:]
                got += more
            assert got == want


def test_agent_refused():
    with Server() as s:
        run(case_agent_refused(s))


main(globals())
