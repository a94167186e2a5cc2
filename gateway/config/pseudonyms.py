"""Where the keys of pseudonyms come from: files, Vault's KV store, or data keys of Vault's transit engine."""

import base64
import binascii
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.base import Model
from gateway.config.names import Url
from gateway.config.quantities import Seconds

MIN_KEY_BYTES = 32
TENANT_PLACE = "{tenant}"
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")


def parse_key(written: bytes) -> bytearray:
    """The key that somebody wrote as hex, base64 or its own bytes. Raises ValueError if it is too short.

    What reads as hex is hex, what reads as base64 is base64, if enough comes out of it; all else is the key itself.
    """
    text = written.strip()
    key = bytearray(written.rstrip(b"\r\n"))
    if _HEX.fullmatch(text) and len(text) >= 2 * MIN_KEY_BYTES:
        key = bytearray(binascii.unhexlify(text))
    elif _BASE64.fullmatch(text):
        decoded = _base64(text)
        key = decoded if decoded is not None and len(decoded) >= MIN_KEY_BYTES else key
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"the key has {len(key)} bytes, and {MIN_KEY_BYTES} are needed; `openssl rand -base64 32` makes a good one"
        )
    return key


def _base64(text: bytes) -> bytearray | None:
    padded = text.rstrip(b"=")
    padded += b"=" * (-len(padded) % 4)
    try:
        return bytearray(base64.b64decode(padded, altchars=b"-_" if re.search(rb"[-_]", text) else None, validate=True))
    except binascii.Error:
        return None


def _nonempty(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not (text.isascii() and text.isprintable()):
        raise ValueError("it must be one line of printable ASCII; set the variable or file that it comes from")
    return value


def _vault_path(value: str) -> str:
    parts = value.split("/")
    if any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise ValueError("write a path as gateway/pseudonyms, without / at the ends and without . or .. in it")
    return value


def _kv_path(value: str) -> str:
    if value.startswith(("data/", "metadata/")):
        raise ValueError("leave out data/ and metadata/, which the gateway adds; write it as in `vault kv get`")
    if "{" in value.replace(TENANT_PLACE, ""):
        raise ValueError(f"{TENANT_PLACE} is all that is filled in")
    return _vault_path(value)


VaultPath = Annotated[str, AfterValidator(_vault_path)]
Credential = Annotated[SecretStr, AfterValidator(_nonempty)]


class KeyVersion(Model):
    """One version of a key, here or in a file."""

    version: Annotated[int, Field(ge=1, le=999_999)]
    """Stands in the pseudonyms: `h1:…` was made by version 1. A higher one is newer."""
    key: SecretStr | None = None
    """32 bytes or more, as base64, hex or plain text; best as `${file:…}` or `${env:…}`."""
    key_file: Path | None = None
    """The same in a file, which is watched."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.key is None) == (self.key_file is None):
            raise ValueError("name key or key_file, one of them")
        if self.key is not None:
            parse_key(self.key.get_secret_value().encode())
        return self


class VaultKv(Model):
    """A secret of Vault's KV store, version 2. The secret's versions are the key's."""

    mount: VaultPath = "secret"
    path: Annotated[str, AfterValidator(_kv_path)]
    """With `{tenant}` in it, each tenant has a secret of its own."""
    field: Annotated[str, Field(min_length=1)] = "key"
    """What of the secret is the key: 32 bytes or more, as base64, hex or plain text."""
    refresh: Annotated[Seconds, Field(ge=1)] = 60.0
    """How often new versions are looked for."""


class VaultTransit(Model):
    """Data keys, one a tenant, that Vault's transit engine makes and wraps."""

    mount: VaultPath = "transit"
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """The transit key that wraps them. When it is rotated, every tenant gets a new data key."""
    wrapped_keys_file: Path
    """Where the wrapped keys are kept. Without it, no former pseudonym can be made again."""
    refresh: Annotated[Seconds, Field(ge=1)] = 60.0
    """How often a rotation is looked for."""


class PseudonymKeySource(Model):
    """Where one key comes from; exactly one of its keys."""

    versions: Annotated[tuple[KeyVersion, ...], Field(min_length=1)] | None = None
    """The key's versions, each here or in a file. The newest writes; the older ones tell what was written with them."""
    vault_kv: VaultKv | None = None
    vault_transit: VaultTransit | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = list(type(self).model_fields)
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(kinds)}")
        numbers = [version.version for version in self.versions or ()]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            raise ValueError(f"version {twice[0]} stands here twice; a new key needs a new number")
        return self

    @property
    def kind(self) -> Literal["versions", "vault_kv", "vault_transit"]:
        if self.versions is not None:
            return "versions"
        return "vault_kv" if self.vault_kv is not None else "vault_transit"

    @property
    def shared(self) -> bool:
        """Whether all tenants' keys are derived from one; else each tenant has its own in the source."""
        return self.versions is not None or (self.vault_kv is not None and TENANT_PLACE not in self.vault_kv.path)


class AppRole(Model):
    """Login by AppRole."""

    role_id: Credential
    secret_id: Credential | None = None
    secret_id_file: Path | None = None
    """The same in a file, which is read at each login."""
    mount: VaultPath = "approle"

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.secret_id is not None and self.secret_id_file is not None:
            raise ValueError("name secret_id or secret_id_file, not both")
        return self


class KubernetesLogin(Model):
    """Login by the pod's service account."""

    role: Annotated[str, Field(min_length=1)]
    jwt_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    """Read at each login."""
    mount: VaultPath = "kubernetes"


class VaultAuth(Model):
    """How the gateway logs in; exactly one key."""

    token: Credential | None = None
    """Renewed while Vault lets it; when it has ended, the gateway cannot get another."""
    token_file: Path | None = None
    """A token that somebody else keeps fresh, such as Vault Agent's sink; read again when it no longer works."""
    app_role: AppRole | None = None
    kubernetes: KubernetesLogin | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = list(type(self).model_fields)
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(kinds)}")
        return self


class VaultConfig(Model):
    """The Vault or OpenBao server that keys come from (docs/pseudonym-keys.md)."""

    address: Url
    """Of the active node or a load balancer; redirects are not followed."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]+$")] | None = None
    """Of Vault Enterprise or OpenBao."""
    ca_file: Path | None = None
    """CA that signed the server's certificate; the usual public ones by default."""
    cert_file: Path | None = None
    """Client certificate, PEM; goes with key_file."""
    key_file: Path | None = None
    auth: VaultAuth
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 5.0
    """For connecting, and for each answer."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self
