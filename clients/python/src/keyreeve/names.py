"""Resource names: `envs/{env}/teams/{team}/keys/{key}`, and what people type: `{env}/{team}/{key}`."""

from __future__ import annotations

import functools
import re

from keyreeve.errors import InvalidArgument

_ID = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_COLLECTIONS = ("envs", "teams", "keys")


def environment_name(text: str) -> str:
    """`dev` → `envs/dev`; a full name is taken as it is."""
    return _full(text, 1, "environment")


def team_name(text: str) -> str:
    """`dev/shop` → `envs/dev/teams/shop`; a full name is taken as it is."""
    return _full(text, 2, "team")


def key_name(text: str) -> str:
    """`dev/shop/orders` → `envs/dev/teams/shop/keys/orders`; a full name is taken as it is."""
    return _full(text, 3, "key")


def parted(text: str, kind: str) -> tuple[str, str]:
    """`dev/shop/orders` → (`envs/dev/teams/shop`, `orders`), for what is to be created."""
    full = key_name(text) if kind == "key" else team_name(text)
    parent, _, last = full.rpartition("/")
    return parent.rpartition("/")[0], last


@functools.lru_cache(4096)
def _full(text: str, depth: int, kind: str) -> str:
    parts = text.split("/")
    if len(parts) == 2 * depth and tuple(parts[::2]) == _COLLECTIONS[:depth]:
        parts = parts[1::2]
    if len(parts) != depth or not all(_ID.fullmatch(part) for part in parts):
        short = "/".join(("dev", "shop", "orders")[:depth])
        raise InvalidArgument(f"`{text}` is no name of a {kind}: write `{short}` or `{_joined(short.split('/'))}`")
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    return "/".join(f"{collection}/{part}" for collection, part in zip(_COLLECTIONS, parts, strict=False))
