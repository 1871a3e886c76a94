"""A machine that was enrolled and means harm: what it says on its control connection touches nobody else's sessions, and nobody else
waits for it. And a client with a credential that opens streams as fast as it can."""

import asyncio
import json
import secrets
import signal
import ssl
import subprocess
import time

import pytest
from abuse import Bystander, request, secure, unhurt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from harness import BUILD, LIMIT, LineReader, wait_for
from rawclient import RawSession, b64, spki
from websockets.exceptions import ConnectionClosed
from websockets.legacy.client import connect


@pytest.fixture
def bystander(stack):
    b = Bystander(stack)
    yield b
    b.close()


class BadAgent:
    """Target "evil"."""

    def __init__(self, stack):
        self.stack, self.key = stack, ec.generate_private_key(ec.SECP256R1())
        token = stack.cli("create-enrollment", "evil").stdout.strip()
        body = {"identity_key": spki(self.key), "link_key": spki(ec.generate_private_key(ec.SECP256R1())), "version": "0.1"}
        with secure(stack, "127.0.0.1") as s:
            status, _, text = request(
                s, "POST", "/v1/targets", ["Content-Type: application/json", f"Authorization: Bearer {token}"], json.dumps(body).encode()
            )
        assert status == 201, text
        self.context = ssl.create_default_context(cafile=stack.folder / "tls" / "ca.pem")

    def assertion(self):
        now = int(time.time())
        head = {"alg": "ES256", "typ": "JWT", "kid": "evil"}
        claims = {"iss": "evil", "sub": "evil", "aud": "tunnel-server", "iat": now, "exp": now + 60, "jti": secrets.token_hex(16)}
        signed = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def connect(self):
        return connect(
            self.stack.url.replace("https:", "wss:") + "/v1/agent", ssl=self.context, subprotocols=["tunnel.control.v1"], compression=None,
            extra_headers={"Authorization": f"Bearer {self.assertion()}"}, max_size=None, open_timeout=LIMIT, ping_interval=None, close_timeout=5,
        )

    HELLO = {"type": "hello", "version": "0.1", "ssh_host_keys": [], "sessions": []}

    async def says(self, messages, hello=True):
        """On a connection of its own; the close code, or None when it is still open at the end."""
        async with self.connect() as ws:
            try:
                if hello:
                    await ws.send(json.dumps(self.HELLO))
                for m in messages:
                    await ws.send(m if isinstance(m, (str, bytes)) else json.dumps(m))
                await ws.send(json.dumps({"type": "an-end"}))  # of a type that is ignored; a ping could spoil the close (server/conn_lws.c)
                while True:
                    await asyncio.wait_for(ws.recv(), 1.0)
            except asyncio.TimeoutError:
                return None
            except ConnectionClosed:
                return ws.close_code


def report(seq, session, **more):
    return {"type": "stream-opened", "seq": seq, "session": session, "generation": 1, "stream": seq, "kind": "tcp",
            "endpoint": "127.0.0.1:1", "at_ms": int(time.time() * 1000)} | more


def test_what_it_may_not_say_ends_its_connection_alone(stack, bystander):
    evil = BadAgent(stack)
    victim = stack.json("list-sessions")[0]["id"]
    deep = "[" * 100000
    for name, hello, said, codes in (
        ("before hello", False, [report(1, victim)], {4008}),
        ("hello twice", True, [evil.HELLO], {4008}),
        ("too long", True, ["x" * (256 * 1024 + 1)], {4008, 1009}),
        ("binary", True, [b"\x00" * 1000], {4008, 1003}),
        ("not JSON", True, ["{"], {4008}),
        ("an array", True, ["[]"], {4008}),
        ("deep", True, [deep], {4008}),
        ("half a surrogate", True, ['{"type":"\\ud800"}'], {4008}),
        ("a number that is none", True, ['{"type":"stream-opened","seq":1e999}'], {4008}),
        ("seq below zero", True, [report(-1, victim)], {4008}),
        ("a wild id", True, [report(1, "../../etc/passwd")], {4008}),
        ("hello with too many sessions", False, [evil.HELLO | {"sessions": [{"id": f"s-{i}", "generation": 1} for i in range(2000)]}], {4008}),
        ("of a later type", True, [{"type": "from-the-future", "x": "y" * 10000}], {None}),
    ):
        code = asyncio.run(evil.says(said, hello))
        assert code in codes, (name, code)
    end = {"type": "session-closed", "seq": 1, "session": victim, "generation": 1, "code": 4000, "text": "gone"}
    others = [report(2, victim), {"type": "terminated", "session": victim}, {"type": "accepted", "session": victim, "generation": 1},
              {"type": "refused", "session": victim, "generation": 1, "code": 3, "text": "no"}]
    asyncio.run(evil.says([end, *others]))
    assert [s["state"] for s in stack.json("list-sessions") if s["id"] == victim] == ["active"]
    assert not [r for r in stack.audit() if "passwd" in json.dumps(r) or r.get("endpoint") == "127.0.0.1:1"]
    bystander.measure(20)
    assert stack.server.alive()


def test_a_flood_of_reports(stack, bystander):
    """Of a session of its own, as fast as they are taken, and of somebody else's, from several connections at a time."""
    evil = BadAgent(stack)
    victim = stack.json("list-sessions")[0]["id"]
    said = [0]

    async def storm():
        async with evil.connect() as ws:
            try:
                await ws.send(json.dumps(evil.HELLO))
                for seq in range(1, 41):
                    said[0] += 1
                    await ws.send(json.dumps(report(seq, victim)))
            except ConnectionClosed:
                pass

    async def storms():
        await asyncio.gather(*[storm() for _ in range(2)], return_exceptions=True)

    unhurt(stack, bystander, lambda: asyncio.run(storms()))
    assert said[0] >= 40
    RawSession(stack)  # a session starts, for which the audit log has to be written
    stack.wait_connected("web-1")


FORGOTTEN = "s-" + "0" * 22  # a session that is no more: what is said of it is recorded


async def report_all(evil, last, saw):
    """Reports 1 to last as fast as they are taken, until all are acknowledged or the server is gone; numbers of acks go to saw."""
    async with evil.connect() as ws:
        await ws.send(json.dumps(evil.HELLO))

        async def talk():
            for seq in range((saw or [0])[-1] + 1, last + 1):
                await ws.send(json.dumps(report(seq, FORGOTTEN), separators=(",", ":")))  # as our agent writes it

        talking = asyncio.create_task(talk())
        try:
            while not saw or saw[-1] < last:
                said = json.loads(await asyncio.wait_for(ws.recv(), LIMIT))
                if said["type"] == "ack":
                    saw.append(said["seq"])
            await talking
        finally:
            talking.cancel()


def reported(stack):
    return [r["report"] for r in stack.audit() if r.get("session") == FORGOTTEN]


def test_reports_as_fast_as_they_are_taken_are_recorded_once_each(stack):
    """They are taken many at a time; in their order, and with far fewer acks than there are reports."""
    saw = []
    asyncio.run(report_all(BadAgent(stack), 1000, saw))
    assert saw == sorted(set(saw)) and len(saw) < 500, saw
    assert reported(stack) == list(range(1, 1001))


def test_a_server_that_is_killed_while_reports_come_in(stack):
    """What it acknowledged is in the log; what it did not comes again, and may be there twice, but never out of its turn."""
    evil, saw, last = BadAgent(stack), [], 2000

    async def until_killed():
        going = asyncio.create_task(report_all(evil, last, saw))
        begun = saw[-1] if saw else 0
        while not saw or saw[-1] < begun + 200:
            await asyncio.sleep(0.001)
        stack.server.kill(signal.SIGKILL)
        with pytest.raises((ConnectionClosed, OSError)):
            await going

    for _ in range(2):
        asyncio.run(until_killed())
        stack.start_server()
        assert set(range(1, saw[-1] + 1)) <= set(reported(stack))
    asyncio.run(report_all(evil, last, saw))
    numbers = reported(stack)
    assert set(numbers) == set(range(1, last + 1))
    again = [(a, b) for a, b in zip(numbers, numbers[1:]) if b != a + 1]
    assert len(again) <= 2 and all(0 <= a - b < 64 for a, b in again), again


def test_a_flood_of_messages(stack, bystander):
    """Those that nothing comes of, as large as they may be; many connections that replace each other."""
    evil = BadAgent(stack)
    text = json.dumps({"type": "nothing", "x": "y" * 250000})

    async def storm():
        try:
            async with evil.connect() as ws:
                await ws.send(json.dumps(evil.HELLO))
                for _ in range(4):
                    await ws.send(text)
        except ConnectionClosed:
            pass

    unhurt(stack, bystander, lambda: asyncio.run(storm()))
    stack.wait_connected("web-1")


def test_a_client_that_opens_streams_without_end(stack, bystander):
    """Its session's streams are bounded; neither other sessions nor the agents notice more than that."""
    stack.start_agent("web-2", allow=("listen:127.0.0.1:1024-65535",))
    p = subprocess.Popen(
        [BUILD / "tests" / "doubles" / "hostile-cli", "start-session", "--target", "web-2", "--reverse", "8080:127.0.0.1:9"],
        env=stack.env(HOSTILE_FLOOD="20000"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )
    stack.procs.append(p)
    lines = LineReader(p.stderr)
    lines.wait("flooding")
    unhurt(stack, bystander, lambda: time.sleep(0.05))
    lines.wait("flooded")
    assert all(a.proc.alive() for a in stack.agents.values()) and len(stack.workers()) == 2
    p.terminate()
    p.wait(LIMIT)
    wait_for(lambda: len(stack.workers()) == 1, "its worker to end")
    stack.cli("whoami")
