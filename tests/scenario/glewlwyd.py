"""Debian's glewlwyd as an OpenID Connect issuer: a real one, run from where scripts/deps has unpacked it, on a database in a
test's folder. Its people decide over the API that its own pages use."""

from http.cookies import SimpleCookie
import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import Proc, free_port, make_ca, wait_for

ROOT = Path(os.environ.get("TUNNEL_GLEWLWYD", "/usr/local/lib/tunnel-tests/glewlwyd"))
PLUGIN, CLIENT, SECRET, RESOURCE = "sso", "tunnel-cli", "the-secret-of-the-client", "https://tunnel.example.com"
MODULES = {"user": "user", "client": "client", "user_auth_scheme": "scheme", "plugin": "plugin"}


class Browser:
    """One person's: cookies, no redirects followed."""

    def __init__(self, api, ca):
        self.api = api
        context = ssl.create_default_context(cafile=str(ca))
        self.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), NoRedirect(), urllib.request.ProxyHandler({}))
        self.cookies = {}  # http.cookiejar wants a dot in a domain, and this one's is localhost

    def call(self, method, path, body=None):
        """(status, headers)"""
        url = path if path.startswith("https:") else self.api + path
        data = None if body is None else json.dumps(body).encode()
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        request = urllib.request.Request(url, data, headers | ({"Content-Type": "application/json"} if data else {}), method=method)
        try:
            with self.opener.open(request, timeout=30) as r:
                status, headers = r.status, r.headers
        except urllib.error.HTTPError as e:
            if e.code >= 400:
                raise AssertionError(f"{method} {url}: {e.code} {e.read().decode(errors='replace')}") from None
            status, headers = e.code, e.headers
        for line in headers.get_all("Set-Cookie", []):
            self.cookies |= {k: m.value for k, m in SimpleCookie(line).items()}
        return status, headers


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Glewlwyd:
    def __init__(self, folder, life):
        if not (ROOT / "usr/bin/glewlwyd").exists():
            pytest.skip(f"{ROOT} is missing: scripts/deps unpacks glewlwyd there")
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        make_ca(folder / "tls")
        self.ca = folder / "tls" / "ca.pem"
        self.api = f"https://localhost:{self.port}/api"
        self.url = f"{self.api}/{PLUGIN}"
        self.write_files()
        self.proc = Proc([ROOT / "usr/bin/glewlwyd", f"--config-file={folder}/glewlwyd.conf"], folder / "log")
        try:
            self.set_up(life)
        except BaseException:
            self.close()
            raise

    def close(self):
        self.proc.kill()
        self.proc.p.wait()

    def write_files(self):
        (scheme,) = ROOT.glob("usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
        subprocess.run(["sqlite3", self.folder / "db"], input=scheme.read_bytes(), check=True)
        modules = "\n".join(f'{name}_module_path = "{ROOT}/usr/lib/glewlwyd/{folder}";' for name, folder in MODULES.items())
        (self.folder / "user_middleware").mkdir()  # the package has none
        (self.folder / "glewlwyd.conf").write_text(
            f"""
port = {self.port};
bind_address = "127.0.0.1";
external_url = "https://localhost:{self.port}";
login_url = "login.html";
api_prefix = "api";
static_files_path = "{self.folder}";
log_mode = "console";
log_level = "DEBUG";
cookie_domain = "localhost";
cookie_secure = true;
session_key = "GLEWLWYD2_SESSION_ID";
session_expiration = 3600;
admin_scope = "g_admin";
profile_scope = "g_profile";
hash_algorithm = "SHA512";
{modules}
user_middleware_module_path = "{self.folder}/user_middleware";
use_secure_connection = true;
secure_connection_key_file = "{self.folder}/tls/server.key";
secure_connection_pem_file = "{self.folder}/tls/server.pem";
database = {{ type = "sqlite3"; path = "{self.folder}/db"; }};
"""
        )

    def signed_in(self, name):
        browser = Browser(self.api, self.ca)
        browser.call("POST", "/auth/", {"username": name, "password": "password"})
        return browser

    def set_up(self, life):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

        def up():
            assert self.proc.alive(), self.proc.text()[-3000:]
            try:
                return self.signed_in("admin")
            except urllib.error.URLError:
                return None

        admin = wait_for(up, "glewlwyd to answer", every=0.1)
        parameters = {
            "iss": self.url, "jwt-type": "ecdsa", "jwt-key-size": "256", "key": private, "cert": public, "access-token-duration": life,
            "refresh-token-duration": 3600, "code-duration": 60, "refresh-token-one-use": "always", "auth-type-device-enabled": True,
            "auth-type-refresh-enabled": True, "device-authorization-expiration": 120, "device-authorization-interval": 1, "jwks-show": True,
            "introspection-revocation-allowed": True, "introspection-revocation-allow-target-client": True,
            "resource-allowed": True, "resource-scope": {"openid": [RESOURCE]},
        }
        admin.call("POST", "/mod/plugin/", {"module": "oidc", "name": PLUGIN, "display_name": "sso", "enabled": True, "parameters": parameters})
        types = ["device_authorization", "refresh_token"]
        client = {"client_id": CLIENT, "name": CLIENT, "confidential": True, "client_secret": SECRET, "authorization_type": types, "enabled": True}
        admin.call("POST", "/client/", client | {"token_endpoint_auth_method": ["client_secret_basic"]})
        admin.call("POST", "/user/", {"username": "dev", "password": "password", "scope": ["openid"], "enabled": True})

    def confirm(self, page):
        """What dev does with the page that he was told to open."""
        dev = self.signed_in("dev")
        dev.call("PUT", f"/auth/grant/{CLIENT}", {"scope": "openid"})
        code = parse_qs(urlsplit(page).query)["code"][0]
        status, headers = dev.call("GET", f"{self.url}/device?code={code}&g_continue")
        assert status == 302 and "deviceComplete" in headers["Location"], (status, headers["Location"])
