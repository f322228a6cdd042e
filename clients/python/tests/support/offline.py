"""A client whose calls are answered in its own process: by real envelopes, under version keys that the test holds."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, NamedTuple, TypeVar

from keyreeve import Client, SecretBytes, context, errors
from keyreeve.calls import Call
from keyreeve.testing import envelopes
from keyreeve.testing.envelopes import Header, Suite
from keyreeve.testing.refusals import Refusal, decrypt_failed
from support.certificates import Authority

T = TypeVar("T")


class VersionKey(NamedTuple):
    """Of the only version of a key."""

    key_id: bytes
    secret: SecretBytes


class Offline(Client):
    """Reaches nobody. `calls`: what it would have asked the service for."""

    def __init__(self, authority: Authority, keys: dict[str, VersionKey], *, data_key_cache: bool) -> None:
        certificate, key = authority.issue("offline")
        super().__init__("127.0.0.1:1", ca=authority.ca, cert=certificate, key=key, data_key_cache=data_key_cache)
        self._data_keys.on_name = None
        self._data_keys.ids.update({name: key.key_id for name, key in keys.items()})
        self._keys = keys
        self.calls: Counter[str] = Counter()

    def _run(self, call: Call[T], deadline: float | None) -> T:
        self.calls[call.method.name] += 1
        try:
            return call.read(call.method.answer(**self._answer(call.method.name, call.request.value)))
        except Refusal as refusal:
            text = refusal.text
        raise errors.DecryptFailed(text, request_id="req-7")

    def _answer(self, method: str, asked: Any) -> dict[str, Any]:
        if method == "GenerateDataKey":
            plaintext = os.urandom(32)
            return {"plaintext": plaintext, "ciphertext": self._seal(asked.name, asked.encryption_context, plaintext)}
        if method == "UnwrapDataKey":
            return {"plaintext": self._open(asked.name, asked.encryption_context, asked.ciphertext)}
        if method == "ReEncrypt":
            opened = self._open(asked.source_name, asked.source_encryption_context, asked.ciphertext)
            pairs = asked.destination_encryption_context
            return {"ciphertext": self._seal(asked.destination_name, pairs, opened)}
        raise AssertionError(f"nothing answers {method} here")

    def _seal(self, name: str, pairs: Any, plaintext: bytes) -> bytes:
        key = self._keys[name]
        header = Header(True, Suite.PRF_COMMIT, key.key_id, 1)
        return envelopes.seal(key.secret, header, _digest(pairs), plaintext)

    def _open(self, name: str, pairs: Any, envelope: bytes) -> bytes:
        key, header = self._keys[name], envelopes.parse(envelope)
        if header != Header(True, Suite.PRF_COMMIT, key.key_id, 1):
            raise decrypt_failed()
        return envelopes.open_(key.secret, envelope, _digest(pairs))


def _digest(pairs: Any) -> bytes:
    return context.digest(context.canonical([(pair.key, pair.value) for pair in pairs]))
