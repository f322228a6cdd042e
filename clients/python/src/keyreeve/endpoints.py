"""The endpoints of the service: which one a try goes to (docs/clients.md, rule 6), and what it told of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyreeve.circuit import Circuit, Pass, State
from keyreeve.errors import KeyreeveError
from keyreeve.events import Event, Events


@dataclass(frozen=True)
class EndpointHealth:
    """What the client knows of one endpoint."""

    address: str
    circuit: State
    failures: int
    """Tries in a row that ended in UNAVAILABLE or DEADLINE_EXCEEDED."""
    last_reason: str
    """Of the last such try; empty if there was none since the last success."""


class Visit:
    """One try at one endpoint: to be told how it ended, or that it was given up. A stream tells both that it began and how it ended."""

    def __init__(self, endpoints: Endpoints, address: str, begun: Pass) -> None:
        self._endpoints = endpoints
        self._begun = begun
        self.address = address

    def ended(self, error: KeyreeveError | None) -> None:
        """With an answer, or with `error`."""
        self._endpoints._ended(self.address, self._begun, error)

    def abandoned(self) -> None:
        """It told nothing of its endpoint."""
        self._endpoints._abandoned(self.address, self._begun)


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
        self._circuits = {address: Circuit(jitter) for address in addresses}
        self._last = addresses[0]
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()

    def choose(self, *, rather_not: str = "", repeatable: bool = True) -> Visit:
        """The next try. `rather_not`: where the last one failed, if that call may go elsewhere.

        `repeatable`: whether the call may be the one that tries what is half open; another one is, if there is a choice.
        """
        with self._lock:
            states = self._states()
            addresses = list(states)
            start = addresses.index(self._last)
            in_turn = addresses[start:] + addresses[:start]
            in_turn.sort(key=lambda address: address == rather_not)
            closed = [address for address in in_turn if states[address] == "closed"]
            # One call tries what is half open; the others go where it is closed, and so does the call that has just failed there.
            trial = [a for a in in_turn if states[a] == "half_open" and not self._circuits[a].trying]
            trial = [address for address in trial if address != rather_not or not closed]
            if trial and (repeatable or not closed):
                return self._visit(trial[0], trial=True)
            others = [address for address in in_turn if address != rather_not] or in_turn
            self._last = closed[0] if closed else min(others, key=lambda address: self._circuits[address].until or 0)
            return self._visit(self._last)

    def another_is_closed(self, address: str) -> bool:
        """True if a try elsewhere may begin at once."""
        with self._lock:
            return any(state == "closed" for other, state in self._states().items() if other != address)

    def health(self) -> list[EndpointHealth]:
        with self._lock:
            circuits = self._circuits
            return [
                EndpointHealth(address, state, circuits[address].failures, circuits[address].last_reason)
                for address, state in self._states().items()
            ]

    def visit(self, address: str) -> Visit:
        """A try at this one, whatever its circuit says."""
        with self._lock:
            return self._visit(address)

    def _visit(self, address: str, *, trial: bool = False) -> Visit:
        return Visit(self, address, self._circuits[address].begin(trial=trial))

    def _states(self) -> dict[str, State]:
        now = self._clock()
        return {address: circuit.state(now) for address, circuit in self._circuits.items()}

    def _ended(self, address: str, begun: Pass, error: KeyreeveError | None) -> None:
        with self._lock:
            self.answered = self.answered or error is None or error.of_service
            turn = self._circuits[address].ended(begun, error, self._clock())
        if turn:
            self._events.tell(Event(name=turn, endpoint=address, reason=error.reason if error else ""))

    def _abandoned(self, address: str, begun: Pass) -> None:
        with self._lock:
            self._circuits[address].abandoned(begun)
