"""The payload of a sealed message: `salt || commitment || chunks`, C2SP chunked-encryption v1 with AES-256-GCM and SHA-512.

A chunk has 16,384 bytes of plaintext, the last one fewer, maybe none: a full chunk is never the last. Commitment first, plaintext only
after its chunk's tag, the end only after the short chunk.
"""

from __future__ import annotations

import hmac
import io
import os
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyreeve.context import lv
from keyreeve.data_keys import uncounted
from keyreeve.errors import InvalidArgument
from keyreeve.sealed.header import COMMITMENT, PREFIX, SALT, Header, Identity, unopenable

CHUNK = 16384
TAG = 16
SEALED_CHUNK = CHUNK + TAG
MOST_CHUNKS = 1 << 32

_HAS_INTO = hasattr(AESGCM, "encrypt_into")
"""Since `cryptography` 47."""

_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


class PayloadKey:
    """Key, nonces and commitment of one message."""

    __slots__ = ("_base", "_cipher", "commitment")

    def __init__(self, data_key: bytes | bytearray, salt: bytes, bound: bytes, context: bytes) -> None:
        info = _LABEL + salt + b"seal.v1\0" + bound + lv(context)
        derived = HKDFExpand(SHA512(), 32 + 12 + COMMITMENT, info).derive(data_key)
        self._cipher = AESGCM(derived[:32])
        self._base = int.from_bytes(derived[32:44], "big")
        self.commitment = derived[44:]

    def seal(self, number: int, chunk: bytes | memoryview) -> bytes:
        return self._cipher.encrypt(self._nonce(number), chunk, None)

    def open(self, number: int, chunk: bytes | memoryview) -> bytes:
        try:
            return self._cipher.decrypt(self._nonce(number), chunk, None)
        except InvalidTag:
            pass
        raise unopenable()

    def seal_into(self, number: int, chunk: bytes | memoryview, out: memoryview) -> None:
        """`out`: 16 bytes longer than the chunk."""
        if _HAS_INTO:
            self._cipher.encrypt_into(self._nonce(number), chunk, None, out)
        else:
            out[:] = self.seal(number, chunk)

    def open_into(self, number: int, chunk: bytes | memoryview, out: memoryview) -> None:
        """`out`: 16 bytes shorter than the chunk. What it holds after an error is no plaintext."""
        if not _HAS_INTO:
            out[:] = self.open(number, chunk)
            return
        try:
            self._cipher.decrypt_into(self._nonce(number), chunk, None, out)
        except InvalidTag:
            pass
        else:
            return
        raise unopenable()

    def _nonce(self, number: int) -> bytes:
        if number >= MOST_CHUNKS:
            raise InvalidArgument("a sealed message has at most 2^32 chunks")
        return (self._base ^ number).to_bytes(12, "big")


class Sealing:
    """Seals bytes as they come: `head`, then what `update` and `finish` return."""

    def __init__(
        self,
        data_key: bytes | bytearray,
        header: Header,
        context: bytes,
        *,
        salt: bytes | None = None,
        count: Callable[[int], None] = uncounted,
    ) -> None:
        """`count`: told of the bytes of each `update`; `whole` tells it none, since their number was known before."""
        salt = os.urandom(SALT) if salt is None else salt
        self._key = PayloadKey(data_key, salt, header.bound, context)
        self.head = header.encode() + salt + self._key.commitment
        self.identity = Identity(header.message_id, self._key.commitment)
        self._count = count
        self._number = 0
        self._left = b""

    def update(self, data: bytes | memoryview) -> bytes:
        """Whole chunks; what is left waits."""
        self._count(len(data))
        return b"".join(self._chunks(data))

    def update_into(self, data: bytes | memoryview, buffer: memoryview) -> memoryview:
        """As `update`, into the beginning of `buffer`, which has room for one chunk more than `data`, all of them sealed."""
        self._count(len(data))
        end = 0
        for chunk in self._cut(data):
            begin, end = end, end + len(chunk) + TAG
            self._key.seal_into(self._number, chunk, buffer[begin:end])
            self._number += 1
        return buffer[:end]

    def whole(self, data: bytes) -> bytes:
        """The whole message of `data`."""
        return _joined(self._whole(data))

    def _whole(self, data: bytes) -> Iterator[bytes]:
        yield self.head
        yield from self._chunks(data)
        yield self.finish()

    def _chunks(self, data: bytes | memoryview) -> Iterator[bytes]:
        return map(self._next, self._cut(data))

    def _cut(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        view = memoryview(data)
        if self._left:
            missing = CHUNK - len(self._left)
            self._left += view[:missing]
            view = view[missing:]
            if len(self._left) < CHUNK:
                return
            yield self._left
            self._left = b""
        whole = len(view) - len(view) % CHUNK
        for at in range(0, whole, CHUNK):
            yield view[at : at + CHUNK]
        self._left = bytes(view[whole:])

    def finish(self) -> bytes:
        """The last chunk."""
        last, self._left = self._left, b""
        return self._next(last)

    def _next(self, chunk: bytes | memoryview) -> bytes:
        sealed = self._key.seal(self._number, chunk)
        self._number += 1
        return sealed


class Opening:
    """Opens bytes as they come. `prefix`: the payload's first 56 bytes; the commitment is compared before anything else."""

    def __init__(
        self,
        data_key: bytes | bytearray,
        header: Header,
        context: bytes,
        prefix: bytes,
        *,
        count: Callable[[int], None] = uncounted,
    ) -> None:
        """`count`: told of the bytes of each `update` and `chunk`; `whole` tells it none."""
        if len(prefix) < PREFIX:
            raise unopenable()
        self._key = PayloadKey(data_key, prefix[:SALT], header.bound, context)
        if not hmac.compare_digest(self._key.commitment, prefix[SALT:PREFIX]):
            raise unopenable()
        self.commitment = self._key.commitment
        self._count = count
        self._number = 0
        self._left = b""

    def update(self, data: bytes | memoryview) -> bytes:
        """Plaintext of whole chunks, verified."""
        self._count(len(data))
        return b"".join(self._chunks(data))

    def update_into(self, data: bytes | memoryview, buffer: memoryview) -> memoryview:
        """As `update`, into the beginning of `buffer`, which is larger than `data` by a chunk."""
        self._count(len(data))
        end = 0
        for chunk in self._cut(data):
            begin, end = end, end + len(chunk) - TAG
            self._key.open_into(self._number, chunk, buffer[begin:end])
            self._number += 1
        return buffer[:end]

    def whole(self, data: bytes | memoryview) -> bytes:
        """Plaintext of all chunks."""
        return _joined(self._whole(data))

    def _whole(self, data: bytes | memoryview) -> Iterator[bytes]:
        yield from self._chunks(data)
        yield self.finish()

    def _chunks(self, data: bytes | memoryview) -> Iterator[bytes]:
        for chunk in self._cut(data):
            yield self._key.open(self._number, chunk)
            self._number += 1

    def _cut(self, data: bytes | memoryview) -> Iterator[memoryview]:
        view = memoryview(self._left + bytes(data) if self._left else data)
        whole = len(view) - len(view) % SEALED_CHUNK
        for at in range(0, whole, SEALED_CHUNK):
            yield view[at : at + SEALED_CHUNK]
        self._left = bytes(view[whole:])

    def finish(self) -> bytes:
        """Plaintext of the last chunk: only now the message is proved complete."""
        if len(self._left) < TAG:
            raise unopenable()
        last, self._left = self._left, b""
        return self._key.open(self._number, last)

    def chunk(self, number: int, sealed: bytes | memoryview) -> bytes:
        """One chunk by its number, for random access."""
        self._count(len(sealed))
        return self._key.open(number, sealed)


def _joined(parts: Iterator[bytes]) -> bytes:
    """All in one. Unlike `b"".join`, which keeps all parts until the end: each is taken over while it is in the processor's cache."""
    whole = io.BytesIO()
    whole.writelines(parts)
    return whole.getvalue()
