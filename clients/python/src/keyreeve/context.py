"""The encryption context: pairs of text that are bound to a ciphertext, and given again to open it. Not secret.

Canonical bytes: docs/formats.md, section 2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from keyreeve.errors import InvalidArgument

Context: TypeAlias = Mapping[str, str]
EMPTY: Context = MappingProxyType({})

KEY_BYTES, VALUE_BYTES, PAIRS, CANONICAL_BYTES, AAD_BYTES = 128, 1024, 32, 8192, 65536
_AAD_KEY = "kms:aad"
_AAD_VALUE = re.compile(r"[0-9a-f]{64}")


def canonical(context: Context | Iterable[tuple[str, str]], aad: bytes = b"") -> bytes:
    """The bytes that are bound. `aad`: raw associated data, enters as the pair `kms:aad` with its SHA-256."""
    pairs = list(context.items() if isinstance(context, Mapping) else context)
    if len(aad) > AAD_BYTES:
        raise InvalidArgument(f"`aad` has more than {AAD_BYTES} bytes")
    if aad:
        if any(key == _AAD_KEY for key, _ in pairs):
            raise InvalidArgument(f"the context has a pair `{_AAD_KEY}` beside raw associated data")
        pairs.append((_AAD_KEY, hashlib.sha256(aad).hexdigest()))
    encoded = sorted(_checked(key, value) for key, value in pairs)
    if len(encoded) > PAIRS:
        raise InvalidArgument(f"the context has more than {PAIRS} pairs")
    if len({key for key, _ in encoded}) < len(encoded):
        raise InvalidArgument("the context has a key twice")
    out = len(encoded).to_bytes(2, "big") + b"".join(lv(key) + lv(value) for key, value in encoded)
    if len(out) > CANONICAL_BYTES:
        raise InvalidArgument(f"the context has more than {CANONICAL_BYTES} bytes")
    return out


def parse(stored: bytes) -> dict[str, str]:
    """The pairs of canonical bytes. Anything that would not encode to the same bytes is an `InvalidArgument`."""
    pairs: list[tuple[str, str]] = []
    at = 2
    for _ in range(int.from_bytes(stored[:2], "big")):
        texts = []
        for _ in range(2):
            length = int.from_bytes(stored[at : at + 2], "big")
            texts.append(stored[at + 2 : at + 2 + length])
            at += 2 + length
        try:
            pairs.append((texts[0].decode(), texts[1].decode()))
        except UnicodeDecodeError:
            raise InvalidArgument("the stored context is not UTF-8") from None
        if at > len(stored):
            break
    if canonical(pairs) != stored:
        raise InvalidArgument("the stored context is not in its canonical form")
    return dict(pairs)


def digest(canonical_bytes: bytes) -> bytes:
    """SHA-256, as ciphertexts bind it."""
    return hashlib.sha256(canonical_bytes).digest()


def lv(data: bytes) -> bytes:
    """u16 length, then the bytes."""
    return len(data).to_bytes(2, "big") + data


def _checked(key: str, value: str) -> tuple[bytes, bytes]:
    try:
        raw_key, raw_value = key.encode(), value.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidArgument("keys and values of a context are text that UTF-8 can encode") from None
    if not 1 <= len(raw_key) <= KEY_BYTES:
        raise InvalidArgument(f"a key of the context has {len(raw_key)} bytes: 1 to {KEY_BYTES} are allowed")
    if len(raw_value) > VALUE_BYTES:
        raise InvalidArgument(f"the context's value of `{key}` has more than {VALUE_BYTES} bytes")
    if key.startswith("kms:") and not (key == _AAD_KEY and _AAD_VALUE.fullmatch(value)):
        raise InvalidArgument(f"`{key}` is reserved: keys of a context do not start with `kms:`")
    return raw_key, raw_value
