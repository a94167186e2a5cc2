"""Who may look: bearer tokens, basic users and client certificates of the admin port."""

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.config.models import Admin

# Failed tries that one address may make in a window before its tries wait for their turn.
_MAX_FAILURES = 20
_WINDOW_S = 60.0
# An address's turn, and how long a try waits for one at most: so many a second, so many at a time.
_TURN_S = 0.2
_MAX_WAIT_S = 3.0
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


@dataclass(slots=True)
class _Record:
    """What is remembered of an address that failed."""

    started: float
    failures: int = 0
    next_turn: float = 0.0


class FailureLimiter:
    """Slows down guessing, and keeps nobody out who does not guess.

    An address that failed too often in a window has its tries looked at one after the other, some a second, good or
    bad: a good credential waits for its turn, however many bad ones came before it. A limiter that did not look at all
    would let one wrong scraper, or somebody behind the same proxy, keep every operator out; one that let good ones pass
    at once would slow down nobody, since a guess that passes is all that is wanted.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def limited(self, address: str) -> bool:
        """Whether tries of this address have to wait for their turn."""
        record = self._records.get(address)
        return record is not None and record.failures >= _MAX_FAILURES and time.monotonic() - record.started < _WINDOW_S

    def turn(self, address: str) -> float | None:
        """Takes the next turn of an address. How many seconds to wait for it; None: too many are waiting already."""
        record, now = self._records.get(address), time.monotonic()
        if record is None:
            return 0.0
        wait_s = max(0.0, record.next_turn - now)
        if wait_s > _MAX_WAIT_S:
            return None
        record.next_turn = now + wait_s + _TURN_S
        return wait_s

    def failed(self, address: str) -> None:
        now = time.monotonic()
        record = self._records.pop(address, None) or _Record(now)
        if now - record.started >= _WINDOW_S:
            record.started, record.failures = now, 0
        record.failures += 1
        self._records[address] = record
        while len(self._records) > _MAX_ADDRESSES:
            self._records.popitem(last=False)
