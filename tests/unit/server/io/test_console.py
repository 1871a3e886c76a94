"""The files of the web console, as the admin listener serves them. See harness.main for the arguments."""

import json
import re
from pathlib import Path

from harness import Server, answer, main

FOLDER = Path(__file__).resolve().parents[4] / "server" / "console"


class Console(Server):
    """An io_server that is asked at its admin listener."""

    def __enter__(self):
        super().__enter__()
        self.public, self.port = self.port, int(self.ask("admin", "admin").split()[1])
        self.url = f"https://localhost:{self.port}"
        return self

    def get(self, path, *args):
        """(status, headers by name in lower case, body)."""
        r = self.curl("-i", "--path-as-is", "-o", "-", *args, self.url + path)
        head, _, body = r.stdout.partition("\n\n")
        lines = head.split("\n")
        return int(lines[0].split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}, body

    def as_sent(self, path, port=None):
        """Status and body of a path that no client tidies up."""
        with self.raw(port) as c:
            c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            status, body, _ = answer(c)
            return status, body.decode()


def test_every_file_is_as_in_the_tree():
    with Console() as s:
        kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
        files = sorted(FOLDER.iterdir())
        assert len(files) > 10
        for file in files:
            path = "/" if file.name == "index.html" else f"/console/{file.name}"
            status, headers, body = s.get(path)
            assert (status, body) == (200, file.read_text()), path
            assert headers["content-type"].split(";")[0] == kinds[file.suffix], headers


def test_a_browser_is_told_how_little_it_may_do():
    with Console() as s:
        for path in ("/", "/console/app.js"):
            _, headers, _ = s.get(path)
            policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
            assert policy.pop("require-trusted-types-for") == "'script'"
            own = {name for name, value in policy.items() if value == "'self'"}
            assert own == {"script-src", "style-src", "img-src", "connect-src"}, policy
            assert {policy[name] for name in policy.keys() - own} == {"'none'"} and policy["default-src"] and policy["frame-ancestors"], policy
            assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer" and headers["x-frame-options"] == "DENY"
            assert "set-cookie" not in headers and not [name for name in headers if name.startswith("access-control")]


def test_it_is_read_only():
    with Console() as s:
        status, headers, body = s.get("/", "-I")
        assert status == 200 and body == "" and int(headers["content-length"]) == (FOLDER / "index.html").stat().st_size
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, headers, body = s.get("/console/app.js", "-X", method, "-d", "x")
            assert (status, headers["allow"], json.loads(body)["code"]) == (405, "GET, HEAD", "method-not-allowed"), method


def test_nothing_else_is_a_file():
    with Console() as s:
        for path in ("/console", "/console/", "/index.html", "/console/../console.c", "/console/..%2f..%2fetc%2fpasswd", "/console//app.js", "/console/app.js%00.css",
                     "/console/app.js/", "//console/app.js", "/../../../../etc/passwd", "/console/APP.JS"):
            status, body = s.as_sent(path)
            # What is not the console's goes to the API, which tells here what it was asked for.
            assert status != 200 or body.startswith('{"method":"GET"') or body == (FOLDER / "app.js").read_text(), (path, status, body)


def test_the_api_is_there_too_and_the_console_nowhere_else():
    with Console() as s:
        status, _, body = s.get("/v1/whoami?x=1")
        assert status == 200 and json.loads(body)["path"] == "/v1/whoami"
        for path in ("/", "/console/app.js"):
            assert json.loads(s.as_sent(path, s.public)[1])["path"] == path


def test_the_code_makes_no_markup_and_names_no_other_host():
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|javascript:|\bstyle=|localStorage|document\.cookie")
    size = 0
    for file in sorted(FOLDER.iterdir()):
        text = file.read_text()
        size += len(text)
        assert not forbidden.findall(text), (file.name, forbidden.findall(text))
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S*", text), file.name
    assert size < 100_000


main(globals())
