"""The double and the service, side by side: every call goes to both, and whatever differs fails the test.

Compared are code, reason, text, delay and fields of a refusal, and every field of an answer; of what is random or tells time, only what it
must be on either side (`shapes.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from contract.shapes import shape
from keyreeve import checksum, errors
from keyreeve.methods import METHODS, Method

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
# The text tells what the decoder saw, which is another decoder.
_OWN_TEXTS = {"MALFORMED_MESSAGE"}
_ids = itertools.count(1)


class Pair(NamedTuple):
    """What is different on the two sides: ciphertexts, page tokens, positions."""

    double: Any
    service: Any


@dataclass(frozen=True)
class Outcome:
    """What came of one call on one side."""

    code: str
    reason: str = ""
    text: str = ""
    retry_after: float | None = None
    fields: tuple[tuple[str, str], ...] = ()
    answer: Any = None

    def comparable(self) -> Any:
        text = "" if self.reason in _OWN_TEXTS else self.text
        shown = None if self.answer is None else shape(self.answer)
        return self.code, self.reason, text, self.retry_after, self.fields, shown


class Side:
    """One of the two, as its bare protocol."""

    def __init__(self, name: str, settings: dict[str, dict[str, Any]]) -> None:
        self.name = name
        self._channels = {who: _channel(found) for who, found in settings.items()}

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def call(self, method: Method, message: Any, who: str, timeout: float = 10) -> Outcome:
        """A unary call. Requests are messages, or raw bytes."""
        request_id = f"contract-{next(_ids)}"
        unary = self._channels[who].unary_unary(method.path, _written, method.answer.FromString)
        try:
            answer, call = unary.with_call(message, timeout=timeout, metadata=(("x-request-id", request_id),))
        except grpc.RpcError as error:
            return refused(error, request_id)
        assert dict(call.initial_metadata())["x-request-id"] == request_id
        checksum.check(answer)
        return Outcome("OK", answer=answer)

    def stream(self, method: Method, sent: Any, who: str, timeout: float = 10) -> Iterator[Any]:
        """A stream of answers; ends with an `Outcome`. `sent`: a message, or an iterator of them."""
        channel = self._channels[who]
        kind = channel.unary_stream if isinstance(sent, method.request) else channel.stream_stream
        request_id = f"contract-{next(_ids)}"
        answers: Any = kind(method.path, _written, method.answer.FromString)(
            sent, timeout=timeout, metadata=(("x-request-id", request_id),)
        )
        try:
            yield from answers
            yield Outcome("OK")
        except grpc.RpcError as error:
            yield refused(error, request_id)
        finally:
            answers.cancel()


class Both:
    """`both.call("Encrypt", name=…, plaintext=…)`: on the double and on the service; the same, or the test fails."""

    def __init__(self, double: Side, service: Side) -> None:
        self.double = double
        self.service = service

    def call(self, name: str, /, who: Any = "admin", *, checksums: Any = True, **fields: Any) -> Both.Result:
        method = METHODS[name]
        outcomes = [
            side.call(method, message(method, fields, index, checksums=checksums), who)
            for index, side in enumerate((self.double, self.service))
        ]
        return compared(Pair(*outcomes), name)

    def raw(self, name: str, data: bytes, who: str = "admin") -> Both.Result:
        """Any bytes as the request."""
        method = METHODS[name]
        return compared(Pair(*(side.call(method, data, who) for side in (self.double, self.service))), name)

    @dataclass(frozen=True)
    class Result:
        """The outcome, which was the same on both sides; fields of an answer come as a `Pair` where they differ."""

        outcomes: Pair

        @property
        def reason(self) -> str:
            return str(self.outcomes.service.reason or self.outcomes.service.code)

        @property
        def fields(self) -> list[str]:
            return [field for field, _ in self.outcomes.service.fields]

        @property
        def answers(self) -> Pair:
            assert self.reason == "OK", self.outcomes.service
            return Pair(*(outcome.answer for outcome in self.outcomes))

        def __getitem__(self, field: str) -> Pair:
            return Pair(*(getattr(answer, field) for answer in self.answers))


def compared(outcomes: Pair, what: str) -> Both.Result:
    double, service = (outcome.comparable() for outcome in outcomes)
    assert double == service, f"{what}: the double answers otherwise than the service"
    return Both.Result(outcomes)


def message(method: Method, fields: dict[str, Any], index: int, *, checksums: bool = True) -> Any:
    """The request for one side; `checksums`: with those of its payloads."""
    made: Any = method.request(**_of_side(fields, index))
    if checksums:
        checksum.fill(made)
    return made


def pairs(context: dict[str, str]) -> list[dict[str, str]]:
    """An encryption context as it is sent."""
    return [{"key": key, "value": value} for key, value in context.items()]


def _of_side(value: Any, index: int) -> Any:
    if isinstance(value, Pair):
        return value[index]
    if isinstance(value, dict):
        return {key: _of_side(one, index) for key, one in value.items()}
    if isinstance(value, list):
        return [_of_side(one, index) for one in value]
    return value


def refused(error: Any, request_id: str) -> Outcome:
    """With everything that a program may look at; without our details it is no refusal of the service."""
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.get("grpc-status-details-bin", b"")
    reason, retry, fields = "", None, []
    status = status_pb2.Status.FromString(raw)
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            assert (info.domain, dict(info.metadata)) == (errors.OURS, {"request_id": request_id})
            reason = info.reason
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry = delay.seconds + delay.nanos / 1e9
        else:
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            fields += [(violation.field, violation.description) for violation in bad.field_violations]
    if raw:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return Outcome(error.code().name, reason, error.details() or "", retry, tuple(fields))


def _written(sent: Any) -> bytes:
    return sent if isinstance(sent, bytes) else bytes(sent.SerializeToString())


def _channel(settings: dict[str, Any]) -> grpc.Channel:
    files = [Path(settings[name]).read_bytes() for name in ("ca", "key", "cert")]
    address = settings["addr"].removeprefix("https://")
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options=_OPTIONS)
