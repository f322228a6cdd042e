"""The files of certificate, key and authorities: read, checked, and looked at again when they may have changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from keyreeve.config import Config
from keyreeve.errors import ConfigurationError


@dataclass(frozen=True)
class Credentials:
    """What proves who we are. The key is in no repr."""

    ca: bytes
    chain: bytes
    key: bytes = field(repr=False)
    identity: str
    """SPIFFE ID of the certificate; without one, the SHA-256 of it."""


def read(config: Config) -> Credentials:
    """Reads the three files; certificate and key must fit together, so that files seen in the middle of a change are not taken."""
    ca, chain, key = (_bytes(path) for path in (config.ca, config.cert, config.key))
    try:
        x509.load_pem_x509_certificates(ca)
    except ValueError:
        raise ConfigurationError(f"`{config.ca}` holds no certificate in PEM form") from None
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise ConfigurationError(f"`{config.cert}` holds no certificate in PEM form") from None
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"`{config.key}` holds no private key in PEM form without a password") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ConfigurationError(f"`{config.key}` is not the private key of `{config.cert}`")
    return Credentials(ca, chain, key, _identity(leaf))


def signature(config: Config) -> tuple[tuple[int, int, int], ...]:
    """Changes when one of the files may have changed. Files that are away for a moment have a signature, too."""
    return tuple(_stat(path) for path in (config.ca, config.cert, config.key))


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise ConfigurationError(f"`{path}` cannot be read: {problem}")


def _identity(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    return str(uris[0]) if len(uris) == 1 else hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()
