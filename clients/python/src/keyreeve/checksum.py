"""CRC32C (Castagnoli) of what may not change on its way: set on requests, checked on answers.

Field `x` has its checksum in `x_crc32c`; this is read from the messages' descriptors, so none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google_crc32c
from google.protobuf.message import Message

from keyreeve.errors import ChecksumMismatch

_SUFFIX = "_crc32c"
# Requests that batches and streams hold others in, and answers likewise.
_HOLDERS = ("items", "results", "success")


def crc32c(data: bytes) -> int:
    return int(google_crc32c.value(data))


def fill(message: Message) -> None:
    """Sets the checksums of a request."""
    for part, name in _checksums(message):
        setattr(part, name + _SUFFIX, crc32c(getattr(part, name)))


def check(message: Message) -> None:
    """Compares the checksums of an answer."""
    for part, name in _checksums(message):
        if crc32c(getattr(part, name)) != getattr(part, name + _SUFFIX):
            raise ChecksumMismatch(f"the checksum of `{name}` does not match: the answer changed on its way")


def _checksums(message: Any) -> Iterator[tuple[Any, str]]:
    for field in message.DESCRIPTOR.fields:
        if field.name.endswith(_SUFFIX):
            yield message, field.name.removesuffix(_SUFFIX)
    for holder in _HOLDERS:
        if holder in message.DESCRIPTOR.fields_by_name:
            held = getattr(message, holder)
            if isinstance(held, Message):
                if message.HasField(holder):
                    yield from _checksums(held)
            else:
                for part in held:
                    yield from _checksums(part)
    oneof = message.DESCRIPTOR.oneofs_by_name.get("request") or message.DESCRIPTOR.oneofs_by_name.get("response")
    if oneof is not None and (held_in := message.WhichOneof(oneof.name)):
        yield from _checksums(getattr(message, held_in))
