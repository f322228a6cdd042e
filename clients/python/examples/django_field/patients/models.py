from __future__ import annotations

import uuid

from django.db import models

from encrypted.fields import EncryptedBinaryField, EncryptedTextField


class Patient(models.Model):
    # Known before the row is saved: the ciphertexts are bound to it.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    diagnosis = EncryptedTextField(null=True)
    scan = EncryptedBinaryField(null=True)

    class Meta:
        permissions = [("read_diagnosis", "Can read diagnoses")]  # noqa: RUF012 - as Django's Meta is written

    def __str__(self) -> str:
        return self.name
