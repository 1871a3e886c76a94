"""A server that follows an issuer's keys."""

import json
import re
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness import Stack, make_ca, trusted_by_the_system, wait_for, write_secret
from oidc_issuer import Issuer, jwk


@pytest.fixture
def issuers(folder):
    both = [Issuer(folder / "issuer-1"), Issuer(folder / "issuer-2")]
    yield both
    for i in both:
        i.close()


class Follower(Stack):
    """A server with an auth-jwt section for each issuer."""

    def __init__(self, folder, issuers, more=""):
        super().__init__(folder)
        self.issuers, self.more = issuers, [more] * len(issuers)
        self.write_auth()

    def write_auth(self):
        self.auth = ", ".join(
            f'{{ plugin = "auth-jwt"; issuer = "{i.url}"; audience = "cli"; ca_file = "{i.ca}"; jwks_url = "{i.url}/jwks"; {more} }}'
            for i, more in zip(self.issuers, self.more)
        )
        self.auth += f', {{ plugin = "auth-hmac"; credentials = "{self.folder}/hmac-credentials"; }}'

    def start(self):
        self.write_auth()
        self.start_server()
        return self

    def ask(self, token):
        """(exit code, subject or what was said)"""
        self.write_profile("token", 'auth = "jwt";')
        r = self.cli("whoami", "--profile", "token", "--output", "json", check=False, TUNNEL_TOKEN=token)
        return r.returncode, json.loads(r.stdout) if r.returncode == 0 else r.stderr

    def who(self, token):
        code, said = self.ask(token)
        assert code == 0, said
        return said["subject"]


@pytest.fixture
def one(folder, issuers):
    s = Follower(folder, issuers[:1])
    s.issuer = issuers[0]
    try:
        yield s
    finally:
        s.close()


def fetches(issuer):
    return issuer.asked.count("/jwks")


def test_keys_are_fetched_and_a_new_one_is_found_at_once(one):
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    before = fetches(one.issuer)
    one.issuer.new_key()
    assert one.who(one.issuer.mint(sub="ann")) == "ann"
    assert fetches(one.issuer) == before + 1
    assert one.who(one.issuer.mint(sub="bob")) == "bob"
    assert fetches(one.issuer) == before + 1


def test_invented_kids_do_not_make_it_ask_without_end(one):
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    published, before, real = one.issuer.keys, fetches(one.issuer), one.issuer.kid
    began = time.monotonic()
    for n in range(12):
        one.issuer.keys, one.issuer.kid = {**published, f"made-up-{n}": one.issuer.keys[real]}, f"made-up-{n}"
        token = one.issuer.mint()
        one.issuer.keys, one.issuer.kid = published, real
        code, said = one.ask(token)
        assert code == 231 and "no key with kid" in said, said
    assert fetches(one.issuer) - before <= 5 + (time.monotonic() - began) / 15
    assert one.who(one.issuer.mint()) == "dev"


def test_a_key_that_is_withdrawn_is_gone_with_the_next_fetch(one):
    one.more = ['refresh = "1s";']
    one.start()
    old = one.issuer.mint()
    assert one.who(old) == "dev"
    one.issuer.new_key(drop=True)
    wait_for(lambda: one.ask(old)[0] == 231, "the old key to be refused", every=0.2)


def test_a_kid_that_is_published_twice_costs_one_key(one):
    one.more = ['refresh = "1s";']
    one.start()
    old, twice = one.issuer.mint(), one.issuer.kid
    assert one.who(old) == "dev"
    one.issuer.new_key(drop=True)
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    one.issuer.more_keys = [jwk(point) | {"kid": one.issuer.kid}]
    wait_for(lambda: one.ask(old)[0] == 231, f"the withdrawn key {twice} to be refused", every=0.2)
    assert one.who(one.issuer.mint()) == "dev"
    assert re.search(r"keys\[1\] [^:]*is passed over: it has a kid that another key has already", one.server.text())


def test_a_ca_file_stands_instead_of_the_systems_cas(one, folder):
    if not (prefix := trusted_by_the_system(one.issuer.ca, folder / "system")):
        pytest.skip("needs root and a mount namespace")
    one.place = lambda role, args: [*prefix, *args] if role == "server" else args
    make_ca(folder / "other-tls", name="another CA")  # found by name: one of the same would hide it
    one.issuer.ca = folder / "other-tls/ca.pem"
    one.start()
    one.server.wait_log("the issuer's keys cannot be fetched")
    assert one.ask(one.issuer.mint())[0] != 0 and not fetches(one.issuer)


def test_the_last_keys_stay_while_the_issuer_is_away(one):
    one.more = ['refresh = "1s";']
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    one.issuer.away = True
    one.server.wait_log("the issuer's keys cannot be fetched, those from before stay")
    assert one.who(one.issuer.mint(sub="ann")) == "ann"
    one.issuer.new_key()
    code, said = one.ask(one.issuer.mint())
    assert code == 235 and "the issuer's keys are not to be had" in said, "no is not known"
    one.issuer.away = False
    one.server.wait_log("the issuer's keys can be fetched again")
    wait_for(lambda: one.ask(one.issuer.mint())[0] == 0, "the new key", every=0.2)


@pytest.mark.parametrize("answer", [b"{", b'{"keys": []}', b'{"keys": 7}', b" ", b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'])
def test_what_is_no_key_set_changes_nothing(one, answer):
    answer = answer if answer.strip() else answer * 300000
    one.more = ['refresh = "1s";']
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    one.issuer.raw["/jwks"] = answer
    one.server.wait_log("the issuer's keys cannot be fetched, those from before stay")
    assert one.who(one.issuer.mint(sub="ann")) == "ann"


def test_a_faulty_key_is_passed_over_and_the_others_are_used(one):
    one.issuer.more_keys = [7, {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "kid": ""}]
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    for n, why in enumerate(["is not an object", "lacks x, y, or they are wrong", "holds a private key or secret", "has a kid that is not a text"], 1):
        assert re.search(rf"keys\[{n}\] [^:]*is passed over: it {why}", one.server.text())


def test_a_new_reason_of_an_outage_is_said(one):
    one.more = ['refresh = "1s";']
    one.issuer.away = True
    one.start()
    one.server.wait_log("Empty reply from server")
    one.issuer.raw["/jwks"], one.issuer.away = b"{", False
    one.server.wait_log("not JSON")
    assert one.server.text().count("Empty reply") == 1


def test_without_keys_nobody_is_let_in_and_others_are(one):
    """The server starts, whoever else can sign in does; and when the issuer is there it takes its tokens."""
    one.issuer.away = True
    one.start()
    code, said = one.ask(one.issuer.mint())
    assert code == 235 and "the issuer's keys are not to be had" in said
    assert one.json("whoami")["provider"] == "auth-hmac"
    one.issuer.away = False
    wait_for(lambda: one.ask(one.issuer.mint())[0] == 0, "the keys", every=0.2)


def test_a_restart_while_the_issuer_is_away(one):
    cache = one.folder / "jwks.cache"
    one.more = [f'jwks_cache = "{cache}";']
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    assert cache.stat().st_mode & 0o7777 == 0o600
    one.server.stop()
    one.issuer.away = True
    one.start()
    assert one.who(one.issuer.mint(sub="ann")) == "ann"
    one.server.stop()
    cache.chmod(0o644)
    one.start()
    one.server.wait_log("others could read it")
    assert one.ask(one.issuer.mint())[0] == 235, "whoever writes that file decides who gets in"
    one.server.stop()
    cache.chmod(0o600)
    write_secret(cache, cache.read_text().replace(one.issuer.url, "https://other.example.com"))
    one.start()
    assert one.ask(one.issuer.mint())[0] == 235, "another issuer's keys"


def test_an_issuer_that_hangs_holds_up_nobody_else(one):
    one.more = ['refresh = "1s";']
    one.start()
    assert one.who(one.issuer.mint()) == "dev"
    one.issuer.hang.set()
    n = len(one.issuer.asked)
    wait_for(lambda: len(one.issuer.asked) > n, "a fetch that hangs")
    assert one.who(one.issuer.mint(sub="ann")) == "ann"
    assert one.json("whoami")["subject"] == "dev"
    assert one.server.stop() == 0, "a fetch under way ends with the server"


def test_two_issuers(folder, issuers):
    """Each token goes to its own section, whichever is first; the same name there is another person here."""
    s = Follower(folder, issuers)
    s.more = ["", 'provider = "partner"; prefix = "partner:";']
    try:
        s.start()
        first, second = issuers
        first.groups = second.groups = ["admins"]
        code, mine = s.ask(first.mint())
        assert (mine["subject"], mine["groups"], mine["provider"]) == ("dev", ["admins"], "auth-jwt")
        code, theirs = s.ask(second.mint())
        assert (theirs["subject"], theirs["groups"], theirs["provider"]) == ("partner:dev", ["partner:admins"], "partner")
        assert s.cli("list-targets", "--profile", "token", TUNNEL_TOKEN=first.mint()).returncode == 0
        r = s.cli("audit", "--profile", "token", check=False, TUNNEL_TOKEN=second.mint())
        assert r.returncode == 232, "what policies give dev they give nobody else"
        code, said = s.ask(first.mint(iss="https://third.example.com"))
        assert code == 231 and 'auth-jwt: issuer is "https://third.example.com"' in said and "no provider recognises" in said
        # one that says it is the other's is judged by the other's keys
        code, said = s.ask(first.mint(iss=second.url))
        assert code == 231 and "partner: no key with kid" in said, said
        assert s.json("whoami")["provider"] == "auth-hmac"
    finally:
        s.close()


def test_discovery_that_is_somebody_elses(one):
    one.issuer.metadata = {"issuer": "https://evil.example.com"}
    one.write_auth()
    one.auth = one.auth.replace(f'jwks_url = "{one.issuer.url}/jwks";', "follow_issuer = true;")
    one.start_server()
    code, said = one.ask(one.issuer.mint())
    assert code == 235 and "it is that of the issuer" in said, said
    assert fetches(one.issuer) == 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ('jwks_url = "http://127.0.0.1:1/jwks";', "begins with https://"),
        ('jwks_url = "https://127.0.0.1:1/jwks"; follow_issuer = true;', "give one of them"),
        ('ca_file = "/x";', "no key"),
        ('key = "ES256:/x"; ca_file = "/x";', "ca_file is for jwks_url"),
        ("", "no key"),
    ],
)
def test_settings_that_do_not_go_together(one, settings, words):
    one.auth = f'{{ plugin = "auth-jwt"; issuer = "{one.issuer.url}"; audience = "cli"; {settings} }}'
    with pytest.raises(AssertionError):
        one.start_server()
    assert words in one.server.text()
