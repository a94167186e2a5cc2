"""OpenID Connect: tokens that an issuer signed, verified with its published keys."""

import math
import re
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from gateway.config.models import Oidc
from gateway.identity.claims import signals_of, subject_of, tenant_of
from gateway.identity.issuer_keys import Clock, IssuerKeys, open_session
from gateway.identity.signed_token import ALGORITHMS, SignedToken
from gateway.identity.verdict import RefusalReason, Refused, Verdict

# The end of the year 9999: later ones do not fit into everybody's date.
_LATEST = 253_402_300_799.0


class OidcProvider:
    """One issuer: which of its tokens are believed, and what they mean."""

    def __init__(self, settings: Oidc, keys: IssuerKeys, *, clock: Clock = time.time) -> None:
        self.keys = keys
        self._settings = settings
        self._clock = clock
        # Whatever the settings say: `none` and HMAC are not among ours.
        self._algorithms = ALGORITHMS.intersection(settings.algorithms)
        self._tenant_pattern = re.compile(settings.tenant_pattern) if settings.tenant_pattern else None

    async def verify(self, token: SignedToken) -> Verdict:
        """What a token of this issuer proves. Raises Refused and Unavailable.

        The cheap questions come first, so that a token which could not count anyway makes nobody fetch keys.
        """
        claims = token.claims
        self._check_algorithm(token.algorithm)
        self._check_audience(claims.get("aud"))
        expires_at = self._check_times(claims)
        key = await self.keys.find(token.key_id, token.algorithm, _time(claims, "iat"))
        token.verify(key)
        return Verdict(
            tenant=tenant_of(claims, self._settings.tenant_claim, self._tenant_pattern),
            signals=signals_of(claims, self._settings.scopes),
            subject=subject_of(claims),
            expires_at=expires_at,
        )

    def _check_algorithm(self, algorithm: str) -> None:
        if algorithm not in self._algorithms:
            raise Refused(RefusalReason.ALGORITHM_NOT_ALLOWED)

    def _check_audience(self, audience: Any) -> None:
        audiences = audience if isinstance(audience, list) else [audience]
        if self._settings.audience not in audiences:
            raise Refused(RefusalReason.WRONG_AUDIENCE)

    def _check_times(self, claims: dict[str, Any]) -> float:
        """Until when the token counts, leeway included."""
        now, leeway = self._clock(), self._settings.leeway
        expires_at, not_before = _time(claims, "exp"), _time(claims, "nbf")
        if expires_at is None:
            raise Refused(RefusalReason.MALFORMED)
        if now >= expires_at + leeway:
            raise Refused(RefusalReason.EXPIRED)
        if not_before is not None and now < not_before - leeway:
            raise Refused(RefusalReason.NOT_YET_VALID)
        return min(expires_at + leeway, _LATEST)


def _time(claims: dict[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 §2) in Unix seconds, if it is there. Raises Refused (malformed)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(RefusalReason.MALFORMED)
    return float(value)


class OidcVerifier:
    """Every configured issuer. A token's own `iss` says which of them is asked."""

    def __init__(self, *, clock: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._providers: dict[str, OidcProvider] = {}
        self._session: aiohttp.ClientSession | None = None

    async def reconfigure(self, issuers: Sequence[Oidc]) -> None:
        """Start with these issuers, or change to them; keys that are known already stay known. Does not wait for any.

        Keys come in the background. `issuers` have passed `check`: none stands there twice.
        """
        self._session = self._session or open_session()
        before = self._providers
        self._providers = {settings.issuer: self._provider(settings, before, self._session) for settings in issuers}
        kept = {id(provider.keys) for provider in self._providers.values()}
        for provider in before.values():
            if id(provider.keys) not in kept:
                await provider.keys.close()

    async def verify(self, token: str) -> Verdict:
        """Whose `token` is. Raises Refused, and Unavailable if that cannot be told now; nothing else."""
        signed = SignedToken(token)
        issuer = signed.claims.get("iss")
        provider = self._providers.get(issuer) if isinstance(issuer, str) else None
        if provider is None:
            raise Refused(RefusalReason.UNKNOWN_ISSUER)
        return await provider.verify(signed)

    async def close(self) -> None:
        """Stop fetching. Verifications under way end as Unavailable."""
        for provider in self._providers.values():
            await provider.keys.close()
        if self._session is not None:
            await self._session.close()

    def _provider(
        self, settings: Oidc, before: dict[str, OidcProvider], session: aiohttp.ClientSession
    ) -> OidcProvider:
        old = before.get(settings.issuer)
        if old is not None and old.keys.serve(settings):
            return OidcProvider(settings, old.keys, clock=self._clock)
        keys = IssuerKeys(settings, session, clock=self._clock, monotonic=self._monotonic)
        keys.start()
        return OidcProvider(settings, keys, clock=self._clock)
