"""Where the data key of a message comes from: the calls that sealing, opening and wrapping anew need, in their order.

These are generators: they yield a call, are sent its answer, and return what was wanted. So the sync and the async client share them, and
nothing in here waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from keyreeve import calls, model
from keyreeve import context as contexts
from keyreeve.calls import Call
from keyreeve.context import Context
from keyreeve.data_keys import DataKeys, UsableKey, open_place, seal_place
from keyreeve.errors import InvalidArgument, MalformedAnswer
from keyreeve.model import Key
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import ENVELOPE, Header, Wrapped
from keyreeve.secret import SecretBytes

T = TypeVar("T")

KEY_BYTES = 32
Plan = Generator[Call[Any], Any, UsableKey]


class Follow(Protocol):
    """Makes the calls that a plan yields: what sealers and openers need of a client."""

    def __call__(self, plan: Generator[Call[Any], Any, T], /) -> T: ...


class AsyncFollow(Protocol):
    def __call__(self, plan: Generator[Call[Any], Any, T], /) -> Awaitable[T]: ...


@dataclass(frozen=True)
class Elsewhere:
    """A key of another service: its name there, the client that calls there, and as whom."""

    name: str
    caller: Any
    identity: Callable[[], str]


@dataclass(frozen=True)
class Keyring:
    """The named keys of a sealer or opener, and what it has of its client: the cache, and as whom it calls at the moment."""

    names: tuple[str, ...]
    cache: DataKeys
    identity: Callable[[], str]
    elsewhere: tuple[Elsewhere, ...] = ()


def to_seal(ring: Keyring, context: bytes, size: int) -> Plan:
    """A data key, wrapped under each named key: from the cache, or fresh."""
    others_there = (f"{other.name} for {other.identity()}" for other in ring.elsewhere)
    place = seal_place(ring.identity(), (*ring.names, *others_there), contexts.digest(context))
    cached = ring.cache.take(place, size)
    if cached:
        return cached
    sent = calls.pairs(contexts.parse(context))
    first, *others = ring.names
    mark = ring.cache.mark(ring.names)
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
    about = dict(zip(ring.names, map(_envelope, wrapped), strict=True))
    for other in ring.elsewhere:
        there = calls.call(
            "WrapDataKey",
            calls.ciphertext,
            name=other.name,
            plaintext=made.plaintext.reveal(),
            encryption_context=sent,
        )
        wrapped.append((yield replace(there, caller=other.caller)))
    ring.cache.ids.update({name: envelope.key_id for name, envelope in about.items()})
    return ring.cache.put(place, _checked(made.plaintext), tuple(wrapped), size, of=about, mark=mark)


def to_open(ring: Keyring, header: Header, context: bytes, size: int) -> Plan:
    """The message's data key: of the first wrapped key that is under a named key; no other goes to the service."""
    name, wrapped = yield from _matching(ring, header)
    place = open_place(ring.identity(), wrapped, contexts.digest(context))
    cached = ring.cache.take(place, size)
    if cached:
        return cached
    sent = calls.pairs(contexts.parse(context))
    mark = ring.cache.mark((name,))
    opened = yield calls.call("UnwrapDataKey", calls.plaintext, name=name, ciphertext=wrapped, encryption_context=sent)
    about = _envelope(wrapped)
    ring.cache.ids[name] = about.key_id
    return ring.cache.put(place, _checked(opened), (wrapped,), size, of={name: about}, mark=mark)


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
    new = Wrapped(ENVELOPE, again)
    others = [key for key in header.wrapped if keep and _key_id(key) != _envelope(again).key_id]
    return header.with_keys((*others, new))


def expected_context(
    header: Header, context: Context | None, required: Context | None, accept_stored: bool, aad: bytes
) -> bytes:
    """The canonical context that the message must have been sealed with, by what the caller said of it."""
    stored = header.stored_context
    if (context is not None) + (required is not None) + accept_stored > 1:
        raise InvalidArgument("give one of `context`, `required` and `accept_stored_context`")
    if required is None and not accept_stored:
        expected = contexts.canonical(context or contexts.EMPTY, aad)
        if stored is not None and stored != expected:
            raise headers.unopenable()
        return expected
    wanted = contexts.parse(contexts.canonical(required or contexts.EMPTY, aad))
    if stored is None or not wanted.items() <= contexts.parse(stored).items():
        raise headers.unopenable()
    return stored


def _matching(ring: Keyring, header: Header) -> Generator[Call[Any], Any, tuple[str, bytes]]:
    """The first wrapped key whose key id is that of a named key."""
    names = yield from _ids(ring)
    for wrapped in header.wrapped:
        key_id = _key_id(wrapped)
        if key_id in names:
            return names[key_id], wrapped.data
    raise headers.unopenable()


def _ids(ring: Keyring) -> Generator[Call[Any], Any, dict[bytes | None, str]]:
    """Key ids never change, so each is asked once for a client, unless the caller told it."""
    for name in ring.names:
        if name not in ring.cache.ids:
            found: Key = yield calls.call("GetKey", lambda answer: model.of(Key, answer.key), name=name)
            ring.cache.learn(found)
    return {ring.cache.ids[name]: name for name in ring.names}


def _key_id(wrapped: Wrapped) -> bytes | None:
    about = headers.envelope(wrapped.data) if wrapped.kind == ENVELOPE else None
    return about.key_id if about else None


def _checked(data_key: SecretBytes) -> bytes:
    key = data_key.reveal()
    if len(key) != KEY_BYTES:
        raise MalformedAnswer(f"a data key has {KEY_BYTES} bytes, and the service answered another number")
    return key


def _envelope(wrapped: bytes) -> headers.Envelope:
    about = headers.envelope(wrapped)
    if about is None:
        raise MalformedAnswer("the service answered something that is no wrapped data key")
    return about
