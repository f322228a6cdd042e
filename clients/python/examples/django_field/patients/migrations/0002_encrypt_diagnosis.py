"""Encrypts the diagnoses that are there: the column in clear moves aside, is copied value by value, and goes.

In production this is three releases: write both columns; copy; drop the old one. And it does not end with the column: free pages,
write-ahead logs, replicas and backups still hold what was in clear (README.md).
"""

from typing import Any

from django.db import migrations

import encrypted.fields


def encrypt(apps: Any, _: Any) -> None:
    for patient in apps.get_model("patients", "Patient").objects.exclude(diagnosis_in_clear=None).iterator():
        patient.diagnosis = patient.diagnosis_in_clear
        patient.save(update_fields=["diagnosis"])


def decrypt(apps: Any, _: Any) -> None:
    for patient in apps.get_model("patients", "Patient").objects.exclude(diagnosis=None).iterator():
        patient.diagnosis_in_clear = patient.diagnosis.reveal()
        patient.save(update_fields=["diagnosis_in_clear"])


class Migration(migrations.Migration):
    dependencies = [("patients", "0001_initial")]
    operations = [
        migrations.RenameField("patient", "diagnosis", "diagnosis_in_clear"),
        migrations.AddField("patient", "diagnosis", encrypted.fields.EncryptedTextField(editable=False, null=True)),
        migrations.AddField("patient", "scan", encrypted.fields.EncryptedBinaryField(editable=False, null=True)),
        migrations.RunPython(encrypt, decrypt),
        migrations.RemoveField("patient", "diagnosis_in_clear"),
    ]
