"""Environments, teams and keys: made once, found by their full names, shown alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both

NAMES = [
    "",
    "a",
    "dev",
    "dev/shop",
    "dev/shop/orders",
    "envs/",
    "envs/dev/",
    "envs/dev/teams",
    "envs/dev/teams/shop/keys/",
]
NAMES += ["envs/dev/teams/shop/keys/A", "envs/dev/teams/shop/keys/a", "envs/dev/teams/shop/keys/a-", "/envs/dev"]
NAMES += ["envs/dev/teams/shop/keys/1a", "envs/dev/teams/shop/keys/a_b", "ENVS/dev", "envs//teams/shop/keys/ab"]
NAMES += [
    "envs/dev/teams/shop/keys/" + "a" * 64,
    "envs/ключ",
    "envs/de\tv'\"\\\n",
    "x" * 300,
    "envs/dev/teams/shop/keys/ab/cd",
]
TEXTS = {"": True, "x": True, "é" * 128: True, "x\ty": False, "x\u0085y": False, "x\u007f": False, "x" * 2000: False}

NAMED = [
    ("GetEnvironment", "name"),
    ("GetTeam", "name"),
    ("GetKey", "name"),
    ("AttestKey", "name"),
    ("ListTeams", "parent"),
    ("ListKeys", "parent"),
    ("VerifyKeys", "parent"),
    ("Encrypt", "name"),
    ("Decrypt", "name"),
    ("ReEncrypt", "source_name"),
    ("GenerateRandom", "environment"),
    ("BatchEncrypt", "name"),
    ("RotateKey", "name"),
    ("DestroyKey", "name"),
]


@pytest.mark.parametrize(("method", "field"), NAMED)
def test_what_is_no_full_name_is_refused_in_the_same_words(both: Both, method: str, field: str) -> None:
    for name in NAMES:
        refused = both.call(method, **{field: name})
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", [field]), name


def test_an_id_that_is_none_is_refused_in_the_same_words(both: Both) -> None:
    for name in ("", "a", "A", "a-", "a/b", "dev/teams/shop", "x" * 64, "teams/shop", "ab/keys/cd"):
        assert both.call("CreateEnvironment", environment_id=name).fields == ["environment_id"], name
        assert both.call("CreateTeam", parent="envs/dev", team_id=name).fields == ["team_id"], name
        assert both.call("CreateKey", parent="envs/dev/teams/shop", key_id=name).fields == ["key_id"], name


def test_longest_and_shortest_ids_are_taken(both: Both) -> None:
    for name in ("ab", "a1", "a" * 63, "a--b"):
        assert both.call("CreateKey", parent="envs/dev/teams/shop", key_id=name)["key"].double.primary_version == 1


def test_a_key_is_made_once_and_shown_alike(both: Both, new_name: Callable[[], str]) -> None:
    request: dict[str, Any] = {
        "parent": "envs/dev/teams/shop",
        "key_id": new_name(),
        "owner": "orders@example.com",
        "labels": {"tier": "1", "a": "b"},
        "suite": 1,
        "residency": 2,
        "purpose": 1,
    }
    made = both.call("CreateKey", **request)["key"]
    assert both.call("GetKey", name=made.service.name)["key"] == made
    assert both.call("CreateKey", **request).reason == "ALREADY_EXISTS"


def test_requests_for_keys_that_make_no_sense_are_refused(both: Both, new_name: Callable[[], str]) -> None:
    request = {"parent": "envs/dev/teams/shop", "key_id": new_name()}
    for field in ("purpose", "residency", "suite"):
        assert both.call("CreateKey", **request, **{field: 99}).fields == [field]
    for text, fits in TEXTS.items():
        if not fits:
            assert both.call("CreateKey", **request, owner=text).fields == ["owner"], text
            assert both.call("CreateKey", **request, labels={"a": text}).fields == ["labels"], text
            assert both.call("CreateKey", **request, labels={text: "a"}).fields == ["labels"], text
    assert both.call("CreateKey", **request, labels={"a": ""}).fields == ["labels"]
    assert both.call("CreateKey", **request, labels={str(number): "x" for number in range(33)}).fields == ["labels"]
    full = {str(number): "x" * 128 for number in range(32)}
    assert both.call("CreateKey", **request, labels=full, owner="é" * 128).reason == "OK"


def test_teams_are_made_once(both: Both, new_name: Callable[[], str]) -> None:
    request = {"parent": "envs/dev", "team_id": new_name()}
    made = both.call("CreateTeam", **request)["team"]
    assert both.call("GetTeam", name=made.double.name)["team"] == made
    assert both.call("CreateTeam", **request).reason == "ALREADY_EXISTS"


def test_environments_are_made_if_they_are_bound(both: Both) -> None:
    assert both.call("GetEnvironment", name="envs/staging").reason == "NOT_FOUND"
    assert both.call("CreateTeam", parent="envs/staging", team_id="shop").reason == "NOT_FOUND"
    assert both.call("CreateEnvironment", environment_id="staging").reason == "OK"
    assert both.call("CreateEnvironment", environment_id="staging").reason == "ALREADY_EXISTS"
    assert both.call("CreateEnvironment", environment_id="other").reason == "ENVIRONMENT_UNBOUND"
    assert both.call("GenerateRandom", environment="envs/staging", length=4).reason == "OK"


def test_in_production_keys_are_not_destroyed_and_data_keys_need_a_label(both: Both) -> None:
    production = both.call("CreateEnvironment", environment_id="prod", production=True)["environment"]
    assert production.double.production
    both.call("CreateTeam", parent="envs/prod", team_id="shop")
    parent = "envs/prod/teams/shop"
    both.call("CreateKey", parent=parent, key_id="orders")
    both.call("CreateKey", parent=parent, key_id="sealing", labels={"data-keys": "allowed"})
    assert both.call("DestroyKey", name=f"{parent}/keys/orders").reason == "APPROVAL_REQUIRED"
    assert both.call("DestroyKey", name=f"{parent}/keys/orders", wait_days=3).fields == ["wait_days"]
    for name, reason in (("orders", "PERMISSION_DENIED"), ("sealing", "OK"), ("absent", "PERMISSION_DENIED")):
        assert both.call("GenerateDataKey", name=f"{parent}/keys/{name}").reason == reason
    assert both.call("Encrypt", name=f"{parent}/keys/orders").reason == "OK"


def test_attestation_shows_every_version_and_that_this_is_software(both: Both, new_key: Callable[..., str]) -> None:
    for suite in (1, 2):
        key = new_key(suite=suite)
        both.call("Encrypt", name=key, plaintext=b"x")
        both.call("RotateKey", name=key)
        both.call("CompromiseKey", name=key, version=1)
        attested = both.call("AttestKey", name=key).answers
        assert attested.double.software_token
        said = [attested.double.token_model, *attested.double.versions[0].claims]
        assert any("test double" in text for text in said)
        assert [len(version.kcv) for version in attested.double.versions] == [32, 32]


def test_versions_are_verified_by_team(both: Both, new_name: Callable[[], str]) -> None:
    team = new_name()
    both.call("CreateTeam", parent="envs/dev", team_id=team)
    for number in range(3):
        both.call("CreateKey", parent=f"envs/dev/teams/{team}", key_id=f"key-{number}")
    both.call("RotateKey", name=f"envs/dev/teams/{team}/keys/key-1")
    page = both.call("VerifyKeys", parent=f"envs/dev/teams/{team}", page_size=2)
    assert page["versions"] == (3, 3)
    rest = both.call("VerifyKeys", parent=f"envs/dev/teams/{team}", page_token=page["next_page_token"])
    assert rest["versions"] == (1, 1)


def test_the_service_tells_its_state_and_who_one_is(both: Both) -> None:
    assert both.call("GetStatus")["audit"].double.writable
    assert both.call("GetStatus", who="app").reason == "PERMISSION_DENIED"
    for who in ("admin", "app"):
        assert both.call("WhoAmI", who=who)["identity"].double == f"spiffe://keyreeve.dev/{who}"
