"""Encryption at rest: each tenant's records under a data key of its own, which lies wrapped in a file of its own.

Deleting that file deletes the tenant's backlog, wherever copies of it are. AES-256-GCM throughout (NIST SP 800-38D),
with random nonces of 96 bits: good for 2^32 records a tenant.
"""

import ctypes
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
_ID_BYTES = 8
_MAX_FILE_BYTES = 4096
_VERSION = 1
_SUFFIX = ".key"
_FEW_FILES = 8
_libc = ctypes.CDLL(None, use_errno=True)
# Since Linux 5.8 it says whether something could not be written: syncfs(2).
_SYNCFS_TELLS = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 8)


class SealingError(Exception):
    """The data keys cannot be read or written; the message says what to do."""


class DataKey:
    """What one tenant's records are encrypted with."""

    def __init__(self, key_id: bytes, key: bytes) -> None:
        self.id = key_id
        self._cipher = AESGCM(key)
        self._algorithm = AES(key)

    def new_nonce(self) -> bytes:
        return secrets.token_bytes(NONCE_BYTES)

    def seal_into(self, room: memoryview, nonce: bytes, parts: Sequence[memoryview], header: bytes) -> None:
        """Encrypt, bound to the header, which stays readable: the parts in one, then the tag."""
        encryptor = Cipher(self._algorithm, GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(header)
        place = 0
        for part in parts:
            place += encryptor.update_into(part, room[place:])
        encryptor.finalize()
        room[place:] = encryptor.tag

    def open(self, nonce: bytes, sealed: bytes, header: bytes) -> bytes | None:
        """What was sealed; None if that was something else, or under another key or header."""
        try:
            return self._cipher.decrypt(nonce, sealed, header)
        except InvalidTag:
            return None


class DataKeys:
    """The data keys in a folder, wrapped by the configured key."""

    def __init__(self, folder: Path, key: bytes, previous: Sequence[bytes] = (), *, writes: bool = True) -> None:
        """Read all; those that a previous key wrapped are wrapped again. Raises SealingError."""
        self._folder = folder
        self._wrapping = AESGCM(key)
        self.writes = writes
        """Whether new records are encrypted."""
        self._keys: dict[str, DataKey] = {}
        self._wrap_again: dict[str, tuple[bytes, bytes]] = {}
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for left in folder.glob("*.new"):
                left.unlink()
            for file in sorted(folder.glob(f"*{_SUFFIX}")):
                self._read(file, [AESGCM(old) for old in previous])
            if self._wrap_again:
                self._write(self._wrap_again)
                self._wrap_again.clear()
        except OSError as error:
            raise SealingError(f"cannot use the data keys in {folder}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, tenant: str, key_id: bytes) -> DataKey | None:
        """The key that a record names; None if it was deleted."""
        key = self._keys.get(tenant)
        return key if key is not None and key.id == key_id else None

    def for_writing(self, tenant: str) -> DataKey | None:
        """The key of a tenant that was prepared; None if nothing is to be encrypted."""
        return self._keys[tenant] if self.writes else None

    def prepare(self, tenants: Iterable[str]) -> None:
        """Those that have no key get one, on disk before any record is: without it, that is lost. Raises OSError."""
        missing = sorted({tenant for tenant in tenants if tenant not in self._keys}) if self.writes else []
        if missing:
            made = {tenant: (secrets.token_bytes(_ID_BYTES), AESGCM.generate_key(8 * KEY_BYTES)) for tenant in missing}
            self._write(made)
            self._keys |= {tenant: DataKey(key_id, key) for tenant, (key_id, key) in made.items()}

    def forget(self, tenant: str) -> None:
        """The tenant's key was deleted: nothing of it is read or written any more."""
        self._keys.pop(tenant, None)

    def _read(self, file: Path, previous: Sequence[AESGCM]) -> None:
        try:
            fields = msgpack.unpackb(_content(file))
            tenant, key_id, nonce, wrapped = (fields[name] for name in ("tenant", "id", "nonce", "wrapped"))
            bound = _bound(tenant, key_id)
            ours = fields["v"] == _VERSION and file.name == key_file_name(tenant)
        except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
            ours = False
        if not ours:
            raise SealingError(
                f"{file} is not a data key of this version; bring back the file, or delete it, and with it what waits "
                "for its tenant"
            )
        for index, wrapping in enumerate((self._wrapping, *previous)):
            try:
                key = wrapping.decrypt(nonce, wrapped, bound)
            except InvalidTag:
                continue
            if index:
                self._wrap_again[tenant] = key_id, key
            self._keys[tenant] = DataKey(key_id, key)
            return
        raise SealingError(
            f"queue.encryption has another key than the one that wrapped {file}; configure that one, or name it in "
            "previous_key_files"
        )

    def _write(self, keys: dict[str, tuple[bytes, bytes]]) -> None:
        """Each replaced as one, and all on disk when it returns."""
        files = [self._write_new(tenant, key_id, key) for tenant, (key_id, key) in keys.items()]
        if len(files) > _FEW_FILES and _SYNCFS_TELLS:
            # One by one, a disk that takes 5 ms would hold up the commits of 10,000 new tenants for a minute.
            _sync_file_system(self._folder)
        else:
            for new in files:
                with new.open("rb") as written:
                    os.fsync(written.fileno())
        for new in files:
            new.replace(new.with_suffix(""))
        sync_folder(self._folder)

    def _write_new(self, tenant: str, key_id: bytes, key: bytes) -> Path:
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = self._wrapping.encrypt(nonce, key, _bound(tenant, key_id))
        content = msgpack.packb({"v": _VERSION, "tenant": tenant, "id": key_id, "nonce": nonce, "wrapped": wrapped})
        new = self._folder / f"{key_file_name(tenant)}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as out:
            out.write(content)
        return new


def key_file_name(tenant: str) -> str:
    """All that a tenant's name is made of may stand in the name of a file."""
    return quote(tenant, safe="!*'()") + _SUFFIX


def delete_key_file(folder: Path, tenant: str) -> bool:
    """Overwrite and unlink a tenant's data key; whether there was one. Raises OSError."""
    file = folder / key_file_name(tenant)
    try:
        with file.open("r+b") as written:
            # In place, for disks that overwrite in place; on others, what the key is wrapped with protects it.
            written.write(secrets.token_bytes(max(1, file.stat().st_size)))
            written.flush()
            os.fsync(written.fileno())
        file.unlink()
    except FileNotFoundError:
        return False
    sync_folder(folder)
    return True


def sync_folder(folder: Path) -> None:
    """A name that was made, replaced or removed in `folder` stays so after a power failure. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> None:
    """All that was written on the file system of a folder is on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MAX_FILE_BYTES)


def _bound(tenant: str, key_id: bytes) -> bytes:
    """A wrapped key is good for this tenant only."""
    return b"gateway queue data key\0" + tenant.encode() + b"\0" + key_id
