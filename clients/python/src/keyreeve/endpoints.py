"""The endpoints of the service and their circuits: which one a try goes to (docs/clients.md, rules 6 and 7)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from keyreeve.errors import DeadlineExceeded, Draining, KeyreeveError, Unreachable
from keyreeve.events import Event, Events

Circuit = Literal["closed", "half_open", "open"]

FAILURES_IN_A_ROW = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


@dataclass(frozen=True)
class EndpointHealth:
    """What the client knows of one endpoint."""

    address: str
    circuit: Circuit
    failures: int
    """Tries in a row that ended in UNAVAILABLE or DEADLINE_EXCEEDED."""
    last_reason: str
    """Of the last such try; empty if there was none since the last success."""


class _Endpoint:
    def __init__(self, address: str) -> None:
        self.address = address
        self.failures = 0
        self.opened = 0
        self.until = 0.0
        self.trying = False
        self.last_reason = ""

    def circuit(self, now: float) -> Circuit:
        if not self.opened:
            return "closed"
        return "open" if now < self.until else "half_open"


class Endpoints:
    """Chooses an endpoint for each try, and learns from how it ended. For any number of threads."""

    def __init__(
        self,
        addresses: Sequence[str],
        events: Events,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.answered = False
        """Whether the service has ever answered, at whichever of them: what is not reached from then on is an outage (rule 2)."""
        self._all = [_Endpoint(address) for address in addresses]
        self._last = self._all[0]
        self._events = events
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()

    def choose(self, *, rather_not: str = "", repeatable: bool = True) -> str:
        """Address for the next try. `rather_not`: where the last one failed, if that call may go elsewhere.

        `repeatable`: whether the call may be the one that tries what is half open; another one is, if there is a choice.
        """
        with self._lock:
            now = self._clock()
            start = self._all.index(self._last)
            in_turn = self._all[start:] + self._all[:start]
            in_turn.sort(key=lambda e: e.address == rather_not)
            closed = [e for e in in_turn if e.circuit(now) == "closed"]
            # One call tries what is half open; the others go where it is closed, and so does the call that has just failed there.
            trial = [e for e in in_turn if e.circuit(now) == "half_open" and not e.trying]
            trial = [e for e in trial if e.address != rather_not or not closed]
            if trial and (repeatable or not closed):
                chosen = trial[0]
                chosen.trying = True
            elif closed:
                chosen = closed[0]
            else:
                chosen = min(in_turn, key=lambda e: e.until)
            if chosen not in trial:
                self._last = chosen
            return chosen.address

    def another_is_closed(self, address: str) -> bool:
        """True if a try elsewhere may begin at once."""
        with self._lock:
            now = self._clock()
            return any(e.circuit(now) == "closed" for e in self._all if e.address != address)

    def ended(self, address: str, error: KeyreeveError | None) -> None:
        """A try at `address` ended so."""
        with self._lock:
            endpoint = next(e for e in self._all if e.address == address)
            endpoint.trying = False
            self.answered = self.answered or error is None or error.of_service
            event = self._failed(endpoint, error) if _bad(error) else self._succeeded(endpoint)
        if event:
            self._events.tell(event)

    def abandoned(self, address: str) -> None:
        """A try at `address` ended without telling anything of it."""
        with self._lock:
            next(e for e in self._all if e.address == address).trying = False

    def health(self) -> list[EndpointHealth]:
        with self._lock:
            now = self._clock()
            return [EndpointHealth(e.address, e.circuit(now), e.failures, e.last_reason) for e in self._all]

    def _succeeded(self, endpoint: _Endpoint) -> Event | None:
        was_open = endpoint.opened > 0
        endpoint.failures = endpoint.opened = 0
        endpoint.last_reason = ""
        return Event(name="circuit_closed", endpoint=endpoint.address) if was_open else None

    def _failed(self, endpoint: _Endpoint, error: KeyreeveError | None) -> Event | None:
        endpoint.failures += 1
        endpoint.last_reason = error.reason if error else ""
        at_once = isinstance(error, (Unreachable, Draining)) or endpoint.opened > 0
        if not at_once and endpoint.failures < FAILURES_IN_A_ROW:
            return None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(endpoint.opened, 16))
        endpoint.opened += 1
        endpoint.until = self._clock() + self._jitter(0, pause)
        if endpoint.opened > 1:
            return None
        return Event(name="circuit_opened", endpoint=endpoint.address, reason=endpoint.last_reason)


def _bad(error: KeyreeveError | None) -> bool:
    return error is not None and (error.code == "UNAVAILABLE" or isinstance(error, DeadlineExceeded))
