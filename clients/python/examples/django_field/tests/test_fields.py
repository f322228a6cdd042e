"""What is stored, what shows, and that a ciphertext belongs to its row and its column."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection, models
from django.test.utils import isolate_apps
from keyreeve import SecretStr
from keyreeve.errors import DecryptFailed

from encrypted.fields import EncryptedTextField, stored
from patients.models import Patient

pytestmark = pytest.mark.usefixtures("calls")


def saved(**fields: Any) -> Patient:
    return Patient.objects.create(name="Ada", **fields)


def again(patient: Patient) -> Patient:
    return Patient.objects.get(pk=patient.pk)


def test_what_was_saved_comes_back_and_the_database_file_does_not_hold_it() -> None:
    patient = saved(diagnosis=CANARY, scan=CANARY.encode())
    found = again(patient)
    assert found.diagnosis.reveal() == CANARY
    assert found.scan.reveal() == CANARY.encode()
    connection.close()
    files = list(Path(connection.settings_dict["NAME"]).parent.iterdir())
    assert all(CANARY.encode() not in file.read_bytes() for file in files)
    assert b"Ada" in files[0].read_bytes(), "this test reads the right file"


def test_a_value_shows_nowhere_from_its_assignment_on() -> None:
    patient = Patient(name="Ada", diagnosis=CANARY)
    assert CANARY not in repr(vars(patient))
    patient.save()
    assert CANARY not in repr(vars(patient)) + repr(patient.diagnosis) + repr(again(patient).diagnosis)
    with pytest.raises(TypeError) as caught:
        patient.diagnosis = [CANARY]
    assert CANARY not in str(caught.value)


def test_nothing_is_opened_before_it_is_asked_for_and_then_once(calls: list[str]) -> None:
    patient = saved(diagnosis=CANARY)
    assert calls == ["Encrypt"]
    found = next(iter(Patient.objects.all()))
    found.name = "Ada Lovelace"
    found.save()
    assert calls == ["Encrypt"], "an unchanged value is written as it is"
    assert [found.diagnosis.reveal(), found.diagnosis.reveal()] == [CANARY, CANARY]
    assert calls == ["Encrypt", "Decrypt"]
    assert Patient.objects.defer("diagnosis").get(pk=patient.pk).diagnosis.reveal() == CANARY


def test_a_ciphertext_in_another_row_does_not_open(database: Callable[..., Any]) -> None:
    ada, grace = saved(diagnosis=CANARY), saved(diagnosis="a cold")
    database(
        "UPDATE patients_patient SET diagnosis = (SELECT diagnosis FROM patients_patient WHERE id = %s) WHERE id = %s",
        ada.pk.hex,
        grace.pk.hex,
    )
    with pytest.raises(DecryptFailed):
        _ = again(grace).diagnosis
    assert again(ada).diagnosis.reveal() == CANARY


def test_a_ciphertext_in_another_column_does_not_open(database: Callable[..., Any]) -> None:
    ada = saved(diagnosis=CANARY)
    database("UPDATE patients_patient SET scan = diagnosis")
    with pytest.raises(DecryptFailed):
        _ = again(ada).scan


def test_a_row_that_gets_another_primary_key_does_not_open(database: Callable[..., Any]) -> None:
    saved(diagnosis=CANARY)
    other = uuid.uuid4()
    database("UPDATE patients_patient SET id = %s", other.hex)
    with pytest.raises(DecryptFailed):
        _ = Patient.objects.get(pk=other).diagnosis


def test_a_copy_of_an_object_is_encrypted_anew_for_its_own_row() -> None:
    copy = again(saved(diagnosis=CANARY))
    copy.pk = uuid.uuid4()
    copy._state.adding = True
    copy.save()
    first, second = Patient.objects.all()
    assert first.diagnosis.reveal() == second.diagnosis.reveal() == CANARY


def test_a_primary_key_given_as_text_is_the_same_row() -> None:
    pk = uuid.uuid4()
    Patient(pk=str(pk).upper(), name="Ada", diagnosis=CANARY).save()
    assert Patient.objects.get(pk=pk).diagnosis.reveal() == CANARY


@isolate_apps("patients")
def test_an_object_opens_through_a_proxy_model() -> None:
    class Admitted(Patient):
        class Meta:
            proxy = True
            app_label = "patients"

    patient = saved(diagnosis=CANARY)
    copy = Admitted.objects.get(pk=patient.pk)
    copy.pk = uuid.uuid4()
    copy.save(force_insert=True)
    assert Admitted.objects.get(pk=copy.pk).diagnosis.reveal() == CANARY


def test_bulk_create_encrypts_each_row() -> None:
    Patient.objects.bulk_create([Patient(name=str(n), diagnosis=f"{CANARY} {n}") for n in range(3)])
    assert {patient.diagnosis.reveal() for patient in Patient.objects.all()} == {f"{CANARY} {n}" for n in range(3)}


def test_what_has_no_row_is_refused_without_showing_the_value() -> None:
    patient = saved(diagnosis=CANARY)
    attempts: list[Callable[[], Any]] = [
        lambda: Patient.objects.filter(diagnosis=CANARY).exists(),
        lambda: Patient.objects.update(diagnosis=CANARY),
        lambda: Patient.objects.bulk_update([Patient(pk=patient.pk, diagnosis=CANARY)], ["diagnosis"]),
        lambda: serializers.serialize("json", Patient.objects.all()),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match="encrypted") as caught:
            attempt()
        assert CANARY not in str(caught.value)
    for lookup in ("contains", "startswith", "in", "regex", "gt"):
        with pytest.raises(FieldError) as other:
            Patient.objects.filter(**{f"diagnosis__{lookup}": CANARY}).exists()
        assert CANARY not in str(other.value)
    assert Patient.objects.filter(diagnosis__isnull=False).count() == 1
    assert Patient.objects.filter(diagnosis=None).count() == 0


def test_a_pickled_object_carries_the_ciphertext_only() -> None:
    found = again(saved(diagnosis=CANARY))
    _ = found.diagnosis
    pickled = pickle.dumps(found)
    assert CANARY.encode() not in pickled
    assert pickle.loads(pickled).diagnosis.reveal() == CANARY


def test_nothing_and_empty_text_are_two_values() -> None:
    nothing, empty = saved(diagnosis=None), saved(diagnosis="")
    assert again(nothing).diagnosis is None
    assert again(empty).diagnosis == SecretStr("")


@isolate_apps("patients")
def test_a_model_whose_rows_are_numbered_by_the_database_does_not_pass_the_checks() -> None:
    class Numbered(models.Model):
        note = EncryptedTextField(unique=True)

        class Meta:
            app_label = "patients"

    assert [problem.id for problem in Numbered._meta.get_field("note").check()] == ["encrypted.E001", "encrypted.E002"]
    assert Patient.check() == []


@isolate_apps("patients")
def test_a_renamed_field_opens_under_its_old_name() -> None:
    class Renamed(models.Model):
        id = models.UUIDField(primary_key=True)
        finding = EncryptedTextField(null=True, db_column="diagnosis", bound_to="patients.patient.diagnosis")

        class Meta:
            app_label = "patients"
            db_table = "patients_patient"
            managed = False

    patient = saved(diagnosis=CANARY)
    assert Renamed._default_manager.get(pk=patient.pk).finding.reveal() == CANARY
    assert "bound_to" in Renamed._meta.get_field("finding").deconstruct()[3]
    held = stored(again(patient), "diagnosis")
    assert held
    assert held.key_version == 1
