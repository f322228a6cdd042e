"""Encrypt, Decrypt, ReEncrypt: payloads, limits, checksums, and the one DECRYPT_FAILED."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both, Pair, pairs

CONTEXT = pairs({"table": "orders", "row": "7"})
TOKEN_GCM, TOKEN_RESIDENT = 1, 2


def test_a_message_is_opened_with_its_context_and_no_other(both: Both, key: str) -> None:
    sealed = both.call("Encrypt", name=key, plaintext=b"hello", encryption_context=CONTEXT, aad=b"more")["ciphertext"]
    opened = both.call("Decrypt", name=key, ciphertext=sealed, encryption_context=CONTEXT[::-1], aad=b"more")
    assert opened["plaintext"] == (b"hello", b"hello")
    others: list[dict[str, Any]] = [{}, {"encryption_context": CONTEXT}, {"aad": b"more"}]
    for wrong in others:
        assert both.call("Decrypt", name=key, ciphertext=sealed, **wrong).reason == "DECRYPT_FAILED"


@pytest.mark.parametrize("suite", [0, 1, 2])
@pytest.mark.parametrize("residency", [0, 1, 2])
def test_every_kind_of_key_seals_up_to_its_limit(
    both: Both, new_key: Callable[..., str], suite: int, residency: int
) -> None:
    name = new_key(suite=suite, residency=residency)
    most = 8192 if suite == TOKEN_GCM else 65_536
    for length in (0, 1, most):
        sealed = both.call("Encrypt", name=name, plaintext=b"x" * length)["ciphertext"]
        assert both.call("Decrypt", name=name, ciphertext=sealed)["plaintext"].service == b"x" * length
    for length in (most + 1, 65_537):
        refused = both.call("Encrypt", name=name, plaintext=b"x" * length)
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["plaintext"])


def test_whatever_is_wrong_with_a_ciphertext_is_one_error(both: Both, new_key: Callable[..., str]) -> None:
    key, other, gcm = new_key(), new_key(), new_key(suite=TOKEN_GCM)
    sealed = both.call("Encrypt", name=key, plaintext=b"hello")["ciphertext"]
    for offset in range(len(sealed.service)):
        changed = Pair(*(_flipped(one, offset) for one in sealed))
        assert both.call("Decrypt", name=key, ciphertext=changed).reason == "DECRYPT_FAILED", offset
    for length in (0, 4, 31, 32, 100, len(sealed.service) - 1):
        cut = Pair(*(one[:length] for one in sealed))
        assert both.call("Decrypt", name=key, ciphertext=cut).reason == "DECRYPT_FAILED", length
    as_gcm = Pair(*(one[:7] + b"\x01" + one[8:] for one in sealed))
    assert both.call("Decrypt", name=key, ciphertext=as_gcm).reason == "DECRYPT_FAILED"
    longer = Pair(*(one + b"\0" for one in sealed))
    for name, ciphertext in [(key, longer), (other, sealed), (gcm, sealed), (key, b""), (key, b"x" * 65_660)]:
        assert both.call("Decrypt", name=name, ciphertext=ciphertext).reason == "DECRYPT_FAILED"
    too_long = both.call("Decrypt", name=key, ciphertext=b"x" * 65_661)
    assert (too_long.reason, too_long.fields) == ("INVALID_ARGUMENT", ["ciphertext"])


def test_a_ciphertext_under_suite_0001_is_checked_as_a_whole_too(both: Both, new_key: Callable[..., str]) -> None:
    key = new_key(suite=TOKEN_GCM)
    sealed = both.call("Encrypt", name=key, plaintext=b"hello", encryption_context=CONTEXT)["ciphertext"]
    for offset in range(len(sealed.service)):
        changed = Pair(*(_flipped(one, offset) for one in sealed))
        refused = both.call("Decrypt", name=key, ciphertext=changed, encryption_context=CONTEXT)
        assert refused.reason == "DECRYPT_FAILED", offset


def test_reencryption_changes_key_version_and_context(both: Both, new_key: Callable[..., str]) -> None:
    key, other, gcm = new_key(), new_key(), new_key(suite=TOKEN_GCM)
    sealed = both.call("Encrypt", name=key, plaintext=b"hello", encryption_context=CONTEXT)["ciphertext"]
    both.call("RotateKey", name=key)
    source = {"source_name": key, "ciphertext": sealed, "source_encryption_context": CONTEXT}
    newer = both.call("ReEncrypt", **source)
    assert (newer["source_key_version"].service, newer["key_version"].service) == (1, 2)
    assert both.call("Decrypt", name=key, ciphertext=newer["ciphertext"])["plaintext"].double == b"hello"
    for destination in (other, gcm):
        context = {"destination_encryption_context": pairs({"a": "b"}), "destination_aad": b"c"}
        moved = both.call("ReEncrypt", **source, **context, destination_name=destination)["ciphertext"]
        opened = both.call(
            "Decrypt", name=destination, ciphertext=moved, encryption_context=pairs({"a": "b"}), aad=b"c"
        )
        assert opened["plaintext"].double == b"hello"
    mistakes: list[dict[str, Any]] = [{"source_name": other}, {"source_encryption_context": []}, {"source_aad": b"x"}]
    for wrong in mistakes:
        assert both.call("ReEncrypt", **(source | wrong)).reason == "DECRYPT_FAILED"
    large = both.call("Encrypt", name=key, plaintext=b"x" * 9000)["ciphertext"]
    refused = both.call("ReEncrypt", source_name=key, ciphertext=large, destination_name=gcm)
    assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["plaintext"])


def test_checksums_are_checked_where_they_are_given(both: Both, key: str) -> None:
    unchecked = both.call("Encrypt", name=key, plaintext=b"hello", checksums=False)["ciphertext"]
    assert both.call("Decrypt", name=key, ciphertext=unchecked, checksums=False).reason == "OK"
    refused = both.call("Encrypt", name=key, plaintext=b"hello", plaintext_crc32c=1, checksums=False)
    assert (refused.reason, refused.fields) == ("CHECKSUM_MISMATCH", ["plaintext"])
    for method, field in (("Decrypt", "name"), ("UnwrapDataKey", "name"), ("ReEncrypt", "source_name")):
        request: dict[str, Any] = {field: key, "ciphertext": unchecked, "ciphertext_crc32c": 0}
        refused = both.call(method, checksums=False, **request)
        assert (refused.reason, refused.fields) == ("CHECKSUM_MISMATCH", ["ciphertext"])


def test_random_bytes_are_of_the_length_asked_for(both: Both) -> None:
    for length in (1, 32, 4096):
        assert both.call("GenerateRandom", environment="envs/dev", length=length).reason == "OK"
    for length in (0, 4097, 1 << 31):
        refused = both.call("GenerateRandom", environment="envs/dev", length=length)
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["length"])


def _flipped(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]
