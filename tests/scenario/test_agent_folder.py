"""What lies in the runtime folder and is no worker's: it is refused with a line in the log, and nobody waits for it."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from agent_world import connect, world  # noqa: F401
from harness import wait_for


def listen(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen(4)
    return s


def closed(c, session):
    m = c.recv("session-closed")
    assert m["session"] == session
    return m


def test_files_that_are_no_workers(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    elsewhere = listen(world.folder / "elsewhere")
    secret = world.folder / "secret"
    secret.write_text(json.dumps({"reports": []}))
    (run / "s-link.sock").symlink_to(world.folder / "elsewhere")
    (run / "s-link2.exit").symlink_to(secret)
    (run / "s-file.sock").write_text("x")
    os.mkfifo(run / "s-fifo.exit")
    (run / "s-folder.sock").mkdir()
    strangers = ["s-link.sock", "s-link2.exit", "s-file.sock", "s-fifo.exit", "s-folder.sock"]
    if os.geteuid() == 0:
        os.mknod(run / "s-other.exit", 0o600)
        os.chown(run / "s-other.exit", 65534, 65534)
        strangers.append("s-other.exit")
    for name in ("other.txt", "s-x@01.sock", "s-y@2@3.sock", ".sock"):  # no worker has such a name
        (run / name).write_text("")
    p = world.start()
    c, hello = connect(world)
    assert hello["sessions"] == []
    for name in strangers:
        assert f"{name} is not a worker's" in p.text()
    assert sorted(os.listdir(run)) == [".sock", "other.txt", "s-folder.sock", "s-x@01.sock", "s-y@2@3.sock"]
    elsewhere.setblocking(False)
    with pytest.raises(BlockingIOError):
        elsewhere.accept()  # nobody came by the link
    assert secret.exists()
    c.send(world.offer("s-file"))
    assert c.recv("accepted", "refused", "session-closed")["type"] == "accepted"


def test_the_socket_of_a_dead_worker(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    listen(run / "s-dead.sock").close()
    world.start()
    c, hello = connect(world)
    assert hello["sessions"] == [] and closed(c, "s-dead")["code"] == 4010
    assert os.listdir(run) == []


def test_an_exit_record_beside_a_dead_socket_speaks_once(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    body = {"type": "session-closed", "session": "s-1", "generation": 1, "code": 4003, "text": "operator"}
    for name in ("s-1", "s-2", "s-3"):
        listen(run / f"{name}.sock").close()
        report = {"type": "report", "n": 1, "body": body | {"session": name}}
        (run / f"{name}.exit").write_text(json.dumps({"worker": name, "reports": [report]}))
    world.start()
    c, hello = connect(world)
    assert hello["sessions"] == []
    c.send(world.offer("s-4"))
    seen = []
    while (m := c.recv("session-closed", "accepted"))["type"] != "accepted":
        seen.append((m["session"], m["code"]))
    assert sorted(seen) == [("s-1", 4003), ("s-2", 4003), ("s-3", 4003)]


def test_an_exit_record_that_cannot_be_read_is_kept(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    body = {"type": "session-closed", "session": "s-1", "generation": 1, "code": 4003, "text": "operator"}
    whole = json.dumps({"worker": "s-1", "reports": [{"type": "report", "n": 1, "body": body}]})
    (run / "s-1.exit").write_text(whole[:-5])
    p = world.start()
    c, _ = connect(world)
    assert "session=s-1" in p.wait_log('msg="its exit record')
    assert (run / "s-1.exit").read_text() == whole[:-5]
    (run / "whole").write_text(whole)
    (run / "whole").rename(run / "s-1.exit")
    assert closed(c, "s-1")["code"] == 4003


def test_a_socket_that_speaks_for_another(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    s = listen(run / "s-1.sock")
    p = world.start()
    c, _ = connect(world)
    peer, _ = s.accept()
    peer.sendall(json.dumps({"type": "hello", "session": "s-1", "generation": 2, "pid": 1}).encode() + b"\n")
    assert "session=s-1" in p.wait_log("its socket is not a worker's")
    wait_for(lambda: os.listdir(run) == [], "the socket to be gone")
    c.send(world.offer())
    assert c.recv("accepted", "refused", "session-closed")["type"] == "accepted"


def test_a_socket_that_says_nonsense_or_nothing(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    loud, silent = listen(run / "s-1.sock"), listen(run / "s-2.sock")
    p = world.start()
    c, _ = connect(world)
    peer, _ = loud.accept()
    quiet, _ = silent.accept()
    peer.sendall(b"{ nonsense\n")
    assert "session=s-1" in p.wait_log("its worker does not answer")
    c.send(world.offer("s-3"))
    assert c.recv("accepted")["session"] == "s-3"
    again, _ = loud.accept()  # it is asked again
    for x in (peer, again, quiet, loud, silent):
        x.close()
    assert {c.recv("session-closed")["session"] for _ in range(2)} == {"s-1", "s-2"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_socket_behind_which_another_user_listens(world):
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    code = """
import os, signal, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(65534); s.listen(4)
print("ready", flush=True); signal.pause()
"""
    impostor = subprocess.Popen([sys.executable, "-c", code, str(run / "s-1.sock")], stdout=subprocess.PIPE)
    try:
        assert impostor.stdout.readline() == b"ready\n"
        p = world.start()
        c, hello = connect(world)
        assert hello["sessions"] == []
        assert "session=s-1" in p.wait_log("its socket is not a worker's, the other end is user 65534")
        assert os.listdir(run) == []
    finally:
        impostor.send_signal(signal.SIGKILL)
        impostor.wait()
