"""The migration that encrypts what was there in clear, and back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import CANARY
from django.core.management import call_command
from django.db import connection

from patients.models import Patient


def test_the_migrations_are_those_of_the_models(calls: list[str]) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_values_in_clear_are_encrypted_and_can_come_back(calls: list[str], database: Callable[..., Any]) -> None:
    call_command("migrate", "patients", "0001", verbosity=0)
    pk = uuid.uuid4()
    database("INSERT INTO patients_patient (id, name, diagnosis) VALUES (%s, 'Ada', %s)", pk.hex, CANARY)
    call_command("migrate", "patients", verbosity=0)
    assert Patient.objects.get().diagnosis.reveal() == CANARY
    call_command("migrate", "patients", "0001", verbosity=0)
    assert database("SELECT diagnosis FROM patients_patient") == [(CANARY,)]


def test_after_vacuum_the_database_file_no_longer_holds_what_was_in_clear(
    calls: list[str], database: Callable[..., Any]
) -> None:
    call_command("migrate", "patients", "0001", verbosity=0)
    database("INSERT INTO patients_patient (id, name, diagnosis) VALUES (%s, 'Ada', %s)", uuid.uuid4().hex, CANARY)
    call_command("migrate", "patients", verbosity=0)
    database("VACUUM")
    assert CANARY.encode() not in Path(connection.settings_dict["NAME"]).read_bytes()
