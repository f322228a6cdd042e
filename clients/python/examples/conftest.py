"""Beside the fixtures of `../conftest.py`: what lives as long as an example's server."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from keyreeve import Client

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def new_key(shared_client: Client) -> Callable[[], str]:
    """Makes keys."""
    return lambda: shared_client.create_key(f"dev/shop/example-{next(_numbers)}").name
