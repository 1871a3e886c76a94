"""What SIGHUP changes in a running agent and in its running sessions, and what the server's welcome and offer set."""

import json
import os
import signal
import socket
import time

import pytest
from agent_world import Control, connect, world  # noqa: F401
from harness import LIMIT, TcpServer, echo_until_eof, is_gone, opens_nothing, wait_for


def set_allow(agent, allow, conf=""):
    path = agent.folder / "agent.conf"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("allow =")]
    path.write_text("\n".join(lines) + f"\nallow = {json.dumps(allow)};\n{conf}\n")


def open_stream(port, word):
    s = socket.create_connection(("127.0.0.1", port), LIMIT)
    s.settimeout(LIMIT)
    s.sendall(word)
    assert s.recv(100) == word
    return s


def test_a_new_allow_list_reaches_running_sessions(stack):
    agent = stack.agents["web-1"]
    a, b = TcpServer(echo_until_eof), TcpServer(echo_until_eof)
    _, (port_a, port_b, port_ssh) = stack.forward("web-1", f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}", f"localhost:{a.port}")
    on_a, on_b, by_name = open_stream(port_a, b"a"), open_stream(port_b, b"b"), open_stream(port_ssh, b"n")

    set_allow(agent, [f"tcp:127.0.0.1:{b.port}"])
    agent.proc.kill(signal.SIGHUP)
    assert is_gone(on_a) and is_gone(by_name)
    on_b.sendall(b"still here")
    assert on_b.recv(100) == b"still here"
    assert opens_nothing(port_a)
    open_stream(port_b, b"b2").close()
    wait_for(
        lambda: any("no longer holds it" in r.get("reason", "") for r in stack.audit() if r["event"] == "stream.close"),
        "the reset in the audit log",
        every=0.1,
    )

    set_allow(agent, ["tcp:127.0.0.0/8:*"])  # judged by address
    agent.proc.kill(signal.SIGHUP)
    wait_for(lambda: agent.proc.text().count("settings read again") == 2, "the second reload")
    on_a = open_stream(port_a, b"a")
    by_name = open_stream(port_ssh, b"n")
    set_allow(agent, [f"tcp:127.0.0.0/9:{a.port}"])
    agent.proc.kill(signal.SIGHUP)
    assert is_gone(on_b)
    by_name.sendall(b"name")
    assert by_name.recv(100) == b"name"


def test_an_empty_allow_list_opens_nothing(stack):
    agent = stack.agents["web-1"]
    set_allow(agent, [])
    agent.proc.kill(signal.SIGHUP)
    wait_for(lambda: "settings read again" in agent.proc.text(), "the reload")
    r = stack.cli("start-session", "--target", "web-1", "--login", "root", "--", "true", check=False)
    assert r.returncode == 237 and "allow" in r.stderr, (r.returncode, r.stderr)
    agent.restart()
    assert stack.cli("start-session", "--target", "web-1", "--login", "root", "--", "true", check=False).returncode == 237


def test_a_new_allow_list_comes_with_a_new_supervisor(stack):
    agent = stack.agents["web-1"]
    a = TcpServer(echo_until_eof)
    _, (port,) = stack.forward("web-1", f"127.0.0.1:{a.port}")
    s = open_stream(port, b"a")
    agent.proc.stop()
    s.sendall(b"alone")
    assert s.recv(100) == b"alone"
    set_allow(agent, ["ssh"])
    agent.restart()
    assert is_gone(s)


def test_a_reload_that_reaches_all_processes_ends_no_session(world):
    """`systemctl kill -s HUP tunnel-agent` means the unit's processes and not the supervisor alone; so does `pkill -f`."""
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    workers = world.workers()
    for pid in (*workers, p.pid):
        os.kill(pid, signal.SIGHUP)
    p.wait_log("new settings")
    assert world.workers() == workers
    c.send({"type": "terminate", "session": "s-1", "code": 4003, "text": "operator"})
    assert c.recv("session-closed")["code"] == 4003


def test_mistakes_keep_the_old_settings(world):
    p = world.start()
    c, _ = connect(world)
    path = world.folder / "agent.conf"
    good = path.read_text()
    for bad, word in [(good + 'alow = "ssh";', "alow"), ('allow = [ "tcp:x" ];', "tcp:x"), (good.replace("ca.pem", "no.pem"), "no.pem")]:
        path.write_text(bad)
        seen = p.text().count("stay as they are")
        p.kill(signal.SIGHUP)
        wait_for(lambda: p.text().count("stay as they are") > seen, f"a line about {word}")
        assert word in p.text().split("stay as they are")[-1]
    c.send(world.offer())
    assert c.recv("accepted", "refused")["type"] == "accepted"
    path.write_text(good.replace(f"{world.folder}/run", f"{world.folder}/run2"))
    p.kill(signal.SIGHUP)
    p.wait_log("needs a restart (sessions go on over it): runtime_dir")
    c.send(world.offer("s-2"))
    assert c.recv("accepted", "refused")["type"] == "accepted"
    assert (world.folder / "run" / "s-2.sock").exists()


def test_other_servers_are_for_the_next_connection(world):
    p = world.start()
    c, _ = connect(world)
    other = Control(world.folder / "tls")
    world.conf(["tcp:127.0.0.1:5432"])
    path = world.folder / "agent.conf"
    path.write_text(path.read_text() + f'\nserver = "https://localhost:{other.port}";\n')
    p.kill(signal.SIGHUP)
    p.wait_log("settings read again")
    c.send(world.offer("s-1", "ssh"))  # on the old connection, by the new list
    assert c.recv("accepted", "refused")["type"] == "refused"
    c.close(4002)
    assert other.accept().recv("hello")


def test_a_reload_keeps_the_servers_that_were_told(world):
    p = world.start()
    other = Control(world.folder / "tls")
    c = world.control.accept()
    c.recv("hello")
    c.welcome(server_urls=[f"https://localhost:{other.port}"])
    wait_for((world.folder / "ready").exists, "the ready file")
    p.kill(signal.SIGHUP)
    p.wait_log("settings read again")
    c.close(4002)
    assert other.accept().recv("hello")


def test_the_host_keys_are_those_of_the_sshd_of_now(world):
    p = world.start()
    _, hello = connect(world)
    (own,) = hello["ssh_host_keys"]
    path = world.folder / "agent.conf"
    before = path.read_text()
    path.write_text(before + '\nssh = "127.0.0.1:22";\n')
    p.kill(signal.SIGHUP)
    _, hello = connect(world)
    assert own not in hello["ssh_host_keys"]
    path.write_text(before)
    p.kill(signal.SIGHUP)
    _, hello = connect(world)
    assert hello["ssh_host_keys"] == [own]


def test_nothing_goes_out_in_plain_text(world):
    trap = socket.create_server(("127.0.0.1", 0))
    trap.setblocking(False)
    plain = f"http://localhost:{trap.getsockname()[1]}"
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer(relay_url=plain))
    m = c.recv("accepted", "refused")
    assert m["type"] == "refused" and "must start with https://" in m["text"], m
    p.stop()
    (world.state / "target.json").write_text(json.dumps({"id": "web-1", "server": plain}))
    p = world.start()
    p.wait_log("must start with https://")
    wait_for(lambda: not p.alive(), "an end of the agent that has no server")
    with pytest.raises(BlockingIOError):
        trap.accept()


def test_the_heartbeat_is_the_servers(world):
    p = world.start()
    c = world.control.accept()
    c.recv("hello")
    c.welcome(heartbeat_s=1)
    world.control.loop.call_soon_threadsafe(c.ws.transport.pause_reading)  # no pong any more
    p.wait_log("no answer for ")
    assert int(p.text().split("no answer for ")[1].split()[0]) < 15000  # what it would be without that word
    connect(world)


def test_a_server_that_drains_for_ever_is_not_besieged(world):
    world.start()
    started = time.monotonic()
    for _ in range(10):
        c, _ = connect(world)
        c.send({"type": "drain"})
        assert c.closed() == 1000
    world.control.accept()
    assert time.monotonic() - started > 1


def test_a_worker_that_reaches_nobody_ends(world):
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer(detach_grace_s=1))
    c.send(world.offer("s-2"))
    c.recv("accepted")
    m = c.recv("session-closed")  # s-2 was not told a grace
    assert (m["session"], m["code"]) == ("s-1", 4006) and p.alive()
    wait_for(lambda: len(world.workers()) == 1, "its worker to be gone")
