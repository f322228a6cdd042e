"""From a request to its answer: faults first, then the service, under one lock; a record for each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from keyreeve import checksum
from keyreeve.testing.callers import Caller
from keyreeve.testing.directory import Directory
from keyreeve.testing.faults import Fault, Faults, names_in
from keyreeve.testing.records import Record
from keyreeve.testing.refusals import Refusal, connection_lost, deadline_exceeded, draining

Work = Callable[[Caller, Any], Message]
_MOST_RECORDS = 100_000


@dataclass(frozen=True)
class Asked:
    """Who asks, and how long he waits."""

    caller: Caller
    request_id: str
    remaining: Callable[[], float | None]
    """Seconds until his deadline."""


@dataclass(repr=False)
class Dispatch:
    works: dict[str, Work]
    """The calls of all services, by method."""
    directory: Directory
    faults: Faults
    ending: threading.Event = field(default_factory=threading.Event)
    """Set while the service stops."""
    drains: bool = True
    """It stops in an orderly way."""
    records: deque[Record] = field(default_factory=lambda: deque(maxlen=_MOST_RECORDS))

    def answer(self, method: str, request: Any, asked: Asked) -> Message:
        """Raises Refusal."""
        try:
            fault = self.meet(method, request, asked)
            with self.directory.lock:
                answer = self.works[method](asked.caller, request)
            if fault.refuse is not None:
                raise fault.refuse(method, self._name(request))
        except Refusal as refusal:
            self.record(method, request, asked, refusal.reason)
            raise
        checksum.fill(answer)
        self.record(method, request, asked, "OK")
        return answer

    def meet(self, method: str, request: Any, asked: Asked) -> Fault:
        """Waits, or raises, as the next fault that fits says."""
        fault = self.faults.take(method, request)
        if fault.delay:
            remaining = asked.remaining()
            if self.ending.wait(fault.delay if remaining is None else min(fault.delay, max(0.0, remaining))):
                raise self.end()
            if remaining is not None and remaining <= fault.delay:
                raise deadline_exceeded()
        if fault.refuse is not None and not fault.worked:
            raise fault.refuse(method, self._name(request))
        return fault

    def end(self) -> Refusal:
        """How calls under way end when the service stops."""
        return draining() if self.drains else connection_lost()

    def record(self, method: str, request: Any, asked: Asked, reason: str) -> None:
        self.records.append(Record(method, self._name(request), asked.caller.identity, reason, asked.request_id))

    def _name(self, request: Any) -> str:
        return next(iter(names_in(request)), "")
