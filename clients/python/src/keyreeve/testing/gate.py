"""Finds what a call is about and decides whether the caller may do it. To who may not, the absent and the forbidden look the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from keyreeve.testing import policy
from keyreeve.testing.callers import Caller
from keyreeve.testing.directory import Directory
from keyreeve.testing.policy import SYSTEM
from keyreeve.testing.refusals import Refusal, denied, not_found
from keyreeve.testing.resource_names import environment_of
from keyreeve.testing.resources import Environment, Key, Team

T = TypeVar("T", Environment, Team, Key)


class Gate:
    """Raises PERMISSION_DENIED; NOT_FOUND for who would be allowed."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def system(self, caller: Caller, action: str) -> None:
        if not policy.allows(caller, action, SYSTEM, production=True, labels={}):
            raise denied(action, SYSTEM)

    def environment(self, caller: Caller, action: str, name: str) -> Environment:
        return self._found(caller, action, name, self._directory.environments)

    def team(self, caller: Caller, action: str, name: str) -> Team:
        return self._found(caller, action, name, self._directory.teams)

    def key(self, caller: Caller, action: str, name: str) -> Key:
        return self._found(caller, action, name, self._directory.keys)

    def key_pair(self, caller: Caller, first: tuple[str, str], second: tuple[str, str]) -> tuple[Key, Key]:
        """Two keys, each with its action, or neither."""
        one, other = self._judged(caller, *first), self._judged(caller, *second)
        if isinstance(one, Key) and isinstance(other, Key):
            return one, other
        # A refusal says more than that something is missing.
        refusals = [found for found in (one, other) if isinstance(found, Refusal)]
        raise next((found for found in refusals if found.reason == "PERMISSION_DENIED"), refusals[0])

    def _judged(self, caller: Caller, action: str, name: str) -> Key | Refusal:
        try:
            return self.key(caller, action, name)
        except Refusal as refusal:
            return refusal

    def _found(self, caller: Caller, action: str, name: str, among: Mapping[str, T]) -> T:
        found = among.get(name)
        environment = self._directory.environments.get(environment_of(name))
        production = environment is None or environment.production
        labels: Mapping[str, str] = found.labels if isinstance(found, Key) else {}
        if not policy.allows(caller, action, name, production=production, labels=labels):
            raise denied(action, name)
        if found is None:
            raise not_found(name)
        return found
