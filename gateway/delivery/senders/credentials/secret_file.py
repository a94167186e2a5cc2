"""Secrets that stand in files, which others change under us."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.delivery.record import Part
from gateway.delivery.senders.credentials.credential import Headers, NoCredentialError, no_credential
from gateway.delivery.senders.watched import Watched

_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class _Unusable:
    why: str


class SecretFile:
    """One line of text in a file that may come, change and go."""

    def __init__(self, file: Path, *, ascii_only: bool = False) -> None:
        # Trouble is a value here, so that nothing is raised: a file that is not there yet is no reason not to start.
        self._watched = Watched([file], lambda: _read(file, ascii_only), lambda _error: None)

    async def get(self, *, look: bool = False) -> str:
        """Raises NoCredentialError while the file holds none. With `look` it is looked at now."""
        secret = await self._watched.get(look=look)
        if isinstance(secret, _Unusable):
            raise no_credential(secret.why)
        return secret


class FileCredential:
    """Headers of a secret in a file."""

    def __init__(self, file: SecretFile, headers_of: Callable[[str], Headers]) -> None:
        self._file = file
        self._headers_of = headers_of

    async def headers(self, _url: str, _headers: Headers, _body: Sequence[Part]) -> Headers:
        return self._headers_of(await self._file.get())

    async def renew(self, refused: Headers) -> bool:
        """The file may have changed since the last look, and the old secret have ended with it."""
        try:
            return self._headers_of(await self._file.get(look=True)) != refused
        except NoCredentialError:
            return False

    async def close(self) -> None:
        """Nothing is under way."""


def _read(file: Path, ascii_only: bool) -> str | _Unusable:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        return _Unusable(f"cannot read {file}: {error.strerror}")
    secret = content.decode("utf-8", "replace").strip()
    if not secret:
        return _Unusable(f"{file} is empty")
    if len(content) > _MAX_BYTES or not secret.isprintable() or (ascii_only and not secret.isascii()):
        return _Unusable(f"{file} is not one line of printable {'ASCII' if ascii_only else 'text'}")
    return secret
