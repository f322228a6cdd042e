"""`watch`: changes of keys, over restarts and lost streams; and cached data keys that go when their key changes (T25)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, Client, Event, KeyState, Position, errors


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


def position_of(client: Client) -> Position | None:
    """Where the watch of its cache stands."""
    changes = client._watch._changes
    return changes.position if changes else None


def test_changes_are_told_as_they_happen_and_after_a_position(client: Client, new_key: Callable[[], str]) -> None:
    one, other, strange = new_key(), new_key(), new_key()
    with client.watch(one, other) as changes:
        begun = changes.message()
        assert begun
        assert begun.key is None
        client.rotate_key(strange)
        client.rotate_key(one)
        first = next(changes)
        assert first.key
        assert (first.key.name, first.key.primary_version) == (one, 2)
        client.suspend_key(other)
        second = next(changes)
        assert second.key
        assert (second.key.name, second.key.state) == (other, KeyState.SUSPENDED)
    with client.watch(one, other, after=first.position) as again:
        change = next(again)
        assert change.key
        assert change.key.name == other
        assert again.position == second.position


def test_another_thread_can_end_a_watch(client: Client, key: str) -> None:
    changes = client.watch(key)
    threading.Timer(0.3, changes.close).start()
    assert list(changes) == []


def test_what_cannot_be_watched_is_told(client: Client, key: str) -> None:
    with pytest.raises(errors.PositionUnknown):
        next(client.watch(key, after=Position(sequence=1, link=bytes(32))))
    with pytest.raises(errors.NotFound):
        next(client.watch("dev/strange/key"))
    with pytest.raises(errors.InvalidArgument):
        next(client.watch())


def test_a_watch_goes_on_after_a_restart_from_where_it_was(tmp_path: Path) -> None:
    dev = Dev(tmp_path / "keyreeve")
    told: list[Event] = []
    with dev.running() as address, Client(**dev.settings(), on_event=told.append) as client:
        client.create_key("dev/shop/orders")
        changes = client.watch("dev/shop/orders")
        changes.message()
        dev.stop(kill=True)
        again = threading.Thread(target=dev.start, args=(address,))
        again.start()

        def rotate() -> None:
            again.join()
            with Client(**dev.settings()) as other:
                other.rotate_key("dev/shop/orders")

        rotating = threading.Thread(target=rotate)
        rotating.start()
        change = next(changes)
        assert change.key
        assert change.key.primary_version == 2
        rotating.join()
        changes.close()
    assert [event.reason for event in told if event.name == "watch_lost"] == ["UNREACHABLE"]


def test_the_async_client_watches_too(dev: Dev, client: Client, key: str) -> None:
    async def work() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            changes = aio.watch(key)
            assert (await changes.message()) is not None
            waiting = asyncio.create_task(anext(changes))
            await aio.rotate_key(key)
            change = await waiting
            assert change.key
            assert change.key.primary_version == 2
            again = aio.watch(key)
            lost = asyncio.create_task(anext(again))
            await asyncio.sleep(0.2)
            lost.cancel()
            with pytest.raises(asyncio.CancelledError):
                await lost
            await changes.close()
            await again.close()
            assert await changes.message() is None
            with pytest.raises(errors.PositionUnknown):
                await anext(aio.watch(key, after=Position(sequence=1, link=bytes(32))))

    asyncio.run(work())


def test_a_key_that_another_client_suspends_is_no_longer_used_from_the_cache(
    dev: Dev, client: Client, new_key: Callable[[], str]
) -> None:
    key, other = new_key(), new_key()
    with Client(**dev.settings(), data_key_cache=True) as cached:
        for name in (key, other):
            message = cached.sealer(name).seal(b"hello")
            cached.opener(name).open(message)
            until(lambda: position_of(cached) is not None)
            message = cached.sealer(name).seal(b"hello")
            cached.opener(name).open(message)
            assert len(cached._data_keys) >= 2
            client.suspend_key(name)

            def refused(name: str = name) -> bool:
                try:
                    cached.sealer(name).seal(b"hello")
                except errors.StateForbids:
                    return True
                return False

            until(refused, 2)
            with pytest.raises(errors.StateForbids):
                cached.opener(name).open(message)


def test_the_same_for_the_async_client(dev: Dev, client: Client, key: str) -> None:
    async def work() -> None:
        async with AsyncClient(**dev.settings(), data_key_cache=True) as cached:
            sealer = cached.sealer(key)
            await sealer.seal(b"hello")
            while cached._watch._position is None:
                await asyncio.sleep(0.01)
            await sealer.seal(b"hello")
            await sealer.seal(b"hello")
            assert len(cached._data_keys) == 1
            client.suspend_key(key)
            for _ in range(200):
                if not len(cached._data_keys):
                    break
                await asyncio.sleep(0.01)
            with pytest.raises(errors.StateForbids):
                await sealer.seal(b"hello")

    asyncio.run(work())


def test_a_cache_whose_keys_may_not_be_watched_keeps_to_its_bounds(dev: Dev, key: str) -> None:
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append, data_key_cache=True) as cached:
        cached._watch.add("envs/dev/teams/strange/keys/key")
        until(lambda: "watch_lost" in [event.name for event in told])
        until(lambda: cached._watch._over)
        cached.sealer(key).seal(b"hello")
        cached.sealer(key).seal(b"hello")
    assert [event.method for event in told if event.name == "call"] == ["GenerateDataKey"]
