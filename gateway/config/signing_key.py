"""The Ed25519 key of the audit trail, as `check` and the trail itself read it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def read_signing_key(file: Path) -> Ed25519PrivateKey:
    """The private key in `file`, PEM and unencrypted. Raises ValueError, which says what to do."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}; `gateway audit keygen` makes a key") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        what_to_do = "`gateway audit keygen` makes one"
        raise ValueError(f"{file} holds no unencrypted Ed25519 private key; {what_to_do}")  # noqa: TRY004 - of the file
    return key
