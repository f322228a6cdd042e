"""Envelopes of the service (docs/formats.md, section 3), under keys that a test holds."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.errors import DecryptFailed

HEADER = 32
TOKEN_GCM, PRF_COMMIT = 1, 2
LARGEST = {TOKEN_GCM: 8192, PRF_COMMIT: 65536}
KEY_BYTES = {TOKEN_GCM: 32, PRF_COMMIT: 64}


def unopenable() -> DecryptFailed:
    return DecryptFailed("the ciphertext cannot be opened with this key and context")


def seal(
    key: bytes,
    suite: int,
    key_id: bytes,
    version: int,
    plaintext: bytes,
    context_digest: bytes,
    *,
    data_key: bool = False,
    salt: bytes | None = None,
    iv: bytes | None = None,
) -> bytes:
    iv = iv or os.urandom(12)
    body = len(plaintext) + (28 if suite == TOKEN_GCM else 92)
    header = b"\xe5ENV\x01" + bytes([data_key]) + suite.to_bytes(2, "big") + key_id
    header += version.to_bytes(4, "big") + body.to_bytes(4, "big")
    if suite == TOKEN_GCM:
        return header + iv + AESGCM(key).encrypt(iv, plaintext, header + context_digest)
    salt = salt or os.urandom(32)
    message_key, commitment = _derived(key, header, salt, context_digest)
    aad = header + salt + commitment + context_digest
    return header + salt + commitment + iv + AESGCM(message_key).encrypt(iv, plaintext, aad)


def open_(key: bytes, suite: int, envelope: bytes, context_digest: bytes) -> bytes:
    header, body = envelope[:HEADER], envelope[HEADER:]
    if suite == PRF_COMMIT:
        salt, commitment, body = body[:32], body[32:64], body[64:]
        key, wanted = _derived(key, header, salt, context_digest)
        if not hmac.compare_digest(wanted, commitment):
            raise unopenable()
        aad = header + salt + commitment + context_digest
    else:
        aad = header + context_digest
    try:
        return AESGCM(key).decrypt(body[:12], body[12:], aad)
    except (InvalidTag, ValueError):
        pass
    raise unopenable()


def _derived(key: bytes, header: bytes, salt: bytes, context_digest: bytes) -> tuple[bytes, bytes]:
    message = (1).to_bytes(4, "big") + b"env.v1\0" + header + salt + context_digest + (512).to_bytes(4, "big")
    derived = hmac.digest(key, message, hashlib.sha512)
    return derived[:32], derived[32:]
