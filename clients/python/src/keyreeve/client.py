"""`Client`: the calls of `operations.py` over a connection, tried again as docs/clients.md says."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from keyreeve import checksum, config, correlation, status
from keyreeve.cache_watch import CacheWatch
from keyreeve.calls import Call
from keyreeve.config import DEADLINE
from keyreeve.connections import OPTIONS, Connection, Connections, channel_credentials
from keyreeve.credentials import Credentials
from keyreeve.data_keys import CacheBounds, DataKeys
from keyreeve.door import clean
from keyreeve.endpoints import EndpointHealth, Endpoints
from keyreeve.errors import KeyreeveError
from keyreeve.events import Events, Listener
from keyreeve.model import Key, Position
from keyreeve.names import key_name
from keyreeve.opener import Opener
from keyreeve.operations import Operations
from keyreeve.sealed.keys import Elsewhere, Keyring
from keyreeve.sealer import Sealer
from keyreeve.stream import CryptAnswers, CryptRequest
from keyreeve.tries import Rules, Tries
from keyreeve.watch import KeyChanges

T = TypeVar("T")

FORKED = "this client was used before the fork, and its connections are the parent's"


class BaseClient:
    """What the sync and the async client have in common: settings, rules, cache; no call."""

    _connections: Connections[Any]

    def __init__(
        self,
        addr: str | Iterable[str] | None,
        ca: str | os.PathLike[str] | None,
        cert: str | os.PathLike[str] | None,
        key: str | os.PathLike[str] | None,
        deadline: float,
        on_event: Listener | None,
        data_key_cache: bool | CacheBounds,
    ) -> None:
        self._config = config.load(addr, ca, cert, key, deadline)
        self._events = Events(on_event)
        self._rules = Rules(Endpoints(self._config.endpoints, self._events), self._events)
        bounds = CacheBounds() if data_key_cache is True else data_key_cache or None
        self._data_keys = DataKeys(bounds, self._events)

    @property
    def endpoints(self) -> list[EndpointHealth]:
        """Each endpoint with its circuit: closed, half_open or open."""
        return self._rules.endpoints.health()

    @property
    def retry_budget(self) -> float:
        """Retries that are left at this moment (docs/clients.md, rule 4)."""
        return self._rules.budget.tokens

    def forget_data_keys(self, key: str | None = None) -> None:
        """Drops cached data keys: of one key, or all. For whoever learns that a key was suspended or compromised."""
        self._data_keys.forget(key_name(key) if key else None)

    def _forget(self, key: str) -> None:
        self._data_keys.forget(key)

    def _ring(self, keys: Iterable[str | Key], elsewhere: Iterable[tuple[BaseClient, str]] = ()) -> Keyring:
        """The keys of a sealer or opener."""
        names = [self._data_keys.learn(key) if isinstance(key, Key) else key_name(key) for key in keys]
        others = tuple(Elsewhere(key_name(key), client, client._identity) for client, key in elsewhere)
        return Keyring(tuple(dict.fromkeys(names)), self._data_keys, self._identity, others)

    def _identity(self) -> str:
        return self._connections.identity

    def _begin(self, call: Call[Any], deadline: float | None) -> tuple[Tries, list[tuple[str, str]]]:
        seconds = self._config.deadline if deadline is None else config.checked_deadline(deadline)
        request_id, metadata = correlation.headers()
        tries = Tries(
            self._rules, call.method.name, repeatable=call.repeatable, deadline=seconds, request_id=request_id
        )
        return tries, metadata

    def _made(self) -> None:
        """Nothing is missing any more: a fork from now on finds this client whole."""
        _alive.add(self)

    def _after_fork(self) -> None:
        self._data_keys.forked()
        if self._connections.ever_opened:
            self._connections.forget(FORKED)


class Watches(Generic[T]):
    """The watches that a client has given out, for its end. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[T] = weakref.WeakSet()

    def add(self, changes: T) -> T:
        with self._lock:
            self._all.add(changes)
        return changes

    def all(self) -> list[T]:
        with self._lock:
            return list(self._all)


_alive: weakref.WeakSet[BaseClient] = weakref.WeakSet()


def _in_child() -> None:
    for client in list(_alive):
        client._after_fork()


os.register_at_fork(after_in_child=_in_child)


class Client(BaseClient, Operations):
    """A connection to the service, for any number of threads. `with Client() as client:` closes it.

    Where the service is and who we are comes from the arguments, else from KEYREEVE_ADDR (several, with commas between), KEYREEVE_CA,
    KEYREEVE_CERT and KEYREEVE_KEY. Changed certificate files are taken up by themselves.

    `deadline`: seconds for a call, over all its tries. `on_event`: is told what docs/clients.md lists.
    `data_key_cache`: True or `CacheBounds(…)` lets sealers and openers use data keys more than once.
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
        self._connections = Connections(self._config, self._events, _open, _close)
        self._watch = CacheWatch(self._data_keys, lambda names, after: self.watch(*names, after=after))
        self._data_keys.on_name = self._watch.add
        self._watches: Watches[KeyChanges] = Watches()
        self._made()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections and the watches, and drops cached data keys. Calls under way in other threads end by themselves."""
        self._watch.close()
        for changes in self._watches.all():
            changes.close()
        self._connections.close("this client was closed")
        self._data_keys.forget(None)

    @clean
    def crypt(self, requests: Iterable[CryptRequest]) -> CryptAnswers:
        """Many operations on one stream, answered as they get ready. The requests are taken in another thread."""
        return CryptAnswers(self._rules, self._connections, requests)

    def watch(self, *keys: str, after: Position | None = None) -> KeyChanges:
        """Changes of 1 to 256 keys as they happen, from now on or after a position; for ever, over restarts of the service.

        Raises PermissionDenied, PositionUnknown and what else a new stream would not change.
        """
        return self._watches.add(KeyChanges(self._rules, self._connections, keys, after))

    def sealer(self, key: str, *, also: Iterable[str] = (), elsewhere: Iterable[tuple[Client, str]] = ()) -> Sealer:
        """Seals data of any size under `key` locally.

        `also`: further keys of this service; `elsewhere`: of other services, each with the client that calls there and may `WrapDataKey`.
        """
        return Sealer(self._follow, self._ring((key, *also), elsewhere))

    def opener(self, *keys: str | Key) -> Opener:
        """Opens locally what was sealed under one of `keys`: names, or what `get_key` answered, which saves a call."""
        return Opener(self._follow, self._ring(keys))

    def _follow(self, plan: Generator[Call[Any], Any, T]) -> T:
        """Makes the calls that a plan yields."""
        answer = None
        try:
            while True:
                call = plan.send(answer)
                answer = (call.caller or self)._run(call, None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _run(self, call: Call[T], deadline: float | None) -> T:
        tries, metadata = self._begin(call, deadline)
        while True:
            try:
                connection = self._connections.lease(tries.begin())
                try:
                    outcome = self._send(connection, call, tries, metadata)
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
            time.sleep(wait)

    def _send(self, connection: Connection[Any], call: Call[Any], tries: Tries, metadata: list[tuple[str, str]]) -> Any:
        remaining = tries.remaining
        if remaining <= 0:
            return tries.out_of_time()
        try:
            answer = connection.unary(call.method)(call.request, timeout=remaining, metadata=metadata)
            checksum.check(answer.value)
        except grpc.RpcError as rpc:
            return status.from_rpc(rpc)
        except KeyreeveError as error:
            return error
        return answer


def _open(address: str, found: Credentials) -> grpc.Channel:
    return grpc.secure_channel(address, channel_credentials(found), OPTIONS)


def _close(channel: grpc.Channel) -> None:
    channel.close()
