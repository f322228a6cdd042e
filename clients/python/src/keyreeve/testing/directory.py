"""What exists, in memory: environments, teams, keys, the chain of their changes, and the writes that were answered before."""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from keyreeve.testing.clock import Clock, Time
from keyreeve.testing.refusals import position_unknown, request_id_reused
from keyreeve.testing.resources import Environment, Key, Team


class Position(NamedTuple):
    """A place in the chain of changes."""

    sequence: int
    link: bytes


START = Position(0, bytes(32))
_KEPT = datetime.timedelta(days=1)


class _Remembered(NamedTuple):
    fingerprint: Hashable
    until: Time


@dataclass(repr=False)
class Directory:
    """Everything is done under `lock`; whoever waits for changes waits on it."""

    clock: Clock
    bound: frozenset[str]
    """Ids of environments that may exist."""
    lock: threading.Condition = field(default_factory=threading.Condition)
    environments: dict[str, Environment] = field(default_factory=dict)
    teams: dict[str, Team] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    _chain: list[tuple[Position, str]] = field(default_factory=list)
    _remembered: dict[tuple[str, str, str], _Remembered] = field(default_factory=dict)

    def changed(self, name: str) -> None:
        """A change of the resource `name` was made."""
        last = self.head
        sequence = last.sequence + 1
        link = hashlib.sha256(last.link + sequence.to_bytes(8, "big") + name.encode()).digest()
        self._chain.append((Position(sequence, link), name))
        self.lock.notify_all()

    @property
    def head(self) -> Position:
        return self._chain[-1][0] if self._chain else START

    def check(self, place: Position) -> None:
        """Raises POSITION_UNKNOWN if the chain does not lead through it."""
        known = START if place.sequence == 0 else None
        if 0 < place.sequence <= len(self._chain):
            known = self._chain[place.sequence - 1][0]
        if place != known:
            raise position_unknown()

    def changed_since(self, place: Position) -> set[str]:
        """Names of what was changed after it."""
        self.check(place)
        return {name for _, name in self._chain[place.sequence :]}

    def was_done(self, caller: str, action: str, request_id: str, fingerprint: Hashable) -> bool:
        """Was this very write made before? Raises REQUEST_ID_REUSED if another one was."""
        before = self._remembered.get((caller, action, request_id)) if request_id else None
        if before is None or before.until <= self.clock.now():
            return False
        if before.fingerprint != fingerprint:
            raise request_id_reused()
        return True

    def remember(self, caller: str, action: str, request_id: str, fingerprint: Hashable) -> None:
        if request_id:
            until = self.clock.now() + _KEPT
            self._remembered[caller, action, request_id] = _Remembered(fingerprint, until)
