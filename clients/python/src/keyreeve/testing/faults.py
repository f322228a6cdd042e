"""Faults on order: what a test wants to see its application survive.

Each knob is for the next `times` calls that fit (None: until `clear`). `calls`: names of methods, e.g. `["Encrypt"]`; a message of the
stream `Crypt` counts as the method it is of. `key`: only for this key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from keyreeve import errors
from keyreeve.methods import METHODS
from keyreeve.names import key_name
from keyreeve.testing import refusals
from keyreeve.testing.refusals import RETRY_SOON, Refusal

Make = Callable[[str, str], Refusal]

OF_CLIENTS = {"CONFIGURATION", "UNREACHABLE", "TRANSPORT", "MALFORMED_ANSWER", "CLOSED", "UNEXPECTED_MESSAGE"}
"""Reasons that clients make themselves (docs/clients.md)."""
_TEXTS = {
    "CONFLICT": "the object was changed by someone else meanwhile: read it again, then retry",
    "INTEGRITY_FAILED": "stored data failed its integrity check: the version is refused; run `keyreeve audit verify`",
    "LOG_UNAVAILABLE": "the audit log cannot be written: no answer is given, and a change may or may not have been made",
    "ROTATION_REQUIRED": "the version may not encrypt any more: rotate the key",
    "TOKEN_REFUSES": "the token refuses this operation; `keyreeve doctor` tells why",
    "TOKEN_UNAVAILABLE": "the token is unavailable",
}
_DELAYS = {
    "OVERLOADED": 0.05,
    "KEY_CEILING": 60.0,
    "TOKEN_UNAVAILABLE": RETRY_SOON,
    "LOG_UNAVAILABLE": RETRY_SOON,
    "DRAINING": RETRY_SOON,
}


@dataclass
class Fault:
    """What becomes of one call."""

    refuse: Make | None = None
    delay: float = 0
    """Seconds before anything else."""
    worked: bool = False
    """The work is done all the same; only the answer is lost."""
    calls: frozenset[str] = frozenset()
    key: str = ""
    left: int | None = 1

    def fits(self, method: str, names: Iterable[str]) -> bool:
        return (not self.calls or method in self.calls) and (not self.key or self.key in names)


class Faults:
    """A call meets one fault at most: the oldest that fits it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def unavailable(self, times: int | None = 1, *, calls: Iterable[str] = (), key: str = "") -> None:
        """The token is away: TOKEN_UNAVAILABLE, to be tried again after half a second."""
        self.fail("TOKEN_UNAVAILABLE", times, calls=calls, key=key)

    def overloaded(
        self, times: int | None = 1, *, retry_after: float = 0.05, calls: Iterable[str] = (), key: str = ""
    ) -> None:
        """OVERLOADED, to be tried again after `retry_after` seconds."""
        self.fail("OVERLOADED", times, retry_after=retry_after, calls=calls, key=key)

    def slow(self, seconds: float, times: int | None = 1, *, calls: Iterable[str] = (), key: str = "") -> None:
        """The answer comes late, or as DEADLINE_EXCEEDED."""
        self._add(Fault(delay=seconds), times, calls, key)

    def deny(self, times: int | None = 1, *, calls: Iterable[str] = (), key: str = "") -> None:
        """PERMISSION_DENIED."""
        self._add(Fault(refuse=refusals.denied), times, calls, key)

    def lose_answer(self, times: int | None = 1, *, calls: Iterable[str] = (), key: str = "") -> None:
        """The work is done, a change is made, and the caller hears LOG_UNAVAILABLE: has he sent a `request_id`?"""
        self._add(Fault(refuse=_of("LOG_UNAVAILABLE", None), worked=True), times, calls, key)

    def fail(
        self,
        reason: str,
        times: int | None = 1,
        *,
        retry_after: float | None = None,
        calls: Iterable[str] = (),
        key: str = "",
    ) -> None:
        """Any reason of the service, by its name."""
        self._add(Fault(refuse=_of(reason, retry_after)), times, calls, key)

    def clear(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, request: Any) -> Fault:
        """The fault that this call meets."""
        names = names_in(request)
        with self._lock:
            for fault in self._faults:
                if fault.fits(method, names):
                    if fault.left is not None:
                        fault.left -= 1
                        if fault.left == 0:
                            self._faults.remove(fault)
                    return fault
        return Fault()

    def _add(self, fault: Fault, times: int | None, calls: Iterable[str], key: str) -> None:
        fault.calls, fault.key, fault.left = frozenset(calls), key_name(key) if key else "", times
        if unknown := fault.calls - set(METHODS):
            raise ValueError(f"`{min(unknown)}` is no method of the service")
        if times is None or times > 0:
            with self._lock:
                self._faults.append(fault)


def names_in(request: Any) -> list[str]:
    """The resource names that a request gives, the first of which it is about."""
    fields = request.DESCRIPTOR.fields_by_name
    single = ("name", "source_name", "destination_name", "parent", "environment")
    return [getattr(request, field) for field in single if field in fields] + list(getattr(request, "names", ()))


def _of(reason: str, retry_after: float | None) -> Make:
    kind = errors.BY_REASON.get(reason)
    if kind is None or reason in OF_CLIENTS:
        raise ValueError(f"`{reason}` is no reason of the service")
    # DATA_LOSS is what a client calls a damaged answer; the service says it of a request.
    code = "INVALID_ARGUMENT" if reason == "CHECKSUM_MISMATCH" else kind.code
    delay = retry_after if retry_after is not None else _DELAYS.get(reason)
    text = _text(reason, delay or 0)
    return lambda _method, _name: Refusal(grpc.StatusCode[code], reason, text, retry_after=delay)


def _text(reason: str, delay: float) -> str:
    """The service's own, where it names no key and no field."""
    if reason == "OVERLOADED":
        return f"too many requests: retry after {round(delay * 1000)} ms"
    if reason == "KEY_CEILING":
        return f"the key was used as often as it may be: retry after {int(delay) + 1} s"
    known = next((refusal.text for make in _ALIKE if (refusal := make()).reason == reason), None)
    return known or _TEXTS.get(reason, f"{reason}, as a test has ordered")


_ALIKE: tuple[Callable[[], Refusal], ...] = (
    refusals.approval_required,
    refusals.deadline_exceeded,
    refusals.decrypt_failed,
    refusals.draining,
    refusals.internal,
    refusals.position_unknown,
    refusals.request_id_reused,
)
