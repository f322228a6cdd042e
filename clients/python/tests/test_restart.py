"""A real service that is killed and comes back: callers see an error at most, and then go on by themselves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from support.dev import Dev

from keyreeve import Client, KeyreeveError


def test_a_restart_is_waited_for_within_the_deadline(tmp_path: Path) -> None:
    dev = Dev(tmp_path / "keyreeve")
    with dev.running() as address, Client(**dev.settings()) as client:
        client.create_key("dev/shop/orders")
        sealed = client.encrypt("dev/shop/orders", b"hello")
        dev.stop(kill=True)
        again = threading.Thread(target=dev.start, args=(address,))
        again.start()
        reasons: list[str] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert client.decrypt("dev/shop/orders", sealed).reveal() == b"hello"
                break
            except KeyreeveError as error:
                reasons.append(error.reason)
                time.sleep(0.1)
        again.join()
        assert set(reasons) <= {"UNREACHABLE", "DRAINING", "TOKEN_UNAVAILABLE"}
        assert client.decrypt("dev/shop/orders", sealed).reveal() == b"hello"
        assert client.endpoints[0].circuit == "closed"
