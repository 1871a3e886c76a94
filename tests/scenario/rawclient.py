"""A client of the wire that is not ours: curl for the API, python3-websockets or a bare TLS socket for legs."""

import base64
import hashlib
import json
import secrets
import socket
import ssl
import subprocess
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from harness import LIMIT
from websockets.legacy.client import connect  # in every release; what `websockets.connect` is differs between them


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def call(stack, method, path, body=None):
    """(status, JSON); status 0: no answer."""
    args = ["curl", "-sS", "-m", str(int(LIMIT)), "-X", method, "--cacert", str(stack.folder / "tls" / "ca.pem")]
    args += ["-H", f"X-Nonce: {secrets.token_hex(16)}"]  # two equal calls within a second have two signatures
    args += ["--aws-sigv4", "aws:amz:default:tunnel", "-u", f"{stack.key_id}:{stack.secret}", "-w", "\n%{http_code}"]
    if body is not None:
        args += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    text, _, status = subprocess.run([*args, stack.url + path], env=stack.env(), capture_output=True, text=True).stdout.rpartition("\n")
    return int(status or 0), json.loads(text) if text and int(status) else None


def spki(key):
    """A public key as our JSON has it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64(key.public_key().public_bytes(serialization.Encoding.DER, form))


class RawSession:
    """A session of a key of its own. Raises AssertionError when the start is refused."""

    def __init__(self, stack, target="web-1", allow=("127.0.0.1:9",)):
        self.stack, self.key = stack, ec.generate_private_key(ec.SECP256R1())
        self.status, answer = call(
            stack, "POST", "/v1/sessions", {"target": target, "kind": "tcp", "allow": list(allow), "client_key": self.public()}
        )
        assert self.status == 201, (self.status, answer)
        self.id, self.token = answer["session"]["id"], answer["token"]
        self.url = f"{answer['relay_url']}/v1/sessions/{self.id}/leg"
        self.context = ssl.create_default_context(cafile=stack.folder / "tls" / "ca.pem")

    def public(self):
        return spki(self.key)

    def credentials(self):
        n = self.key.public_key().public_numbers()
        jwk = {"kty": "EC", "crv": "P-256", "x": b64(n.x.to_bytes(32, "big")), "y": b64(n.y.to_bytes(32, "big"))}
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
        ath = b64(hashlib.sha256(self.token.encode()).digest())
        claims = {"jti": secrets.token_hex(16), "htm": "GET", "htu": self.url, "iat": int(time.time()), "ath": ath}
        signed = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        proof = f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
        return {"Authorization": f"Bearer {self.token}", "DPoP": proof}

    def leg(self):
        return connect(
            self.url.replace("https:", "wss:"), ssl=self.context, subprotocols=["tunnel.leg.v1"], extra_headers=self.credentials(),
            compression=None, max_size=None, open_timeout=LIMIT, ping_interval=None, close_timeout=1,
        )

    def mute_leg(self):
        """A leg that reads its first bytes and nothing after them, and answers nothing."""
        host, port = self.url.split("/")[2].split(":")
        s = self.context.wrap_socket(socket.create_connection((host, int(port)), LIMIT), server_hostname=host)
        headers = {
            "Host": f"{host}:{port}", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": b64(bytes(16)) + "==", "Sec-WebSocket-Protocol": "tunnel.leg.v1", **self.credentials(),
        }
        lines = [f"GET /{self.url.split('/', 3)[3]} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert b" 101 " in s.recv(4096)
        return s
