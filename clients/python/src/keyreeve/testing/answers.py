"""Messages of the wire, made from what the double holds."""

from __future__ import annotations

from typing import Any

from keyreeve.testing.directory import Position
from keyreeve.testing.envelopes import Suite
from keyreeve.testing.refusals import Refusal
from keyreeve.testing.resources import Environment, Key, Team, Version
from keyreeve.v1 import crypto_pb2, events_pb2, keys_pb2

ENCRYPT_DECRYPT = 1
_MS = 1000


def environment(of: Environment) -> keys_pb2.Environment:
    return keys_pb2.Environment(name=of.name, id=str(of.id), production=of.production, create_time=of.created)


def team(of: Team) -> keys_pb2.Team:
    return keys_pb2.Team(name=of.name, id=str(of.id), create_time=of.created)


def key(of: Key) -> keys_pb2.Key:
    return keys_pb2.Key(
        name=of.name,
        id=str(of.id),
        purpose=number(ENCRYPT_DECRYPT),
        residency=number(of.residency),
        owner=of.owner,
        labels=dict(of.labels),
        state=number(of.primary_version.state.value),
        primary_version=of.primary,
        versions=[version(one) for one in of.versions],
        create_time=of.created,
        etag=etag(of),
        suite=number(of.primary_version.suite.value),
    )


def version(of: Version) -> keys_pb2.KeyVersion:
    return keys_pb2.KeyVersion(
        version=of.number,
        state=number(of.state.value),
        suite=of.suite.label,
        create_time=of.created,
        state_change_time=of.state_changed,
        destroy_time=of.destroy_at,
        state_reason=of.state_reason,
        iv_source="TOKEN_RANDOM" if of.suite is Suite.TOKEN_GCM else "",
    )


def number(of: int) -> Any:
    """Of an enum: messages take it, and their types do not say so."""
    return of


def etag(of: Key) -> str:
    """Changes with every change of the key or one of its versions."""
    return f"{of.row_version:08x}{sum(one.row_version for one in of.versions):08x}"


def position(of: Position) -> events_pb2.Position:
    return events_pb2.Position(sequence=of.sequence, link=of.link)


def item_error(refusal: Refusal) -> crypto_pb2.ItemError:
    return crypto_pb2.ItemError(
        code=refusal.code.value[0],
        reason=refusal.reason,
        message=refusal.text,
        retry_after_ms=round((refusal.retry_after or 0) * _MS),
    )
