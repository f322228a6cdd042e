"""Who may do what: every call, by someone who may do everything and by someone who may only seal, on what is there and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("Encrypt", "name", {}),
    ("Decrypt", "name", {}),
    ("ReEncrypt", "source_name", {}),
    ("GenerateDataKey", "name", {}),
    ("GenerateDataKeyWithoutPlaintext", "name", {}),
    ("WrapDataKey", "name", {"plaintext": bytes(32)}),
    ("UnwrapDataKey", "name", {}),
    ("BatchEncrypt", "name", {"items": [{}]}),
    ("BatchDecrypt", "name", {"items": [{}]}),
    ("BatchGenerateDataKey", "name", {"items": [{}]}),
    ("BatchUnwrapDataKey", "name", {"items": [{}]}),
    ("GetKey", "name", {}),
    ("AttestKey", "name", {}),
    ("ResumeKey", "name", {}),
    ("SuspendKey", "name", {}),
    ("RotateKey", "name", {}),
    ("DeactivateKey", "name", {}),
    ("CompromiseKey", "name", {}),
    ("DestroyKey", "name", {}),
    ("CancelKeyDestruction", "name", {}),
]
TEAM_CALLS = [("GetTeam", "name"), ("ListKeys", "parent"), ("VerifyKeys", "parent")]
ENVIRONMENT_CALLS = [("GetEnvironment", "name"), ("ListTeams", "parent")]
ABSENT = [
    "envs/dev/teams/shop/keys/absent",
    "envs/dev/teams/absent/keys/absent",
    "envs/prod/teams/absent/keys/absent",
    "envs/nowhere/teams/shop/keys/orders",
]


@pytest.mark.parametrize("who", ["app", "admin"])
@pytest.mark.parametrize(
    ("method", "field", "fields"), CALLS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_there_and_what_is_not_is_refused_alike(
    both: Both, new_key: Callable[..., str], who: str, method: str, field: str, fields: dict[str, Any]
) -> None:
    for name in [new_key(), *ABSENT]:
        both.call(method, who, **{field: name}, **fields)


@pytest.mark.parametrize("who", ["app", "admin"])
def test_teams_and_environments_are_shown_to_who_may_look(both: Both, who: str) -> None:
    for method, field in TEAM_CALLS:
        for name in ("envs/dev/teams/shop", *(name.rpartition("/keys/")[0] for name in ABSENT)):
            both.call(method, who, **{field: name})
    for method, field in ENVIRONMENT_CALLS:
        for name in ("envs/dev", "envs/nowhere"):
            both.call(method, who, **{field: name})
    both.call("ListEnvironments", who)
    both.call("GenerateRandom", who, environment="envs/dev", length=1)
    both.call("GenerateRandom", who, environment="envs/nowhere", length=1)
    both.call("CreateEnvironment", who, environment_id="nowhere")
    for environment in ("dev", "nowhere"):
        both.call("CreateTeam", who, parent=f"envs/{environment}", team_id="shop")
    for team in ("envs/dev/teams/absent", "envs/nowhere/teams/shop"):
        both.call("CreateKey", who, parent=team, key_id="orders")


def test_an_administrator_of_another_team_sees_no_data(both: Both, new_name: Callable[[], str]) -> None:
    team = new_name()
    both.call("CreateTeam", parent="envs/dev", team_id=team)
    both.call("CreateKey", parent=f"envs/dev/teams/{team}", key_id="orders")
    for method, field, fields in CALLS:
        both.call(method, **{field: f"envs/dev/teams/{team}/keys/orders"}, **fields)


def test_of_two_refusals_for_a_reencryption_the_same_one_comes(both: Both, key: str) -> None:
    absent, foreign = ABSENT[0], ABSENT[3]
    for source in (key, absent, foreign):
        for destination in (key, absent, foreign):
            for who in ("admin", "app"):
                both.call("ReEncrypt", who, source_name=source, destination_name=destination)
