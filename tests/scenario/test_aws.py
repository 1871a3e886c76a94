"""Requests that an AWS SDK signs and sends: botocore, with the credentials of auth-hmac."""

import json
import time

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rawclient import b64

WRONG = "key id or secret is wrong, or the request was changed after it was signed"
USED = "this signature was used before"


def at(seconds):
    """A time so far from now, as signatures have it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + seconds))


class At:
    """A signer whose clock shows what it is told."""

    when = None

    def _modify_request_before_signing(self, request):
        if self.when:
            request.context["timestamp"] = self.when
        return super()._modify_request_before_signing(request)


class HeaderAuth(At, botocore.auth.SigV4Auth):
    pass


class QueryAuth(At, botocore.auth.SigV4QueryAuth):
    pass


class Sdk:
    def __init__(self, stack, secret=None, key_id=None):
        self.stack = stack
        self.credentials = Credentials(key_id or stack.key_id, secret or stack.secret)
        self.http = URLLib3Session(verify=str(stack.folder / "tls" / "ca.pem"))

    def request(self, method, path, body=None, headers=()):
        data = b"" if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if data else {}
        return AWSRequest(method=method, url=self.stack.url + path, data=data, headers={**more, **dict(headers)})

    def sign(self, method, path, body=None, headers=(), when=None, service="tunnel", region="default"):
        request = self.request(method, path, body, headers)
        signer = HeaderAuth(self.credentials, service, region)
        signer.when = when
        signer.add_auth(request)
        return request.prepare()

    def presign(self, method, path, expires=60, when=None):
        request = self.request(method, path)
        signer = QueryAuth(self.credentials, "tunnel", "default", expires=expires)
        signer.when = when
        signer.add_auth(request)
        return request.prepare()

    def send(self, prepared):
        """(status, JSON)"""
        answer = self.http.send(prepared)
        return answer.status_code, json.loads(answer.content) if answer.content else None

    def call(self, *args, **kw):
        return self.send(self.sign(*args, **kw))

    def refused(self, prepared, words):
        status, problem = self.send(prepared)
        assert (status, problem["code"]) == (401, "unauthenticated") and words in problem["detail"], (status, problem)

    def live_sessions(self):
        status, answer = self.call("GET", "/v1/sessions?limit=100")
        assert status == 200, answer
        return {s["id"] for s in answer["sessions"] if s["state"] != "ended"}


def session_request(**more):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"target": "web-1", "kind": "tcp", "allow": ["127.0.0.1:9"], "client_key": b64(der), **more}


POLICY = {
    "Version": "2026-01-01",
    "Statement": [{"Sid": "S", "Effect": "Allow", "Principal": {"User": ["nobody"]}, "Action": ["tunnel:ListTargets"], "Resource": ["*"]}],
}


def test_an_sdk_does_everything(stack):
    sdk = Sdk(stack)
    status, answer = sdk.call("GET", "/v1/whoami")
    assert (status, answer["subject"], answer["provider"]) == (200, "dev", "auth-hmac"), answer
    for query in ("limit=5", "tag.role=a%20b&limit=5", "tag.z=%C3%A9&tag.a=x%2Fy%3D&limit=1"):
        status, answer = sdk.call("GET", f"/v1/targets?{query}")
        assert status == 200, (query, answer)

    status, answer = sdk.call("PUT", "/v1/policies/by-sdk", POLICY)
    assert status == 200, answer
    status, answer = sdk.call("GET", "/v1/policies/by-sdk", headers={"X-Reason": "  two   words "}.items())
    assert status == 200, answer
    status, answer = sdk.call("DELETE", "/v1/policies/by-sdk", headers={"X-Amz-Content-SHA256": botocore.auth.EMPTY_SHA256_HASH}.items())
    assert status == 204, answer

    status, answer = sdk.call("POST", "/v1/sessions", session_request(reason="blå"))
    assert status == 201, answer
    started = answer["session"]["id"]
    assert sdk.live_sessions() == {started}
    assert sdk.call("DELETE", f"/v1/sessions/{started}")[0] == 204
    assert sdk.live_sessions() == set()


def test_a_presigned_url(stack):
    sdk = Sdk(stack)
    url = sdk.presign("GET", "/v1/targets?tag.role=a%20b&limit=5")
    for _ in range(2):  # what reads may be read again
        status, answer = sdk.send(url)
        assert (status, answer["targets"]) == (200, []), answer
    url.url = url.url.replace("limit=5", "limit=6")
    sdk.refused(url, WRONG)
    status, problem = sdk.send(sdk.presign("GET", "/v1/whoami?X-Other=1"))
    assert (status, problem["code"]) == (400, "invalid-request") and "X-Other" in problem["detail"], problem

    started = sdk.call("POST", "/v1/sessions", session_request())[1]["session"]["id"]
    url = sdk.presign("DELETE", f"/v1/sessions/{started}")
    assert sdk.send(url)[0] == 204
    sdk.refused(url, USED)


def test_what_was_not_signed_like_this(stack):
    sdk = Sdk(stack)
    sdk.refused(Sdk(stack, secret="guessed-" * 4).sign("GET", "/v1/whoami"), WRONG)
    sdk.refused(Sdk(stack, key_id="KNOBODY").sign("GET", "/v1/whoami"), WRONG)
    sdk.refused(Sdk(stack, secret="guessed-" * 4).presign("GET", "/v1/whoami"), WRONG)
    sdk.refused(sdk.sign("GET", "/v1/whoami", service="s3"), "signed for the scope")
    sdk.refused(sdk.sign("GET", "/v1/whoami", region="us-east-1"), "signed for the scope")
    sdk.refused(sdk.sign("GET", "/v1/whoami", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}.items()), "the body must be signed")

    def changed(**members):
        prepared = sdk.sign("POST", "/v1/sessions", session_request(), headers={"X-Reason": "why"}.items())
        for name, value in members.items():
            setattr(prepared, name, value)
        return prepared

    sdk.refused(changed(body=json.dumps(session_request()).encode()), WRONG)
    sdk.refused(changed(url=stack.url + "/v1/enrollments"), WRONG)
    sdk.refused(changed(url=stack.url + "/v1/sessions?a=1"), WRONG)
    sdk.refused(changed(method="GET"), WRONG)
    prepared = changed()
    prepared.headers["X-Reason"] = "another"
    sdk.refused(prepared, WRONG)
    prepared = changed()
    prepared.headers["X-Amz-Date"] = at(-1)
    sdk.refused(prepared, WRONG)
    assert sdk.live_sessions() == set()


def test_its_time_is_over_or_yet_to_come(stack):
    sdk = Sdk(stack)
    assert sdk.send(sdk.sign("GET", "/v1/whoami", when=at(-200)))[0] == 200
    assert sdk.send(sdk.sign("GET", "/v1/whoami", when=at(200)))[0] == 200
    sdk.refused(sdk.sign("GET", "/v1/whoami", when=at(-400)), "s ago; allowed: 300 s")
    sdk.refused(sdk.sign("GET", "/v1/whoami", when=at(400)), "s in the future; allowed: 300 s")
    assert sdk.send(sdk.presign("GET", "/v1/whoami", expires=300, when=at(-60)))[0] == 200
    sdk.refused(sdk.presign("GET", "/v1/whoami", expires=30, when=at(-60)), "presigned URL expired")
    sdk.refused(sdk.presign("GET", "/v1/whoami", expires=300, when=at(400)), "s in the future; allowed: 300 s")
    sdk.refused(sdk.presign("GET", "/v1/whoami", expires=3600), "X-Amz-Expires is 3600; this server allows up to 300 s")


def test_a_captured_request_starts_nothing(stack):
    sdk = Sdk(stack)
    now = at(0)
    body = session_request()
    captured = sdk.sign("POST", "/v1/sessions", body, when=now)
    status, answer = sdk.send(captured)
    assert status == 201, answer
    started = {answer["session"]["id"]}
    for _ in range(3):
        sdk.refused(captured, USED)
    assert sdk.live_sessions() == started
    # The same once more within the second is told from a replay by nothing: it is refused, and says what to do.
    sdk.refused(sdk.sign("POST", "/v1/sessions", body, when=now), "wait a second and sign again")
    for again in (sdk.sign("POST", "/v1/sessions", body, when=now, headers={"X-Nonce": "2"}.items()), sdk.sign("POST", "/v1/sessions", body, when=at(1))):
        status, answer = sdk.send(again)
        assert status == 201, answer
        started.add(answer["session"]["id"])
    assert sdk.live_sessions() == started and len(started) == 3


def test_cli_calls_never_have_the_same_signature(stack):
    tokens = [stack.cli("create-enrollment", "web-2").stdout.strip() for _ in range(5)]
    assert len(set(tokens)) == 5


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_policy_is_not_put_back(stack, method):
    """A captured PUT would undo a later one, a captured DELETE would delete what was put since."""
    sdk = Sdk(stack)
    assert sdk.call("PUT", "/v1/policies/p", POLICY, when=at(-9))[0] == 200
    captured = sdk.sign(method, "/v1/policies/p", POLICY if method == "PUT" else None, when=at(-8))
    assert sdk.send(captured)[0] in (200, 204)
    later = json.loads(json.dumps(POLICY).replace("nobody", "somebody"))
    assert sdk.call("PUT", "/v1/policies/p", later, when=at(-7))[0] == 200
    sdk.refused(captured, USED)
    status, answer = sdk.call("GET", "/v1/policies/p")
    assert status == 200 and "somebody" in json.dumps(answer), answer
