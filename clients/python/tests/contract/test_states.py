"""The state machine: every call on a version in every state that can be reached, and what may be done with data then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both

WAYS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "ACTIVE": [],
    "SUSPENDED": [("SuspendKey", {"reason": "who knows"})],
    "DEACTIVATED": [("DeactivateKey", {})],
    "COMPROMISED": [("CompromiseKey", {})],
    "PENDING": [("DestroyKey", {"wait_days": 7, "reason": "out of use"})],
    "PENDING after SUSPENDED": [("SuspendKey", {}), ("DestroyKey", {})],
    "PENDING after COMPROMISED": [("CompromiseKey", {}), ("DestroyKey", {})],
    "back from PENDING": [("DestroyKey", {}), ("CancelKeyDestruction", {"reason": "still needed"})],
    "back from PENDING after SUSPENDED": [("SuspendKey", {}), ("DestroyKey", {}), ("CancelKeyDestruction", {})],
    "COMPROMISED while PENDING": [("DestroyKey", {}), ("CompromiseKey", {})],
}
MOVES = ["SuspendKey", "ResumeKey", "DeactivateKey", "CompromiseKey", "DestroyKey", "CancelKeyDestruction", "RotateKey"]


@pytest.mark.parametrize("state", WAYS)
def test_each_move_does_the_same_from_each_state(both: Both, new_key: Callable[..., str], state: str) -> None:
    for move in MOVES:
        key = new_key()
        sealed = both.call("Encrypt", name=key, plaintext=b"x")["ciphertext"]
        for method, fields in WAYS[state]:
            assert both.call(method, name=key, **fields).reason == "OK"
        both.call(move, name=key)
        both.call("GetKey", name=key)
        both.call("Decrypt", name=key, ciphertext=sealed)
        both.call("Encrypt", name=key, plaintext=b"x")


@pytest.mark.parametrize("state", WAYS)
def test_data_is_worked_or_refused_the_same_in_each_state(both: Both, new_key: Callable[..., str], state: str) -> None:
    key, sound = new_key(), new_key()
    sealed = both.call("Encrypt", name=key, plaintext=b"x")["ciphertext"]
    wrapped = both.call("GenerateDataKey", name=key)["ciphertext"]
    of_sound = both.call("Encrypt", name=sound, plaintext=b"x")["ciphertext"]
    for method, fields in WAYS[state]:
        both.call(method, name=key, **fields)
    both.call("Encrypt", name=key)
    both.call("GenerateDataKey", name=key)
    both.call("GenerateDataKeyWithoutPlaintext", name=key)
    both.call("AttestKey", name=key)
    both.call("ReEncrypt", source_name=sound, ciphertext=of_sound, destination_name=key)
    both.call("ReEncrypt", source_name=key, ciphertext=sealed, destination_name=sound)
    for ciphertext in (sealed, wrapped, of_sound, b"x"):
        both.call("Decrypt", name=key, ciphertext=ciphertext)
        both.call("UnwrapDataKey", name=key, ciphertext=ciphertext)
        both.call("ReEncrypt", source_name=key, ciphertext=ciphertext)


def test_older_versions_move_alone(both: Both, key: str) -> None:
    first = both.call("Encrypt", name=key, plaintext=b"x")["ciphertext"]
    both.call("RotateKey", name=key)
    second = both.call("Encrypt", name=key, plaintext=b"x")["ciphertext"]
    for method in ("SuspendKey", "ResumeKey", "DeactivateKey", "CompromiseKey", "DestroyKey", "CancelKeyDestruction"):
        for version in (1, 3):
            both.call(method, name=key, version=version)
    assert both.call("Decrypt", name=key, ciphertext=first).reason == "STATE_FORBIDS"
    assert both.call("Decrypt", name=key, ciphertext=second).reason == "OK"


def test_a_key_is_destroyed_and_comes_back_as_a_whole(both: Both, key: str) -> None:
    both.call("RotateKey", name=key)
    both.call("RotateKey", name=key)
    both.call("CompromiseKey", name=key, version=1)
    destroyed = both.call("DestroyKey", name=key, wait_days=9, reason="end")["key"].double
    assert {version.state for version in destroyed.versions} == {destroyed.state}
    assert both.call("DestroyKey", name=key).reason == "STATE_FORBIDS"
    assert both.call("CancelKeyDestruction", name=key, version=2).reason == "OK"
    assert both.call("CancelKeyDestruction", name=key).reason == "OK"
    assert both.call("CancelKeyDestruction", name=key).reason == "STATE_FORBIDS"


def test_the_waiting_period_has_bounds(both: Both, key: str) -> None:
    for days in (1, 6, 31, 4_000_000_000):
        assert both.call("DestroyKey", name=key, wait_days=days).fields == ["wait_days"]
    for days in (0, 7, 30):
        assert both.call("DestroyKey", name=key, wait_days=days).reason == "OK"
        assert both.call("CancelKeyDestruction", name=key).reason == "OK"


def test_reasons_are_kept_and_bounded(both: Both, key: str) -> None:
    both.call("SuspendKey", name=key, reason="é" * 512)
    for reason in ("x" * 1025, "a\nb"):
        for method in ("ResumeKey", "DestroyKey", "CancelKeyDestruction", "DeactivateKey", "CompromiseKey"):
            assert both.call(method, name=key, reason=reason).fields == ["reason"]


def test_the_etag_changes_with_every_change(both: Both, key: str) -> None:
    seen = [both.call("GetKey", name=key)["key"]]
    for method in ("SuspendKey", "ResumeKey", "RotateKey", "DestroyKey", "CancelKeyDestruction"):
        seen.append(both.call(method, name=key)["key"])
        assert both.call("GetKey", name=key)["key"] == seen[-1]
    for side in zip(*seen, strict=True):
        assert len({one.etag for one in side}) == len(seen)
