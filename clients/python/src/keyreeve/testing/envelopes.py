"""Envelopes, in the bytes of the service (docs/formats.md, section 3): of suite 0002 and 0001, under keys of this process.

Real cryptography, so that what an application mixes up fails here as it does there.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.secret import SecretBytes
from keyreeve.testing.refusals import decrypt_failed

_MAGIC, _VERSION, _DATA_KEY = b"\xe5ENV", 1, 1
_HEADER, _SALT, _COMMITMENT, _IV, _TAG = 32, 32, 32, 12, 16


class Suite(enum.Enum):
    """The value is the number in headers."""

    TOKEN_GCM = 1
    PRF_COMMIT = 2

    @property
    def label(self) -> str:
        return {1: "0001 TOKEN-GCM", 2: "0002 PRF-COMMIT"}[self.value]

    @property
    def most_plaintext(self) -> int:
        return {1: 8192, 2: 65536}[self.value]

    @property
    def overhead(self) -> int:
        """Bytes that the body is longer than the plaintext."""
        return _IV + _TAG + (_SALT + _COMMITMENT if self is Suite.PRF_COMMIT else 0)

    def new_secret(self) -> SecretBytes:
        return SecretBytes(secrets.token_bytes(64 if self is Suite.PRF_COMMIT else 32), name="version key")


class Header(NamedTuple):
    data_key: bool
    suite: Suite
    key_id: bytes
    key_version: int

    def encode(self, plaintext_length: int) -> bytes:
        flags = _DATA_KEY if self.data_key else 0
        start = _MAGIC + bytes([_VERSION, flags]) + self.suite.value.to_bytes(2, "big")
        length = plaintext_length + self.suite.overhead
        return start + self.key_id + self.key_version.to_bytes(4, "big") + length.to_bytes(4, "big")


def parse(envelope: bytes) -> Header:
    """Strict: whatever is wrong is DECRYPT_FAILED."""
    number = int.from_bytes(envelope[6:8], "big")
    if len(envelope) < _HEADER or envelope[:5] != _MAGIC + bytes([_VERSION]) or number not in (1, 2):
        raise decrypt_failed()
    suite, flags, body = Suite(number), envelope[5], len(envelope) - _HEADER
    version = int.from_bytes(envelope[24:28], "big")
    length = body - suite.overhead
    fits = int.from_bytes(envelope[28:32], "big") == body and 0 <= length <= suite.most_plaintext
    if not fits or flags & ~_DATA_KEY or version == 0:
        raise decrypt_failed()
    return Header(bool(flags & _DATA_KEY), suite, bytes(envelope[8:24]), version)


def seal(secret: SecretBytes, header: Header, context_hash: bytes, plaintext: bytes) -> bytes:
    """The envelope of `plaintext`. `context_hash`: SHA-256 of the encryption context's canonical bytes."""
    fixed = header.encode(len(plaintext))
    iv = secrets.token_bytes(_IV)
    if header.suite is Suite.TOKEN_GCM:
        return fixed + iv + AESGCM(secret.reveal()).encrypt(iv, plaintext, fixed + context_hash)
    salt = secrets.token_bytes(_SALT)
    key, commitment = _message_key(secret, fixed, salt, context_hash)
    aad = fixed + salt + commitment + context_hash
    return fixed + salt + commitment + iv + AESGCM(key).encrypt(iv, plaintext, aad)


def open_(secret: SecretBytes, envelope: bytes, context_hash: bytes) -> bytes:
    """The plaintext of an envelope that `parse` has accepted. DECRYPT_FAILED."""
    fixed, body = envelope[:_HEADER], envelope[_HEADER:]
    if parse(envelope).suite is Suite.TOKEN_GCM:
        return _open(AESGCM(secret.reveal()), body, fixed + context_hash)
    salt, commitment = body[:_SALT], body[_SALT : _SALT + _COMMITMENT]
    key, expected = _message_key(secret, fixed, salt, context_hash)
    if not hmac.compare_digest(expected, commitment):
        raise decrypt_failed()
    return _open(AESGCM(key), body[_SALT + _COMMITMENT :], fixed + salt + commitment + context_hash)


def _message_key(secret: SecretBytes, fixed: bytes, salt: bytes, context_hash: bytes) -> tuple[bytes, bytes]:
    message = (1).to_bytes(4, "big") + b"env.v1\0" + fixed + salt + context_hash + (512).to_bytes(4, "big")
    derived = hmac.digest(secret.reveal(), message, hashlib.sha512)
    return derived[:32], derived[32:]


def _open(cipher: AESGCM, sealed: bytes, aad: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_IV], sealed[_IV:], aad)
    except InvalidTag:
        pass
    raise decrypt_failed()
