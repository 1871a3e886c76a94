"""A relay and an attach call, small and obedient, after PROTOCOL.md section 3.

usage: relay.py FOLDER -- FOLDER gets ca.pem. Prints "PORT PORT PORT": relay A, relay B (the same sessions on another
address), REST. Then takes one command a line and answers each with one line:

  cut WHO            drops connections without a word; WHO is client, target or both
  hole WHO           stops reading and writing without closing
  close WHO CODE [URL]   closing message and close; URL: relay_url ("A", "B" stand for the relays)
  say WHO TEXT       sends TEXT as a text message
  freeze / thaw WHO  stops / goes on taking what they send; nothing is lost
  down / up          relay A stops listening and drops its legs / listens again; up answers with the boot clock of then (ms)
  deaf               relay A stops listening and keeps its legs
  mute / slam        instead of relay A somebody takes connections and says nothing / closes them; up leaves them so
  swallow N          the next N upgrades are never answered
  slow MS            upgrades are answered so late
  stumble STEP N     the next N legs are dropped once they are at STEP: open, attached or paired
  refuse N STATUS    the next N upgrades are refused
  gateway STATUS TYPE BODY  something in front of relays and REST answers all requests so, by itself; 0: no more
  clock MS           relays and REST have a clock that is ahead by so much, and refuse proofs that are 60 s off by it
  supersede WHO      the session has another WHO: its legs are closed with 4001, and those that come are not let in
  answer STATUS [URL]  what the attach call says from here on; with 410: [CODE], how the session ended
  delete STATUS      what DELETE of the session says from here on; 0: nothing, ever
  stats              "legs=N attaches=N ...": legs attached ever, attach calls, most legs of one role at once, last code
                     of a client (bye), DELETE calls, connections taken by mute and slam, upgrades swallowed, legs that
                     stumbled, most upgrades of one role that asked at once since the last "slow", legs that were
                     superseded, upgrades that ask now, requests answered by the gateway, proofs of another time (dated)
"""
import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
import time
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed
from websockets.legacy.server import WebSocketServerProtocol, serve

roles = {}
count = {"legs": 0, "attaches": 0, "most": 0, "bye": 0, "deletes": 0, "taken": 0,
         "swallowed": 0, "stumbled": 0, "asking": 0, "superseded": 0, "pending": 0, "misled": 0,
         "dated": 0}
CODES = {401: "unauthenticated", 403: "forbidden", 404: "not-found", 410: "session-ended"}
alive = {"client": 0, "target": 0}
refusals = [0, 0]
askers = {}
swallows = [0]
slowness = [0]
stumbles = ["", 0]
strangers = []
manners = [""]
gateway = [0, "", ""]
ahead = [0]
superseded = set()
answer = [200, "A"]
deleted = [204]
ports = {}
epoch = 0


def now_ms():
    return int(time.time() * 1000) + ahead[0]


def is_dated(proof):
    payload = proof.split(".")[1]
    iat = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["iat"]
    dated = abs(iat * 1000 - now_ms()) > 60000
    count["dated"] += dated
    return dated


class Leg:
    def __init__(self, ws, role, port):
        self.ws, self.role, self.port = ws, role, port
        self.ready = 0
        self.hole = False
        self.may_go = asyncio.Event()  # a transport that is paused may be resumed by its own flow control
        self.may_go.set()

    async def say(self, **message):
        if not self.hole:
            await self.ws.send(json.dumps(message))


class Asker(WebSocketServerProtocol):
    """An upgrade request that is judged."""

    async def process_request(self, path, headers):
        role = headers.get("Authorization", "Bearer ?").split(" ")[1].split("-")[0]
        askers.setdefault(role, set()).add(self)
        waiting = [asker for asker in askers[role] if not asker.transport.is_closing()]
        count["asking"] = max(count["asking"], len(waiting))
        count["pending"] += 1
        try:
            return await self.judge(headers)
        finally:
            count["pending"] -= 1
            askers[role].discard(self)

    async def judge(self, headers):
        if gateway[0]:
            count["misled"] += 1
            return HTTPStatus(gateway[0]), [("Content-Type", gateway[1])], gateway[2].encode()
        if refusals[0]:
            refusals[0] -= 1
            return HTTPStatus(refusals[1]), [], b"refused by the test"
        if swallows[0]:
            swallows[0] -= 1
            count["swallowed"] += 1
            await asyncio.sleep(3600)
        if slowness[0]:
            await asyncio.sleep(slowness[0] / 1000)
        if not headers.get("DPoP") or not headers.get("Authorization", "").startswith("Bearer "):
            return HTTPStatus(401), [], b"no credentials"
        return None


async def pair():
    global epoch
    if "client" in roles and "target" in roles:
        epoch += 1
        for leg in list(roles.values()):
            leg.ready = 0
        for leg in list(roles.values()):
            try:
                await leg.say(type="paired", epoch=epoch)
            except ConnectionClosed:
                pass


def peer_of(leg):
    return roles.get("target" if leg.role == "client" else "client")


def stumbles_at(leg, step):
    if stumbles[0] != step or not stumbles[1]:
        return False
    stumbles[1] -= 1
    count["stumbled"] += 1
    leg.ws.transport.abort()
    return True


async def supersede(leg):
    count["superseded"] += 1
    await leg.say(type="closing", code=4001, reason="resumed by another client", retry=False)
    await leg.ws.close(4001, "resumed by another client")


async def on_message(leg, message):
    await leg.may_go.wait()
    if isinstance(message, str):
        message = json.loads(message)
        assert message["type"] == "ready"
        leg.ready = message["epoch"]
        return
    peer = peer_of(leg)
    if leg.ready == epoch and peer and not peer.hole and not leg.hole and roles.get(leg.role) is leg:
        await peer.ws.send(message)


async def session(ws, path):
    role = ws.request_headers["Authorization"].split(" ")[1].split("-")[0]
    leg = Leg(ws, role, ws.local_address[1])
    if role in superseded:
        await supersede(leg)
        return
    if is_dated(ws.request_headers["DPoP"]):
        await leg.say(type="closing", code=4402, reason="the clock", retry=True, now_ms=now_ms())
        await ws.close(4402, "the clock")
        return
    if stumbles_at(leg, "open"):
        return
    alive[role] += 1
    count["legs"] += 1
    count["most"] = max(count["most"], alive[role])
    old = roles.get(role)
    roles[role] = leg
    try:
        await leg.say(type="attached", node="test")
        if old and not old.hole:
            asyncio.ensure_future(old.ws.close(4001, "replaced"))
        if not stumbles_at(leg, "attached"):
            await pair()
            stumbles_at(leg, "paired")
        async for message in ws:
            try:
                await on_message(leg, message)
            except ConnectionClosed:
                if ws.closed:
                    break
    except ConnectionClosed:
        pass
    finally:
        alive[role] -= 1
        if role == "client":
            count["bye"] = ws.close_code
        if roles.get(role) is leg:
            del roles[role]
            peer = peer_of(leg)
            if peer:
                try:
                    await peer.say(type="unpaired")
                except ConnectionClosed:
                    pass


def url(name):
    return "https://localhost:%d" % ports[name] if name in ports else name


async def http(reader, writer):
    raw = (await reader.readuntil(b"\r\n\r\n")).decode()
    head = raw.lower()
    if gateway[0]:
        count["misled"] += 1
        writer.write(b"HTTP/1.1 %d x\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                     % (gateway[0], gateway[1].encode(), len(gateway[2]), gateway[2].encode()))
        writer.close()
        return
    proven = "\r\ndpop: " in head and "authorization: bearer" in head
    if head.startswith("delete /v1/sessions/s-1 ") and proven:
        count["deletes"] += 1
        if deleted[0] == 0:  # never answers
            await reader.read()
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % deleted[0])
        writer.close()
        return
    count["attaches"] += 1
    ok = head.startswith("post /v1/sessions/s-1/attach ") and proven
    status, target = answer if ok else (400, "")
    dated = ok and is_dated(raw[head.index("\r\ndpop: "):].split()[1])
    if dated:
        status = 401
    problem = {"code": CODES.get(status, "test"), "detail": "the test says %d" % status}
    body = {"relay_url": url(target)} if status == 200 else problem
    if dated:
        body.update(code="clock", now_ms=now_ms())
    if status == 410 and target:
        body["end"] = {"code": int(target), "text": "it has ended"}
    text = json.dumps(body).encode()
    kind = b"application/json" if status == 200 else b"application/problem+json"
    writer.write(b"HTTP/1.1 %d x\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                 % (status, kind, len(text)) + text)
    await writer.drain()
    writer.close()


def chosen(who):
    return list(roles.values()) if who == "both" else [roles[who]] if who in roles else []


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(sys.argv[1], "ca.pem"), os.path.join(sys.argv[1], "ca.key"))
    return context


async def start(port):
    return await serve(session, "127.0.0.1", port, ssl=tls(), create_protocol=Asker, max_size=None, max_queue=8,
                       compression=None, subprotocols=["tunnel.leg.v1"], ping_interval=None, close_timeout=1)


async def stranger(reader, writer):
    count["taken"] += 1
    if manners[0] == "slam":
        writer.transport.abort()
    else:
        strangers.append((reader, writer))  # open for ever


def leave_port(servers):
    server = servers["A"]
    getattr(server, "server", server).close()


async def command(words, servers):
    name, args = words[0], words[1:]
    if name == "cut":
        for leg in chosen(args[0]):
            leg.ws.transport.abort()
    elif name == "hole":
        for leg in chosen(args[0]):
            leg.hole = True
            leg.ws.transport.pause_reading()
    elif name == "close":
        for leg in chosen(args[0]):
            extra = {"relay_url": url(args[2])} if len(args) > 2 else {}
            await leg.say(type="closing", code=int(args[1]), reason="the test closes", retry=False, **extra)
            asyncio.ensure_future(leg.ws.close(int(args[1]), "the test closes"))
    elif name == "say":
        for leg in chosen(args[0]):
            await leg.ws.send(" ".join(args[1:]))
    elif name in ("freeze", "thaw"):
        for leg in chosen(args[0]):
            leg.may_go.clear() if name == "freeze" else leg.may_go.set()
    elif name == "deaf":
        leave_port(servers)
    elif name in ("mute", "slam"):
        leave_port(servers)
        manners[0] = name
        servers["A"] = await asyncio.start_server(stranger, "127.0.0.1", ports["A"])
    elif name == "down":
        leave_port(servers)
        for leg in [leg for leg in roles.values() if leg.port == ports["A"]]:
            leg.ws.transport.abort()
    elif name == "up":
        leave_port(servers)
        servers["A"] = await start(ports["A"])
        return str(int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000))
    elif name == "swallow":
        swallows[0] = int(args[0])
    elif name == "slow":
        slowness[0] = int(args[0])
        count["asking"] = 0
    elif name == "stumble":
        stumbles[:] = [args[0], int(args[1])]
    elif name == "refuse":
        refusals[:] = [int(args[0]), int(args[1])]
    elif name == "gateway":
        gateway[:] = [int(args[0]), args[1] if len(args) > 1 else "", " ".join(args[2:])]
    elif name == "clock":
        ahead[0] = int(args[0])
    elif name == "supersede":
        superseded.add(args[0])
        for leg in chosen(args[0]):
            asyncio.ensure_future(supersede(leg))
    elif name == "answer":
        answer[:] = [int(args[0]), args[1] if len(args) > 1 else ""]
    elif name == "delete":
        deleted[0] = int(args[0])
    elif name == "stats":
        return " ".join("%s=%s" % item for item in count.items())
    else:
        return "unknown"
    return "ok"


async def main():
    folder = sys.argv[1]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder + "/ca.key", "-out",
         folder + "/ca.pem"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    servers = {"A": await start(0), "B": await start(0)}
    rest = await asyncio.start_server(http, "127.0.0.1", 0, ssl=tls())
    for name in servers:
        ports[name] = servers[name].sockets[0].getsockname()[1]
    print(ports["A"], ports["B"], rest.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(await command(line.split(), servers), flush=True)
    os._exit(0)


asyncio.run(main())
