"""`AsyncClient`: the calls of `operations.py` over a connection, tried again as docs/clients.md says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Generator, Iterable
from functools import partial
from typing import Any, TypeVar

import grpc.aio

from keyreeve import checksum, status
from keyreeve.aio.cache_watch import AsyncCacheWatch
from keyreeve.aio.opener import AsyncOpener
from keyreeve.aio.operations import AsyncOperations
from keyreeve.aio.sealer import AsyncSealer
from keyreeve.aio.stream import AsyncCryptAnswers
from keyreeve.aio.watch import AsyncKeyChanges
from keyreeve.calls import Call
from keyreeve.client import BaseClient, Watches
from keyreeve.config import DEADLINE
from keyreeve.connections import OPTIONS, Connection, Connections, channel_credentials
from keyreeve.credentials import Credentials
from keyreeve.data_keys import CacheBounds
from keyreeve.door import clean
from keyreeve.errors import KeyreeveError
from keyreeve.events import Listener
from keyreeve.model import Key, Position
from keyreeve.stream import CryptRequest
from keyreeve.tries import Tries

T = TypeVar("T")


class AsyncClient(BaseClient, AsyncOperations):
    """A connection to the service, for the tasks of one event loop. `async with AsyncClient() as client:` closes it.

    Settings are those of `Client`. A callback `on_event` runs in the event loop and must not block.
    """

    @clean
    def __init__(
        self,
        addr: str | Iterable[str] | None = None,
        *,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        deadline: float = DEADLINE,
        on_event: Listener | None = None,
        data_key_cache: bool | CacheBounds = False,
    ) -> None:
        super().__init__(addr, ca, cert, key, deadline, on_event, data_key_cache)
        self._closing: set[asyncio.Task[None]] = set()
        self._connections = Connections(self._config, self._events, _open, self._close_soon)
        self._watch = AsyncCacheWatch(self._data_keys, lambda names, after: self.watch(*names, after=after))
        self._data_keys.on_name = self._watch.add
        self._watches: Watches[AsyncKeyChanges] = Watches()
        self._made()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections and the watches, and drops cached data keys."""
        await self._watch.close()
        for changes in self._watches.all():
            await changes.close()
        self._connections.close("this client was closed")
        self._data_keys.forget(None)
        await asyncio.gather(*self._closing)

    def crypt(self, requests: Iterable[CryptRequest] | AsyncIterable[CryptRequest]) -> AsyncCryptAnswers:
        """Many operations on one stream, answered as they get ready."""
        return AsyncCryptAnswers(self._rules, self._connections, requests)

    def watch(self, *keys: str, after: Position | None = None) -> AsyncKeyChanges:
        """Changes of 1 to 256 keys as they happen, from now on or after a position; for ever, over restarts of the service.

        Raises PermissionDenied, PositionUnknown and what else a new stream would not change.
        """
        return self._watches.add(AsyncKeyChanges(self._rules, self._connections, keys, after))

    def sealer(
        self, key: str, *, also: Iterable[str] = (), elsewhere: Iterable[tuple[AsyncClient, str]] = ()
    ) -> AsyncSealer:
        """Seals data of any size under `key` locally. What is said of `Client.sealer` holds."""
        return AsyncSealer(self._follow, self._ring((key, *also), elsewhere))

    def opener(self, *keys: str | Key) -> AsyncOpener:
        """Opens locally what was sealed under one of `keys`: names, or what `get_key` answered, which saves a call."""
        return AsyncOpener(self._follow, self._ring(keys))

    async def _follow(self, plan: Generator[Call[Any], Any, T]) -> T:
        """Makes the calls that a plan yields."""
        answer = None
        while True:
            try:
                call = plan.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer = await (call.caller or self)._run(call, None)

    async def _run(self, call: Call[T], deadline: float | None) -> T:
        tries, metadata = self._begin(call, deadline)
        while True:
            try:
                connection = self._connections.lease(tries.begin())
                try:
                    outcome = await self._send(connection, call, tries, metadata)
                finally:
                    self._connections.release(connection)
            except BaseException as error:
                tries.given_up(error)
                raise
            if not isinstance(outcome, KeyreeveError):
                tries.succeeded()
                return call.read(outcome.value)
            wait = tries.failed(outcome, partial(self._connections.newer_than, connection))
            if wait is None:
                raise outcome
            await asyncio.sleep(wait)

    async def _send(
        self, connection: Connection[Any], call: Call[Any], tries: Tries, metadata: list[tuple[str, str]]
    ) -> Any:
        remaining = tries.remaining
        if remaining <= 0:
            return tries.out_of_time()
        try:
            answer = await connection.unary(call.method)(call.request, timeout=remaining, metadata=metadata)
            checksum.check(answer.value)
        except grpc.RpcError as rpc:
            return status.from_rpc(rpc)
        except KeyreeveError as error:
            return error
        return answer

    def _close_soon(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.get_running_loop().create_task(_close(channel))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _open(address: str, found: Credentials) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, channel_credentials(found), OPTIONS)


async def _close(channel: grpc.aio.Channel) -> None:
    await channel.close(None)
