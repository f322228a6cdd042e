"""`Crypt`: many operations on one stream, answered as they get ready, each under its tag."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from keyreeve import calls, checksum, correlation, status
from keyreeve.calls import Call, Plaintext
from keyreeve.connections import Connections
from keyreeve.context import EMPTY, Context
from keyreeve.door import clean
from keyreeve.errors import InvalidArgument, KeyreeveError, MalformedAnswer, Unreachable
from keyreeve.events import Event
from keyreeve.methods import METHODS
from keyreeve.model import DataKey
from keyreeve.names import key_name
from keyreeve.secret import Hidden, SecretBytes, plain
from keyreeve.tries import Rules

Result = bytes | SecretBytes | DataKey
CRYPT = METHODS["Crypt"]


@dataclass(frozen=True)
class CryptRequest:
    """One operation of a stream. `tag` comes back with its answer; no two that are under way have the same."""

    tag: int
    field: str
    call: Call[Any]

    @classmethod
    @clean
    def encrypt(
        cls, tag: int, key: str, plaintext: Plaintext, *, context: Context = EMPTY, aad: bytes = b""
    ) -> CryptRequest:
        """Answered with the ciphertext."""
        return cls._of(tag, "encrypt", "Encrypt", calls.ciphertext, key, context, aad, plaintext=plain(plaintext))

    @classmethod
    @clean
    def decrypt(
        cls, tag: int, key: str, ciphertext: bytes, *, context: Context = EMPTY, aad: bytes = b""
    ) -> CryptRequest:
        """Answered with the plaintext."""
        return cls._of(tag, "decrypt", "Decrypt", calls.plaintext, key, context, aad, ciphertext=ciphertext)

    @classmethod
    @clean
    def generate_data_key(cls, tag: int, key: str, *, context: Context = EMPTY, aad: bytes = b"") -> CryptRequest:
        """Answered with a `DataKey`."""
        return cls._of(tag, "generate_data_key", "GenerateDataKey", calls.data_key, key, context, aad)

    @classmethod
    @clean
    def unwrap_data_key(
        cls, tag: int, key: str, ciphertext: bytes, *, context: Context = EMPTY, aad: bytes = b""
    ) -> CryptRequest:
        """Answered with the data key in clear."""
        return cls._of(
            tag, "unwrap_data_key", "UnwrapDataKey", calls.plaintext, key, context, aad, ciphertext=ciphertext
        )

    @classmethod
    def _of(
        cls, tag: int, field: str, method: str, read: Any, key: str, context: Context, aad: bytes, **fields: Any
    ) -> CryptRequest:
        sent = calls.pairs(context, aad)
        call = calls.call(method, read, name=key_name(key), encryption_context=sent, aad=aad, **fields)
        return cls(tag, field, call)


@dataclass(frozen=True)
class CryptAnswer:
    """What became of one request: `value`, or `error`."""

    tag: int
    value: Result | None
    error: KeyreeveError | None

    def result(self) -> Result:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        if self.value is None:
            raise MalformedAnswer("the service answered nothing")
        return self.value


class UnderWay:
    """Requests that wait for their answers, by tag, and where they went. For the thread that sends and the one that receives. No I/O."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._requests: dict[int, CryptRequest] = {}
        self._lock = threading.Lock()
        self._answered = False
        self.request_id, self.metadata = correlation.headers()
        self._visit = rules.endpoints.choose(repeatable=False)
        self.address = self._visit.address

    def sent(self, request: CryptRequest) -> Hidden[Any]:
        """The message of a request."""
        with self._lock:
            if request.tag in self._requests:
                raise InvalidArgument(f"tag {request.tag} is under way already: give each request its own")
            self._requests[request.tag] = request
        return Hidden(CRYPT.request(tag=request.tag, **{request.field: request.call.request.value}))

    def answered(self, hidden: Hidden[Any]) -> CryptAnswer:
        """Reads an answer."""
        answer = hidden.value
        if not self._answered:
            self._answered = True
            self._visit.ended(None)
        with self._lock:
            request = self._requests.pop(answer.tag, None)
        if request is None:
            raise MalformedAnswer(f"the service answered tag {answer.tag}, which nobody asked")
        kind = answer.WhichOneof("response")
        if kind == "error":
            return CryptAnswer(answer.tag, None, self._named(status.from_item(answer.error)))
        if kind != request.field:
            raise MalformedAnswer(f"the service answered tag {answer.tag} with something else than was asked")
        try:
            checksum.check(answer)
        except KeyreeveError as error:
            return CryptAnswer(answer.tag, None, self._named(error))
        return CryptAnswer(answer.tag, request.call.read(getattr(answer, kind)), None)

    def broken(self, error: KeyreeveError) -> KeyreeveError:
        """The stream ended so: which tags have no answer?"""
        with self._lock:
            error.unanswered = tuple(self._requests)
        return self._named(error)

    def ended(self) -> None:
        """The stream ended well: then every tag has its answer."""
        if self._requests:
            raise self.broken(Unreachable("the stream ended before every request was answered"))

    def over(self, error: KeyreeveError | None) -> None:
        """The service, or the way to it, ended the stream so."""
        self._visit.ended(error)
        self._tell_end(error.reason if error else "OK")

    def given_up(self, failed: BaseException | None) -> None:
        """This side ended the stream. If nothing was answered, another call finds out about its endpoint."""
        if not self._answered:
            self._visit.abandoned()
        self._tell_end(type(failed).__name__ if isinstance(failed, Exception) else "CANCELLED")

    def _tell_end(self, reason: str) -> None:
        self._rules.events.tell(
            Event(
                name="call",
                method=CRYPT.name,
                endpoint=self.address,
                reason=reason,
                tries=1,
                request_id=self.request_id,
            )
        )

    def _named(self, error: KeyreeveError) -> KeyreeveError:
        error.request_id = error.request_id or self.request_id
        return error


class CryptAnswers(Iterator[CryptAnswer]):
    """The answers, in the order in which they got ready. A broken stream raises; `error.unanswered` names the tags to send again."""

    def __init__(self, rules: Rules, connections: Connections[Any], requests: Iterable[CryptRequest]) -> None:
        self._connections = connections
        self._failed: BaseException | None = None
        self._answers: Any = None
        messages = self._messages(iter(requests))
        self._under_way = UnderWay(rules)
        try:
            self._connection: Any = connections.lease(self._under_way.address)
        except KeyreeveError as error:
            self._under_way.given_up(error)
            raise
        self._answers = self._connection.stream(CRYPT)(messages, metadata=self._under_way.metadata)
        # Its thread may have come to a failure before there was a stream to cancel.
        self._cancel_failed()

    def close(self) -> None:
        """Ends the stream; what is under way gets no answer."""
        self._answers.cancel()
        if self._release():
            self._under_way.given_up(None)

    def __enter__(self) -> CryptAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @clean
    def __next__(self) -> CryptAnswer:
        outcome = self._next()
        if isinstance(outcome, CryptAnswer):
            return outcome
        released = self._release()
        if self._failed is not None:
            if released:
                self._under_way.given_up(self._failed)
            raise self._failed
        if released:
            self._under_way.over(outcome)
        if outcome is not None:
            raise outcome
        raise StopIteration

    def _next(self) -> CryptAnswer | KeyreeveError | None:
        try:
            return self._under_way.answered(next(self._answers))
        except StopIteration:
            pass
        except grpc.RpcError as rpc:
            return self._under_way.broken(status.from_rpc(rpc))
        try:
            self._under_way.ended()
        except KeyreeveError as error:
            return error
        return None

    def _messages(self, requests: Iterator[CryptRequest]) -> Iterator[Hidden[Any]]:
        """In a thread of gRPC, which would log what the caller's iterator raises: so it is kept, and raised to the caller."""
        while self._failed is None:
            try:
                message = self._under_way.sent(next(requests))
            except StopIteration:
                return
            except BaseException as error:  # noqa: BLE001 - raised again where the caller reads the answers
                self._failed = error
                self._cancel_failed()
                return
            yield message

    def _cancel_failed(self) -> None:
        if self._failed is not None and self._answers is not None:
            self._answers.cancel()

    def _release(self) -> bool:
        """False if it was before: a stream ends once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.release(connection)
        return connection is not None
