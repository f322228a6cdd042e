"""Where the data key of a message comes from: the calls that sealing, opening and wrapping anew need, in their order.

These are generators: they yield a call, are sent its answer, and return what was wanted. So the sync and the async client share them, and
nothing in here waits.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve import calls, model
from keyreeve import context as contexts
from keyreeve.calls import Call
from keyreeve.context import Context
from keyreeve.data_keys import DataKeys, UsableKey, open_place, seal_place
from keyreeve.errors import ContextRefused, InternalError, InvalidArgument, NoKeyFits
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import ENVELOPE, Header, Wrapped

Plan = Generator[Call[Any], Any, UsableKey]


@dataclass(frozen=True)
class Keyring:
    """The named keys of a sealer or opener, and the client's cache."""

    names: tuple[str, ...]
    cache: DataKeys


def to_seal(ring: Keyring, identity: str, context: bytes, size: int) -> Plan:
    """A data key, wrapped under each named key: from the cache, or fresh."""
    place = seal_place(identity, ring.names, contexts.digest(context))
    cached = ring.cache.take(place, size)
    if cached:
        return cached
    sent = calls.pairs(contexts.parse(context))
    first, *others = ring.names
    made = yield calls.call("GenerateDataKey", calls.data_key, name=first, encryption_context=sent)
    wrapped = [made.ciphertext]
    for name in others:
        again = yield calls.call(
            "ReEncrypt",
            calls.ciphertext,
            source_name=first,
            ciphertext=made.ciphertext,
            source_encryption_context=sent,
            destination_name=name,
            destination_encryption_context=sent,
        )
        wrapped.append(again)
    for name, envelope in zip(ring.names, wrapped, strict=True):
        ring.cache.ids[name] = _envelope(envelope).key_id
    key = made.plaintext.reveal()
    about = _envelope(wrapped[0])
    ring.cache.put(place, key, tuple(wrapped), size, name=first, key_id=about.key_id, key_version=about.key_version)
    return UsableKey(bytearray(key), tuple(wrapped))


def to_open(ring: Keyring, identity: str, header: Header, context: bytes, size: int) -> Plan:
    """The message's data key: of the first wrapped key that is under a named key; no other goes to the service."""
    name, wrapped = yield from _matching(ring, header)
    place = open_place(identity, wrapped, contexts.digest(context))
    cached = ring.cache.take(place, size)
    if cached:
        return cached
    sent = calls.pairs(contexts.parse(context))
    opened = yield calls.call("UnwrapDataKey", calls.plaintext, name=name, ciphertext=wrapped, encryption_context=sent)
    key = opened.reveal()
    about = _envelope(wrapped)
    ring.cache.ids[name] = about.key_id
    ring.cache.put(place, key, (wrapped,), size, name=name, key_id=about.key_id, key_version=about.key_version)
    return UsableKey(bytearray(key), (wrapped,))


def to_rewrap(ring: Keyring, header: Header, context: bytes, to: str, keep: bool) -> Generator[Call[Any], Any, Header]:
    """The header with its data key wrapped under `to`: instead of the key that fits, or beside the keys that are there."""
    name, wrapped = yield from _matching(ring, header)
    sent = calls.pairs(contexts.parse(context))
    again = yield calls.call(
        "ReEncrypt",
        calls.ciphertext,
        source_name=name,
        ciphertext=wrapped,
        source_encryption_context=sent,
        destination_name=to,
        destination_encryption_context=sent,
    )
    new = Wrapped(ENVELOPE, _checked(again))
    others = header.wrapped if keep else tuple(w for w in header.wrapped if w.data != wrapped)
    return header.with_keys((*others, new))


def expected_context(
    header: Header, context: Context | None, required: Context | None, accept_stored: bool, aad: bytes
) -> bytes:
    """The canonical context that the message must have been sealed with, by what the caller said of it."""
    stored = header.stored_context
    if (context is not None) + (required is not None) + accept_stored > 1:
        raise InvalidArgument("give one of `context`, `required` and `accept_stored_context`")
    if accept_stored:
        if stored is None:
            return contexts.canonical(contexts.EMPTY, aad)
        required = contexts.EMPTY
    if required is not None:
        if stored is None:
            raise ContextRefused("the message stores no context: give the whole `context`")
        pairs = contexts.parse(stored)
        wanted = contexts.parse(contexts.canonical(required, aad))
        if any(pairs.get(key) != value for key, value in wanted.items()):
            raise ContextRefused("the stored context lacks a required pair, or has another value for it")
        return stored
    expected = contexts.canonical(context or contexts.EMPTY, aad)
    if stored is not None and stored != expected:
        raise ContextRefused("the message was sealed with another context than the expected one")
    return expected


def _matching(ring: Keyring, header: Header) -> Generator[Call[Any], Any, tuple[str, bytes]]:
    """The first wrapped key whose key id is that of a named key."""
    envelopes = []
    for wrapped in header.wrapped:
        about = headers.envelope(wrapped.data) if wrapped.kind == ENVELOPE else None
        if about and about.data_key:
            envelopes.append((about.key_id, wrapped.data))
    if not envelopes:
        raise NoKeyFits("the message has no wrapped data key that this version of the client can use")
    if len(envelopes) == 1 and len(ring.names) == 1 and ring.names[0] not in ring.cache.ids:
        # One of each: the service compares the ids itself, and one call is saved.
        return ring.names[0], envelopes[0][1]
    names = yield from _ids(ring)
    for key_id, wrapped_key in envelopes:
        if key_id in names:
            return names[key_id], wrapped_key
    raise NoKeyFits(f"no wrapped data key of the message is under {' or '.join(f'`{name}`' for name in ring.names)}")


def _ids(ring: Keyring) -> Generator[Call[Any], Any, dict[bytes, str]]:
    for name in ring.names:
        if name not in ring.cache.ids:
            found: model.Key = yield calls.call("GetKey", lambda answer: model.of(model.Key, answer.key), name=name)
            ring.cache.ids[name] = bytes.fromhex(found.id.replace("-", ""))
    return {ring.cache.ids[name]: name for name in ring.names}


def _checked(envelope: bytes) -> bytes:
    _envelope(envelope)
    return envelope


def _envelope(wrapped: bytes) -> headers.Envelope:
    about = headers.envelope(wrapped)
    if about is None or not about.data_key:
        raise InternalError("the service answered something that is no wrapped data key")
    return about


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
