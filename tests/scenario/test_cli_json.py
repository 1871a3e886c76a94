"""What --output json prints, against docs/cli-json.md: programs read it."""

import json
import re
from pathlib import Path

from harness import LIMIT, USER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli-json.md"


def documented():
    """Command -> (one of "object", "array", "lines"), {member: required}."""
    found = {}
    for command, shape, rows in re.findall(r"(?ms)^## `([a-z-]+)`: (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text()):
        members = {}
        for names in re.findall(r"(?m)^\| (`[^|]*) \|", rows):
            for name, optional in re.findall(r"`(\w+)`(\?)?", names):
                members[name] = not optional
        found[command] = shape, members
    return found


def answers(stack):
    """What each command prints when there is something of everything."""
    def run(command, *args):
        return stack.cli(command, *args, "--output", "json", check=False).stdout

    p, _ = stack.forward("web-1", "127.0.0.1:9")
    (session,) = [s["id"] for s in stack.json("list-sessions")]
    yield "status", run("status")
    yield "list-sessions", run("list-sessions")
    yield "describe-session", run("describe-session", session)
    yield "list-targets", run("list-targets")
    yield "describe-target", run("describe-target", "web-1")
    yield "create-enrollment", run("create-enrollment", "web-2")
    yield "list-policies", run("list-policies")
    yield "list-nodes", run("list-nodes")
    yield "whoami", run("whoami")
    yield "simulate-policy", run("simulate-policy", "--principal", "dev", "--target", "web-1", "--login", "root")
    yield "who-can", run("who-can", "--target", "web-1")
    yield "revoke", run("revoke", "--principal", "mallory", "--reason", "x")
    yield "list-revocations", run("list-revocations")
    p.terminate()
    p.wait(LIMIT)
    yield "audit", run("audit")
    yield "verify-audit", run("verify-audit")
    yield "doctor", run("doctor", "--target", "web-1", "--login", USER)


def rows_of(shape, text):
    if shape == "lines":
        return [json.loads(line) for line in text.splitlines()]
    value = json.loads(text)
    assert isinstance(value, list if shape == "array" else dict), text
    return value if shape == "array" else [value]


def test_each_command_prints_what_the_page_says(stack):
    run = stack.folder / "r"
    run.mkdir(mode=0o700)
    real = stack.env
    stack.env = lambda **more: real(**{"XDG_RUNTIME_DIR": str(run), **more})
    page, wrong, seen = documented(), [], set()
    for command, text in answers(stack):
        seen.add(command)
        if command not in page:
            wrong.append(f"{command} is missing; it prints {text[:600]}")
            continue
        shape, members = page[command]
        rows = rows_of(shape, text)
        assert rows, command
        for row in rows:
            if set(row) - set(members) and "members of its own" not in PAGE.read_text().partition(f"## `{command}`")[2].partition("\n## ")[0]:
                wrong.append(f"{command}: not on the page: {sorted(set(row) - set(members))}")
            if {m for m, required in members.items() if required} - set(row):
                wrong.append(f"{command}: missing: {sorted({m for m, r in members.items() if r} - set(row))}")
    wrong += [f"{command} is on the page, and not asked" for command in set(page) - seen]
    assert not wrong, "\n".join(wrong)


def test_only_results_are_printed(stack):
    """No colours, and no words beside them."""
    for command in ("list-targets", "whoami", "status", "list-nodes"):
        r = stack.cli(command, "--output", "json", "--quiet")
        json.loads(r.stdout)
        assert r.stderr == "" and "\x1b" not in stack.cli(command).stdout
