"""Model fields whose columns hold ciphertexts, each bound to its row and its column.

    class Patient(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)
        diagnosis = EncryptedTextField(null=True)

    patient.diagnosis = "flu"
    patient.save()                    # one Encrypt
    patient.diagnosis                 # SecretStr(…): one Decrypt, when it is first asked for
    patient.diagnosis.reveal()        # "flu"

The encryption context is `{"field": "patients.patient.diagnosis", "row": "<primary key>"}`. A ciphertext that somebody copies into another
row or column of the database does not open there.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from django.core import checks
from django.db import models
from django.db.models import signals
from django.db.models.query_utils import DeferredAttribute
from keyreeve import SecretBytes, SecretStr

from encrypted.stored import Stored

S = TypeVar("S", SecretBytes, SecretStr)


class OpenedWhenAsked(DeferredAttribute):
    """The attribute of a model object. Lists, admin pages and `save` do not ask, so they make no calls and no audit records."""

    field: EncryptedField[Any]

    def __get__(self, instance: models.Model | None, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = super().__get__(instance, owner)
        return self.field.from_bytes(value.open()) if isinstance(value, Stored) else value

    def __set__(self, instance: models.Model, value: Any) -> None:
        # A plaintext does not show from the moment on at which it is assigned: not in the error report of a failed `save` either.
        kept = value if value is None or isinstance(value, Stored) else self.field.secret(value)
        instance.__dict__[self.field.attname] = kept


class EncryptedField(models.Field, Generic[S]):
    """What the fields have in common.

    Not editable, so that no form shows or asks for it unless it says so (`patients/admin.py`). `bound_to`: the name in the encryption
    context; give the old one (`app.model.field`) when model, field or app is renamed, or what is stored no longer opens.
    """

    descriptor_class = OpenedWhenAsked
    empty_strings_allowed = False

    def __init__(self, *args: Any, bound_to: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)
        self.bound_to = bound_to

    def secret(self, value: Any) -> S:
        """What was assigned, as a secret. A `TypeError` does not show it."""
        raise NotImplementedError

    def to_bytes(self, secret: S) -> SecretBytes:
        raise NotImplementedError

    def from_bytes(self, opened: SecretBytes) -> S:
        raise NotImplementedError

    def context(self, model: type[models.Model], pk: Any) -> dict[str, str]:
        if pk is None:
            raise ValueError(f"`{self.name}` is bound to its row, which has no primary key yet")
        # A primary key may have been assigned as text that is written in another way than it comes from the database.
        row = str(model._meta.pk.to_python(pk))
        return {"field": self.bound_to or f"{self.model._meta.label_lower}.{self.name}", "row": row}

    # --- between object and database

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            signals.class_prepared.connect(self._class_prepared)
            signals.post_init.connect(self._bind, sender=cls)

    def _class_prepared(self, sender: type[models.Model], **_: Any) -> None:
        # Proxies and children send signals of their own.
        if issubclass(sender, self.model) and sender is not self.model:
            signals.post_init.connect(self._bind, sender=sender)

    def _bind(self, instance: models.Model, **_: Any) -> None:
        """As the object comes from the database: later its primary key may change, as it does in a copy."""
        held = stored(instance, self.attname)
        if held and held.context is None:
            held.context = self.context(type(instance), instance.pk)

    def from_db_value(self, value: Any, *_: Any) -> Stored | None:
        return None if value is None else Stored(bytes(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Stored | None:
        value = model_instance.__dict__.get(self.attname)
        if value is None:
            return None
        context = self.context(type(model_instance), model_instance.pk)
        if isinstance(value, Stored):
            if value.context == context:
                return value
            value = self.from_bytes(value.open())  # the object is saved as another row: a copy
        sealed = Stored.seal(self.to_bytes(value), context)
        model_instance.__dict__[self.attname] = sealed
        return sealed

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, Stored):
            return value.ciphertext
        raise TypeError(
            f"`{self.name}` is encrypted and bound to its row: it cannot be searched, nor set by update() or bulk_update(); "
            "assign it to an object and save() that"
        )

    def get_lookup(self, lookup_name: str) -> Any:
        # `contains` and the like would send the plaintext to the database, as part of a pattern.
        return super().get_lookup(lookup_name) if lookup_name in ("exact", "isnull") else None

    def get_internal_type(self) -> str:
        return "BinaryField"

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"`{self.name}` is encrypted: leave it out of dumps, or back up the database itself")

    # --- declaration

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.bound_to:
            kwargs["bound_to"] = self.bound_to
        return name, path, args, kwargs

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        found = super().check(**kwargs)
        if self.model._meta.pk.db_returning:
            problem = "the row's primary key is made by the database, so it is not known when the value is encrypted"
            hint = "id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)"
            found.append(checks.Error(problem, hint=hint, obj=self, id="encrypted.E001"))
        if self.unique or self.has_default():
            problem = "an encrypted field is never equal to another one, and has no value without a row"
            found.append(checks.Error(problem, hint="no uniqueness, no default", obj=self, id="encrypted.E002"))
        return found


class EncryptedTextField(EncryptedField[SecretStr]):
    """Text of up to 64 KiB in UTF-8; read as `SecretStr`."""

    def secret(self, value: Any) -> SecretStr:
        if isinstance(value, (str, SecretStr)):
            return SecretStr(value, name=self.name)
        raise TypeError(f"`{self.name}` takes text, not {type(value).__name__}")

    def to_bytes(self, secret: SecretStr) -> SecretBytes:
        return secret.encode()

    def from_bytes(self, opened: SecretBytes) -> SecretStr:
        return SecretStr(opened.decode(), name=self.name)


class EncryptedBinaryField(EncryptedField[SecretBytes]):
    """Up to 64 KiB; read as `SecretBytes`."""

    def secret(self, value: Any) -> SecretBytes:
        if isinstance(value, (bytes, bytearray, memoryview, SecretBytes)):
            return SecretBytes(value, name=self.name)
        raise TypeError(f"`{self.name}` takes bytes, not {type(value).__name__}")

    def to_bytes(self, secret: SecretBytes) -> SecretBytes:
        return secret

    def from_bytes(self, opened: SecretBytes) -> SecretBytes:
        return SecretBytes(opened, name=self.name)


def encrypted_fields(model: type[models.Model]) -> list[EncryptedField[Any]]:
    """Those of a model's own table."""
    return [field for field in model._meta.local_fields if isinstance(field, EncryptedField)]


def stored(instance: models.Model, name: str) -> Stored | None:
    """What the row holds in a field, unopened; None if it holds nothing, or what was assigned is not saved yet."""
    value = instance.__dict__.get(name)
    return value if isinstance(value, Stored) else None
