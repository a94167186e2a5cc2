"""Encryption of what waits on disk: where the key comes from that wraps the tenants' data keys."""

import base64
import binascii
import re
from pathlib import Path
from typing import Self

from pydantic import SecretStr, model_validator

from gateway.config.base import Model

KEY_BYTES = 32
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_MAX_FILE_BYTES = 4096


def parse_wrapping_key(written: bytes) -> bytes:
    """The 32 bytes that somebody wrote as hex or base64. Raises ValueError, which shows nothing of it."""
    text = written.strip()
    if _HEX.fullmatch(text):
        return binascii.unhexlify(text)
    try:
        padded = text + b"=" * (-len(text) % 4)
        key = base64.b64decode(padded, altchars=b"-_" if re.search(rb"[-_]", text) else None, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key must be {KEY_BYTES} bytes as hex or base64; `openssl rand -base64 32` makes one")
    return key


def read_wrapping_key(file: Path) -> bytes:
    """The key in a file. Raises ValueError, which says what to do."""
    try:
        with file.open("rb") as opened:
            return parse_wrapping_key(opened.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}; `openssl rand -base64 32` makes a key") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


class QueueEncryption(Model):
    """Encryption of the queue's records, under a data key of each tenant (docs/queue.md)."""

    key: SecretStr | None = None
    """Wraps the data keys: 32 bytes as hex or base64; best as `${file:…}` or `${env:…}`."""
    key_file: Path | None = None
    """The same in a file, which is read at the start."""
    previous_key_files: tuple[Path, ...] = ()
    """Keys that came before. What they wrapped is wrapped again at the start; then they can go."""
    write: bool = True
    """Whether new records are encrypted. With false, those that are encrypted are still read."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.key is None) == (self.key_file is None):
            raise ValueError("name key or key_file, one of them")
        if self.key is not None:
            parse_wrapping_key(self.key.get_secret_value().encode())
        return self

    def read_keys(self) -> tuple[bytes, list[bytes]]:
        """The key, and those that came before. Raises ValueError, which says what to do."""
        if self.key is not None:
            key = parse_wrapping_key(self.key.get_secret_value().encode())
        else:
            assert self.key_file is not None, "one of them is named"  # noqa: S101
            key = read_wrapping_key(self.key_file)
        return key, [read_wrapping_key(file) for file in self.previous_key_files]
