"""Sealing and opening of byte streams for asyncio, chunk by chunk; files go through `keyreeve.sealed.streams`, in a thread."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, Protocol

from keyreeve.sealed import header as headers
from keyreeve.sealed.header import FIXED, PREFIX, Header, unopenable
from keyreeve.sealed.payload import Opening, Sealing
from keyreeve.sealed.streams import AT_ONCE


class AsyncReader(Protocol):
    """As `asyncio.StreamReader`, or a file of `aiofiles`: some bytes, none at the end."""

    def read(self, length: int, /) -> Awaitable[bytes]: ...


class AsyncWriter(Protocol):
    """As `asyncio.StreamWriter`, whose `drain` is awaited after each `write`, or a file of `aiofiles`, whose `write` is awaited."""

    def write(self, data: bytes, /) -> Any: ...


async def seal(sealing: Sealing, source: AsyncReader, target: AsyncWriter) -> None:
    """Seals what is left of `source`."""
    await _write(target, sealing.head)
    while data := await _read(source, AT_ONCE):
        await _write(target, sealing.update(data))
    await _write(target, sealing.finish())


async def read_head(source: AsyncReader) -> tuple[Header, bytes]:
    """Header and prefix of the message that `source` stands at; afterwards it stands at the chunks."""
    fixed = await _exactly(source, FIXED)
    header = headers.parse(fixed + await _exactly(source, headers.length(fixed) - FIXED))
    return header, await _exactly(source, PREFIX)


async def open_to(opening: Opening, source: AsyncReader, target: AsyncWriter) -> None:
    """Writes each chunk after it verified. Only when this returns is the message known to be complete."""
    while data := await _read(source, AT_ONCE):
        await _write(target, opening.update(data))
    await _write(target, opening.finish())


async def _exactly(source: AsyncReader, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = await _read(source, length - len(data))
        if not more:
            raise unopenable()
        data += more
    return data


async def _read(source: AsyncReader, length: int) -> bytes:
    data: bytes | None = await source.read(length)
    if data is None:
        raise BlockingIOError("the source has nothing to read yet: give one that waits")
    return data


async def _write(target: AsyncWriter, data: bytes) -> None:
    """All of `data`: some targets take less at once."""
    while data:
        written = target.write(data)
        if inspect.isawaitable(written):
            written = await written
        data = b"" if written is None else data[written:]
    drain = getattr(target, "drain", None)
    if drain is not None:
        await drain()
