"""What a row holds of an encrypted field, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from keyreeve import SecretBytes

from encrypted.service import client

# Of a ciphertext's header (docs/formats.md, section 3).
_KEY_VERSION = slice(24, 28)


class Stored:
    """A ciphertext, with the context that opens it as soon as its row is known. Opened once at most, and only when it is asked for."""

    def __init__(self, ciphertext: bytes, context: Mapping[str, str] | None = None) -> None:
        self.ciphertext = ciphertext
        self.context = context
        self._opened: SecretBytes | None = None

    @classmethod
    def seal(cls, secret: SecretBytes, context: Mapping[str, str]) -> Stored:
        stored = cls(client().encrypt(settings.ENCRYPTED_FIELDS_KEY, secret, context=context), context)
        stored._opened = secret
        return stored

    @property
    def key_version(self) -> int:
        """Of the key that it was encrypted with."""
        return int.from_bytes(self.ciphertext[_KEY_VERSION], "big")

    def open(self) -> SecretBytes:
        """Raises DecryptFailed if the ciphertext is of another row or column, or was changed."""
        if self._opened is None:
            if self.context is None:
                raise TypeError("this ciphertext does not know its row: read it by a model object, not by values()")
            self._opened = client().decrypt(settings.ENCRYPTED_FIELDS_KEY, self.ciphertext, context=self.context)
        return self._opened

    def reencrypted(self, context: Mapping[str, str]) -> Stored:
        """The same under the newest version of the key. The plaintext stays in the service."""
        return Stored(client().reencrypt(settings.ENCRYPTED_FIELDS_KEY, self.ciphertext, context=context), context)

    def __str__(self) -> str:
        return f"{len(self.ciphertext)} bytes, key version {self.key_version}"

    def __reduce__(self) -> tuple[type[Stored], tuple[bytes, Mapping[str, str] | None]]:
        # Model objects are pickled into caches: the ciphertext goes there, what was opened does not.
        return Stored, (self.ciphertext, self.context)
