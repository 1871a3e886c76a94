"""A control server that a test plays, and an agent of a temp folder that connects to it."""

import asyncio
import json
import queue
import signal
import ssl
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import AGENT, LIMIT, Proc, make_ca, send, workers_of, write_secret
from websockets.exceptions import ConnectionClosed
from websockets.legacy.server import serve  # in every release; what `websockets.serve` is differs between them


class Control:
    """One control server. connections: a queue of Connection in order of arrival."""

    def __init__(self, tls):
        self.connections, self.tls = queue.Queue(), tls
        self.loop = asyncio.new_event_loop()
        self.port = None
        started = threading.Event()
        threading.Thread(target=self.run, args=(started,), daemon=True).start()
        assert started.wait(LIMIT)

    def run(self, started):
        async def start():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls / "server.pem", self.tls / "server.key")
            server = await serve(
                self.on_agent, "127.0.0.1", 0, ssl=context, subprotocols=["tunnel.control.v1"], compression=None
            )
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await asyncio.Future()

        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(start())

    async def on_agent(self, ws, path=None):
        if ws.path != "/v1/agent":  # a worker's leg: nobody is at the other end
            await ws.wait_closed()
            return
        c = Connection(self, ws)
        self.connections.put(c)
        try:
            async for text in ws:
                c.inbox.put(json.loads(text))
        except ConnectionClosed:
            pass
        c.inbox.put(None)

    def accept(self):
        return self.connections.get(timeout=LIMIT)


class Connection:
    def __init__(self, control, ws):
        self.control, self.ws, self.inbox = control, ws, queue.Queue()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.control.loop).result(LIMIT)

    def send(self, message):
        self.call(self.ws.send(message if isinstance(message, str) else json.dumps(message)))

    def close(self, code=1000, reason=""):
        self.call(self.ws.close(code, reason))

    def recv(self, *types):
        """The next message of one of these types; others are dropped."""
        end = time.monotonic() + LIMIT
        while True:
            m = self.inbox.get(timeout=max(0.01, end - time.monotonic()))
            assert m is not None, f"closed with {self.ws.close_code} while waiting for {types}"
            if m["type"] in types:
                return m

    def closed(self):
        while self.inbox.get(timeout=LIMIT) is not None:
            pass
        return self.ws.close_code

    def welcome(self, **more):
        self.send({"type": "welcome", "node": "n", "heartbeat_s": 5, **more})


@pytest.fixture
def world(folder):
    class World:
        pass

    w = World()
    make_ca(folder / "tls")
    w.folder, w.control = folder, Control(folder / "tls")
    w.state, w.procs = folder / "state", []
    w.state.mkdir(mode=0o700)
    for name in ("identity.pem", "link.pem"):
        key = ec.generate_private_key(ec.SECP256R1())
        write_secret(
            w.state / name,
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        w.key = w.__dict__.get("key") or key
    url = f"https://localhost:{w.control.port}"
    (w.state / "target.json").write_text(json.dumps({"id": "web-1", "server": url}))

    def conf(allow):
        (folder / "agent.conf").write_text(
            f"""ca_file = "{folder}/tls/ca.pem"; state_dir = "{w.state}"; runtime_dir = "{folder}/run";
allow = {json.dumps(allow)}; ready_file = "{folder}/ready"; proxy = ""; log: {{ level = "debug"; }};"""
        )

    def start():
        p = Proc([AGENT, "--config", folder / "agent.conf"], folder / "log")
        w.procs.append(p)
        return p

    def workers():
        return workers_of(folder / "run")

    def offer(session="s-1", kind="tcp", **more):
        grant = {"ssh": kind == "ssh", "logins": ["deploy"] if kind == "ssh" else [], "tcp": ["127.0.0.1:5432"]}
        grant |= {"max_streams": 8, "expires_at_ms": int(time.time() * 1000) + 600000}
        m = {"type": "offer", "session": session, "kind": kind, "relay_url": url, "token": "t" * 43, "client_pin": "A" * 43}
        return m | {"principal": "alice", "grant": grant, "expires_at_ms": grant["expires_at_ms"]} | more

    w.conf, w.start, w.workers, w.offer = conf, start, workers, offer
    conf(["ssh", "tcp:127.0.0.1:5432"])
    yield w
    for p in w.procs:
        p.kill()
    send(signal.SIGKILL, workers())


def connect(w):
    c = w.control.accept()
    hello = c.recv("hello")
    c.welcome()
    return c, hello
