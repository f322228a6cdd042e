"""Who may do what: the rules of `policy.example/apps.cedar`, and the built-in one that isolates environments."""

from __future__ import annotations

from collections.abc import Mapping

from keyreeve.testing import resource_names
from keyreeve.testing.callers import Caller

SYSTEM = "system"

_READ = {"ReadKey", "WatchKey"}
_ON_KEYS_OF_TEAMS = {
    "encrypter": {"Encrypt", "ReEncryptTo", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "WrapDataKey"}
    | _READ,
    "decrypter": {"Decrypt", "UnwrapDataKey", "ReEncryptFrom"} | _READ,
}
_LOOK = {
    *_READ,
    "ReadEnvironment",
    "ListEnvironments",
    "ReadTeam",
    "ListTeams",
    "ListKeys",
    "AttestKey",
    "VerifyKeys",
    "ReadStatus",
}
_ANYWHERE = {
    "encrypter": {"GenerateRandom"},
    "operator": {"RotateKey", "SuspendKey", "ResumeKey", "CancelKeyDestruction"} | _LOOK,
    "auditor": _LOOK,
    "admin": {
        "CreateEnvironment",
        "CreateTeam",
        "CreateKey",
        "RotateKey",
        "SuspendKey",
        "ResumeKey",
        "DeactivateKey",
        "CompromiseKey",
        "DestroyKey",
        "CancelKeyDestruction",
    }
    | _LOOK,
}


def reaches(caller: Caller, name: str) -> bool:
    """Whether isolation lets him reach what is so named: without it no rule can allow anything."""
    return name == SYSTEM or name.split("/")[1] in caller.environments


def allows(caller: Caller, action: str, name: str, *, production: bool, labels: Mapping[str, str]) -> bool:
    """`production`: of its environment; one that does not exist counts as such. `labels`: of the key."""
    if not reaches(caller, name):
        return False
    if action == "GenerateDataKey" and production and labels.get("data-keys") != "allowed":
        return False
    if action == "WhoAmI" or any(action in _ANYWHERE.get(role, ()) for role in caller.roles):
        return True
    of_his_team = resource_names.team_of(name) in caller.teams
    return of_his_team and any(action in _ON_KEYS_OF_TEAMS.get(role, ()) for role in caller.roles)
