"""Whether a failed call is tried again, where, and after which wait (docs/clients.md, rules 1 to 5). Does no I/O and never sleeps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from keyreeve.endpoints import Endpoints, Visit
from keyreeve.errors import DeadlineExceeded, KeyreeveError, Unreachable
from keyreeve.events import Event, Events

RETRIES = 4
FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
BUDGET, PER_CALL = 10.0, 0.1


def wait_before(retry: int, error: KeyreeveError, jitter: Callable[[float, float], float]) -> float:
    """Seconds before a retry, the first being 1: full jitter, on top of what the service asks for."""
    most = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(retry - 1, 16))
    return jitter(0, most) + (error.retry_after or 0)


class Budget:
    """A bucket of tokens: a call puts a tenth in, a retry takes one out."""

    def __init__(self) -> None:
        self._tokens = BUDGET
        self._lock = threading.Lock()

    def call(self) -> None:
        with self._lock:
            self._tokens = min(BUDGET, self._tokens + PER_CALL)

    def retry(self) -> bool:
        with self._lock:
            # A little less, since ten tenths are not one.
            if self._tokens < 1 - 1e-9:
                return False
            self._tokens -= 1
            return True

    @property
    def tokens(self) -> float:
        return self._tokens


class Rules:
    """What all calls of one client share. Clock and jitter are given by tests."""

    def __init__(
        self,
        endpoints: Endpoints,
        events: Events,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.endpoints = endpoints
        self.events = events
        self.budget = Budget()
        self.clock = clock
        self.jitter = jitter


class Tries:
    """One call, from its first try to its end: `begin`, send, then `succeeded` or `failed`, which may say to begin again."""

    def __init__(self, rules: Rules, method: str, *, repeatable: bool, deadline: float, request_id: str) -> None:
        self._rules = rules
        self._method = method
        self._repeatable = repeatable
        self._seconds = deadline
        self._request_id = request_id
        self._started = rules.clock()
        self._deadline = self._started + deadline
        self._count = 0
        self._counted = 0
        self._certificate_tried = False
        self._visit: Visit | None = None
        self._avoided = ""
        rules.budget.call()

    def begin(self) -> str:
        """The endpoint of the next try."""
        self._count += 1
        self._visit = self._rules.endpoints.choose(rather_not=self._avoided, repeatable=self._repeatable)
        return self._visit.address

    @property
    def _endpoint(self) -> str:
        return self._visit.address if self._visit else ""

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - self._rules.clock()

    def succeeded(self) -> None:
        if self._visit:
            self._visit.ended(None)
        self._tell_end("OK")

    def failed(self, error: KeyreeveError, certificate_changed: Callable[[], bool] = lambda: False) -> float | None:
        """Seconds to wait before the next try; None: there is none, and `error` is how the call ended.

        `certificate_changed`: whether the files hold another certificate than the one that was refused.
        """
        error.tries = self._count
        error.request_id = error.request_id or self._request_id
        if self._visit:
            self._visit.ended(error)
        wait = self._wait(error, certificate_changed)
        if wait is not None:
            self._rules.events.tell(self._event("retry", error.reason, wait))
            return wait
        self._tell_end(error.reason)
        return None

    def given_up(self, error: BaseException) -> None:
        """The call ended by what is no answer: cancelled, or a defect."""
        if self._visit:
            self._visit.abandoned()
        self._tell_end("CANCELLED" if not isinstance(error, Exception) else type(error).__name__)

    def out_of_time(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer to {self._method} within {self._seconds:g} s", request_id=self._request_id)

    def _wait(self, error: KeyreeveError, certificate_changed: Callable[[], bool]) -> float | None:
        # Nobody is there whom a retry could load: only the deadline ends an outage.
        outage = isinstance(error, Unreachable) and self._rules.endpoints.answered
        self._counted += not outage
        if not self._repeatable or self._counted > RETRIES:
            return None
        if error.code == "UNAUTHENTICATED":
            if self._certificate_tried or not certificate_changed():
                return None
            self._certificate_tried = True
            wait = 0.0
        elif error.code == "UNAVAILABLE":
            self._avoided = self._endpoint
            at_once = self._rules.endpoints.another_is_closed(self._endpoint)
            wait = 0.0 if at_once else wait_before(self._count, error, self._rules.jitter)
        elif error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None:
            wait = wait_before(self._count, error, self._rules.jitter)
        else:
            return None
        if wait >= self.remaining:
            return None
        if not outage and not self._rules.budget.retry():
            self._rules.events.tell(self._event("budget_exhausted", error.reason))
            return None
        return wait

    def _tell_end(self, reason: str) -> None:
        self._rules.events.tell(self._event("call", reason))

    def _event(self, name: str, reason: str, wait: float | None = None) -> Event:
        return Event(
            name=name,  # type: ignore[arg-type]
            method=self._method,
            endpoint=self._endpoint,
            reason=reason,
            tries=self._count,
            wait=wait,
            duration=self._rules.clock() - self._started,
            request_id=self._request_id,
        )
