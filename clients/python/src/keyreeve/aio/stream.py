"""`Crypt` for asyncio. Requests and answers are those of `keyreeve.stream`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc.aio

from keyreeve import status
from keyreeve.connections import Connections
from keyreeve.door import bare, clean_async
from keyreeve.errors import KeyreeveError
from keyreeve.secret import Hidden
from keyreeve.stream import CRYPT, CryptAnswer, CryptRequest, UnderWay
from keyreeve.tries import Rules


class AsyncCryptAnswers(AsyncIterator[CryptAnswer]):
    """The answers, in the order in which they got ready. A broken stream raises; `error.unanswered` names the tags to send again."""

    def __init__(
        self,
        rules: Rules,
        connections: Connections[Any],
        requests: Iterable[CryptRequest] | AsyncIterable[CryptRequest],
    ) -> None:
        self._connections = connections
        self._failed: BaseException | None = None
        self._under_way = UnderWay(rules)
        try:
            self._connection: Any = connections.lease(self._under_way.address)
        except KeyreeveError as error:
            self._under_way.given_up(error)
            raise
        stream = self._connection.stream(CRYPT)
        self._call = stream(self._messages(requests), metadata=self._under_way.metadata)
        self._answers = aiter(self._call)

    async def close(self) -> None:
        """Ends the stream; what is under way gets no answer."""
        self._call.cancel()
        if self._release():
            self._under_way.given_up(None)

    async def __aenter__(self) -> AsyncCryptAnswers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @clean_async
    async def __anext__(self) -> CryptAnswer:
        outcome = await self._next()
        if isinstance(outcome, CryptAnswer):
            return outcome
        released = self._release()
        if self._failed is not None:
            if released:
                self._under_way.given_up(self._failed)
            raise bare(self._failed)
        if released:
            self._under_way.over(outcome)
        if outcome is not None:
            raise outcome
        raise StopAsyncIteration

    async def _next(self) -> CryptAnswer | KeyreeveError | None:
        try:
            return self._under_way.answered(await anext(self._answers))
        except StopAsyncIteration:
            pass
        except grpc.RpcError as rpc:
            return self._under_way.broken(status.from_rpc(rpc))
        except BaseException:
            if self._failed is None:
                raise
            return None
        try:
            self._under_way.ended()
        except KeyreeveError as error:
            return error
        return None

    async def _messages(
        self, requests: Iterable[CryptRequest] | AsyncIterable[CryptRequest]
    ) -> AsyncIterator[Hidden[Any]]:
        """What the caller's iterator raises is kept, and raised where the answers are read."""
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    yield self._under_way.sent(request)
            else:
                for request in requests:
                    yield self._under_way.sent(request)
        except (asyncio.CancelledError, GeneratorExit):
            # Of gRPC, since the stream has ended.
            raise
        except BaseException as error:  # noqa: BLE001 - raised again in `__anext__`
            self._failed = error
            self._call.cancel()

    def _release(self) -> bool:
        """False if it was before: a stream ends once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.release(connection)
        return connection is not None
