"""The header of a sealed message, and of the envelopes in it. Strict: what would not be written so is not read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from keyreeve import context as contexts
from keyreeve.context import lv
from keyreeve.errors import DecryptFailed, InvalidArgument

FIXED = 32
LARGEST = 65536
SALT, COMMITMENT = 24, 32
PREFIX = SALT + COMMITMENT
"""Of the payload, before its first chunk."""
MOST_KEYS = 16
ENVELOPE = 1

_MAGIC, _VERSION, _SUITE = b"\xe5SEA", 1, b"\x01\x01"
_STORED = 1
_ENVELOPE_MAGIC = b"\xe5ENV\x01"
_DATA_KEY = 1
# Suites 0001 and 0002, around the 32 bytes of a data key.
_DATA_KEY_BYTES = {1: 92, 2: 156}


def unopenable(request_id: str = "") -> DecryptFailed:
    """The one error, with one text, for whatever is wrong with a sealed message, its keys, its context.

    `request_id`: of the call, if it was the service that found it out.
    """
    return DecryptFailed("the sealed message cannot be opened with these keys and this context", request_id=request_id)


class Identity(NamedTuple):
    """What makes a message the one and not another: whoever wants that one pins these, not a hash of the file."""

    message_id: bytes
    commitment: bytes


class Wrapped(NamedTuple):
    kind: int
    data: bytes


class Envelope(NamedTuple):
    """What the header of a wrapped data key says."""

    key_id: bytes
    key_version: int


@dataclass(frozen=True)
class Header:
    message_id: bytes
    stored_context: bytes | None
    wrapped: tuple[Wrapped, ...]

    @property
    def bound(self) -> bytes:
        """The first 24 bytes, which the payload's keys are bound to."""
        flags = 0 if self.stored_context is None else _STORED
        return _MAGIC + bytes([_VERSION, flags]) + _SUITE + self.message_id

    def encode(self) -> bytes:
        stored = self.stored_context or b""
        keys = b"".join(bytes([key.kind, 0]) + lv(key.data) for key in self.wrapped)
        length = FIXED + len(stored) + len(keys)
        if length > LARGEST or not 1 <= len(self.wrapped) <= MOST_KEYS:
            raise InvalidArgument(
                f"a sealed message takes 1 to {MOST_KEYS} wrapped keys, and {LARGEST} bytes of header"
            )
        counts = len(stored).to_bytes(2, "big") + len(self.wrapped).to_bytes(2, "big")
        return self.bound + length.to_bytes(4, "big") + counts + stored + keys

    def with_keys(self, wrapped: tuple[Wrapped, ...]) -> Header:
        return replace(self, wrapped=wrapped)


def length(fixed: bytes) -> int:
    """Length of a header by its first 32 bytes; checked before anything of that length is read."""
    if len(fixed) < FIXED or fixed[:4] != _MAGIC:
        raise unopenable()
    if fixed[4] != _VERSION or fixed[5] & ~_STORED or fixed[6:8] != _SUITE:
        raise unopenable()
    found = int.from_bytes(fixed[24:28], "big")
    if not FIXED < found <= LARGEST:
        raise unopenable()
    return found


def parse(data: bytes) -> Header:
    """The header at the beginning of `data`."""
    end = length(data[:FIXED])
    if len(data) < end:
        raise unopenable()
    context_length, count = int.from_bytes(data[28:30], "big"), int.from_bytes(data[30:32], "big")
    if not 1 <= count <= MOST_KEYS or (context_length > 0) != bool(data[5] & _STORED):
        raise unopenable()
    at = FIXED + context_length
    stored = bytes(data[FIXED:at]) if data[5] & _STORED else None
    wrapped = []
    for _ in range(count):
        if at + 4 > end or data[at + 1]:
            raise unopenable()
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        wrapped.append(Wrapped(data[at], bytes(data[at + 4 : at + 4 + size])))
        at += 4 + size
    if at != end:
        raise unopenable()
    if stored is not None and not _canonical(stored):
        raise unopenable()
    return Header(bytes(data[8:24]), stored, tuple(wrapped))


def envelope(data: bytes) -> Envelope | None:
    """The header of a wrapped data key; None if it is none, which is then passed over like an unknown kind."""
    if len(data) < FIXED or data[:5] != _ENVELOPE_MAGIC or data[5] != _DATA_KEY:
        return None
    suite, body = int.from_bytes(data[6:8], "big"), int.from_bytes(data[28:32], "big")
    version = int.from_bytes(data[24:28], "big")
    if len(data) != _DATA_KEY_BYTES.get(suite) or body != len(data) - FIXED or not version:
        return None
    return Envelope(bytes(data[8:24]), version)


def _canonical(stored: bytes) -> bool:
    try:
        contexts.parse(stored)
    except InvalidArgument:
        return False
    return True
