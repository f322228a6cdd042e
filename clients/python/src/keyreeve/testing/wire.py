"""The double's side of gRPC: bytes to messages, who calls, request ids, and errors with the details that the service's have."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import error_details_pb2, status_pb2

from keyreeve import errors
from keyreeve.methods import METHODS, Method
from keyreeve.status import REQUEST_ID
from keyreeve.testing import guard, refusals
from keyreeve.testing.callers import Caller
from keyreeve.testing.crypt_stream import CryptStream
from keyreeve.testing.dispatch import Asked, Dispatch
from keyreeve.testing.event_service import WATCH, EventService
from keyreeve.testing.refusals import MESSAGE_BYTES, Refusal

_FIT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DETAILS = "grpc-status-details-bin"
_log = logging.getLogger("keyreeve.testing")

Context = grpc.ServicerContext


class Wire(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # only its stub is generic
    """Finds the handler of a call by its path. `who`: the caller of a client certificate."""

    def __init__(self, dispatch: Dispatch, events: EventService, who: Callable[[bytes], Caller]) -> None:
        self._dispatch = dispatch
        self._events = events
        self._who = who
        self._handlers = {method.path: self._handler(method) for method in METHODS.values()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = handler_call_details.method
        return self._handlers.get(path) or self._unary(lambda *_: _raise(refusals.unimplemented(_printable(path))))

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        if method.name == "Crypt":
            return grpc.stream_stream_rpc_method_handler(self._crypt)
        if method.name == WATCH:
            return grpc.unary_stream_rpc_method_handler(self._watch)

        def answer(raw: bytes, asked: Asked, _: Context) -> Message:
            return self._dispatch.answer(method.name, _parsed(method, raw), asked)

        return self._unary(answer)

    def _unary(self, answer: Callable[[bytes, Asked, Context], Message]) -> grpc.RpcMethodHandler[bytes, bytes]:
        def handle(raw: bytes, context: Context) -> bytes:
            request_id = _begin(context)
            try:
                return answer(raw, self._asked(context, request_id), context).SerializeToString()
            except Refusal as refusal:
                failed = refusal
            except Exception as error:  # noqa: BLE001 - a defect of the double; what it says may show a value
                failed = _defect(error)
            _end(context, failed, request_id)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _crypt(self, incoming: Iterator[bytes], context: Context) -> Iterator[bytes]:
        method = METHODS["Crypt"]

        def answers(asked: Asked) -> Iterator[Message]:
            stream = CryptStream(self._dispatch, asked, context.is_active)
            return stream.answers(_parsed(method, raw) for raw in incoming)

        return self._stream(context, answers)

    def _watch(self, raw: bytes, context: Context) -> Iterator[bytes]:
        context.add_callback(self._wake)

        def answers(asked: Asked) -> Iterator[Message]:
            request = _parsed(METHODS[WATCH], raw)
            anew = lambda: self._asked(context, asked.request_id)  # noqa: E731
            return self._events.watch(request, anew, context.is_active)

        return self._stream(context, answers)

    def _stream(self, context: Context, answers: Callable[[Asked], Iterator[Message]]) -> Iterator[bytes]:
        request_id, failed = _begin(context), None
        try:
            for answer in answers(self._asked(context, request_id)):
                yield answer.SerializeToString()
        except Refusal as refusal:
            failed = refusal
        except Exception as error:  # noqa: BLE001 - as above
            failed = _defect(error)
        if failed is not None and context.is_active():
            _end(context, failed, request_id)

    def _wake(self) -> None:
        with self._dispatch.directory.lock:
            self._dispatch.directory.lock.notify_all()

    def _asked(self, context: Context, request_id: str) -> Asked:
        if not guard.is_loopback_peer(context.peer()):
            raise refusals.unauthenticated("a test double answers its own host only")
        authenticated: Mapping[str, Any] = context.auth_context()
        certificate = authenticated.get("x509_pem_cert")
        if not certificate:
            raise refusals.unauthenticated("the connection has no client identity")
        return Asked(self._who(certificate[0]), request_id, context.time_remaining)


def _begin(context: Context) -> str:
    """The caller's request id if it is fit for logs, else a new one; in the answer either way."""
    given = next((value for key, value in context.invocation_metadata() if key == REQUEST_ID), "")
    request_id = given if isinstance(given, str) and _FIT.fullmatch(given) else secrets.token_hex(16)
    context.send_initial_metadata(((REQUEST_ID, request_id),))
    return request_id


def _end(context: Context, refusal: Refusal, request_id: str) -> NoReturn:
    if refusal.reason:
        context.set_trailing_metadata(((REQUEST_ID, request_id), (_DETAILS, _details(refusal, request_id))))
    context.abort(refusal.code, refusal.text)


def _details(refusal: Refusal, request_id: str) -> bytes:
    metadata = {"request_id": request_id}
    found: list[Message] = [error_details_pb2.ErrorInfo(reason=refusal.reason, domain=errors.OURS, metadata=metadata)]
    if refusal.retry_after is not None:
        seconds, rest = divmod(refusal.retry_after, 1)
        delay = Duration(seconds=int(seconds), nanos=int(rest * 1e9))
        found.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if refusal.violation is not None:
        field, problem = refusal.violation
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
        found.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=refusal.code.value[0], message=refusal.text)
    for one in found:
        packed = AnyMessage()
        packed.Pack(one)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def _parsed(method: Method, raw: bytes) -> Any:
    if len(raw) > MESSAGE_BYTES:
        raise refusals.message_too_large()
    try:
        request = method.request.FromString(raw)
    except DecodeError:
        raise refusals.malformed_message() from None
    if _is_misread(request):
        raise refusals.malformed_message()
    return request


def _is_misread(message: Any) -> bool:
    """Does it have a known field in an unknown form? This decoder passes over it; the service's does not."""
    known = message.DESCRIPTOR.fields_by_number
    unknown: Any = UnknownFieldSet(message)
    if any(field.field_number in known for field in unknown):
        return True
    held = [value for field, value in message.ListFields() if field.message_type and not _is_map(field)]
    parts = [part for value in held for part in ([value] if isinstance(value, Message) else value)]
    return any(_is_misread(part) for part in parts)


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)


def _defect(error: Exception) -> Refusal:
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    where = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else "?"
    _log.error("a defect of the test double: %s at %s", type(error).__name__, where)
    return refusals.internal()


def _raise(refusal: Refusal) -> NoReturn:
    raise refusal


def _printable(path: str) -> str:
    return "".join(char for char in path if "!" <= char <= "~")[:200]
