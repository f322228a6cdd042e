"""Encryption contexts: every limit, with the pair at fault, wherever a context is sent."""

from __future__ import annotations

from typing import Any

import pytest

from contract.sides import Both, pairs

DIGEST = "0" * 64
KEY_64 = "k" * 64


def many(count: int, size: int = 1) -> list[dict[str, str]]:
    return [{"key": f"key-{number:02}", "value": "v" * size} for number in range(count)]


GOOD = {
    "none": [],
    "empty value": pairs({"a": ""}),
    "longest": pairs({"k" * 128: "v" * 1024}),
    "not ascii": pairs({"ключ": "значение", "🔑": "é"}),
    "32 pairs": many(32),
    "8192 bytes": [*many(7, 1024), {"key": "last", "value": "v" * (8192 - 2 - 7 * (4 + 6 + 1024) - 8)}],
    "a digest": pairs({"kms:aad": DIGEST}),
}
BAD = {
    "empty key": pairs({"a": "b", "": "c"}),
    "long key": pairs({"k" * 129: "v"}),
    "long key in bytes": pairs({"é" * 65: "v"}),
    "long value": pairs({"a": "v" * 1025}),
    "33 pairs": many(33),
    "33 pairs, the last a duplicate": [*many(32), *many(1)],
    "duplicate": [*pairs({"a": "b"}), *pairs({"a": "c"})],
    "reserved": pairs({"kms:x": "b"}),
    "reserved and long": pairs({"kms:x": "v" * 2000}),
    "no digest": pairs({"kms:aad": "x"}),
    "digest in capitals": pairs({"kms:aad": "A" * 64}),
    "8193 bytes": [*many(7, 1024), {"key": "last", "value": "v" * (8193 - 2 - 7 * (4 + 6 + 1024) - 8)}],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_context_within_the_limits_is_taken_by_every_call(both: Both, key: str, name: str) -> None:
    context = GOOD[name]
    sealed = both.call("Encrypt", name=key, plaintext=b"x", encryption_context=context)["ciphertext"]
    assert both.call("Decrypt", name=key, ciphertext=sealed, encryption_context=context[::-1]).reason == "OK"


@pytest.mark.parametrize("name", BAD)
def test_a_context_that_breaks_a_rule_is_refused_by_every_call(both: Both, key: str, name: str) -> None:
    context, one = BAD[name], {"name": key}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("Encrypt", one | {"encryption_context": context}),
        ("Decrypt", one | {"encryption_context": context}),
        ("GenerateDataKey", one | {"encryption_context": context}),
        ("GenerateDataKeyWithoutPlaintext", one | {"encryption_context": context}),
        ("UnwrapDataKey", one | {"encryption_context": context}),
        ("ReEncrypt", {"source_name": key, "source_encryption_context": context}),
        ("ReEncrypt", {"source_name": key, "destination_encryption_context": context}),
    ]
    for method, request in requests:
        refused = both.call(method, **request)
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["encryption_context"]), method
    for method in ("BatchEncrypt", "BatchDecrypt", "BatchGenerateDataKey", "BatchUnwrapDataKey"):
        results = both.call(method, name=key, items=[{"encryption_context": context}])["results"]
        assert results.service[0].error.reason == "INVALID_ARGUMENT", method


def test_associated_data_enters_the_context(both: Both, key: str) -> None:
    sealed = both.call("Encrypt", name=key, plaintext=b"x", aad=b"a" * 65_536)["ciphertext"]
    digest = "d7a4f6d5b4ccfb1ef4ca1bde48b0bb1ea7d4b1a9eb6ad8ec2a8f4f4f4a9a1b2c"
    wrong = both.call("Decrypt", name=key, ciphertext=sealed, encryption_context=pairs({"kms:aad": digest}))
    assert wrong.reason == "DECRYPT_FAILED"
    too_long = both.call("Encrypt", name=key, aad=b"a" * 65_537)
    assert (too_long.reason, too_long.fields) == ("INVALID_ARGUMENT", ["aad"])
    twice = both.call("Encrypt", name=key, aad=b"a", encryption_context=pairs({"kms:aad": DIGEST}))
    assert (twice.reason, twice.fields) == ("INVALID_ARGUMENT", ["aad"])
    no_room = both.call("Encrypt", name=key, aad=b"a", encryption_context=many(32))
    assert no_room.fields == ["encryption_context"]
    too_much = both.call("Encrypt", name=key, aad=b"a", encryption_context=GOOD["8192 bytes"])
    assert too_much.fields == ["encryption_context"]


def test_of_several_faults_the_same_one_is_named(both: Both) -> None:
    bad = BAD["duplicate"]
    for request in ({"name": "x"}, {"name": "x", "encryption_context": bad}, {"name": "x", "plaintext": b"x" * 70_000}):
        both.call("Encrypt", **request)
        both.call("GenerateDataKey", **{field: request[field] for field in request if field != "plaintext"})
    both.call("Decrypt", name="x", encryption_context=bad)
    both.call("ReEncrypt", source_name="x", destination_name="y", source_encryption_context=bad)
    both.call(
        "ReEncrypt", source_name="envs/dev/teams/shop/keys/absent", destination_name="y", source_aad=b"x" * 70_000
    )
