"""The watch of a cache of data keys: what it holds of a key goes when the key changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from keyreeve.config import LONGEST_DEADLINE
from keyreeve.data_keys import DataKeys
from keyreeve.errors import KeyreeveError, NotFound, PermissionDenied, PositionUnknown
from keyreeve.model import KeyChange, Position
from keyreeve.watch import MOST_NAMES, KeyChanges

REFUSALS = (PermissionDenied, NotFound)
"""Of single names: the others are watched on."""


class Watched:
    """Which names are watched, and how far. Does no I/O, and has no lock."""

    def __init__(self, cache: DataKeys, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._clock = clock
        self._since: dict[str, float] = {}
        self._refused: set[str] = set()
        self.position: Position | None = None
        self.over = False
        """From now on the bounds alone hold."""

    @property
    def names(self) -> list[str]:
        return list(self._since)

    def lacks(self, name: str) -> bool:
        return not self.over and name not in self._since and name not in self._refused

    def add(self, name: str) -> list[str]:
        """Watches a name more, while there is room. Returns names that are watched no longer, to be forgotten: no key is kept of them."""
        held = self._cache.held()
        # A call for a data key of a name may be under way for so long.
        long_ago = self._clock() - LONGEST_DEADLINE
        left = [name for name, since in self._since.items() if since < long_ago and name not in held]
        for idle in left:
            del self._since[idle]
        if len(self._since) < MOST_NAMES:
            self._since[name] = self._clock()
        return left

    def told(self, change: KeyChange) -> None:
        """What a message means for the cache."""
        if self.position is None:
            # Nobody watched before, so what was kept until now may be outdated.
            self._cache.forget(None)
        if change.key is not None:
            self._cache.forget(change.key.name)

    def refuse(self, names: list[str]) -> None:
        """Of these names the bounds alone hold. If it is none of them, it is all."""
        self.over = self.over or not names
        for name in names:
            self._since.pop(name, None)
            self._refused.add(name)


class CacheWatch:
    """Drops cached data keys when their keys change. Its thread runs while there are names."""

    def __init__(self, cache: DataKeys, watch: Callable[[list[str], Position | None], KeyChanges]) -> None:
        self._cache = cache
        self._watch = watch
        self._lock = threading.Lock()
        self._watched = Watched(cache)
        self._changes: KeyChanges | None = None
        self._thread: threading.Thread | None = None

    def add(self, name: str) -> None:
        """A key of this name may be kept from now on."""
        with self._lock:
            if not self._watched.lacks(name):
                return
            left = self._watched.add(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keyreeve-watch", daemon=True)
                self._thread.start()
            elif self._changes is not None:
                # It goes on with the new name from the same position, so that nothing is missed.
                self._changes.close()
        for idle in left:
            self._cache.forget(idle)

    def close(self) -> None:
        with self._lock:
            self._watched.over = True
            if self._changes is not None:
                self._changes.close()

    def _run(self) -> None:
        while (changes := self._begin()) is not None:
            self._follow(changes)

    def _follow(self, changes: KeyChanges) -> None:
        try:
            while (change := changes.message()) is not None:
                self._watched.told(change)
                self._reached(change, changes)
        except PositionUnknown:
            self._watched.position = None
        except REFUSALS:
            self._refuse([name for name in self._watched.names if self._is_refused(name)])
        except KeyreeveError:
            # Told already.
            self._watched.over = True

    def _begin(self, name: str = "") -> KeyChanges | None:
        """A stream of all names, or of one alone; None: there is nothing to watch."""
        with self._lock:
            names = [name] if name else self._watched.names
            if self._watched.over or not names:
                self._thread = None if not name else self._thread
                return None
            self._changes = self._watch(names, self._watched.position)
            return self._changes

    def _reached(self, change: KeyChange, changes: KeyChanges) -> None:
        with self._lock:
            # What a stream tells after another name came says nothing of that name.
            if not changes.closed:
                self._watched.position = change.position

    def _is_refused(self, name: str) -> bool:
        try:
            while (changes := self._begin(name)) is not None:
                with changes:
                    # None if another name came meanwhile: it is asked again.
                    if changes.message() is not None:
                        return False
        except REFUSALS:
            return True
        except KeyreeveError:
            # Of no single name: the stream of all meets it, too.
            pass
        return False

    def _refuse(self, names: list[str]) -> None:
        with self._lock:
            self._watched.refuse(names)
        for name in names:
            self._cache.forget(name)
