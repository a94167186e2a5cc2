"""What Vault or the way to it says, in words that tell what to do. Nothing that was sent is repeated."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.pseudonyms.source import SourceProblem

_MAX_QUOTED = 200
# sys/health, and what data paths answer on such nodes.
_NODE_STATES = {
    429: "it is a standby or limits requests",
    472: "it is a disaster recovery secondary",
    473: "it is a performance standby",
    501: "it is not initialised",
    503: "it is sealed; unseal it",
}
_USE_ANOTHER = "name the active node or a load balancer in vault.address"


class VaultUnreachable(SourceProblem):
    """Vault cannot be asked now; nothing is known about the key."""


class VaultDenied(SourceProblem):
    """403: the token has ended, or its policy does not allow this."""


class VaultMissing(SourceProblem):
    """404: nothing is there, or what was there is deleted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, for messages about it."""

    path: str
    needs: Literal["read", "update"]
    """The capability that a policy must give."""

    @property
    def doing(self) -> str:
        return f"{'reading' if self.needs == 'read' else 'writing to'} {self.path}"

    def denied(self) -> VaultDenied:
        return VaultDenied(f"vault: permission denied {self.doing}: the token's policy needs {self.needs} on it")


def of_status(asked: Asked, status: int, errors: object) -> SourceProblem:
    """The problem that an answer other than success means."""
    if status == 403:
        return asked.denied()
    if status == 404:
        return VaultMissing(f"vault: there is nothing at {asked.path}")
    if status == 429 or status >= 472:
        return VaultUnreachable(f"vault: {_NODE_STATES.get(status, f'it answers {status}')}")
    if 300 <= status < 400:
        return VaultUnreachable(f"vault: it answers {status}, as a standby does; {_USE_ANOTHER}")
    said = _quoted(errors)
    return SourceProblem(f"vault: {asked.doing} is refused ({status}){f': {said}' if said else ''}")


def of_node(status: int) -> VaultUnreachable | None:
    """What sys/health says of a node that cannot answer; None if it could."""
    state = _NODE_STATES.get(status)
    if state is None:
        return None
    hint = f"; {_USE_ANOTHER}" if status in (429, 472, 473) else ""
    return VaultUnreachable(f"vault: {state}{hint}")


def of_network(address: str, error: Exception, timeout_s: float) -> VaultUnreachable:
    """Why no answer came."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return VaultUnreachable(f"vault: the certificate of {address} is not trusted; name its CA in vault.ca_file")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return VaultUnreachable(f"vault: TLS with {address} failed; is it https? does it want vault.cert_file?")
    if any("timeout" in type(cause).__name__.lower() for cause in causes):
        return VaultUnreachable(f"vault: no answer from {address} in {timeout_s:g} s")
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            return VaultUnreachable(f"vault: cannot reach {address}: {cause.strerror.lower()}")
    if any("CA certificate bundle" in str(cause) for cause in causes):
        return VaultUnreachable("vault: vault.ca_file cannot be read")
    if any("certificate file" in str(cause) or "key file" in str(cause) for cause in causes):
        return VaultUnreachable("vault: vault.cert_file or vault.key_file cannot be read")
    return VaultUnreachable(f"vault: cannot reach {address}: the connection broke")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and all that it wraps; urllib3 keeps them in `args` and `reason`."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _quoted(errors: object) -> str:
    """Vault's own words, on one line and not too many."""
    if not isinstance(errors, list):
        return ""
    text = " ".join(" ".join(str(error).split()) for error in errors)
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…"
