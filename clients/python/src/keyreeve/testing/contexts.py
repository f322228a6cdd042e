"""Encryption contexts as they come over the wire: judged pair by pair, as the service does, and hashed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keyreeve.context import AAD_BYTES, CANONICAL_BYTES, KEY_BYTES, PAIRS, VALUE_BYTES, canonical, digest
from keyreeve.testing.refusals import invalid

_FIELD, _AAD = "encryption_context", "kms:aad"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AAD_PAIR = 4 + len(_AAD) + 64


def context_hash(pairs: Iterable[Any], aad: bytes) -> bytes:
    """SHA-256 of the canonical bytes: what envelopes bind."""
    seen: dict[str, str] = {}
    for index, pair in enumerate(pairs):
        _check(index, pair.key, pair.value)
        if pair.key in seen:
            raise invalid(_FIELD, f"key `{pair.key}` of pair {index} occurs twice: give each key once")
        _check_room(seen)
        seen[pair.key] = pair.value
    if aad:
        if len(aad) > AAD_BYTES:
            raise invalid("aad", f"associated data has {len(aad)} bytes: at most {AAD_BYTES} are allowed")
        if _AAD in seen:
            raise invalid("aad", f"associated data is given twice: leave out the pair `{_AAD}`")
        _check_room(seen)
    length = 2 + sum(4 + len(key.encode()) + len(value.encode()) for key, value in seen.items())
    length += _AAD_PAIR if aad else 0
    if length > CANONICAL_BYTES:
        problem = f"encryption context has {length} bytes: at most {CANONICAL_BYTES} are allowed, lengths included"
        raise invalid(_FIELD, problem)
    return digest(canonical(seen, aad))


def size(pairs: Iterable[Any]) -> int:
    """Bytes that count toward the limit of a batch."""
    return sum(len(pair.key.encode()) + len(pair.value.encode()) for pair in pairs)


def _check_room(seen: dict[str, str]) -> None:
    if len(seen) == PAIRS:
        raise invalid(_FIELD, f"more than {PAIRS} pairs: use fewer")


def _check(index: int, key: str, value: str) -> None:
    key_bytes, value_bytes = len(key.encode()), len(value.encode())
    problem = None
    if not key:
        problem = f"key of pair {index} is empty: name it, or leave the pair out"
    elif key_bytes > KEY_BYTES:
        problem = f"key of pair {index} has {key_bytes} bytes: at most {KEY_BYTES} are allowed"
    elif key.startswith("kms:") and key != _AAD:
        problem = f"key `{key}` of pair {index} is reserved: choose one that does not start with `kms:`"
    elif key == _AAD and not _DIGEST.fullmatch(value):
        problem = f"value of pair {index} (`{_AAD}`) must be a SHA-256 digest in 64 lower-case hexadecimal digits"
    elif value_bytes > VALUE_BYTES:
        problem = f"value of pair {index} (`{key}`) has {value_bytes} bytes: at most {VALUE_BYTES} are allowed"
    if problem:
        raise invalid(_FIELD, problem)
