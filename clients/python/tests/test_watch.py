"""`watch`: changes of keys, over restarts and lost streams; and cached data keys that go when their key changes (T25)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, CacheBounds, Client, Event, KeyState, Position, errors, testing
from keyreeve.cache_watch import CacheWatch, Watched
from keyreeve.data_keys import DataKeys
from keyreeve.endpoints import Endpoints
from keyreeve.events import Events
from keyreeve.model import KeyChange
from keyreeve.names import key_name
from keyreeve.tries import Rules
from keyreeve.v1 import events_pb2
from keyreeve.watch import MOST_NAMES, KeyChanges, Watching


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
            while cached._watch._watched.position is None:
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


def test_a_key_that_may_not_be_watched_keeps_to_its_bounds_and_the_others_are_watched_on(
    dev: Dev, client: Client, new_key: Callable[[], str]
) -> None:
    """With keys before and after it: which of them was refused is not told."""
    keys, strange = [new_key(), new_key()], "envs/dev/teams/strange/keys/key"
    with Client(**dev.settings(), data_key_cache=True) as cached:
        for name in (keys[0], strange, keys[1]):
            cached._watch.add(name)
        until(lambda: cached._watch._watched.names == keys)
        until(lambda: position_of(cached) is not None)
        for key in keys:
            cached.sealer(key).seal(b"hello")
            client.suspend_key(key)
            until(lambda key=key: key not in cached._data_keys.held())  # type: ignore[misc]
        cached._watch.add(strange)
        assert strange not in cached._watch._watched.names


def test_the_async_cache_watches_on_too(dev: Dev, client: Client, new_key: Callable[[], str]) -> None:
    keys, strange = [new_key(), new_key()], "envs/dev/teams/strange/keys/key"

    async def work() -> None:
        async with AsyncClient(**dev.settings(), data_key_cache=True) as cached:
            for name in (keys[0], strange, keys[1]):
                cached._watch.add(name)
            await true(lambda: cached._watch._watched.names == keys)
            await true(lambda: cached._watch._watched.position is not None)
            for key in keys:
                await cached.sealer(key).seal(b"hello")
                assert key in cached._data_keys.held()
                client.suspend_key(key)
                await true(lambda key=key: key not in cached._data_keys.held())  # type: ignore[misc]

    asyncio.run(work())


async def true(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


def test_a_right_to_watch_that_goes_is_of_its_key_alone() -> None:
    with testing.Service() as service:
        admin = service.client()
        admin.create_team("dev/other")
        for key in ("dev/shop/one", "dev/other/two"):
            admin.create_key(key)
        service.add_caller("who", roles=["encrypter"], teams=["dev/shop", "dev/other"])
        cached = service.client("who", data_key_cache=True)
        for key in ("dev/shop/one", "dev/other/two"):
            cached._watch.add(key_name(key))
        until(lambda: position_of(cached) is not None and len(cached._watch._watched.names) == 2)
        service.add_caller("who", roles=["encrypter"], teams=["dev/shop"])
        admin.rotate_key("dev/other/two")
        until(lambda: cached._watch._watched.names == [key_name("dev/shop/one")])
        assert not cached._watch._watched.over


class Told(DataKeys):
    """A cache that holds what a test says."""

    def __init__(self) -> None:
        super().__init__(CacheBounds(), Events(None))
        self.names: set[str] = set()

    def held(self) -> set[str]:
        return self.names


def test_names_of_which_no_key_is_kept_any_more_make_room() -> None:
    now, cache = [0.0], Told()
    watched = Watched(cache, clock=lambda: now[0])
    for number in range(MOST_NAMES):
        assert watched.add(f"{number}") == []
    assert watched.add("too many") == []
    assert watched.lacks("too many"), "calls for keys of the others may be under way"
    now[0] = 61
    cache.names = {"3", "5"}
    assert len(watched.add("one more")) == MOST_NAMES - 2
    assert watched.names == ["3", "5", "one more"]


def test_a_stream_that_ends_for_another_name_does_not_move_the_position() -> None:
    """Else what happened to that name before would never be told."""
    cache = Told()
    here, there = (Position(sequence=number, link=bytes(32)) for number in (1, 2))
    watch = CacheWatch(cache, lambda _, after: None)  # type: ignore[arg-type, return-value]
    changes = KeyChanges(None, None, ["dev/shop/one"], None)  # type: ignore[arg-type]
    watch._reached(KeyChange(position=here, key=None), changes)
    changes.close()
    watch._reached(KeyChange(position=there, key=None), changes)
    assert watch._watched.position == here


def test_an_unexpected_end_of_the_watch_leaves_the_bounds() -> None:
    told: list[Event] = []
    with testing.Service() as service:
        service.client().create_key("dev/shop/one")
        service.faults.fail("INTERNAL", None, calls=["Watch"])
        cached = service.client(data_key_cache=True, on_event=told.append)
        cached._watch.add(key_name("dev/shop/one"))
        until(lambda: cached._watch._watched.over)
        cached.sealer("dev/shop/one").seal(b"hello")
        cached.sealer("dev/shop/one").seal(b"hello")
    assert [event.method for event in told if event.name == "call"] == ["GenerateDataKey"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_so_does_one_that_comes_while_the_refused_names_are_looked_for(kind: str) -> None:
    async def watched(aio: AsyncClient) -> bool:
        async with aio:
            aio._watch.add(key_name("dev/shop/one"))
            for _ in range(500):
                await asyncio.sleep(0 if aio._watch._watched.over else 0.01)
            return aio._watch._watched.over

    with testing.Service() as service:
        service.client().create_key("dev/shop/one")
        service.faults.fail("PERMISSION_DENIED", 1, calls=["Watch"])
        service.faults.fail("INTERNAL", None, calls=["Watch"])
        if kind == "async":
            assert asyncio.run(watched(service.async_client(data_key_cache=True)))
        else:
            cached = service.client(data_key_cache=True)
            cached._watch.add(key_name("dev/shop/one"))
            until(lambda: cached._watch._watched.over)


def test_a_client_that_is_closed_ends_its_watches(dev: Dev, key: str) -> None:
    client = Client(**dev.settings())
    changes = client.watch(key)
    assert changes.message()
    ended = threading.Event()

    def wait() -> None:
        assert list(changes) == []
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.2)
    client.close()
    assert ended.wait(5)

    async def work() -> None:
        aio = AsyncClient(**dev.settings())
        changes = aio.watch(key)
        assert await changes.message()
        waiting = asyncio.create_task(changes.message())
        await asyncio.sleep(0.2)
        await aio.close()
        assert await asyncio.wait_for(waiting, 5) is None

    asyncio.run(work())


def test_rule_7_a_watch_that_ends_before_it_was_told_anything_leaves_the_trial_to_others(dev: Dev, key: str) -> None:
    with Client(**dev.settings()) as client:
        endpoints = client._rules.endpoints
        endpoints.choose().ended(errors.Unreachable("gone"))
        until(lambda: client.endpoints[0].circuit == "half_open")
        changes = client.watch(key)
        changes._connections = Closed()  # type: ignore[assignment]
        with pytest.raises(errors.ClientClosed):
            next(changes)
        assert not endpoints._circuits[client.endpoints[0].address].trying
        assert client.watch(key).message()
        assert client.endpoints[0].circuit == "closed"


class Closed:
    def lease(self, _: str) -> None:
        raise errors.ClientClosed("closed")


def test_rule_3_streams_that_begin_and_end_at_once_are_begun_again_more_and_more_slowly() -> None:
    now, told = [0.0], list[Event]()
    events = Events(told.append)
    endpoints = Endpoints(("a:1",), events, clock=lambda: now[0], jitter=lambda _, most: most)
    rules = Rules(endpoints, events, clock=lambda: now[0], jitter=lambda _, most: most)
    watching = Watching(rules, ["dev/shop/orders"], None)

    def stream(lasts: float) -> float:
        watching.begin()
        watching.told(events_pb2.WatchResponse(position=events_pb2.Position(sequence=1)))
        now[0] += lasts
        wait = watching.lost(errors.Draining("going"), lambda: False)
        now[0] += wait
        return wait

    assert [stream(0) for _ in range(4)] == [0.05, 0.1, 0.2, 0.4]
    assert stream(2) == 0.05
    assert [event.name for event in told].count("watch_lost") == 5
