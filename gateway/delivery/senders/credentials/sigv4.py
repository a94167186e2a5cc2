"""AWS Signature Version 4, by botocore: the library that AWS keeps for its own tools, and that finds the access keys.

It is the extra `aws`; `gateway check` says so when it is wanted and not there.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ProfileNotFound
from botocore.session import Session

from gateway.config.credentials import SigV4
from gateway.delivery.record import Part
from gateway.delivery.senders.credentials.credential import Headers, NoCredentialError
from gateway.delivery.senders.outcome import Held, Retry
from gateway.delivery.threads import in_thread

# At `debug` it writes what it signs.
logging.getLogger("botocore").setLevel(logging.WARNING)

# Below it, hashing takes less time than handing the work to a thread.
_HASH_INLINE_BYTES = 64 << 10
# A search for access keys that finds none is not made again before, since it asks services that may not be there.
_SEARCH_PAUSE_S = 10.0
# So that botocore does not need the body in one piece; AWS allows it for every service.
_CONTENT_HASH = "X-Amz-Content-SHA256"


class Signature:
    """Signs each request with the access keys of that moment; temporary ones are renewed by botocore."""

    def __init__(self, config: SigV4) -> None:
        self._config = config
        self._keys: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._search_again_at = 0.0
        self._failure: Held | Retry = Held("no_credential")

    async def headers(self, url: str, headers: Headers, body: Sequence[Part]) -> Headers:
        """Raises NoCredentialError."""
        keys = await self._frozen_keys()
        if sum(map(len, body)) <= _HASH_INLINE_BYTES:
            digest = _sha256(body)
        else:
            digest = await in_thread(lambda: _sha256(body))
        request = AWSRequest("POST", url, headers={**headers, _CONTENT_HASH: digest})
        SigV4Auth(keys, self._config.service, self._config.region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name not in headers}

    async def renew(self, _refused: Headers) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is under way."""

    async def _frozen_keys(self) -> Any:
        """Access key, secret and session token that belong together. botocore may ask files and services for them."""
        async with self._one_at_a_time:
            if self._keys is None and time.monotonic() < self._search_again_at:
                raise NoCredentialError(self._failure)
            try:
                if self._keys is None:
                    self._keys = await in_thread(self._find)
                frozen = None if self._keys is None else await in_thread(self._keys.get_frozen_credentials)
            except ProfileNotFound as error:
                self._failure = Held("no_credential", str(error))
            except BotoCoreError as error:
                self._failure = Retry("no_credential", detail=str(error))
            else:
                if frozen is not None and frozen.access_key:
                    return frozen
                self._failure = Held("no_credential", "no access key of AWS is found: no variable, no profile, no role")
            self._search_again_at = time.monotonic() + _SEARCH_PAUSE_S
            raise NoCredentialError(self._failure)

    def _find(self) -> Any:
        return Session(profile=self._config.profile).get_credentials()


def _sha256(body: Sequence[Part]) -> str:
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    return digest.hexdigest()
