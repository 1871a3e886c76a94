"""Legs that misbehave: storms, half-open ones, ones that never read. See harness.main for the arguments."""

import asyncio
import json
import os
import time

from websockets.exceptions import ConnectionClosed

from harness import LIMIT, Server, attached, closed, main, mute_leg, pair, ready, run, take, text


async def until(s, question, want):
    end = time.monotonic() + LIMIT
    while not (got := s.ask(question, question.split()[0])).startswith(want):
        assert time.monotonic() < end, got
        await asyncio.sleep(0.02)


async def contender(s, role, survivors):
    """Attaches and follows what the relay says; a survivor when nobody replaces it."""
    ws = await s.leg("s-1", role)
    survivors.add(ws)
    try:
        while True:
            m = await asyncio.wait_for(ws.recv(), 3 * LIMIT)
            if isinstance(m, str) and (m := json.loads(m))["type"] == "paired":
                await ws.send(json.dumps({"type": "ready", "epoch": m["epoch"]}))
            elif isinstance(m, bytes):
                return ws  # the test found it
    except ConnectionClosed:
        survivors.discard(ws)
        assert ws.close_code in (4001, 4444), (ws.close_code, ws.close_reason)  # 4444: by the test
        return None


async def case_storm(s):
    """Many ends of both roles at once, on two reactors: one of each role stays, the others are told that they were replaced."""
    many = 30
    for turn in range(1, 4):
        survivors = set()
        tasks = [asyncio.create_task(contender(s, role, survivors)) for _ in range(many) for role in ("client", "target")]
        await s.line("detached s-1", 2 * turn * many - 2)
        await until(s, "connections", "connections 2")
        while len(survivors) > 2:
            await asyncio.sleep(0.02)
        # The two that are left have each other: bytes of one reach the other.
        a, b = survivors
        while not any(t.done() and t.result() for t in tasks):
            for ws in (a, b):
                await ws.send(b"x")
            await asyncio.sleep(0.02)
        for ws in (a, b):
            await ws.close(4444)
        await s.line("detached s-1", 2 * turn * many)
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not [t for t in tasks if not t.cancelled() and t.exception()], tasks
        assert s.ask("info s-1", "info").startswith("info 1 client=0 target=0")
    s.tell("forget s-1")
    assert s.ask("info s-1", "info").startswith("info 0")
    assert s.reactors() == {0, 1}


def test_storm():
    with Server(reactors=2) as s:
        run(case_storm(s))


async def case_half_open(s):
    """A leg whose peer is gone without a word: a newer one has its place at once, and it does not stay."""
    c, t = await pair(s)
    await c.close(4444)
    gone = mute_leg(s, "s-1", "client")
    await s.line("attached s-1 client", 2)
    assert await text(t) == {"type": "unpaired"}
    assert await text(t) == {"type": "paired", "epoch": 2}
    c = await attached(await s.leg("s-1", "client"))
    await ready(c, 3)
    await ready(t, 3)
    await c.send(b"here")
    assert await take(t, 4) == b"here"
    await s.line("detached s-1 client replaced")
    await until(s, "connections", "connections 2")  # its close frame is never answered
    gone.close()
    # What was forgotten while legs were there goes with the last of them.
    s.tell("forget s-1")
    assert s.ask("info s-1", "info").startswith("info 1")
    await c.close(4444)
    await t.close(4444)
    await until(s, "info s-1", "info 0")


def test_half_open():
    with Server(reactors=2) as s:
        run(case_half_open(s))


async def talk(pairs, turns):
    """Each client asks, each target answers; the time it takes."""

    async def one(c, t):
        for i in range(turns):
            await c.send(b"ask%05d" % i)
            assert await take(t, 8) == b"ask%05d" % i
            await t.send(b"answer%05d" % i)
            assert await take(c, 11) == b"answer%05d" % i

    start = time.monotonic()
    await asyncio.gather(*(one(c, t) for c, t in pairs))
    return time.monotonic() - start


async def flood(ws):
    block = os.urandom(65536)
    try:
        while True:
            await ws.send(block)
            await asyncio.sleep(0)
    except ConnectionClosed:
        pass


async def case_deaf_neighbours(s):
    """Legs that never read, each flooded by its peer, beside sessions that talk: those go on as before."""
    pairs = [await pair(s, f"s-{i}") for i in range(20)]
    await talk(pairs, 5)
    alone = await talk(pairs, 40)
    before = s.rss()
    deaf, floods = [], []
    for i in range(4):
        deaf.append(mute_leg(s, f"s-deaf{i}", "target"))
        await s.line(f"attached s-deaf{i} target")
        ws = await attached(await s.leg(f"s-deaf{i}", "client", write_limit=65536))
        await ready(ws, 1)
        floods.append(asyncio.create_task(flood(ws)))
    beside = await talk(pairs, 40)
    # The four have the CPU for a moment, until what takes bytes is full.
    assert beside < 6 * alone + 5, (alone, beside)
    assert s.sanitized() or s.rss() - before < 32 * 1024 * 1024, (before, s.rss())
    for task in floods:
        task.cancel()
    for sock in deaf:
        sock.close()


def test_deaf_neighbours():
    with Server(reactors=2) as s:
        run(case_deaf_neighbours(s))


async def case_drain_of_the_deaf(s):
    """A leg that never reads is told to move like all others, and does not hold the server when it hears nothing."""
    deaf = mute_leg(s, "s-1", "target")
    await s.line("attached s-1 target")
    ws = await attached(await s.leg("s-1", "client", write_limit=65536))
    await ready(ws, 1)
    task = asyncio.create_task(flood(ws))
    await asyncio.sleep(0.5)
    s.tell("drain")
    assert (await closed(ws))[0] == 4002
    await task
    await until(s, "connections", "connections 0")
    deaf.close()


def test_drain_of_the_deaf():
    with Server(reactors=2) as s:
        run(case_drain_of_the_deaf(s))


main(globals())
