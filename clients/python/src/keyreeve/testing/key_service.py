"""KeyService: environments, teams, keys: made, shown, listed. What changes states is in `lifecycle.py`."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from google.protobuf.message import Message

from keyreeve.testing import answers, inputs, marks, resource_names, states
from keyreeve.testing.callers import Caller
from keyreeve.testing.directory import Directory
from keyreeve.testing.envelopes import Suite
from keyreeve.testing.gate import Gate
from keyreeve.testing.pages import List, Pages, page_size
from keyreeve.testing.refusals import already_exists, environment_unbound, invalid, not_found
from keyreeve.testing.resources import Environment, Key, Team, Version
from keyreeve.v1 import keys_pb2 as proto

T = TypeVar("T", Environment, Team, Key)

WRAPPED, TOKEN_RESIDENT = 1, 2
_UNSPECIFIED = 0
_NO_TOKEN = (
    "this is a test double: the key is in the memory of a process, in no token",
    "software token",
)


class KeyService:
    def __init__(self, gate: Gate, directory: Directory) -> None:
        self.gate = gate
        self._directory = directory
        self._pages = Pages(directory.clock)

    def create_environment(self, caller: Caller, request: Any) -> Message:
        name = resource_names.environment("environment_id", f"envs/{request.environment_id}")
        request_id = inputs.request_id(request.request_id)
        self.gate.system(caller, "CreateEnvironment")

        def make() -> Environment:
            if resource_names.last_id(name) not in self._directory.bound:
                raise environment_unbound(resource_names.last_id(name))
            return Environment(name, uuid.uuid4(), request.production, self._directory.clock.now())

        asked = (name, request.production)
        made = self._make(caller, "CreateEnvironment", request_id, asked, self._directory.environments, make)
        return proto.CreateEnvironmentResponse(environment=answers.environment(made))

    def create_team(self, caller: Caller, request: Any) -> Message:
        parent = resource_names.environment("parent", request.parent)
        name = resource_names.team("team_id", f"{parent}/teams/{request.team_id}")
        request_id = inputs.request_id(request.request_id)
        self.gate.environment(caller, "CreateTeam", parent)

        def make() -> Team:
            return Team(name, uuid.uuid4(), self._directory.clock.now())

        made = self._make(caller, "CreateTeam", request_id, (name,), self._directory.teams, make)
        return proto.CreateTeamResponse(team=answers.team(made))

    def create_key(self, caller: Caller, request: Any) -> Message:
        parent = resource_names.team("parent", request.parent)
        name = resource_names.key("key_id", f"{parent}/keys/{request.key_id}")
        if request.purpose not in (_UNSPECIFIED, answers.ENCRYPT_DECRYPT):
            raise invalid("purpose", "it is not known: use ENCRYPT_DECRYPT")
        if request.residency not in (_UNSPECIFIED, WRAPPED, TOKEN_RESIDENT):
            raise invalid("residency", "it is not known: use WRAPPED or TOKEN_RESIDENT")
        if request.suite not in (_UNSPECIFIED, *(suite.value for suite in Suite)):
            raise invalid("suite", "it is not known: use PRF_COMMIT or TOKEN_GCM")
        suite = Suite(request.suite or Suite.PRF_COMMIT.value)
        residency = request.residency or WRAPPED
        owner, labels = inputs.owner(request.owner), inputs.labels(request.labels)
        request_id = inputs.request_id(request.request_id)
        self.gate.team(caller, "CreateKey", parent)

        def make() -> Key:
            now = self._directory.clock.now()
            first = Version(1, suite, suite.new_secret(), created=now, state_changed=now)
            owned = owner or caller.identity
            return Key(name, marks.new_key_id(), owned, labels, residency, created=now, versions=[first])

        asked = (name, owner, residency, suite, tuple(labels.items()))
        made = self._make(caller, "CreateKey", request_id, asked, self._directory.keys, make)
        return proto.CreateKeyResponse(key=answers.key(made))

    def get_environment(self, caller: Caller, request: Any) -> Message:
        name = resource_names.environment("name", request.name)
        found = self.gate.environment(caller, "ReadEnvironment", name)
        return proto.GetEnvironmentResponse(environment=answers.environment(found))

    def get_team(self, caller: Caller, request: Any) -> Message:
        found = self.gate.team(caller, "ReadTeam", resource_names.team("name", request.name))
        return proto.GetTeamResponse(team=answers.team(found))

    def get_key(self, caller: Caller, request: Any) -> Message:
        found = self.gate.key(caller, "ReadKey", resource_names.key("name", request.name))
        return proto.GetKeyResponse(key=answers.key(found))

    def list_environments(self, caller: Caller, request: Any) -> Message:
        size = page_size(request.page_size)
        self.gate.system(caller, "ListEnvironments")
        of = List(caller.identity, "ListEnvironments", "")
        found, token = self._pages.page(of, self._directory.environments, size, request.page_token)
        shown = [answers.environment(one) for one in found]
        return proto.ListEnvironmentsResponse(environments=shown, next_page_token=token)

    def list_teams(self, caller: Caller, request: Any) -> Message:
        parent = resource_names.environment("parent", request.parent)
        size = page_size(request.page_size)
        self.gate.environment(caller, "ListTeams", parent)
        teams = _under(parent, self._directory.teams)
        found, token = self._pages.page(List(caller.identity, "ListTeams", parent), teams, size, request.page_token)
        return proto.ListTeamsResponse(teams=[answers.team(one) for one in found], next_page_token=token)

    def list_keys(self, caller: Caller, request: Any) -> Message:
        found, token = self._keys(caller, "ListKeys", request)
        return proto.ListKeysResponse(keys=[answers.key(one) for one in found], next_page_token=token)

    def verify_keys(self, caller: Caller, request: Any) -> Message:
        found, token = self._keys(caller, "VerifyKeys", request)
        held = sum(states.holds_key(version.state) for key in found for version in key.versions)
        return proto.VerifyKeysResponse(versions=held, next_page_token=token)

    def attest_key(self, caller: Caller, request: Any) -> Message:
        """Says what it is: nothing here comes from a token."""
        found = self.gate.key(caller, "AttestKey", resource_names.key("name", request.name))
        now = self._directory.clock.now()
        return proto.AttestKeyResponse(
            key=answers.key(found),
            versions=[_attested(found, version, now) for version in found.versions],
            master_key=proto.TokenAttributes(observe_time=now),
            token_serial=DOUBLE_SERIAL,
            token_model=DOUBLE_MODEL,
            software_token=True,
            master_key_claims=_NO_TOKEN,
        )

    def _keys(self, caller: Caller, action: str, request: Any) -> tuple[list[Key], str]:
        parent = resource_names.team("parent", request.parent)
        size = page_size(request.page_size)
        self.gate.team(caller, action, parent)
        keys = _under(parent, self._directory.keys)
        return self._pages.page(List(caller.identity, action, parent), keys, size, request.page_token)

    def _make(
        self,
        caller: Caller,
        action: str,
        request_id: str,
        asked: tuple[Hashable, ...],
        among: dict[str, T],
        make: Callable[[], T],
    ) -> T:
        """`asked`: the name and the rest of the request."""
        name = str(asked[0])
        if self._directory.was_done(caller.identity, action, request_id, asked):
            if name not in among:
                raise not_found(name)
            return among[name]
        made = make()
        if name in among:
            raise already_exists(name)
        among[name] = made
        self._directory.remember(caller.identity, action, request_id, asked)
        self._directory.changed(name)
        return made


DOUBLE_SERIAL, DOUBLE_MODEL = "test-double", "keyreeve.testing"


def _under(parent: str, among: dict[str, T]) -> dict[str, T]:
    return {name: one for name, one in among.items() if name.startswith(f"{parent}/")}


def _attested(key: Key, version: Version, now: Any) -> proto.VersionAttestation:
    held = states.holds_key(version.state)
    check = hashlib.sha256(b"double" + key.id.bytes + version.number.to_bytes(4, "big")).hexdigest()[:32]
    return proto.VersionAttestation(
        version=version.number,
        state=answers.number(version.state.value),
        at_birth=proto.TokenAttributes(observe_time=version.created),
        in_use=proto.TokenAttributes(observe_time=now) if held else None,
        kcv=check if held else "",
        uses=version.uses_reserved if held else 0,
        claims=_NO_TOKEN,
    )
