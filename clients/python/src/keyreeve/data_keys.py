"""The cache of data keys, off unless the application turns it on (docs/clients.md; docs/formats.md, section 4).

It belongs to one client object, is empty in a forked child, never on disk, and its keys are overwritten when they go. Python may have
made copies of them meanwhile that nobody can wipe; whoever had a data key keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from keyreeve.errors import ConfigurationError
from keyreeve.events import Event, Events, Name
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


def uncounted(_: int) -> None:
    """Of a data key that is not kept, or whose message has been counted."""


@dataclass
class UsableKey:
    """A data key for one message, a copy of its own. `wipe` it when the message's keys are derived."""

    key: bytearray = field(repr=False)
    wrapped: tuple[bytes, ...]
    count: Callable[[int], None] = field(default=uncounted, repr=False)
    """Told of bytes as they are sealed or opened, if their number was not known when the key was taken."""

    def wipe(self) -> None:
        self.key[:] = bytes(len(self.key))


Versions = Mapping[str, tuple[bytes, int]]
"""The keys that a data key is wrapped under: name, key id, version. The first one is told in events."""
Mark = tuple[int, ...]


@dataclass
class _Entry:
    key: bytearray = field(repr=False)
    wrapped: tuple[bytes, ...]
    of: Versions
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
        self._next_expiry = math.inf
        """Before it no entry expires, so that none is looked at for each message."""
        self._changes: dict[str, int] = {}
        self._gone: list[_Entry] = []
        self.on_name: Callable[[str], None] | None = None
        """Told of each name before a key of it is asked for, so that its changes can be watched."""
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
        with self._changing():
            self._drop_expired()
            entry = self._entries.get(place)
            if entry is None:
                return None
            if entry.messages + 1 > self._bounds.messages or entry.bytes + size > self._bounds.bytes:
                self._drop(place)
                return None
            self._entries.move_to_end(place)
            usable = self._used(entry, size)
        self._tell("data_key_reused", entry)
        return usable

    def put(
        self,
        place: Place,
        key: bytes,
        wrapped: tuple[bytes, ...],
        size: int,
        *,
        of: Versions,
        mark: Mark,
    ) -> UsableKey:
        """Takes a key in, for its first message of `size` bytes. `mark`: of before the calls that got it."""
        if self._bounds is None or size > self._bounds.bytes or self._bounds.messages < 2:
            return UsableKey(bytearray(key), wrapped)
        with self._changing():
            self._drop_expired()
            if mark != tuple(self._changes.get(name, 0) for name in of):
                return UsableKey(bytearray(key), wrapped)
            if place[0] == "seal":
                # A name stands for one key and one primary version: what was sealed under others before is not used again.
                self._drop_where(
                    lambda p, e: p[0] == "seal" and any(e.of.get(name, now) != now for name, now in of.items())
                )
            seconds = self._bounds.seal_seconds if place[0] == "seal" else self._bounds.open_seconds
            if place in self._entries:
                self._drop(place)
            entry = self._entries[place] = _Entry(bytearray(key), wrapped, of, self._clock() + seconds)
            self._next_expiry = min(self._next_expiry, entry.until)
            while len(self._entries) > self._bounds.entries:
                self._drop(next(iter(self._entries)))
            usable = self._used(entry, size)
        self._tell("data_key_cached", entry)
        return usable

    def forget(self, name: str | None) -> None:
        """Drops the keys that are wrapped under one resource name, or all."""
        with self._changing():
            for changed in self._changes if name is None else [name]:
                self._changes[changed] = self._changes.get(changed, 0) + 1
            self._drop_where(lambda _, entry: name is None or name in entry.of)

    def mark(self, names: tuple[str, ...]) -> Mark:
        """Changes when the keys of one of the names are dropped: what was asked before and comes after is not kept."""
        if self._bounds is None:
            return ()
        for name in names:
            if self.on_name:
                self.on_name(name)
        with self._lock:
            return tuple(self._changes.setdefault(name, 0) for name in names)

    def held(self) -> set[str]:
        """The names that keys are kept of."""
        with self._changing():
            self._drop_expired()
            return {name for entry in self._entries.values() for name in entry.of}

    def forked(self) -> None:
        """In a forked child, where another thread's lock may be held for ever."""
        self._lock = threading.Lock()
        self._gone = []
        for entry in self._entries.values():
            entry.key[:] = bytes(len(entry.key))
        self._entries = OrderedDict()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """With the lock; what was dropped is told after it, since the callback may come back here."""
        with self._lock:
            yield
            gone, self._gone = self._gone, []
        for entry in gone:
            self._tell("data_key_evicted", entry)

    def _used(self, entry: _Entry, size: int) -> UsableKey:
        """For one more message."""
        entry.messages += 1
        entry.bytes += size
        return UsableKey(bytearray(entry.key), entry.wrapped, partial(self._count, entry))

    def _count(self, entry: _Entry, size: int) -> None:
        with self._changing():
            entry.bytes += size
            if self._bounds is not None and entry.bytes >= self._bounds.bytes:
                self._drop_where(lambda _, other: other is entry)

    def _drop_expired(self) -> None:
        now = self._clock()
        if now < self._next_expiry:
            return
        self._drop_where(lambda _, entry: entry.until <= now)
        self._next_expiry = min((entry.until for entry in self._entries.values()), default=math.inf)

    def _drop_where(self, condition: Callable[[Place, _Entry], bool]) -> None:
        for place in [place for place, entry in self._entries.items() if condition(place, entry)]:
            self._drop(place)

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place)
        entry.key[:] = bytes(len(entry.key))
        self._gone.append(entry)

    def _tell(self, event: Name, entry: _Entry) -> None:
        self._events.tell(Event(name=event, detail=next(iter(entry.of))))
