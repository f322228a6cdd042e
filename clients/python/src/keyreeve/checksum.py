"""CRC32C (Castagnoli) of what may not change on its way: set on requests, checked on answers.

Field `x` has its checksum in `x_crc32c`; this is read from the messages' descriptors, so none can be forgotten.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import google_crc32c
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from keyreeve.errors import ChecksumMismatch

_SUFFIX = "_crc32c"
# What batches hold requests in, and answers; of each item its answer; a stream's message one of either.
_LISTS, _ITEM, _CHOICES = {"items", "results"}, "success", ("request", "response")


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


class _Fields(NamedTuple):
    """Of a kind of message; looked up once, not for every call."""

    checked: tuple[str, ...]
    """What has a checksum."""
    lists: tuple[str, ...]
    has_item: bool
    choice: str


@functools.cache
def _fields(kind: Any) -> _Fields:
    descriptor: Descriptor = kind.DESCRIPTOR
    names = [field.name for field in descriptor.fields]
    return _Fields(
        checked=tuple(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)),
        lists=tuple(name for name in names if name in _LISTS),
        has_item=_ITEM in names,
        choice=next((choice for choice in _CHOICES if choice in descriptor.oneofs_by_name), ""),
    )


def _checksums(message: Any) -> Iterator[tuple[Any, str]]:
    kind: Any = type(message)
    fields = _fields(kind)
    for name in fields.checked:
        yield message, name
    for held in fields.lists:
        for part in getattr(message, held):
            yield from _checksums(part)
    if fields.has_item and message.HasField(_ITEM):
        yield from _checksums(getattr(message, _ITEM))
    if fields.choice and (chosen := message.WhichOneof(fields.choice)):
        yield from _checksums(getattr(message, chosen))
