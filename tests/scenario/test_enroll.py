"""How a machine becomes a target: tokens and the options of enroll."""

import datetime
import json
import re
import socket
import ssl
import subprocess
import threading

from harness import AGENT, Agent, Proc


def enroll(stack, *args, **kw):
    return subprocess.run([str(AGENT), "enroll", *map(str, args)], capture_output=True, text=True, env=stack.env(), **kw)


def test_by_options_alone(bare):
    bare.start_server()
    folder = bare.folder / "agent-opt-1"
    folder.mkdir(mode=0o700)
    token = bare.cli("create-enrollment", "opt-1").stdout.strip()
    ca = bare.folder / "tls" / "ca.pem"
    options = ["--state-dir", folder / "state", "--server", bare.url, "--token", token]
    r = enroll(bare, *options)
    assert r.returncode == 1 and "certificate" in r.stderr, "the CA is not the system's"
    r = enroll(bare, *options, "--ca-file", ca)
    assert (r.returncode, r.stdout) == (0, "enrolled as opt-1\n"), r.stderr
    assert f'needs it as well: ca_file = "{ca}";' in r.stderr
    # The settings need not name the server: it is the one of the enrolment.
    (folder / "agent.conf").write_text(f'ca_file = "{ca}"; runtime_dir = "{folder}/run"; proxy = "";')
    proc = Proc([AGENT, "--config", folder / "agent.conf", "--state-dir", folder / "state"], folder / "log", env=bare.env())
    bare.procs.append(proc)
    bare.agents["opt-1"] = Agent(bare, "opt-1", folder, proc)
    bare.wait_connected("opt-1")


def accept_request(listener, bare):
    """One request, and the connection that it came on."""
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(bare.folder / "tls" / "server.pem", bare.folder / "tls" / "server.key")
    agent, request = inside.wrap_socket(listener.accept()[0], server_side=True), b""
    while not re.search(rb"\r\n\r\n.*\}\s*$", request, re.S):
        request += agent.recv(65536)
    return agent, request


def lose_answer(listener, bare):
    """Takes one request to the server, and the answer nowhere."""
    outside = ssl.create_default_context(cafile=bare.folder / "tls" / "ca.pem")
    host, port = re.fullmatch(r"https://(.+):(\d+)", bare.url).groups()
    agent, request = accept_request(listener, bare)
    with agent:
        with outside.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as server:
            server.sendall(request)
            assert b" 201 " in server.recv(65536)


def refuse(listener, bare):
    """As a load balancer does that has no server: not in the server's words."""
    agent, _ = accept_request(listener, bare)
    with agent:
        agent.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nno server")


def test_an_answer_that_is_lost(bare):
    bare.start_server()
    listener = socket.create_server(("127.0.0.1", 0))
    token = bare.cli("create-enrollment", "lost-1").stdout.strip()
    state = bare.folder / "state-lost-1"
    options = ["--state-dir", state, "--token", token, "--ca-file", bare.folder / "tls" / "ca.pem"]
    for answer in (lose_answer, refuse):
        thread = threading.Thread(target=answer, args=(listener, bare))
        thread.start()
        r = enroll(bare, *options, "--server", f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
        assert r.returncode == 1 and not (state / "target.json").exists()
    r = enroll(bare, *options, "--server", bare.url)
    assert (r.returncode, r.stdout) == (0, "enrolled as lost-1\n"), r.stderr
    assert not list(state.glob("*.new"))
    r = enroll(bare, *options, "--server", bare.url)  # other keys
    assert r.returncode == 1 and "was used" in r.stderr


def test_a_refusal_leaves_no_keys(bare):
    """Those that were made for it are nobody's."""
    bare.start_server()
    state = bare.folder / "state-refused"
    options = ["--state-dir", state, "--ca-file", bare.folder / "tls" / "ca.pem", "--server", bare.url]
    r = enroll(bare, *options, "--token", "x" * 43)
    assert r.returncode == 1 and "refused the enrolment" in r.stderr
    assert not list(state.glob("*.new")) and not list(state.glob("*.pem"))
    r = enroll(bare, *options, "--token", bare.cli("create-enrollment", "later-1").stdout.strip())
    assert (r.returncode, r.stdout) == (0, "enrolled as later-1\n"), r.stderr


def test_a_token_on_standard_input(bare):
    bare.start_server()
    token = bare.cli("create-enrollment", "in-1").stdout
    options = ["--state-dir", bare.folder / "state-in-1", "--server", bare.url, "--ca-file", bare.folder / "tls" / "ca.pem"]
    r = enroll(bare, *options, "--token-file", "-", input=token)
    assert (r.returncode, r.stdout) == (0, "enrolled as in-1\n"), r.stderr
    assert enroll(bare, *options, "--token-file", "-", "--token", "x", input=token).returncode == 2


def test_how_long_a_token_can_be_used(bare):
    bare.start_server()

    def expires(*args):
        answer = json.loads(bare.cli("create-enrollment", "web-1", *args, "--output", "json").stdout)
        return datetime.datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))

    usual = expires()
    assert expires("--expires-in", "2h") - usual >= datetime.timedelta(minutes=120 - 15)
    assert expires("--expires-in", "7d") - usual >= datetime.timedelta(days=7, minutes=-15)
    r = bare.cli("create-enrollment", "web-1", "--expires-in", "8d", check=False)
    assert r.returncode == 1 and "expires_in_s" in r.stderr, r.stderr
    r = bare.cli("create-enrollment", "web-1", "--expires-in", "soon", check=False)
    assert r.returncode == 2 and "15m" in r.stderr, r.stderr


def test_settings_that_name_another_server_are_pointed_out(bare):
    bare.start_server()
    conf = bare.folder / "agent.conf"
    ca = f'ca_file = "{bare.folder}/tls/ca.pem"; state_dir = "{bare.folder}/state-agent";'
    for n, (servers, warned) in enumerate({
        f'server = [ "{bare.url}" ];': False,
        f'server = [ "https://other.example.com", "{bare.url}/" ];': False,
        "": False,
        'server = [ "https://other.example.com" ];': True,
    }.items()):
        conf.write_text(ca + servers)
        token = bare.cli("create-enrollment", f"opt-{n}").stdout.strip()
        r = enroll(bare, "--config", conf, "--server", bare.url, "--token-file", "-", input=token)
        assert (r.returncode, r.stdout) == (0, f"enrolled as opt-{n}\n"), r.stderr
        told = f'enrolled at {bare.url}, but the settings have server = "https://other.example.com"'
        assert (told in r.stderr) == warned and (warned or r.stderr == ""), r.stderr
