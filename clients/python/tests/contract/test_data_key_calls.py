"""Data keys: made with and without plaintext, unwrapped, never decrypted; their flag survives ReEncrypt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.sides import Both, Pair, pairs

CONTEXT = pairs({"table": "orders"})


@pytest.mark.parametrize("suite", [1, 2])
def test_a_data_key_is_unwrapped_and_nothing_else(both: Both, new_key: Callable[..., str], suite: int) -> None:
    key = new_key(suite=suite)
    made = both.call("GenerateDataKey", name=key, encryption_context=CONTEXT, aad=b"x")
    opened = both.call("UnwrapDataKey", name=key, ciphertext=made["ciphertext"], encryption_context=CONTEXT, aad=b"x")
    assert opened["plaintext"] == made["plaintext"]
    wrapped = both.call("GenerateDataKeyWithoutPlaintext", name=key)["ciphertext"]
    assert [len(one) for one in both.call("UnwrapDataKey", name=key, ciphertext=wrapped)["plaintext"]] == [32, 32]
    assert both.call("Decrypt", name=key, ciphertext=wrapped).reason == "DECRYPT_FAILED"
    assert both.call("UnwrapDataKey", name=key, ciphertext=made["ciphertext"]).reason == "DECRYPT_FAILED"
    message = both.call("Encrypt", name=key, plaintext=b"x" * 32)["ciphertext"]
    assert both.call("UnwrapDataKey", name=key, ciphertext=message).reason == "DECRYPT_FAILED"


@pytest.mark.parametrize("suite", [1, 2])
def test_a_data_key_that_is_brought_is_wrapped_and_unwrapped(
    both: Both, new_key: Callable[..., str], suite: int
) -> None:
    key = new_key(suite=suite)
    theirs = bytes(range(32))
    wrapped = both.call("WrapDataKey", name=key, plaintext=theirs, encryption_context=CONTEXT)["ciphertext"]
    opened = both.call("UnwrapDataKey", name=key, ciphertext=wrapped, encryption_context=CONTEXT)
    assert opened["plaintext"] == Pair(theirs, theirs)
    assert both.call("Decrypt", name=key, ciphertext=wrapped, encryption_context=CONTEXT).reason == "DECRYPT_FAILED"
    for length in (0, 31, 33, 70_000):
        refused = both.call("WrapDataKey", name=key, plaintext=bytes(length))
        assert refused.reason == "INVALID_ARGUMENT"
    both.call("WrapDataKey", name="nonsense", plaintext=bytes(31))
    both.call("SuspendKey", name=key)
    assert both.call("WrapDataKey", name=key, plaintext=theirs).reason == "STATE_FORBIDS"


def test_reencrypted_a_data_key_stays_one(both: Both, new_key: Callable[..., str]) -> None:
    key, other = new_key(), new_key(suite=1)
    made = both.call("GenerateDataKey", name=key)
    moved = both.call("ReEncrypt", source_name=key, ciphertext=made["ciphertext"], destination_name=other)["ciphertext"]
    assert both.call("Decrypt", name=other, ciphertext=moved).reason == "DECRYPT_FAILED"
    assert both.call("UnwrapDataKey", name=other, ciphertext=moved)["plaintext"] == made["plaintext"]
