"""test_io.py IO_SERVER CASE: one case of the transport's tests; without CASE all of them."""

import asyncio
import faulthandler
import hashlib
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
CASE_LIMIT = 240  # below the TIMEOUT of ctest, which kills without a word
HERE = os.path.dirname(os.path.abspath(__file__))


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

    def rss(self):
        with open(f"/proc/{self.p.pid}/status") as f:
            return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS"))

    def cpu(self):
        with open(f"/proc/{self.p.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def raw(self):
        s = socket.create_connection(("localhost", self.port), timeout=LIMIT)
        return self.context().wrap_socket(s, server_hostname="localhost")

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


# ---- HTTP ----


def test_http_keeps_the_connection():
    with Server() as s:
        r = s.curl("-v", s.url + "/a", s.url + "/b")
        assert "Re-using existing" in r.stderr, r.stderr
        assert '"path":"/a"' in r.stdout and '"path":"/b"' in r.stdout


def test_http_request_arrives_whole():
    with Server() as s:
        body = "b" * 3000
        r = s.curl("-X", "PUT", "-d", "{}", "-H", "Content-Type: application/json", "-H", "X-Odd: one", "-H", "X-Amz-Date: now",
                   "-H", "X-Empty;", "-H", "Authorization: Bearer abc", s.url + "/v1/policies:x/a%20b?tag.k=a%2Bb&limit=5&e=")
        q = json.loads(r.stdout)
        assert q["method"] == "PUT" and q["path"] == "/v1/policies:x/a%20b", q
        assert q["query"] == "tag.k=a%2Bb&limit=5&e=", q
        assert q["body"] == "{}" and q["remote"] in ("127.0.0.1", "::1"), q
        h = dict(q["headers"])
        assert h["x-odd"] == "one" and h["x-amz-date"] == "now" and h["authorization"] == "Bearer abc", h
        assert h["host"] == f"localhost:{s.port}" and h["content-type"] == "application/json" and h["x-empty"] == "", h
        r = s.curl("-d", body, "-H", "Expect: 100-continue", s.url + "/e")
        assert json.loads(r.stdout)["body_len"] == 3000
        r = s.curl("-X", "POST", s.url + "/none")
        assert json.loads(r.stdout)["body_len"] == 0
        r = s.curl("-X", "POST", "-H", "Content-Length: 0", s.url + "/none", s.url + "/none")
        assert r.stdout.count('"body_len":0') == 2
        r = s.curl("-I", s.url + "/head", s.url + "/head")
        assert r.stdout.count("200 OK") == 2


def test_http_large_answer():
    with Server() as s:
        r = s.curl("-o", "-", s.url + "/big?n=3000000", s.url + "/big?n=70000")
        assert len(r.stdout) == 3070000


def test_http_refusals():
    with Server() as s:
        def status(*args):
            r = s.curl("-o", "-", "-w", "%{http_code}", *args)
            return int(r.stdout[-3:]), r.stdout[:-3]

        code, body = status("-H", "Transfer-Encoding: chunked", "-d", "x" * 100, s.url + "/c")
        assert code == 411 and json.loads(body)["code"] == "length-required"
        body = os.path.join(s.folder.name, "body")
        with open(body, "w") as f:
            f.write("x" * 262144)
        assert status("--data-binary", "@" + body, s.url + "/c")[0] == 200
        with open(body, "a") as f:
            f.write("x")
        code, body = status("--data-binary", "@" + body, s.url + "/c")
        assert code == 413 and json.loads(body)["code"] == "too-large"
        code, body = status("-H", "X-Long: " + "y" * 17000, s.url + "/c")
        assert code == 431 and json.loads(body)["code"] == "too-large"
        assert status("-H", "Authorization: Bearer " + "y" * 12000, s.url + "/c")[0] == 200
        many = [x for i in range(70) for x in ("-H", f"X-{i}: {i}")]
        assert status(*many, s.url + "/c")[0] == 431
        assert status(s.url + "/v1/agent")[0] == 400
        for length in ("abc", "-1", "5, 5"):
            with s.raw() as c:
                c.sendall(f"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nhello".encode())
                assert answer(c)[0] == 400, length
        # Way over: no answer, and the server goes on.
        s.curl("-H", "X-Long: " + "y" * 100000, s.url + "/c", check=False)
        assert status(s.url + "/c")[0] == 200


def case_http_slow_head(ms):
    with Server(header_ms=ms) as s:
        with s.raw() as c:
            c.sendall(b"GET /x HTTP/1.1\r\nHost:")
            code, body, _ = answer(c)
            assert code == 408 and json.loads(body)["status"] == 408
        # Not even a handshake.
        with socket.create_connection(("localhost", s.port), timeout=LIMIT) as c:
            assert c.recv(1) == b""


def test_http_slow_head():
    patiently(case_http_slow_head, 600, 5000, 25000)


def test_http_slow_body():
    with Server(body_ms=600) as s:
        with s.raw() as c:
            c.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
            assert answer(c)[0] == 408


def test_http_busy():
    with Server(workers=1, queue=1) as s:
        a, b = s.raw(), s.raw()
        a.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        s.wait_line("working")
        b.sendall(b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        # The one waiting place is taken at some moment; from then on requests are refused.
        while s.ask("queued", "queued") != "queued 1":
            time.sleep(0.01)
        for _ in range(3):
            with s.raw() as c:
                c.sendall(b"GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                code, body, head = answer(c)
                assert code == 503 and json.loads(body)["code"] == "busy" and "Retry-After: 1" in head, head
        s.tell("release")
        assert answer(a)[0] == 200 and answer(b)[0] == 200


def test_http_works_in_silence():
    """A body that comes right with its head, one that comes later, a second request: nothing turns while a job runs."""
    head = b"POST /sleep?ms=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    with Server() as s, s.raw() as one, s.raw() as two, s.raw() as three:
        three.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in three.recv(65536)
        before = s.cpu()
        one.sendall(head % 1500 + b"hello")
        two.sendall(head % 1500)
        three.sendall(head % 1500 + b"hello")
        s.wait_line("working", 2)
        two.sendall(b"hello")
        s.wait_line("worked", 3)
        assert s.cpu() - before < 0.5, "the loop turned while a job ran"
        for c in (one, two, three):
            assert b" 200 " in c.recv(65536)


def test_http_idle_connection_does_not_hold_a_drain():
    with Server() as s, s.raw() as c:
        c.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in c.recv(65536)
        s.tell("drain")
        assert c.recv(1) == b""


def test_http_client_gone_while_working():
    with Server() as s:
        for _ in range(5):
            c = s.raw()
            c.sendall(b"GET /sleep?ms=300 HTTP/1.1\r\nHost: x\r\n\r\n")
            s.wait_line("working", _ + 1)
            c.close()
        before = s.cpu()
        s.wait_line("worked", 5)
        assert s.cpu() - before < 0.25, "the loop turned while a job ran"
        assert s.curl(s.url + "/after").stdout
        while s.ask("connections", "connections") != "connections 0":
            time.sleep(0.01)


def test_http_requests_sent_ahead():
    """Several requests in one TLS record: GETs are answered in order; nothing loops, nothing breaks."""
    with Server() as s:
        get = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
        with s.raw() as c:
            c.sendall(b"".join(get % i for i in range(3)) + b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            _, body, head = answer(c)
            both = head.encode() + body
            assert [both.count(b'"path":"/%d"' % i) for i in range(4)] == [1] * 4, both
        post = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        for mix in (get % 1 + post, get % 1 + post + post, post + post, post + get % 1, get % 1 + post.replace(b"POST", b"GET") * 2,
                    (get % 1 + post.replace(b"/p", b"/v1/agent").replace(b"POST", b"GET")) * 2):
            with s.raw() as c:
                c.settimeout(3)
                c.sendall(mix)
                try:
                    answer(c)
                except (TimeoutError, socket.timeout):
                    pass
        before = s.cpu()
        assert s.curl(s.url + "/after").stdout
        s.curl(s.url + "/sleep?ms=500")
        assert s.cpu() - before < 0.4, "a loop still turns"


def test_cve_2025_11677():
    """A keep-alive GET, then an unknown Upgrade: lws goes on with a freed head."""
    with Server() as s:
        for value in (b"foo", b"h2c", b"websocketx"):
            for _ in range(5):
                with s.raw() as c:
                    c.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert b"200 OK" in c.recv(65536)
                    c.sendall(b"GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + value + b"\r\n\r\n")
                    answer(c)
        with s.raw() as c:
            c.sendall(b"GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
            answer(c)
        assert s.curl(s.url + "/after").stdout


def test_connect_is_refused():
    with Server() as s:
        with s.raw() as c:
            c.sendall(b"CONNECT localhost:22 HTTP/1.1\r\nHost: x\r\n\r\nraw bytes")
            assert answer(c)[0] in (0, 403, 405)
        with s.raw() as c:
            c.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
            answer(c)
        assert s.curl(s.url + "/after").stdout


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
    for code in (4401, 4403, 4503):
        a = await s.agent(f"refuse-{code}")
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
        raw = socket.create_connection(("localhost", s.port), LIMIT)
        context = ssl.create_default_context(cafile=s.ca)
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
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


# ---- legs ----


async def case_pairing(s):
    c, t = await pair(s)
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
    with Server(reactors=2) as s:
        run(case_pairing(s))


def test_pairing_on_one_reactor():
    with Server(reactors=1) as s:
        run(case_pairing(s))


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


async def case_refused(s):
    for code in (4401, 4403, 4404, 4009, 4503):
        ws = await s.leg("s-1", f"slow-refuse-{code}")
        m = await text(ws)
        want = {"type": "closing", "code": code, "reason": "refused by the test", "retry": code in (4009, 4503)}
        if code == 4009:
            want["relay_url"] = "https://other:1"
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


async def case_bulk(s):
    c, t = await pair(s)
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
        run(case_bulk(s))


def test_bulk_on_one_reactor():
    with Server(reactors=1) as s:
        run(case_bulk(s))


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


def test_certificate_reload():
    with Server() as s:
        def serial():
            with s.raw() as c:
                return c.getpeercert()["serialNumber"]

        first = serial()
        held = s.raw()
        assert s.ask("certificate", "certificate") == "certificate 0"
        assert s.ask("reload", "reload") == "reload 0 "
        end = time.monotonic() + LIMIT
        while serial() == first:
            assert time.monotonic() < end
        held.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer(held)[0] == 200
        # A pair that does not match is refused and the old one serves on.
        with open(os.path.join(s.folder.name, "server.pem"), "w") as f:
            f.write(ssl.DER_cert_to_PEM_cert(b"broken"))
        line = s.ask("reload", "reload")
        assert line.startswith("reload -") and "server.pem" in line, line
        assert serial() != first


def main():
    cases = {k[5:]: v for k, v in globals().items() if k.startswith("test_")}
    for name in sys.argv[2:] or cases:
        faulthandler.dump_traceback_later(CASE_LIMIT, exit=True)
        cases[name]()
        print(f"{name}: ok", flush=True)


main()
