"""`Watch`: changes of keys as they happen, without end; a lost stream is opened again from where it ended (docs/clients.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import grpc

from keyreeve import correlation, model, status
from keyreeve.connections import Connection, Connections
from keyreeve.door import clean
from keyreeve.endpoints import Visit
from keyreeve.errors import KeyreeveError, Unreachable
from keyreeve.events import Event
from keyreeve.methods import METHODS
from keyreeve.model import KeyChange, Position
from keyreeve.names import key_name
from keyreeve.secret import Hidden
from keyreeve.tries import Rules, wait_before

WATCH = METHODS["Watch"]
MOST_NAMES = 256
LASTING = 2.0
"""Seconds for which a stream must have told something: one that ends sooner is no success, so that the waits go on growing."""


class Watching:
    """Where a watch stands, and what follows a lost stream. Does no I/O."""

    def __init__(self, rules: Rules, keys: Iterable[str], after: Position | None) -> None:
        self._rules = rules
        self._names = list(dict.fromkeys(map(key_name, keys)))
        self.position = after
        self._lost = False
        """The loss was told, and it does not go on yet."""
        self._failures = 0
        """Streams in a row that did not last."""
        self._since: float | None = None
        """When the stream told its first message."""
        self._certificate_tried = False
        self._visit: Visit | None = None
        self.address = ""

    def begin(self) -> tuple[Hidden[Any], list[tuple[str, str]]]:
        """The request of the next stream."""
        self._visit = self._rules.endpoints.choose()
        self.address = self._visit.address
        after = None
        if self.position is not None:
            after = {"sequence": self.position.sequence, "link": self.position.link}
        _, metadata = correlation.headers()
        return Hidden(WATCH.request(names=self._names, after=after)), metadata

    def told(self, answer: Any) -> KeyChange:
        change = model.of(KeyChange, answer)
        self.position = change.position
        self._lost = False
        self._certificate_tried = False
        if self._since is None:
            self._since = self._rules.clock()
        if self._visit:
            self._visit.ended(None)
        return change

    def given_up(self) -> None:
        """The stream ended on this side. If it has told nothing, another call finds out about its endpoint."""
        if self._visit:
            self._visit.abandoned()

    def lost(self, error: KeyreeveError, certificate_changed: Callable[[], bool]) -> float:
        """Seconds to wait before the next stream; raises what no other stream would change."""
        if self._visit:
            self._visit.ended(error)
        if self._since is not None and self._rules.clock() - self._since >= LASTING:
            self._failures = 0
        self._since = None
        self._failures += 1
        if not self._lost:
            self._lost = True
            self._rules.events.tell(
                Event(name="watch_lost", method="Watch", endpoint=self.address, reason=error.reason)
            )
        if error.code == "UNAUTHENTICATED" and not self._certificate_tried and certificate_changed():
            self._certificate_tried = True
            return 0.0
        if error.code == "UNAVAILABLE" or (error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None):
            return wait_before(self._failures, error, self._rules.jitter)
        raise error


class KeyChanges(Iterator[KeyChange]):
    """The changes, one after another; `next` waits for the next one. `close`, from any thread, ends it.

    `position`: everything up to here was told; give it to another `watch` to go on from here.
    """

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
        self._stream: Any = None
        self._closed = threading.Event()

    @property
    def position(self) -> Position | None:
        return self._watching.position

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """No further change comes; whoever waits for one gets the end of the iterator."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def __enter__(self) -> KeyChanges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @clean
    def __next__(self) -> KeyChange:
        while (change := self.message()) is not None:
            if change.key is not None:
                return change
        raise StopIteration

    def message(self) -> KeyChange | None:
        """The next message, also one that only says that the watch has begun; None: closed."""
        while not self._closed.is_set():
            outcome = self._one()
            if isinstance(outcome, KeyChange):
                return outcome
            connection = self._connection
            changed = partial(self._connections.newer_than, connection) if connection else lambda: False
            try:
                wait = 0.0 if self._closed.is_set() else self._watching.lost(outcome, changed)
            finally:
                self._release()
            self._closed.wait(wait)
        self._release()
        return None

    def _one(self) -> KeyChange | KeyreeveError:
        try:
            if self._stream is None:
                request, metadata = self._watching.begin()
                try:
                    self._connection = self._connections.lease(self._watching.address)
                except KeyreeveError:
                    self._watching.given_up()
                    raise
                self._stream = self._connection.answers(WATCH)(request, metadata=metadata)
                if self._closed.is_set():
                    self._stream.cancel()
            return self._watching.told(next(self._stream).value)
        except StopIteration:
            return Unreachable("the service ended the watch")
        except grpc.RpcError as rpc:
            return status.from_rpc(rpc)

    def _release(self) -> None:
        connection, self._connection, self._stream = self._connection, None, None
        self._watching.given_up()
        if connection is not None:
            self._connections.release(connection)
