"""An answer without what is random or tells time, so that two services can be compared."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

# There or not; what it is differs by nature. Of attestation and status the double says that it is one.
_PRESENCE = {
    "id",
    "etag",
    "next_page_token",
    "kcv",
    "position",
    "iv_source",
    "master_key",
    "master_key_claims",
    "token_serial",
    "token_model",
    "at_birth",
    "in_use",
    "claims",
    "audit",
    "node",
}
_RANDOM = {"GenerateDataKeyResponse.plaintext", "GenerateRandomResponse.data", "UnwrapDataKeyResponse.plaintext"}
# Of the whole service, and not of what a test has done.
_LEFT_OUT = {"GetStatusResponse.version", "GetStatusResponse.environments", "GetStatusResponse.keys"} | {
    f"TokenStatus.{field}" for field in ("group", "serial", "model", "session_threads", "cached_handles")
}


def shape(message: Message) -> dict[str, Any]:
    """Field by field, every field, also those that have their default."""
    kind = message.DESCRIPTOR.name
    shown = {
        field.name: _value(kind, field, message)
        for field in message.DESCRIPTOR.fields
        if not field.name.endswith("_crc32c") and f"{kind}.{field.name}" not in _LEFT_OUT
    }
    if kind == "KeyVersion" and shown["destroy_time"]:
        version: Any = message
        wait = version.destroy_time.ToDatetime() - version.state_change_time.ToDatetime()
        shown["destroyed after"] = wait
    return shown


def _value(kind: str, field: Any, message: Any) -> Any:
    value = getattr(message, field.name)
    repeated = hasattr(value, "extend")
    if field.name in _PRESENCE or field.name.endswith("_time"):
        return bool(value) if repeated or not field.message_type else message.HasField(field.name)
    if f"{kind}.{field.name}" in _RANDOM:
        return len(value)
    if field.name == "ciphertext":
        return _envelope(value)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict(value)
    if repeated:
        return [shape(one) if isinstance(one, Message) else one for one in value]
    if isinstance(value, Message):
        return shape(value) if message.HasField(field.name) else None
    return value


def _envelope(data: bytes) -> Any:
    """Header without the key id, and the length."""
    return data[:8].hex(), data[24:32].hex(), len(data)
