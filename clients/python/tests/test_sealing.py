"""Sealing and opening with the service: keys, contexts, pins, files, streams, wrapping anew. Sync and async do the same."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, Client, Event, Identity, SecretBytes, errors, inspect
from keyreeve.sealed import header as headers
from keyreeve.sealed import payload, streams
from keyreeve.sealed.header import Wrapped

CONTEXT = {"table": "orders", "row": "7"}
BIG = os.urandom(300_000)


def seal(client: Client, key: str, **kwargs: Any) -> bytes:
    return client.sealer(key).seal(b"hello", context=CONTEXT, **kwargs)


def test_a_value_is_sealed_and_opened(client: Client, key: str) -> None:
    message = seal(client, key, aad=b"raw")
    opened = client.opener(key).open(message, context=CONTEXT, aad=b"raw")
    assert isinstance(opened, SecretBytes)
    assert opened.reveal() == b"hello"
    assert client.opener(key).open(client.sealer(key).seal(SecretBytes(BIG))).reveal() == BIG


def test_two_messages_have_nothing_in_common(client: Client, key: str) -> None:
    one, other = inspect(seal(client, key)), inspect(seal(client, key))
    assert one.identity.message_id != other.identity.message_id
    assert one.identity.commitment != other.identity.commitment


def test_without_stored_context_the_whole_context_is_needed(client: Client, key: str) -> None:
    message, opener = seal(client, key), client.opener(key)
    with pytest.raises(errors.DecryptFailed):
        opener.open(message)
    with pytest.raises(errors.DecryptFailed):
        opener.open(message, accept_stored_context=True)
    with pytest.raises(errors.DecryptFailed):
        opener.open(message, required=CONTEXT)


def test_a_stored_context_counts_only_as_far_as_it_was_expected(client: Client, key: str) -> None:
    message, opener = seal(client, key, store_context=True), client.opener(key)
    assert inspect(message).context == CONTEXT
    accepted: list[dict[str, Any]] = [
        {"context": CONTEXT},
        {"required": {"table": "orders"}},
        {"accept_stored_context": True},
    ]
    for expected in accepted:
        assert opener.open(message, **expected).reveal() == b"hello"
    refused: list[dict[str, Any]] = [
        {},
        {"context": {"table": "orders"}},
        {"required": {"table": "refunds"}},
        {"required": {"tenant": "acme"}},
        {"accept_stored_context": True, "aad": b"more"},
    ]
    for wrong in refused:
        with pytest.raises(errors.DecryptFailed):
            opener.open(message, **wrong)
    with pytest.raises(errors.InvalidArgument, match="give one of"):
        opener.open(message, context=CONTEXT, required=CONTEXT)


def test_a_refused_context_or_pin_makes_no_call(dev: Dev, client: Client, key: str) -> None:
    message = seal(client, key, store_context=True)
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append) as other:
        with pytest.raises(errors.DecryptFailed):
            other.opener(key).open(message)
        with pytest.raises(errors.UnexpectedMessage):
            other.opener(key).open(message, context=CONTEXT, expect=bytes(16))
        for no_message in (b"not sealed", message[: inspect(message).header_length + 55]):
            with pytest.raises(errors.DecryptFailed):
                other.opener(key).open(no_message, context=CONTEXT)
    assert told == []


def test_an_older_valid_message_is_refused_where_another_one_is_expected(client: Client, key: str) -> None:
    older, newer = seal(client, key), seal(client, key)
    expected, opener = inspect(newer).identity, client.opener(key)
    for pin in (expected, expected.message_id):
        assert opener.open(newer, context=CONTEXT, expect=pin).reveal() == b"hello"
        with pytest.raises(errors.UnexpectedMessage):
            opener.open(older, context=CONTEXT, expect=pin)
    with pytest.raises(errors.UnexpectedMessage, match="another commitment"):
        opener.open(newer, context=CONTEXT, expect=Identity(expected.message_id, bytes(32)))


def test_a_message_for_several_keys_is_opened_with_each(client: Client, new_key: Callable[[], str]) -> None:
    one, other, third = new_key(), new_key(), new_key()
    message = client.sealer(one, also=[other]).seal(b"hello", context=CONTEXT)
    for key in (one, other):
        assert client.opener(key).open(message, context=CONTEXT).reveal() == b"hello"
    assert client.opener(third, other).open(message, context=CONTEXT).reveal() == b"hello"
    with pytest.raises(errors.DecryptFailed):
        client.opener(third).open(message, context=CONTEXT)


def test_only_a_wrapped_key_of_a_named_key_goes_to_the_service(
    dev: Dev, client: Client, new_key: Callable[[], str]
) -> None:
    one, other, third = new_key(), new_key(), new_key()
    message = client.sealer(one, also=[other]).seal(b"hello")
    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append) as reader:
        assert reader.opener(other).open(message).reveal() == b"hello"
        with pytest.raises(errors.DecryptFailed):
            reader.opener(third).open(message)
        assert reader.opener(client.get_key(one)).open(message).reveal() == b"hello"
    methods = [event.method for event in told if event.name == "call"]
    assert methods == ["GetKey", "UnwrapDataKey", "GetKey", "UnwrapDataKey"]


def test_a_message_is_wrapped_anew_without_its_payload(client: Client, new_key: Callable[[], str]) -> None:
    old, new = new_key(), new_key()
    message = seal(client, old)
    moved = client.opener(old).rewrap(message, new, context=CONTEXT)
    both = client.opener(old).rewrap(message, new, keep=True, context=CONTEXT)
    assert client.opener(new).open(moved, context=CONTEXT).reveal() == b"hello"
    with pytest.raises(errors.DecryptFailed):
        client.opener(old).open(moved, context=CONTEXT)
    for key in (old, new):
        assert client.opener(key).open(both, context=CONTEXT).reveal() == b"hello"
    assert inspect(moved).identity == inspect(both).identity == inspect(message).identity
    end = inspect(message).header_length
    assert moved.endswith(message[end:])


def test_wrapping_anew_keeps_what_it_does_not_know_and_doubles_no_key(
    client: Client, new_key: Callable[[], str]
) -> None:
    old, new = new_key(), new_key()
    message = seal(client, old)
    header, end = headers.parse(message), inspect(message).header_length
    strange = Wrapped(9, b"of another product")
    message = header.with_keys((strange, *header.wrapped)).encode() + message[end:]
    both = client.opener(old).rewrap(message, new, keep=True, context=CONTEXT)
    again = client.opener(new).rewrap(both, old, keep=True, context=CONTEXT)
    kinds = [wrapped.kind for wrapped in headers.parse(again).wrapped]
    assert kinds == [9, 1, 1]
    assert set(inspect(again).key_ids) == {client.get_key(name).id for name in (old, new)}
    alone = client.opener(old).rewrap(again, old, context=CONTEXT)
    assert [wrapped.kind for wrapped in headers.parse(alone).wrapped] == [1]
    assert client.opener(old).open(alone, context=CONTEXT).reveal() == b"hello"


def test_whatever_is_wrong_is_one_error_with_one_text(client: Client, new_key: Callable[[], str]) -> None:
    key, other = new_key(), new_key()
    message = seal(client, key, store_context=True)
    without_context = seal(client, key)
    header, end = headers.parse(message), inspect(message).header_length
    spoilt = Wrapped(1, header.wrapped[0].data[:-1] + b"x")
    attempts: list[tuple[str, bytes, dict[str, Any]]] = [
        (key, without_context, {}),
        (key, header.with_keys((spoilt,)).encode() + message[end:], {"context": CONTEXT}),
        (key, message, {}),
        (other, message, {"context": CONTEXT}),
        (key, message[:-1], {"context": CONTEXT}),
        (key, message[:40], {"context": CONTEXT}),
        (key, b"not sealed", {"context": CONTEXT}),
        (key, message + b"x", {"context": CONTEXT}),
    ]
    texts = set()
    for name, data, expected in attempts:
        with pytest.raises(errors.DecryptFailed) as caught:
            client.opener(name).open(data, **expected)
        texts.add(caught.value.message)
    assert len(texts) == 1


def test_a_wrapped_key_of_another_message_is_found_by_the_commitment(client: Client, key: str) -> None:
    message, other = seal(client, key), seal(client, key)
    mixed = headers.parse(message).with_keys(headers.parse(other).wrapped).encode()
    with pytest.raises(errors.DecryptFailed):
        client.opener(key).open(mixed + message[inspect(message).header_length :], context=CONTEXT)


def test_an_envelope_of_encrypt_is_no_wrapped_key(client: Client, key: str) -> None:
    message = seal(client, key)
    envelope = client.encrypt(key, bytes(32), context=CONTEXT)
    mixed = headers.parse(message).with_keys((Wrapped(1, envelope),)).encode()
    with pytest.raises(errors.DecryptFailed):
        client.opener(key).open(mixed + message[inspect(message).header_length :], context=CONTEXT)


def test_a_file_is_sealed_opened_and_read_in_parts(client: Client, key: str, tmp_path: Path) -> None:
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(BIG)
    identity = client.sealer(key).seal_file(plain, sealed, context=CONTEXT)
    assert identity == inspect(sealed.read_bytes()).identity
    client.opener(key).open_file(sealed, opened, context=CONTEXT, expect=identity)
    assert opened.read_bytes() == BIG
    assert opened.stat().st_mode & 0o777 == 0o600
    with open(sealed, "rb") as file, client.opener(key).reader(file, context=CONTEXT) as reader:
        reader.seek(200_000)
        assert reader.read(10) == BIG[200_000:200_010]
        assert not reader.complete
    assert sorted(path.name for path in tmp_path.iterdir()) == ["opened", "plain", "sealed"]


def test_a_file_that_is_not_whole_leaves_nothing_behind(client: Client, key: str, tmp_path: Path) -> None:
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(BIG)
    client.sealer(key).seal_file(plain, sealed)
    sealed.write_bytes(sealed.read_bytes()[:-1])
    with pytest.raises(errors.DecryptFailed):
        client.opener(key).open_file(sealed, opened)
    with pytest.raises(errors.InvalidArgument):
        client.sealer("no name")
    with pytest.raises(FileNotFoundError):
        client.sealer(key).seal_file(tmp_path / "absent", tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "sealed"]
    opened.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        client.opener(key).open_file(sealed, opened)
    with pytest.raises(FileExistsError), streams.created(tmp_path / "late") as file:
        file.write(b"ours")
        (tmp_path / "late").write_bytes(b"theirs")
    assert opened.read_bytes() == b"mine"
    assert (tmp_path / "late").read_bytes() == b"theirs"


def test_a_file_is_wrapped_anew_in_its_place(client: Client, new_key: Callable[[], str], tmp_path: Path) -> None:
    old, new, path = new_key(), new_key(), tmp_path / "sealed"
    path.write_bytes(client.sealer(old).seal(BIG))
    client.opener(old).rewrap_file(path, new)
    with open(path, "rb") as file:
        target = io.BytesIO()
        client.opener(new).open_stream(file, target)
    assert target.getvalue() == BIG


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_file_that_is_wrapped_anew_keeps_its_mode_and_the_link_to_it(
    dev: Dev, client: Client, new_key: Callable[[], str], tmp_path: Path, kind: str
) -> None:
    old, new = new_key(), new_key()
    path, link = tmp_path / "elsewhere" / "sealed", tmp_path / "link"
    path.parent.mkdir()
    path.write_bytes(client.sealer(old).seal(BIG))
    path.chmod(0o640)
    link.symlink_to(path)

    async def rewrap() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            await aio.opener(old).rewrap_file(link, new)

    asyncio.run(rewrap()) if kind == "async" else client.opener(old).rewrap_file(link, new)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert client.opener(new).open(path.read_bytes()).reveal() == BIG
    assert sorted(file.name for file in path.parent.iterdir()) == ["sealed"]


def test_a_file_that_became_another_message_while_its_key_was_wrapped_is_left_alone(
    client: Client, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "sealed"
    path.write_bytes(seal(client, key))
    before = headers.parse(path.read_bytes())
    later = seal(client, key)
    path.write_bytes(later)
    with pytest.raises(errors.UnexpectedMessage, match="meanwhile"):
        streams.with_header(path, before, before)
    assert path.read_bytes() == later


def test_streams_and_parts_are_sealed_as_they_come(client: Client, key: str) -> None:
    sealed = io.BytesIO()
    client.sealer(key).seal_stream(io.BytesIO(BIG), sealed, context=CONTEXT)
    pieces = [sealed.getvalue()[at : at + 1000] for at in range(0, len(sealed.getvalue()), 1000)]
    assert b"".join(client.opener(key).open_chunks(pieces, context=CONTEXT)) == BIG
    parts = client.sealer(key).seal_chunks(BIG[at : at + 777] for at in range(0, len(BIG), 777))
    assert client.opener(key).open(b"".join(parts)).reveal() == BIG


def test_rotation_leaves_old_messages_readable(client: Client, key: str) -> None:
    message = seal(client, key)
    client.rotate_key(key)
    assert client.opener(key).open(message, context=CONTEXT).reveal() == b"hello"
    assert client.opener(key).open(seal(client, key), context=CONTEXT).reveal() == b"hello"


def test_whoever_may_only_seal_cannot_open(dev: Dev, client: Client, key: str) -> None:
    with Client(**dev.settings("app")) as app:
        message = app.sealer(key).seal(b"hello")
        with pytest.raises(errors.PermissionDenied, match="may not UnwrapDataKey"):
            app.opener(key).open(message)
    assert client.opener(key).open(message).reveal() == b"hello"


def test_the_async_client_seals_the_same(dev: Dev, client: Client, new_key: Callable[[], str], tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(BIG)

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 5000):
            yield data[at : at + 5000]

    async def work() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            sealer, opener = aio.sealer(key), aio.opener(key)
            message = await sealer.seal(BIG, context=CONTEXT, store_context=True)
            assert client.opener(key).open(message, required={"row": "7"}).reveal() == BIG
            assert (await opener.open(seal(client, key), context=CONTEXT)).reveal() == b"hello"
            identity = await sealer.seal_file(plain, sealed)
            await opener.open_file(sealed, opened, expect=identity)
            await opener.rewrap_file(sealed, other)
            moved = await opener.rewrap(message, other, context=CONTEXT)
            assert client.opener(other).open(moved, context=CONTEXT).reveal() == BIG
            async_parts = [part async for part in await sealer.seal_chunks(pieces(BIG))]
            sync_parts = [part async for part in await sealer.seal_chunks([BIG])]
            for parts in (async_parts, sync_parts):
                out = [part async for part in await opener.open_chunks(pieces(b"".join(parts)))]
                assert b"".join(out) == BIG
            with open(sealed, "rb") as file:
                reader = await aio.opener(other).reader(file)
                assert reader.size() == len(BIG)
            with pytest.raises(errors.DecryptFailed):
                [part async for part in await opener.open_chunks([async_parts[0]])]

    asyncio.run(work())
    assert opened.read_bytes() == BIG


def test_a_message_whose_source_failed_does_not_end_as_a_whole_one(client: Client, key: str) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"a part"
        raise OSError("the disk is away")

    parts = client.sealer(key).seal_chunks(breaking())
    next(parts)
    with pytest.raises(OSError, match="away"):
        list(parts)
    with pytest.raises(RuntimeError, match="begin it again"):
        next(parts)


def test_an_async_message_that_was_given_up_waiting_does_not_end_as_a_whole_one(dev: Dev, key: str) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"a part"
        await asyncio.sleep(60)
        yield b"another"

    async def run() -> None:
        async with AsyncClient(**dev.settings()) as client:
            parts = await client.sealer(key).seal_chunks(slow())
            await anext(parts)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(parts), 0.1)
            with pytest.raises(RuntimeError, match="begin it again"):
                await anext(parts)

    asyncio.run(run())


def test_a_message_that_did_not_open_has_no_end(client: Client, key: str) -> None:
    message = bytearray(client.sealer(key).seal(BIG))
    message[-1] ^= 1
    parts = client.opener(key).open_chunks([bytes(message)])
    with pytest.raises(errors.DecryptFailed):
        list(parts)
    with pytest.raises(RuntimeError, match="begin it again"):
        next(parts)


class Half(io.RawIOBase):
    """Takes and gives half of what it could; nothing at all while it is `blocked`."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.blocked = False

    def write(self, data: Any, /) -> int | None:
        taken = bytes(data)[: max(1, len(data) // 2)]
        self.data += taken
        return None if self.blocked else len(taken)

    def read(self, size: int = -1, /) -> bytes | None:
        if self.blocked:
            return None
        given, self.data = self.data[: max(1, size // 2)], self.data[max(1, size // 2) :]
        return given


def test_raw_streams_that_take_and_give_a_part_lose_nothing_and_one_that_is_not_ready_is_no_end(
    client: Client, key: str
) -> None:
    sealed, opened = Half(), Half()
    client.sealer(key).seal_stream(Half(BIG), sealed)  # type: ignore[arg-type]
    client.opener(key).open_stream(Half(sealed.data), opened)  # type: ignore[arg-type]
    assert opened.data == BIG
    waiting = Half(BIG)
    waiting.blocked = True
    with pytest.raises(BlockingIOError, match="source"):
        client.sealer(key).seal_stream(waiting, Half())  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError, match="target"):
        client.sealer(key).seal_stream(Half(BIG), waiting)  # type: ignore[arg-type]


class AsyncHalf:
    """Takes and gives half of what it could, awaited, as files of other packages may."""

    def __init__(self, data: bytes = b"") -> None:
        self.half = Half(data)

    async def write(self, data: bytes) -> int | None:
        return self.half.write(data)

    async def read(self, size: int) -> bytes:
        return self.half.read(size)  # type: ignore[return-value]


class Drained:
    """Takes everything, and wants to be awaited afterwards, as `asyncio.StreamWriter` does."""

    def __init__(self) -> None:
        self.data = b""
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self.waiting += len(data)
        self.data += data

    async def drain(self) -> None:
        self.waiting = 0


def test_the_async_client_seals_and_opens_streams(dev: Dev, client: Client, key: str) -> None:
    def reader(data: bytes) -> asyncio.StreamReader:
        made = asyncio.StreamReader()
        made.feed_data(data)
        made.feed_eof()
        return made

    async def work() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            sealer, opener = aio.sealer(key), aio.opener(key)
            for size in (0, 5, len(BIG)):
                sealed, half, opened = Drained(), AsyncHalf(), Drained()
                identity = await sealer.seal_stream(reader(BIG[:size]), sealed, context=CONTEXT)
                assert sealed.waiting == 0
                assert inspect(sealed.data).identity == identity
                assert client.opener(key).open(sealed.data, context=CONTEXT).reveal() == BIG[:size]
                await opener.open_stream(reader(sealed.data), half, context=CONTEXT, expect=identity)
                again = AsyncHalf()
                await sealer.seal_stream(AsyncHalf(half.half.data), again)
                await opener.open_stream(again, opened)
                assert half.half.data == opened.data == BIG[:size]

    asyncio.run(work())


def test_an_async_stream_that_is_not_whole_or_not_ready_is_refused(dev: Dev, client: Client, key: str) -> None:
    message = client.sealer(key).seal(BIG)

    async def work() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            opener, blocked = aio.opener(key), AsyncHalf(BIG)
            for cut in (0, 10, 40, inspect(message).header_length + 3, len(message) - 1):
                with pytest.raises(errors.DecryptFailed):
                    await opener.open_stream(AsyncHalf(message[:cut]), AsyncHalf())
            blocked.half.blocked = True
            with pytest.raises(BlockingIOError, match="source"):
                await aio.sealer(key).seal_stream(blocked, AsyncHalf())

    asyncio.run(work())


def test_a_target_that_keeps_what_it_is_given_has_the_whole_message(client: Client, key: str) -> None:
    class Keeping:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes) -> int:
            self.parts.append(data)
            return len(data)

    plain = random.Random(1).randbytes(1_000_000)
    sealed, opened = Keeping(), Keeping()
    client.sealer(key).seal_stream(io.BytesIO(plain), sealed)  # type: ignore[arg-type]
    client.opener(key).open_stream(io.BytesIO(b"".join(sealed.parts)), opened)  # type: ignore[arg-type]
    assert b"".join(opened.parts) == plain


def test_streams_are_the_same_where_the_cipher_cannot_write_into_a_buffer(
    client: Client, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = random.Random(2).randbytes(1_000_000)
    for sealing, opening in [(True, False), (False, True)]:
        monkeypatch.setattr(payload, "_HAS_INTO", sealing)
        sealed, opened = io.BytesIO(), io.BytesIO()
        client.sealer(key).seal_stream(io.BytesIO(plain), sealed)
        monkeypatch.setattr(payload, "_HAS_INTO", opening)
        client.opener(key).open_stream(io.BytesIO(sealed.getvalue()), opened)
        assert opened.getvalue() == plain
        damaged = bytearray(sealed.getvalue())
        damaged[-20_000] ^= 1
        with pytest.raises(errors.DecryptFailed):
            client.opener(key).open_stream(io.BytesIO(damaged), io.BytesIO())
