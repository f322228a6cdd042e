"""A SQLAlchemy column type whose values are sealed in the database."""

from __future__ import annotations

from functools import cache
from typing import Any

from keyreeve import Client, Opener, Sealer, SecretStr
from sqlalchemy import Dialect, LargeBinary
from sqlalchemy.types import TypeDecorator

KEY = "dev/shop/customers"


@cache
def client() -> Client:
    """With cached data keys: a query of 1,000 rows then asks the service once or twice, not 1,000 times."""
    return Client(data_key_cache=True)


@cache
def sealer() -> Sealer:
    return client().sealer(KEY)


@cache
def opener() -> Opener:
    return client().opener(KEY)


class Encrypted(TypeDecorator[SecretStr]):
    """Text, sealed under KEY. Reads as `SecretStr`, which neither repr nor logs show.

    The context is what the column is called, `Encrypted("customers.iban")`: a value cannot be moved to another column. A type does not see
    the row, so it can be moved to another row; where that matters, seal in the model, with the row's id in the context.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def process_bind_param(self, value: SecretStr | str | None, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        return sealer().seal(SecretStr(value).encode(), context={"column": self.name})

    def process_result_value(self, value: Any, dialect: Dialect) -> SecretStr | None:
        if value is None:
            return None
        return opener().open(value, context={"column": self.name}).decode()
