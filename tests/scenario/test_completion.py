"""Tab, in the shells that people have."""

import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from harness import CLI, LIMIT, wait_for, write_secret
from terminal import Terminal

SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], 'bind "set enable-bracketed-paste off"; eval "$(tunnel-cli completion bash)"'),
    "zsh": (["-f", "-i"], 'PS1="%% "; unsetopt prompt_sp; autoload -Uz compinit && compinit -u -D; eval "$(tunnel-cli completion zsh)"'),
    "fish": (["--no-config", "-i"], "tunnel-cli completion fish | source"),
}


@pytest.fixture
def stack(bare):
    bare.start_server()
    bare.start_agent("web-1", tags=["role=web"])
    bare.start_agent("db-main", tags=["role=db"])
    return bare


class Shell(Terminal):
    def __init__(self, stack, name):
        program = shutil.which(name)
        if not program:
            pytest.fail(f"{name} is missing; scripts/deps installs it")
        args, setup = SHELLS[name]
        super().__init__(stack, *args, program=program, PATH=f"{CLI.parent}:{os.environ['PATH']}", HOME=str(stack.folder), PROMPT="$ ",
                         XDG_CONFIG_HOME=str(stack.folder / "none"), XDG_DATA_HOME=str(stack.folder / "none"))
        self.type(f"{setup}; echo re''ady\n")
        self.until(rb"ready")

    def tab(self, typed, pattern):
        self.seen = b""
        self.type(typed + "\t")
        self.until(pattern)
        self.type("\x15")  # Ctrl-U


@pytest.mark.parametrize("name", SHELLS)
def test_in_a_real_shell(stack, name):
    shell = Shell(stack, name)
    try:
        shell.tab("tunnel-cli who-", rb"who-can")
        shell.tab("tunnel-cli describe-target we", rb"web-1")
        shell.tab("tunnel-cli start-session --target db", rb"db-main")
        shell.tab("tunnel-cli start-session --target=db", rb"--target=db-main")
        shell.tab("tunnel-cli start-session --port-f", rb"--port-forward")
        shell.tab("tunnel-cli list-sessions --state=ac", rb"--state=active")
        shell.tab(f"tunnel-cli put-policy x {stack.folder}/cli-cr", rb"cli-credentials")
    finally:
        shell.close()


def complete(stack, *words, **env):
    r = stack.cli("complete", "--", *words, **env)
    assert r.stderr == ""
    return [line.split("\t")[0] for line in r.stdout.splitlines()]


def test_what_there_is_is_offered(stack):
    (stack.folder / "p.json").write_text(json.dumps({"Version": "2026-01-01", "Statement": [{
        "Effect": "Deny", "Principal": {"User": ["x"]}, "Action": "tunnel:StartSession", "Resource": "target/*"}]}))
    stack.cli("put-policy", "extra", stack.folder / "p.json")
    revocation = stack.json("revoke", "--principal", "mallory")["revocation"]["id"]
    p, _ = stack.forward("web-1", "127.0.0.1:9")
    (session,) = [s["id"] for s in stack.json("list-sessions")]
    assert sorted(complete(stack, "describe-target", "")) == ["db-main", "web-1"]
    assert complete(stack, "terminate-session", "s-") == [session]
    assert complete(stack, "audit", "--session", "") == [session]
    assert complete(stack, "get-policy", "ex") == ["extra"]
    assert complete(stack, "lift-revocation", "") == [revocation]
    stack.write_profile("work")
    stack.write_profile("war")
    assert complete(stack, "list-targets", "--profile", "w") == complete(stack, "list-targets", "-p", "w") == ["work", "war"]
    assert complete(stack, "list-targets", "--profile=wo") == ["--profile=work"]
    about = stack.cli("complete", "--", "describe-target", "web").stdout
    assert about == "web-1\tconnected, role=web\n"
    p.terminate()
    p.wait(LIMIT)


def test_a_command_on_the_target_is_left_alone(stack):
    assert complete(stack, "start-session", "--target", "web-1", "cat", "") == []
    assert complete(stack, "start-session", "--target", "web-1", "--", "--") == []


def test_nothing_is_said_when_there_is_nobody_to_ask(stack):
    stack.server.kill()
    wait_for(lambda: not stack.server.alive(), "the server to be gone")
    assert complete(stack, "describe-target", "") == []
    assert complete(stack, "describe-target", "", TUNNEL_CONFIG="/nonexistent") == []
    assert complete(stack, "describe-target", "--profile", "", TUNNEL_CONFIG="/nonexistent") == []
    assert complete(stack, "describe-target", "--profile", "") == ["default"]
    assert "--target" in complete(stack, "start-session", "--t")


class Pages(BaseHTTPRequestHandler):
    """GET /v1/targets and /v1/sessions of a server that has seen a lot: a page is 100 long unless it is asked for more (PROTOCOL.md)."""

    rows = {"targets": [{"id": f"t-{i}", "state": "connected"} for i in range(300)] + [{"id": "t-29;reboot", "state": "connected"}],
            "sessions": [{"id": f"s-{i}", "state": "ended" if i < 250 else "active"} for i in range(300)]}

    def log_message(self, *args):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked, what = parse_qs(query), path.rpartition("/")[2]
        rows = [row for row in self.rows[what] if row["state"] == asked.get("state", [row["state"]])[0]]
        body = json.dumps({what: rows[:int(asked.get("limit", ["100"])[0])]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_what_is_far_behind_is_offered(bare):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bare.folder / "tls" / "server.pem", bare.folder / "tls" / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = bare.folder / "pages.conf"
    write_secret(bare.folder / "a-token", "x")
    config.write_text(f'default: {{ server = "https://localhost:{server.server_port}"; ca_file = "{bare.folder}/tls/ca.pem"; token_file = "{bare.folder}/a-token"; }};\n')
    assert complete(bare, "describe-target", "t-29", TUNNEL_CONFIG=str(config)) == ["t-29", *(f"t-{i}" for i in range(290, 300))]
    assert complete(bare, "terminate-session", "s-29", TUNNEL_CONFIG=str(config)) == [f"s-{i}" for i in range(290, 300)]
    server.shutdown()
    server.server_close()


def test_a_command_for_tokens_is_not_waited_for(stack):
    slow = stack.folder / "slow"
    os.mkfifo(slow)
    stack.write_profile("slow", f'auth = "jwt"; token_command = "cat {slow}";')
    assert complete(stack, "describe-target", "--profile", "slow", "") == []
    os.close(wait_for(lambda: open_for_writing(slow), "the command to be there"))


def open_for_writing(fifo):
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_every_command_and_option_is_offered(bare):
    """What --help tells."""
    def run(*args):
        return subprocess.run([CLI, *args], capture_output=True, text=True, check=True, timeout=LIMIT).stdout

    told = set(re.findall(r"(?m)^  ([a-z][a-z-]+)  +\S", run("--help")))
    assert told == {line.split("\t")[0] for line in run("complete", "--", "").splitlines()} - {"--help", "--version"}
    for command in told:
        options = set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", run(command, "--help")))
        assert options == {line.split("\t")[0] for line in run("complete", "--", command, "--").splitlines()}, command
