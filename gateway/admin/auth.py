"""Who may look: bearer tokens, basic users and client certificates of the admin port."""

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.config.models import Admin

# Failed attempts that one address may make in a window before it is not listened to.
_MAX_FAILURES = 20
_WINDOW_S = 60.0
# Addresses remembered; the oldest is forgotten first.
_MAX_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who proved who they are. `tenant` None: an operator, who sees everything."""

    name: str
    tenant: str | None


@dataclass(frozen=True, slots=True)
class _Credential:
    digest: bytes = field(repr=False)
    viewer: Viewer


def _digest(secret: str) -> bytes:
    # A header may hold any bytes; those that are not UTF-8 come as surrogates.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class Gatekeeper:
    """Compares in constant time: every known credential is looked at, by its hash, whatever matched before."""

    def __init__(self, admin: Admin) -> None:
        self._bearer = [
            _Credential(_digest(token.token.get_secret_value()), _viewer(token.name, token.tenant))
            for token in admin.tokens
            if token.token.get_secret_value()
        ]
        self._basic = [
            _Credential(_digest(f"{user.name}:{user.password.get_secret_value()}"), _viewer(user.name, user.tenant))
            for user in admin.basic
            if user.password.get_secret_value()
        ]
        self._certificates = admin.tls is not None and admin.tls.client_ca_file is not None

    @property
    def closed(self) -> bool:
        """Nothing is configured: nobody can come in."""
        return not (self._bearer or self._basic or self._certificates)

    def identify(self, authorization: str | None, certificate_subject: str | None) -> Viewer | None:
        """The viewer behind an Authorization header or a verified client certificate."""
        if certificate_subject is not None and self._certificates:
            return Viewer(certificate_subject, None)
        scheme, _, value = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                return _find(self._bearer, value.strip())
            case "basic":
                try:
                    decoded = base64.b64decode(value, validate=True).decode()
                except ValueError:
                    return None
                return _find(self._basic, decoded)
        return None


def _viewer(name: str, tenant: str) -> Viewer:
    return Viewer(name, None if tenant == "*" else tenant)


def _find(credentials: list[_Credential], secret: str) -> Viewer | None:
    digest, found = _digest(secret), None
    for credential in credentials:
        if hmac.compare_digest(credential.digest, digest):
            found = credential.viewer
    return found


class FailureLimiter:
    """Slows down guessing: after too many failures an address is refused for the rest of the window."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, address: str) -> bool:
        started, count = self._failures.get(address, (0.0, 0))
        return count >= _MAX_FAILURES and time.monotonic() - started < _WINDOW_S

    def failed(self, address: str) -> None:
        started, count = self._failures.pop(address, (time.monotonic(), 0))
        if time.monotonic() - started >= _WINDOW_S:
            started, count = time.monotonic(), 0
        self._failures[address] = (started, count + 1)
        while len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
