"""`Watch` for asyncio. Changes and rules are those of `keyreeve.watch`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any

import grpc.aio

from keyreeve import status
from keyreeve.connections import Connection, Connections
from keyreeve.data_keys import DataKeys
from keyreeve.door import clean_async
from keyreeve.errors import KeyreeveError, PositionUnknown, Unreachable
from keyreeve.model import KeyChange, Position
from keyreeve.tries import Rules
from keyreeve.watch import MOST_NAMES, WATCH, Watching, drop


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
            connection = self._release()
            if self._closed.is_set():
                break
            changed = partial(self._connections.newer_than, connection) if connection else lambda: False
            await asyncio.sleep(self._watching.lost(outcome, changed))
        self._release()
        return None

    async def _one(self) -> KeyChange | KeyreeveError:
        try:
            if self._call is None:
                request, metadata = self._watching.begin()
                self._connection = self._connections.lease(self._watching.address)
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

    def _release(self) -> Connection[Any] | None:
        connection, self._connection, self._call = self._connection, None, None
        if connection is not None:
            self._connections.release(connection)
        return connection


class AsyncCacheWatch:
    """Drops cached data keys when their keys change. Its task begins with the first key that is kept."""

    def __init__(self, cache: DataKeys, watch: Callable[[list[str], Position | None], AsyncKeyChanges]) -> None:
        self._cache = cache
        self._watch = watch
        self._names: list[str] = []
        self._position: Position | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def add(self, name: str) -> None:
        """A key of this name is kept from now on."""
        if self._over or name in self._names or len(self._names) >= MOST_NAMES:
            return
        self._names.append(name)
        if self._task is not None:
            # The next one goes on with the new name from the same position, so that nothing is missed.
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._over:
            changes = self._watch(list(self._names), self._position)
            try:
                while (change := await changes.message()) is not None:
                    drop(self._cache, change, first=self._position is None)
                    self._position = change.position
            except PositionUnknown:
                self._position = None
            except KeyreeveError:
                # Told already. From now on the bounds alone hold.
                self._over = True
