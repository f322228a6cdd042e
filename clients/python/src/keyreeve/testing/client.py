"""Clients whose calls go to a `Memory`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, TypeVar

from keyreeve import checksum, correlation
from keyreeve.aio.client import AsyncClient
from keyreeve.calls import Call
from keyreeve.client import Client
from keyreeve.data_keys import CacheBounds, DataKeys
from keyreeve.door import clean
from keyreeve.endpoints import Endpoints
from keyreeve.errors import ClientClosed, KeyreeveError, Unimplemented
from keyreeve.events import Event, Events, Listener
from keyreeve.model import Position
from keyreeve.stream import CryptAnswer, CryptRequest
from keyreeve.testing.memory import Memory
from keyreeve.tries import Rules

T = TypeVar("T")


class _Nowhere:
    """Stands where the connections would be."""

    identity = "spiffe://keyreeve.dev/memory"
    ever_opened = False


class _InMemory:
    """What both clients do here."""

    memory: Memory
    _events: Events

    def _set_up(self, memory: Memory | None, on_event: Listener | None, data_key_cache: bool | CacheBounds) -> None:
        self.memory = memory or Memory()
        self._closed = False
        self._events = Events(on_event)
        self._rules = Rules(Endpoints(["memory:0"], self._events), self._events)
        bounds = CacheBounds() if data_key_cache is True else data_key_cache or None
        self._data_keys = DataKeys(bounds, self._events)
        self._connections: Any = _Nowhere()

    def _answer(self, call: Call[T]) -> T:
        if self._closed:
            raise ClientClosed("this client was closed")
        request_id, _ = correlation.headers()
        try:
            answer = self.memory.answer(call.method.name, call.request.value)
            checksum.check(answer)
        except KeyreeveError as error:
            error.request_id = error.request_id or request_id
            error.tries = error.tries or 1
            self._tell(call, error.reason, request_id)
            raise
        self._tell(call, "OK", request_id)
        return call.read(answer)

    def _tell(self, call: Call[Any], reason: str, request_id: str) -> None:
        event = Event(name="call", method=call.method.name, reason=reason, tries=1, request_id=request_id)
        self._events.tell(event)

    def _crypt(self, request: CryptRequest) -> CryptAnswer:
        try:
            return CryptAnswer(request.tag, self._answer(request.call), None)
        except KeyreeveError as error:
            return CryptAnswer(request.tag, None, error)


class MemoryClient(_InMemory, Client):
    """A `Client` whose service is in memory. Without `memory` it has one of its own."""

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        on_event: Listener | None = None,
        data_key_cache: bool | CacheBounds = False,
    ) -> None:
        self._set_up(memory, on_event, data_key_cache)

    def close(self) -> None:
        self._closed = True
        self._data_keys.forget(None)

    @clean
    def crypt(self, requests: Iterable[CryptRequest]) -> Any:
        """Answers one after another."""
        return _Answers(self, iter(requests))

    def watch(self, *keys: str, after: Position | None = None) -> Any:  # noqa: ARG002 - as `Client` has them
        raise Unimplemented("the service in memory does not do Watch")

    def _run(self, call: Call[T], deadline: float | None) -> T:  # noqa: ARG002
        return self._answer(call)


class AsyncMemoryClient(_InMemory, AsyncClient):
    """An `AsyncClient` whose service is in memory."""

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        on_event: Listener | None = None,
        data_key_cache: bool | CacheBounds = False,
    ) -> None:
        self._set_up(memory, on_event, data_key_cache)

    async def close(self) -> None:
        self._closed = True
        self._data_keys.forget(None)

    def crypt(self, requests: Iterable[CryptRequest] | AsyncIterable[CryptRequest]) -> Any:
        """Answers one after another."""
        return self._stream(requests)

    async def _stream(self, requests: Iterable[CryptRequest] | AsyncIterable[CryptRequest]) -> Any:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                yield self._crypt(request)
        else:
            for request in requests:
                yield self._crypt(request)

    def watch(self, *keys: str, after: Position | None = None) -> Any:  # noqa: ARG002
        raise Unimplemented("the service in memory does not do Watch")

    async def _run(self, call: Call[T], deadline: float | None) -> T:  # noqa: ARG002
        return self._answer(call)


class _Answers(Iterator[CryptAnswer]):
    def __init__(self, client: MemoryClient, requests: Iterator[CryptRequest]) -> None:
        self._client = client
        self._requests = requests

    @clean
    def __next__(self) -> CryptAnswer:
        return self._client._crypt(next(self._requests))

    def close(self) -> None:
        """Nothing is under way."""

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
