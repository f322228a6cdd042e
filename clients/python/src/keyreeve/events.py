"""What a client tells of itself: one callback, `on_event`, for metrics and alarms. Names are those of docs/clients.md; no payload."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger("keyreeve")

Name = Literal[
    "call",
    "retry",
    "budget_exhausted",
    "circuit_opened",
    "circuit_closed",
    "certificate_reloaded",
    "certificate_unusable",
    "watch_lost",
    "data_key_cached",
    "data_key_reused",
    "data_key_evicted",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a person on call wants to count. Fields that are not known stay empty."""

    name: Name
    method: str = ""
    endpoint: str = ""
    reason: str = ""
    tries: int = 0
    wait: float | None = None
    """Seconds until the next try."""
    duration: float | None = None
    """Seconds from the start of the call."""
    request_id: str = ""
    detail: str = ""


Listener = Callable[[Event], None]


class Events:
    """Tells the callback, which cannot fail a call."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener

    def tell(self, event: Event) -> None:
        if event.name in ("circuit_opened", "certificate_unusable", "watch_lost"):
            log.warning("%s %s %s %s", event.name, event.endpoint or event.method, event.reason, event.detail)
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:
            log.exception("the on_event callback failed on %s", event.name)
