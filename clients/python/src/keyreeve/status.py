"""From what gRPC reports to our errors: the reason, the request id and the delay are in the details that the service sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from keyreeve import errors
from keyreeve.errors import KeyreeveError
from keyreeve.v1.crypto_pb2 import ItemError

REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"
# gRPC's own words on this side: "Sent message larger than max", "Received message larger than max".
_LARGER = "message larger than max"


def from_rpc(rpc: Any) -> KeyreeveError:
    """`rpc`: the error of a call, sync or async: `code()`, `details()`, `trailing_metadata()`."""
    return from_status(rpc.code(), rpc.details() or "", _pairs(rpc.trailing_metadata()))


def from_status(code: grpc.StatusCode, said: str, trailers: dict[str, Any]) -> KeyreeveError:
    info, retry, violations = _details(trailers.get(_DETAILS))
    request_id = str(info.metadata.get("request_id", "") if info else "") or str(trailers.get(REQUEST_ID, ""))
    if info is not None:
        error = errors.of_reason(
            info.reason, said, code=code.name, request_id=request_id, retry_after=retry, fields=violations
        )
        error.of_service = True
        return error
    # Not our details: gRPC on this side, or something between us and the service.
    if code is grpc.StatusCode.UNAVAILABLE:
        return errors.Unreachable(f"the service cannot be reached, or the connection was lost: {said}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded("no answer before the deadline", request_id=request_id)
    if code is grpc.StatusCode.CANCELLED:
        return errors.Cancelled("the call was cancelled", request_id=request_id)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _LARGER in said:
        return errors.MessageTooLarge(f"the request or its answer is too large: {said}", request_id=request_id)
    return errors.TransportError(f"the call failed on its way: {said}", code=code.name, request_id=request_id)


def from_item(error: ItemError) -> KeyreeveError:
    """Why one item of a batch or stream failed."""
    code = next((code.name for code in grpc.StatusCode if code.value[0] == error.code), "UNKNOWN")
    after = error.retry_after_ms / 1000 if error.retry_after_ms else None
    failed = errors.of_reason(error.reason, error.message, code=code, retry_after=after)
    failed.of_service = True
    return failed


def _details(
    encoded: Any,
) -> tuple[error_details_pb2.ErrorInfo | None, float | None, tuple[tuple[str, str], ...]]:
    info, retry, violations = None, None, []
    try:
        details = status_pb2.Status.FromString(encoded).details if isinstance(encoded, bytes) else ()
        for detail in details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                found = error_details_pb2.ErrorInfo.FromString(detail.value)
                info = found if found.domain == errors.OURS else None
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry = max(0.0, delay.seconds + delay.nanos / 1e9)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                violations += [(violation.field, violation.description) for violation in bad.field_violations]
    except DecodeError:
        return None, None, ()
    return info, retry, tuple(violations)


def _pairs(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    return {str(key): value for key, value in metadata or ()}
