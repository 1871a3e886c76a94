"""samples.py ETC BUILD: every sample of etc/ is taken by the program that it is for. What a sample names and a machine must
bring (keys, certificate, credentials) is made in a temp folder, and only the paths are replaced."""

import configparser
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ETC, BUILD = Path(sys.argv[1]), Path(sys.argv[2])
SERVER, AGENT, CLI = BUILD / "server/tunnel-server", BUILD / "agent/tunnel-agent", BUILD / "cli/tunnel-cli"
used = set()


def sample(name):
    used.add(name)
    return (ETC / name).read_text()


def run(*args, code=0, **env):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert r.returncode == code, f"{args} exits with {r.returncode}, not {code}: {r.stdout}{r.stderr}"
    return r.stdout + r.stderr


def secret(path, text):
    path.write_text(text)
    path.chmod(0o600)


def check_server(d):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=tunnel.example.com",
        "-keyout", d / "server.key", "-out", d / "server.pem")
    (d / "server.key").chmod(0o600)
    # Keys of no use to anybody: the example of RFC 7517, appendix A.1.
    key = {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
           "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "kid": "1", "use": "sig", "alg": "ES256"}
    (d / "jwks.json").write_text(json.dumps({"keys": [key]}))
    credentials = sample("hmac-credentials.example")
    secret(d / "hmac-credentials", re.sub(r'(secret = )"[^"]*"', lambda m: f'{m[1]}"{secrets.token_hex(20)}"', credentials))
    (d / "policies").mkdir()
    for policy in (ETC / "policies").iterdir():
        (d / "policies" / policy.name).write_text(sample(f"policies/{policy.name}"))
    conf = d / "server.conf"
    text = sample("server.conf").replace("/etc/tunnel", str(d)).replace("/var/lib/tunnel", f"{d}/state")
    conf.write_text(f'plugin_dir = "{BUILD}/plugins";\n' + text)
    run(SERVER, "--config", conf, "--check-config")
    (sqlite,), (redis,) = re.findall(r"(?m)^store: .*$", text), re.findall(r"(?m)^// (store: .*store-redis.*)$", text)
    conf.write_text(f'plugin_dir = "{BUILD}/plugins";\n' + text.replace(sqlite, redis))
    assert "redis-password: No such file" in run(SERVER, "--config", conf, "--check-config", code=1)
    secret(d / "redis-password", "a-password\n")
    run(SERVER, "--config", conf, "--check-config")
    conf.write_text(f'plugin_dir = "{BUILD}/plugins";\n' + text)
    conf.write_text(conf.read_text().replace("https://tunnel.example.com", "https://tunnel.example.org"))
    assert re.search("advertise_url: tunnel.example.org is not a name", run(SERVER, "--config", conf, "--check-config"))
    text, n = re.subn(r"(?ms)^/\*[^\n]*\n(.*?)^\*/\n", r"\1", text)  # and with what it has as a comment
    assert n == 1
    conf.write_text(f'plugin_dir = "{BUILD}/plugins";\n' + text)
    assert "not a name" not in run(SERVER, "--config", conf, "--check-config")
    assert not (d / "state").exists(), "--check-config wrote something"
    shown = run(SERVER, "--config", conf, "--print-config")
    assert f"{d}/hmac-credentials" in shown and "https://id.example.com" in shown, shown
    # The check does look at what it was given.
    for path, content, word in (
        (d / "policies/bad.json", '{ "Version": "2026-01-01", "Statement": [], "Id": "x" }', "0 statements"),
        (d / "hmac-credentials", "credentials = 1;\n", "hmac-credentials"),
        (d / "hmac-credentials", credentials, r"hmac-credentials:\d+: secret of AKALICE01: is still the sample's placeholder"),
        (d / "jwks.json", "{", "jwks"),
        (conf, conf.read_text().replace("issuer", "isuer"), "isuer"),
        (conf, conf.read_text().replace("store-sqlite", "store-nothing"), "store-nothing"),
        (conf, conf.read_text().replace('path = "', 'pith = "'), "pith"),
    ):
        before = path.read_text() if path.exists() else None
        path.write_text(content)
        said = run(SERVER, "--config", conf, "--check-config", code=1)
        assert re.search(word, said) and said.count("\n") == 1, said
        path.write_text(before) if before is not None else path.unlink()
    run(SERVER, "--config", conf, "--check-config")


def check_agent(d):
    conf = d / "agent.conf"
    conf.write_text(sample("agent.conf"))
    run(AGENT, "--config", conf, "--check-config")
    conf.write_text(conf.read_text() + 'proxy = "http://joe:hidden-word@127.0.0.1:3128";\n')
    shown = run(AGENT, "--config", conf, "--print-config")
    assert 'proxy = "***";' in shown and "hidden-word" not in shown and "joe" not in shown, shown


def check_client(d):
    conf = d / "client.conf"
    text = sample("client.conf").replace("https://tunnel.example.com:8443", "https://127.0.0.1:1")
    conf.write_text(text.replace("/etc/tunnel", str(d)).replace("my-sso print-token", "echo a.b.c"))
    secret(d / "automation-key", 'key_id = "AK1"; secret = "0123456789abcdef";\n')
    for profile in re.findall(r"(?m)^(\w+): \{", text):
        # It gets as far as the network: 235; or to where somebody has to sign in.
        said = run(CLI, "whoami", "--config", conf, "--profile", profile, code=230 if profile == "sso" else 235, no_proxy="*", XDG_STATE_HOME=str(d))
        assert profile != "sso" or "run: tunnel-cli login --profile sso" in said, said


def check_units(d):
    """Each starts a program that is there, with a config file of which there is a sample."""
    for program, needs in (("tunnel-agent", {"KillMode": "process", "RuntimeDirectoryPreserve": "yes"}), ("tunnel-server", {})):
        unit = configparser.RawConfigParser(strict=False)  # a list may go on in a second line of its key
        unit.optionxform = str
        unit.read_string(sample(f"systemd/{program}.service"))
        service = unit["Service"]
        start = service["ExecStart"].split()
        assert start[0] == f"/usr/bin/{program}" and start[1] == "--config", start
        assert (ETC / Path(start[2]).name).exists(), start
        assert needs.items() <= dict(service).items(), dict(service)
        assert service["Type"] == "notify" and int(service["WatchdogSec"]) > 0
        assert unit["Unit"]["ConditionPathExists"] == start[2]  # enabled by its package, before it is set up
    if shutil.which("systemd-analyze"):  # as docs/operators.md has it; what is missing is what it is there for: the network
        run("systemd-analyze", "security", "--offline=true", "--threshold=15", ETC / "systemd" / "tunnel-server.service")
    alone = sample("systemd/tunnel-agent-forward-only.conf")
    server = sample("systemd/tunnel-server.service")
    for line in alone.partition("[Service]\n")[2].splitlines():
        assert line in server or line == "User=tunnel-agent", f"tunnel-agent-forward-only.conf is harder than the server: {line}"


# These are held against the metrics of a running server by tests/scenario/test_metrics.py.
used |= {"grafana/tunnel.json", "prometheus/alerts.yml"}

with tempfile.TemporaryDirectory(prefix="tunnel-samples-") as folder:
    for check in (check_server, check_agent, check_client, check_units):
        check(Path(folder))
there = {str(p.relative_to(ETC)) for p in ETC.rglob("*") if p.is_file()} - {"CMakeLists.txt"}
assert used == there, f"no check for {there - used}"
print("every sample is taken")
