"""The agent's supervisor against a control server that the test plays: what it says, when, and what it does with nonsense."""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agent_world import Control, connect, world  # noqa: F401
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from harness import AGENT, LIMIT, wait_for


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_credential_and_hello(world):
    world.start()
    c = world.control.accept()
    scheme, token = c.ws.request_headers["Authorization"].split()
    head, body, sig = token.split(".")
    assert scheme == "Bearer" and json.loads(unb64(head)) == {"typ": "JWT", "alg": "ES256", "kid": "web-1"}
    claims, raw = json.loads(unb64(body)), unb64(sig)
    assert claims["iss"] == claims["sub"] == "web-1" and claims["aud"] == "tunnel-server"
    assert claims["exp"] - claims["iat"] <= 60 and abs(claims["iat"] - time.time()) < 30 and len(claims["jti"]) >= 22
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    world.key.public_key().verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    hello = c.recv("hello")
    assert hello["sessions"] == [] and hello["ssh_host_keys"][0].startswith("ssh-ed25519 ")
    assert not (world.folder / "ready").exists()
    c.welcome()
    wait_for((world.folder / "ready").exists, "the ready file")
    c.close(4002)
    again, _ = connect(world)  # comes back by itself, with a new proof
    assert again.ws.request_headers["Authorization"] != c.ws.request_headers["Authorization"]


def test_the_time_it_is_told_goes_into_its_next_assertion(world):
    world.start()
    for ahead in (7200, 0):
        c = world.control.accept()
        c.recv("hello")
        c.send({"type": "clock", "now_ms": int((time.time() + ahead) * 1000)})
        c.close(4402, "assertion: it expired 7140 s ago; is the clock right?")
        again, _ = connect(world)
        claims = json.loads(unb64(again.ws.request_headers["Authorization"].split(".")[1]))
        assert abs(claims["iat"] - ahead - time.time()) < LIMIT and claims["exp"] - claims["iat"] <= 60
        again.close(4002)


def test_what_is_taken_away_before_an_offer_is_repeated(world):
    """The server repeats it to an agent whose hello came before its worker was there, with the grant of then."""
    p = world.start()
    c, _ = connect(world)
    offer = world.offer()
    c.send(offer)
    c.recv("accepted")
    c.send(offer | {"grant": offer["grant"] | {"tcp": [], "expires_at_ms": int(time.time() * 1000) + 1500}})
    c.recv("accepted")
    p.wait_log("new grant")
    assert c.recv("session-closed")["code"] == 4004


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("ahead", [7200, -7200])
def test_a_session_s_time_is_over_by_the_server_s_clock(world, ahead, when):
    """One that has seconds left does not end because it is later here, nor go on because it is earlier."""

    def then(seconds):
        return int((time.time() + ahead + seconds) * 1000)

    def tell_time():
        c = world.control.accept()
        c.recv("hello")
        c.send({"type": "clock", "now_ms": then(0)})
        c.close(4402, "assertion: is the clock right?")

    p = world.start()
    if when == "before":
        tell_time()
    c, _ = connect(world)
    offer = world.offer()
    offer["grant"]["expires_at_ms"] = offer["expires_at_ms"] = int((time.time() + max(ahead, 0) + 600) * 1000)
    c.send(offer)
    c.recv("accepted")
    if when == "meanwhile":
        c.close(4002)
        tell_time()
        c, _ = connect(world)
    began = time.monotonic()
    c.send({"type": "grant", "session": "s-1", "grant": offer["grant"] | {"expires_at_ms": then(1.5)}})
    p.wait_log("new grant")
    assert c.recv("session-closed")["code"] == 4004
    assert time.monotonic() - began > 1


def test_sigterm_leaves_cleanly(world):
    p = world.start()
    connect(world)
    wait_for((world.folder / "ready").exists, "the ready file")
    assert p.stop() == 0
    assert not (world.folder / "ready").exists()


def test_two_supervisors_are_refused(world):
    world.start()
    connect(world)
    r = subprocess.run([str(AGENT), "--config", str(world.folder / "agent.conf")], capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == 1 and "in use" in r.stderr


def test_two_agents_do_not_share_a_runtime_folder(world):
    """They would take each other's workers for their own."""
    world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    other = world.folder / "other"
    shutil.copytree(world.state, other, ignore=shutil.ignore_patterns("lock"))
    command = [str(AGENT), "--config", str(world.folder / "agent.conf"), "--state-dir", str(other)]
    r = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == 1 and "run is another agent's" in r.stderr
    c.send({"type": "terminate", "session": "s-1", "code": 4003, "text": "operator"})
    assert c.recv("session-closed")["code"] == 4003


def writer_of(fifo):
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads it yet
        return None


def test_rotate_key_while_it_starts(world):
    """It cannot be told yet; it finds the key by itself."""
    reports = world.state / "reports"
    os.mkfifo(reports)
    p = world.start()
    writer = wait_for(lambda: writer_of(reports), "it to read its reports")
    command = [str(AGENT), "rotate-key", "--config", str(world.folder / "agent.conf")]
    r = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT)
    assert (r.returncode, r.stdout) == (0, "a new key of web-1 is made; the agent changes to it when it runs\n"), r.stderr
    assert p.alive()
    os.close(writer)
    c = world.control.accept()
    c.recv("hello")
    c.welcome(nonce="n" * 22)
    assert c.recv("rotate")["identity_key"]


@pytest.mark.parametrize(
    "nonsense",
    [
        "{",
        "[]",
        '{"no":"type"}',
        '{"type":"welcome"}',
        '{"type":"offer"}',
        '{"type":"offer","session":"../../etc/passwd"}',
        '{"type":"ack","seq":-1}',
        '{"type":"ack","seq":"1"}',
        '{"type":"terminate","session":"s-1","code":"x"}',
        '{"type":"grant","session":"s-1"}',
        '{"type":"ack","seq":1,"seq":2}',
    ],
)
def test_nonsense_closes_with_4008_and_the_agent_lives(world, nonsense):
    p = world.start()
    c, _ = connect(world)
    c.send(nonsense)
    assert c.closed() == 4008
    connect(world)
    assert p.alive()


def test_offers_before_welcome_are_illegal_and_unknown_types_are_not(world):
    world.start()
    c = world.control.accept()
    c.recv("hello")
    c.send(world.offer())
    assert c.closed() == 4008
    c, _ = connect(world)
    c.send({"type": "from-the-future", "x": 1})
    c.send(world.offer("s-2", "tcp", grant={"tcp": ["10.0.0.1:1"], "expires_at_ms": 1}))
    assert c.recv("refused")["session"] == "s-2"
    assert world.workers() == []


def test_offers_that_the_allow_list_refuses(world):
    world.conf(["tcp:127.0.0.1:5432"])
    world.start()
    c, _ = connect(world)
    c.send(world.offer("s-1", "ssh"))
    m = c.recv("refused", "accepted")
    assert (m["type"], m["session"], m["code"]) == ("refused", "s-1", 1) and "ssh" in m["text"]
    c.send(world.offer("s-2", "tcp"))
    m = c.recv("refused", "accepted")
    assert (m["type"], m["session"]) == ("accepted", "s-2")
    c.send(world.offer("s-2", "tcp"))  # again, after a lost answer
    assert c.recv("refused", "accepted")["type"] == "accepted"
    assert len(world.workers()) == 1


def test_terminate_and_reports_until_acknowledged(world):
    world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    c.send({"type": "terminate", "session": "s-1", "code": 4003, "text": "an operator ended the session"})
    m = c.recv("session-closed")
    assert (m["session"], m["code"], m["text"]) == ("s-1", 4003, "an operator ended the session") and m["seq"] > 0
    wait_for(lambda: world.workers() == [], "the worker to be gone")
    wait_for(lambda: os.listdir(world.folder / "run") == [], "its files to be gone")
    c.close(4002)
    c, hello = connect(world)  # not acknowledged: once more
    assert hello["sessions"] == [] and c.recv("session-closed")["seq"] == m["seq"]
    world.procs[-1].kill()
    world.procs[-1].p.wait()
    world.start()
    c, _ = connect(world)  # and over a crash
    assert c.recv("session-closed")["seq"] == m["seq"]
    c.send({"type": "ack", "seq": m["seq"]})
    c.send(world.offer("s-2"))
    c.recv("accepted")
    c.close(4002)
    c, hello = connect(world)
    assert hello["sessions"] == [{"id": "s-2", "generation": 1}]
    c.send({"type": "terminate", "session": "s-2", "code": 4007, "text": "policy"})
    m2 = c.recv("session-closed")
    assert m2["session"] == "s-2" and m2["seq"] > m["seq"]


@pytest.mark.parametrize("rest, closed", [('"code":0', None), ('"code":"x"', 4008), ('"code":4003,"text":1', 4008)])
def test_a_terminate_ends_its_session_whatever_else_it_says(world, rest, closed):
    world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    c.send('{"type":"terminate","session":"s-1",%s}' % rest)
    if closed:
        assert c.closed() == closed
        c, _ = connect(world)
    m = c.recv("session-closed")
    assert (m["session"], m["code"]) == ("s-1", 4003)


def test_a_worker_outlives_its_supervisor(world):
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    workers = world.workers()
    p.kill()
    p.p.wait()
    assert world.workers() == workers
    world.start()
    c, hello = connect(world)
    assert hello["sessions"] == [{"id": "s-1", "generation": 1}] and world.workers() == workers
    c.send({"type": "terminate", "session": "s-1", "code": 4003, "text": "operator"})
    assert c.recv("session-closed")["code"] == 4003


def test_a_session_that_ended_without_a_supervisor_is_reported_later(world):
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    (worker,) = world.workers()
    p.kill()
    p.p.wait()
    os.kill(worker, signal.SIGTERM)
    wait_for(lambda: world.workers() == [], "the worker to be gone")
    assert sorted(os.listdir(world.folder / "run")) == ["s-1.exit"]
    world.start()
    c, hello = connect(world)
    assert hello["sessions"] == []
    m = c.recv("session-closed")
    assert (m["session"], m["code"]) == ("s-1", 4003)
    wait_for(lambda: os.listdir(world.folder / "run") == [], "its files to be gone")


@pytest.mark.parametrize("away", [False, True])
def test_a_worker_that_crashes_is_reported(world, away):
    p = world.start()
    c, _ = connect(world)
    c.send(world.offer())
    c.recv("accepted")
    (worker,) = world.workers()
    if away:
        p.kill()
        p.p.wait()
    os.kill(worker, signal.SIGKILL)
    if away:
        world.start()
        c, hello = connect(world)
        assert hello["sessions"] == []
    m = c.recv("session-closed")
    assert (m["session"], m["code"]) == ("s-1", 4010) and "died" in m["text"]
    wait_for(lambda: os.listdir(world.folder / "run") == [], "its files to be gone")


def test_drain_goes_elsewhere_at_once(world):
    world.start()
    other = Control(world.folder / "tls")
    c = world.control.accept()
    c.recv("hello")
    c.welcome(server_urls=[f"https://localhost:{other.port}"])
    c.send({"type": "drain"})
    there = other.accept()
    assert there.recv("hello")["sessions"] == []
    assert c.closed() == 1000


def test_who_was_refused_comes_no_sooner_for_having_to_wait(world):
    """Else the many that a site has deregistered would keep those out that come back there (4503: too many refusals)."""
    world.start()
    times = []
    for code in (4403, 4503, 1000):
        c = world.control.accept()
        times.append(time.monotonic())
        c.close(code)
    refused, held_up = (b - a for a, b in zip(times, times[1:]))
    assert held_up > refused / 2, (refused, held_up)


def test_no_secret_in_arguments_or_log(world):
    world.start()
    c, _ = connect(world)
    c.send(world.offer(token="S3CRET" * 8))
    c.recv("accepted")
    (worker,) = world.workers()
    for name in ("cmdline", "environ"):
        with open(f"/proc/{worker}/{name}", "rb") as f:
            assert b"S3CRET" not in f.read()
    assert "S3CRET" not in (world.folder / "log").read_text()
    for path in filter(Path.is_file, world.folder.rglob("*")):
        assert b"S3CRET" not in path.read_bytes()
    # setsid: no signal to the supervisor's group reaches it
    assert os.getsid(worker) != os.getsid(world.procs[0].p.pid)
