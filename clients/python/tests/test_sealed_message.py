"""Properties of the sealed message (docs/formats.md, section 4): what is sealed opens, and nothing else does."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyreeve import KeyreeveError, SealedReader, context, errors
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import ENVELOPE, FIXED, PREFIX, Header, Wrapped
from keyreeve.sealed.parts import Opened, Parts, Sealed
from keyreeve.sealed.payload import CHUNK, SEALED_CHUNK, TAG, Opening, Sealing

KEY = bytes(range(32))
CONTEXT = context.canonical({"table": "orders"})
SIZES = st.one_of(
    st.integers(0, 100),
    st.builds(lambda chunks, delta: max(0, chunks * CHUNK + delta), st.integers(0, 4), st.integers(-2, 2)),
)
CUTS = st.lists(st.integers(1, 3 * CHUNK), max_size=8)


def data_of(size: int) -> bytes:
    return bytes(n * 31 % 251 for n in range(256)) * (size // 256) + bytes(size % 256)


def header(*, stored: bool = False) -> Header:
    return Header(bytes(16), CONTEXT if stored else None, (Wrapped(ENVELOPE, b"envelope"),))


def seal(data: bytes, head: Header | None = None, key: bytes = KEY, ec: bytes = CONTEXT) -> bytes:
    return Sealing(key, head or header(), ec).whole(data)


def open_(message: bytes, key: bytes = KEY, ec: bytes = CONTEXT) -> bytes:
    parsed = headers.parse(message)
    payload = message[headers.length(message[:FIXED]) :]
    return Opening(key, parsed, ec, payload[:PREFIX]).whole(payload[PREFIX:])


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for size in cuts:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(SIZES, CUTS, CUTS)
@settings(max_examples=60, deadline=None)
def test_however_it_is_cut_into_parts_the_message_is_the_same_and_opens(
    size: int, sealing_cuts: list[int], opening_cuts: list[int]
) -> None:
    data = data_of(size)
    counted: list[int] = []
    sealing = Sealing(KEY, header(), CONTEXT, salt=bytes(24), count=counted.append)
    message = b"".join(Sealed(sealing, cut(data, sealing_cuts)))
    assert sum(counted) == size
    assert message == Sealing(KEY, header(), CONTEXT, salt=bytes(24)).whole(data)
    assert len(message) == len(header().encode()) + PREFIX + size + TAG * (size // CHUNK + 1)
    parts = Parts(cut(message, opening_cuts))
    parsed, prefix = parts.head()
    assert b"".join(Opened(Opening(KEY, parsed, CONTEXT, prefix), parts)) == data


@given(st.integers(0, 3 * CHUNK), st.data())
@settings(max_examples=40, deadline=None)
def test_a_message_that_is_cut_anywhere_does_not_open(size: int, draw: st.DataObject) -> None:
    message = seal(data_of(size))
    end = draw.draw(st.integers(0, len(message) - 1))
    with pytest.raises(errors.DecryptFailed):
        open_(message[:end])


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_message_whose_last_chunk_is_full_is_truncated(chunks: int) -> None:
    message = seal(data_of(chunks * CHUNK))
    with pytest.raises(errors.DecryptFailed):
        open_(message[:-TAG])


def test_every_bit_of_a_message_counts() -> None:
    wrapped = len(header().encode()) - FIXED
    message = seal(b"hello")
    for bit in range(len(message) * 8):
        byte = bit // 8
        changed = bytearray(message)
        changed[byte] ^= 1 << bit % 8
        outside = 24 <= byte < 28 or 30 <= byte < FIXED + wrapped
        with pytest.raises(KeyreeveError) if not outside else _either():
            open_(bytes(changed))


class _either:  # noqa: N801 - reads like pytest.raises
    """Wrapped keys and the header's length are not bound: a change there is refused by the parser, or changes nothing."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, value: object, _: object) -> bool:
        return value is None or isinstance(value, errors.DecryptFailed)


def test_stored_context_is_bound_too() -> None:
    message = seal(b"hello", header(stored=True))
    at = message.index(b"orders")
    changed = message[:at] + b"Orders" + message[at + 6 :]
    with pytest.raises(errors.DecryptFailed):
        open_(changed, ec=headers.parse(changed).stored_context or b"")
    # The flag alone is bound as well: dropping the stored context makes another message.
    stripped = header().encode() + message[len(header(stored=True).encode()) :]
    with pytest.raises(errors.DecryptFailed):
        open_(stripped)


@pytest.mark.parametrize("swap", [(0, 1), (1, 2), (0, 2)])
def test_chunks_have_their_place(swap: tuple[int, int]) -> None:
    message = seal(data_of(3 * CHUNK + 5))
    start = len(header().encode()) + PREFIX
    chunks = [message[start + n * SEALED_CHUNK : start + (n + 1) * SEALED_CHUNK] for n in range(4)]
    one, other = swap
    chunks[one], chunks[other] = chunks[other], chunks[one]
    for wrong in (chunks, [chunks[0], *chunks], chunks[1:]):
        with pytest.raises(errors.DecryptFailed):
            open_(message[:start] + b"".join(wrong))


def test_something_behind_the_end_is_refused() -> None:
    with pytest.raises(errors.DecryptFailed):
        open_(seal(b"hello") + b"x")


def test_another_key_or_context_is_found_by_the_commitment_before_any_chunk() -> None:
    message = seal(b"hello")
    payload = message[headers.length(message[:FIXED]) :]
    for key, ec in ((bytes(32), CONTEXT), (KEY, context.canonical({}))):
        with pytest.raises(errors.DecryptFailed):
            Opening(key, header(), ec, payload[:PREFIX])


def test_no_byte_of_a_bad_chunk_is_released() -> None:
    changed = bytearray(seal(data_of(3 * CHUNK)))
    changed[-TAG - 1 - SEALED_CHUNK] ^= 1
    message = bytes(changed)
    parts = Parts([message])
    parsed, prefix = parts.head()
    opening = Opening(KEY, parsed, CONTEXT, prefix)
    released = [opening.update(message[len(header().encode()) + PREFIX :][:SEALED_CHUNK])]
    assert len(released[0]) == CHUNK
    with pytest.raises(errors.DecryptFailed):
        opening.update(message[len(header().encode()) + PREFIX + SEALED_CHUNK :])


HEADER = header(stored=True).encode()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"\xe4"),
        (4, b"\2"),
        (5, b"\3"),
        (5, b"\0"),
        (6, b"\1\2"),
        (24, (len(HEADER) + 1).to_bytes(4, "big")),
        (24, (len(HEADER) - 1).to_bytes(4, "big")),
        (24, (1 << 31).to_bytes(4, "big")),
        (24, bytes(4)),
        (28, (len(CONTEXT) + 1).to_bytes(2, "big")),
        (28, b"\0\0"),
        (30, b"\0\0"),
        (30, b"\0\2"),
        (30, b"\0\x11"),
        (FIXED, b"\0\2"),
        (FIXED + len(CONTEXT) + 1, b"\1"),
        (FIXED + len(CONTEXT) + 2, b"\xff\xff"),
    ],
)
def test_headers_are_read_strictly(at: int, value: bytes) -> None:
    changed = HEADER[:at] + value + HEADER[at + len(value) :]
    assert headers.parse(HEADER) == header(stored=True)
    with pytest.raises(errors.DecryptFailed):
        headers.parse(changed + bytes(100))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_or_are_written_the_same(data: bytes) -> None:
    candidate = HEADER[:24] + data
    try:
        parsed = headers.parse(candidate)
    except errors.DecryptFailed:
        return
    assert candidate.startswith(parsed.encode())


def test_a_message_takes_sixteen_wrapped_keys_and_no_more() -> None:
    keys = tuple(Wrapped(ENVELOPE, b"x") for _ in range(17))
    assert headers.parse(header().with_keys(keys[:16]).encode()).wrapped == keys[:16]
    with pytest.raises(errors.InvalidArgument):
        header().with_keys(keys).encode()


def reader(message: bytes, before: bytes = b"") -> SealedReader:
    source = io.BytesIO(before + message)
    start = len(before) + headers.length(message[:FIXED])
    source.seek(start)
    opening = Opening(KEY, headers.parse(message), CONTEXT, source.read(PREFIX))
    return SealedReader(opening, source, source.tell())


@given(SIZES, st.lists(st.tuples(st.integers(0, 5 * CHUNK), st.integers(0, 2 * CHUNK)), max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_part_can_be_read_alone(size: int, reads: list[tuple[int, int]]) -> None:
    data = data_of(size)
    there = reader(seal(data), before=b"something else")
    for at, length in reads:
        there.seek(at)
        assert there.read(length) == data[at : at + length]
    assert there.size() == size
    assert there.seek(-min(3, size), io.SEEK_END) == size - min(3, size)
    assert there.readall() == data[size - min(3, size) :]
    assert io.BufferedReader(reader(seal(data))).read() == data


def test_a_reader_says_whether_the_message_is_proved_complete() -> None:
    there = reader(seal(data_of(3 * CHUNK)))
    assert there.read(10)
    assert not there.complete
    assert there.size() == 3 * CHUNK
    assert there.complete


@pytest.mark.parametrize("missing", [1, TAG - 1, TAG, TAG + 1, SEALED_CHUNK, SEALED_CHUNK + TAG])
def test_a_reader_tells_no_end_of_a_message_that_was_cut(missing: int) -> None:
    whole = seal(data_of(3 * CHUNK))
    there = reader(whole[:-missing])
    assert there.read(CHUNK) == data_of(3 * CHUNK)[:CHUNK]
    for ask in (there.size, there.readall, lambda: there.seek(0, io.SEEK_END), lambda: there.read(10 * CHUNK)):
        with pytest.raises(errors.DecryptFailed):
            ask()
    assert not there.complete
