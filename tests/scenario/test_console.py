"""The web console in a real browser: one server and one browser for all cases, and each begins as if both were new."""

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import jwt
import pytest
from browser import NAMELESS, PALE, Browser, wait_for
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import ALLOW_ALL, Stack, TcpServer, echo_until_eof, free_port
from selenium.webdriver.common.keys import Keys

PAGES = ["Targets", "Sessions", "Audit", "Policies", "Simulate", "Revocations", "Nodes"]
SOME = {"Sid": "Look", "Effect": "Allow", "Principal": {"User": "ann"}, "Action": ["tunnel:ListTargets", "tunnel:DescribeSessions"], "Resource": "*"}
ISSUER, AUDIENCE = "https://id.example.com", "tunnel"


class World(Stack):
    """A server with the console. dev may do everything, ann may look at targets and sessions; both have a key, or a token."""

    def __init__(self, folder):
        self.signer = ec.generate_private_key(ec.SECP256R1())
        public = self.signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / "jwt.pem").write_bytes(public)
        self.admin = free_port()
        super().__init__(
            folder, policy={**ALLOW_ALL, "Statement": [*ALLOW_ALL["Statement"], SOME]}, conf=f'admin: {{ listen = "127.0.0.1:{self.admin}"; }};',
            auth=f'{{ plugin = "auth-jwt"; issuer = "{ISSUER}"; audience = "{AUDIENCE}"; key = "ES256:{folder}/jwt.pem"; }},'
            f'{{ plugin = "auth-hmac"; credentials = "{folder}/hmac-credentials"; }}')
        self.console = f"https://localhost:{self.admin}/"
        self.write_credentials({self.key_id: ("dev", self.secret, []), "KANN": ("ann", "a" * 40, [])})

    def token(self, **claims):
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dev", "exp": int(time.time()) + 600, "nbf": int(time.time()) - 1, **claims}
        return jwt.encode(body, self.signer, algorithm="ES256")

    def tidy(self):
        for row in self.json("list-revocations"):
            self.cli("lift-revocation", row["id"])
        for policy in self.json("list-policies"):
            if policy["source"] == "store":
                self.cli("delete-policy", policy["name"])


@pytest.fixture(scope="module")
def world():
    folder = Path(tempfile.mkdtemp(prefix="tt-"))
    s = World(folder)
    b = None
    try:
        s.start_server()
        s.start_agent(tags=("role=web",))
        b = Browser(folder, folder / "tls" / "server.pem")
        yield s, b
    finally:
        if b:
            b.close()
        s.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def page(world, request):
    """The console before anybody has signed in. Afterwards it must have complained of nothing and asked nobody else."""
    s, b = world
    request.node.folder = s.folder
    b.forget()
    b.driver.get(s.console)
    yield s, b
    assert b.console() == [] and [url for url, _ in b.sent() if url and not url.startswith((s.console, "data:", "chrome"))] == []
    s.tidy()


@pytest.fixture
def signed_in(page):
    """The console after dev has."""
    s, b = page
    sign_in(b, s.key_id, s.secret)
    return s, b


@pytest.fixture
def busy(world):
    """A session with bytes that go to and fro until its end: (process, its id)."""
    s, _ = world
    echo = TcpServer(echo_until_eof)
    p, (port,) = s.forward("web-1", f"127.0.0.1:{echo.port}")

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
    (session,) = wait_for(lambda: s.json("list-sessions", "--state", "active"), "the session to be active")
    yield p, session["id"]
    p.terminate()
    p.wait()
    echo.close()


def sign_in(b, key_id, secret):
    b.fill("Key id", key_id)
    b.fill("Secret", secret)
    b.press("Sign in")
    b.wait("Sign out")


def test_signing_in_by_key_and_by_token(page):
    s, b = page
    b.fill("Key id", s.key_id)
    b.fill("Secret", "not the secret")
    b.press("Sign in")
    b.wait("Not signed in: ")
    sign_in(b, s.key_id, s.secret)
    b.wait("dev")
    b.driver.refresh()
    b.one("button", "Sign in")
    assert b.run("return sessionStorage.length") == 0
    b.tick("Keep it in this tab until I sign out or close the tab")
    sign_in(b, s.key_id, s.secret)
    b.driver.refresh()
    b.wait("Sign out")
    b.press("Sign out")
    assert b.run("return sessionStorage.length + localStorage.length + document.cookie.length") == 0
    b.tick("a bearer token")
    b.fill("Token", s.token(exp=1))
    b.press("Sign in")
    b.wait("Not signed in: ")
    b.fill("Token", s.token(sub="ann"))
    b.press("Sign in")
    b.wait("Sign out")
    b.wait("ann")
    assert b.sent() and not [text for _, text in b.sent() if s.secret in text]


def test_a_session_is_seen_and_terminated(signed_in, busy):
    (stack, b), (p, session) = signed_in, busy
    b.wait("web-1")
    assert b.all("td .chip", "role=web") and b.all("td .chip", "online")
    b.fill("Login for VS Code", "deploy")
    assert b.one("a", "Open web-1 in VS Code").get_attribute("href") == "vscode://vscode-remote/ssh-remote+deploy@web-1.tunnel/"
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
    (ended,) = [r for r in stack.audit() if r["event"] == "session.end" and r["session"] == session]
    assert ended["code"] == 4000, ended


def test_revoked_and_let_in_again(signed_in, busy):
    (stack, b), (p, session) = signed_in, busy
    before = len(stack.audit())
    b.press("Revocations")
    b.wait("Nobody is revoked")
    b.press("Revoke …")
    b.fill("Name", "dev")
    b.fill("Reason", "try")
    b.press("Revoke")
    b.wait("this would revoke yourself")
    b.fill("Name", "ann")
    b.fill("Reason", "laptop stolen")
    b.fill("How long", "for a day")
    b.press("Revoke")
    b.wait("0 sessions ended")
    (row,) = stack.json("list-revocations")
    assert (row["principal"], row["reason"], row["by"]) == ("ann", "laptop stolen", "dev") and row["expires_at"]
    b.press("Lift the revocation of ann")
    b.press("Lift")
    b.wait("Nobody is revoked")
    assert stack.json("list-revocations") == []
    b.press("Sessions")
    b.press(f"Revoke who has {session}")
    b.fill("Reason", "wrong machine")
    b.press("Revoke")
    wait_for(lambda: p.poll() is not None, "the client to end")
    b.wait("No session that you may see.")
    events = [(r["event"], r.get("reason")) for r in stack.audit()[before:] if r["event"].startswith("revocation")]
    assert events == [("revocation.put", "laptop stolen"), ("revocation.delete", ""), ("revocation.put", "wrong machine")], events


def test_a_policy_with_mistakes_is_mended_and_asked(signed_in):
    stack, b = signed_in
    b.wait("web-1")
    b.press("Policies")
    b.press("New policy")
    b.fill("Name", "web")
    area = b.one("textarea")
    b.run("arguments[0].value = arguments[1]", area, "{")
    b.press("Save")
    b.wait("This is not JSON")
    b.run("arguments[0].value = arguments[1]", area, BROKEN)
    b.press("Save")
    b.wait("3 mistakes; nothing was saved.")
    b.wait("Statement[0].Condition.StringEquls: unknown operator")
    b.press("line 11")
    assert b.run("const a = arguments[0]; return a.value.slice(a.selectionStart, a.selectionEnd).trim()", area).startswith('"StringEquls"')
    assert [row["name"] for row in stack.json("list-policies")] == ["base"]
    lines = BROKEN.replace("StringEquls", "StringEquals").split("\n")
    b.run("arguments[0].value = arguments[1]", area, "\n".join(lines[:12] + ["    }"] + lines[14:]))
    b.press("Save")
    b.wait("Policy web is in force")
    assert stack.json("get-policy", "web")["Statement"][0]["Sid"] == "Web"
    b.press("Simulate", "nav a")
    for principal, group, words in (("ann", "ops", "Allowed by statement Web of policy web"), ("ann", "guests", "Refused: no statement matches")):
        b.fill("Principal", principal)
        b.fill("Groups", group)
        b.fill("Resource", "target/web-1")
        b.press("Simulate", "form button")
        b.wait(words)
    b.fill("Principal", "dev")
    b.fill("Action", "OpenUnix")
    b.fill("Socket's path", "/run/app.sock")
    b.press("Simulate", "form button")
    b.wait("of policy base")
    b.press("Targets")
    b.press("Who can reach web-1")
    b.wait("group ops")
    b.wait("user dev")
    b.press("Policies")
    b.press("Delete web")
    b.press("Delete")
    wait_for(lambda: [row["name"] for row in stack.json("list-policies")] == ["base"], "the policy to be gone")
    b.press("View base")
    b.wait("it is changed there")
    assert not b.all("form button", "Save")


def test_the_audit_log_is_searched(signed_in):
    stack, b = signed_in
    for i in range(3):
        stack.cli("put-policy", f"p{i}", "-", input=json.dumps(ALLOW_ALL))
    b.press("Audit")
    b.wait("target.enrolled")
    b.fill("Event", "policy.p*")
    b.fill("Principal", "dev")
    b.press("Search")
    wait_for(lambda: b.all("td", "policy.put") and not b.all("td", "target.enrolled"), "what was searched for")
    b.wait(f"{len([r for r in stack.audit() if r['event'] == 'policy.put'])} found, and no more")
    b.fill("Principal", "somebody")
    b.press("Search")
    b.wait("No record.")
    b.fill("Principal", "")
    b.fill("Event", "")
    b.run("document.querySelector('[name=until]').value = '2001-01-01T00:00:00'")
    b.press("Search")
    b.wait("No record.")
    b.run("document.querySelector('[name=until]').value = ''")
    put = """
    const [policy, done] = arguments;
    import("/console/api.js").then(async ({call}) => {
      for (let i = 0; i < 110; i++) await call("PUT", "/v1/policies/p0", {body: policy});
      done("");
    }).catch((error) => done(String(error)));
    """
    assert b.driver.execute_async_script(put, ALLOW_ALL) == ""
    b.press("Search")
    b.wait("100 found; there are older ones to search")
    assert not b.all("td", "target.enrolled")
    b.press("Older")
    b.wait("target.enrolled")
    b.wait(f"{len(stack.audit())} found, and no more")


def test_by_the_keyboard_alone(page, busy):
    (s, b), (p, session) = page, busy
    wait_for(lambda: b.focused() == "Key id", "the first field to have the focus")
    b.keys(s.key_id, Keys.TAB, s.secret, Keys.ENTER)
    b.wait("Sign out")
    assert b.focused() == "Targets"
    b.tab_to("Skip to the content", backward=True)
    b.tab_to("Sessions")
    b.keys(Keys.ENTER)
    b.wait(session)
    assert b.focused() == "Sessions"
    b.tab_to(f"Terminate {session}")
    b.keys(Keys.ENTER)
    wait_for(lambda: b.focused() == "Cancel", "the question")
    b.keys(Keys.ESCAPE)
    wait_for(lambda: b.focused() == f"Terminate {session}", "the focus to be back")
    b.keys(Keys.ENTER)
    wait_for(lambda: b.focused() == "Cancel", "the question")
    b.keys(Keys.TAB, Keys.ENTER)
    wait_for(lambda: p.poll() is not None, "the client to end")
    b.tab_to("Sign out", backward=True)
    b.keys(Keys.ENTER)
    wait_for(lambda: b.focused() == "Key id", "the form")


def test_what_is_not_allowed_is_said_and_the_rest_works(page, busy):
    (s, b), (p, session) = page, busy
    sign_in(b, "KANN", "a" * 40)
    b.wait("web-1")
    for where, action in (("Audit", "ReadAudit"), ("Nodes", "ListNodes")):
        b.press(where)
        b.wait("You may not see or do this")
        b.wait(f"tunnel:{action}")
    b.press("Policies")
    b.wait("No policy that you may read.")
    b.press("Sessions")
    b.press(f"Terminate {session}")
    b.press("Terminate")
    b.wait("tunnel:TerminateSession")
    assert b.all("dialog") and p.poll() is None
    b.press("Cancel")
    s.cli("revoke", "--principal", "ann")
    b.wait("was revoked")


HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


def test_hostile_words_stay_words(signed_in):
    """A tag, a subject, a reason and a resource that would be markup, on every page that shows them."""
    s, b = signed_in
    s.start_agent("odd", tags=(f"role={HOSTILE}",)).proc.stop()
    b.driver.refresh()
    sign_in(b, s.key_id, s.secret)
    b.wait(f"role={HOSTILE}")
    b.press("Revocations")
    b.press("Revoke …")
    b.fill("Name", HOSTILE)
    b.fill("Reason", HOSTILE)
    b.press("Revoke")
    b.wait("0 sessions ended")
    wait_for(lambda: len(b.all("td", HOSTILE)) == 2, "name and reason")
    b.press("Audit")
    b.wait("revocation.put")
    b.fill("Principal", HOSTILE)
    b.press("Search")
    b.wait("1 found")
    b.wait(HOSTILE)
    b.press("Simulate", "nav a")
    b.fill("Principal", HOSTILE)
    b.fill("Resource", HOSTILE)
    b.press("Simulate", "form button")
    b.wait("no statement matches")
    for where in PAGES:
        b.press(where, "nav a")
        b.one("h1", where)
        assert not b.run("return document.querySelectorAll('main img, main script').length")
        assert b.run("return document.title") == f"{where} – tunnel"
    assert b.run("try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; }") == "TypeError", "markup from text is possible"
    assert len(b.console()) == 1 and "TrustedHTML" in b.complaints.pop()


BROKEN = """{
  "Version": "2026-01-01",
  "Statement": [
    {
      "Sid": "Web",
      "Effect": "Allow",
      "Principal": {"Group": "ops"},
      "Action": ["tunnel:StartSession"],
      "Resource": "target/*",
      "Condition": {
        "StringEquls": {"target:Tag/role": "web"}
      }
    },
    {"Effect": "Perhaps", "Principal": {"User": "ann"}, "Action": "tunnel:Fly", "Resource": "target/*"}
  ]
}"""


def readable(b, page):
    """No text that is pale, no control without a name, nothing that sticks out at the side."""
    assert b.run(PALE) == [], page
    assert b.run(NAMELESS) == [], page
    assert b.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), f"{page} is wider than the window"
    assert b.run("return [...document.querySelectorAll('.wide')].every((e) => e.scrollWidth <= e.clientWidth)"), f"a table of {page} is cut off"
    assert b.run("return document.querySelectorAll('h1').length") == 1


def fill_pages(b):
    """Each page with something on it, as (name, what brings it there)."""

    def mistakes():
        b.press("Policies")
        b.press("New policy")
        b.fill("Name", "web")
        b.run("document.querySelector('textarea').value = arguments[0]", BROKEN)
        b.press("Save")
        b.wait("nothing was saved")

    def answers():
        b.press("Simulate")
        b.fill("Resource", "target/web-1")
        b.press("Simulate", "form button")
        b.wait("by statement Everything")
        b.run("document.querySelectorAll('[name=target]')[0].value = 'web-1'")
        b.press("Who can?", "form button")
        b.wait("user dev")

    def dialog():
        b.press("Revocations")
        b.press("Revoke …")
        b.one("dialog")

    yield from [(page.lower(), lambda page=page: (b.press(page), b.one("h1", page), wait_for(lambda: b.all("table, .empty, section"), page))) for page in PAGES]
    yield from [("mistakes", mistakes), ("answers", answers), ("dialog", dialog)]


def test_every_page_is_readable(signed_in, busy):
    """Wide and light, narrow and dark. TUNNEL_SCREENSHOTS=folder keeps pictures of them, and of all four."""
    stack, b = signed_in
    pictures = os.environ.get("TUNNEL_SCREENSHOTS")
    looks = [(1280, "light"), (400, "dark")] + ([(1280, "dark"), (400, "light")] if pictures else [])
    stack.start_agent("db-1.example.internal", tags=("role=db", "team=a-team-with-a-long-name", "stage=production")).proc.stop()
    stack.cli("revoke", "--principal", "mallory@example.com", "--reason", "laptop stolen, see ticket 4711")
    b.press("Sessions")
    wait_for(lambda: len(set(b.one(".chart:not(.small) .down").get_attribute("d").split("L"))) > 6, "some seconds of bytes")
    for width, scheme in looks:
        b.look(width, 900, scheme)
        for name, go in fill_pages(b):
            go()
            readable(b, f"{name} at {width}, {scheme}")
            if pictures:
                b.shoot(f"{pictures}/{name}-{width}-{scheme}.png")
            for dismiss in b.all("dialog button", "Cancel"):
                dismiss.click()
    b.press("Sign out")
    b.one("button", "Sign in")
    readable(b, "signing in")
    if pictures:
        b.shoot(f"{pictures}/sign-in-{width}-{scheme}.png")
