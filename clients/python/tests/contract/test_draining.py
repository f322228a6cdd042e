"""A service that stops ends its streams with DRAINING, and then nobody is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.certificates import Authority
from support.dev import Dev

from contract.sides import Both, Outcome, Pair, Side, compared
from keyreeve.methods import METHODS

KEY = "envs/dev/teams/shop/keys/orders"
WATCH, CRYPT = METHODS["Watch"], METHODS["Crypt"]


def test_streams_end_with_draining_and_calls_find_nobody(tmp_path: Path, new_double: Callable[[], Any]) -> None:
    service = Dev(tmp_path / "keyreeve")
    service.start()
    with new_double() as double:
        sides = Side("double", {"admin": double.settings()}), Side("service", {"admin": service.settings()})
        both = Both(*sides)
        both.call("CreateKey", parent="envs/dev/teams/shop", key_id="orders")
        streams, held = [], threading.Event()
        for side in sides:
            watch = side.stream(WATCH, WATCH.request(names=[KEY]), "admin")
            crypt = side.stream(CRYPT, _one_then_wait(held), "admin")
            next(watch)
            assert next(crypt).tag == 1
            streams.append((watch, crypt))
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        double.stop(drain=True)
        for ends in zip(*streams, strict=True):
            outcomes = Pair(*(next(stream) for stream in ends))
            assert isinstance(outcomes.double, Outcome)
            assert compared(outcomes, "the end").reason == "DRAINING"
        held.set()
        stopping.join()
        gone = [side.call(METHODS["WhoAmI"], b"", "admin", timeout=2) for side in sides]
        assert [(outcome.code, outcome.reason) for outcome in gone] == [("UNAVAILABLE", "")] * 2
        for side in sides:
            side.close()


def test_a_caller_of_another_authority_gets_no_connection(
    both: Both, double: Any, service: Dev, tmp_path: Path
) -> None:
    cert, key = Authority(tmp_path).issue("admin", uri="spiffe://keyreeve.dev/admin")
    for known in (double.settings(), service.settings()):
        side = Side("stranger", {"admin": known | {"cert": str(cert), "key": str(key)}})
        refused = side.call(METHODS["WhoAmI"], b"", "admin")
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "")
        side.close()


def _one_then_wait(held: threading.Event) -> Iterator[Any]:
    yield CRYPT.request(tag=1, encrypt={"name": KEY})
    held.wait()
