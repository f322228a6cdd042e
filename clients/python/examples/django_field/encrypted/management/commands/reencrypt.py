"""`manage.py reencrypt patients.Patient`: brings what older versions of the key encrypted under the newest one, at leisure.

After a rotation nothing has to happen: new values take the new version, old ones open as before. This ends their use, so that the old
version can be destroyed. It may be stopped at any time and run again; what is done is not done twice.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import models
from keyreeve.errors import DecryptFailed

from encrypted.fields import EncryptedField, encrypted_fields
from encrypted.service import client
from encrypted.stored import Stored

PAGE = 500


class Command(BaseCommand):
    help = "Brings encrypted fields of a model under the newest version of the key"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="app.Model")
        parser.add_argument("--pause", type=float, default=0, metavar="SECONDS", help="after each page of 500 rows")

    def handle(self, *args: Any, **options: Any) -> None:
        model = apps.get_model(options["model"])
        newest = client().get_key(settings.ENCRYPTED_FIELDS_KEY).primary_version
        damaged = 0
        for field in encrypted_fields(model):
            done, failed = self._column(model, field, newest, options["pause"])
            self.stdout.write(f"{field.name}: {done} under version {newest}, {failed} cannot be opened")
            damaged += failed
        if damaged:
            raise CommandError(f"{damaged} values cannot be opened: see above; the others are done")

    def _column(
        self, model: type[models.Model], field: EncryptedField[Any], newest: int, pause: float
    ) -> tuple[int, int]:
        done = failed = 0
        rows = model._base_manager.filter(**{f"{field.name}__isnull": False}).order_by("pk")
        page = rows
        while found := list(page.values_list("pk", field.name)[:PAGE]):
            for pk, stored in found:
                if stored.key_version >= newest:
                    continue
                try:
                    done += self._row(model, field, pk, stored)
                except DecryptFailed as error:
                    failed += 1
                    self.stderr.write(f"{field.name} of {pk}: {error}")
            page = rows.filter(pk__gt=found[-1][0])
            time.sleep(pause)
        return done, failed

    def _row(self, model: type[models.Model], field: EncryptedField[Any], pk: Any, stored: Stored) -> int:
        new = stored.reencrypted(field.context(model, pk))
        # Only if nobody wrote meanwhile: whoever did has used the newest version anyhow.
        return model._base_manager.filter(pk=pk, **{field.name: stored}).update(**{field.name: new})
