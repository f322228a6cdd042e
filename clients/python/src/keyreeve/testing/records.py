"""What was called and what became of it: a small stand-in for the audit log, for tests to look at. No payload, no context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One call, or one message of a stream."""

    method: str
    name: str
    """Resource name that the request gives; empty if it gives none."""
    caller: str
    reason: str
    """`OK`, or the reason of the error."""
    request_id: str
