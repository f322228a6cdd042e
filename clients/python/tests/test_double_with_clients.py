"""The tests of the clients, of sealing, of the cache and of watching, which the service passes: on the double, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_calls import *
from test_data_keys import *
from test_sealing import *
from test_watch import *

from keyreeve import Client, testing

# It starts a service of its own.
del test_a_watch_goes_on_after_a_restart_from_where_it_was  # noqa: F821


class _Double:
    """What those tests use of `keyreeve dev`."""

    def __init__(self, service: testing.Service) -> None:
        self.settings = service.settings
        self.environment = service.environ


@pytest.fixture(scope="module")
def dev() -> Iterator[Any]:
    with testing.Service() as service:
        yield _Double(service)


@pytest.fixture(scope="module")
def shared_client(dev: Any) -> Iterator[Client]:
    with Client(**dev.settings()) as client:
        yield client
