"""The transport's HTTP, and certificates. See harness.main for the arguments."""

import asyncio
import json
import os
import socket
import ssl
import time

from harness import LIMIT, Server, answer, closed, main, pair, patiently, run


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


def test_http_late_answer():
    """A job that does not end is answered for, and its own answer goes nowhere."""
    with Server(work_ms=300, workers=1) as s:
        with s.raw() as a, s.raw() as b:
            a.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
            s.wait_line("working")
            b.sendall(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            for c in (a, b):
                code, body, head = answer(c)
                assert code == 503 and json.loads(body)["code"] == "busy" and "Retry-After: 1" in head, head
        s.tell("release")
        while s.ask("queued", "queued") != "queued 0":
            time.sleep(0.01)


async def case_lanes(s):
    with s.raw() as calls, s.raw() as health:
        calls.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await s.line("working")
        c, t = await pair(s)  # calls are held; attaches are not
        await s.leg("s-2", "hold-client")
        await s.line("judging")
        # Both are held; what legs and agents say is worked off all the same, and health is told.
        async with s.agent("web-1") as a:
            await a.send("m1")
            assert await asyncio.wait_for(a.recv(), LIMIT) == "m1"
        await c.close()
        await s.line("detached s-1 client")
        health.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer(health)[0] == 200
        s.tell("release")
        assert answer(calls)[0] == 200
        await s.line("attached s-2 client")
        await t.close()


async def case_reports(s):
    """What an agent says while it is still being listened to waits, in order: reports go on together, and nothing overtakes."""
    async with s.agent("web-1") as a:
        await a.send("hold")
        for i in range(100):
            await a.send(f"report {i}")
        await a.send("other")
        for i in range(100, 103):
            await a.send(f"report {i}")
        await a.send("release")
        said = []
        while len(said) < 3 or not said[-1].endswith(" 102"):
            said.append(await asyncio.wait_for(a.recv(), LIMIT))
        assert said.pop(0) == "hold"
        at = said.index("other")
        before, after = ([int(n) for text in part for n in text.split(":")[1].split()] for part in (said[:at], said[at + 1 :]))
        assert before == list(range(100)) and after == list(range(100, 103)), said
        assert len(said) == 4 and all(int(text.split(":")[0]) <= 64 for text in said if text != "other"), said


def test_reports_of_an_agent_are_handed_on_together():
    with Server() as s:
        run(case_reports(s))


async def case_reports_at_the_end(s):
    """Also those that waited when the connection ended, and before the end is told."""
    async with s.agent("web-1") as a:
        await a.send("hold")
        await a.send("x" * 1001)
        await a.send("y" * 1002)
    async with s.agent("web-2") as other:
        await other.send("release")
    lines = [await s.line("text web-1 len=1001"), await s.line("text web-1 len=1002"), await s.line("agent-closed web-1")]
    assert all(lines)


def test_what_an_agent_said_before_its_end_counts():
    with Server() as s:
        run(case_reports_at_the_end(s))


def test_lanes_hold_up_no_other():
    with Server(workers=1) as s:
        run(case_lanes(s))


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


# ---- certificates ----


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


main(globals())
