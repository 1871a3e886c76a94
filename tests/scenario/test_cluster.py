"""Several nodes that share a store: any of them answers, sessions live where the agent is and survive the death of their node."""

import json
import re
import shutil
import signal
import socket
import subprocess

import pytest
from cluster import Cluster, Node
from harness import AGENT, LIMIT, TcpServer, echo_until_eof, is_gone, wait_for, write_secret

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")


@pytest.fixture
def cluster(folder):
    c = Cluster(folder)
    try:
        c.start_server()
        yield c
    finally:
        c.close()


def home(cluster, target="web-1"):
    """The node that the target's agent is connected to."""
    doc = wait_for(lambda: (d := cluster.json("describe-target", target))["state"] == "connected" and d, "the agent to be connected")
    return cluster.nodes[doc["node"]]


def say(c, what):
    c.sendall(what)
    got = b""
    while len(got) < len(what):
        part = c.recv(len(what) - len(got))
        assert part, "the connection ended"
        got += part
    assert got == what


def kill(node):
    node.server.kill()
    node.server.p.wait()


def test_any_node_answers(cluster):
    cluster.start_agent()
    node, echo = home(cluster), TcpServer(echo_until_eof)
    names = {n["name"]: n for n in cluster.json("list-nodes")}
    assert list(names) == sorted(names)
    assert set(names) == set(cluster.nodes) and all(n["url"] == cluster.nodes[k].url for k, n in names.items())
    for n in [node, *cluster.others(node)]:
        assert n.json("describe-target", "web-1")["state"] == "connected"
        p, (port,) = n.forward("web-1", f"127.0.0.1:{echo.port}")
        with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
            say(c, b"through " + n.node.encode())
            (session,) = n.json("list-sessions", "--state", "active")
            assert session["node"] == node.node
            wait_for(lambda: n.json("describe-target", "web-1")["sessions"] == 1, "the session to be counted")
            # and any may end it, wherever it lives
            cluster.others(n)[0].cli("terminate-session", session["id"])
            assert is_gone(c)
        assert p.wait(LIMIT) != 0
        assert n.json("describe-session", session["id"])["end"]["code"] == 4000
    assert "records are whole" in cluster.cli("verify-audit").stdout


def test_a_node_is_killed(cluster):
    cluster.start_agent()
    node, echo = home(cluster), TcpServer(echo_until_eof)
    _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        say(c, b"before")
        for _ in range(3):
            node = home(cluster)
            kill(node)
            say(c, b"x" * 100_000)
            new = home(cluster)
            assert new is not node
            (session,) = cluster.json("list-sessions", "--state", "active")
            assert session["node"] == new.node
            node.start_server()
        say(c, b"after")


def test_an_agent_moves(cluster):
    """Its control connection is lost, its node is not: the session follows, and its legs are sent after it."""
    agent = cluster.start_agent()
    node, echo = home(cluster), TcpServer(echo_until_eof)
    _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        say(c, b"before")
        (session,) = cluster.json("list-sessions", "--state", "active")
        agent.proc.kill()
        agent.proc.p.wait()
        conf = agent.folder / "agent.conf"
        other = cluster.others(node)[0]
        conf.write_text(re.sub("server = .*", f'server = [ "{other.url}" ];', conf.read_text()))
        agent.restart()
        wait_for(lambda: home(cluster) is other, "the agent to be at the other node")
        wait_for(lambda: cluster.json("describe-session", session["id"])["node"] == other.node, "the session to be there")
        say(c, b"after")
        wait_for(lambda: other.json("describe-session", session["id"])["attached"] == {"client": True, "target": True}, "the legs to be there")
        node.server.wait_log("session moved to another node")


def test_a_rolling_restart(cluster):
    """Each node in turn, in an orderly way, while bytes flow."""
    cluster.start_agent()
    echo = TcpServer(echo_until_eof)
    _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        for node in cluster.nodes.values():
            say(c, b"before " + node.node.encode())
            assert node.server.stop() == 0
            say(c, b"while it is away")
            node.start_server()
            say(c, b"x" * 100_000)


def test_revoked_everywhere(cluster):
    """Agents on all nodes, and one call ends what one principal has, as revoked, and has waited for all of it."""
    echo = TcpServer(echo_until_eof)
    users = {cluster.key_id: ("dev", cluster.secret, []), "KOPS": ("op", "o" * 40, [])}
    policy = json.loads((cluster.nodes["node-1"].folder / "policies" / "base.json").read_text())
    policy["Statement"][0]["Principal"]["User"].append("op")
    for node in cluster.nodes.values():
        (node.folder / "policies" / "base.json").write_text(json.dumps(policy))
        node.write_credentials(users)
        node.server.kill(signal.SIGHUP)
    for i, node in enumerate(cluster.nodes.values()):
        target = f"web-{i}"
        every, cluster.urls = cluster.urls, lambda: json.dumps([node.url])
        cluster.start_agent(target)
        cluster.urls = every
    op = {"TUNNEL_KEY_ID": "KOPS", "TUNNEL_SECRET": "o" * 40}
    wait_for(lambda: cluster.cli("whoami", check=False, **op).returncode == 0, "the operator to be known")
    for _ in range(4):  # the other nodes hear of the record while they are asked to end the sessions
        answer = revoke_all(cluster, echo.port, op)
        for node in cluster.nodes.values():
            assert node.cli("list-targets", check=False).returncode != 0, "revoked there, too"
        cluster.cli("lift-revocation", answer["revocation"]["id"], **op)
        for node in cluster.nodes.values():
            wait_for(lambda: node.cli("list-targets", check=False).returncode == 0, "the other nodes to hear that it is lifted")


def revoke_all(cluster, port, op):
    ends = []
    for i in range(len(cluster.nodes)):
        _, (local,) = cluster.forward(f"web-{i}", f"127.0.0.1:{port}")
        ends.append(socket.create_connection(("127.0.0.1", local), LIMIT))
        say(ends[-1], b"up")
    live = {s["id"] for s in cluster.json("list-sessions", "--state", "active")}
    answer = json.loads(cluster.cli("revoke", "--principal", "dev", "--output", "json", **op).stdout)
    assert answer["sessions"] == 3 and answer["unreached"] == answer["unconfirmed"] == answer["silent"] == [], answer
    for c in ends:
        with c:
            assert is_gone(c)
    records = json.loads(cluster.cli("list-sessions", "--state", "ended", "--output", "json", **op).stdout)
    texts = {s["end"]["text"] for s in records if s["id"] in live}
    assert texts == {"principal was revoked by op"}, texts
    return answer


def agents_at(node):
    return {n["name"]: n["agents"] for n in node.json("list-nodes")}[node.node]


def enrol_another_machine(node, target, folder):
    """Of the same name, through that node."""
    write_secret(folder / "token", node.cli("create-enrollment", target).stdout.strip())
    options = ["--server", node.url, "--ca-file", node.folder / "tls" / "ca.pem", "--state-dir", folder / "another", "--token-file", folder / "token"]
    subprocess.run([str(AGENT), "enroll", *map(str, options)], capture_output=True, text=True, env=node.env(), check=True)


@pytest.mark.parametrize("how", ["deregistered", "enrolled again"])
def test_an_agent_whose_target_is_changed_at_another_node(cluster, folder, how):
    """It loses its connection and its sessions, where it is."""
    agent, echo = cluster.start_agent(), TcpServer(echo_until_eof)
    node = home(cluster)
    other = cluster.others(node)[0]
    _, (port,) = other.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        say(c, b"before")
        wait_for(lambda: agents_at(node) == 1, "the agent to be counted")
        if how == "deregistered":
            other.cli("deregister-target", "web-1")
        else:
            enrol_another_machine(other, "web-1", folder)
        assert is_gone(c)
    agent.proc.wait_log({"deregistered": "the target was deregistered", "enrolled again": "target web-1 has another key"}[how])
    wait_for(lambda: agents_at(node) == 0, "the agent to be gone")
    (end,) = [a for a in cluster.audit() if a["event"] == "session.end"]
    assert end["code"] == 4011


@pytest.mark.parametrize("what", ["node", "relay_url"])
def test_a_node_that_is_called_like_another(cluster, what):
    (cluster.folder / "node-4").mkdir()
    fourth = Node(cluster, "node-4", "")
    setattr(fourth, what, getattr(cluster.nodes["node-1"], what))
    with pytest.raises(AssertionError, match="runs already.*each node needs its own"):
        fourth.start_server()
    assert set(n["name"] for n in cluster.json("list-nodes")) == set(cluster.nodes)


def test_redis_is_away(cluster):
    """What lives goes on, what would begin is refused, and nothing that was answered is missing afterwards."""
    cluster.start_agent()
    echo = TcpServer(echo_until_eof)
    _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
        say(c, b"before")
        (session,) = cluster.json("list-sessions", "--state", "active")
        cluster.redis.kill()
        say(c, b"x" * 100_000)
        r = cluster.cli("start-session", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo.port}", check=False)
        assert r.returncode == 235 and "store" in r.stderr, r.stderr
        say(c, b"still here")
        cluster.redis.start()
        wait_for(lambda: cluster.cli("list-sessions", check=False).returncode == 0, "the store to be back")
        assert cluster.json("describe-session", session["id"])["state"] == "active"
        say(c, b"after")
        _, (second,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
        with socket.create_connection(("127.0.0.1", second), LIMIT) as d:
            say(d, b"new")


def test_no_message_arrives(cluster):
    """Redis lets no node publish or listen any more: what others have changed is found by reading, late, and nothing is lost."""
    cluster.start_agent()
    node, echo = home(cluster), TcpServer(echo_until_eof)
    other = cluster.others(node)[0]
    _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    _, (second,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as c, socket.create_connection(("127.0.0.1", second), LIMIT) as d:
        say(c, b"up")
        say(d, b"up")
        cluster.redis.cli("ACL", "SETUSER", "default", "resetchannels")
        r = other.cli("start-session", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo.port}", check=False)
        assert r.returncode == 235 and node.node in r.stderr, r.stderr
        sessions = cluster.json("list-sessions", "--state", "active")
        assert len(sessions) == 2
        first = min(sessions, key=lambda s: s["created_at"])
        other.cli("terminate-session", first["id"])
        assert is_gone(c)
        policy = cluster.folder / "late.json"
        policy.write_text(json.dumps({"Version": "2026-01-01", "Statement": [
            {"Sid": "late", "Effect": "Deny", "Principal": {"User": ["dev"]}, "Action": ["tunnel:OpenTcp"], "Resource": ["*"]}]}))
        say(d, b"still up")
        other.cli("put-policy", "late", policy)
        assert is_gone(d)


def test_a_node_that_slept(folder):
    """It wakes up with rows of sessions that others have, and with questions that nobody waits for any more."""
    cluster = Cluster(folder, conf='session: { detach_grace = "8s"; };')
    try:
        cluster.start_server()
        cluster.start_agent()
        node, echo = home(cluster), TcpServer(echo_until_eof)
        other = cluster.others(node)[0]
        _, (port,) = cluster.forward("web-1", f"127.0.0.1:{echo.port}")
        with socket.create_connection(("127.0.0.1", port), LIMIT) as c:
            say(c, b"before")
            node.server.kill(signal.SIGSTOP)
            r = other.cli("start-session", "--target", "web-1", "--port-forward", f"0:127.0.0.1:{echo.port}", check=False)
            assert r.returncode == 235, r.stderr
            wait_for(lambda: home_by(other) not in (None, node.node), "the agent to be elsewhere")
            say(c, b"while it sleeps")
            node.server.kill(signal.SIGCONT)
            node.server.wait_log("session moved to another node")
            say(c, b"after")
            (session,) = other.json("list-sessions", "--state", "active")
            assert session["node"] != node.node
            assert len(other.json("list-sessions")) == 1, "what was asked for while it slept has not been started"
    finally:
        node.server.kill(signal.SIGCONT)
        cluster.close()


def home_by(node):
    return node.json("describe-target", "web-1")["node"]
