"""A Django field whose values are sealed in the database."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import models

from keyreeve import Client, Opener, Sealer, SecretStr

KEY = "dev/shop/patients"


@cache
def client() -> Client:
    """Made on first use: after the server's workers have forked. With cached data keys, so that many rows cost few calls."""
    return Client(data_key_cache=True)


@cache
def sealer() -> Sealer:
    return client().sealer(KEY)


@cache
def opener() -> Opener:
    return client().opener(KEY)


class EncryptedTextField(models.BinaryField):
    """Text, sealed under KEY; reads as `SecretStr`. The context is model and field: a value cannot be moved to another field."""

    def from_db_value(self, value: Any, expression: object, connection: object) -> SecretStr | None:
        return None if value is None else opener().open(bytes(value), context=self._context()).decode()

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        sealed = None if value is None else sealer().seal(SecretStr(value).encode(), context=self._context())
        return super().get_db_prep_value(sealed, connection, prepared)

    def get_lookup(self, lookup_name: str) -> Any:
        """A sealed value equals nothing: only `isnull` makes sense."""
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"{self._context()['field']} is not dumped: it would be in clear")

    def _context(self) -> dict[str, str]:
        return {"field": f"{self.model._meta.label_lower}.{self.attname}"}
