"""How a call is found again: its request id in the audit log, and the trace it belongs to.

with keyreeve.request_id("job-7"):
    client.decrypt(…)             # recorded under job-7
"""

from __future__ import annotations

import contextlib
import re
import sys
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from keyreeve.errors import InvalidArgument

_given: ContextVar[str] = ContextVar("keyreeve_request_id", default="")
_FIT = re.compile(r"[A-Za-z0-9._-]{1,64}")


@contextlib.contextmanager
def request_id(name: str) -> Iterator[None]:
    """Calls inside are recorded under this id: 1 to 64 letters, digits, `.`, `_`, `-`."""
    if not _FIT.fullmatch(name):
        raise InvalidArgument("a request id has 1 to 64 letters, digits, `.`, `_`, `-`")
    before = _given.set(name)
    try:
        yield
    finally:
        _given.reset(before)


def headers() -> tuple[str, list[tuple[str, str]]]:
    """The id of a new call, and the metadata that carries it and the current trace."""
    name = _given.get() or uuid.uuid4().hex
    metadata = [("x-request-id", name)]
    trace = _traceparent()
    if trace:
        metadata.append(("traceparent", trace))
    return name, metadata


def _traceparent() -> str:
    """W3C trace context of OpenTelemetry's current span, if the application uses OpenTelemetry."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return ""
    found = api.get_current_span().get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}" if found.is_valid else ""
