"""The example's Django with a database and a key of its own for each test, against the real service."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from keyreeve import Client, Event
from support.dev import Dev

CANARY = "canary-7f1d the flu"

os.environ.update(DJANGO_SETTINGS_MODULE="clinic.settings", CLINIC_DATABASE=":memory:")
django.setup()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows. Migrations make no calls there."""
    from django.core.management import call_command
    from django.db import connection

    path = tmp_path_factory.mktemp("migrated") / "clinic.sqlite3"
    connection.close()
    connection.settings_dict["NAME"] = str(path)
    call_command("migrate", verbosity=0)
    connection.close()
    return path


@pytest.fixture
def calls(
    dev: Dev, migrated: Path, new_key: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The methods that the example calls, in their order."""
    from django.conf import settings
    from django.db import connection

    from encrypted import service

    made: list[str] = []

    def note(event: Event) -> None:
        if event.name == "call":
            made.append(event.method)

    for name, value in dev.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "ENCRYPTED_FIELDS_KEY", new_key())
    monkeypatch.setattr(service, "Client", functools.partial(Client, on_event=note))
    service.client.cache_clear()
    connection.settings_dict["NAME"] = str(shutil.copy(migrated, tmp_path))
    yield made
    connection.close()
    service.client().close()
    service.client.cache_clear()


@pytest.fixture
def database(calls: list[str]) -> Callable[..., Any]:
    """Runs SQL past the models, as somebody with the password of the database would."""
    from django.db import connection

    def run(sql: str, *parameters: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    return run


@pytest.fixture(autouse=True)
def log_without_plaintext(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every line of every test, SQL statements included."""
    caplog.set_level(logging.DEBUG)
    yield
    text = "".join(
        record.getMessage() + str(record.exc_text) for when in ("setup", "call") for record in caplog.get_records(when)
    )
    assert CANARY not in text
