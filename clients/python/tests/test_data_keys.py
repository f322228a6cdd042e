"""The cache of data keys: off by default, and within every bound of docs/clients.md when it is on (T25)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, CacheBounds, Client, Event, Opener, Sealer, errors, inspect, testing
from keyreeve.data_keys import DataKeys, Place, Versions, open_place, seal_place
from keyreeve.events import Events

WRAPPED = (b"wrapped",)


class Cache:
    """A cache under a clock that stands."""

    def __init__(self, **bounds: float) -> None:
        self.now = 0.0
        self.told: list[Event] = []
        self.keys = DataKeys(
            CacheBounds(**bounds),  # type: ignore[arg-type]
            Events(self.told.append),
            clock=lambda: self.now,
        )

    def put(self, place: Place, size: int = 0, name: str = "k", key_id: bytes = b"id", version: int = 1) -> bytearray:
        of = {name: (key_id, version)}
        self.keys.put(place, bytes([7] * 32), WRAPPED, size, of=of, mark=self.keys.mark((name,)))
        return self.keys._entries[place].key

    def names(self) -> list[str]:
        return [event.name for event in self.told]


def sealing(name: str = "k", context: bytes = b"c", identity: str = "me") -> Place:
    return seal_place(identity, (name,), context)


def opening(wrapped: bytes = b"w", context: bytes = b"c", identity: str = "me") -> Place:
    return open_place(identity, wrapped, context)


def test_without_bounds_nothing_is_kept() -> None:
    cache = DataKeys(None, Events(None))
    cache.put(sealing(), bytes(32), WRAPPED, 0, of={"k": (b"id", 1)}, mark=cache.mark(("k",)))
    assert cache.take(sealing(), 0) is None
    assert len(cache) == 0


def test_a_key_is_used_again_until_its_time_is_over_and_then_wiped() -> None:
    cache = Cache()
    kept = cache.put(sealing()), cache.put(opening())
    cache.now = 59.9
    assert cache.keys.take(sealing(), 0)
    assert cache.keys.take(opening(), 0)
    cache.now = 60
    assert cache.keys.take(opening(), 0) is None
    cache.now = 299.9
    assert cache.keys.take(sealing(), 0)
    cache.now = 300
    assert cache.keys.take(sealing(), 0) is None
    assert [bytes(key) for key in kept] == [bytes(32)] * 2
    assert cache.names().count("data_key_evicted") == 2


def test_a_key_serves_so_many_messages_its_first_included() -> None:
    cache = Cache(messages=3)
    cache.put(sealing())
    assert [bool(cache.keys.take(sealing(), 0)) for _ in range(3)] == [True, True, False]


def test_a_key_serves_so_many_bytes() -> None:
    cache = Cache(bytes=100)
    cache.put(sealing(), size=40)
    assert cache.keys.take(sealing(), 60)
    assert cache.keys.take(sealing(), 1) is None
    kept = cache.put(sealing())
    stream = cache.keys.take(sealing(), 0)
    assert stream
    stream.count(60)
    assert cache.keys.take(sealing(), 10)
    stream.count(30)
    assert bytes(kept) == bytes(32), "a stream counts as it goes"
    cache.put(sealing())
    stream.count(1000)
    assert cache.keys.take(sealing(), 100), "it counts for the key that it took, not for the next one in its place"


def test_the_entry_used_longest_ago_makes_room() -> None:
    cache = Cache(entries=2)
    cache.put(opening(b"1"))
    cache.put(opening(b"2"))
    assert cache.keys.take(opening(b"1"), 0)
    cache.put(opening(b"3"))
    assert cache.keys.take(opening(b"2"), 0) is None
    assert cache.keys.take(opening(b"1"), 0)
    assert len(cache.keys) == 2


def test_identity_context_and_wrapped_key_each_have_an_entry_of_their_own() -> None:
    cache = Cache()
    cache.put(sealing())
    cache.put(opening())
    for place in (
        sealing(context=b"d"),
        sealing(identity="you"),
        sealing("other"),
        opening(b"v"),
        opening(context=b"d"),
    ):
        assert cache.keys.take(place, 0) is None


def test_a_newer_version_or_another_key_of_the_name_sends_the_old_one_away() -> None:
    cache = Cache()
    old = cache.put(sealing(context=b"1"))
    cache.put(opening())
    cache.put(sealing(context=b"2"), version=2)
    assert cache.keys.take(sealing(context=b"1"), 0) is None
    assert bytes(old) == bytes(32)
    assert cache.keys.take(opening(), 0), "what was sealed before still opens"
    cache.put(sealing(context=b"3"), version=2, key_id=b"other")
    assert cache.keys.take(sealing(context=b"2"), 0) is None


def test_what_is_taken_is_a_copy_and_wiped_alone() -> None:
    cache = Cache()
    cache.put(sealing())
    taken = cache.keys.take(sealing(), 0)
    assert taken
    assert "key" not in repr(taken)
    taken.wipe()
    again = cache.keys.take(sealing(), 0)
    assert again
    assert again.key == bytes([7] * 32)


@pytest.mark.parametrize(
    "bounds",
    [
        {"seal_seconds": 3601},
        {"open_seconds": 0},
        {"messages": (1 << 32) + 1},
        {"bytes": (1 << 40) + 1},
        {"entries": 0},
    ],
    ids=str,
)
def test_bounds_have_bounds(bounds: dict[str, int]) -> None:
    with pytest.raises(errors.ConfigurationError):
        CacheBounds(**bounds)


def methods(told: list[Event]) -> list[str]:
    return [event.method for event in told if event.name == "call"]


def unwatched(client: Client | AsyncClient) -> None:
    """So that calls can be counted: a watch that begins drops what was kept before it began."""
    client._data_keys.on_name = None


def test_the_cache_is_off_unless_it_is_turned_on(dev: Dev, key: str) -> None:
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append) as client:
        messages = [client.sealer(key).seal(b"hello") for _ in range(2)]
        for message in messages:
            client.opener(key).open(message)
            client.opener(key).open(message)
    assert methods(told) == ["GenerateDataKey"] * 2 + ["UnwrapDataKey"] * 4, "the id of the key is known from sealing"


def test_turned_on_it_saves_calls_and_messages_stay_different(dev: Dev, key: str) -> None:
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append, data_key_cache=True) as client:
        unwatched(client)
        sealer, opener = client.sealer(key), client.opener(key)
        messages = [sealer.seal(b"hello", context={"a": "b"}) for _ in range(10)]
        assert [opener.open(message, context={"a": "b"}).reveal() for message in messages] == [b"hello"] * 10
        assert len({inspect(message).identity for message in messages}) == 10
        assert methods(told) == ["GenerateDataKey", "UnwrapDataKey"]
        sealer.seal(b"hello", context={"a": "c"})
        assert methods(told)[2:] == ["GenerateDataKey"]
        client.forget_data_keys(key)
        sealer.seal(b"hello", context={"a": "b"})
        assert methods(told)[3:] == ["GenerateDataKey"]


def test_a_change_of_the_key_empties_the_cache(dev: Dev, key: str) -> None:
    with Client(**dev.settings(), data_key_cache=True) as client:
        unwatched(client)
        message = client.sealer(key).seal(b"hello")
        client.opener(key).open(message)
        client.suspend_key(key)
        with pytest.raises(errors.StateForbids):
            client.sealer(key).seal(b"hello")
        with pytest.raises(errors.StateForbids):
            client.opener(key).open(message)


def test_what_was_asked_before_a_change_and_comes_after_it_is_not_kept() -> None:
    cache = Cache()
    both: Versions = {"k": (b"id", 1), "other": (b"of other", 1)}
    for changed in ("k", "other", None):
        mark = cache.keys.mark(tuple(both))
        cache.keys.forget(changed)
        cache.keys.put(sealing(), bytes(32), WRAPPED, 0, of=both, mark=mark)
        assert cache.keys.take(sealing(), 0) is None
    cache.keys.put(sealing(), bytes(32), WRAPPED, 0, of=both, mark=cache.keys.mark(tuple(both)))
    assert cache.keys.take(sealing(), 0)


def test_a_data_key_under_several_keys_goes_when_any_of_them_changes() -> None:
    cache = Cache()
    both: Versions = {"k": (b"id", 1), "other": (b"of other", 1)}
    place = seal_place("me", tuple(both), b"c")
    for change in (
        lambda: cache.keys.forget("other"),
        lambda: cache.put(sealing("other"), name="other", key_id=b"of other", version=2),
    ):
        cache.keys.put(place, bytes(32), WRAPPED, 0, of=both, mark=cache.keys.mark(tuple(both)))
        assert cache.keys.held() >= {"k", "other"}
        change()
        assert cache.keys.take(place, 0) is None


def test_a_callback_may_use_the_cache_that_tells_it() -> None:
    told: list[str] = []

    def listener(event: Event) -> None:
        told.append(event.name)
        if event.name == "data_key_evicted":
            keys.forget(None)

    keys = DataKeys(CacheBounds(entries=1, bytes=100), Events(listener))

    def use() -> None:
        for wrapped in (b"1", b"2"):
            keys.put(opening(wrapped), bytes(32), WRAPPED, 0, of={"k": (b"id", 1)}, mark=keys.mark(("k",)))
        keys.put(sealing(), bytes(32), WRAPPED, 0, of={"k": (b"id", 1)}, mark=keys.mark(("k",))).count(100)
        keys.forget("k")

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for its own lock"
    assert told.count("data_key_evicted") == 3


def test_the_bytes_of_streams_count_as_they_are_sealed(dev: Dev, key: str, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"x" * 1000
        raise OSError("the disk is away")

    (tmp_path / "plain").write_bytes(b"x" * 1000)
    ways: list[Callable[[Sealer], object]] = [
        lambda sealer: list(sealer.seal_chunks([b"x" * 1000])),
        lambda sealer: sealer.seal_stream(io.BytesIO(b"x" * 1000), io.BytesIO()),
        lambda sealer: sealer.seal_file(tmp_path / "plain", tmp_path / "sealed"),
        lambda sealer: list(sealer.seal_chunks(breaking())),
    ]
    for way in ways:
        told: list[Event] = []
        with Client(**dev.settings(), on_event=told.append, data_key_cache=CacheBounds(bytes=1000)) as client:
            unwatched(client)
            sealer = client.sealer(key)
            with contextlib.suppress(OSError):
                way(sealer)
            sealer.seal(b"")
        assert methods(told) == ["GenerateDataKey"] * 2


def test_the_bytes_of_streams_count_as_they_are_opened(dev: Dev, client: Client, key: str, tmp_path: Path) -> None:
    message = client.sealer(key).seal(b"x" * 1000)
    (tmp_path / "sealed").write_bytes(message)
    ways: list[Callable[[Opener], object]] = [
        lambda opener: list(opener.open_chunks([message])),
        lambda opener: opener.open_stream(io.BytesIO(message), io.BytesIO()),
        lambda opener: opener.open_file(tmp_path / "sealed", tmp_path / "opened"),
        lambda opener: opener.reader(io.BytesIO(message)).read(),
    ]
    for way in ways:
        told: list[Event] = []
        with Client(**dev.settings(), on_event=told.append, data_key_cache=CacheBounds(bytes=1000)) as again:
            unwatched(again)
            opener = again.opener(client.get_key(key))
            way(opener)
            with pytest.raises(errors.DecryptFailed):
                opener.open(message[:-1])
        assert methods(told) == ["UnwrapDataKey"] * 2


def test_the_async_client_counts_the_bytes_of_files_in_its_loop(dev: Dev, key: str, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(b"x" * 1000)

    def listener(event: Event) -> None:
        told.append((event.method or event.name, threading.current_thread().name))

    async def work() -> None:
        bounds = CacheBounds(bytes=1000)
        async with AsyncClient(**dev.settings(), on_event=listener, data_key_cache=bounds) as client:
            unwatched(client)
            for _ in range(2):
                await client.sealer(key).seal_file(plain, sealed)
            for _ in range(2):
                await client.opener(key).open_file(sealed, opened)
                opened.unlink()

    asyncio.run(work())
    names = [name for name, _ in told]
    assert (names.count("GenerateDataKey"), names.count("UnwrapDataKey")) == (2, 2)
    assert names.count("data_key_evicted") == 4
    assert {thread for _, thread in told} == {threading.current_thread().name}


def test_a_change_whose_answer_is_lost_empties_the_cache() -> None:
    told: list[Event] = []
    with testing.Service() as service:
        client = service.client(data_key_cache=True, on_event=told.append)
        unwatched(client)
        client.create_key("dev/shop/orders")
        sealer = client.sealer("dev/shop/orders")
        sealer.seal(b"hello")
        service.faults.lose_answer(None, calls=["RotateKey"])
        with pytest.raises(errors.LogUnavailable):
            client.rotate_key("dev/shop/orders", request_id=None)
        sealer.seal(b"hello")
    assert methods(told).count("GenerateDataKey") == 2


def test_threads_share_it(dev: Dev, key: str) -> None:
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append, data_key_cache=True) as client:
        unwatched(client)
        sealer, opener = client.sealer(key), client.opener(key)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(50):
                    assert opener.open(sealer.seal(b"hello")).reveal() == b"hello"
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(methods(told)) < 40


def test_the_async_client_has_one_too(dev: Dev, key: str) -> None:
    told: list[Event] = []

    async def work() -> None:
        async with AsyncClient(**dev.settings(), on_event=told.append, data_key_cache=True) as client:
            unwatched(client)
            for _ in range(5):
                message = await client.sealer(key).seal(b"hello")
                await client.opener(key).open(message)

    asyncio.run(work())
    assert methods(told) == ["GenerateDataKey", "UnwrapDataKey"]


def in_child(work: Callable[[], bool]) -> bool:
    """Runs in a forked child, which ends at once: no test code after it, no handlers."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_inherits_no_data_key() -> None:
    cache = Cache()
    kept = cache.put(sealing())
    assert in_child(lambda: len(cache.keys) == 1), "an object that no client holds is not looked after"
    cache.keys.forked()
    assert bytes(kept) == bytes(32)


def test_a_client_that_was_used_before_a_fork_says_so_in_the_child(dev: Dev, key: str) -> None:
    with pytest.raises(errors.ConfigurationError) as kept_alive:
        Client(**dev.settings() | {"cert": "/absent"})
    assert kept_alive, "a client that was never made stands in nobody's way"
    with Client(**dev.settings(), data_key_cache=True) as client:
        unwatched(client)
        client.sealer(key).seal(b"hello")
        kept = next(iter(client._data_keys._entries.values())).key

        def child() -> bool:
            try:
                client.sealer(key).seal(b"hello")
            except errors.ClientClosed as error:
                return "fork" in str(error) and bytes(kept) == bytes(32) and len(client._data_keys) == 0
            return False

        assert in_child(child)
        assert client.sealer(key).seal(b"hello"), "the parent goes on"
        assert bytes(kept) != bytes(32)


def test_a_fork_leaves_an_async_client_alone(dev: Dev, key: str) -> None:
    async def work() -> None:
        async with AsyncClient(**dev.settings()) as client:
            await client.encrypt(key, b"hello")

            # It ends well although the client's channels are forgotten there.
            assert in_child(lambda: True)
            assert await asyncio.wait_for(client.encrypt(key, b"hello"), 10), "the parent goes on"

    asyncio.run(work())
