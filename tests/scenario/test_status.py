"""status: what runs on this machine, asked of the clients themselves."""

import json
import os
import signal
import socket
import stat
import threading

import pytest

from harness import LIMIT, LineReader, send, wait_for


@pytest.fixture
def world(proxied):
    """What a session is started with and asked with has one runtime folder."""
    run = proxied.folder / "r"
    run.mkdir(mode=0o700)
    real = proxied.env
    proxied.env = lambda **more: real(**{"XDG_RUNTIME_DIR": str(run), **more})
    proxied.run = run
    return proxied


def status(world, *args):
    return json.loads(world.cli("status", *args, "--output", "json").stdout)


@pytest.fixture
def echo():
    """A service that sends back what it gets; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                c, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=lambda: [c.sendall(data) for data in iter(lambda: c.recv(65536), b"")], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def test_a_session_tells_of_itself(world, echo):
    p, (port,) = world.forward("web-1", f"127.0.0.1:{echo}")
    (row,) = status(world)
    assert (row["target"], row["kind"], row["pid"], row["resumes"], row["streams"]) == ("web-1", "tcp", p.pid, 0, 0)
    with socket.create_connection(("127.0.0.1", port)) as c:
        c.sendall(b"x" * 5000)
        got = b""
        while len(got) < 5000:
            got += c.recv(65536)
        wait_for(lambda: (r := status(world)[0])["state"] == "up" and r["bytes_in"] == r["bytes_out"] == 5000, "the bytes to be counted")
        wait_for(lambda: status(world, row["session"])[0]["rtt_ms"] is not None, "a round trip")
        (row,) = status(world, row["session"])
        assert row["streams"] == 1 and row["trouble"] == ""
        world.proxy.cut()
        wait_for(lambda: status(world)[0]["resumes"] == 1, "the resumption to be counted")
        stop = threading.Event()

        def send_on():
            while not stop.is_set():
                c.sendall(b"y" * 1000)
                c.recv(65536)

        thread = threading.Thread(target=send_on)
        thread.start()
        try:
            wait_for(lambda: (r := status(world)[0])["bytes_in_per_s"] > 0 and r["bytes_out_per_s"] > 0, "throughput")
        finally:
            stop.set()
            thread.join()
    lines = world.cli("status").stdout.splitlines()
    assert lines[0].split()[:3] == ["SESSION", "TARGET", "STATE"] and lines[1].split()[:3] == [row["session"], "web-1", "up"]
    p.terminate()
    p.wait(LIMIT)
    assert status(world) == [] and list((world.run / "tunnel").iterdir()) == []


def test_an_outage_is_told(world, echo):
    world.proxy.held = True
    p = world.cli_popen("start-session", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo}")
    wait_for(lambda: (rows := status(world)) and rows[0]["trouble"], "an attempt that failed")
    (row,) = status(world)
    assert row["state"] == "connecting" and row["rtt_ms"] is None
    p.terminate()
    p.wait(LIMIT)


def test_who_was_killed_is_not_shown(world, echo):
    p, _ = world.forward("web-1", f"127.0.0.1:{echo}")
    (path,) = (world.run / "tunnel").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    send(signal.SIGSTOP, [p.pid])
    assert status(world) == [], "who does not answer is not waited for"
    send(signal.SIGKILL, [p.pid])
    p.wait(LIMIT)
    assert status(world) == [] and not path.exists()


def test_another_client_takes_it_over(world, echo):
    """The one that lost it ends later than the other began."""
    p, _ = world.forward("web-1", f"127.0.0.1:{echo}")
    (row,) = status(world)
    send(signal.SIGSTOP, [p.pid])
    q = world.cli_popen("resume-session", row["session"], "--port-forward", f"0:127.0.0.1:{echo}")
    q.lines = LineReader(q.stderr)
    q.lines.wait("listening on")
    send(signal.SIGCONT, [p.pid])
    assert p.wait(LIMIT) == 242
    (row,) = status(world, row["session"])
    assert row["pid"] == q.pid
    q.terminate()
    q.wait(LIMIT)
    assert list((world.run / "tunnel").iterdir()) == []


def test_one_that_does_not_run_here(world):
    r = world.cli("status", "s-1", check=False)
    assert r.returncode == 233 and "does not run here" in r.stderr
    r = world.cli("status")
    assert r.stdout == "" and "no session of yours" in r.stderr
    assert world.cli("status", "--quiet").stderr == ""


def test_a_folder_of_others_is_not_used(world, echo):
    (world.run / "tunnel").mkdir(mode=0o777)
    os.chmod(world.run / "tunnel", 0o777)
    r = world.cli("status", check=False)
    assert r.returncode == 230 and "yours alone" in r.stderr
    p, _ = world.forward("web-1", f"127.0.0.1:{echo}")
    assert list((world.run / "tunnel").iterdir()) == [], "the session runs without"
    p.terminate()
    p.wait(LIMIT)
