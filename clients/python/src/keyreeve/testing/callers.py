"""Who calls, and which roles he has: what `identities.toml` says to the service."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DOMAIN = "spiffe://keyreeve.dev/"
ROLES = frozenset({"admin", "operator", "auditor", "encrypter", "decrypter"})


@dataclass(frozen=True)
class Caller:
    """One identity. The roles are those of `policy.example/apps.cedar`; encrypter and decrypter hold for the keys of `teams`."""

    identity: str
    environments: frozenset[str] = frozenset()
    """Ids of the environments that he may reach at all."""
    teams: frozenset[str] = frozenset()
    """Full names."""
    roles: frozenset[str] = frozenset()


def caller(name: str, environments: Iterable[str], teams: Iterable[str], roles: Iterable[str]) -> Caller:
    """Raises ValueError for a role that the policy does not know."""
    given = frozenset(roles)
    if unknown := given - ROLES:
        raise ValueError(f"`{min(unknown)}` is no role: {', '.join(sorted(ROLES))}")
    return Caller(DOMAIN + name, frozenset(environments), frozenset(teams), given)
