"""What sync and async sealers and openers share: their settings, and the parts of a message before and after its data key is there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from keyreeve import context as contexts
from keyreeve.context import Context
from keyreeve.data_keys import UsableKey
from keyreeve.errors import InvalidArgument, UnexpectedMessage
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import ENVELOPE, FIXED, PREFIX, Header, Identity, Wrapped
from keyreeve.sealed.keys import Keyring, expected_context
from keyreeve.sealed.payload import Opening, Sealing


@dataclass(frozen=True)
class Message:
    """A message that is about to be sealed."""

    context: bytes
    stored: bytes | None

    def header(self, key: UsableKey, message_id: bytes | None = None) -> Header:
        wrapped = tuple(Wrapped(ENVELOPE, envelope) for envelope in key.wrapped)
        return Header(os.urandom(16) if message_id is None else message_id, self.stored, wrapped)


class BaseSealer:
    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def _message(self, context: Context, aad: bytes, store_context: bool) -> Message:
        canonical = contexts.canonical(context, aad)
        return Message(canonical, canonical if store_context else None)

    def _sealing(self, message: Message, key: UsableKey) -> Sealing:
        sealing = Sealing(key.key, message.header(key), message.context, count=key.count)
        key.wipe()
        return sealing


@dataclass(frozen=True)
class Expected:
    """What the caller said of a message that is about to be opened."""

    context: Context | None
    required: Context | None
    accept_stored_context: bool
    aad: bytes
    identity: Identity | bytes | None

    def context_of(self, header: Header) -> bytes:
        """The context to open it with; refused before any call is made."""
        wanted = self.identity.message_id if isinstance(self.identity, Identity) else self.identity
        if wanted is not None and wanted != header.message_id:
            raise UnexpectedMessage("the message has another id than the expected one")
        return expected_context(header, self.context, self.required, self.accept_stored_context, self.aad)

    def opening(self, key: UsableKey, header: Header, context: bytes, prefix: bytes) -> Opening:
        opening = Opening(key.key, header, context, prefix, count=key.count)
        key.wipe()
        if isinstance(self.identity, Identity) and self.identity.commitment != opening.commitment:
            raise UnexpectedMessage("the message has the expected id and another commitment: it is another message")
        return opening


class BaseOpener:
    def __init__(self, ring: Keyring) -> None:
        if not ring.names:
            raise InvalidArgument("an opener needs the name of at least one key")
        self._ring = ring


@dataclass(frozen=True)
class SealedInfo:
    """What a sealed message tells everybody. None of it is proved before the message is opened."""

    identity: Identity
    context: dict[str, str] | None
    """The stored context; None if none is stored."""
    key_ids: tuple[str, ...]
    """Of the keys that its data key is wrapped under."""
    header_length: int


def inspect(message: bytes) -> SealedInfo:
    """Reads the header of a sealed message; its first 64 KiB and 56 bytes are enough. What is none is DecryptFailed."""
    header = headers.parse(message)
    end = headers.length(message[:32])
    envelopes = [headers.envelope(wrapped.data) for wrapped in header.wrapped if wrapped.kind == ENVELOPE]
    ids = (about.key_id.hex() for about in envelopes if about)
    return SealedInfo(
        identity=Identity(header.message_id, bytes(message[end + 24 : end + PREFIX])),
        context=None if header.stored_context is None else contexts.parse(header.stored_context),
        key_ids=tuple(f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}" for i in ids),
        header_length=end,
    )


def front(message: bytes) -> Header:
    """The header of a message in memory. What ends before its first chunk is refused here: no call is made for it."""
    header = headers.parse(message)
    if len(message) < headers.length(message[:FIXED]) + PREFIX:
        raise headers.unopenable()
    return header


def open_whole(message: bytes, header: Header, expected: Expected, context: bytes, key: UsableKey) -> bytes:
    payload = memoryview(message)[headers.length(message[:32]) :]
    opening = expected.opening(key, header, context, bytes(payload[:PREFIX]))
    return opening.whole(payload[PREFIX:])
