"""A real service that is killed amid a load and comes back (rule 2 of docs/clients.md): no call that may be tried again is lost.

KEYREEVE_OUTAGE_S: seconds for which nobody is there, 3 unless given. `-rP` shows the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, Client, CryptAnswer, CryptRequest, Event, errors

OUTAGE = float(os.environ.get("KEYREEVE_OUTAGE_S", "3"))
THREADS, TASKS = 32, 64
KEY = "dev/shop/orders"
ROTATED = "dev/shop/rotated"


class Restarted:
    """A service, and an outage of it."""

    def __init__(self, directory: Path) -> None:
        self.dev = Dev(directory / "keyreeve")
        self.gone = self.back = 0.0

    def outage(self) -> None:
        address = self.dev.address
        self.dev.stop(kill=True)
        self.gone = time.monotonic()
        time.sleep(OUTAGE)
        self.dev.start(address)
        self.back = time.monotonic()


class Calls:
    """What one caller after the other got: when each last came through, how long calls took, and what failed."""

    def __init__(self, callers: int) -> None:
        self.came_through = [0.0] * callers
        self.longest = [0.0] * callers
        self.count = 0
        self.failed: list[str] = []
        self.over = False

    def ended(self, caller: int, begun: float, error: BaseException | None) -> None:
        now = time.monotonic()
        if error is not None:
            self.failed.append(repr(error))
            self.over = True
        self.count += 1
        self.longest[caller] = max(self.longest[caller], now - begun)
        self.came_through[caller] = now

    def all_after(self, moment: float) -> bool:
        return self.over or min(self.came_through) > moment

    def lost_none(self, service: Restarted, told: list[Event]) -> None:
        longest, late = max(self.longest), max(self.came_through) - service.back
        away = service.back - service.gone
        print(f"{len(self.longest)} callers, {self.count} calls, away {away:.1f} s, the longest call {longest:.1f} s")
        print(f"every caller came through within {late:.2f} s of the return")
        assert self.failed == []
        assert min(self.longest) > OUTAGE - 0.5, "the outage met every caller"
        assert late < 5
        assert "budget_exhausted" not in [event.name for event in told]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Restarted]:
    made = Restarted(tmp_path)
    with made.dev.running():
        with Client(**made.dev.settings()) as client:
            client.create_key(KEY)
            client.create_key(ROTATED)
        yield made


def work(client: Any, caller: int, sealed: bytes) -> Any:
    """What this caller does again and again; sync it is done when this returns, async it is then awaited."""
    kinds: list[Callable[[], Any]] = [
        lambda: client.encrypt(KEY, b"hello"),
        lambda: client.decrypt(KEY, sealed),
        lambda: client.sealer(KEY).seal(b"hello"),
        lambda: client.generate_data_key(KEY),
        lambda: client.batch_encrypt(KEY, [b"a", b"b"]),
        lambda: client.get_key(KEY),
        lambda: client.list_keys("dev/shop"),
    ]
    return client.rotate_key(ROTATED) if caller == 0 else kinds[caller % len(kinds)]()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


def test_rule_2_an_outage_amid_a_load_of_threads_loses_no_call(service: Restarted) -> None:
    told: list[Event] = []
    calls = Calls(THREADS)
    with Client(**service.dev.settings(), on_event=told.append) as client:
        sealed = client.encrypt(KEY, b"hello")

        def call(caller: int) -> None:
            while not calls.over:
                begun = time.monotonic()
                try:
                    work(client, caller, sealed)
                    calls.ended(caller, begun, None)
                except BaseException as error:  # noqa: BLE001 - told by the test
                    calls.ended(caller, begun, error)
                time.sleep(0.02)

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(THREADS)]
        for thread in threads:
            thread.start()
        until(lambda: calls.all_after(0))
        service.outage()
        until(lambda: calls.all_after(service.back))
        calls.over = True
        for thread in threads:
            thread.join()
        assert client.endpoints[0].circuit == "closed"
    calls.lost_none(service, told)


def test_rule_2_an_outage_amid_a_load_of_tasks_loses_no_call(service: Restarted) -> None:
    told: list[Event] = []
    calls = Calls(TASKS)

    async def call(client: AsyncClient, caller: int, sealed: bytes) -> None:
        while not calls.over:
            begun = time.monotonic()
            try:
                await work(client, caller, sealed)
                calls.ended(caller, begun, None)
            except BaseException as error:  # noqa: BLE001 - told by the test
                calls.ended(caller, begun, error)
            await asyncio.sleep(0.04)

    async def load() -> None:
        async with AsyncClient(**service.dev.settings(), on_event=told.append) as client:
            sealed = await client.encrypt(KEY, b"hello")
            tasks = [asyncio.create_task(call(client, caller, sealed)) for caller in range(TASKS)]
            await asyncio.to_thread(until, lambda: calls.all_after(0))
            await asyncio.to_thread(service.outage)
            await asyncio.to_thread(until, lambda: calls.all_after(service.back))
            calls.over = True
            await asyncio.gather(*tasks)
            assert client.endpoints[0].circuit == "closed"

    asyncio.run(load())
    calls.lost_none(service, told)


def fails_at_once(error: errors.KeyreeveError, begun: float) -> None:
    assert time.monotonic() - begun < 1
    assert isinstance(error, errors.Unreachable)
    assert error.tries <= 1
    assert error.request_id
    assert "Next: check address, network and certificates; the service may be restarting" in str(error)


def ends_at_its_deadline(error: errors.KeyreeveError, begun: float) -> None:
    assert time.monotonic() - begun < 1.5
    assert isinstance(error, (errors.Unreachable, errors.DeadlineExceeded))
    assert error.tries > 1
    assert error.request_id
    assert f"request {error.request_id}, {error.tries} tries" in str(error)


def test_in_an_outage_what_may_not_be_tried_again_fails_at_once_and_the_rest_at_its_deadline(
    service: Restarted,
) -> None:
    with Client(**service.dev.settings()) as client:
        under_way = client.crypt(CryptRequest.encrypt(tag, KEY, b"x") for tag in itertools.count())
        next(under_way)
        service.dev.stop(kill=True)
        begun = time.monotonic()
        with pytest.raises(errors.Unreachable) as lost:
            list(under_way)
        fails_at_once(lost.value, begun)
        assert lost.value.unanswered

        begun = time.monotonic()
        with pytest.raises(errors.Unreachable) as mutation:
            client.rotate_key(ROTATED, request_id=None)
        fails_at_once(mutation.value, begun)

        begun = time.monotonic()
        with pytest.raises(errors.Unreachable) as stream:
            list(client.crypt([CryptRequest.encrypt(7, KEY, b"x")]))
        fails_at_once(stream.value, begun)
        assert stream.value.unanswered == (7,)

        begun = time.monotonic()
        with pytest.raises(errors.KeyreeveError) as short:
            client.encrypt(KEY, b"hello", deadline=1)
        ends_at_its_deadline(short.value, begun)


def test_the_same_for_the_async_client(service: Restarted) -> None:
    async def all_answers(client: AsyncClient) -> list[CryptAnswer]:
        return [answer async for answer in client.crypt([CryptRequest.encrypt(7, KEY, b"x")])]

    async def calls() -> None:
        async with AsyncClient(**service.dev.settings()) as client:
            await client.encrypt(KEY, b"hello")
            service.dev.stop(kill=True)
            attempts: list[tuple[Awaitable[Any], Callable[[errors.KeyreeveError, float], None]]] = [
                (client.rotate_key(ROTATED, request_id=None), fails_at_once),
                (all_answers(client), fails_at_once),
                (client.encrypt(KEY, b"hello", deadline=1), ends_at_its_deadline),
            ]
            for attempt, ends in attempts:
                begun = time.monotonic()
                with pytest.raises(errors.KeyreeveError) as caught:
                    await attempt
                ends(caught.value, begun)

    asyncio.run(calls())
