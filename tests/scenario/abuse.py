"""What the tests of abuse share: somebody who works meanwhile and must notice nothing, and sockets that behave badly.

Attackers come from 127.0.0.2 and up, everybody else from 127.0.0.1; the servers here except no address from their limits.
"""

import contextlib
import secrets
import socket
import ssl
import threading
import time

from harness import LIMIT, TcpServer, echo_until_eof, wait_for
from swarm import percentile

LIMITED = "limits: { except = [ ]; };"
ATTACKER = "127.0.0.2"
FLOOR = 0.02  # seconds that a busy machine may add to one round trip in a hundred by itself
TURNS = 150


class Bystander:
    """A live session that echoes."""

    def __init__(self, stack, target="web-1"):
        self.echo = TcpServer(echo_until_eof)
        self.p, (port,) = stack.forward(target, f"127.0.0.1:{self.echo.port}")
        self.s = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.measure()

    def measure(self, turns=TURNS):
        """The round trip that 99 of 100 do not exceed, in seconds."""
        times = []
        for _ in range(turns):
            sent = secrets.token_bytes(32)
            begun = time.monotonic()
            self.s.sendall(sent)
            got = b""
            while len(got) < len(sent):
                more = self.s.recv(64)
                assert more, "the session of somebody else broke"
                got += more
            times.append(time.monotonic() - begun)
            assert got == sent, "the session of somebody else has other bytes"
            time.sleep(0.002)
        return percentile(times, 99)

    @contextlib.contextmanager
    def keeps_its_latency(self, during):
        """While during() runs, again and again on a thread of its own, the p99 stays within twice that of quiet moments
        before and after. Of five such comparisons one has to hold: the machine has other work, too."""
        stop, failed = threading.Event(), []

        def run():
            try:
                while not stop.is_set():
                    during()
            except BaseException as e:  # noqa: BLE001: told by the test's own thread
                failed.append(e)

        seen = []
        for _ in range(5):
            quiet = self.measure()
            stop.clear()
            attack = threading.Thread(target=run, daemon=True)
            attack.start()
            loud = self.measure()
            stop.set()
            attack.join(LIMIT)
            assert not attack.is_alive(), "the attack does not end"
            if failed:
                raise failed[0]
            seen.append((max(quiet, self.measure(TURNS // 3)), loud))
            if loud <= 2 * seen[-1][0] + FLOOR:
                break
        else:
            raise AssertionError(f"p99 of round trips, quiet and during the attack, in seconds: {seen}")
        yield seen

    def close(self):
        self.s.close()
        self.p.terminate()
        self.p.wait(LIMIT)
        self.echo.close()


def unhurt(stack, bystander, during):
    with bystander.keeps_its_latency(during) as seen:
        assert stack.server.alive(), stack.tails()
    print("p99 quiet and loud:", [(round(a, 4), round(b, 4)) for a, b in seen])


def plain(stack, source=ATTACKER):
    return socket.create_connection(("127.0.0.1", stack.port), LIMIT, source_address=(source, 0))


def secure(stack, source=ATTACKER, alpn=None):
    context = ssl.create_default_context(cafile=stack.folder / "tls" / "ca.pem")
    if alpn:
        context.set_alpn_protocols([alpn])
    return context.wrap_socket(plain(stack, source), server_hostname="localhost")


def is_closed(s):
    """Without waiting: has the peer closed it? What it says is thrown away."""
    s.setblocking(False)
    try:
        while s.recv(65536):
            pass
        return True
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            s.setblocking(True)


def answer(s):
    """One HTTP answer: (status, head, body), everything in bytes; status 0: none came."""
    got = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in got:
            more = s.recv(65536)
            if not more:
                break
            got += more
        head, _, body = got.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            more = s.recv(65536)
            if not more:
                break
            body += more
        return int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0, head, body
    return 0, got, b""


def request(s, method, path, headers=(), body=b""):
    lines = [f"{method} ".encode() + (path if isinstance(path, bytes) else path.encode()) + b" HTTP/1.1", b"Host: localhost"]
    lines += [h if isinstance(h, bytes) else h.encode() for h in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}".encode())
    with contextlib.suppress(OSError):  # it may have been told to go before all was said
        s.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    return answer(s)


def header(head, name):
    """A header of an answer as text; None."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name.lower().encode():
            return value.strip().decode()
    return None


def metric(stack, name):
    text = stack.curl("/metrics").stdout
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


def wait_closed(sockets, what):
    wait_for(lambda: all(is_closed(s) for s in sockets), what, every=0.2)
