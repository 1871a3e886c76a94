"""Many clients take the same session over at once, and the server dies meanwhile: one has it, and the log knows of all."""

import asyncio
import json
import random
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from harness import LIMIT, wait_for
from rawclient import RawSession, call
from websockets.exceptions import ConnectionClosed


class Taker(RawSession):
    """A further client of a session, with a key of its own."""

    def __init__(self, first):
        self.stack, self.key, self.id = first.stack, ec.generate_private_key(ec.SECP256R1()), first.id
        self.url, self.context, self.token = first.url, first.context, None
        self.status, answer = call(self.stack, "POST", f"/v1/sessions/{self.id}/resume", {"client_key": self.public()})
        if self.status == 200:
            self.token = answer["token"]


def take_over(first, takers, until):
    while not until():
        takers.append(Taker(first))


async def first_word(taker):
    """"attached", or the close code and whether to try again."""
    ws = await taker.leg()
    try:
        m = json.loads(await asyncio.wait_for(ws.recv(), LIMIT))
        if m["type"] == "attached":
            return ws
        return m["code"], m["retry"]
    except ConnectionClosed:
        return ws.close_code, None


def generations(stack, session):
    records = [r for r in stack.audit() if r["event"] == "session.resume" and r["session"] == session]
    assert all(r["principal"] == "dev" and r["remote_address"] for r in records), records
    return [r["generation"] for r in records]


async def check_one_owner(first, takers):
    """Of all that were answered exactly one is let in, and whoever came before him is told why not."""
    won = [t for t in takers if t.token]
    words = [await first_word(t) for t in [first, *won]]
    owners = [w for w in words if not isinstance(w, tuple)]
    assert len(owners) == 1, words
    assert all(w in ((4001, False), (4401, False)) for w in words if isinstance(w, tuple)), words
    await owners[0].close(4444)


def in_parallel(n, work):
    threads = [threading.Thread(target=work) for _ in range(n)]
    for t in threads:
        t.start()
    return threads


@pytest.mark.parametrize("at_once", [2, 8])
def test_of_many_at_once_one_has_it(stack, at_once):
    first, takers = RawSession(stack), []
    for t in in_parallel(at_once, lambda: takers.extend(Taker(first) for _ in range(4))):
        t.join()
    assert {t.status for t in takers} <= {200, 409}, [t.status for t in takers]
    won = [t for t in takers if t.token]
    assert won
    assert generations(stack, first.id) == list(range(2, 2 + len(won)))
    asyncio.run(check_one_owner(first, takers))


def test_kills_of_the_server_in_the_middle(bare):
    bare.start_server()
    bare.start_agent()
    first, takers = RawSession(bare), []
    for _ in range(3):
        bare.wait_connected("web-1")
        stop = threading.Event()
        threads = in_parallel(3, lambda: take_over(first, takers, stop.is_set))
        enough = len([t for t in takers if t.token]) + random.randint(1, 6)
        wait_for(lambda: len([t for t in takers if t.token]) >= enough, "some resumptions", every=0.001)
        time.sleep(random.random() / 50)
        bare.server.kill()
        bare.server.p.wait()
        stop.set()
        for t in threads:
            t.join()
        bare.start_server()
    bare.wait_connected("web-1")
    last = wait_for(lambda: (t := Taker(first)).token and t, "the session to be resumed once more", every=0.2)
    takers.append(last)
    asyncio.run(check_one_owner(first, takers[-1:] + [t for t in takers[:-1] if t.token][-8:]))
    found = generations(bare, first.id)
    # Each once, in order; more than were answered, since some died between the log and the answer.
    assert found == list(range(2, 2 + len(found))) and len(found) >= len([t for t in takers if t.token])
    status, session = call(bare, "GET", f"/v1/sessions/{first.id}")
    assert status == 200 and session["state"] in ("starting", "active"), session
