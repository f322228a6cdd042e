"""One call before it is sent: method, request, and how its answer is read. Sync and async clients make their calls from these."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from keyreeve import checksum, status
from keyreeve import context as contexts
from keyreeve.context import Context
from keyreeve.errors import InvalidArgument, KeyreeveError, MalformedAnswer
from keyreeve.methods import METHODS, Method
from keyreeve.model import DataKey
from keyreeve.secret import Hidden, SecretBytes, plain

T = TypeVar("T")

Plaintext = bytes | bytearray | memoryview | SecretBytes
NEW = "new"
"""A fresh request_id for this call."""


@dataclass(frozen=True)
class Call(Generic[T]):
    method: Method
    request: Hidden[Any]
    read: Callable[[Any], T]
    repeatable: bool
    caller: Any = None
    """Of a plan: the client that makes it, where that is another than the one that follows the plan."""


def call(name: str, read: Callable[[Any], T], /, **fields: Any) -> Call[T]:
    """A call that may be tried again: a repeatable one, or a mutation with its `request_id` among the fields."""
    method = METHODS[name]
    request = build(method, fields)
    checksum.fill(request)
    return Call(method, Hidden(request), read, repeatable=not method.mutation or bool(fields.get("request_id")))


def mutation(name: str, read: Callable[[Any], T], request_id: str | None, /, **fields: Any) -> Call[T]:
    """A change. `request_id`: "new", the caller's UUID4, or None for none; without one it is never tried again."""
    named = str(uuid.uuid4()) if request_id == NEW else request_id or ""
    return call(name, read, request_id=named, **fields)


def build(method: Method, fields: dict[str, Any]) -> Any:
    try:
        return method.request(**fields)
    except (TypeError, ValueError):
        # The text of the original could show a value.
        problem = f"the arguments of {method.name} are not of the types that it takes"
    raise InvalidArgument(problem)


def pairs(context: Context, aad: bytes = b"") -> list[dict[str, str]]:
    """The context as it is sent; checked here, so that a mistake shows before anything leaves."""
    if context is contexts.EMPTY and not aad:
        return []
    contexts.canonical(context, aad)
    return [{"key": key, "value": value} for key, value in context.items()]


@dataclass(frozen=True)
class EncryptItem:
    """One item of a batch. A plain bytes value is an item without context."""

    plaintext: SecretBytes
    context: Context
    aad: bytes

    def __init__(self, plaintext: Plaintext, *, context: Context = contexts.EMPTY, aad: bytes = b"") -> None:
        object.__setattr__(self, "plaintext", SecretBytes(plaintext))
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "aad", aad)


@dataclass(frozen=True)
class DecryptItem:
    """One item of a batch. A plain bytes value is an item without context."""

    ciphertext: bytes
    context: Context = field(default_factory=dict)
    aad: bytes = b""


def encrypt_items(items: Iterable[EncryptItem | Plaintext]) -> list[dict[str, Any]]:
    whole = [item if isinstance(item, EncryptItem) else EncryptItem(plain(item)) for item in items]
    return [
        {
            "plaintext": item.plaintext.reveal(),
            "encryption_context": pairs(item.context, item.aad),
            "aad": item.aad,
        }
        for item in whole
    ]


def decrypt_items(items: Iterable[DecryptItem | bytes]) -> list[dict[str, Any]]:
    whole = [item if isinstance(item, DecryptItem) else DecryptItem(item) for item in items]
    return [
        {"ciphertext": item.ciphertext, "encryption_context": pairs(item.context, item.aad), "aad": item.aad}
        for item in whole
    ]


def context_items(items: Iterable[Context]) -> list[dict[str, Any]]:
    return [{"encryption_context": pairs(context)} for context in items]


def batch(read: Callable[[Any], T], wanted: int) -> Callable[[Any], list[T | KeyreeveError]]:
    """Reads a batch's answer: for each item its result, or the error that it alone would have had."""

    def read_all(answer: Any) -> list[T | KeyreeveError]:
        if len(answer.results) != wanted:
            raise MalformedAnswer(f"the service answered {len(answer.results)} of {wanted} items")
        return [
            read(result.success) if result.HasField("success") else status.from_item(result.error)
            for result in answer.results
        ]

    return read_all


def data_key(answer: Any) -> DataKey:
    return DataKey(
        plaintext=SecretBytes(answer.plaintext, name="data key"),
        ciphertext=answer.ciphertext,
        key_version=answer.key_version,
    )


def plaintext(answer: Any) -> SecretBytes:
    return SecretBytes(answer.plaintext)


def ciphertext(answer: Any) -> bytes:
    return bytes(answer.ciphertext)
