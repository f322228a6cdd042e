"""What the service tells of keys and of itself. Fields are those of the protos, where they are explained; a test compares the two."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.secret import SecretBytes

Time = datetime.datetime


class KeyState(enum.Enum):
    """States of NIST SP 800-57, and PENDING_DESTRUCTION."""

    UNSPECIFIED = 0
    PRE_ACTIVATION = 1
    ACTIVE = 2
    SUSPENDED = 3
    DEACTIVATED = 4
    COMPROMISED = 5
    PENDING_DESTRUCTION = 6
    DESTROYED = 7
    DESTROYED_COMPROMISED = 8


class KeyPurpose(enum.Enum):
    UNSPECIFIED = 0
    ENCRYPT_DECRYPT = 1


class KeyResidency(enum.Enum):
    UNSPECIFIED = 0
    WRAPPED = 1
    TOKEN_RESIDENT = 2


class KeySuite(enum.Enum):
    UNSPECIFIED = 0
    TOKEN_GCM = 1
    PRF_COMMIT = 2


@dataclass(frozen=True, kw_only=True)
class DataKey:
    """A data key in clear, and wrapped. The plaintext does not show; do not keep it longer than its use."""

    plaintext: SecretBytes
    ciphertext: bytes
    key_version: int


@dataclass(frozen=True, kw_only=True)
class Environment:
    name: str
    id: str
    production: bool
    create_time: Time | None


@dataclass(frozen=True, kw_only=True)
class Team:
    name: str
    id: str
    create_time: Time | None


@dataclass(frozen=True, kw_only=True)
class KeyVersion:
    version: int
    state: KeyState
    suite: str
    create_time: Time | None
    state_change_time: Time | None
    destroy_time: Time | None
    state_reason: str
    iv_source: str


@dataclass(frozen=True, kw_only=True)
class Key:
    name: str
    id: str
    purpose: KeyPurpose
    residency: KeyResidency
    owner: str
    labels: Mapping[str, str]
    state: KeyState
    primary_version: int
    versions: tuple[KeyVersion, ...]
    create_time: Time | None
    etag: str
    suite: KeySuite


@dataclass(frozen=True, kw_only=True)
class TokenAttributes:
    """Attributes of a key object as the token reported them."""

    local: bool
    always_sensitive: bool
    never_extractable: bool
    sensitive: bool
    extractable: bool
    modifiable: bool
    copyable: bool
    observe_time: Time | None


@dataclass(frozen=True, kw_only=True)
class VersionAttestation:
    version: int
    state: KeyState
    at_birth: TokenAttributes | None
    in_use: TokenAttributes | None
    kcv: str
    claims: tuple[str, ...]
    uses: int


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """What the token reports of a key, in the words of what may be claimed."""

    key: Key
    versions: tuple[VersionAttestation, ...]
    master_key: TokenAttributes | None
    token_serial: str
    token_model: str
    software_token: bool
    master_key_claims: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class KeyFault:
    name: str
    version: int
    token_serial: str
    problem: str
    token_unavailable: bool


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify_keys` found over all pages."""

    versions: int
    faults: tuple[KeyFault, ...]


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in the chain of changes of the service. To go on from it, here or on another node, give it to `watch`."""

    sequence: int
    link: bytes


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """A key as it is now; everything up to `position` was told."""

    position: Position | None
    key: Key | None
    """None in the first message of a stream, which says that the watch has begun."""


@dataclass(frozen=True, kw_only=True)
class TokenStatus:
    group: str
    serial: str
    model: str
    software_token: bool
    serving: bool
    detail: str
    session_threads: int
    cached_handles: int
    breaker: str


@dataclass(frozen=True, kw_only=True)
class AuditStatus:
    log: str
    size: int
    durability: str
    writable: bool


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    version: str
    node: str
    start_time: Time | None
    tokens: tuple[TokenStatus, ...]
    audit: AuditStatus | None
    environments: int
    keys: int
    rotations_due: int


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who the service takes the caller for."""

    identity: str
    environments: tuple[str, ...]
    roles: tuple[str, ...]
    certificate_expire_time: Time | None


M = TypeVar("M")


def of(kind: type[M], message: Any) -> M:
    """The dataclass of a message: same field names, read by the types that the dataclass gives."""
    hints = _hints(typing.cast("Any", kind))
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        optional, wanted = _without_none(hints[field.name])
        absent = optional and not message.HasField(field.name)
        values[field.name] = None if absent else _value(wanted, getattr(message, field.name))
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(kind: Any, value: Any) -> Any:
    if kind is datetime.datetime:
        assert isinstance(value, Timestamp)  # noqa: S101 - a test goes through every message
        return value.ToDatetime(tzinfo=datetime.timezone.utc)
    if typing.get_origin(kind) is tuple:
        (one, _) = typing.get_args(kind)
        return tuple(_value(one, item) for item in value)
    if typing.get_origin(kind) is Mapping:
        return dict(value)
    if dataclasses.is_dataclass(kind):
        return of(typing.cast("type[Any]", kind), value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        # A state of a newer service.
        return kind(value) if value in kind._value2member_map_ else kind(0)
    return value


def _without_none(kind: Any) -> tuple[bool, Any]:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (one,) = [part for part in typing.get_args(kind) if part is not type(None)]
        return True, one
    return False, kind
