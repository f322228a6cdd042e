"""Batches: a result for each item; what concerns all of them fails the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contract.sides import Both, Pair, pairs

CONTEXT = pairs({"row": "7"})


def items_of(field: str, sealed: Pair) -> list[dict[str, Any]]:
    return [{field: Pair(one, other)} for one, other in zip(*sealed, strict=True)]


def ciphertexts(result: Both.Result) -> Pair:
    return Pair(*([one.success.ciphertext for one in results] for results in result["results"]))


def test_each_item_has_its_own_result(both: Both, new_key: Callable[..., str]) -> None:
    for suite in (1, 2):
        key = new_key(suite=suite)
        items: list[dict[str, Any]] = [
            {"plaintext": b"a"},
            {"plaintext": b"b", "encryption_context": CONTEXT, "aad": b"c"},
            {"plaintext": b"x" * 9000},
            {"plaintext": b"x" * 65_537},
            {"plaintext": b"d", "plaintext_crc32c": 1},
        ]
        results = both.call("BatchEncrypt", name=key, items=items, checksums=False)
        sealed = ciphertexts(results)
        to_open = items_of("ciphertext", sealed)
        to_open[1] |= {"encryption_context": CONTEXT, "aad": b"c"}
        opened = both.call("BatchDecrypt", name=key, items=[*to_open, to_open[0] | {"aad": b"x"}, {"ciphertext": b"x"}])
        shown = [one.success.plaintext or one.error.reason for one in opened["results"].service]
        assert shown[:2] == [b"a", b"b"]
        assert shown[3:] == ["DECRYPT_FAILED"] * 4


def test_data_keys_come_in_batches_too(both: Both, key: str) -> None:
    made = both.call("BatchGenerateDataKey", name=key, items=[{}, {"encryption_context": CONTEXT}, {"aad": b"x"}])
    wrapped = items_of("ciphertext", ciphertexts(made))
    wrapped[1]["encryption_context"] = CONTEXT
    opened = both.call("BatchUnwrapDataKey", name=key, items=wrapped)
    shown = [one.success.plaintext or one.error.reason for one in opened["results"].double]
    assert shown[:2] == [one.success.plaintext for one in made["results"].double][:2]
    assert shown[2] == "DECRYPT_FAILED"
    assert both.call("BatchDecrypt", name=key, items=wrapped)["results"].service[0].error.reason == "DECRYPT_FAILED"


def test_a_batch_has_limits(both: Both, key: str) -> None:
    for method in ("BatchEncrypt", "BatchDecrypt", "BatchGenerateDataKey", "BatchUnwrapDataKey"):
        for count in (0, 1001):
            refused = both.call(method, name=key, items=[{}] * count)
            assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["items"])
    assert both.call("BatchEncrypt", name=key, items=[{}] * 1000).reason == "OK"
    full: list[dict[str, Any]] = [{"plaintext": b"x" * 65_536}] * 15 + [{"plaintext": b"x" * (65_536 - 8), "aad": b"x"}]
    full[-1]["encryption_context"] = pairs({"key": "valu"})
    assert both.call("BatchEncrypt", name=key, items=full).reason == "OK"
    full[-1]["encryption_context"] = pairs({"key": "value"})
    assert both.call("BatchEncrypt", name=key, items=full).fields == ["items"]


def test_what_concerns_all_items_fails_the_call(both: Both, key: str) -> None:
    sealed = both.call("Encrypt", name=key, plaintext=b"x")["ciphertext"]
    wrapped = both.call("GenerateDataKeyWithoutPlaintext", name=key)["ciphertext"]
    both.call("SuspendKey", name=key)
    assert both.call("BatchEncrypt", name=key, items=[{}]).reason == "STATE_FORBIDS"
    assert both.call("BatchGenerateDataKey", name=key, items=[{}]).reason == "STATE_FORBIDS"
    items = [{"ciphertext": sealed}, {"ciphertext": wrapped}, {"ciphertext": b"x"}]
    for method in ("BatchDecrypt", "BatchUnwrapDataKey"):
        opened = both.call(method, name=key, items=items)["results"].service
        assert [one.error.reason for one in opened] == ["STATE_FORBIDS", "STATE_FORBIDS", "DECRYPT_FAILED"]


def test_a_batch_of_nothing_but_bad_items_is_answered(both: Both, key: str) -> None:
    bad = [{"encryption_context": pairs({"": "x"})}]
    for method in ("BatchEncrypt", "BatchDecrypt", "BatchGenerateDataKey", "BatchUnwrapDataKey"):
        assert both.call(method, name=key, items=bad)["results"].service[0].error.reason == "INVALID_ARGUMENT"
