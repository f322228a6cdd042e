"""A double and the service for the contract suite, alike: teams, environments, callers.

Both doubles pass it, each beside a service of its own: `keyreeve.testing` in this process, and the Rust one if it is built.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from support import rust_double
from support.dev import Dev
from support.rust_double import RustDouble

from contract.sides import Both, Side
from keyreeve import testing

CALLERS = {"admin": ["admin", "encrypter", "decrypter"], "app": ["encrypter"]}
BOUND = ("staging", "prod")
TEAMS = ["dev/shop", "prod/shop"]
_numbers = itertools.count(1)

Double = testing.Service | RustDouble

_built = pytest.mark.skipif(
    not rust_double.BINARY.is_file(), reason="keyreeve-double is not built: cargo build -p keyreeve-testing"
)


@pytest.fixture(scope="session", params=["python", pytest.param("rust", marks=_built)])
def language(request: pytest.FixtureRequest) -> str:
    """Whose double it is."""
    return str(request.param)


@pytest.fixture(scope="session")
def service(language: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """`keyreeve dev`, which may make two more environments."""
    service = Dev(tmp_path_factory.mktemp("contract") / "keyreeve")
    with service.running():
        pass
    more = "".join(f', "{name}"' for name in BOUND)
    for file in ("keyreeve.toml", "policy/identities.toml"):
        path = service.directory / file
        text = path.read_text()
        assert 'environments = ["dev"]' in text
        text = text.replace('environments = ["dev"]', f'environments = ["dev"{more}]')
        path.write_text(text.replace('teams = ["dev/shop"]', 'teams = ["dev/shop", "prod/shop"]'))
    with service.running():
        yield service


@pytest.fixture(scope="session")
def new_double(language: str) -> Callable[[], Double]:
    """Starts another one."""

    def start() -> Double:
        if language == "rust":
            return RustDouble(bound=BOUND, callers=CALLERS, teams=TEAMS)
        service = testing.Service(teams=["dev/shop"], bound=BOUND)
        for who, roles in CALLERS.items():
            service.add_caller(who, roles=roles, teams=TEAMS)
        return service

    return start


@pytest.fixture(scope="session")
def double(new_double: Callable[[], Double]) -> Iterator[Double]:
    with new_double() as double:
        yield double


@pytest.fixture(scope="session")
def both(double: Double, service: Dev) -> Iterator[Both]:
    sides = (
        Side("double", {who: double.settings(who) for who in CALLERS}),
        Side("service", {who: service.settings(who) for who in CALLERS}),
    )
    yield Both(*sides)
    for side in sides:
        side.close()


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """Ids of keys and teams that nobody has used yet."""
    return lambda: f"contract-{next(_numbers)}"


@pytest.fixture
def new_key(both: Both, new_name: Callable[[], str]) -> Callable[..., str]:
    """Makes a key on both sides; its full name."""

    def make(**fields: object) -> str:
        key_id = new_name()
        both.call("CreateKey", parent="envs/dev/teams/shop", key_id=key_id, **fields).answers  # noqa: B018
        return f"envs/dev/teams/shop/keys/{key_id}"

    return make


@pytest.fixture
def key(new_key: Callable[..., str]) -> str:
    return new_key()
