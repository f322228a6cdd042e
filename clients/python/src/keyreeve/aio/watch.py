"""`Watch` for asyncio. Changes and rules are those of `keyreeve.watch`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import grpc.aio

from keyreeve import status
from keyreeve.connections import Connection, Connections
from keyreeve.door import clean_async
from keyreeve.errors import KeyreeveError, Unreachable
from keyreeve.model import KeyChange, Position
from keyreeve.tries import Rules
from keyreeve.watch import WATCH, Watching


class AsyncKeyChanges(AsyncIterator[KeyChange]):
    """The changes, one after another. To end it, cancel the task that waits, or `close`."""

    def __init__(
        self,
        rules: Rules,
        connections: Connections[Any],
        keys: Iterable[str],
        after: Position | None,
    ) -> None:
        self._watching = Watching(rules, keys, after)
        self._connections = connections
        self._connection: Connection[Any] | None = None
        self._call: Any = None
        self._answers: Any = None
        self._closed = asyncio.Event()

    @property
    def position(self) -> Position | None:
        return self._watching.position

    async def close(self) -> None:
        """No further change comes."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()
        self._release()

    async def __aenter__(self) -> AsyncKeyChanges:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @clean_async
    async def __anext__(self) -> KeyChange:
        while (change := await self.message()) is not None:
            if change.key is not None:
                return change
        raise StopAsyncIteration

    async def message(self) -> KeyChange | None:
        """The next message, also one that only says that the watch has begun; None: closed."""
        while not self._closed.is_set():
            outcome = await self._one()
            if isinstance(outcome, KeyChange):
                return outcome
            connection = self._connection
            changed = partial(self._connections.newer_than, connection) if connection else lambda: False
            try:
                wait = 0.0 if self._closed.is_set() else self._watching.lost(outcome, changed)
            finally:
                self._release()
            await asyncio.sleep(wait)
        self._release()
        return None

    async def _one(self) -> KeyChange | KeyreeveError:
        try:
            if self._call is None:
                request, metadata = self._watching.begin()
                try:
                    self._connection = self._connections.lease(self._watching.address)
                except KeyreeveError:
                    self._watching.given_up()
                    raise
                self._call = self._connection.answers(WATCH)(request, metadata=metadata)
                self._answers = aiter(self._call)
            return self._watching.told((await anext(self._answers)).value)
        except StopAsyncIteration:
            return Unreachable("the service ended the watch")
        except grpc.RpcError as rpc:
            return status.from_rpc(rpc)
        except asyncio.CancelledError:
            # Of this task, unless `close` cancelled the stream.
            if not self._closed.is_set():
                self._call.cancel()
                self._release()
                raise
            return Unreachable("the watch was closed")

    def _release(self) -> None:
        connection, self._connection, self._call = self._connection, None, None
        self._watching.given_up()
        if connection is not None:
            self._connections.release(connection)
