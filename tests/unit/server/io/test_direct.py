"""The server's own transport: who gets it, and what hostile clients of its protocol get. See harness.main for the arguments.

That it carries legs and agents is in test_legs.py, test_hostile_legs.py and test_upgrades.py, which run over it, too.
"""

import json
import os
import socket
import ssl
import struct
import time
import warnings

from harness import LIMIT, Server, answer, main, patiently

OURS = "tunnel-leg/1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET /v1/sessions/{session}/leg HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nAuthorization: Bearer client\r\n"
    "DPoP: p\r\nSec-WebSocket-Protocol: tunnel.leg.v1\r\n"
)


def upgrade(session="s-1", more=""):
    return (UPGRADE.format(session=session) + more + "\r\n").encode()


def frame(op, payload=b"", fin=True, mask=b"\1\2\3\4", bits=0):
    """A client's frame; mask b"": not masked."""
    n, masked = len(payload), bool(mask) << 7
    head = bytes([fin << 7 | bits | op])
    head += bytes([masked | n]) if n < 126 else bytes([masked | 126]) + struct.pack(">H", n) if n < 65536 else bytes([masked | 127]) + struct.pack(">Q", n)
    return head + mask + (bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload)


class Ws:
    """A WebSocket on a socket, after its upgrade: frames as they are."""

    def __init__(self, sock, first=b""):
        self.sock, self.data = sock, first

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self.data += piece

    def until(self, mark):
        while mark not in self.data:
            self.more()
        head, _, self.data = self.data.partition(mark)
        return head

    def frame(self):
        """(opcode, payload)"""
        while True:
            if len(self.data) >= 2:
                n, at = self.data[1] & 127, 2
                assert not self.data[1] & 128, "a server's frame is masked"
                if n == 126 and len(self.data) >= 4:
                    n, at = struct.unpack(">H", self.data[2:4])[0], 4
                if n == 127 and len(self.data) >= 10:
                    n, at = struct.unpack(">Q", self.data[2:10])[0], 10
                if len(self.data) >= at + n and (n != 126 or at == 4):
                    op, payload = self.data[0] & 15, self.data[at:at + n]
                    self.data = self.data[at + n:]
                    return op, payload
            self.more()

    def close_code(self):
        while True:
            op, payload = self.frame()
            if op == 8:
                return struct.unpack(">H", payload[:2])[0]


def open_leg(s, session="s-1", behind=b""):
    sock = s.raw(alpn=OURS)
    sock.sendall(upgrade(session) + behind)
    ws = Ws(sock)
    assert b" 101 " in ws.until(b"\r\n\r\n")
    return ws


class ByHand:
    """A TLS client whose bytes the test sends as it likes."""

    def __init__(self, s, protocols):
        context = s.context("")
        context.set_alpn_protocols(protocols)
        self.sock = socket.create_connection(("localhost", s.port), timeout=LIMIT)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.hello = self.outgoing.read()

    def finish(self):
        while True:
            try:
                self.tls.do_handshake()
                self.sock.sendall(self.outgoing.read())
                return self.tls.selected_alpn_protocol()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                piece = self.sock.recv(65536)
                assert piece, "the server closed the connection"
                self.incoming.write(piece)


def no_connections(s):
    end = time.monotonic() + LIMIT
    while s.ask("connections", "connections") != "connections 0":
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- who gets it ----


def test_the_client_hello_decides():
    with Server() as s:
        for offer, want in (([OURS], OURS), ([OURS, "http/1.1"], OURS), (["http/1.1", OURS], OURS), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")):
            c = ByHand(s, offer)
            c.sock.sendall(c.hello)
            assert c.finish() == want, offer
        assert s.raw(alpn="").selected_alpn_protocol() is None
        assert s.curl(s.url + "/x").stdout


def test_a_hello_in_pieces():
    """However it is cut, it is waited for, in silence, and then taken by whom it is for."""
    with Server(reactors=1, header_ms=120000) as s:
        for offer in ([OURS], ["http/1.1"]):
            c = ByHand(s, offer)
            for cut in (1, 2, 5, 6, 9, 40, len(c.hello) - 1):
                c = ByHand(s, offer)
                c.sock.sendall(c.hello[:cut])
                time.sleep(0.02)  # not needed for the result: a piece may come alone
                c.sock.sendall(c.hello[cut:])
                assert c.finish() == offer[0], (offer, cut)
        halves = [ByHand(s, [OURS]) for _ in range(20)]
        for c in halves:
            c.sock.sendall(c.hello[:len(c.hello) // 2])
        assert s.curl(s.url + "/x").stdout
        s.assert_quiet("the loop turns while half a hello is there")
        for c in halves:
            c.sock.sendall(c.hello[len(c.hello) // 2:])
            assert c.finish() == OURS


def case_no_hello(ms):
    """None, the half of one, one that is dripped, one that ends: the time for a request's head counts, or it is over at once."""
    with Server(header_ms=ms) as s:
        silent, half, ended, junk = (ByHand(s, [OURS]) for _ in range(4))
        half.sock.sendall(half.hello[:30])
        ended.sock.sendall(ended.hello[:30])
        ended.sock.shutdown(socket.SHUT_WR)
        junk.sock.sendall(b"\x16\x03\x01\xff\xff" + os.urandom(100))
        drip = ByHand(s, [OURS])
        began = time.monotonic()
        try:
            for i in range(len(drip.hello)):
                drip.sock.sendall(drip.hello[i:i + 1])
                time.sleep(ms / 20000)
                assert time.monotonic() - began < LIMIT
            raise AssertionError("it was waited for")
        except OSError:
            pass
        for c in (silent, half, ended, junk):
            try:
                while c.sock.recv(1000):
                    pass
            except ConnectionError:
                pass
        no_connections(s)


def test_no_hello():
    case_no_hello(600)


def test_turned_off():
    """The same client is carried by libwebsockets then."""
    with Server(direct=0) as s:
        c = ByHand(s, [OURS, "http/1.1"])
        c.sock.sendall(c.hello)
        assert c.finish() == "http/1.1"


# ---- TLS ----


def test_sessions_are_resumed_on_any_reactor():
    with Server(reactors=2) as s:
        context = s.context(OURS)

        def connect(session=None):
            sock = socket.create_connection(("localhost", s.port), timeout=LIMIT)
            tls = context.wrap_socket(sock, server_hostname="localhost", session=session)
            tls.sendall(b"GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(tls)[0] == 404  # with it come the tickets
            return tls

        first = connect()
        assert not first.session_reused
        session = first.session
        for _ in range(6):
            again = connect(session)
            assert again.session_reused
            session = again.session


def test_tls_versions_and_cipher():
    with Server() as s:
        with s.raw(alpn=OURS) as c:
            assert c.version() == "TLSv1.3"
            with open("/proc/cpuinfo") as f:
                if " aes " in f.read():
                    assert c.cipher()[0] == "TLS_AES_128_GCM_SHA256", c.cipher()
        context = s.context(OURS)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(socket.create_connection(("localhost", s.port), timeout=LIMIT), server_hostname="localhost") as c:
            assert c.version() == "TLSv1.2"
            c.sendall(upgrade())
            assert b" 101 " in c.recv(65536)
        context = s.context(OURS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is old is the point
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        try:
            context.wrap_socket(socket.create_connection(("localhost", s.port), timeout=LIMIT), server_hostname="localhost")
            raise AssertionError("TLS 1.1 was taken")
        except OSError:
            pass


def test_certificate_reload():
    with Server() as s:
        def serial():
            with s.raw(alpn=OURS) as c:
                return c.getpeercert()["serialNumber"]

        first = serial()
        held = open_leg(s)
        assert s.ask("certificate", "certificate") == "certificate 0"
        assert s.ask("reload", "reload") == "reload 0 "
        end = time.monotonic() + LIMIT
        while serial() == first or serial() == first:  # on each reactor
            assert time.monotonic() < end
        assert json.loads(held.frame()[1])["type"] == "attached"
        held.sock.sendall(frame(9, b"still here"))
        assert held.frame() == (10, b"still here")
        with open(os.path.join(s.folder.name, "server.pem"), "w") as f:
            f.write(ssl.DER_cert_to_PEM_cert(b"broken"))
        assert s.ask("reload", "reload").startswith("reload -")
        assert serial() != first


# ---- requests ----


def refused(s, request):
    with s.raw(alpn=OURS) as c:
        c.sendall(request)
        code, body, head = answer(c)
        assert code == 101 or json.loads(body)["status"] == code, (request, head, body)
        return code


def test_requests_with_two_readings():
    """What another reader could take for something else is refused, with one answer, and the connection ends."""
    good = upgrade()
    with Server() as s:
        for before, after in (
            (b"Host: localhost\r\n", b"Host: localhost\r\nHost: other\r\n"),
            (b"Host: localhost\r\n", b"Host: localhost\r\n folded\r\n"),
            (b"Host: localhost\r\n", b"Host : localhost\r\n"),
            (b"Host: localhost\r\n", b"Host: localhost\n"),
            (b"Host: localhost\r\n", b"Host: local\0host\r\n"),
            (b"Host: localhost\r\n", b"Host: localhost\r\nX: a\rY: b\r\n"),
            (b"DPoP: p\r\n", b"DPoP: p\r\ndpop: q\r\n"),
            (b"Bearer client", b"Bearer client\r\nAuthorization: Bearer other"),
            (b" HTTP/1.1", b" HTTP/1.0"),
            (b" HTTP/1.1", b""),
            (b"GET /v1", b"GET  /v1"),
            (b"GET /v1", b"GET http://localhost/v1"),
            (b"GET /v1", b"\r\nGET /v1"),
            (b"DPoP: p\r\n", b"DPoP: p\r\nContent-Length: 5\r\n"),
            (b"DPoP: p\r\n", b"DPoP: p\r\nContent-Length: -1\r\n"),
            (b"DPoP: p\r\n", b"DPoP: p\r\nTransfer-Encoding: chunked\r\n"),
            (b"Upgrade: websocket", b"Upgrade: h2c"),
            (b"Upgrade: websocket\r\n", b""),
        ):
            assert before in good
            request = good.replace(before, after, 1)
            assert refused(s, request + b"hello" + good) == 400, request
        for path in (b"/v1/whoami", b"/v1/sessions/s-1/leg/", b"/v1/sessions/%73-1/leg", b"//v1/agent", b"/v1/./agent", b"/metrics"):
            assert refused(s, good.replace(b"/v1/sessions/s-1/leg", path)) == 404, path
        assert refused(s, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 400
        assert refused(s, b"CONNECT localhost:22 HTTP/1.1\r\nHost: x\r\n\r\n") == 400
        assert not [x for x in s.lines if x.startswith("attach")]
        no_connections(s)


def test_header_limits():
    with Server() as s:
        assert refused(s, upgrade(more="X-Long: " + "y" * 17000 + "\r\n")) == 431
        assert refused(s, upgrade(more="".join(f"X-{i}: {i}\r\n" for i in range(60)))) == 431
        with s.raw(alpn=OURS) as c:
            c.sendall(upgrade(more="X-Long: " + "y" * 12000 + "\r\n"))
            assert b" 101 " in c.recv(65536)
        # One that does not end is refused when it is too long, not collected.
        before = s.rss()
        for start in (b"GET /" + b"a" * 20000, b"GET / HTTP/1.1\r\nX: " + b"b" * 200000):
            with s.raw(alpn=OURS) as c:
                try:
                    c.sendall(start)
                except OSError:
                    pass
                assert answer(c)[0] in (0, 431)  # 0: our own bytes, which nobody takes, cut its answer off
        assert s.sanitized() or s.rss() - before < 4 * 1024 * 1024


def case_slow_upgrade(ms):
    with Server(header_ms=ms) as s:
        with s.raw(alpn=OURS) as half, s.raw(alpn=OURS) as drip, s.raw(alpn=OURS) as silent:
            half.sendall(b"GET /x HTTP/1.1\r\nHost:")
            try:
                for i in range(400):
                    drip.sendall(upgrade()[i:i + 1])
                    time.sleep(ms / 20000)
                raise AssertionError("a request that drips was waited for")
            except OSError:
                pass
            for c in (half, silent):
                code, body, _ = answer(c)
                assert code == 408 and json.loads(body)["status"] == 408
        no_connections(s)


def test_slow_upgrade():
    patiently(case_slow_upgrade, 600, 5000, 25000)


# ---- frames ----


def test_frames_behind_the_request():
    """Sent ahead, or cut anywhere: they are read once the leg is judged, in order."""
    with Server() as s:
        ws = open_leg(s, behind=frame(9, b"early") + frame(1, b'{"type":"ready",') [:7])
        assert json.loads(ws.frame()[1])["type"] == "attached"
        assert ws.frame() == (10, b"early")
        for byte in frame(1, b'{"type":"ready",')[7:]:
            ws.sock.sendall(bytes([byte]))
        assert json.loads(ws.frame()[1])["code"] == 4008 and ws.close_code() == 4008
        # A second request is none.
        ws = open_leg(s, behind=upgrade())
        assert ws.close_code() == 1002


def test_illegal_frames():
    with Server() as s:
        for bad, code in (
            (frame(2, b"x", mask=b""), 1002),
            (frame(2, b"x", bits=0x40), 1002),
            (frame(3, b"x"), 1002),
            (frame(0, b"x"), 1002),
            (frame(2, b"x", fin=False) + frame(2, b"x"), 1002),
            (frame(9, b"x" * 126), 1002),
            (frame(9, b"x", fin=False), 1002),
            (bytes([0x82, 0xFE, 0, 5]) + bytes(9), 1002),
            (bytes([0x82, 0xFF]) + b"\xff" * 12, 1002),
            (frame(8, b"\x03"), 1002),
            (frame(8, struct.pack(">H", 999)), 1002),
            (frame(8, struct.pack(">H", 1000) + b"\xff"), 1007),
        ):
            ws = open_leg(s)
            assert json.loads(ws.frame()[1])["type"] == "attached"
            ws.sock.sendall(bad + frame(9, b"not heard"))
            assert ws.close_code() == code, bad
            ws.sock.close()
        no_connections(s)


def test_close_is_answered():
    with Server() as s:
        for payload, want in ((struct.pack(">H", 1000) + b"bye", 1000), (b"", None), (struct.pack(">H", 4444), 4444)):
            ws = open_leg(s)
            ws.frame()
            ws.sock.sendall(frame(8, payload) + frame(2, b"behind it"))
            op, got = ws.frame()
            assert op == 8 and (struct.unpack(">H", got[:2])[0] if got else None) == want
            try:
                while ws.sock.recv(1000):
                    raise AssertionError("more came")
            except ssl.SSLError:
                pass
        s.wait_line("bye s-1")
        no_connections(s)


def test_a_storm_of_pings():
    """Of those that come together the last one is answered; a client that reads no answer costs no memory."""
    with Server(reactors=1) as s:
        ws = open_leg(s)
        ws.frame()
        ws.sock.sendall(b"".join(frame(9, b"%04d" % i) for i in range(5000)))
        got = [ws.frame()]
        while got[-1] != (10, b"4999"):
            got.append(ws.frame())
        assert {op for op, _ in got} == {10} and got == sorted(set(got))
        assert len(got) < 500, "one for each read, of which there are some"
        deaf = open_leg(s, "s-2")
        before, block = s.rss(), frame(9, b"p" * 125) * 2000
        deaf.sock.settimeout(1)
        try:
            for _ in range(200):
                deaf.sock.sendall(block)
        except OSError:
            pass
        assert s.sanitized() or s.rss() - before < 8 * 1024 * 1024, (before, s.rss())
        ws.sock.sendall(frame(9, b"three"))
        assert ws.frame() == (10, b"three")


def test_an_end_in_every_state():
    """The server stops while connections of all kinds are there."""
    with Server() as s:
        halves = [ByHand(s, [OURS]) for _ in range(3)]
        halves[0].sock.sendall(halves[0].hello[:20])
        halves[1].sock.sendall(halves[1].hello)
        secured, half = s.raw(alpn=OURS), s.raw(alpn=OURS)
        half.sendall(upgrade()[:40])
        legs = [open_leg(s, f"s-{i}") for i in range(3)]
        legs[0].frame()
        legs[1].sock.sendall(frame(8, b""))
        while int(s.ask("connections", "connections").split()[1]) < 8:
            time.sleep(0.02)
    for c in (secured, half, *(x.sock for x in legs), *(x.sock for x in halves)):
        c.close()


main(globals())
