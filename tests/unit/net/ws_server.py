"""A third-party WebSocket server (python3-websockets) and odd peers for the client's tests.

usage: ws_server.py FOLDER -- FOLDER gets good.pem, other.pem (self-signed for "localhost" and for "elsewhere").
Prints one line of ports once all listen:
  tls elsewhere plain proxy raw http dead
and ends when its standard input does.
"""
import asyncio
import base64
import os
import ssl
import socket
import subprocess
import sys

from http import HTTPStatus
from websockets.legacy.server import serve


def certificate(folder, name, san):
    pem = os.path.join(folder, name + ".pem")
    key = os.path.join(folder, name + ".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=" + name, "-addext", "subjectAltName=" + san, "-keyout", key, "-out", pem],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context


async def refuse(path, headers):
    if path.startswith("/refuse/"):
        status = HTTPStatus(int(path.split("/")[2]))
        return status, [("X-Why", "test")], b"no: " + (headers.get("Authorization") or "nobody").encode()
    return None


async def flood(ws, total):
    sent = 0
    while sent < total:
        n = min(60000, total - sent)
        await ws.send(bytes([sent // 60000 & 0xFF]) * n)
        sent += n
    await ws.send("flooded %d" % sent)


async def session(ws, path):
    if path == "/close":
        await ws.close(4003, "an operator ended it – ü")
    elif path == "/ping":
        pong = await ws.ping(b"server asks")
        await asyncio.wait_for(pong, 60)
        await ws.send("pong came")
        await ws.wait_closed()
    elif path == "/silent":
        ws.transport.pause_reading()
        await asyncio.sleep(3600)
    elif path == "/deaf":  # reads nothing until a connection to /hear comes
        ws.transport.pause_reading()
        await hear.wait()
        ws.transport.resume_reading()
        total = 0
        async for message in ws:
            total += len(message)
            if isinstance(message, str):
                await ws.send("heard %d" % total)
    elif path == "/hear":
        hear.set()
    elif path.startswith("/flood/"):
        await flood(ws, int(path.split("/")[2]))
        await ws.wait_closed()
    elif path == "/fragments":
        await ws.send([b"abc", b"", b"def"])
        await ws.send(["one ", "two"])
        await ws.wait_closed()
    elif path == "/drop":
        ws.transport.abort()
    elif path == "/resumed":
        tls = ws.transport.get_extra_info("ssl_object")
        await ws.send("resumed" if tls.session_reused else "fresh")
        await ws.wait_closed()
    else:
        async for message in ws:
            await ws.send(message)


async def proxy(reader, writer):
    """CONNECT: the user of the proxy's credentials says how it behaves."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    target = line.split(" ")[1]
    user = ""
    for h in headers:
        if h.startswith("Proxy-Authorization: Basic "):
            user = base64.b64decode(h.split(" ")[2]).decode()
    if user == "":
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
        writer.close()
        return
    if user == "mute:":
        await asyncio.sleep(3600)
    host, port = target.rsplit(":", 1)
    up_reader, up_writer = await asyncio.open_connection(host.strip("[]"), int(port))
    answer = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
    if user == "split:p@ss":
        for i in range(len(answer)):
            writer.write(answer[i:i + 1])
            await writer.drain()
            await asyncio.sleep(0)
    else:
        writer.write(answer)

    async def pump(r, w):
        try:
            while data := await r.read(65536):
                w.write(data)
                await w.drain()
        except OSError:
            pass
        finally:
            w.close()
    await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))


RAW = {
    b"/garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    b"/wrongkey": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    b"/chunked": b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    b"/moved": b"HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n",
    b"/eof": b"",
    b"/halfhead": b"HTTP/1.1 101 Swi",
    b"/endless": b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n404 page",
    b"/badframe": None,
    b"/glued": None,
}


async def in_parts(writer, size):
    """A refusal whose head and halves of the body go out one by one, each but the first when /more is asked for."""
    body = b"x" * size
    head = b"HTTP/1.1 404 Not Found\r\nServer: lb\r\nContent-Length: %d\r\n\r\n" % size
    for part in (head, body[:size // 2], body[size // 2:]):
        writer.write(part)
        await writer.drain()
        await more.get()


async def raw(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ")[1]
    key = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key")][0]
    if path.startswith(b"/parts/"):
        try:
            await in_parts(writer, int(path.split(b"/")[2]))
        except OSError:
            pass
        return
    if path == b"/more":
        more.put_nowait(None)
    answer = RAW.get(path, b"")
    if answer is None:
        import hashlib
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        answer = (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n"
                  b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        answer += b"\x83\x00" if path == b"/badframe" else b"\x81\x05glued\x88\x04\x0f\xa0ok"
    writer.write(answer)
    await writer.drain()
    if path == b"/badframe":
        got = await reader.read(100)
        badframe_answer.append(got)
    if path in (b"/glued", b"/endless"):
        await reader.read(100)
    writer.close()


async def http(reader, writer):
    """Answers for REST calls."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = 0
    for line in head.split("\r\n"):
        if line.lower().startswith("content-length:"):
            length = int(line.split(":")[1])
    body = await reader.readexactly(length)
    method, path, _ = head.split("\r\n")[0].split(" ")
    kind, status, extra, text = "application/json", "200 OK", "", b'{"ok": true}'
    if path == "/echo":
        text = b'{"method": "%s", "body": "%s", "auth": %s, "sized": %s}' % (
            method.encode(), body.replace(b'"', b"'"), b"true" if "Authorization: Bearer t" in head else b"false",
            b"true" if "content-length:" in head.lower() else b"false")
    elif path == "/problem":
        status, kind = "403 Forbidden", "application/problem+json; charset=utf-8"
        text = b'{"title": "Forbidden", "code": "forbidden", "detail": "no statement allows it"}'
    elif path == "/busy":
        status, extra, kind, text = "503 Busy", "Retry-After: 7\r\n", "text/plain", b"later"
    elif path == "/huge":
        text = b" " * (5 * 1024 * 1024)
    elif path == "/redirect":
        status, extra, text = "302 Found", "Location: http://127.0.0.1:1/\r\n", b""
    elif path == "/broken":
        text = b'{"ok": tru'
    elif path == "/slow":
        await asyncio.sleep(3600)
    writer.write(("HTTP/1.1 %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n"
                  % (status, kind, extra, len(text))).encode() + text)
    try:
        await writer.drain()
    except OSError:
        pass
    writer.close()


async def main():
    global hear, badframe_answer, more
    hear = asyncio.Event()
    more = asyncio.Queue()
    badframe_answer = []
    folder = sys.argv[1]
    good = certificate(folder, "good", "DNS:localhost,IP:127.0.0.1")
    other = certificate(folder, "other", "DNS:elsewhere")
    options = dict(process_request=refuse, subprotocols=["test.v1"], max_size=None, ping_interval=None,
                   compression=None, close_timeout=1)
    servers = [
        await serve(session, "127.0.0.1", 0, ssl=good, **options),
        await serve(session, "127.0.0.1", 0, ssl=other, **options),
        await serve(session, "127.0.0.1", 0, **options),
        await asyncio.start_server(proxy, "127.0.0.1", 0),
        await asyncio.start_server(raw, "127.0.0.1", 0),
        await asyncio.start_server(http, "127.0.0.1", 0),
    ]
    dead = socket.socket()  # a port where nobody listens
    dead.bind(("127.0.0.1", 0))
    ports = [s.sockets[0].getsockname()[1] for s in servers] + [dead.getsockname()[1]]
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
