from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection, models
from django_field import fields

from keyreeve import Client, SecretStr
from keyreeve.errors import DecryptFailed

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "set by the test"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()


class Patient(models.Model):
    diagnosis = fields.EncryptedTextField(null=True)
    remark = fields.EncryptedTextField(null=True)

    class Meta:
        app_label = "clinic"


@pytest.fixture
def database(client: Client, environment: None, tmp_path: Path) -> Iterator[Path]:
    for made in (fields.client, fields.sealer, fields.opener):
        made.cache_clear()
    if not any(key.name.endswith("/patients") for key in client.list_keys("dev/shop")):
        client.create_key(fields.KEY)
    connection.settings_dict["NAME"] = str(tmp_path / "clinic.db")
    with connection.schema_editor() as editor:
        editor.create_model(Patient)
    yield tmp_path / "clinic.db"
    connection.close()
    fields.client().close()


def test_values_are_sealed_in_the_database_and_hidden_in_the_program(database: Path) -> None:
    Patient.objects.create(diagnosis=SecretStr("canary pox"))
    Patient.objects.create(diagnosis="plain text is taken, too")
    first, second = Patient.objects.order_by("id")
    assert first.diagnosis.reveal() == "canary pox"
    assert "canary" not in repr(first.diagnosis)
    assert second.diagnosis.reveal() == "plain text is taken, too"
    assert first.remark is None
    assert b"canary" not in database.read_bytes()
    assert Patient.objects.filter(diagnosis__isnull=False).count() == 2


def test_a_value_in_another_field_does_not_open(database: Path) -> None:
    Patient.objects.create(diagnosis="one", remark="other")
    with connection.cursor() as cursor:
        cursor.execute("update clinic_patient set diagnosis = remark")
    with pytest.raises(DecryptFailed):
        Patient.objects.get()


def test_what_would_find_nothing_or_show_everything_is_refused(database: Path) -> None:
    Patient.objects.create(diagnosis="canary")
    with pytest.raises(FieldError):
        Patient.objects.filter(diagnosis="canary").count()
    with pytest.raises(TypeError, match="not dumped"):
        dump: Any = serializers.serialize("json", Patient.objects.all())
        assert not dump
