"""Environments, teams, keys and their versions, as the double holds them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyreeve.model import KeyState
from keyreeve.secret import SecretBytes
from keyreeve.testing import states
from keyreeve.testing.envelopes import Suite
from keyreeve.testing.refusals import Refusal, decrypt_failed, not_found, state_forbids

Time = datetime.datetime
_USE_BLOCK = 1 << 16


@dataclass
class Environment:
    name: str
    id: uuid.UUID
    production: bool
    created: Time


@dataclass
class Team:
    name: str
    id: uuid.UUID
    created: Time


@dataclass
class Version:
    number: int
    suite: Suite
    secret: SecretBytes | None
    """Gone once it is destroyed."""
    created: Time
    state_changed: Time
    state: KeyState = KeyState.ACTIVE
    state_before: KeyState | None = None
    state_reason: str = ""
    destroy_at: Time | None = None
    row_version: int = 1
    uses_reserved: int = 0
    """Suite 0001 counts what it seals, in blocks."""
    uses_left: int = 0

    def count_use(self) -> None:
        if self.suite is Suite.TOKEN_GCM:
            if self.uses_left == 0:
                self.uses_reserved += _USE_BLOCK
                self.uses_left = _USE_BLOCK
            self.uses_left -= 1


@dataclass
class Key:
    name: str
    id: uuid.UUID
    owner: str
    labels: Mapping[str, str]
    residency: int
    created: Time
    versions: list[Version] = field(default_factory=list)
    primary: int = 1
    row_version: int = 1

    @property
    def primary_version(self) -> Version:
        return self.versions[self.primary - 1]

    def version(self, number: int) -> Version:
        """0: the primary one. Raises NOT_FOUND."""
        if number == 0:
            return self.primary_version
        if number > len(self.versions):
            raise not_found(f"{self.name} version {number}")
        return self.versions[number - 1]

    def protecting(self, operation: str) -> Version:
        """The primary version, if it may encrypt."""
        version = self.primary_version
        if not states.protects(version.state):
            raise self.state_forbids(version, operation)
        return version

    def processing(self, number: int, operation: str) -> Version:
        """Version `number`, if it may decrypt. That there is none shows as DECRYPT_FAILED."""
        if not 1 <= number <= len(self.versions):
            raise decrypt_failed()
        version = self.versions[number - 1]
        if not states.processes(version.state):
            raise self.state_forbids(version, operation)
        return version

    def state_forbids(self, version: Version, operation: str) -> Refusal:
        return state_forbids(self.name, version.number, version.state.name, operation)
