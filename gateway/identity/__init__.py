"""Who is sending: API keys, and tokens of OpenID Connect issuers."""
