"""The handler as a runtime calls it: started without anything, called, frozen, thawed; against the real service."""

from __future__ import annotations

import base64
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keyreeve import Client, Event
from support.dev import Dev

import handler

HERE = Path(__file__).parent
CARD = "4000 canary 0000 1111"


def sealed(client: Client, key: str, order: int = 17) -> dict[str, str]:
    """Each under a data key of its own, unless the client keeps them."""
    message = json.dumps({"order": order, "card": CARD}).encode()
    return {"sealed": base64.b64encode(client.sealer(key).seal(message, context=handler.CONTEXT)).decode()}


@pytest.fixture
def calls(
    dev: Dev, key: str, environment: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[list[str]]:
    """The methods that the handler calls."""
    made: list[str] = []

    def note(event: Event) -> None:
        if event.name == "call":
            made.append(event.method)

    monkeypatch.setattr(handler, "KEY", key)
    monkeypatch.setattr(handler, "Client", functools.partial(Client, on_event=note))
    handler.client.cache_clear()
    yield made
    handler.client().close()
    handler.client.cache_clear()
    assert "canary" not in caplog.text


def until_cached(event: dict[str, str], calls: list[str]) -> None:
    """The cache begins to watch the key beside the first call, and drops what it had before."""
    deadline = time.monotonic() + 20
    while True:
        calls.clear()
        assert handler.handler(event, None)["statusCode"] == 200
        if not calls:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_importing_it_needs_no_setting_and_opens_no_connection() -> None:
    program = (
        "import handler, threading, os; "
        "assert handler.client.cache_info().currsize == 0; "
        "assert threading.active_count() == 1; "
        "print([l for f in os.listdir('/proc/self/fd') if os.path.exists(p := f'/proc/self/fd/{f}') "
        "and (l := os.readlink(p)).startswith('socket')])"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("KEYREEVE_")}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=HERE, env=bare, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


def test_a_call_answers_the_last_digits_and_nothing_more(client: Client, key: str, calls: list[str]) -> None:
    answer = handler.handler(sealed(client, key), None)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"order": 17, "card": "… 1111"}
    assert calls == ["GetKey", "UnwrapDataKey"]
    assert handler.handler(sealed(client, key, 18), None)["statusCode"] == 200
    assert calls == ["GetKey", "UnwrapDataKey", "UnwrapDataKey"], "the id of the key is asked once for a process"


def test_messages_of_one_data_key_cost_one_call(dev: Dev, key: str, calls: list[str]) -> None:
    with Client(**dev.settings(), data_key_cache=True) as sender:
        until_cached(sealed(sender, key), [])
        time.sleep(0.3)  # the sender's cache watches its key by now, too
        events = [sealed(sender, key, order) for order in range(10)]
    until_cached(events[0], calls)
    assert all(handler.handler(event, None)["statusCode"] == 200 for event in events)
    assert calls == []


def test_after_a_pause_of_the_machine_kept_data_keys_are_not_used(
    client: Client, key: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = sealed(client, key)
    until_cached(event, calls)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)  # what a restored machine sees
    assert handler.handler(event, None)["statusCode"] == 200
    assert calls == ["UnwrapDataKey"]
    assert handler.handler(event, None)["statusCode"] == 200
    assert calls == ["UnwrapDataKey"], "once"


def test_a_message_of_another_queue_is_500_and_a_key_that_is_suspended_too(
    client: Client, key: str, calls: list[str]
) -> None:
    other = client.sealer(key).seal(b"{}", context={"queue": "returns"})
    answer = handler.handler({"sealed": base64.b64encode(other).decode()}, None)
    assert answer["statusCode"] == 500
    event = sealed(client, key)
    until_cached(event, calls)
    client.suspend_key(key)
    deadline = time.monotonic() + 20
    while handler.handler(event, None)["statusCode"] == 200:  # until the watch tells it
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Runtime:
    """A process that is called by lines."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, str(HERE / "runtime.py")]
        env = {**os.environ, **environment}
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, event: dict[str, str]) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def status(self, event: dict[str, str]) -> int:
        return int(self.call(event)["statusCode"])

    def until(self, event: dict[str, str], status: int) -> None:
        deadline = time.monotonic() + 20
        while self.status(event) != status:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def runtime(dev: Dev, key: str) -> Iterator[Runtime]:
    runtime = Runtime({**dev.environment(), "ORDERS_KEY": key})
    yield runtime
    runtime.process.send_signal(signal.SIGCONT)
    runtime.stop()


def test_a_process_that_was_frozen_over_a_restart_of_the_service_goes_on(
    dev: Dev, client: Client, key: str, runtime: Runtime
) -> None:
    first, second = sealed(client, key), sealed(client, key, 18)
    assert runtime.status(first) == 200
    runtime.process.send_signal(signal.SIGSTOP)
    address = dev.address
    dev.stop(kill=True)
    dev.start(address)
    runtime.process.send_signal(signal.SIGCONT)
    begun = time.monotonic()
    runtime.until(second, 200)
    assert time.monotonic() - begun < 10


def test_while_the_service_is_gone_what_is_cached_opens_and_the_rest_is_503(
    dev: Dev, client: Client, key: str, runtime: Runtime
) -> None:
    known, other = sealed(client, key), sealed(client, key, 18)
    runtime.until(known, 200)
    time.sleep(0.5)  # the watch has begun
    runtime.until(known, 200)
    address = dev.address
    dev.stop(kill=True)
    try:
        assert runtime.status(known) == 200
        answer = runtime.call(other)
        assert answer["statusCode"] == 503
        assert int(answer["headers"]["Retry-After"]) >= 1
        assert "canary" not in json.dumps(answer)
    finally:
        dev.start(address)
    runtime.until(other, 200)


def test_the_figures_are_there_and_fit_each_other(dev: Dev) -> None:
    command = [sys.executable, str(HERE / "figures.py"), "--runs", "1", "--json"]
    ran = subprocess.run(command, env={**os.environ, **dev.environment()}, capture_output=True, text=True, check=True)
    figures = json.loads(ran.stdout)
    starts, imports = figures["starts"], figures["imports"]
    assert 0 < starts["import"] < starts["start_to_first_decrypt"]
    assert 0 < starts["call_cached"] < starts["call_connected"] < starts["first_call"]
    assert {"keyreeve", "grpc", "google", "cryptography", "standard library"} < set(imports)
    assert sum(own for name, own in imports.items() if name != "all") == pytest.approx(imports["all"], rel=0.1)
