"""How senders identify themselves to backends; `open_credential` is the way in."""

from functools import partial

import aiohttp

from gateway.config.destinations import NetworkDestination
from gateway.delivery.senders.credentials.credential import Credential, Fixed, Headers, NoCredentialError, basic, bearer
from gateway.delivery.senders.credentials.oauth2 import ClientCredentials
from gateway.delivery.senders.credentials.secret_file import FileCredential, SecretFile

__all__ = ["Credential", "Headers", "NoCredentialError", "open_credential"]


def open_credential(config: NetworkDestination, session: aiohttp.ClientSession) -> Credential:
    """The one that `config` names. Raises OSError or ValueError if it cannot be had at all."""
    if config.bearer_token is not None:
        return Fixed(bearer(config.bearer_token.get_secret_value()))
    if config.bearer_token_file is not None:
        return FileCredential(SecretFile(config.bearer_token_file, ascii_only=True), bearer)
    if config.basic_auth is not None:
        user = config.basic_auth
        if user.password_file is not None:
            return FileCredential(SecretFile(user.password_file), partial(basic, user.username))
        return Fixed(basic(user.username, user.password.get_secret_value() if user.password is not None else ""))
    if config.oauth2 is not None:
        return ClientCredentials(config.oauth2, session)
    if config.sigv4 is not None:
        # An extra that few install, whose import takes a while.
        from gateway.delivery.senders.credentials.sigv4 import Signature

        return Signature(config.sigv4)
    return Fixed({})
