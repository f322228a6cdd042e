"""`AsyncSealer`: as `Sealer`; files are worked on in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path

from keyreeve.aio import streams as aio_streams
from keyreeve.aio.streams import AsyncReader, AsyncWriter
from keyreeve.aio.threads import in_loop
from keyreeve.calls import Plaintext
from keyreeve.context import EMPTY, Context
from keyreeve.data_keys import UsableKey
from keyreeve.door import clean_async
from keyreeve.sealed import parts as parts_of
from keyreeve.sealed import streams
from keyreeve.sealed.header import Identity
from keyreeve.sealed.keys import AsyncFollow, Keyring, to_seal
from keyreeve.sealing import BaseSealer, Message
from keyreeve.secret import plain


class AsyncSealer(BaseSealer):
    """Seals under `key`; `also`: further keys that each can open the message alone. What is said of `Sealer` holds."""

    def __init__(self, follow: AsyncFollow, ring: Keyring) -> None:
        super().__init__(ring)
        self._follow = follow

    @clean_async
    async def seal(
        self, plaintext: Plaintext, *, context: Context = EMPTY, aad: bytes = b"", store_context: bool = False
    ) -> bytes:
        """Seals a value."""
        data = plain(plaintext)
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, await self._take(message, len(data)))
        return sealing.whole(data)

    @clean_async
    async def seal_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        store_context: bool = False,
    ) -> Identity:
        """Seals a file. `target` takes its name only when it is whole."""
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, in_loop(await self._take(message, 0)))

        def work() -> None:
            with open(source, "rb") as read, streams.replaced(Path(target)) as written:
                streams.seal(sealing, read, written)

        await asyncio.to_thread(work)
        return sealing.identity

    @clean_async
    async def seal_stream(
        self,
        source: AsyncReader,
        target: AsyncWriter,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        store_context: bool = False,
    ) -> Identity:
        """Seals what `source` holds from where it stands, into `target`: streams of asyncio, or others whose `read` is awaited."""
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, await self._take(message, 0))
        await aio_streams.seal(sealing, source, target)
        return sealing.identity

    @clean_async
    async def seal_chunks(
        self,
        parts: Iterable[bytes] | AsyncIterable[bytes],
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        store_context: bool = False,
    ) -> AsyncIterator[bytes]:
        """`async for part in await sealer.seal_chunks(parts)`: seals parts of any size as they come."""
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, await self._take(message, 0))
        return parts_of.AsyncSealed(sealing, parts)

    async def _take(self, message: Message, size: int) -> UsableKey:
        return await self._follow(to_seal(self._ring, message.context, size))
