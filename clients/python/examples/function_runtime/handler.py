"""A function as runtimes such as AWS Lambda call it: `handler(event, context)`, in a process that is frozen between its calls.

`event`: `{"sealed": …}`, base64 of a message of the queue `orders`, which is a JSON object with `order` and `card`. It answers the last
digits of the card.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import math
import os
import time
from typing import Any

from keyreeve import CacheBounds, Client, KeyreeveError

KEY = os.environ.get("ORDERS_KEY", "dev/shop/orders")
CONTEXT = {"queue": "orders"}
DEADLINE = 5
"""Below the time that the runtime allows for a call."""

log = logging.getLogger(__name__)


@functools.cache
def client() -> Client:
    """Made by the first call, and kept for the later ones. Importing this module reads no file and opens no connection, so that a
    provider may snapshot the process before its first call: a snapshot with a connection or a data key in it would be started many times.

    The cache: those who send orders use a data key for many messages (`data_key_cache`), so most calls find it here.
    """
    return Client(deadline=DEADLINE, data_key_cache=CacheBounds(open_seconds=60, entries=100))


def handler(event: dict[str, Any], _: object) -> dict[str, Any]:
    if clock.stood():
        client().forget_data_keys()
    try:
        opened = client().opener(KEY).open(base64.b64decode(event["sealed"]), context=CONTEXT)
    except KeyreeveError as error:
        return _failed(error)
    # The plaintext lives as long as this call. What is kept in a global variable is in memory while the process is frozen.
    order = json.loads(opened.reveal())
    return _answer(200, {"order": order["order"], "card": f"… {order['card'][-4:]}"})


class Clock:
    """Tells whether the monotonic clock, by which the cache counts its bounds, stood still for a while.

    It does in a paused or restored virtual machine: 60 s of it may be hours.
    """

    TOLERATED = 5.0

    def __init__(self) -> None:
        self._offset = self._now()

    def stood(self) -> bool:
        now = self._now()
        if abs(now - self._offset) < self.TOLERATED:
            return False
        self._offset = now
        return True

    @staticmethod
    def _now() -> float:
        return time.time() - time.monotonic()


clock = Clock()


def _failed(error: KeyreeveError) -> dict[str, Any]:
    """The error's text has no payload. 503 where another try helps: queues and gateways go by it."""
    log.error("%s", error)
    if not error.is_temporary:
        return _answer(500, {"request_id": error.request_id})
    wait = math.ceil(error.retry_after or 1)
    return _answer(503, {"request_id": error.request_id}, {"Retry-After": str(wait)})


def _answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {"statusCode": status, "headers": headers or {}, "body": json.dumps(body, ensure_ascii=False)}
