"""Channels to the endpoints, made anew when the certificate's files change (docs/clients.md, rule 8).

Sync and async clients share this: it opens and closes channels by the two functions it was given, and never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from keyreeve import credentials
from keyreeve.config import CONNECT_TIMEOUT, Config
from keyreeve.credentials import Credentials
from keyreeve.errors import ClientClosed, ConfigurationError
from keyreeve.events import Event, Events
from keyreeve.methods import Method
from keyreeve.secret import Hidden
from keyreeve.version import VERSION

C = TypeVar("C")

LOOK_EVERY = 1.0
MESSAGE_BYTES = 4 << 20
# Answers of batches are a little larger than their requests.
ANSWER_BYTES = MESSAGE_BYTES + (1 << 20)

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    # gRPC's own reconnecting, which waits up to 2 minutes by default: short, since it adds to the waits of rule 3 until a service that
    # came back is found. The first figure is in fact the time for one connection.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A new certificate must not find the old certificate's connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", f"keyreeve-python/{VERSION}"),
]


# Never read: what a forked child was born with.
_OF_PARENTS: list[Any] = []


def channel_credentials(found: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(found.ca, found.key, found.chain)


class Connection(Generic[C]):
    """One channel, and how many calls use it."""

    def __init__(self, channel: C, generation: int) -> None:
        self.channel = channel
        self.generation = generation
        self.calls = 0
        self.retired = False
        self._multicallables: dict[str, Any] = {}

    def unary(self, method: Method) -> Any:
        """gRPC's callable of a method. Requests and answers are hidden from frames that are not ours."""
        made = self._multicallables.get(method.name)
        if made is None:
            channel: Any = self.channel
            made = self._multicallables[method.name] = channel.unary_unary(
                method.path, request_serializer=_written, response_deserializer=_reader(method)
            )
        return made

    def stream(self, method: Method) -> Any:
        channel: Any = self.channel
        return channel.stream_stream(method.path, request_serializer=_written, response_deserializer=_reader(method))

    def answers(self, method: Method) -> Any:
        """One request, a stream of answers."""
        channel: Any = self.channel
        return channel.unary_stream(method.path, request_serializer=_written, response_deserializer=_reader(method))


def _written(request: Hidden[Any]) -> bytes:
    return bytes(request.value.SerializeToString())


def _reader(method: Method) -> Callable[[bytes], Hidden[Any]]:
    answer = method.answer
    return lambda read: Hidden(answer.FromString(read))


class Connections(Generic[C]):
    """One channel for each endpoint. Opened by the first call that needs it, so that a client may be made before a fork."""

    def __init__(
        self,
        config: Config,
        events: Events,
        open_channel: Callable[[str, Credentials], C],
        close_channel: Callable[[C], None],
    ) -> None:
        self._config = config
        self._events = events
        self._open = open_channel
        self._close = close_channel
        self._lock = threading.Lock()
        self._signature = credentials.signature(config)
        self._credentials = credentials.read(config)
        self._generation = 1
        self._looked = time.monotonic()
        self._connections: dict[str, Connection[C]] = {}
        self._closed = ""

    @property
    def identity(self) -> str:
        return self._credentials.identity

    @property
    def ever_opened(self) -> bool:
        return bool(self._connections)

    def lease(self, address: str) -> Connection[C]:
        """The connection for one try; give it back with `release`."""
        self.look()
        with self._lock:
            if self._closed:
                raise ClientClosed(self._closed)
            connection = self._connections.get(address)
            if connection is None:
                channel = self._open(address, self._credentials)
                connection = self._connections[address] = Connection(channel, self._generation)
            connection.calls += 1
            return connection

    def release(self, connection: Connection[C]) -> None:
        with self._lock:
            connection.calls -= 1
            done = connection.retired and not connection.calls
        if done:
            self._close(connection.channel)

    def newer_than(self, connection: Connection[C]) -> bool:
        """Looks at the files now: do they hold another certificate than the connection was made with?"""
        self.look(now=True)
        return self._generation > connection.generation

    def look(self, *, now: bool = False) -> None:
        """Takes up changed files, once a second at most."""
        clock = time.monotonic()
        if not now and clock - self._looked < LOOK_EVERY:
            return
        with self._lock:
            self._looked = clock
            signature = credentials.signature(self._config)
            if signature == self._signature:
                return
            retired, event = self._take_up(signature)
        for connection in retired:
            self._close(connection.channel)
        if event:
            self._events.tell(event)

    def _take_up(self, signature: tuple[tuple[int, int, int], ...]) -> tuple[list[Connection[C]], Event | None]:
        try:
            found = credentials.read(self._config)
        except ConfigurationError as error:
            # Seen again at the next look: the files may be in the middle of their change.
            return [], Event(name="certificate_unusable", reason=error.reason, detail=error.message)
        self._signature = signature
        if found == self._credentials:
            return [], None
        self._credentials = found
        self._generation += 1
        return self._retire(), Event(name="certificate_reloaded", detail=found.identity)

    def close(self, why: str) -> None:
        """No call begins any more. Channels with calls under way are closed when these end."""
        with self._lock:
            self._closed = why
            idle = self._retire()
        for connection in idle:
            self._close(connection.channel)

    def forget(self, why: str) -> None:
        """In a forked child: the channels are the parent's, and not even to be closed; which losing the last word of them would do."""
        self._lock = threading.Lock()
        self._closed = why
        _OF_PARENTS.append(self._connections)
        self._connections = {}

    def _retire(self) -> list[Connection[C]]:
        connections = list(self._connections.values())
        self._connections = {}
        for connection in connections:
            connection.retired = True
        return [connection for connection in connections if not connection.calls]
