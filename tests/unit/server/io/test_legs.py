"""Legs: pairing, replacement, signals, back-pressure. See harness.main for the arguments."""

import asyncio
import hashlib
import os
import time

from websockets.exceptions import ConnectionClosed

from harness import LIMIT, Server, attached, closed, main, mute_leg, pair, ready, run, take, text


class Elsewhere(Exception):
    """The legs are not on the reactors that were hoped for: a stranger's connection came between them."""


async def case_pairing(s, reactors):
    c, t = await pair(s)
    if s.reactors() != reactors:
        raise Elsewhere
    await c.send(b"up")
    assert await take(t, 2) == b"up"
    await t.send(b"down")
    assert await take(c, 4) == b"down"
    assert s.ask("info s-1", "info") .startswith("info 1 client=1 target=1 up=")
    await t.close()
    assert await text(c) == {"type": "unpaired"}
    assert (await s.line("detached s-1 target")) 
    t = await attached(await s.leg("s-1", "target"))
    assert await text(c) == {"type": "paired", "epoch": 2}
    assert await text(t) == {"type": "paired", "epoch": 2}
    # Bytes of either before its ready go nowhere; after it they arrive.
    await c.send(b"old")
    await t.send(b"old too")
    await c.send('{"type":"ready","epoch":1}')
    await c.send(b"still old")
    await c.send('{"type":"ready","epoch":2}')
    await c.send(b"new")
    assert await take(t, 3) == b"new"
    await t.send('{"type":"ready","epoch":2,"later":true}')
    await t.send(b"newer")
    assert await take(c, 5) == b"newer"
    await c.close()
    assert await text(t) == {"type": "unpaired"}
    await s.line("bye s-1")
    m = await text(t)
    assert m == {"type": "closing", "code": 4000, "reason": "the session was ended by its client", "retry": False}, m
    assert (await closed(t))[0] == 4000
    assert (await s.line("paired s-1 2"))
    kinds = [x.split(" ")[0] + " " + x.split(" ")[2] for x in s.lines if x.split(" ")[0] in ("attached", "detached", "paired")]
    assert kinds[:3] == ["attached client", "attached target", "paired 1"], kinds
    await s.line("detached s-1 target", 2)
    s.tell("forget s-1")
    assert s.ask("info s-1", "info").startswith("info 0")


def test_pairing_across_reactors():
    for last in (False, False, False, True):
        try:
            with Server(reactors=2) as s:
                return run(case_pairing(s, {0, 1}))
        except Elsewhere:
            assert not last


def test_pairing_on_one_reactor():
    with Server(reactors=1) as s:
        run(case_pairing(s, {0}))


async def case_replaced(s):
    c, t = await pair(s)
    c2 = await attached(await s.leg("s-1", "client"))
    m = await text(c)
    assert m["type"] == "closing" and m["code"] == 4001 and m["retry"] is False, m
    assert (await closed(c))[0] == 4001
    await ready(t, 2)
    await t.send(b"to the newer")
    await ready(c2, 2)
    await c2.send(b"from the newer")
    assert await take(t, 14) == b"from the newer"
    assert await take(c2, 12) == b"to the newer"
    await s.line("attached s-1 client", 2)
    order = [x for x in s.lines if x.startswith(("attached s-1 client", "detached s-1 client"))]
    assert [x.split()[0] for x in order] == ["attached", "detached", "attached"], order
    # The replaced connection's end is no second detach.
    await c2.close(4444)
    await s.line("detached s-1 client", 2)
    assert "bye s-1" not in s.lines


def test_replaced():
    with Server() as s:
        run(case_replaced(s))


async def case_renewed(s):
    """A newer generation: both old legs go, late ones are not let in, and the new ones are paired with each other."""
    text_2 = "the session was resumed by another client"
    c, t = await pair(s)
    s.tell("renew s-1 2")
    for ws in (c, t):
        while (m := await text(ws))["type"] != "closing":
            pass
        assert m == {"type": "closing", "code": 4001, "reason": text_2, "retry": False}, m
        assert await closed(ws) == (4001, text_2)
    c2 = await attached(await s.leg("s-1", "client-2"))
    late = await s.leg("s-1", "target-1")
    assert (await text(late))["code"] == 4001
    assert await closed(late) == (4001, text_2)
    await s.line("attached s-1 client", 2)
    assert not [x for x in s.lines if x.startswith("attached s-1 target")][1:]
    t2 = await attached(await s.leg("s-1", "target-2"))
    await ready(c2, 2)
    await ready(t2, 2)
    # A newer leg that comes before the word of it has the same effect.
    t3 = await attached(await s.leg("s-1", "target-3"))
    assert (await closed(c2))[0] == 4001 and (await closed(t2))[0] == 4001
    c3 = await attached(await s.leg("s-1", "client-3"))
    await ready(c3, 3)
    await ready(t3, 3)
    # Let in just before: the session of which nobody was here yet.
    s.tell("renew s-2 5")
    late = await s.leg("s-2", "client-4")
    assert (await text(late))["code"] == 4001
    # The bye of one that was replaced is none.
    assert not [x for x in s.lines if x.startswith("bye")]


def test_renewed():
    with Server(reactors=2) as s:
        asyncio.run(case_renewed(s))


async def case_comes_back(s):
    """A session that was let go, and is back before its last leg has gone: since when nobody is attached stays known."""
    c = await attached(await s.leg("s-1", "client"))
    s.tell("forget s-1")
    c2 = await attached(await s.leg("s-1", "client"))
    assert (await closed(c))[0] == 4001
    await c2.close()
    await s.line("detached s-1 client", 2)
    info = s.ask("info s-1", "info")
    assert info.startswith("info 1 client=0") and not info.endswith("detached=0"), info
    s.tell("forget s-1")
    assert s.ask("info s-1", "info").startswith("info 0")


def test_comes_back():
    with Server(reactors=2) as s:
        run(case_comes_back(s))


async def case_refused(s):
    for code in (4401, 4402, 4403, 4404, 4009, 4503):
        ws = await s.leg("s-1", f"slow-refuse-{code}")
        m = await text(ws)
        want = {"type": "closing", "code": code, "reason": "refused by the test", "retry": code in (4009, 4402, 4503)}
        if code == 4009:
            want["relay_url"] = "https://other:1"
        if code == 4402:
            assert abs(m["now_ms"] / 1000 - time.time()) < LIMIT
            want["now_ms"] = m["now_ms"]
        assert m == want, m
        assert await closed(ws) == (code, "refused by the test")
    # What is sent before `attached` is not taken before it.
    ws = await s.leg("s-1", "slow-client")
    await ws.send('{"type":"ready","epoch":9}')
    await attached(ws)
    assert (await text(ws))["code"] == 4008
    for bad in ("{", "[]", '{"type":"ready"}', '{"type":"ready","epoch":"1"}', "x" * 5000):
        ws = await attached(await s.leg("s-2", "client"))
        await ws.send(bad)
        m = await text(ws)
        assert m["type"] == "closing" and m["code"] == 4008, m
        assert (await closed(ws))[0] == 4008
    ws = await attached(await s.leg("s-2", "client"))
    await ws.send('{"type":"newer-than-this"}')
    s.tell("end s-2 4003")
    m = await text(ws)
    assert m == {"type": "closing", "code": 4003, "reason": "ended by the test", "retry": False}, m
    assert await closed(ws) == (4003, "ended by the test")
    # Gone while it was judged.
    ws = await s.leg("s-3", "slow-client")
    ws.transport.abort()
    await s.line("attach s-3")
    while s.ask("connections", "connections") != "connections 0":
        await asyncio.sleep(0.02)
    assert "client=0" in s.ask("info s-3", "info")


async def case_judged_late(s):
    ws = await s.leg("s-1", "hold-client")
    m = await text(ws)
    assert m["type"] == "closing" and m["code"] == 4503 and m["retry"], m
    assert (await closed(ws))[0] == 4503
    s.tell("release")
    await s.line("attach s-1")
    while s.ask("connections", "connections") != "connections 0":
        await asyncio.sleep(0.02)
    assert "client=0" in s.ask("info s-1", "info")


def test_judged_late():
    with Server(work_ms=300) as s:
        asyncio.run(case_judged_late(s))


async def case_notice(s):
    """Each foreseen end is told once to a leg, again when it has moved, and to the client alone."""
    c, t = await pair(s)
    for line in ("4005 1000", "4005 1001", "4004 5000", "4005 1000", "4006 2000", "4004 5000", "4005 1300", "4006 2000"):
        s.tell("notice s-1 " + line)
    want = [(4005, 1000), (4004, 5000), (4006, 2000), (4005, 1300)]
    for code, at_s in want:
        assert await text(c) == {"type": "notice", "code": code, "at_ms": at_s * 1000, "reason": "told by the test"}
    await t.send(b"on")
    assert await take(c, 2) == b"on"
    c2 = await attached(await s.leg("s-1", "client"))
    await ready(c2, 2)
    s.tell("notice s-1 4005 1300")
    assert (await text(c2))["at_ms"] == 1300000
    await ready(t, 2)
    await c2.send(b"back")
    assert await take(t, 4) == b"back"  # no notice came before it


def test_notice():
    with Server(reactors=2) as s:
        run(case_notice(s))


async def case_detached_since(s):
    """An end that comes and goes alone does not move the moment since when not both are there."""
    def since():
        return int(s.ask("info s-1", "info").split("detached=")[1])

    c, t = await pair(s)
    assert since() == 0
    await t.close()
    await s.line("detached s-1 target")
    first = since()
    assert first > 0
    for i in range(2):
        await asyncio.sleep(0.01)
        await c.close()
        await s.line("detached s-1 client", i + 1)
        c = await attached(await s.leg("s-1", "client"))
        assert since() == first
    await attached(await s.leg("s-1", "target"))
    assert since() == 0


def test_detached_since():
    with Server(reactors=2) as s:
        run(case_detached_since(s))


def test_leg_refused():
    with Server() as s:
        run(case_refused(s))


async def case_drain(s):
    c, t = await pair(s)
    s.tell("drain")
    for ws in (c, t):
        while True:
            m = await text(ws)
            if m["type"] == "closing":
                break
        assert m["code"] == 4002 and m["retry"] is True, m
        assert (await closed(ws))[0] == 4002
    ws = await attached(await s.leg("s-9", "client"))
    assert (await text(ws))["code"] == 4002
    assert (await closed(ws))[0] == 4002


def test_drain():
    with Server() as s:
        run(case_drain(s))


async def case_bulk(s, reactors):
    c, t = await pair(s)
    assert s.reactors() == reactors
    size, block = 100 * 1024 * 1024, os.urandom(1024 * 1024)

    async def send(ws):
        for _ in range(size // len(block)):
            await ws.send(block)

    async def receive(ws):
        h, n = hashlib.sha256(), 0
        while n < size:
            m = await asyncio.wait_for(ws.recv(), LIMIT)
            assert isinstance(m, bytes)
            h.update(m)
            n += len(m)
        assert n == size
        return h.hexdigest()

    want = hashlib.sha256()
    for _ in range(size // len(block)):
        want.update(block)
    sender = asyncio.create_task(send(c))
    assert await receive(t) == want.hexdigest()
    await sender


def test_bulk_across_reactors():
    with Server(reactors=2) as s:
        run(case_bulk(s, {0, 1}))


def test_bulk_on_one_reactor():
    with Server(reactors=1) as s:
        run(case_bulk(s, {0}))


async def case_back_pressure(s):
    target = mute_leg(s, "s-1", "target")
    await s.line("attached s-1 target")
    c = await attached(await s.leg("s-1", "client", write_limit=65536))
    await ready(c, 1)
    before, block, sent = s.rss(), os.urandom(65536), 0

    async def flood():
        nonlocal sent
        while True:
            await c.send(block)
            sent += len(block)
            await asyncio.sleep(0)  # a send that never waits would let nobody else run

    task = asyncio.create_task(flood())
    last, since = -1, time.monotonic()
    # It stops: kernel buffers on the way and the relay's 256 KiB are all that takes bytes.
    while time.monotonic() - since < 1.0:
        await asyncio.sleep(0.05)
        if sent != last:
            last, since = sent, time.monotonic()
    assert sent < 32 * 1024 * 1024, sent
    assert s.rss() - before < 16 * 1024 * 1024, (before, s.rss())
    # Nobody else is hurt.
    c2, t2 = await pair(s, "s-2")
    for i in range(50):
        await c2.send(b"ping%d" % i)
        assert (await take(t2, 5 + (i > 9)))[:4] == b"ping"
    cpu = s.cpu()
    await asyncio.sleep(1)
    assert s.cpu() - cpu < 0.5, "the loop turns while a leg is paused"
    # It does not last for ever: the leg that takes nothing is closed, and its peer is told.
    assert await text(c) == {"type": "unpaired"}
    task.cancel()
    target.close()
    await s.line("detached s-1 target")


def test_back_pressure():
    with Server(reactors=2) as s:
        run(case_back_pressure(s))


async def case_slow_reader(s):
    c, t = await pair(s)
    block, n = os.urandom(100000), 60

    async def send():
        for i in range(n):
            await c.send(block)

    task = asyncio.create_task(send())
    got = b""
    while len(got) < n * len(block):
        m = await asyncio.wait_for(t.recv(), LIMIT)
        got += m
        if len(got) % 7 == 0:
            await asyncio.sleep(0.02)
    assert got == block * n
    await task


def test_slow_reader_gets_everything():
    with Server(reactors=2) as s:
        run(case_slow_reader(s))


async def case_heartbeat(s):
    """A peer that is silent to pings is dropped within about 15 s; one that answers, or sends other things, stays."""
    busy = mute_leg(s, "s-3", "client")
    await s.line("attached s-3 client")
    mute = mute_leg(s, "s-1", "client")
    await s.line("attached s-1 client")
    ws = await attached(await s.leg("s-2", "client"))
    start = time.monotonic()
    dropped = asyncio.create_task(s.line("detached s-1 client"))
    while not (await asyncio.wait([dropped], timeout=1))[0]:
        busy.sendall(b"\x82\x81\0\0\0\0x")  # a binary message of one byte, its pong far behind
    assert time.monotonic() - start < LIMIT
    assert not [x for x in s.lines if x.startswith("detached s-3")]
    mute.close()
    busy.close()
    await ws.send('{"type":"ready","epoch":77}')
    assert (await text(ws))["code"] == 4008


def test_heartbeat():
    with Server() as s:
        run(case_heartbeat(s))


async def case_many_come_and_go(s):
    """Attach, pair, replace, lose: in all orders at once, while another pair moves bytes."""
    c, t = await pair(s)

    async def churn(i):
        for j in range(6):
            ws = await s.leg(f"s-x{i % 3}", "client" if (i + j) % 2 else "target")
            try:
                await ws.send('{"type":"ready","epoch":1}')
                await ws.send(b"z" * 5000)
                if j % 3 == 0:
                    ws.transport.abort()
                elif j % 3 == 1:
                    await ws.close()
            except ConnectionClosed:
                pass

    tasks = [asyncio.create_task(churn(i)) for i in range(8)]
    for i in range(200):
        await c.send(b"%05d" % i)
        assert await take(t, 5) == b"%05d" % i
    await asyncio.gather(*tasks)
    await c.close()
    await t.close()


def test_many_come_and_go():
    with Server(reactors=2) as s:
        run(case_many_come_and_go(s))


async def case_small_messages(s):
    """Small messages of bytes and large ones arrive whole and in order, whatever frames they share."""
    c, t = await pair(s)
    pieces = [bytes([i & 255]) * (i % 97 if i % 50 else 40000) for i in range(3000)]
    want = b"".join(pieces)

    async def send():
        for piece in pieces:
            await c.send(piece)

    task = asyncio.create_task(send())
    assert await take(t, len(want)) == want
    await task
    await c.close()
    await closed(t)


def test_small_messages_keep_their_order():
    with Server(reactors=2) as s:
        run(case_small_messages(s))


main(globals())
