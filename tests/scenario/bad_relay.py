"""A relay that means harm: it stands between the ends and the real one, with the server's certificate, so it sees and changes all
that a relay could. What the ends say to the server as HTTP it passes on; of the messages that follow it flips bits, cuts pieces off,
swaps, repeats what it heard before, in this epoch or an earlier one, or holds back one direction."""

import asyncio
import contextlib
import random
import ssl
import threading

from harness import LIMIT

KINDS = ("flip", "truncate", "reorder", "replay", "replay_epoch", "invent", "withhold")


class Frames:
    """Reads WebSocket frames off a stream: (first byte, payload without its mask, was it masked)."""

    def __init__(self, reader):
        self.reader = reader

    async def next(self):
        first, second = await self.reader.readexactly(2)
        length = second & 127
        if length > 125:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
        mask = await self.reader.readexactly(4) if second & 128 else b""
        data = bytearray(await self.reader.readexactly(length))
        if mask:
            data = bytearray(b ^ mask[i % 4] for i, b in enumerate(data))
        return first, bytes(data), bool(mask)


def frame(first, data, masked):
    n = len(data)
    head = bytes([first]) + (bytes([n | masked << 7]) if n < 126 else bytes([126 | masked << 7]) + n.to_bytes(2, "big") if n < 65536 else bytes([127 | masked << 7]) + n.to_bytes(8, "big"))
    return head + (bytes(4) if masked else b"") + data


class BadRelay:
    """kinds: what it does, in turn, once on each leg that comes, behind a random number of messages; then it is good."""

    def __init__(self, tls, port, seed, kinds):
        self.to, self.random, self.kinds, self.done = port, random.Random(seed), list(kinds), []
        self.heard, self.port, self.held = [], None, set()
        self.loop, ready = asyncio.new_event_loop(), threading.Event()
        self.server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_side.load_cert_chain(tls / "server.pem", tls / "server.key")
        self.client_side = ssl.create_default_context(cafile=tls / "ca.pem")
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(LIMIT)

    def run(self, ready):
        async def start():
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.server_side)
            self.port = self.server.sockets[0].getsockname()[1]
            ready.set()

        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(start())
        self.loop.run_forever()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT)

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.to, ssl=self.client_side, server_hostname="localhost")
            head = await reader.readuntil(b"\r\n\r\n")
            up_writer.write(head)
            answer = await up_reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            leg = b"/leg HTTP" in head and b" 101 " in answer
            ends = [self.pump(reader, up_writer, leg), self.pump(up_reader, writer, leg)]
            tasks = [asyncio.ensure_future(e) for e in ends]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            up_writer.close()
        writer.close()

    async def pump(self, reader, writer, leg):
        if not leg:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            return
        frames, mine, last = Frames(reader), [], None
        # Behind the handshake of the inner TLS or in the middle of it, as it comes.
        fault = None
        left = self.random.randrange(1, 12)
        while True:
            first, data, masked = await frames.next()
            out = [data]
            if first & 15 == 2 or first & 15 == 0:
                left -= 1
                if left == 0 and self.kinds:
                    fault = self.kinds.pop(0)
                    self.done.append(fault)
                    if fault == "withhold":
                        while True:  # what comes is read and goes nowhere
                            await frames.next()
                    if fault == "reorder":
                        last = data
                        out = []
                    else:
                        out = self.change(fault, data, mine)
                elif last is not None:
                    out, last = [data, last], None
                mine.append(data)
                self.heard.append(data)
                del mine[:-32], self.heard[:-2000]
            for data in out:
                writer.write(frame(first, data, masked))
            await writer.drain()

    def change(self, fault, data, mine):
        some = bytearray(data)
        if fault == "flip":
            some[self.random.randrange(len(some))] ^= 1 << self.random.randrange(8)
            return [bytes(some)]
        if fault == "truncate":
            return [bytes(some[: self.random.randrange(len(some))])]
        if fault == "invent":
            return [data, self.random.randbytes(self.random.randrange(1, 2000))]
        earlier = self.heard[: -len(mine) or None] if fault == "replay_epoch" else mine
        return [data, self.random.choice(earlier or [data])]
