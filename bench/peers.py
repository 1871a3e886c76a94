"""Ways by chisel, frp and rathole, which Debian does not have: they take part when their programs are on PATH.

The target's end dials out, and TLS goes to the relay, whose certificate the ends check. AES-128-GCM is what Go chooses where the processor
has AES, and what rathole's OpenSSL is told to; buffers and multiplexing are as they come. chisel has been tried (1.11.5); frp and rathole
are configured as their manuals have it, and have not.
"""

import os
import re
import secrets
import subprocess

from paths import PUMP, SUITE, Way, free_port, make_ca, wait_for

SECRET = secrets.token_hex(16)


class Peer(Way):
    """A relay with a certificate, and ends that know the CA. No proxy of the environment is between them."""

    def start(self):
        make_ca(self.folder / "tls", self.net.relay)
        self.tls, self.relay_port = self.folder / "tls", free_port()
        self.env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        self.start_parts()
        wait_for(self.carries, f"{self.name} to carry a byte")

    def run(self, part, *args):
        return super().run(part, *args, env=self.env)

    def carries(self):
        """A listener says little here: entries listen before the target's end is there."""
        self.assert_alive()
        try:
            return subprocess.run([*self.net.prefix("client"), PUMP, "ping", str(self.entry), "1", "1"], capture_output=True, timeout=5).returncode == 0
        except subprocess.TimeoutExpired:
            return False


class Chisel(Peer):
    """A client's remote through a reverse one. chisel speaks SSH in a WebSocket: with TLS around it, all is encrypted twice."""

    name, needs, scheme = "chisel", ("chisel",), "https"
    server_tls = ("--tls-cert", "server.pem", "--tls-key", "server.key")
    client_tls = ("--tls-ca", "ca.pem")

    def files(self, options):
        return [self.tls / o if o.endswith((".pem", ".key")) else o for o in options]

    def start_parts(self):
        there = free_port()
        relay = self.run("relay", "chisel", "server", "--host", self.net.relay, "--port", self.relay_port, "--reverse", "--auth", f"bench:{SECRET}",
                         *self.files(self.server_tls))  # fmt: skip
        fingerprint = re.search(r"Fingerprint (\S+)", relay.wait_log("Fingerprint ")).group(1)
        self.await_port("relay", self.relay_port)
        for part, remote in (("target", f"R:127.0.0.1:{there}:127.0.0.1:{self.to}"), ("client", f"127.0.0.1:{self.entry}:127.0.0.1:{there}")):
            self.run(part, "chisel", "client", "--auth", f"bench:{SECRET}", "--fingerprint", fingerprint, *self.files(self.client_tls),
                     f"{self.scheme}://{self.net.relay}:{self.relay_port}", remote)  # fmt: skip
            self.await_port(part, there if part == "target" else self.entry)


class ChiselAlone(Chisel):
    """Encrypted once, by its SSH, whose host key the ends check: this is chisel at its fastest."""

    name, scheme, server_tls, client_tls = "chisel without TLS", "http", (), ()


class Frp(Peer):
    """stcp: the client's side is an frpc, too (a visitor), and so has TLS to the relay as the target's has. Files of frp 0.52 and later."""

    name, needs = "frp", ("frps", "frpc")

    def start_parts(self):
        relay = self.file("relay.toml", f"""
bindAddr = "{self.net.relay}"
bindPort = {self.relay_port}
auth.token = "{SECRET}"
transport.tls.force = true
transport.tls.certFile = "{self.tls}/server.pem"
transport.tls.keyFile = "{self.tls}/server.key"
""")  # fmt: skip
        self.run("relay", "frps", "-c", relay)
        self.await_port("relay", self.relay_port)
        self.end("target", f'[[proxies]]\nname = "bench"\ntype = "stcp"\nsecretKey = "{SECRET}"\nlocalIP = "127.0.0.1"\nlocalPort = {self.to}\n')
        self.end("client", f'[[visitors]]\nname = "visitor"\ntype = "stcp"\nserverName = "bench"\nsecretKey = "{SECRET}"\n'
                           f'bindAddr = "127.0.0.1"\nbindPort = {self.entry}\n')  # fmt: skip
        self.await_port("client", self.entry)

    def end(self, part, what):
        conf = self.file(f"{part}.toml", f"""
serverAddr = "{self.net.relay}"
serverPort = {self.relay_port}
auth.token = "{SECRET}"
transport.tls.trustedCaFile = "{self.tls}/ca.pem"
transport.tls.serverName = "localhost"
{what}""")  # fmt: skip
        self.run(part, "frpc", "-c", conf)


class Rathole(Peer):
    """It has no program for the client's side: who wants in connects to a port of the relay, without TLS, so one encryption less than in the others."""

    name, needs = "rathole", ("rathole",)
    secret = "the middle sees plaintext, and so does the line to it from the client"

    def start_parts(self):
        self.env["OPENSSL_CONF"] = str(self.file("openssl.cnf", f"""
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Ciphersuites = {SUITE}
"""))  # fmt: skip
        identity = self.folder / "identity.p12"
        subprocess.run(["openssl", "pkcs12", "-export", "-out", identity, "-in", self.tls / "server.pem", "-inkey", self.tls / "server.key",
                        "-passout", f"pass:{SECRET}"], check=True)  # fmt: skip
        server = self.file("relay.toml", f"""
[server]
bind_addr = "{self.net.relay}:{self.relay_port}"
default_token = "{SECRET}"
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{identity}"
pkcs12_password = "{SECRET}"
[server.services.bench]
bind_addr = "127.0.0.1:{self.entry}"
""")  # fmt: skip
        client = self.file("target.toml", f"""
[client]
remote_addr = "{self.net.relay}:{self.relay_port}"
default_token = "{SECRET}"
[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{self.tls}/ca.pem"
hostname = "localhost"
[client.services.bench]
local_addr = "127.0.0.1:{self.to}"
""")  # fmt: skip
        self.run("relay", "rathole", "--server", server)
        self.await_port("relay", self.relay_port)
        self.run("target", "rathole", "--client", client)


ALL = [Chisel, ChiselAlone, Frp, Rathole]
