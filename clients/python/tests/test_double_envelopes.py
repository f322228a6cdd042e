"""The envelopes of the double have the bytes of the service's (docs/formats.md, section 3)."""

from __future__ import annotations

from typing import Any

import pytest

from keyreeve import SecretBytes, context
from keyreeve.testing import envelopes
from keyreeve.testing.refusals import Refusal


@pytest.mark.parametrize("name", ["envelope_prf_commit", "envelope_token_gcm"])
def test_the_vectors_are_opened_and_made_again(vectors: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    vector = vectors[name]
    secret, sealed = SecretBytes(bytes.fromhex(vector["key"])), bytes.fromhex(vector["envelope"])
    bound = context.digest(bytes.fromhex(vectors["encryption_context"]["canonical"]))
    assert envelopes.open_(secret, sealed, bound).hex() == vector["plaintext"]
    with pytest.raises(Refusal):
        envelopes.open_(secret, sealed, bytes(32))
    drawn = {12: vector["iv"], 32: vector.get("salt", "")}
    monkeypatch.setattr("secrets.token_bytes", lambda length: bytes.fromhex(drawn[length]))
    again = envelopes.seal(secret, envelopes.parse(sealed), bound, bytes.fromhex(vector["plaintext"]))
    assert again.hex() == vector["envelope"]
