"""One `keyreeve dev` for all tests; a scripted service for what a sound one does not do."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.dev import Dev
from support.scripted import Scripted, running

from keyreeve import Client

REPOSITORY = Path(__file__).parents[2]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    service = Dev(tmp_path_factory.mktemp("dev") / "keyreeve")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def shared_client(dev: Dev) -> Iterator[Client]:
    with Client(**dev.settings()) as client:
        yield client


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


@pytest.fixture
def new_key(client: Client) -> Callable[[], str]:
    """Makes keys; each test has its own."""

    def make() -> str:
        return client.create_key(f"dev/shop/test-{next(_numbers)}").name

    return make


@pytest.fixture
def key(new_key: Callable[[], str]) -> str:
    return new_key()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def scripted(authority: Authority) -> Iterator[Scripted]:
    yield from running(authority)


@pytest.fixture(scope="session")
def vectors() -> Any:
    return json.loads((REPOSITORY / "tests/vectors/formats-v1.json").read_text())


@pytest.fixture
def environment(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEYREEVE_…, as a program finds them."""
    for name, value in dev.environment().items():
        monkeypatch.setenv(name, value)
