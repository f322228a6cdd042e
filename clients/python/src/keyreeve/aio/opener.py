"""`AsyncOpener`: as `Opener`; files are worked on in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from keyreeve.aio import streams as aio_streams
from keyreeve.aio.streams import AsyncReader, AsyncWriter
from keyreeve.aio.threads import in_loop
from keyreeve.calls import Call
from keyreeve.context import Context
from keyreeve.data_keys import UsableKey
from keyreeve.door import clean_async
from keyreeve.errors import DecryptFailed
from keyreeve.names import key_name
from keyreeve.sealed import header as headers
from keyreeve.sealed import streams
from keyreeve.sealed.header import Header, Identity, unopenable
from keyreeve.sealed.keys import AsyncFollow, Keyring, to_open, to_rewrap
from keyreeve.sealed.parts import AsyncOpened, AsyncParts
from keyreeve.sealed.payload import Opening
from keyreeve.sealed.reader import SealedReader
from keyreeve.sealing import BaseOpener, Expected, front, open_whole
from keyreeve.secret import SecretBytes

T = TypeVar("T")


class AsyncOpener(BaseOpener):
    """Opens what was sealed under one of `keys`. What is said of `Opener` holds."""

    def __init__(self, follow: AsyncFollow, ring: Keyring) -> None:
        super().__init__(ring)
        self._follow = follow

    @clean_async
    async def open(
        self,
        message: bytes,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> SecretBytes:
        """Opens a value."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        header = front(message)
        canonical = expected.context_of(header)
        key = await self._take(header, canonical, len(message))
        return SecretBytes(open_whole(message, header, expected, canonical, key))

    @clean_async
    async def open_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> None:
        """Opens a file into a new file, which only its owner can read, and which has its name only when it is whole."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        with open(source, "rb") as read:
            opening = await self._opening(read, expected, threaded=True)

            def work() -> None:
                with streams.created(Path(target)) as written:
                    streams.open_to(opening, read, written)

            await asyncio.to_thread(work)

    @clean_async
    async def open_stream(
        self,
        source: AsyncReader,
        target: AsyncWriter,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> None:
        """Opens a stream; each chunk is written after it verified. Only when this returns is the message known to be whole."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        header, prefix = await aio_streams.read_head(source)
        await aio_streams.open_to(await self._opened(header, prefix, expected), source, target)

    @clean_async
    async def open_chunks(
        self,
        parts: Iterable[bytes] | AsyncIterable[bytes],
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> AsyncIterator[bytes]:
        """`async for part in await opener.open_chunks(parts)`. The message is known to be whole only when the iterator has ended."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        source = AsyncParts(parts)
        header, prefix = await source.head()
        return AsyncOpened(await self._opened(header, prefix, expected), source)

    @clean_async
    async def reader(
        self,
        source: BinaryIO,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> SealedReader:
        """Random access to a sealed file that can seek. Reading is as blocking as `source` is; it asks the service for nothing."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        opening = await self._opening(source, expected)
        return SealedReader(opening, source, source.tell())

    @clean_async
    async def rewrap(
        self,
        message: bytes,
        to: str,
        *,
        keep: bool = False,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
    ) -> bytes:
        """The same message with its data key under `to`. This is no revocation: whoever had the data key still has it."""
        header = headers.parse(message)
        expected = Expected(context, required, accept_stored_context, aad, None)
        new = await self._rewrapped(header, expected, to, keep)
        return new.encode() + message[headers.length(message[:32]) :]

    @clean_async
    async def rewrap_file(
        self,
        path: str | os.PathLike[str],
        to: str,
        *,
        keep: bool = False,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
    ) -> None:
        """The same for a file, which is replaced when the new one is whole. Its mode stays; a symbolic link stays one, and is followed."""
        expected = Expected(context, required, accept_stored_context, aad, None)
        with open(path, "rb") as read:
            header = streams.read_header(read)
        new = await self._rewrapped(header, expected, to, keep)
        await asyncio.to_thread(streams.with_header, Path(path), header, new)

    async def _rewrapped(self, header: Header, expected: Expected, to: str, keep: bool) -> Header:
        return await self._ask(to_rewrap(self._ring, header, expected.context_of(header), key_name(to), keep))

    async def _opening(self, source: BinaryIO, expected: Expected, *, threaded: bool = False) -> Opening:
        header = streams.read_header(source)
        return await self._opened(header, streams.read_prefix(source), expected, threaded=threaded)

    async def _opened(self, header: Header, prefix: bytes, expected: Expected, *, threaded: bool = False) -> Opening:
        canonical = expected.context_of(header)
        key = await self._take(header, canonical, 0)
        return expected.opening(in_loop(key) if threaded else key, header, canonical, prefix)

    async def _take(self, header: Header, context: bytes, size: int) -> UsableKey:
        return await self._ask(to_open(self._ring, header, context, size))

    async def _ask(self, plan: Generator[Call[Any], Any, T]) -> T:
        try:
            return await self._follow(plan)
        except DecryptFailed as error:
            refused = unopenable(error.request_id)
        # As in `Opener`: one text.
        raise refused
