"""`manage.py demo`: what this example shows, in one go, with a patient of its own."""

from __future__ import annotations

import contextlib
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from keyreeve.errors import AlreadyExists, DecryptFailed

from encrypted.service import client
from patients.models import Patient


class Command(BaseCommand):
    help = "Saves a patient, shows what the database holds, moves a ciphertext, rotates the key"

    def handle(self, *args: Any, **options: Any) -> None:
        with contextlib.suppress(AlreadyExists):
            client().create_key(settings.ENCRYPTED_FIELDS_KEY)
        call_command("migrate", verbosity=0)
        ada = Patient.objects.create(name="Ada", diagnosis="the flu")
        grace = Patient.objects.create(name="Grace", diagnosis="a cold")

        diagnosis = Patient.objects.get(pk=ada.pk).diagnosis
        self.stdout.write(f"as Python shows it: {diagnosis!r}; revealed: {diagnosis.reveal()}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT diagnosis FROM patients_patient WHERE id = %s", [ada.pk.hex])
            self.stdout.write(f"as the database holds it: {cursor.fetchone()[0].hex()[:64]}…")
            cursor.execute(
                "UPDATE patients_patient SET diagnosis = (SELECT diagnosis FROM patients_patient WHERE id = %s) "
                "WHERE id = %s",
                [ada.pk.hex, grace.pk.hex],
            )
        try:
            _ = Patient.objects.get(pk=grace.pk).diagnosis
        except DecryptFailed as error:
            self.stdout.write(f"Ada's diagnosis in Grace's row: {error.reason}")
        grace.save()

        client().rotate_key(settings.ENCRYPTED_FIELDS_KEY)
        call_command("reencrypt", "patients.Patient", stdout=self.stdout)
        Patient.objects.filter(pk__in=[ada.pk, grace.pk]).delete()
