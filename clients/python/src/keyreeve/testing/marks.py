"""What tells keys and ciphertexts of the double from those of a service.

The service draws key ids as UUIDs of version 4. The double's have version 8 (RFC 9562, for private use) and begin with the ASCII of
"double": `646f7562-6c65-8…`. The key id is in the header of every ciphertext and bound by it, so that the mark cannot be taken off, and no
service has a key of such an id (docs/formats.md, section 3).
"""

from __future__ import annotations

import secrets
import uuid

from keyreeve.errors import DecryptFailed
from keyreeve.sealed import header
from keyreeve.testing import envelopes
from keyreeve.testing.refusals import Refusal

_PREFIX = b"double"
_VERSION = 8


def new_key_id() -> uuid.UUID:
    """A marked id; 74 bits of it are random."""
    drawn = bytearray(_PREFIX + secrets.token_bytes(10))
    drawn[6] = drawn[6] & 0x0F | _VERSION << 4
    drawn[8] = drawn[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(drawn))


def is_test_key_id(key_id: str | bytes | uuid.UUID) -> bool:
    """Is it the id of a key of a double? Text, 16 bytes, or a UUID."""
    try:
        if isinstance(key_id, bytes):
            key_id = uuid.UUID(bytes=key_id)
        elif isinstance(key_id, str):
            key_id = uuid.UUID(key_id)
    except ValueError:
        return False
    return key_id.version == _VERSION and key_id.bytes.startswith(_PREFIX)


def is_test_ciphertext(data: bytes) -> bool:
    """Was it made by a double? A ciphertext of `encrypt`, a wrapped data key, or a sealed message, any of whose keys is a double's."""
    if _is_test_envelope(data):
        return True
    try:
        sealed = header.parse(data)
    except DecryptFailed:
        return False
    return any(one.kind == header.ENVELOPE and _is_test_envelope(one.data) for one in sealed.wrapped)


def _is_test_envelope(data: bytes) -> bool:
    try:
        return is_test_key_id(envelopes.parse(data).key_id)
    except Refusal:
        return False
