"""An OpenID Connect issuer that does what a test tells it to: the device flow, refresh tokens that are good once, keys that
change, and every answer that a real one should not give."""

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from harness import make_ca

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def jwk(point):
    """With leading zeros (RFC 7518, 6.2.1.2), which PyJWT's to_jwk leaves out."""
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256"}


class Issuer:
    """Whatever a test may change while it runs is an attribute."""

    def __init__(self, folder, client="cli", secret=None):
        self.folder, self.client, self.secret = folder, client, secret
        make_ca(folder)
        self.ca = folder / "ca.pem"
        self.subject = None  # who confirms each code at once; None: nobody yet
        self.denied = False
        self.life, self.interval, self.code_life = 600, 1, 60
        self.replies = []  # of the token endpoint, before any other: (status, body or bytes)
        self.metadata = {}  # over the discovery document's own members; None takes one away
        self.raw = {}  # path → bytes, instead of everything
        self.away = False  # connections are closed
        self.hang = threading.Event()  # set: nothing is answered
        self.refreshes_with_id_token, self.gives_refresh_token, self.opaque = True, True, False
        self.before_refresh = lambda: None
        self.groups = []
        # what happened
        self.asked, self.forms, self.polls, self.reused, self.revoked, self.refreshed = [], [], [], 0, [], 0
        self.closed = False
        self.codes, self.live, self.used = {}, {}, set()
        self.lock = threading.Lock()
        self.keys, self.more_keys = {}, []  # more_keys: JWKs that are published, too
        self.new_key()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.closed = True
        self.server.shutdown()
        self.server.server_close()

    def handler(issuer):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def answer(self, status, body):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def serve(self, form):
                issuer.asked.append(self.path)
                while issuer.hang.is_set() and not issuer.closed:
                    time.sleep(0.05)
                if issuer.away:
                    self.close_connection = True
                elif self.path in issuer.raw:
                    self.answer(200, issuer.raw[self.path])
                else:
                    self.answer(*issuer.route(self.path, form, self.headers))

            def do_GET(self):
                self.serve(None)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.serve({k: v[0] for k, v in parse_qs(body).items()})

        return Handler

    # -- keys and tokens

    def new_key(self, drop=False):
        """The tokens to come are signed by it. drop: the earlier ones are no longer published."""
        kid = f"k{len(self.keys) + 1}-{secrets.token_hex(2)}"
        self.keys = {**({} if drop else self.keys), kid: ec.generate_private_key(ec.SECP256R1())}
        self.kid = kid
        return kid

    def jwks(self):
        return {"keys": [jwk(key.public_key().public_numbers()) | {"kid": kid} for kid, key in self.keys.items()] + self.more_keys}

    def mint(self, **claims):
        now = int(time.time())
        body = {"iss": self.url, "aud": self.client, "sub": "dev", "iat": now, "exp": now + self.life, "jti": secrets.token_hex(8), "groups": self.groups}
        body |= claims
        return jwt.encode({k: v for k, v in body.items() if v is not None}, self.keys[self.kid], algorithm="ES256", headers={"kid": self.kid})

    def tokens(self, grant):
        refresh = secrets.token_urlsafe(24)
        with self.lock:
            self.live[refresh] = grant
        answer = {"token_type": "Bearer", "expires_in": self.life, "id_token": self.mint(sub=grant["sub"])}
        answer["access_token"] = secrets.token_hex(16) if self.opaque else self.mint(sub=grant["sub"], aud=grant["aud"] or "api")
        if self.gives_refresh_token:
            answer["refresh_token"] = refresh
        return answer

    # -- endpoints

    def route(self, path, form, headers):
        if path == "/.well-known/openid-configuration":
            return 200, self.discovery()
        if path == "/jwks":
            return 200, self.jwks()
        self.forms.append((path, form))
        if self.secret and not self.is_client(headers):
            return 401, {"error": "invalid_client", "error_description": "the secret is wrong"}
        if form.get("client_id") != self.client:
            return 401, {"error": "invalid_client"}
        return {"/device": self.device, "/token": self.token, "/revoke": self.revoke}[path](form)

    def discovery(self):
        own = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", "token_endpoint": f"{self.url}/token"}
        own |= {"device_authorization_endpoint": f"{self.url}/device", "revocation_endpoint": f"{self.url}/revoke"}
        own |= {"code_challenge_methods_supported": ["S256"]} | self.metadata
        return {k: v for k, v in own.items() if v is not None}

    def is_client(self, headers):
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return False
        user, _, password = base64.b64decode(value).decode().partition(":")
        return (unquote(user), unquote(password)) == (self.client, self.secret)

    def device(self, form):
        code = secrets.token_urlsafe(24)
        user = f"{secrets.token_hex(2)}-{secrets.token_hex(2)}".upper()
        self.codes[code] = {"form": form, "until": time.monotonic() + self.code_life}
        return 200, {
            "device_code": code, "user_code": user, "verification_uri": f"{self.url}/activate",
            "verification_uri_complete": f"{self.url}/activate?user_code={user}", "expires_in": self.code_life, "interval": self.interval,
        }

    def token(self, form):
        if form["grant_type"] == "refresh_token":
            return self.refresh(form)
        assert form["grant_type"] == DEVICE_GRANT, form
        self.polls.append(time.monotonic())
        if self.replies:
            return self.replies.pop(0)
        code = self.codes.get(form["device_code"])
        if not code:
            return 400, {"error": "invalid_grant"}
        if time.monotonic() > code["until"]:
            return 400, {"error": "expired_token"}
        if self.denied:
            return 400, {"error": "access_denied"}
        if not self.subject:
            return 400, {"error": "authorization_pending"}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if code["form"].get("code_challenge", challenge) != challenge:
            return 400, {"error": "invalid_grant", "error_description": "code_verifier"}
        del self.codes[form["device_code"]]
        return 200, self.tokens({"sub": self.subject, "aud": code["form"].get("resource") or code["form"].get("audience")})

    def refresh(self, form):
        """Good once: an old one that comes again ends the whole sign-in."""
        self.before_refresh()
        if self.replies:
            return self.replies.pop(0)
        with self.lock:
            grant = self.live.pop(form["refresh_token"], None)
            if not grant:
                if form["refresh_token"] in self.used:
                    self.reused += 1
                    self.live.clear()
                return 400, {"error": "invalid_grant", "error_description": "the refresh token is not known"}
            self.used.add(form["refresh_token"])
            self.refreshed += 1
        answer = self.tokens(grant)
        if not self.refreshes_with_id_token:
            del answer["id_token"]
        return 200, answer

    def revoke(self, form):
        self.revoked.append(form["token"])
        with self.lock:
            self.live.pop(form["token"], None)
        return 200, {}
