"""AWS Signature Version 4: what the backend gets must verify, by a second reading of AWS' documentation."""

import hashlib
import hmac
import os
from typing import Any

import cramjam
import pytest

from gateway.delivery.senders.outcome import Delivered, Held, Outcome
from gateway.types import Lane, Signal
from tests.support.scripted import Backend, scripted
from tests.support.sender import opened

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def no_other_access_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def send(backend: Backend, parts: list[bytes], **settings: Any) -> Outcome:
    sigv4 = {"region": "eu-west-1", **settings}
    url = backend.url + "?a=1&B=%2F"
    config = {"type": "remote_write", "url": url, "sigv4": sigv4, "tenant_header": "X-Scope-OrgID"}
    async with opened(config) as sender:
        return await sender.send(Lane("acme", "backend", Signal.METRICS), parts)


def signature(headers: dict[str, str], body: bytes, path: str, query: str, service: str) -> str:
    """As AWS' documentation has it, from what came over the wire."""
    scheme, _, rest = headers["authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    fields = dict(field.strip().split("=", 1) for field in rest.split(","))
    key_id, date, region, named_service, end = fields["Credential"].split("/")
    assert (key_id, region, named_service, end) == (ACCESS_KEY, "eu-west-1", service, "aws4_request")
    names = fields["SignedHeaders"].split(";")
    assert names == sorted(names)
    assert {"host", "x-amz-date", "x-amz-content-sha256", "x-scope-orgid", "content-type"} <= set(names)
    digest = hashlib.sha256(body).hexdigest()
    assert headers["x-amz-content-sha256"] == digest
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
    request = "\n".join(["POST", path, query, *lines, "", ";".join(names), digest])
    stamp = headers["x-amz-date"]
    assert stamp.startswith(date)
    scope = f"{date}/{region}/{named_service}/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET_KEY).encode()
    for step in (date, region, named_service, "aws4_request", to_sign):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    assert hmac.compare_digest(key.hex(), fields["Signature"])
    return key.hex()


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "hashed in a thread"])
@pytest.mark.parametrize("token", [None, "session-token"])
async def test_a_request_bears_a_signature_that_verifies(
    monkeypatch: pytest.MonkeyPatch, size: int, token: str | None
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    parts = [os.urandom(size), b"end"]
    async with scripted() as backend:
        assert await send(backend, parts) == Delivered()
        (headers,), (body,) = backend.headers, backend.bodies
    assert bytes(cramjam.snappy.decompress_raw(body)) == b"".join(parts)
    assert signature(headers, body, "/push", "B=%2F&a=1", "aps")
    assert headers.get("x-amz-security-token") == token
    assert ("x-amz-security-token" in headers["authorization"]) is (token is not None)


async def test_access_keys_come_from_the_profile_that_is_named(tmp_path: Any) -> None:
    keys = f"[of-the-gateway]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (tmp_path / "credentials").write_text(keys)
    async with scripted() as backend:
        assert await send(backend, [b"x"], profile="of-the-gateway", service="xray") == Delivered()
        assert signature(backend.headers[0], backend.bodies[0], "/push", "B=%2F&a=1", "xray")


@pytest.mark.parametrize("profile", [None, "no-such-profile"])
async def test_without_access_keys_nothing_is_sent(profile: str | None) -> None:
    async with scripted() as backend:
        outcome = await send(backend, [b"x"], profile=profile)
        assert outcome == Held("no_credential")
        assert ("no-such-profile" if profile else "no access key of AWS is found") in outcome.detail
        assert not backend.bodies


async def test_a_secret_access_key_shows_nowhere(monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    caplog.set_level("DEBUG")
    async with scripted((403, {}, b"expired: session-token")) as backend:
        outcome = await send(backend, [b"x"])
    assert (outcome, outcome.detail) == (Held("http_403"), "expired: ***")
    assert not any(secret in caplog.text + "".join(capfd.readouterr()) for secret in (SECRET_KEY, "session-token"))
