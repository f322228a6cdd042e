"""`Sealer`: seals data of any size locally, under data keys of the service (docs/formats.md, section 4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from keyreeve.calls import Plaintext
from keyreeve.context import EMPTY, Context
from keyreeve.data_keys import UsableKey
from keyreeve.door import clean
from keyreeve.sealed import parts as parts_of
from keyreeve.sealed import streams
from keyreeve.sealed.header import Identity
from keyreeve.sealed.keys import Follow, Keyring, to_seal
from keyreeve.sealing import BaseSealer, Message
from keyreeve.secret import plain


class Sealer(BaseSealer):
    """Seals under `key`; `also`: further keys that each can open the message alone. Safe for any number of threads.

    Each message takes a data key from the service, unless the client keeps them (`Client(data_key_cache=True)`). The same context is needed
    to open; it is stored in the message, for everybody to see, only if `store_context` says so.
    """

    def __init__(self, follow: Follow, ring: Keyring) -> None:
        super().__init__(ring)
        self._follow = follow

    @clean
    def seal(
        self, plaintext: Plaintext, *, context: Context = EMPTY, aad: bytes = b"", store_context: bool = False
    ) -> bytes:
        """Seals a value. Raises what `generate_data_key` does."""
        data = plain(plaintext)
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, self._take(message, len(data)))
        return sealing.whole(data)

    @clean
    def seal_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        store_context: bool = False,
    ) -> Identity:
        """Seals a file. `target` takes its name only when it is whole. Returns what tells this message from any other."""
        with open(source, "rb") as read, streams.replaced(Path(target)) as written:
            return self._stream(read, written, self._message(context, aad, store_context))

    @clean
    def seal_stream(
        self,
        source: BinaryIO,
        target: BinaryIO,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        store_context: bool = False,
    ) -> Identity:
        """Seals what `source` holds from where it stands, into `target`."""
        return self._stream(source, target, self._message(context, aad, store_context))

    @clean
    def seal_chunks(
        self, parts: Iterable[bytes], *, context: Context = EMPTY, aad: bytes = b"", store_context: bool = False
    ) -> Iterator[bytes]:
        """Seals parts of any size as they come. The data key is there when this returns; then nothing waits for the service."""
        message = self._message(context, aad, store_context)
        sealing = self._sealing(message, self._take(message, 0))
        return parts_of.Sealed(sealing, parts)

    def _take(self, message: Message, size: int) -> UsableKey:
        return self._follow(to_seal(self._ring, message.context, size))

    def _stream(self, source: BinaryIO, target: BinaryIO, message: Message) -> Identity:
        sealing = self._sealing(message, self._take(message, 0))
        streams.seal(sealing, source, target)
        return sealing.identity
