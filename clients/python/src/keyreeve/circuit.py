"""What the tries at one endpoint have told of it (docs/clients.md, rule 7). Not safe for threads by itself, and never waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from keyreeve.errors import DeadlineExceeded, Draining, KeyreeveError, Unreachable

State = Literal["closed", "half_open", "open"]
Turn = Literal["circuit_opened", "circuit_closed"]

FAILURES_IN_A_ROW = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


@dataclass
class Pass:
    """What a try must know of the circuit that it began under."""

    openings: int
    """How often it had been opened."""
    trial: bool = False
    """It is the one call that tries what is half open."""


class Circuit:
    def __init__(self, jitter: Callable[[float, float], float]) -> None:
        self._jitter = jitter
        self.failures = 0
        """Since the last success."""
        self.last_reason = ""
        """Of the last failure; empty if there was none since the last success."""
        self.until: float | None = None
        """Until when it is open; None: it is closed."""
        self.trying = False
        self._trials = 0
        self._openings = 0

    def state(self, now: float) -> State:
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half_open"

    def begin(self, *, trial: bool = False) -> Pass:
        self.trying = self.trying or trial
        return Pass(self._openings, trial)

    def abandoned(self, begun: Pass) -> None:
        """A try ended that tells nothing: its caller gave it up."""
        if begun.trial and begun.openings == self._openings:
            self.trying = False

    def ended(self, begun: Pass, error: KeyreeveError | None, now: float) -> Turn | None:
        """A try ended so. One that began before the circuit was opened tells of the past, and changes nothing."""
        if begun.openings != self._openings:
            return None
        trial, begun.trial = begun.trial, False
        self.trying = self.trying and not trial
        if error is None or not _speaks_against(error):
            return self._answered()
        return self._failed(error, trial, now)

    def _answered(self) -> Turn | None:
        was_open = self.until is not None
        self.failures, self.last_reason, self.until = 0, "", None
        return "circuit_closed" if was_open else None

    def _failed(self, error: KeyreeveError, trial: bool, now: float) -> Turn | None:
        self.failures += 1
        self.last_reason = error.reason
        if self.until is not None:
            # Whoever goes there for want of something better does not prolong it.
            if trial:
                self._trials += 1
                self._pause(now)
            return None
        if not isinstance(error, (Unreachable, Draining)) and self.failures < FAILURES_IN_A_ROW:
            return None
        self._trials, self.trying = 0, False
        self._openings += 1
        self._pause(now)
        return "circuit_opened"

    def _pause(self, now: float) -> None:
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._trials, 16))
        self.until = now + self._jitter(0, longest)


def _speaks_against(error: KeyreeveError) -> bool:
    """Whoever refuses, lives."""
    return error.code == "UNAVAILABLE" or isinstance(error, DeadlineExceeded)
