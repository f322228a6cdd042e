"""The clock of the double: the real one, moved by tests."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable

Time = datetime.datetime


class Clock:
    """Runs as the real one does, from wherever a test has moved it."""

    def __init__(self) -> None:
        self._ahead = datetime.timedelta()
        self._lock = threading.Lock()
        self._moved: list[Callable[[], None]] = []

    def now(self) -> Time:
        """To the millisecond, as the service has it."""
        now = datetime.datetime.now(datetime.timezone.utc) + self._ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Moves it forward. What was due meanwhile is done when this returns: scheduled destruction, forgetting of request ids."""
        step = datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if step < datetime.timedelta():
            raise ValueError("the clock does not go back")
        with self._lock:
            self._ahead += step
        for told in self._moved:
            told()

    def when_moved(self, told: Callable[[], None]) -> None:
        self._moved.append(told)
