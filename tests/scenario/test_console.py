"""The web console in a real browser."""

import json
import os
import socket
import threading
from pathlib import Path

import pytest
from browser import NAMELESS, PALE, Browser
from harness import Stack, TcpServer, echo_until_eof, free_port, wait_for
from selenium.webdriver.common.keys import Keys
from test_refusals import jwt_stack  # noqa: F401

PAGES = ["Targets", "Sessions", "Audit", "Policies", "Simulate", "Revocations", "Nodes"]


def serve(stack):
    """Gives a stack the console, and a browser that knows where it is."""
    stack.admin = free_port()
    stack.conf += f'admin: {{ listen = "127.0.0.1:{stack.admin}"; }};'
    stack.console = f"https://localhost:{stack.admin}/"


@pytest.fixture
def browsers():
    """A way to start a browser that is ended whatever happens."""
    open_ones = []

    def start(stack):
        open_ones.append(Browser(stack.folder, stack.folder / "tls" / "server.pem"))
        open_ones[-1].driver.get(stack.console)
        return open_ones[-1]

    yield start
    for b in open_ones:
        b.close()


@pytest.fixture
def world(folder, browsers):
    """A server with the console, the target web-1, and a browser in which dev is signed in."""
    s = Stack(folder)
    serve(s)
    try:
        s.start_server()
        s.start_agent(tags=("role=web",))
        b = browsers(s)
        sign_in(b, s.key_id, s.secret)
        yield s, b
        assert b.console() == [] and asked_for_elsewhere(s, b) == []
    finally:
        s.close()


def asked_for_elsewhere(stack, b):
    return [url for url, _ in b.sent() if url and not url.startswith((stack.console, "data:", "chrome"))]


def sign_in(b, key_id, secret):
    b.fill("Key id", key_id)
    b.fill("Secret", secret)
    b.press("Sign in")
    b.wait("Sign out")


def test_signing_in_by_key_and_by_token(jwt_stack, browsers):  # noqa: F811
    jwt_stack.server.stop()
    serve(jwt_stack)
    jwt_stack.start_server()
    b = browsers(jwt_stack)
    b.fill("Key id", jwt_stack.key_id)
    b.fill("Secret", "not the secret")
    b.press("Sign in")
    b.wait("Not signed in: ")
    sign_in(b, jwt_stack.key_id, jwt_stack.secret)
    b.wait("dev")
    b.driver.refresh()
    b.one("button", "Sign in")
    assert b.run("return sessionStorage.length") == 0
    b.tick("Keep it in this tab until I sign out or close the tab")
    sign_in(b, jwt_stack.key_id, jwt_stack.secret)
    b.driver.refresh()
    b.wait("Sign out")
    b.press("Sign out")
    assert b.run("return sessionStorage.length + localStorage.length + document.cookie.length") == 0
    b.tick("a bearer token")
    b.fill("Token", jwt_stack.mint(sub="ann"))
    b.press("Sign in")
    b.wait("ann")
    b.press("Sign out")
    b.tick("a bearer token")
    b.fill("Token", jwt_stack.mint(exp=1))
    b.press("Sign in")
    b.wait("Not signed in: ")
    assert b.sent() and not [text for _, text in b.sent() if jwt_stack.secret in text]
    assert not [line for line in b.console() if "status of 401" not in line]


def busy_session(stack):
    """A forward with bytes that go to and fro until its end; (process, its session's id)."""
    echo = TcpServer(echo_until_eof)
    p, (port,) = stack.forward("web-1", f"127.0.0.1:{echo.port}")

    def pump():
        try:
            with socket.create_connection(("127.0.0.1", port)) as c:
                while True:
                    c.sendall(b"x" * 20000)
                    if not c.recv(65536):
                        return
                    threading.Event().wait(0.05)
        except OSError:
            pass

    threading.Thread(target=pump, daemon=True).start()
    (session,) = wait_for(lambda: stack.json("list-sessions", "--state", "active"), "the session to be active")
    return p, session["id"]


def test_a_session_is_seen_and_terminated(world):
    stack, b = world
    b.wait("web-1")
    assert b.all("td .chip", "role=web") and b.all("td .chip", "online")
    b.fill("Login for VS Code", "deploy")
    assert b.one("a", "Open web-1 in VS Code").get_attribute("href") == "vscode://vscode-remote/ssh-remote+deploy@web-1.tunnel/"
    p, session = busy_session(stack)
    b.press("Sessions")
    b.wait(session)
    wait_for(lambda: "kB/s" in b.text(), "a rate")
    counted = stack.json("describe-session", session)["bytes"]
    assert min(counted["up"], counted["down"]) > 20000, counted
    wait_for(lambda: len(set(b.one(".chart:not(.small) .down").get_attribute("d").split("L"))) > 3, "a line that rises")
    b.press(f"Terminate {session}")
    b.press("Cancel")
    assert not b.all("dialog") and b.focused() == f"Terminate {session}" and p.poll() is None
    b.press(f"Terminate {session}")
    b.press("Terminate")
    wait_for(lambda: p.poll() is not None, "the client to end")
    b.wait("No session that you may see.")
    b.press("Audit")
    b.wait("session.end")
    (ended,) = [r for r in stack.audit() if r["event"] == "session.end"]
    assert (ended["session"], ended["code"]) == (session, 4000), ended


HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


def test_hostile_words_stay_words(folder, browsers):
    """A tag, a subject, a reason and a policy's words that would be markup, on every page that shows them."""
    s = Stack(folder)
    serve(s)
    s.write_credentials({s.key_id: ("dev", s.secret, []), "KEVE": (f"eve{HOSTILE[:40]}".replace('"', "'"), "e" * 40, [])})
    try:
        s.start_server()
        s.start_agent(tags=(f"role={HOSTILE}",))
        b = browsers(s)
        sign_in(b, s.key_id, s.secret)
        b.wait(f"role={HOSTILE}")
        b.press("Revocations")
        b.press("Revoke …")
        b.fill("Name", HOSTILE)
        b.fill("Reason", HOSTILE)
        b.press("Revoke")
        b.wait("0 sessions ended")
        assert len([td for td in b.all("td") if HOSTILE in td.text]) == 2, b.text()
        b.press("Audit")
        b.wait("revocation.put")
        b.fill("Principal", HOSTILE)
        b.press("Search")
        b.wait(HOSTILE)
        b.press("Simulate")
        b.one("section")
        b.run("document.querySelector('[name=subject]').value = arguments[0]", HOSTILE)
        b.fill("Resource", HOSTILE)
        b.press("Simulate")
        for page in PAGES:
            b.press(page)
            b.one("h1", page)
            assert not b.run("return document.querySelectorAll('main img, main script').length")
            assert b.run("return document.title") == f"{page} – tunnel"
        assert b.console() == [] and asked_for_elsewhere(s, b) == []
        with pytest.raises(Exception, match="Trusted"):
            b.run("const s = document.createElement('script'); s.textContent = '0'; document.body.innerHTML = '<b>x</b>'")
    finally:
        s.close()
