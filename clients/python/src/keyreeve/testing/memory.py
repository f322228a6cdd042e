"""The service in memory: what each call answers."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

from keyreeve import checksum, errors
from keyreeve import context as contexts
from keyreeve.errors import KeyreeveError
from keyreeve.methods import METHODS
from keyreeve.testing import envelope
from keyreeve.v1 import keys_pb2

ACTIVE, SUSPENDED = keys_pb2.KEY_STATE_ACTIVE, keys_pb2.KEY_STATE_SUSPENDED
DEACTIVATED, COMPROMISED = keys_pb2.KEY_STATE_DEACTIVATED, keys_pb2.KEY_STATE_COMPROMISED
PENDING = keys_pb2.KEY_STATE_PENDING_DESTRUCTION
_STATES = {value.number: value.name.removeprefix("KEY_STATE_") for value in keys_pb2.KeyState.DESCRIPTOR.values}
# Where each change may begin, and where it leads.
_CHANGES = {
    "SuspendKey": ({ACTIVE}, SUSPENDED),
    "ResumeKey": ({SUSPENDED}, ACTIVE),
    "DeactivateKey": ({ACTIVE, SUSPENDED}, DEACTIVATED),
    "CompromiseKey": ({ACTIVE, SUSPENDED, DEACTIVATED, PENDING}, COMPROMISED),
    "DestroyKey": ({ACTIVE, SUSPENDED, DEACTIVATED, COMPROMISED}, PENDING),
}


@dataclass
class _Version:
    key: bytes = field(repr=False)
    state: int = ACTIVE
    before: int = ACTIVE


@dataclass
class _Key:
    shown: keys_pb2.Key
    versions: list[_Version]

    @property
    def id(self) -> bytes:
        return uuid.UUID(self.shown.id).bytes

    def message(self) -> keys_pb2.Key:
        del self.shown.versions[:]
        for number, version in enumerate(self.versions, 1):
            self.shown.versions.add(version=number, state=version.state)
        self.shown.primary_version = len(self.versions)
        self.shown.state = self.versions[-1].state  # type: ignore[assignment]
        return self.shown


class Memory:
    """Shared by any number of clients and threads. Environment `dev` and team `dev/shop` are there, as in `keyreeve dev`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Names of the calls so far."""
        self._failures: deque[KeyreeveError] = deque()
        self._lock = threading.RLock()
        self._environments = {"envs/dev": keys_pb2.Environment(name="envs/dev", id=str(uuid.uuid4()))}
        self._teams = {"envs/dev/teams/shop": keys_pb2.Team(name="envs/dev/teams/shop", id=str(uuid.uuid4()))}
        self._keys: dict[str, _Key] = {}
        self._repeats: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def fail(self, error: KeyreeveError, *, times: int = 1) -> None:
        """The next calls end so."""
        self._failures.extend([error] * times)

    def answer(self, name: str, request: Any) -> Any:
        """What the service would answer, its errors raised."""
        with self._lock:
            self.calls.append(name)
            if self._failures:
                raise self._failures.popleft()
            answer = self._repeated(name, request)
            checksum.fill(answer)
            return answer

    def _repeated(self, name: str, request: Any) -> Any:
        kind = METHODS[name].answer
        request_id = getattr(request, "request_id", "")
        if not request_id:
            return kind(**self._handler(name)(request))
        said = request.SerializeToString(deterministic=True)
        before = self._repeats.get((name, request_id))
        if before is None:
            answer = kind(**self._handler(name)(request))
            self._repeats[name, request_id] = (said, answer.SerializeToString())
            return answer
        if before[0] != said:
            raise errors.RequestIdReused("`request_id` was used before with another request: make a new one")
        return kind.FromString(before[1])

    def _handler(self, name: str) -> Callable[[Any], dict[str, Any]]:
        if name in _CHANGES or name == "CancelKeyDestruction":
            return lambda request: self._change(name, request)
        found: Callable[[Any], dict[str, Any]] | None = getattr(self, f"_on_{name}", None)
        if found is None:
            raise errors.Unimplemented(f"the service in memory does not do {name}")
        return found

    # --- Keys

    def _on_CreateEnvironment(self, request: Any) -> dict[str, Any]:  # noqa: N802 - named after the call
        name = f"envs/{request.environment_id}"
        made = keys_pb2.Environment(name=name, id=str(uuid.uuid4()), production=request.production)
        return {"environment": _added(self._environments, name, made)}

    def _on_CreateTeam(self, request: Any) -> dict[str, Any]:  # noqa: N802
        _found(self._environments, request.parent)
        name = f"{request.parent}/teams/{request.team_id}"
        return {"team": _added(self._teams, name, keys_pb2.Team(name=name, id=str(uuid.uuid4())))}

    def _on_CreateKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        _found(self._teams, request.parent)
        name = f"{request.parent}/keys/{request.key_id}"
        suite = request.suite or envelope.PRF_COMMIT
        about: dict[str, Any] = {"suite": suite, "purpose": 1, "residency": 1}
        shown = keys_pb2.Key(name=name, id=str(uuid.uuid4()), owner=request.owner, labels=request.labels, **about)
        return {"key": _added(self._keys, name, _Key(shown, [_new(suite)])).message()}

    def _on_GetEnvironment(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"environment": _found(self._environments, request.name)}

    def _on_GetTeam(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"team": _found(self._teams, request.name)}

    def _on_GetKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"key": self._key(request.name).message()}

    def _on_ListEnvironments(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"environments": self._environments.values()}

    def _on_ListTeams(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"teams": _under(self._teams, request.parent)}

    def _on_ListKeys(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"keys": [key.message() for key in _under(self._keys, request.parent)]}

    def _on_RotateKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        key = self._key(request.name)
        if key.versions[-1].state not in (ACTIVE, DEACTIVATED, COMPROMISED):
            raise _forbids(key, len(key.versions), key.versions[-1], "be rotated")
        if key.versions[-1].state == ACTIVE:
            key.versions[-1].state = DEACTIVATED
        key.versions.append(_new(key.shown.suite))
        return {"key": key.message()}

    def _on_VerifyKeys(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"versions": sum(len(key.versions) for key in _under(self._keys, request.parent))}

    def _on_WhoAmI(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"identity": "spiffe://keyreeve.dev/memory", "environments": ["dev"], "roles": ["admin"]}

    def _on_GetStatus(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"version": "memory", "environments": len(self._environments), "keys": len(self._keys)}

    def _change(self, name: str, request: Any) -> dict[str, Any]:
        key = self._key(request.name)
        versions = self._versions(name, key, request.version)
        for number, version in versions:
            if name == "CancelKeyDestruction":
                if version.state != PENDING:
                    raise _forbids(key, number, version, name)
                version.state = version.before
                continue
            begin, end = _CHANGES[name]
            if version.state not in begin:
                raise _forbids(key, number, version, name)
            version.before = DEACTIVATED if version.state == ACTIVE else version.state
            version.state = end
        return {"key": key.message()}

    def _versions(self, name: str, key: _Key, number: int) -> list[tuple[int, _Version]]:
        if number:
            if number > len(key.versions):
                raise errors.NotFound(f"version {number} of `{key.shown.name}` does not exist")
            return [(number, key.versions[number - 1])]
        everything = list(enumerate(key.versions, 1))
        if name == "DestroyKey":
            return everything
        if name == "CancelKeyDestruction":
            return [(n, version) for n, version in everything if version.state == PENDING] or everything[-1:]
        return everything[-1:]

    # --- Data

    def _on_Encrypt(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._sealed(request.name, request.plaintext, _digest(request))

    def _on_Decrypt(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._opened(request.name, request.ciphertext, _digest(request), data_key=False)

    def _on_ReEncrypt(self, request: Any) -> dict[str, Any]:  # noqa: N802
        sealed = bytes(request.ciphertext)
        data_key = len(sealed) > 5 and sealed[5] == 1
        opened = self._opened(request.source_name, sealed, _digest(request, "source_"), data_key=data_key)
        name = request.destination_name or request.source_name
        again = self._sealed(name, opened["plaintext"], _digest(request, "destination_"), data_key=data_key)
        return {"source_key_version": opened["key_version"], **again}

    def _on_GenerateDataKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        key = os.urandom(32)
        return {"plaintext": key, **self._sealed(request.name, key, _digest(request), data_key=True)}

    def _on_GenerateDataKeyWithoutPlaintext(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._sealed(request.name, os.urandom(32), _digest(request), data_key=True)

    def _on_UnwrapDataKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._opened(request.name, request.ciphertext, _digest(request), data_key=True)

    def _on_GenerateRandom(self, request: Any) -> dict[str, Any]:  # noqa: N802
        _found(self._environments, request.environment)
        if not 1 <= request.length <= 4096:
            raise errors.InvalidArgument("`length` is not valid: 1 to 4096 bytes")
        return {"data": os.urandom(request.length)}

    def _on_BatchEncrypt(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._batch(request, lambda item: self._sealed(request.name, item.plaintext, _digest(item)))

    def _on_BatchDecrypt(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._batch(
            request, lambda item: self._opened(request.name, item.ciphertext, _digest(item), data_key=False)
        )

    def _on_BatchGenerateDataKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        def one(item: Any) -> dict[str, Any]:
            key = os.urandom(32)
            return {"plaintext": key, **self._sealed(request.name, key, _digest(item), data_key=True)}

        return self._batch(request, one)

    def _on_BatchUnwrapDataKey(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._batch(
            request, lambda item: self._opened(request.name, item.ciphertext, _digest(item), data_key=True)
        )

    def _batch(self, request: Any, one: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        self._key(request.name)
        results: list[dict[str, Any]] = []
        for item in request.items:
            try:
                results.append({"success": one(item)})
            except KeyreeveError as error:  # noqa: PERF203 - each item has its own
                code = grpc.StatusCode[error.code].value[0]
                results.append({"error": {"code": code, "reason": error.reason, "message": error.message}})
        return {"results": results}

    def _sealed(self, name: str, plaintext: bytes, digest: bytes, *, data_key: bool = False) -> dict[str, Any]:
        key = self._key(name)
        number, version, suite = len(key.versions), key.versions[-1], int(key.shown.suite)
        if version.state != ACTIVE:
            raise _forbids(key, number, version, "encrypt")
        if len(plaintext) > envelope.LARGEST[suite]:
            problem = f"it has {len(plaintext)} bytes, at most {envelope.LARGEST[suite]} are allowed"
            raise errors.InvalidArgument(f"`plaintext` is not valid: {problem}", fields=(("plaintext", problem),))
        sealed = envelope.seal(version.key, suite, key.id, number, plaintext, digest, data_key=data_key)
        return {"ciphertext": sealed, "key_version": number}

    def _opened(self, name: str, sealed: bytes, digest: bytes, *, data_key: bool) -> dict[str, Any]:
        key = self._key(name)
        suite = int(key.shown.suite)
        number = int.from_bytes(sealed[24:28], "big")
        as_sealed = b"\xe5ENV\x01" + bytes([data_key]) + suite.to_bytes(2, "big") + key.id
        length_fits = int.from_bytes(sealed[28:32], "big") == len(sealed) - envelope.HEADER
        if sealed[:24] != as_sealed or not 1 <= number <= len(key.versions) or not length_fits:
            raise envelope.unopenable()
        version = key.versions[number - 1]
        if version.state not in (ACTIVE, DEACTIVATED):
            raise _forbids(key, number, version, "decrypt")
        return {"plaintext": envelope.open_(version.key, suite, sealed, digest), "key_version": number}

    def _key(self, name: str) -> _Key:
        key: _Key = _found(self._keys, name)
        return key


def _new(suite: int) -> _Version:
    return _Version(os.urandom(envelope.KEY_BYTES[suite]))


def _digest(request: Any, prefix: str = "") -> bytes:
    pairs = [(pair.key, pair.value) for pair in getattr(request, f"{prefix}encryption_context")]
    canonical = contexts.canonical(pairs, getattr(request, f"{prefix}aad"))
    return hashlib.sha256(canonical).digest()


def _forbids(key: _Key, number: int, version: _Version, operation: str) -> errors.StateForbids:
    return errors.StateForbids(
        f"version {number} of `{key.shown.name}` is {_STATES[version.state]} and may not {operation}"
    )


def _found(table: dict[str, Any], name: str) -> Any:
    if name not in table:
        raise errors.NotFound(f"`{name}` does not exist")
    return table[name]


def _added(table: dict[str, Any], name: str, made: Any) -> Any:
    if name in table:
        raise errors.AlreadyExists(f"`{name}` exists already")
    table[name] = made
    return made


def _under(table: dict[str, Any], parent: str) -> Iterable[Any]:
    return [found for name, found in table.items() if name.startswith(f"{parent}/")]
