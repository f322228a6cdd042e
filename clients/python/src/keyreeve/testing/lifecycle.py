"""The calls of KeyService that change states: rotate, suspend, resume, deactivate, compromise, destroy, cancel; and what falls due."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Hashable
from typing import Any

from google.protobuf.message import Message

from keyreeve.model import KeyState
from keyreeve.testing import answers, inputs, resource_names, states
from keyreeve.testing.callers import Caller
from keyreeve.testing.clock import Time
from keyreeve.testing.directory import Directory
from keyreeve.testing.gate import Gate
from keyreeve.testing.refusals import approval_required, invalid
from keyreeve.testing.resources import Key, Version
from keyreeve.testing.states import PENDING, Transition
from keyreeve.v1 import keys_pb2 as proto

_DEFAULT_WAIT, _LEAST_WAIT, _MOST_WAIT = 30, 7, 30


class Lifecycle:
    def __init__(self, gate: Gate, directory: Directory) -> None:
        self.gate = gate
        self._directory = directory

    def rotate_key(self, caller: Caller, request: Any) -> Message:
        name, request_id = _key(request), inputs.request_id(request.request_id)
        key = self.gate.key(caller, "RotateKey", name)
        self._once(caller, "RotateKey", request_id, (name,), key, lambda: self._rotate(key))
        return proto.RotateKeyResponse(key=answers.key(key))

    def suspend_key(self, caller: Caller, request: Any) -> Message:
        key = self._move(caller, "SuspendKey", request, Transition.SUSPEND)
        return proto.SuspendKeyResponse(key=answers.key(key))

    def resume_key(self, caller: Caller, request: Any) -> Message:
        key = self._move(caller, "ResumeKey", request, Transition.RESUME)
        return proto.ResumeKeyResponse(key=answers.key(key))

    def deactivate_key(self, caller: Caller, request: Any) -> Message:
        key = self._move(caller, "DeactivateKey", request, Transition.DEACTIVATE)
        return proto.DeactivateKeyResponse(key=answers.key(key))

    def compromise_key(self, caller: Caller, request: Any) -> Message:
        key = self._move(caller, "CompromiseKey", request, Transition.COMPROMISE)
        return proto.CompromiseKeyResponse(key=answers.key(key))

    def destroy_key(self, caller: Caller, request: Any) -> Message:
        name, reason = _key(request), inputs.reason(request.reason)
        request_id = inputs.request_id(request.request_id)
        days = request.wait_days or _DEFAULT_WAIT
        if not _LEAST_WAIT <= days <= _MOST_WAIT:
            raise invalid("wait_days", f"it is {days}: wait {_LEAST_WAIT} to {_MOST_WAIT} days")
        key = self.gate.key(caller, "DestroyKey", name)
        if self._directory.environments[resource_names.environment_of(name)].production:
            raise approval_required()
        asked = (name, request.version, reason, days)
        change = lambda: self._schedule(key, request.version, reason, days)  # noqa: E731
        self._once(caller, "DestroyKey", request_id, asked, key, change)
        return proto.DestroyKeyResponse(key=answers.key(key))

    def cancel_key_destruction(self, caller: Caller, request: Any) -> Message:
        name, reason = _key(request), inputs.reason(request.reason)
        request_id = inputs.request_id(request.request_id)
        key = self.gate.key(caller, "CancelKeyDestruction", name)

        def cancel() -> None:
            pending = _chosen(key, request.version, lambda state: state is PENDING, Transition.CANCEL_DESTRUCTION)
            _write(key, pending, Transition.CANCEL_DESTRUCTION, reason, self._now())

        asked = (name, request.version, reason)
        self._once(caller, "CancelKeyDestruction", request_id, asked, key, cancel)
        return proto.CancelKeyDestructionResponse(key=answers.key(key))

    def destroy_due(self) -> None:
        """What the service's job does every minute: destroys versions whose waiting period has ended."""
        with self._directory.lock:
            now = self._now()
            for key in self._directory.keys.values():
                for version in key.versions:
                    if version.state is PENDING and version.destroy_at is not None and version.destroy_at <= now:
                        _write(key, [version], Transition.DESTROY, version.state_reason, now)
                        version.secret = None
                        self._directory.changed(key.name)

    def _move(self, caller: Caller, action: str, request: Any, transition: Transition) -> Key:
        name, reason = _key(request), inputs.reason(request.reason)
        request_id = inputs.request_id(request.request_id)
        key = self.gate.key(caller, action, name)
        asked = (name, request.version, reason)
        change = lambda: _write(key, [key.version(request.version)], transition, reason, self._now())  # noqa: E731
        self._once(caller, action, request_id, asked, key, change)
        return key

    def _once(
        self,
        caller: Caller,
        action: str,
        request_id: str,
        asked: tuple[Hashable, ...],
        key: Key,
        change: Callable[[], None],
    ) -> None:
        """Makes the change, unless this very request made it before."""
        if not self._directory.was_done(caller.identity, action, request_id, asked):
            change()
            self._directory.remember(caller.identity, action, request_id, asked)
            self._directory.changed(key.name)

    def _rotate(self, key: Key) -> None:
        old, now = key.primary_version, self._now()
        if old.state not in states.MAY_ROTATE:
            raise key.state_forbids(old, "be rotated")
        number = len(key.versions) + 1
        if old.state is KeyState.ACTIVE:
            _write(key, [old], Transition.DEACTIVATE, f"rotated to version {number}", now)
        key.versions.append(Version(number, old.suite, old.suite.new_secret(), created=now, state_changed=now))
        key.primary = number
        key.row_version += 1

    def _schedule(self, key: Key, number: int, reason: str, days: int) -> None:
        holds = lambda state: states.holds_key(state) and state is not PENDING  # noqa: E731
        chosen = _chosen(key, number, holds, Transition.SCHEDULE_DESTRUCTION)
        for version in chosen:
            if version.state is not KeyState.ACTIVE:
                _next(key, version, Transition.SCHEDULE_DESTRUCTION)
        now = self._now()
        for version in chosen:
            if version.state is KeyState.ACTIVE:
                _write(key, [version], Transition.DEACTIVATE, reason, now)
            before = version.state
            _write(key, [version], Transition.SCHEDULE_DESTRUCTION, reason, now)
            version.state_before, version.destroy_at = before, now + datetime.timedelta(days=days)

    def _now(self) -> Time:
        return self._directory.clock.now()


def _write(key: Key, versions: list[Version], transition: Transition, reason: str, now: Time) -> None:
    """All of them or none."""
    moved = [(version, _next(key, version, transition)) for version in versions]
    for version, state in moved:
        version.state, version.state_before, version.destroy_at = state, None, None
        version.state_changed, version.state_reason = now, reason
        version.row_version += 1


def _key(request: Any) -> str:
    return resource_names.key("name", request.name)


def _next(key: Key, version: Version, transition: Transition) -> KeyState:
    state = states.after(version.state, transition, version.state_before)
    if state is None:
        raise key.state_forbids(version, transition.value)
    return state


def _chosen(key: Key, number: int, fits: Callable[[KeyState], bool], transition: Transition) -> list[Version]:
    """The version asked for, or all in a state that fits. Raises STATE_FORBIDS if there is none."""
    if number:
        return [key.version(number)]
    versions = [version for version in key.versions if fits(version.state)]
    if not versions:
        raise key.state_forbids(key.primary_version, transition.value)
    return versions
