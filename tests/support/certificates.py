"""Certificates that tests make for themselves: authorities, what they sign, and what they revoke."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

_MAY_SIGN = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain, and its key, as PEM files."""

    cert_file: Path
    key_file: Path

    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert_file.read_bytes())


class Authority:
    """A certificate authority; `file` is what trusts it. With `parent` it is an intermediate one."""

    def __init__(self, folder: Path, name: str = "authority", parent: "Authority | None" = None) -> None:
        self._folder = folder
        self._parent = parent
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signer = parent or self
        builder = _builder(self._name, signer._name, self._key.public_key(), _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_MAY_SIGN, critical=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(builder.sign(signer._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.file.read_bytes())

    def issue(
        self,
        name: str,
        *,
        common_name: str | None = None,
        uris: Sequence[str] = (),
        dns_names: Sequence[str] = (),
        subject_alternative_name: bytes | None = None,
        lifetime: datetime.timedelta = _DAY,
    ) -> Certificate:
        """A certificate for 127.0.0.1 and the names given, to serve and to show as a client.

        `subject_alternative_name` is DER that takes the place of those names.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(dns_name) for dns_name in dns_names]
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(common_name or name), self._name, key.public_key(), lifetime)
        subject: x509.ExtensionType = x509.SubjectAlternativeName(names)
        if subject_alternative_name is not None:
            subject = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, subject_alternative_name)
        builder = builder.add_extension(subject, critical=False)
        builder = builder.add_extension(signer, critical=False)
        issued = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        chain = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        issued.cert_file.write_bytes(chain + (self.file.read_bytes() if self._parent is not None else b""))
        issued.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued

    def revocation_list(
        self, revoked: "Sequence[Certificate | Authority]" = (), *, lifetime: datetime.timedelta = _DAY
    ) -> bytes:
        """A CRL of these, PEM; with a negative `lifetime` one that is no longer in force."""
        now = datetime.datetime.now(datetime.UTC)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - 2 * _DAY)
            .next_update(now + lifetime)
            .add_extension(signer, critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.x509().serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - _DAY).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
