"""What requests hold beside names and contexts: payloads with their checksums, and texts. Judged as the service does."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Mapping
from typing import Any

from keyreeve.checksum import crc32c
from keyreeve.testing.refusals import checksum_mismatch, invalid

MOST_PLAINTEXT, MOST_CIPHERTEXT = 65_536, 65_660
_REASON, _OWNER, _LABELS, _LABEL = 1024, 256, 32, 128
_HEX = r"[0-9a-fA-F]"
_HYPHENATED = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_UUID = re.compile(rf"{_HEX}{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}|urn:uuid:{_HYPHENATED}")


def plaintext(message: Any) -> bytes:
    return _payload(message, "plaintext", MOST_PLAINTEXT)


def ciphertext(message: Any) -> bytes:
    return _payload(message, "ciphertext", MOST_CIPHERTEXT)


def request_id(text: str) -> str:
    """A UUID of version 4, in its usual form; empty for none."""
    if not text:
        return ""
    found = uuid.UUID(text) if _UUID.fullmatch(text) else None
    if found is None or found.bytes[6] >> 4 != 4:
        raise invalid("request_id", "it is not a UUID of version 4: make one for each request")
    return str(found)


def reason(text: str) -> str:
    return _text("reason", text, 0, _REASON)


def owner(text: str) -> str:
    return _text("owner", text, 0, _OWNER)


def labels(given: Mapping[str, str]) -> dict[str, str]:
    checked = {
        _text("labels", key, 1, _LABEL): _text("labels", value, 1, _LABEL) for key, value in sorted(given.items())
    }
    if len(checked) > _LABELS:
        raise invalid("labels", f"there are {len(checked)}: at most {_LABELS} are allowed")
    return checked


def _payload(message: Any, field: str, most: int) -> bytes:
    payload = bytes(getattr(message, field))
    if len(payload) > most:
        problem = f"it has {len(payload)} bytes, at most {most} are allowed: seal larger data with a data key"
        raise invalid(field, problem)
    sum_field = f"{field}_crc32c"
    if message.HasField(sum_field) and getattr(message, sum_field) != crc32c(payload):
        raise checksum_mismatch(field)
    return payload


def _text(field: str, text: str, least: int, most: int) -> str:
    length = len(text.encode())
    if not least <= length <= most:
        raise invalid(field, f"a text of {length} bytes: {least} to {most} are allowed")
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise invalid(field, "it has a control character: leave it out")
    return text
