"""Sealing and opening of parts as they come, from iterators: sync and async ones do the same work here."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from keyreeve.door import clean, clean_async
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import FIXED, PREFIX, Header, unopenable
from keyreeve.sealed.payload import Opening, Sealing

Either = Iterable[bytes] | AsyncIterable[bytes]


class Steps:
    """Steps up to the end. After one that failed there is none: with a part of it lost, a message would look whole."""

    def __init__(self) -> None:
        self._within = False

    def begin(self) -> None:
        if self._within:
            raise RuntimeError("this message was given up when a part failed: begin it again")
        self._within = True

    def end(self) -> None:
        self._within = False


class Sealed(Iterator[bytes]):
    """A message, part by part."""

    def __init__(self, sealing: Sealing, parts: Iterable[bytes]) -> None:
        self._step = SealingStep(sealing)
        self._steps = Steps()
        self._parts = iter(parts)

    @clean
    def __next__(self) -> bytes:
        self._steps.begin()
        while not self._step.over:
            sealed = self._step.next(next(self._parts, None)) if self._step.begun else self._step.begin()
            if sealed:
                self._steps.end()
                return sealed
        self._steps.end()
        raise StopIteration


class AsyncSealed(AsyncIterator[bytes]):
    def __init__(self, sealing: Sealing, parts: Either) -> None:
        self._step = SealingStep(sealing)
        self._steps = Steps()
        self._parts = _aiter(parts)

    @clean_async
    async def __anext__(self) -> bytes:
        self._steps.begin()
        while not self._step.over:
            sealed = self._step.next(await anext(self._parts, None)) if self._step.begun else self._step.begin()
            if sealed:
                self._steps.end()
                return sealed
        self._steps.end()
        raise StopAsyncIteration


class SealingStep:
    """One part in, one out."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing
        self.begun = self.over = False

    def begin(self) -> bytes:
        self.begun = True
        return self._sealing.head

    def next(self, part: bytes | None) -> bytes:
        if part is None:
            self.over = True
            return self._sealing.finish()
        return self._sealing.update(part)


class Head:
    """Collects header and prefix of a message from its first parts."""

    def __init__(self) -> None:
        self._data = b""

    def take(self, part: bytes | None) -> tuple[Header, bytes, bytes] | None:
        """Header, prefix of the payload, and what follows; None: more parts are needed."""
        self._data += part or b""
        end = headers.length(self._data) if part is None or len(self._data) >= FIXED else LARGER_THAN_ANY
        if len(self._data) >= end + PREFIX:
            payload = self._data[end:]
            return headers.parse(self._data), payload[:PREFIX], payload[PREFIX:]
        if part is None:
            headers.parse(self._data)
            raise unopenable()
        return None


LARGER_THAN_ANY = 1 << 32


class Parts:
    """The parts of a message: first `head`, then the rest."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._left = b""

    def head(self) -> tuple[Header, bytes]:
        head = Head()
        while (found := head.take(next(self._parts, None))) is None:
            pass
        header, prefix, self._left = found
        return header, prefix

    def next(self) -> bytes | None:
        if self._left:
            left, self._left = self._left, b""
            return left
        return next(self._parts, None)


class AsyncParts:
    def __init__(self, parts: Either) -> None:
        self._parts = _aiter(parts)
        self._left = b""

    async def head(self) -> tuple[Header, bytes]:
        head = Head()
        while (found := head.take(await anext(self._parts, None))) is None:
            pass
        header, prefix, self._left = found
        return header, prefix

    async def next(self) -> bytes | None:
        if self._left:
            left, self._left = self._left, b""
            return left
        return await anext(self._parts, None)


class Opened(Iterator[bytes]):
    """Plaintext, part by part; the end of the iterator is the proof that the message is whole."""

    def __init__(self, opening: Opening, parts: Parts) -> None:
        self._opening = opening
        self._steps = Steps()
        self._parts = parts
        self._over = False

    @clean
    def __next__(self) -> bytes:
        self._steps.begin()
        while not self._over:
            part = self._parts.next()
            self._over = part is None
            opened = self._opening.finish() if part is None else self._opening.update(part)
            if opened:
                self._steps.end()
                return opened
        self._steps.end()
        raise StopIteration


class AsyncOpened(AsyncIterator[bytes]):
    def __init__(self, opening: Opening, parts: AsyncParts) -> None:
        self._opening = opening
        self._steps = Steps()
        self._parts = parts
        self._over = False

    @clean_async
    async def __anext__(self) -> bytes:
        self._steps.begin()
        while not self._over:
            part = await self._parts.next()
            self._over = part is None
            opened = self._opening.finish() if part is None else self._opening.update(part)
            if opened:
                self._steps.end()
                return opened
        self._steps.end()
        raise StopAsyncIteration


def _aiter(parts: Either) -> AsyncIterator[bytes]:
    return aiter(parts) if isinstance(parts, AsyncIterable) else _as_async(parts)


async def _as_async(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
