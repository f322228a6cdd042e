"""Lists, page by page. A page token is opaque, good for one caller, one list and one day, as the service's are."""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac
import secrets
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from keyreeve.context import lv
from keyreeve.testing.clock import Clock, Time
from keyreeve.testing.refusals import Refusal, invalid

T = TypeVar("T")

_DEFAULT, _MOST, _TAG, _LONGEST = 100, 1000, 16, 400
_GOOD_FOR = datetime.timedelta(days=1)


class List(NamedTuple):
    """What a token is good for."""

    caller: str
    method: str
    parent: str


def page_size(asked: int) -> int:
    if asked < 0:
        raise invalid("page_size", "it is negative: use 0 to 1000")
    return min(asked or _DEFAULT, _MOST)


class Pages:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def page(self, of: List, items: dict[str, T], size: int, token: str) -> tuple[list[T], str]:
        """The items in order of their names, and the token of the next page."""
        after = self._open(of, token) if token else ""
        names = sorted(name for name in items if name > after)
        more = len(names) > size
        shown = names[:size]
        return [items[name] for name in shown], self._seal(of, shown[-1]) if more else ""

    def _seal(self, of: List, last: str) -> str:
        signed = _ms(self._clock.now() + _GOOD_FOR) + last.encode()
        return _encoded(signed + self._tag(of, signed))

    def _open(self, of: List, token: str) -> str:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise _refused() from None
        signed, tag = raw[:-_TAG], raw[-_TAG:]
        if _encoded(raw) != token or len(token) > _LONGEST or not hmac.compare_digest(self._tag(of, signed), tag):
            raise _refused()
        if signed[:8] < _ms(self._clock.now()):
            raise _refused()
        return signed[8:].decode()

    def _tag(self, of: Iterable[str], signed: bytes) -> bytes:
        return hmac.digest(self._key, b"".join(lv(part.encode()) for part in of) + signed, "sha256")[:_TAG]


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _ms(at: Time) -> bytes:
    return int(at.timestamp() * 1000).to_bytes(8, "big")


def _refused() -> Refusal:
    problem = "it is not one of this list, or older than a day: start again without it"
    return invalid("page_token", problem)
