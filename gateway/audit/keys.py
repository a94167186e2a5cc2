"""Ed25519 keys: the gateway signs anchors with the private one, whoever verifies needs only the public one."""

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PEM_END = b"-----END PUBLIC KEY-----"


def generate(file: Path) -> Path:
    """Write a new private key to `file` (mode 600) and its public key beside it. Returns the public key's path.

    Raises OSError; FileExistsError rather than overwrite a key.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_file = file.with_name(file.name + ".pub")
    if public_file.exists():
        raise FileExistsError(17, "File exists", str(public_file))
    _write_new(file, private, 0o600)
    _write_new(public_file, public_pem(key.public_key()), 0o644)
    return public_file


def public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_public_keys(file: Path) -> list[Ed25519PublicKey]:
    """Every public key in `file`: after a change of keys a trail has two. Raises ValueError, which says what to do."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    keys = []
    for block in pem.split(_PEM_END)[:-1]:
        try:
            key = serialization.load_pem_public_key(block + _PEM_END)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{file} holds something that is no Ed25519 public key")  # noqa: TRY004 - of the file
        keys.append(key)
    if not keys:
        raise ValueError(f"{file} holds no Ed25519 public key in PEM form; it ends in .pub")
    return keys


def to_text(key: Ed25519PublicKey) -> str:
    """As an anchor names its key: base64 of the 32 bytes."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def from_text(text: object) -> Ed25519PublicKey | None:
    """Undo `to_text`; none if it is no key."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(str(text), validate=True))
    except ValueError:
        return None


def fingerprint(key: Ed25519PublicKey) -> str:
    """Short enough to compare by eye."""
    return "SHA256:" + hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def _write_new(file: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        # The mode is exact, whatever the umask.
        os.fchmod(descriptor, mode)
        out.write(content)
        out.flush()
        os.fsync(descriptor)
