"""Names as they come over the wire: full ones only, judged and refused as the service does."""

from __future__ import annotations

import re

from keyreeve.testing.refusals import invalid

_ID = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_COLLECTIONS = ("envs", "teams", "keys")
_FORMS = ("", "envs/{env}", "envs/{env}/teams/{team}", "envs/{env}/teams/{team}/keys/{key}")
_RULE = "each part: 2–63 of a-z, 0-9 and `-`, a letter first, no `-` last"  # noqa: RUF001 - the service's own text
_SHOWN = 80
_ESCAPES = {"\t": "\\t", "\r": "\\r", "\n": "\\n", "'": "\\'", '"': '\\"', "\\": "\\\\"}


def environment(field: str, text: str) -> str:
    return _full(field, text, 1)


def team(field: str, text: str) -> str:
    return _full(field, text, 2)


def key(field: str, text: str) -> str:
    return _full(field, text, 3)


def environment_of(name: str) -> str:
    """`envs/dev` of any name in it."""
    return "/".join(name.split("/")[:2])


def team_of(name: str) -> str:
    """`envs/dev/teams/shop` of a key's name."""
    return "/".join(name.split("/")[:4])


def last_id(name: str) -> str:
    return name.rpartition("/")[2]


def _full(field: str, text: str, depth: int) -> str:
    parts = text.split("/")
    fits = len(parts) == 2 * depth and tuple(parts[::2]) == _COLLECTIONS[:depth]
    if not fits or not all(_ID.fullmatch(part) for part in parts[1::2]):
        raise invalid(field, f"`{_shown(text)}` is not a name of the form `{_FORMS[depth]}` ({_RULE})")
    return text


def _shown(text: str) -> str:
    return "".join(_escaped(char) for char in text[:_SHOWN])


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return char if " " <= char <= "~" else f"\\u{{{ord(char):x}}}"
