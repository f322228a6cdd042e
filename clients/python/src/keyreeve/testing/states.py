"""States of a key version, and what may follow what (docs/formats.md, section 12)."""

from __future__ import annotations

import enum

from keyreeve.model import KeyState

PRE_ACTIVATION, ACTIVE, SUSPENDED = KeyState.PRE_ACTIVATION, KeyState.ACTIVE, KeyState.SUSPENDED
DEACTIVATED, COMPROMISED, PENDING = KeyState.DEACTIVATED, KeyState.COMPROMISED, KeyState.PENDING_DESTRUCTION
DESTROYED, DESTROYED_COMPROMISED = KeyState.DESTROYED, KeyState.DESTROYED_COMPROMISED


class Transition(enum.Enum):
    """The value is the verb of errors: "may not …"."""

    SUSPEND = "be suspended"
    RESUME = "be resumed"
    DEACTIVATE = "be deactivated"
    COMPROMISE = "be marked compromised"
    SCHEDULE_DESTRUCTION = "be scheduled for destruction"
    CANCEL_DESTRUCTION = "have its destruction cancelled"
    DESTROY = "be destroyed"


_AFTER: dict[Transition, dict[KeyState, KeyState]] = {
    Transition.SUSPEND: {ACTIVE: SUSPENDED},
    Transition.RESUME: {SUSPENDED: ACTIVE},
    Transition.DEACTIVATE: {ACTIVE: DEACTIVATED, SUSPENDED: DEACTIVATED},
    Transition.COMPROMISE: {
        PRE_ACTIVATION: COMPROMISED,
        ACTIVE: COMPROMISED,
        SUSPENDED: COMPROMISED,
        DEACTIVATED: COMPROMISED,
        PENDING: COMPROMISED,
        DESTROYED: DESTROYED_COMPROMISED,
    },
    Transition.SCHEDULE_DESTRUCTION: {SUSPENDED: PENDING, DEACTIVATED: PENDING, COMPROMISED: PENDING},
    Transition.DESTROY: {PRE_ACTIVATION: DESTROYED},
}

MAY_ROTATE = frozenset({ACTIVE, DEACTIVATED, COMPROMISED})
"""Rotating would lift a suspension, or revive a key that is on its way out."""


def after(state: KeyState, transition: Transition, before: KeyState | None) -> KeyState | None:
    """The next state; None if it is not allowed. `before`: the state from which destruction was scheduled."""
    if state is PENDING and transition is Transition.CANCEL_DESTRUCTION:
        return before
    if state is PENDING and transition is Transition.DESTROY:
        return DESTROYED_COMPROMISED if before is COMPROMISED else DESTROYED
    return _AFTER.get(transition, {}).get(state)


def protects(state: KeyState) -> bool:
    """May a primary version in this state encrypt and make data keys?"""
    return state is ACTIVE


def processes(state: KeyState) -> bool:
    """May a version in this state decrypt and unwrap?"""
    return state in (ACTIVE, DEACTIVATED)


def holds_key(state: KeyState) -> bool:
    return state not in (DESTROYED, DESTROYED_COMPROMISED)
