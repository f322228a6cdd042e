"""Batches: up to 1,000 items or 1 MiB under one key, a result for each. What would fail every item alike fails the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from keyreeve.testing import contexts, crypto_service, inputs, resource_names
from keyreeve.testing.answers import item_error
from keyreeve.testing.callers import Caller
from keyreeve.testing.contexts import context_hash
from keyreeve.testing.crypto_service import ENCRYPT, GENERATE
from keyreeve.testing.gate import Gate
from keyreeve.testing.refusals import Refusal, invalid
from keyreeve.v1 import crypto_pb2 as proto

T = TypeVar("T")
_MOST_ITEMS, _MOST_BYTES = 1000, 1 << 20


class Batches:
    """Those calls of CryptoService that take several items."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def batch_encrypt(self, caller: Caller, request: Any) -> Message:
        name, items = _parsed(request, "plaintext", _message)
        key = self.gate.key(caller, "Encrypt", name)
        version = key.protecting(ENCRYPT)
        results = _each(items, lambda item: crypto_service.encrypted(key, version, *item))
        return _answer(proto.BatchEncryptResponse, results)

    def batch_decrypt(self, caller: Caller, request: Any) -> Message:
        name, items = _parsed(request, "ciphertext", _opening)
        key = self.gate.key(caller, "Decrypt", name)
        return _answer(proto.BatchDecryptResponse, _each(items, lambda item: crypto_service.decrypted(key, *item)))

    def batch_generate_data_key(self, caller: Caller, request: Any) -> Message:
        name, items = _parsed(request, None, lambda item: context_hash(item.encryption_context, item.aad))
        key = self.gate.key(caller, "GenerateDataKey", name)
        version = key.protecting(GENERATE)
        results = _each(items, lambda bound: crypto_service.data_key(key, version, bound))
        return _answer(proto.BatchGenerateDataKeyResponse, results)

    def batch_unwrap_data_key(self, caller: Caller, request: Any) -> Message:
        name, items = _parsed(request, "ciphertext", _opening)
        key = self.gate.key(caller, "UnwrapDataKey", name)
        return _answer(
            proto.BatchUnwrapDataKeyResponse, _each(items, lambda item: crypto_service.unwrapped(key, *item))
        )


def _message(item: Any) -> tuple[bytes, bytes]:
    return context_hash(item.encryption_context, item.aad), inputs.plaintext(item)


def _opening(item: Any) -> tuple[bytes, bytes]:
    return context_hash(item.encryption_context, item.aad), inputs.ciphertext(item)


def _parsed(request: Any, payload: str | None, parse: Callable[[Any], T]) -> tuple[str, list[T | Refusal]]:
    """The key's name and the items: each as it is needed, or what is wrong with it."""
    name = resource_names.key("name", request.name)
    if not request.items:
        raise invalid("items", f"there are none: send 1 to {_MOST_ITEMS}")
    if len(request.items) > _MOST_ITEMS:
        raise invalid("items", f"there are {len(request.items)}: at most {_MOST_ITEMS} are allowed in a batch")
    total = sum(
        contexts.size(item.encryption_context) + len(item.aad) + (len(getattr(item, payload)) if payload else 0)
        for item in request.items
    )
    if total > _MOST_BYTES:
        raise invalid("items", f"they have {total} bytes: at most {_MOST_BYTES} are allowed in a batch")
    return name, _each(list(request.items), parse)


def _each(items: list[Any], work: Callable[[Any], T]) -> list[T | Refusal]:
    """A refused item is passed on as it is."""

    def worked(item: Any) -> T | Refusal:
        if isinstance(item, Refusal):
            return item
        try:
            return work(item)
        except Refusal as refusal:
            return refusal

    return [worked(item) for item in items]


def _answer(kind: Any, results: list[Any]) -> Message:
    shown = [
        kind.Result(error=item_error(result)) if isinstance(result, Refusal) else kind.Result(success=result)
        for result in results
    ]
    answer: Message = kind(results=shown)
    return answer
