"""Watch: where it begins, what it tells, how it goes on, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from contract.shapes import shape
from contract.sides import Both, Outcome, Pair, message
from keyreeve.methods import METHODS

WATCH = METHODS["Watch"]


@contextmanager
def watching(both: Both, who: str = "admin", **fields: Any) -> Iterator[Callable[[], Pair]]:
    """`next()`: the next message or the end, the same on both sides."""
    streams = [
        side.stream(WATCH, message(WATCH, fields, index), who) for index, side in enumerate((both.double, both.service))
    ]

    def next_() -> Pair:
        found = Pair(*(next(stream) for stream in streams))
        shown = [one.comparable() if isinstance(one, Outcome) else shape(one) for one in found]
        assert shown[0] == shown[1]
        return found

    yield next_
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]


def positions(told: Pair) -> Pair:
    return Pair(*(one.position for one in told))


def test_changes_are_told_to_who_watches_the_key(both: Both, new_key: Callable[..., str]) -> None:
    key, other, third = new_key(suite=1), new_key(), new_key()
    with watching(both, names=[other, key, key]) as next_:
        assert not next_().double.HasField("key")
        both.call("RotateKey", name=third)
        both.call("Encrypt", name=key, plaintext=b"x")
        for method in ("RotateKey", "SuspendKey", "ResumeKey", "DestroyKey", "CancelKeyDestruction", "CompromiseKey"):
            both.call(method, name=key)
            assert next_().double.key.name == key
        both.call("RotateKey", name=other)
        assert next_().service.key.name == other


def test_a_watch_goes_on_where_it_ended_and_several_changes_come_as_one(
    both: Both, new_key: Callable[..., str]
) -> None:
    key, other = new_key(), new_key()
    with watching(both, names=[key, other]) as next_:
        begun = positions(next_())
    both.call("RotateKey", name=key)
    both.call("RotateKey", name=key)
    both.call("RotateKey", name=other)
    with watching(both, names=[key, other], after=begun) as next_:
        assert positions(next_()) == begun
        first, second = next_(), next_()
        assert [one.double.key.name for one in (first, second)] == sorted([key, other])
        assert (first.double.key.primary_version, positions(first)) == (3, begun)
    with watching(both, names=[key, other], after=positions(second)) as next_:
        next_()
        both.call("SuspendKey", name=other)
        assert next_().double.key.name == other


def test_a_repeated_write_is_no_change(both: Both, key: str) -> None:
    again = {"name": key, "request_id": "c5ff7a07-76f3-4ddb-9b8c-2a4d5b0f5d0c"}
    both.call("RotateKey", **again)
    with watching(both, names=[key]) as next_:
        next_()
        both.call("RotateKey", **again)
        both.call("ResumeKey", name=key)
        both.call("SuspendKey", name=key)
        assert next_().double.key.state == 3


def test_from_before_the_first_change_everything_is_told(both: Both, key: str) -> None:
    with watching(both, names=[key], after={"sequence": 0, "link": bytes(32)}) as next_:
        next_()
        assert next_().double.key.name == key


@pytest.mark.parametrize("who", ["admin", "app"])
def test_who_may_not_watch_and_what_is_not_there_is_refused(both: Both, key: str, who: str) -> None:
    for names in ([key, f"{key}-absent"], ["envs/dev/teams/absent/keys/key"], ["envs/nowhere/teams/shop/keys/key"]):
        with watching(both, who, names=names) as next_:
            assert isinstance(next_().double, Outcome)


def test_requests_that_make_no_sense_are_refused(both: Both, key: str) -> None:
    with watching(both, names=[key]) as next_:
        here = positions(next_())
    ahead = Pair(*({"sequence": one.sequence + 1000, "link": one.link} for one in here))
    other = Pair(*({"sequence": one.sequence, "link": bytes(32)} for one in here))
    cut = Pair(*({"sequence": one.sequence, "link": one.link[:8]} for one in here))
    many = [f"{key}-{number}" for number in range(257)]
    senseless: list[dict[str, Any]] = [
        {"names": []},
        {"names": many},
        {"names": ["x"]},
        {"names": [key, ""]},
        {"names": [key], "after": ahead},
        {"names": [key], "after": other},
        {"names": [key], "after": cut},
        {"names": [key], "after": {"sequence": 0, "link": b"\1" * 32}},
        {"names": [f"{key}-absent"], "after": ahead},
        {"names": [key], "after": {}},
        {"names": [], "after": {}},
    ]
    for fields in senseless:
        with watching(both, **fields) as next_:
            end = next_().double
            assert isinstance(end, Outcome), fields
            assert end.reason in ("INVALID_ARGUMENT", "POSITION_UNKNOWN", "NOT_FOUND")
