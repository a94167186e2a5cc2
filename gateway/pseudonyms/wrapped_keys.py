"""The file of data keys that Vault's transit engine has wrapped; it opens nothing without Vault."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from gateway.config.base import Model
from gateway.config.names import TenantId
from gateway.pseudonyms.source import SourceProblem

_FORMAT = 1


class WrappedKey(Model):
    """One data key."""

    version: Annotated[int, Field(ge=1)]
    made_under: Annotated[int, Field(ge=1)]
    """The version of the transit key when it was made; a later one makes a new data key."""
    ciphertext: Annotated[str, Field(pattern=r"^[a-z]+:v[0-9]+:\S+$")]

    @property
    def wrapped_under(self) -> int:
        """The version of the transit key that unwraps it: `vault:v3:…`."""
        return int(self.ciphertext.split(":")[1][1:])


class WrappedKeys(Model):
    """What the file holds."""

    format: Annotated[int, Field(ge=_FORMAT, le=_FORMAT)] = _FORMAT
    transit_key: str
    """Mount and name of the key that wraps."""
    tenants: dict[TenantId, list[WrappedKey]] = Field(default_factory=dict)
    """Each tenant's keys, oldest first."""


def load(file: Path, transit_key: str) -> WrappedKeys:
    """The file's content; empty if there is no file yet. Raises SourceProblem."""
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return WrappedKeys(transit_key=transit_key)
    except OSError as error:
        raise SourceProblem(f"cannot read {file}: {error.strerror}") from None
    try:
        wrapped = WrappedKeys.model_validate_json(text)
    except ValidationError:
        raise SourceProblem(f"{file} is no file of wrapped keys, or damaged; put a copy of it back") from None
    if wrapped.transit_key != transit_key:
        raise SourceProblem(f"{file} holds keys of {wrapped.transit_key}, not {transit_key}; name another file")
    return wrapped


def save(file: Path, wrapped: WrappedKeys) -> None:
    """Replace the file whole, readable by its owner only. Raises SourceProblem."""
    new = file.with_name(f"{file.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as writing:
            os.fchmod(descriptor, 0o600)
            writing.write(wrapped.model_dump_json(indent=1).encode() + b"\n")
            writing.flush()
            os.fsync(descriptor)
        os.replace(new, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SourceProblem(f"cannot write {file}: {error.strerror}; no new key is used before it is kept") from None


@contextmanager
def alone_with(file: Path) -> Iterator[None]:
    """The only writer among the gateways that share the file. Raises SourceProblem if another one writes just now."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise SourceProblem(f"cannot write beside {file}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SourceProblem(f"another gateway writes {file} just now") from None
        yield
    finally:
        os.close(descriptor)
