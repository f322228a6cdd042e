"""CryptoService: each call parses, asks the gate, works with the key, answers. In the order of the service, so that errors are the same."""

from __future__ import annotations

import secrets
from typing import Any

from google.protobuf.message import Message

from keyreeve.secret import SecretBytes
from keyreeve.testing import envelopes, inputs, resource_names
from keyreeve.testing.callers import Caller
from keyreeve.testing.contexts import context_hash
from keyreeve.testing.directory import Directory
from keyreeve.testing.envelopes import Header
from keyreeve.testing.gate import Gate
from keyreeve.testing.refusals import decrypt_failed, environment_unbound, invalid
from keyreeve.testing.resources import Key, Version
from keyreeve.v1 import crypto_pb2 as proto

GENERATE, WRAP, UNWRAP = "make data keys", "wrap data keys", "unwrap data keys"
ENCRYPT, DECRYPT = "encrypt", "decrypt"
"""For errors: "may not …"."""
_DATA_KEY, _MOST_RANDOM = 32, 4096


class CryptoService:
    def __init__(self, gate: Gate, directory: Directory) -> None:
        self.gate = gate
        self._directory = directory

    def encrypt(self, caller: Caller, request: Any) -> Message:
        bound = context_hash(request.encryption_context, request.aad)
        name, plaintext = _key(request), inputs.plaintext(request)
        key = self.gate.key(caller, "Encrypt", name)
        return encrypted(key, key.protecting(ENCRYPT), bound, plaintext)

    def decrypt(self, caller: Caller, request: Any) -> Message:
        name = _key(request)
        bound, ciphertext = _opening(request)
        return decrypted(self.gate.key(caller, "Decrypt", name), bound, ciphertext)

    def re_encrypt(self, caller: Caller, request: Any) -> Message:
        source = resource_names.key("source_name", request.source_name)
        named = request.destination_name
        destination = resource_names.key("destination_name", named) if named else source
        bound = context_hash(request.source_encryption_context, request.source_aad)
        ciphertext = inputs.ciphertext(request)
        bound_anew = context_hash(request.destination_encryption_context, request.destination_aad)
        one, other = self.gate.key_pair(caller, ("ReEncryptFrom", source), ("ReEncryptTo", destination))
        header, version = _parsed(one, ciphertext, DECRYPT)
        target = other.protecting(ENCRYPT)
        plaintext = _opened(version, ciphertext, bound)
        sealed = _sealed(other, target, bound_anew, plaintext, data_key=header.data_key)
        return proto.ReEncryptResponse(ciphertext=sealed, source_key_version=version.number, key_version=target.number)

    def generate_data_key(self, caller: Caller, request: Any) -> Message:
        name, bound = _key(request), context_hash(request.encryption_context, request.aad)
        key = self.gate.key(caller, "GenerateDataKey", name)
        return data_key(key, key.protecting(GENERATE), bound)

    def generate_data_key_without_plaintext(self, caller: Caller, request: Any) -> Message:
        name, bound = _key(request), context_hash(request.encryption_context, request.aad)
        key = self.gate.key(caller, "GenerateDataKeyWithoutPlaintext", name)
        made = data_key(key, key.protecting(GENERATE), bound)
        return proto.GenerateDataKeyWithoutPlaintextResponse(ciphertext=made.ciphertext, key_version=made.key_version)

    def wrap_data_key(self, caller: Caller, request: Any) -> Message:
        bound = context_hash(request.encryption_context, request.aad)
        plaintext, name = inputs.plaintext(request), _key(request)
        if len(plaintext) != _DATA_KEY:
            problem = f"a data key has {_DATA_KEY} bytes, not {len(plaintext)}: is it a message, for Encrypt?"
            raise invalid("plaintext", problem)
        key = self.gate.key(caller, "WrapDataKey", name)
        version = key.protecting(WRAP)
        sealed = _sealed(key, version, bound, plaintext, data_key=True)
        return proto.WrapDataKeyResponse(ciphertext=sealed, key_version=version.number)

    def unwrap_data_key(self, caller: Caller, request: Any) -> Message:
        name = _key(request)
        bound, ciphertext = _opening(request)
        return unwrapped(self.gate.key(caller, "UnwrapDataKey", name), bound, ciphertext)

    def generate_random(self, caller: Caller, request: Any) -> Message:
        name = resource_names.environment("environment", request.environment)
        if not 1 <= request.length <= _MOST_RANDOM:
            raise invalid("length", f"it is {request.length}: ask for 1 to {_MOST_RANDOM} bytes")
        self.gate.environment(caller, "GenerateRandom", name)
        if resource_names.last_id(name) not in self._directory.bound:
            raise environment_unbound(resource_names.last_id(name))
        return proto.GenerateRandomResponse(data=secrets.token_bytes(request.length))


def encrypted(key: Key, version: Version, bound: bytes, plaintext: bytes) -> proto.EncryptResponse:
    sealed = _sealed(key, version, bound, plaintext, data_key=False)
    return proto.EncryptResponse(ciphertext=sealed, key_version=version.number)


def decrypted(key: Key, bound: bytes, ciphertext: bytes) -> proto.DecryptResponse:
    """Of what Encrypt made: a data key is DECRYPT_FAILED."""
    header, version = _parsed(key, ciphertext, DECRYPT)
    if header.data_key:
        raise decrypt_failed()
    return proto.DecryptResponse(plaintext=_opened(version, ciphertext, bound), key_version=version.number)


def unwrapped(key: Key, bound: bytes, ciphertext: bytes) -> proto.UnwrapDataKeyResponse:
    """Of a data key: anything else is DECRYPT_FAILED."""
    header, version = _parsed(key, ciphertext, UNWRAP)
    if not header.data_key:
        raise decrypt_failed()
    return proto.UnwrapDataKeyResponse(plaintext=_opened(version, ciphertext, bound), key_version=version.number)


def data_key(key: Key, version: Version, bound: bytes) -> proto.GenerateDataKeyResponse:
    plaintext = secrets.token_bytes(_DATA_KEY)
    sealed = _sealed(key, version, bound, plaintext, data_key=True)
    return proto.GenerateDataKeyResponse(plaintext=plaintext, ciphertext=sealed, key_version=version.number)


def _key(request: Any) -> str:
    return resource_names.key("name", request.name)


def _opening(request: Any) -> tuple[bytes, bytes]:
    return context_hash(request.encryption_context, request.aad), inputs.ciphertext(request)


def _parsed(key: Key, ciphertext: bytes, operation: str) -> tuple[Header, Version]:
    """STATE_FORBIDS shows only if the header names an existing version of this key."""
    header = envelopes.parse(ciphertext)
    if header.key_id != key.id.bytes:
        raise decrypt_failed()
    version = key.processing(header.key_version, operation)
    if header.suite is not version.suite:
        raise decrypt_failed()
    return header, version


def _opened(version: Version, ciphertext: bytes, bound: bytes) -> bytes:
    return envelopes.open_(_secret(version), ciphertext, bound)


def _sealed(key: Key, version: Version, bound: bytes, plaintext: bytes, *, data_key: bool) -> bytes:
    most = version.suite.most_plaintext
    if len(plaintext) > most:
        problem = (
            f"it has {len(plaintext)} bytes, at most {most} are allowed under the key's suite: "
            "seal larger data with a data key"
        )
        raise invalid("plaintext", problem)
    version.count_use()
    header = Header(data_key, version.suite, key.id.bytes, version.number)
    return envelopes.seal(_secret(version), header, bound, plaintext)


def _secret(version: Version) -> SecretBytes:
    if version.secret is None:
        raise AssertionError("a destroyed version neither protects nor processes")
    return version.secret
