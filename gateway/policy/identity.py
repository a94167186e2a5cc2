"""Identity providers and API keys, as the engine's policy table has them (`engine/src/policy.rs`)."""

from typing import Any

from gateway.config.identity import ApiKey, IdentityProvider, Tokens


def compile_provider(provider: IdentityProvider) -> dict[str, Any]:
    if provider.api_key is not None:
        return {"type": "api_key", "header": provider.api_key.header.lower(), "scheme": provider.api_key.scheme}
    if provider.oidc is not None:
        # Which issuer's token it is, is for the verifier to say.
        return {"type": "token", "header": provider.oidc.header.lower(), "scheme": provider.oidc.scheme}
    if provider.mtls is not None:
        return {"type": "mtls", "tenant_from": provider.mtls.tenant_from, "pattern": provider.mtls.pattern}
    if provider.trusted_header is not None:
        trusted = provider.trusted_header
        return {
            "type": "trusted_header",
            "header": trusted.header.lower(),
            "networks": list(trusted.networks),
            "certificates": list(trusted.client_certificates),
        }
    assert provider.anonymous is not None, "the model requires exactly one"  # noqa: S101
    return {"type": "anonymous", "tenant": provider.anonymous.tenant}


def compile_api_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "sha256": key.sha256.lower(),
        "signals": None if key.signals is None else [signal.value for signal in key.signals],
        "expires_at": None if key.expires is None else key.expires.timestamp(),
    }


def compile_tokens(tokens: Tokens) -> dict[str, Any]:
    def rate(per_second: float, burst: float) -> dict[str, float]:
        return {"per_second": per_second, "burst": max(1.0, burst)}

    per_second, per_address = tokens.verifications_per_second, tokens.verifications_per_address
    return {
        "max_believed": tokens.max_believed,
        "max_refused": tokens.max_refused,
        "questions": rate(per_second, 2 * per_second),
        "questions_per_address": rate(per_address, 4 * per_address),
    }
