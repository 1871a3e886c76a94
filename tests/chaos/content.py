"""Content that says where it is wrong: seeded blocks with a stamp, so a missing, repeated or foreign byte is found and located."""

import hashlib
import random
import struct

BLOCK = 1 << 16
STAMP = struct.Struct(">16sQQ")
MASK = (1 << 64) - 1


class Content:
    """Endless bytes that depend on a key alone; block i starts with the key's digest, i, and i's complement."""

    def __init__(self, key):
        self.tag = hashlib.sha256(key.encode()).digest()[:16]
        self.base = random.Random(key).randbytes(2 * BLOCK)

    def block(self, i):
        at = i * 4099 % BLOCK
        return STAMP.pack(self.tag, i, i ^ MASK) + self.base[at : at + BLOCK - STAMP.size]

    def at(self, offset, n):
        out = b"".join(self.block(i) for i in range(offset // BLOCK, (offset + n - 1) // BLOCK + 1))
        return out[offset % BLOCK :][:n]


class Wrong(Exception):
    pass


class Checker:
    """Takes what arrived, in pieces of any size; raises Wrong with the offset of the first byte that should be another.
    more(n): up to n further bytes, asked for when something is wrong, to say what."""

    def __init__(self, content, more=lambda n: b""):
        self.content, self.more, self.total, self.sha = content, more, 0, hashlib.sha256()
        self.number, self.block = -1, b""

    def feed(self, data):
        at, end = 0, len(data)
        while at < end:
            number, inside = divmod(self.total, BLOCK)
            if number != self.number:
                self.number, self.block = number, self.content.block(number)
            n = min(end - at, BLOCK - inside)
            expected = self.block if n == BLOCK else self.block[inside : inside + n]
            if not data.startswith(expected, at):
                raise Wrong(self.locate(data[at : at + n], expected, data[at:]))
            at += n
            self.total += n
        self.sha.update(data)

    def locate(self, got, expected, rest):
        """The first wrong byte, and by the next stamp how far what follows is from its place."""
        k = next(i for i in range(len(expected)) if got[i] != expected[i])
        where = self.total + k
        text = f"byte {where}: got {rest[k : k + 16].hex()}, expected {expected[k : k + 16].hex()}"
        stream = rest + (self.more(2 * BLOCK) if len(rest) < 2 * BLOCK else b"")
        p = stream.find(self.content.tag, k)
        if p < 0 or len(stream) < p + STAMP.size:
            return text + f"; no stamp of this stream in the {len(stream) - k} bytes from there"
        _, number, complement = STAMP.unpack_from(stream, p)
        shift = number * BLOCK - (self.total + p)
        if number ^ MASK != complement or shift == 0:
            return text + "; changed on the way, what follows is in its place"
        return text + f"; what follows is {abs(shift)} bytes off: {'missing' if shift > 0 else 'sent twice'}"
