"""Lists come in pages, in order of names, by tokens that are good for one list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.sides import Both, Pair


@pytest.fixture(scope="session")
def team(both: Both, new_name: Callable[[], str]) -> str:
    """A team of seven keys."""
    team = new_name()
    both.call("CreateTeam", parent="envs/dev", team_id=team)
    for number in (3, 1, 7, 5, 2, 6, 4):
        both.call("CreateKey", parent=f"envs/dev/teams/{team}", key_id=f"key-{number}")
    return f"envs/dev/teams/{team}"


@pytest.mark.parametrize("size", [0, 1, 3, 6, 7, 8, 1000, 5000])
def test_all_keys_are_listed_once_whatever_the_size_of_a_page(both: Both, team: str, size: int) -> None:
    names: list[str] = []
    token: Pair = Pair("", "")
    while True:
        page = both.call("ListKeys", parent=team, page_size=size, page_token=token)
        names += [key.name for key in page["keys"].double]
        token = page["next_page_token"]
        if not token.service:
            break
    assert names == [f"{team}/keys/key-{number}" for number in range(1, 8)]


def test_teams_and_environments_are_listed(both: Both) -> None:
    assert both.call("ListTeams", parent="envs/dev").reason == "OK"
    assert both.call("ListEnvironments", page_size=1).reason == "OK"
    assert both.call("ListEnvironments").reason == "OK"


def test_a_page_token_is_good_for_its_list_only(both: Both, team: str) -> None:
    token = both.call("ListKeys", parent=team, page_size=1)["next_page_token"]
    others = [("ListKeys", "envs/dev/teams/shop"), ("VerifyKeys", team), ("ListTeams", "envs/dev")]
    for method, parent in others:
        refused = both.call(method, parent=parent, page_token=token)
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["page_token"])
    assert both.call("ListEnvironments", page_token=token).fields == ["page_token"]
    assert both.call("ListKeys", parent=team, page_size=4, page_token=token).reason == "OK"


def test_a_page_token_that_was_changed_and_a_negative_size_are_refused(both: Both, team: str) -> None:
    token = both.call("ListKeys", parent=team, page_size=1)["next_page_token"]
    changed = Pair(*(("A" if one[3] != "A" else "B").join((one[:3], one[4:])) for one in token))
    for bad in (
        changed,
        "x",
        "====",
        "é",
        "A" * 401,
        Pair(*(one + "A" for one in token)),
        Pair(*(f"{one}=" for one in token)),
    ):
        assert both.call("ListKeys", parent=team, page_token=bad).fields == ["page_token"], bad
    for size in (-1, -(1 << 31)):
        assert both.call("ListKeys", parent=team, page_size=size).fields == ["page_size"]
        assert both.call("ListTeams", parent="envs/dev", page_size=size).fields == ["page_size"]
        assert both.call("ListEnvironments", page_size=size).fields == ["page_size"]
        assert both.call("VerifyKeys", parent=team, page_size=size).fields == ["page_size"]
