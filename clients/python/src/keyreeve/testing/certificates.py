"""Throwaway certificates: an authority that nobody else trusts, and what it has signed, in a directory for this user alone.

Valid from 2000 to 2099, so that tests that set the clock of their process still connect.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
UNTIL = datetime.datetime(2099, 12, 31, tzinfo=datetime.timezone.utc)
_HOSTS = ("127.0.0.1", "::1")


class Authority:
    """Its own key and the server's stay in memory; clients read theirs from files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("keyreeve test double")
        builder = _builder(self._name, self._name, self._key.public_key())
        built = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        self.file = directory / "ca.pem"
        _write(self.file, self.certificate)

    def server(self) -> tuple[bytes, bytes]:
        """Key and certificate, for loopback names only."""
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        names += [x509.IPAddress(ipaddress.ip_address(host)) for host in _HOSTS]
        return self._issue("server", names, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str, identity: str) -> None:
        """Files `name`.pem and `name`.key of the caller with this SPIFFE ID."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        key, certificate = self._issue(name, [x509.UniformResourceIdentifier(identity)], usage)
        _write(self.directory / f"{name}.key", key)
        _write(self.directory / f"{name}.pem", certificate)

    def _issue(self, name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private, certificate.public_bytes(Encoding.PEM)


def identity_of(pem: bytes) -> str:
    """The SPIFFE ID of a client certificate; empty if it has none."""
    try:
        found = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    return str(uris[0]) if len(uris) == 1 else ""


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(UNTIL)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: Path, content: bytes) -> None:
    """For the owner alone."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
