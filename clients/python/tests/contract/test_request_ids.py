"""A write with its `request_id` is made once, however often it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both

NEW = "fills in"


def fresh() -> str:
    return str(uuid.uuid4())


def test_a_repeated_write_is_made_once_and_answers_what_is_there_now(both: Both, key: str) -> None:
    again = {"name": key, "request_id": fresh()}
    assert both.call("RotateKey", **again)["key"].double.primary_version == 2
    assert both.call("RotateKey", **again)["key"].double.primary_version == 2
    both.call("SuspendKey", name=key)
    both.call("RotateKey", **again)
    other = again | {"request_id": again["request_id"].upper().replace("-", "")}
    both.call("RotateKey", **other)
    assert both.call("RotateKey", name=key, request_id=fresh()).reason == "STATE_FORBIDS"


def test_a_refused_write_is_not_remembered(both: Both, key: str) -> None:
    again = {"name": key, "request_id": fresh()}
    assert both.call("ResumeKey", **again).reason == "STATE_FORBIDS"
    both.call("SuspendKey", name=key)
    assert both.call("ResumeKey", **again).reason == "OK"


@pytest.mark.parametrize("method", ["SuspendKey", "DeactivateKey", "CompromiseKey", "DestroyKey"])
def test_the_same_id_with_another_request_is_refused(both: Both, new_key: Callable[..., str], method: str) -> None:
    key, other = new_key(), new_key()
    request: dict[str, Any] = {"name": key, "request_id": fresh(), "reason": "a"}
    assert both.call(method, **request).reason == "OK"
    for change in ({"name": other}, {"reason": "b"}, {"version": 1}):
        refused = both.call(method, **(request | change))
        assert (refused.reason, refused.fields) == ("REQUEST_ID_REUSED", ["request_id"])
    # Another method, or another caller, has ids of its own.
    assert both.call("RotateKey", name=other, request_id=request["request_id"]).reason == "OK"


def test_waiting_days_are_part_of_a_request_and_none_means_thirty(both: Both, key: str) -> None:
    request: dict[str, Any] = {"name": key, "request_id": fresh()}
    both.call("DestroyKey", **request)
    assert both.call("DestroyKey", **request, wait_days=30).reason == "OK"
    assert both.call("DestroyKey", **request, wait_days=29).reason == "REQUEST_ID_REUSED"
    request = {"name": key, "request_id": fresh()}
    both.call("CancelKeyDestruction", **request)
    assert both.call("CancelKeyDestruction", **request).reason == "OK"


def test_what_is_made_is_made_once(both: Both, new_name: Callable[[], str]) -> None:
    team = {"parent": "envs/dev", "team_id": new_name(), "request_id": fresh()}
    made = both.call("CreateTeam", **team)["team"]
    assert both.call("CreateTeam", **team)["team"] == made
    assert both.call("CreateTeam", **(team | {"team_id": new_name()})).reason == "REQUEST_ID_REUSED"
    key: dict[str, Any] = {"parent": "envs/dev/teams/shop", "key_id": new_name(), "request_id": fresh()}
    key["labels"] = {"a": "b", "c": "d"}
    first = both.call("CreateKey", **key)["key"]
    assert both.call("CreateKey", **key)["key"] == first
    for change in ({"labels": {"a": "b"}}, {"suite": 1}, {"residency": 2}, {"owner": "x"}, {"key_id": new_name()}):
        assert both.call("CreateKey", **(key | change)).reason == "REQUEST_ID_REUSED"
    for same in ({"suite": 2}, {"residency": 1}, {"purpose": 1}):
        assert both.call("CreateKey", **(key | same))["key"] == first
    environment = {"environment_id": "dev", "request_id": fresh()}
    assert both.call("CreateEnvironment", **environment).reason == "ALREADY_EXISTS"


def test_an_id_is_a_uuid_of_version_4(both: Both, key: str) -> None:
    for bad in ("x", "1", str(uuid.uuid1()), str(uuid.uuid4()) + "0", "{" + str(uuid.uuid4()), "0" * 32):
        assert both.call("RotateKey", name=key, request_id=bad).fields == ["request_id"], bad
    good = uuid.uuid4()
    for form in (str(good), good.hex, f"{{{good}}}", good.urn, str(good).upper()):
        assert both.call("RotateKey", name=key, request_id=form)["key"].double.primary_version == 2, form
