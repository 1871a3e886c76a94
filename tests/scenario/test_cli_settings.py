"""Where tunnel-cli finds its settings and credentials; reasons and policies."""

import json
import os
import subprocess

import pytest
from harness import CLI, LIMIT, USER, make_ca, trusted_by_the_system, write_secret
from test_refusals import jwt_stack  # noqa: F401


def test_where_the_config_is_found(bare):
    people = {"KDEV": ("dev", "the-secret-of-dev-0123", []), "KANN": ("ann", "the-secret-of-ann-0123", [])}
    bare.write_credentials(people)
    bare.start_server()
    lines = {}
    for key, (name, secret, _) in people.items():
        write_secret(bare.folder / name, f'key_id = "{key}"; secret = "{secret}";')
        common = f'server = "{bare.url}"; ca_file = "{bare.folder}/tls/ca.pem"; auth = "hmac";'
        lines[name] = f'{{ {common} credentials = "{bare.folder}/{name}"; }};\n'

    def config(folder, default, other):
        (bare.folder / folder).mkdir(parents=True)
        (bare.folder / folder / "config").write_text(f"default: {lines[default]}other: {lines[other]}")
        return bare.folder / folder / "config"

    home, xdg = bare.folder / "home", bare.folder / "xdg"
    config("home/.config/tunnel", "dev", "ann")
    config("xdg/tunnel", "ann", "dev")
    named = config("named", "dev", "ann")

    def who(*args, **env):
        env = {"HOME": str(home), "XDG_CONFIG_HOME": None, "TUNNEL_CONFIG": None, **env}
        return json.loads(bare.cli("whoami", "--output", "json", *args, **env).stdout)["subject"]

    assert who() == "dev"
    assert who(TUNNEL_PROFILE="other") == "ann"
    assert who("--profile", "default", TUNNEL_PROFILE="other") == "dev"
    assert who(XDG_CONFIG_HOME=str(xdg)) == "ann"
    assert who(XDG_CONFIG_HOME=str(xdg), TUNNEL_CONFIG=str(named)) == "dev"
    assert who("--config", xdg / "tunnel" / "config", TUNNEL_CONFIG=str(named)) == "ann"
    assert who(TUNNEL_KEY_ID="KANN", TUNNEL_SECRET=people["KANN"][1]) == "ann", "instead of the file"
    r = bare.cli("whoami", check=False, HOME=str(bare.folder), XDG_CONFIG_HOME=None, TUNNEL_CONFIG=None)
    assert r.returncode == 230 and f"{bare.folder}/.config/tunnel/config" in r.stderr, r.stderr


def test_a_ca_file_stands_instead_of_the_systems_cas(bare):
    bare.start_server()
    make_ca(bare.folder / "other-tls", name="another CA")  # found by name: one of the same would hide it
    if not (prefix := trusted_by_the_system(bare.folder / "tls/ca.pem", bare.folder / "system")):
        pytest.skip("needs root and a mount namespace")
    bare.place = lambda role, args: [*prefix, *args]

    def whoami(more):
        text = f'default: {{ server = "{bare.url}"; auth = "hmac"; credentials = "{bare.folder}/cli-credentials"; {more} }};'
        (bare.folder / "cli.conf").write_text(text)
        return bare.cli("whoami", check=False)

    assert whoami("").returncode == 0, "the server's CA is the system's"
    r = whoami(f'ca_file = "{bare.folder}/other-tls/ca.pem";')
    assert r.returncode != 0 and "ca_file names the CAs to trust" in r.stderr, r.stdout + r.stderr


def test_where_the_token_is_found(jwt_stack):  # noqa: F811
    jwt_stack.token(sub="dev")
    file = jwt_stack.folder / "token"
    dev = file.read_text()
    jwt_stack.token(sub="ann")

    def who(settings, **env):
        jwt_stack.write_profile("some", f'auth = "jwt"; {settings}')
        r = jwt_stack.cli("whoami", "--profile", "some", "--output", "json", check=False, **env)
        return json.loads(r.stdout)["subject"] if r.returncode == 0 else (r.returncode, r.stderr)

    by_file, by_command = f'token_file = "{file}";', f'token_command = "cat {file}";'
    assert who(by_file) == who(by_command) == "ann"
    assert who(by_file + by_command, TUNNEL_TOKEN=dev) == who("", TUNNEL_TOKEN=dev) == "dev"
    assert who(by_file + 'token_command = "false";') == "ann", "the file is before the command"
    code, words = who('token_command = "exit 3";')
    assert code == 230 and "token_command exited with" in words
    code, words = who('token_command = "true";')
    assert code == 230 and "the token is empty" in words


def test_a_reason_is_kept(stack):
    stack.cli("start-session", "--target", "web-1", "--login", USER, "--reason", "ticket 4711", "--", "true")
    (session,) = stack.json("list-sessions", "--state", "ended")
    assert stack.json("describe-session", session["id"])["reason"] == "ticket 4711"
    assert [r["reason"] for r in stack.audit() if r["event"] == "session.start"] == ["ticket 4711"]


def test_policies_come_and_go(bare):
    bare.start_server()
    policy = {"Version": "2026-01-01", "Statement": [{"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": ["tunnel:ReadAudit"], "Resource": ["*"]}]}
    file = bare.folder / "freeze.json"
    file.write_text(json.dumps(policy))
    bare.cli("put-policy", "freeze", file)
    assert {p["name"]: p["source"] for p in bare.json("list-policies")} == {"base": "file", "freeze": "store"}
    assert bare.cli("list-policies").stdout.splitlines()[0].split() == ["POLICY", "SOURCE"]
    assert json.loads(bare.cli("get-policy", "freeze").stdout) == policy
    assert bare.cli("audit", check=False).returncode == 232
    bare.cli("delete-policy", "freeze")
    assert bare.cli("audit").returncode == 0
    assert [p["name"] for p in bare.json("list-policies")] == ["base"]
    for command in ("get-policy", "delete-policy"):
        assert bare.cli(command, "freeze", check=False).returncode == 233
    r = bare.cli("delete-policy", "base", check=False)
    assert r.returncode != 0 and "file" in r.stderr, "it is the administrator's"
    assert [p["name"] for p in bare.json("list-policies")] == ["base"]


def test_what_cannot_be_written_is_no_success(bare):
    with open("/dev/full", "wb") as full:
        r = subprocess.run([CLI, "completion", "bash"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert r.returncode == 1 and "No space left" in r.stderr, r
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        r = subprocess.run([CLI, "completion", "bash"], stdout=gone, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert (r.returncode, r.stderr) == (0, ""), r
