"""What the transport's tests share: io_server, its clients, and how a case is run."""

import asyncio
import faulthandler
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from websockets.exceptions import ConnectionClosed
from websockets.legacy.client import connect  # in every release; what `websockets.connect` is differs between them

LIMIT = 60
# "tunnel-leg/1": legs and agents are carried by the server's own transport; unset: by libwebsockets, as for strangers.
ALPN = os.environ.get("TUNNEL_TEST_ALPN", "")
CASE_LIMIT = 240  # below the TIMEOUT of ctest, which kills without a word


class Server:
    def __init__(self, **options):
        self.folder = tempfile.TemporaryDirectory(prefix="tunnel-io-")
        args = [sys.argv[1], self.folder.name] + [f"{k}={v}" for k, v in options.items()]
        self.log = open(os.path.join(self.folder.name, "log"), "w+")
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.lines, self.more = [], threading.Condition()
        first = self.p.stdout.readline().strip()
        if not first.isdigit():
            raise AssertionError("the server did not start: " + self.stderr())
        self.port = int(first)
        self.url = f"https://localhost:{self.port}"
        self.ws = f"wss://localhost:{self.port}"
        self.ca = os.path.join(self.folder.name, "ca.pem")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def stderr(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()

    def read(self):
        for line in self.p.stdout:
            with self.more:
                self.lines.append(line.rstrip("\n"))
                self.more.notify_all()

    def wait_line(self, start, count=1):
        """Blocks until that many lines begin so; returns the last of them."""
        end = time.monotonic() + LIMIT
        with self.more:
            while True:
                found = [x for x in self.lines if x.startswith(start)]
                if len(found) >= count:
                    return found[count - 1]
                if not self.more.wait(end - time.monotonic()):
                    raise AssertionError(f"no line {start!r} in {self.lines}")

    async def line(self, start, count=1):
        return await asyncio.get_running_loop().run_in_executor(None, self.wait_line, start, count)

    def tell(self, command):
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()

    def ask(self, command, start):
        n = len([x for x in self.lines if x.startswith(start)])
        self.tell(command)
        return self.wait_line(start, n + 1)

    def reactors(self, session="s-1"):
        """Those that the session's legs were ever on."""
        return {int(line.split(" ")[3]) for line in self.lines if line.startswith(f"reactor {session} ")}

    def rss(self):
        with open(f"/proc/{self.p.pid}/status") as f:
            return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS"))

    def sanitized(self):
        """Then its memory says nothing: a sanitizer keeps what was freed."""
        with open(sys.argv[1], "rb") as f:
            program = f.read()
        return b"__asan_init" in program or b"__tsan_init" in program

    def cpu(self):
        with open(f"/proc/{self.p.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def assert_quiet(self, what):
        """Nothing turns in it: of the processor it uses a fraction of what this loop does beside it, however busy the machine is."""
        before, own = self.cpu(), time.process_time()
        while time.process_time() - own < 0.4:
            pass
        assert self.cpu() - before < 0.2, what

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.p.poll() is None:
            self.p.stdin.close()
            try:
                self.p.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.p.kill()
                raise AssertionError("the server did not stop:\n" + self.stderr()[-3000:])
        if kind or self.p.returncode != 0:
            print(self.stderr()[-6000:], file=sys.stderr)
        if not kind:
            assert self.p.returncode == 0, f"the server ended with {self.p.returncode}"
        self.reader.join()
        self.p.stdout.close()
        self.log.close()
        self.folder.cleanup()

    # -- clients

    # No pings of our own: on a busy machine they would end connections that are only slow.
    patience = {"compression": None, "close_timeout": 1, "open_timeout": LIMIT, "ping_interval": None}

    def context(self, alpn=ALPN):
        """One that a server of another mind about the protocol would refuse, so that no test takes the other way unseen."""
        context = ssl.create_default_context(cafile=self.ca)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context

    def raw(self, port=None, alpn=ALPN):
        s = socket.create_connection(("localhost", port or self.port), timeout=LIMIT)
        s = self.context(alpn).wrap_socket(s, server_hostname="localhost")
        assert s.selected_alpn_protocol() == (alpn or None), s.selected_alpn_protocol()
        return s

    def curl(self, *args, check=True):
        r = subprocess.run(
            ["curl", "-sS", "-m", str(LIMIT), "--cacert", self.ca, *args], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
        )
        assert not check or r.returncode == 0, r.stderr
        return r

    def leg(self, session, token, **kw):
        return connect(
            f"{self.ws}/v1/sessions/{session}/leg",
            ssl=self.context(),
            subprotocols=["tunnel.leg.v1"],
            extra_headers={"Authorization": f"Bearer {token}", "DPoP": "proof"},
            max_size=None,
            **self.patience,
            **kw,
        )

    def agent(self, name):
        return connect(
            f"{self.ws}/v1/agent",
            ssl=self.context(),
            subprotocols=["tunnel.control.v1"],
            extra_headers={"Authorization": f"Bearer {name}"},
            **self.patience,
        )


async def text(ws):
    m = await asyncio.wait_for(ws.recv(), LIMIT)
    assert isinstance(m, str), f"expected a text message, got {len(m)} bytes"
    return json.loads(m)


async def take(ws, n):
    """n bytes of binary messages."""
    got = b""
    while len(got) < n:
        m = await asyncio.wait_for(ws.recv(), LIMIT)
        assert isinstance(m, bytes), m
        got += m
    return got


async def attached(ws):
    assert ws.transport.get_extra_info("ssl_object").selected_alpn_protocol() == (ALPN or None)
    assert await text(ws) == {"type": "attached", "node": "io"}
    return ws


async def ready(ws, epoch):
    assert await text(ws) == {"type": "paired", "epoch": epoch}
    await ws.send(json.dumps({"type": "ready", "epoch": epoch}))


async def pair(s, session="s-1", epoch=1, **kw):
    """Both legs, past their ready."""
    c = await attached(await s.leg(session, "client", **kw))
    t = await attached(await s.leg(session, "target"))
    await ready(c, epoch)
    await ready(t, epoch)
    # A ready has no answer: bytes that come through prove that it was taken. Some may be on their way still.
    for a, b in ((c, t), (t, c)):
        while True:
            await a.send(b"?")
            try:
                await asyncio.wait_for(b.recv(), 0.2)
                break
            except asyncio.TimeoutError:
                pass
        await a.send(b"!")
        while not (await asyncio.wait_for(b.recv(), LIMIT)).endswith(b"!"):
            pass
    return c, t


def run(coroutine):
    """Past the limit the traceback says what the case waited for. (A loop that is stuck itself is faulthandler's.)"""
    asyncio.run(asyncio.wait_for(coroutine, CASE_LIMIT - 10))


def patiently(case, *times):
    """The case with growing times of the server's: a busy machine may be too slow for the first, never for the last."""
    for ms in times:
        try:
            return case(ms)
        except (AssertionError, OSError):
            if ms == times[-1]:
                raise


async def closed(ws):
    try:
        while True:
            await asyncio.wait_for(ws.recv(), LIMIT)
    except ConnectionClosed:
        return ws.close_code, ws.close_reason


def answer(sock):
    """Status and body of what comes until the connection ends."""
    data = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    except (ConnectionError, ssl.SSLError):
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body, head.decode(errors="replace")


def mute_leg(s, session, token):
    """A leg on a plain socket that answers nothing and reads only when told."""
    c = s.raw()
    c.sendall(
        f"GET /v1/sessions/{session}/leg HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n"
        "DPoP: p\r\nSec-WebSocket-Protocol: tunnel.leg.v1\r\n\r\n".encode()
    )
    assert b" 101 " in c.recv(65536)
    return c


def main(scope):
    """SCRIPT IO_SERVER [CASE …]: these cases of the script; without CASE all of them."""
    cases = {k[5:]: v for k, v in scope.items() if k.startswith("test_")}
    for name in sys.argv[2:] or cases:
        faulthandler.dump_traceback_later(CASE_LIMIT, exit=True)
        cases[name]()
        print(f"{name}: ok", flush=True)
