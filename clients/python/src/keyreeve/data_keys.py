"""The cache of data keys, off unless the application turns it on (docs/clients.md; docs/formats.md, section 4).

It belongs to one client object, is empty in a forked child, never on disk, and its keys are overwritten when they go. Python may have
made copies of them meanwhile that nobody can wipe; whoever had a data key keeps it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from keyreeve.errors import ConfigurationError
from keyreeve.events import Event, Events
from keyreeve.model import Key

_HARD_SECONDS, _HARD_MESSAGES, _HARD_BYTES = 3600, 1 << 32, 1 << 40


@dataclass(frozen=True, kw_only=True)
class CacheBounds:
    """How long and how often a data key is used again; whichever is met first."""

    seal_seconds: float = 300
    open_seconds: float = 60
    messages: int = 1 << 20
    bytes: int = _HARD_BYTES
    entries: int = 1000

    def __post_init__(self) -> None:
        within = (
            0 < self.seal_seconds <= _HARD_SECONDS
            and 0 < self.open_seconds <= _HARD_SECONDS
            and 0 < self.messages <= _HARD_MESSAGES
            and 0 < self.bytes <= _HARD_BYTES
            and self.entries > 0
        )
        if not within:
            raise ConfigurationError(
                f"bounds of the data-key cache: at most {_HARD_SECONDS} s, 2^32 messages, 2^40 bytes; all more than 0"
            )


@dataclass
class UsableKey:
    """A data key for one message, a copy of its own. `wipe` it when the message's keys are derived."""

    key: bytearray = field(repr=False)
    wrapped: tuple[bytes, ...]

    def wipe(self) -> None:
        self.key[:] = bytes(len(self.key))


@dataclass
class _Entry:
    key: bytearray = field(repr=False)
    wrapped: tuple[bytes, ...]
    name: str
    key_id: bytes
    key_version: int
    until: float
    messages: int = 0
    bytes: int = 0


# Seal: ("seal", identity, names of the keys, SHA-256 of the context); open: ("open", identity, SHA-256 of the wrapped key, the same).
Place = tuple[str, str, "tuple[str, ...] | bytes", bytes]


def seal_place(identity: str, names: tuple[str, ...], context_digest: bytes) -> Place:
    return ("seal", identity, names, context_digest)


def open_place(identity: str, wrapped: bytes, context_digest: bytes) -> Place:
    return ("open", identity, hashlib.sha256(wrapped).digest(), context_digest)


class DataKeys:
    """For any number of threads. Without bounds it keeps nothing."""

    def __init__(
        self, bounds: CacheBounds | None, events: Events, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = bounds
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()
        self._changes: dict[str, int] = {}
        self.on_name: Callable[[str], None] | None = None
        """Told of each name that a key is kept of, so that its changes can be watched."""
        self.ids: dict[str, bytes] = {}
        """Key ids by resource name, as far as they were seen. Not secret."""

    def __len__(self) -> int:
        return len(self._entries)

    def learn(self, key: Key) -> str:
        """Takes up the id of a key; returns its name."""
        self.ids[key.name] = bytes.fromhex(key.id.replace("-", ""))
        return key.name

    def take(self, place: Place, size: int) -> UsableKey | None:
        """A key for one more message of `size` bytes, within the bounds."""
        if self._bounds is None:
            return None
        with self._lock:
            self._drop_expired()
            entry = self._entries.get(place)
            if entry is None:
                return None
            if entry.messages + 1 > self._bounds.messages or entry.bytes + size > self._bounds.bytes:
                self._drop(place)
                return None
            self._charge(entry, size)
            self._entries.move_to_end(place)
            usable, name = UsableKey(bytearray(entry.key), entry.wrapped), entry.name
        self._events.tell(Event(name="data_key_reused", detail=name))
        return usable

    def put(
        self,
        place: Place,
        key: bytes,
        wrapped: tuple[bytes, ...],
        size: int,
        *,
        name: str,
        key_id: bytes,
        key_version: int,
        mark: int = 0,
    ) -> None:
        """Takes a key in, after its first message of `size` bytes. `mark`: of before the call that got it."""
        if self._bounds is None or size > self._bounds.bytes or self._bounds.messages < 2:
            return
        if self.on_name:
            self.on_name(name)
        with self._lock:
            self._drop_expired()
            if mark != self._changes.get(name, 0):
                return
            if place[0] == "seal":
                # A name stands for one key and one primary version: what was sealed under others before is not used again.
                self._drop_where(
                    lambda p, e: (
                        p[0] == "seal" and e.name == name and (e.key_id, e.key_version) != (key_id, key_version)
                    )
                )
            seconds = self._bounds.seal_seconds if place[0] == "seal" else self._bounds.open_seconds
            if place in self._entries:
                self._drop(place)
            entry = _Entry(bytearray(key), wrapped, name, key_id, key_version, self._clock() + seconds)
            self._charge(entry, size)
            self._entries[place] = entry
            while len(self._entries) > self._bounds.entries:
                self._drop(next(iter(self._entries)))
        self._events.tell(Event(name="data_key_cached", detail=name))

    def charge(self, place: Place, size: int) -> None:
        """Counts bytes of a message whose size was not known when its key was taken."""
        with self._lock:
            entry = self._entries.get(place)
            if entry is not None and self._bounds is not None:
                entry.bytes += size
                if entry.bytes >= self._bounds.bytes:
                    self._drop(place)

    def forget(self, name: str | None) -> None:
        """Drops the keys of one resource name, or all."""
        with self._lock:
            for changed in self._changes if name is None else [name]:
                self._changes[changed] = self._changes.get(changed, 0) + 1
            self._drop_where(lambda _, entry: name is None or entry.name == name)

    def mark(self, name: str) -> int:
        """Changes when the keys of a name are dropped: what was asked before and comes after is not kept."""
        with self._lock:
            return self._changes.setdefault(name, 0)

    def forked(self) -> None:
        """In a forked child, where another thread's lock may be held for ever."""
        self._lock = threading.Lock()
        for entry in self._entries.values():
            entry.key[:] = bytes(len(entry.key))
        self._entries = OrderedDict()

    def _charge(self, entry: _Entry, size: int) -> None:
        entry.messages += 1
        entry.bytes += size

    def _drop_expired(self) -> None:
        now = self._clock()
        self._drop_where(lambda _, entry: entry.until <= now)

    def _drop_where(self, condition: Callable[[Place, _Entry], bool]) -> None:
        for place in [place for place, entry in self._entries.items() if condition(place, entry)]:
            self._drop(place)

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place)
        entry.key[:] = bytes(len(entry.key))
        self._events.tell(Event(name="data_key_evicted", detail=entry.name))
