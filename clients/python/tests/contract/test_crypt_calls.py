"""`Crypt`: every kind of message, alone and among others; a failed one does not end the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contract.shapes import shape
from contract.sides import Both, Outcome, Pair, message
from keyreeve.methods import METHODS

CRYPT = METHODS["Crypt"]


def crypt(both: Both, messages: list[dict[str, Any]], who: str = "admin") -> dict[int, Pair]:
    """Answers by tag; the same on both sides."""
    answers: list[dict[int, Any]] = []
    for index, side in enumerate((both.double, both.service)):
        sent = iter([message(CRYPT, fields, index) for fields in messages])
        *found, end = side.stream(CRYPT, sent, who)
        assert end == Outcome("OK"), side.name
        answers.append({one.tag: one for one in found})
        assert len(answers[-1]) == len(messages)
    shown = [{tag: shape(one) for tag, one in side.items()} for side in answers]
    assert shown[0] == shown[1]
    return {tag: Pair(answers[0][tag], answers[1][tag]) for tag in answers[0]}


def test_every_kind_of_message_is_answered_under_its_tag(both: Both, key: str) -> None:
    sealed = both.call("Encrypt", name=key, plaintext=b"hello")["ciphertext"]
    wrapped = both.call("GenerateDataKey", name=key)["ciphertext"]
    answers = crypt(
        both,
        [
            {"tag": 1, "encrypt": {"name": key, "plaintext": b"x"}},
            {"tag": 2, "decrypt": {"name": key, "ciphertext": sealed}},
            {"tag": 3, "decrypt": {"name": key, "ciphertext": wrapped}},
            {"tag": 4, "re_encrypt": {"source_name": key, "ciphertext": sealed}},
            {"tag": 5, "generate_data_key": {"name": key}},
            {"tag": 6, "generate_data_key_without_plaintext": {"name": key}},
            {"tag": 7, "unwrap_data_key": {"name": key, "ciphertext": wrapped}},
            {"tag": 8},
            {"tag": 9, "encrypt": {"name": "x"}},
            {"tag": 2**64 - 1, "encrypt": {"name": f"{key}-absent"}},
        ],
    )
    assert answers[2].double.decrypt.plaintext == b"hello"
    assert [answers[tag].double.error.reason for tag in (3, 8, 9)] == [
        "DECRYPT_FAILED",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ]


def test_who_may_not_open_is_told_for_each_message(both: Both, key: str) -> None:
    sealed = both.call("Encrypt", name=key, plaintext=b"hello")["ciphertext"]
    messages: list[dict[str, Any]] = [
        {"tag": tag, "decrypt": {"name": key, "ciphertext": sealed}} for tag in range(100)
    ] + [{"tag": tag, "encrypt": {"name": key}} for tag in range(100, 300)]
    crypt(both, messages, "app")


def test_the_same_tag_twice_is_answered_twice(both: Both, new_key: Callable[..., str]) -> None:
    key = new_key()
    for side in (both.double, both.service):
        sent = [CRYPT.request(tag=7, encrypt={"name": key})] * 3
        *found, end = side.stream(CRYPT, iter(sent), "admin")
        assert ([one.tag for one in found], end.code) == ([7, 7, 7], "OK")


def test_a_stream_without_messages_ends_well(both: Both) -> None:
    assert crypt(both, []) == {}


def test_bytes_that_are_no_message_end_the_stream(both: Both, key: str) -> None:
    for side in (both.double, both.service):
        *_, end = side.stream(CRYPT, iter([b"\xff\xff"]), "admin")
        assert (end.code, end.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE"), side.name
