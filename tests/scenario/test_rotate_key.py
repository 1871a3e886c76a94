"""An agent changes its key: sessions go on, the key of before counts no more, and no death in between locks it out."""

import os
import shutil
import socket
import subprocess
import time

import pytest

from harness import AGENT, Proc, TcpServer, echo_until_eof, wait_for


@pytest.fixture
def rig(stack):
    stack.agent = stack.agents["web-1"]
    stack.state = stack.agent.folder / "state"
    stack.echo = TcpServer(echo_until_eof)
    yield stack
    stack.echo.close()


def key(stack, name="identity.pem"):
    try:
        return (stack.state / name).read_bytes()
    except FileNotFoundError:
        return None


def rotate(stack, **kw):
    return subprocess.run([str(AGENT), "rotate-key", "--config", str(stack.agent.folder / "agent.conf")],
                          capture_output=True, text=True, env=stack.env(), **kw)


def rotate_in_background(stack):
    p = subprocess.Popen([str(AGENT), "rotate-key", "--config", str(stack.agent.folder / "agent.conf")],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=stack.env())
    stack.procs.append(p)
    return p


def events(stack, name):
    return [a for a in stack.audit() if a["event"] == name]


def thief_is_refused(stack, old):
    """Another machine with a copy of the folder as it was: key of before and all."""
    folder = stack.folder / "thief"
    shutil.copytree(stack.agent.folder, folder, ignore=lambda d, names: [n for n in names if n in ("run", "ready", "log", "lock")])
    (folder / "state" / "identity.pem").write_bytes(old)
    (folder / "state" / "identity.pem.next").unlink(missing_ok=True)
    conf = (folder / "agent.conf").read_text().replace(str(stack.agent.folder), str(folder))
    (folder / "agent.conf").write_text(conf)
    p = Proc([AGENT, "--config", folder / "agent.conf"], folder / "log", env=stack.env())
    stack.procs.append(p)
    p.wait_log("the server refuses target web-1")
    assert "msg=connected" not in p.text()
    p.stop()
    assert stack.agent.proc.alive() and "another agent connected" not in stack.agent.proc.text()


def test_sessions_go_on_and_the_old_key_is_worth_nothing(rig):
    s = rig
    old, link = key(s), key(s, "link.pem")
    p, (port,) = s.forward("web-1", f"127.0.0.1:{s.echo.port}")
    conn = socket.create_connection(("127.0.0.1", port))
    conn.sendall(b"before ")
    r = rotate(s)
    assert (r.returncode, r.stdout) == (0, "web-1 has a new key; the one before counts no more\n"), r.stderr
    assert key(s) != old and key(s, "identity.pem.next") is None and key(s, "link.pem") == link
    s.wait_connected("web-1")
    conn.sendall(b"after")
    conn.shutdown(socket.SHUT_WR)
    got = b""
    while part := conn.recv(4096):
        got += part
    assert got == b"before after"
    assert "connection lost" not in "\n".join(p.lines.lines), "the session's legs are its own"
    q, _ = s.forward("web-1", f"127.0.0.1:{s.echo.port}")  # and new ones start
    wait_for(lambda: len(s.json("list-sessions", "--state", "active")) == 2, "both sessions to be active", every=0.1)
    (stored,), (used,) = events(s, "target.rotate"), events(s, "target.rotated")
    assert stored["target"] == used["target"] == "web-1" and stored["identity_pin"] == used["identity_pin"]
    thief_is_refused(s, old)
    for f in (p, q):
        f.terminate()
        assert f.wait(60) == 0


def test_a_cut_session_comes_back_behind_a_change(proxied):
    """Its worker proves itself by a key of its own, which stays."""
    s = proxied
    s.agent = s.agents["web-1"]
    s.state = s.agent.folder / "state"
    echo = TcpServer(echo_until_eof)
    p, (port,) = s.forward("web-1", f"127.0.0.1:{echo.port}")
    conn = socket.create_connection(("127.0.0.1", port))
    conn.sendall(b"before ")
    assert rotate(s).returncode == 0
    s.proxy.cut()
    p.lines.wait("resumed after")
    conn.sendall(b"after")
    conn.shutdown(socket.SHUT_WR)
    got = b""
    while part := conn.recv(4096):
        got += part
    assert got == b"before after"
    p.terminate()
    assert p.wait(60) == 0
    echo.close()


def test_asked_for_while_it_does_not_run(rig):
    s = rig
    old = key(s)
    s.agent.proc.stop()
    r = rotate(s)
    assert r.returncode == 0 and "changes to it when it runs" in r.stdout, r.stderr
    assert key(s) == old and key(s, "identity.pem.next")
    s.agent.restart()
    wait_for(lambda: key(s, "identity.pem.next") is None, "the new key to be in use")
    assert key(s) != old
    s.wait_connected("web-1")


def test_the_server_is_away(rig):
    s = rig
    old = key(s)
    s.server.kill()
    s.server.p.wait()
    p = rotate_in_background(s)
    wait_for(lambda: key(s, "identity.pem.next"), "the next key")
    assert key(s) == old
    s.start_server()
    wait_for(lambda: key(s, "identity.pem.next") is None, "the new key to be in use")
    s.wait_connected("web-1")
    p.wait()


def restart_dead(stack, proc):
    """Whichever of the two was killed comes back."""
    if proc is stack.server:
        stack.start_server()
    else:
        stack.agent.restart()


# What is seen of the steps, in order; whoever is killed when it is seen dies there or a step later.
STEPS = {
    "made": lambda s: key(s, "identity.pem.next"),
    "stored": lambda s: s.stored(),
    "used": lambda s: "the agent has changed its key" in s.server.text(),
}


@pytest.mark.parametrize("who", ["agent", "server"])
@pytest.mark.parametrize("step", list(STEPS))
def test_a_death_at_any_step_locks_nobody_out(rig, who, step):
    s = rig
    old = key(s)
    s.stored = lambda: "the server has the new key" in s.agent.proc.text()
    p = rotate_in_background(s)
    wait_for(lambda: STEPS[step](s) or key(s) != old, f"the new key to be {step}", every=0.001)
    victim = s.server if who == "server" else s.agent.proc
    victim.kill()
    victim.p.wait()
    restart_dead(s, victim)
    wait_for(lambda: key(s, "identity.pem.next") is None, "the new key to be in use")
    assert key(s) != old
    s.wait_connected("web-1")
    p.wait()
    thief_is_refused(s, old)


@pytest.mark.parametrize("taken", [False, True])
def test_both_keys_on_disk_and_the_server_has_one(rig, taken):
    """An agent that died behind the server's word, or whose disk went back: whichever key the server has, it is found."""
    s = rig
    old = key(s)
    s.agent.proc.stop()
    assert rotate(s).returncode == 0
    if taken:
        new = key(s, "identity.pem.next")
        s.agent.restart()
        wait_for(lambda: key(s) == new, "the new key to be in use")
        s.wait_connected("web-1")
        s.agent.proc.kill()
        s.agent.proc.p.wait()
        (s.state / "identity.pem").write_bytes(old)
        fd = os.open(s.state / "identity.pem.next", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, new)
        os.close(fd)
    s.agent.restart()
    wait_for(lambda: key(s, "identity.pem.next") is None, "the new key to be in use")
    s.wait_connected("web-1")
    refusals = s.agent.proc.text().count("the server refuses target")
    assert refusals == (1 if taken else 0), "the other key is tried at once"


def test_a_key_that_is_old_enough_is_changed_by_itself(rig):
    s = rig
    s.agent.proc.stop()
    old = key(s)
    conf = s.agent.folder / "agent.conf"
    conf.write_text(conf.read_text() + 'key_rotation = "30d";\n')
    s.agent.restart()
    s.wait_connected("web-1")
    assert key(s) == old and key(s, "identity.pem.next") is None
    s.agent.proc.stop()
    month_ago = time.time() - 31 * 86400
    os.utime(s.state / "identity.pem", (month_ago, month_ago))
    s.agent.restart()
    wait_for(lambda: key(s) != old, "another key")
    s.wait_connected("web-1")
    assert len(events(s, "target.rotated")) == 1


def test_what_stands_in_the_way_is_told(rig):
    s = rig
    nobody = subprocess.run([str(AGENT), "rotate-key", "--state-dir", str(s.folder / "none"), "--config", str(s.agent.folder / "agent.conf")],
                            capture_output=True, text=True, env=s.env())
    assert nobody.returncode == 1 and "not enrolled" in nobody.stderr, nobody.stderr
    conf = s.agent.folder / "short.conf"
    conf.write_text((s.agent.folder / "agent.conf").read_text() + 'key_rotation = "5s";\n')
    r = subprocess.run([str(AGENT), "--check-config", "--config", str(conf)], capture_output=True, text=True, env=s.env())
    assert r.returncode == 1 and "key_rotation: expected 0 (never) or at least 60s" in r.stderr, r.stderr
