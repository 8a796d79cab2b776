"""An application's own authority, and a certificate for each of its hosts: made in the driver, with `cryptography`.

The authority's key never leaves the driver's memory, and goes with it; so no certificate is of use to another
application, or after the end of this one.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final

from asparkle.core.errors import MissingDependency
from asparkle.core.peers import Identity, name_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

SKEW: Final = datetime.timedelta(days=1)
"""How far a host's clock may be off."""
LIFETIME: Final = datetime.timedelta(days=3650)
"""Longer than an application runs.  What ends a certificate is the end of its authority."""


class Authority:
    """An application's certificate authority.  Raises MissingDependency without the package `cryptography`."""

    def __init__(self, application: str) -> None:
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            problem = "connections between hosts need the package cryptography, in the driver"
            raise MissingDependency(problem, "asparkle[ssh]") from error
        self.application = application
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._signed("an authority", self._key.public_key(), constraints, LIFETIME)

    def identity(self, host: str, lifetime: datetime.timedelta = LIFETIME) -> Identity:
        """A new key, and a certificate of it, for a host."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(
            "a host",
            key.public_key(),
            x509.BasicConstraints(ca=False, path_length=None),
            lifetime,
            x509.ExtendedKeyUsage([Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH]),
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name_of(self.application, host))]),
        )
        plain = serialization.NoEncryption()
        written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return Identity(self.application, host, self.certificate, certificate, written.decode())

    def _signed(
        self,
        what: str,
        key: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        lifetime: datetime.timedelta,
        *extensions: x509.ExtensionType,
    ) -> str:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{text} of an asparkle application")])

        now = datetime.datetime.now(datetime.UTC)
        authority = self._key.public_key()
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign" if constraints.ca else "digital_signature": True}
        builder = (
            x509.CertificateBuilder(name("an authority"), name(what), key, x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + lifetime + SKEW)
            .add_extension(constraints, critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
