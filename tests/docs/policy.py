"""policy.py SOURCE BUILD: docs/policy.md against the server that takes policies: each document on it is loaded, each name that it
lists exists and works where it says, and each name and limit of the program is on it."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE, BUILD = Path(sys.argv[1]), Path(sys.argv[2])
PAGE = (SOURCE / "docs/policy.md").read_text()
OPERANDS = {"String": "x", "Numeric": 7, "Date": "2026-01-31T09:15:00Z", "Bool": True, "IpAddress": "10.0.0.0/8", "NotIpAddress": "::1", "Null": True}


def table(heading):
    """The rows of the table below that first cell."""
    rows = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows.splitlines()[2:]]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def server(folder, policies):
    """What the server says of these policies; "" when it takes them."""
    for old in (folder / "policies").iterdir():
        old.unlink()
    for name, document in policies.items():
        (folder / "policies" / f"{name}.json").write_text(json.dumps(document))
    r = subprocess.run([BUILD / "server/tunnel-server", "--config", folder / "server.conf", "--check-config"], capture_output=True, text=True)
    return "" if r.returncode == 0 else r.stderr or "failed"


def prepare(folder):
    key, cert = folder / "server.key", folder / "server.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    key.chmod(0o600)
    credentials = folder / "credentials"
    credentials.write_text('credentials = ( { key_id = "K1"; secret = "0123456789abcdef0123"; subject = "dev"; groups = []; } );\n')
    credentials.chmod(0o600)
    (folder / "policies").mkdir()
    (folder / "server.conf").write_text(f"""
listen = "127.0.0.1:1"; advertise_url = "https://localhost:1"; state_dir = "{folder}/state"; plugin_dir = "{BUILD}/plugins"; policy_dir = "{folder}/policies";
tls: {{ certificate = "{cert}"; key = "{key}"; }};
store: {{ plugin = "store-sqlite"; path = "{folder}/state/tunnel.db"; }};
auth = ( {{ plugin = "auth-hmac"; credentials = "{credentials}"; }} );
""")


def with_condition(operator, key, value):
    statement = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {operator: {key: value}}}
    return {"Version": "2026-01-01", "Statement": statement}


def check_examples(folder):
    blocks = [json.loads(block) for block in re.findall(r"(?ms)^```json\n(.*?)^```", PAGE)]
    assert len(blocks) == 11, len(blocks)  # the one that is explained, and ten
    for n, block in enumerate(blocks):
        said = server(folder, {f"example-{n}": block})
        assert said == "", f"example {n}: {said}"
    assert server(folder, {f"example-{n}": block for n, block in enumerate(blocks)}) == "", "they do not go together"
    blocks = [json.loads(block) for block in re.findall(r"(?ms)^```json\n(.*?)^```", (SOURCE / "docs/migrating.md").read_text())]
    said = server(folder, {f"migrated-{n}": block for n, block in enumerate(blocks)})
    assert len(blocks) >= 2 and said == "", f"docs/migrating.md: {said}"
    broken = json.loads(json.dumps(blocks[0]).replace("StringEquals", "StringEquls"))
    assert "did you mean" in server(folder, {"broken": broken}), "the check does look at them"


def check_names(folder):
    operators = [name for row in table("operator") for name in names(row[0])]
    keys = [name for row in table("key") for name in names(row[0])]
    actions = [name for row in table("action") for name in names(row[0])]
    condition, known = (SOURCE / "server/policy/condition.c").read_text(), (SOURCE / "server/policy/keys.c").read_text()
    assert set(operators) == set(re.findall(r'\{ "(\w+)", OPERAND_', condition)), operators
    fixed = re.findall(r'\[POLICY_KEY_\w+\] = "([^"]+)"', known)
    assert {re.sub("<.*", "", key) for key in keys} == set(fixed) | set(re.findall(r'\{ "([^"]+/)", POLICY_KEY', known)), keys
    listed = re.findall(r'"(tunnel:\w+)"', known.partition("actions[] = {")[2].partition("};")[0])
    assert set(actions) == set(listed), actions
    for operator in operators:
        value = next(v for prefix, v in OPERANDS.items() if operator.startswith(prefix))
        assert server(folder, {"p": with_condition(operator, "tunnel:Subject", value)}) == "", operator
    for key in keys:
        assert server(folder, {"p": with_condition("StringEquals", re.sub("<.*>", "x", key), "x")}) == "", key
    for action, resource in ((a, r) for row in table("action") for a in names(row[0]) for r in names(row[1])):
        statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": re.sub("<.*>", "x", resource)}
        assert server(folder, {"p": {"Version": "2026-01-01", "Statement": statement}}) == "", (action, resource)


def check_limits():
    header = (SOURCE / "lib/base/limits.h").read_text()
    values = {k: eval(v.replace("u", "")) for k, v in re.findall(r"(?m)^#define LIMIT_POLIC(?:Y_)?(\w+) +([\d(][^/\n]*?) */\*", header)}
    expected = {"policies in force": "IES", "statements of a policy": "STATEMENTS", "entries of one list": "LIST",
                "conditions (operator and key) of a statement": "CONDITIONS", "bytes of a name, pattern or value": "TEXT",
                "wildcards and variables of a pattern": "PIECES", "variables of a pattern": "VARIABLES", "bytes of a document": "FILE"}
    assert {what: values[name] for what, name in expected.items()} == {row[0]: int(row[1]) for row in table("of")}, values


with tempfile.TemporaryDirectory(prefix="tunnel-policy-") as d:
    prepare(Path(d))
    check_examples(Path(d))
    check_names(Path(d))
check_limits()
print("the page is right")
