"""What is no proper call at all: unknown methods, bytes that are no message, messages that are too large."""

from __future__ import annotations

import dataclasses

import pytest

from contract.sides import Both, Pair, compared
from keyreeve.methods import METHODS

UNARY = [name for name, method in METHODS.items() if not method.streams]
REFUSED_OF_NOTHING = {"ListEnvironments", "GetStatus", "WhoAmI"}


@pytest.mark.parametrize("name", UNARY)
def test_an_empty_request_is_refused_alike_by_every_call(both: Both, name: str) -> None:
    assert (both.raw(name, b"").reason == "OK") == (name in REFUSED_OF_NOTHING)


@pytest.mark.parametrize("name", UNARY)
def test_bytes_that_are_no_message_are_refused_by_every_call(both: Both, name: str) -> None:
    for raw in (b"\xff", b"\x0a\xff", b"\x0a\x02\xc3\x28"):
        refused = both.raw(name, raw)
        if name in ("GetStatus", "WhoAmI") and raw.startswith(b"\x0a"):
            continue  # a field that an empty message does not know
        assert refused.reason == "MALFORMED_MESSAGE" or name == "ListEnvironments"


def test_a_message_has_at_most_4_mib(both: Both) -> None:
    size = (4 << 20) - 5
    for length, reason in ((size, "INVALID_ARGUMENT"), (size + 1, "MESSAGE_TOO_LARGE")):
        field = b"\x12" + _varint(length)  # EncryptRequest.plaintext
        raw = field + bytes(length)
        assert (len(raw) > 4 << 20) == (reason == "MESSAGE_TOO_LARGE")
        assert both.raw("Encrypt", raw).reason == reason


@pytest.mark.parametrize("path", ["/keyreeve.v1.CryptoService/Sign", "/keyreeve.v2.CryptoService/Encrypt", "/a/b"])
def test_a_method_that_is_not_there_is_named(both: Both, path: str) -> None:
    method = dataclasses.replace(METHODS["Encrypt"], path=path)
    outcomes = [side.call(method, b"", "admin") for side in (both.double, both.service)]
    assert compared(Pair(*outcomes), path).reason == "UNIMPLEMENTED"


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
