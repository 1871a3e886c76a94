"""What the control plane does in a second: StartSession without the ends of the sessions; operations of a store; records of the audit log."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from measure import cpu_s
from nets import Loopback
from paths import BUILD, HERE, Server
from swarm import Swarm

STARTS = BUILD / "bench" / "tunnel-bench-starts"
STORE = BUILD / "bench" / "tunnel-bench-store"
WITH_REDIS = HERE.parent / "tests" / "support" / "with_redis.py"
DISK = "/var/tmp"  # /tmp may be memory
AT_ONCE = (8, 32)
AGENTS = 50


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def signing_key(secret, day):
    key = b"AWS4" + secret.encode()
    for word in (day, "default", "tunnel", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


class Signer:
    """Makes HTTP texts of StartSession calls, each with a nonce and so with a signature of its own."""

    def __init__(self, stack):
        self.time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.scope = f"{self.time[:8]}/default/tunnel/aws4_request"
        self.key, self.key_id, self.host = signing_key(stack.secret, self.time[:8]), stack.key_id, f"localhost:{stack.port}"
        der = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.client_key = base64.urlsafe_b64encode(der).rstrip(b"=").decode()

    def start(self, target):
        body = json.dumps({"target": target, "kind": "tcp", "allow": ["127.0.0.1:9"], "client_key": self.client_key})
        headers = {"content-type": "application/json", "host": self.host, "x-amz-date": self.time, "x-tunnel-nonce": secrets.token_hex(16)}
        lines, names = "".join(f"{k}:{v}\n" for k, v in headers.items()), ";".join(headers)
        canonical = f"POST\n/v1/sessions\n\n{lines}\n{names}\n{sha256(body.encode())}"
        text = f"AWS4-HMAC-SHA256\n{self.time}\n{self.scope}\n{sha256(canonical.encode())}"
        signature = hmac.digest(self.key, text.encode(), "sha256").hex()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.key_id}/{self.scope}, SignedHeaders={names}, Signature={signature}"
        headers["content-length"] = len(body)
        return "POST /v1/sessions HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n" + body


def starts(a, folder, at_once):
    """Kept connections, signed beforehand; idle agents take the offers. A store of its own, as a server starts with."""
    stack = Server(folder / f"calls-{at_once}", Loopback()).start_server()
    try:
        agents, count = min(AGENTS, a.starts), 5 * a.starts
        swarm = Swarm(stack, agents, 0, "--no-legs")
        swarm.wait(lambda s: s["agents"]["connected"] == agents, "the agents")
        signer, requests = Signer(stack), stack.folder / "requests"
        requests.write_text("".join(signer.start(f"swarm-{i % agents}") + "\0" for i in range(count)))
        server, others = cpu_s([stack.server.pid]), cpu_s([swarm.p.pid])
        r = subprocess.run([STARTS, str(stack.port), stack.folder / "tls" / "ca.pem", str(at_once), requests], capture_output=True, text=True, timeout=600)
        server, others = cpu_s([stack.server.pid]) - server, cpu_s([swarm.p.pid]) - others
        if r.returncode != 0:
            raise RuntimeError(r.stderr + stack.tails())
        answer = json.loads(r.stdout)
        whole = answer["took_s"] * os.cpu_count()
        return {"at_once": at_once, "calls": count, **answer, "server_cpu_ms": 1000 * server / count, "server_share": server / whole,
                "generator_share": answer["own_cpu_s"] / whole, "agents_share": others / whole}  # fmt: skip
    finally:
        stack.close()


def store(folder, before, plugin, *options, ms):
    """None: its server is not installed."""
    args = [*before, STORE, ms, BUILD / "plugins" / f"{plugin}.so", *options]
    r = subprocess.run([str(x) for x in args], capture_output=True, text=True, timeout=600, env={**os.environ, "TMPDIR": str(folder)})
    if r.returncode == 77:
        return None
    if r.returncode != 0:
        raise RuntimeError(r.stdout + r.stderr)
    return json.loads(r.stdout)


def stores(a, say):
    """Every answered change is on the disk: store-sqlite as it always is, redis-server with appendfsync always."""
    ms = 50 if a.quick else 2000
    with tempfile.TemporaryDirectory(prefix="tb-", dir=DISK) as name:
        folder = Path(name)
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
        say("store-sqlite")
        sqlite = store(folder, [], "store-sqlite", f"path={folder}/store.db", ms=ms)
        say("store-redis")
        redis = store(folder, [sys.executable, WITH_REDIS], "store-redis", "address={redis}", ms=ms)
        return {"folder": f"{DISK} ({kind})", "SQLite": sqlite, "Redis": redis}


def measure(a, folder, say):
    calls = []
    for at_once in AT_ONCE:
        say(f"{5 * a.starts} StartSession calls, {at_once} at once")
        calls.append(starts(a, folder, at_once))
    return {"starts": calls, "stores": stores(a, say)}
