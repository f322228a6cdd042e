"""`Opener`: opens sealed messages locally (docs/formats.md, section 4)."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from keyreeve.calls import Call
from keyreeve.context import Context
from keyreeve.data_keys import UsableKey
from keyreeve.door import clean
from keyreeve.errors import DecryptFailed
from keyreeve.names import key_name
from keyreeve.sealed import header as headers
from keyreeve.sealed import streams
from keyreeve.sealed.header import Header, Identity, unopenable
from keyreeve.sealed.keys import Follow, Keyring, to_open, to_rewrap
from keyreeve.sealed.parts import Opened, Parts
from keyreeve.sealed.payload import Opening
from keyreeve.sealed.reader import SealedReader
from keyreeve.sealing import BaseOpener, Expected, front, open_whole
from keyreeve.secret import SecretBytes

T = TypeVar("T")


class Opener(BaseOpener):
    """Opens what was sealed under one of `keys`. Safe for any number of threads.

    Say what you expect, or whoever replaces the message chooses it: the whole `context` (none given: the empty one), or `required`, a
    part of the stored one, or `accept_stored_context=True`. `expect` pins the message itself: its id, or the `Identity` that sealing
    returned.
    """

    def __init__(self, follow: Follow, ring: Keyring) -> None:
        super().__init__(ring)
        self._follow = follow

    @clean
    def open(
        self,
        message: bytes,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> SecretBytes:
        """Opens a value. Raises DecryptFailed for whatever is wrong with it, UnexpectedMessage, or what the service says."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        header = front(message)
        canonical = expected.context_of(header)
        key = self._take(header, canonical, len(message))
        return SecretBytes(open_whole(message, header, expected, canonical, key))

    @clean
    def open_file(
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
            opening = self._opening(read, expected)
            with streams.created(Path(target)) as written:
                streams.open_to(opening, read, written)

    @clean
    def open_stream(
        self,
        source: BinaryIO,
        target: BinaryIO,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> None:
        """Opens a stream; each chunk is written after it verified. Only when this returns is the message known to be whole."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        streams.open_to(self._opening(source, expected), source, target)

    @clean
    def open_chunks(
        self,
        parts: Iterable[bytes],
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> Iterator[bytes]:
        """Opens parts of any size as they come. The message is known to be whole only when the iterator has ended."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        source = Parts(parts)
        header, prefix = source.head()
        return Opened(self._opened(header, prefix, expected), source)

    @clean
    def reader(
        self,
        source: BinaryIO,
        *,
        context: Context | None = None,
        required: Context | None = None,
        accept_stored_context: bool = False,
        aad: bytes = b"",
        expect: Identity | bytes | None = None,
    ) -> SealedReader:
        """Random access to a sealed file that can seek; the message begins where `source` stands."""
        expected = Expected(context, required, accept_stored_context, aad, expect)
        opening = self._opening(source, expected)
        return SealedReader(opening, source, source.tell())

    @clean
    def rewrap(
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
        """The same message with its data key under `to` alone (`keep`: and under the keys that are there); the payload stays.

        This is no revocation: whoever had the data key still has it.
        """
        header = headers.parse(message)
        expected = Expected(context, required, accept_stored_context, aad, None)
        new = self._rewrapped(header, expected, to, keep)
        return new.encode() + message[headers.length(message[:32]) :]

    @clean
    def rewrap_file(
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
        streams.with_header(Path(path), header, self._rewrapped(header, expected, to, keep))

    def _rewrapped(self, header: Header, expected: Expected, to: str, keep: bool) -> Header:
        return self._ask(to_rewrap(self._ring, header, expected.context_of(header), key_name(to), keep))

    def _opening(self, source: BinaryIO, expected: Expected) -> Opening:
        header = streams.read_header(source)
        return self._opened(header, streams.read_prefix(source), expected)

    def _opened(self, header: Header, prefix: bytes, expected: Expected) -> Opening:
        canonical = expected.context_of(header)
        return expected.opening(self._take(header, canonical, 0), header, canonical, prefix)

    def _take(self, header: Header, context: bytes, size: int) -> UsableKey:
        return self._ask(to_open(self._ring, header, context, size))

    def _ask(self, plan: Generator[Call[Any], Any, T]) -> T:
        try:
            return self._follow(plan)
        except DecryptFailed as error:
            refused = unopenable(error.request_id)
        # What the service says of a wrapped key is said like everything else that is wrong with a message.
        raise refused
