"""After a rotation: new values take the new version, old ones open, and `reencrypt` brings them over."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from conftest import CANARY
from django.conf import settings
from django.core.management import CommandError, call_command
from keyreeve import Client

from encrypted.fields import stored
from encrypted.stored import Stored
from patients.models import Patient


def versions() -> list[int]:
    found = [stored(patient, "diagnosis") for patient in Patient.objects.order_by("name")]
    return [held.key_version for held in found if held]


def reencrypt() -> str:
    out = io.StringIO()
    call_command("reencrypt", "patients.Patient", stdout=out, stderr=out)
    return out.getvalue()


@pytest.fixture
def rotated(calls: list[str], shared_client: Client) -> list[str]:
    """Two patients, and a key that was rotated since."""
    for name in ("Ada", "Grace"):
        Patient.objects.create(name=name, diagnosis=f"{CANARY} {name}")
    shared_client.rotate_key(settings.ENCRYPTED_FIELDS_KEY)
    calls.clear()
    return calls


def test_old_values_open_and_new_ones_take_the_new_version(rotated: list[str]) -> None:
    ada = Patient.objects.get(name="Ada")
    assert ada.diagnosis.reveal() == f"{CANARY} Ada"
    ada.diagnosis = "better"
    ada.save()
    assert versions() == [2, 1]


def test_reencrypt_brings_all_under_the_newest_version_without_opening_one(rotated: list[str]) -> None:
    assert "diagnosis: 2 under version 2" in reencrypt()
    assert rotated == ["GetKey", "ReEncrypt", "ReEncrypt"]
    assert versions() == [2, 2]
    assert [p.diagnosis.reveal() for p in Patient.objects.order_by("name")] == [f"{CANARY} Ada", f"{CANARY} Grace"]


def test_run_again_it_does_nothing_twice(rotated: list[str]) -> None:
    reencrypt()
    rotated.clear()
    assert "diagnosis: 0 under version 2" in reencrypt()
    assert rotated == ["GetKey"]


def test_it_passes_every_page(rotated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encrypted.management.commands.reencrypt.PAGE", 1)
    assert "diagnosis: 2 under version 2" in reencrypt()


def test_a_value_that_is_saved_meanwhile_is_not_overwritten(
    rotated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Stored.reencrypted

    def slow(self: Stored, context: Any) -> Stored:
        new = original(self, context)
        patient = Patient.objects.get(pk=context["row"])
        patient.diagnosis = f"newer than {CANARY}"
        patient.save()
        return new

    monkeypatch.setattr(Stored, "reencrypted", slow)
    assert "diagnosis: 0 under version 2" in reencrypt()
    assert [p.diagnosis.reveal() for p in Patient.objects.all()] == [f"newer than {CANARY}"] * 2


def test_a_value_that_cannot_be_opened_is_named_and_the_others_are_done(
    rotated: list[str], database: Callable[..., Any]
) -> None:
    grace = Patient.objects.get(name="Grace")
    database(
        "UPDATE patients_patient SET diagnosis = (SELECT diagnosis FROM patients_patient WHERE name = 'Ada') "
        "WHERE name = 'Grace'"
    )
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 values cannot be opened"):
        call_command("reencrypt", "patients.Patient", stdout=out, stderr=out)
    assert str(grace.pk) in out.getvalue()
    assert versions() == [2, 1]
