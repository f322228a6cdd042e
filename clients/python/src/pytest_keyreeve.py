"""pytest fixtures over `keyreeve.testing`. A module of its own, so that a test run that uses none of them imports nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.testing import Service


@pytest.fixture
def keyreeve_service() -> Iterator[Service]:
    """An in-memory Keyreeve with the team `dev/shop`, for one test."""
    from keyreeve.testing import Service

    with Service() as service:
        yield service


@pytest.fixture
def keyreeve_client(keyreeve_service: Service) -> Client:
    """A client of `keyreeve_service` that may do everything."""
    return keyreeve_service.client()


@pytest.fixture
def keyreeve_env(keyreeve_service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """`keyreeve_service`, with the environment variables that make `Client()` of the code under test find it."""
    for name, value in keyreeve_service.environ().items():
        monkeypatch.setenv(name, value)
    return keyreeve_service
