"""Every way the service refuses: code, reason, text, delay, field. One function for each; the texts are the service's own."""

from __future__ import annotations

from grpc import StatusCode

RETRY_SOON = 0.5
"""Seconds, in the RetryInfo of what is unavailable."""
MESSAGE_BYTES = 4 << 20


class Refusal(Exception):
    """How a call ends that has no answer."""

    def __init__(
        self,
        code: StatusCode,
        reason: str,
        text: str,
        *,
        retry_after: float | None = None,
        violation: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.text = text
        self.retry_after = retry_after
        self.violation = violation
        """Field at fault, and what is wrong with it."""


def invalid(field: str, problem: str) -> Refusal:
    return Refusal(
        StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        f"`{field}` is not valid: {problem}",
        violation=(field, problem),
    )


def checksum_mismatch(field: str) -> Refusal:
    text = f"the checksum of `{field}` does not match: the data changed on its way; send it again"
    violation = (field, "the checksum does not match")
    return Refusal(StatusCode.INVALID_ARGUMENT, "CHECKSUM_MISMATCH", text, violation=violation)


def decrypt_failed() -> Refusal:
    text = "the ciphertext cannot be opened with this key and context"
    return Refusal(StatusCode.INVALID_ARGUMENT, "DECRYPT_FAILED", text)


def unauthenticated(why: str) -> Refusal:
    return Refusal(StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", f"the caller is not authenticated: {why}")


def denied(action: str, name: str) -> Refusal:
    text = f"the caller may not {action} on `{name}`; ask the owner, or see the audit log under this request id"
    return Refusal(StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", text)


def not_found(name: str) -> Refusal:
    return Refusal(StatusCode.NOT_FOUND, "NOT_FOUND", f"`{name}` does not exist")


def already_exists(name: str) -> Refusal:
    return Refusal(StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", f"`{name}` exists already")


def state_forbids(key: str, version: int, state: str, operation: str) -> Refusal:
    text = f"version {version} of `{key}` is {state} and may not {operation}"
    return Refusal(StatusCode.FAILED_PRECONDITION, "STATE_FORBIDS", text)


def approval_required() -> Refusal:
    text = (
        "this environment is marked production: destruction needs an approval, and approvals are not available in this "
        "release"
    )
    return Refusal(StatusCode.FAILED_PRECONDITION, "APPROVAL_REQUIRED", text)


def environment_unbound(environment_id: str) -> Refusal:
    text = (
        f"environment `{environment_id}` is not bound to a token group: add it under [token] environments in the "
        "configuration file and restart"
    )
    return Refusal(StatusCode.FAILED_PRECONDITION, "ENVIRONMENT_UNBOUND", text)


def request_id_reused() -> Refusal:
    text = "`request_id` was used before with another request: make a new one"
    violation = ("request_id", "was used before with another request")
    return Refusal(StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", text, violation=violation)


def position_unknown() -> Refusal:
    text = (
        "the store has no such change: it was restored from a backup; forget what is known and begin without a position"
    )
    return Refusal(StatusCode.OUT_OF_RANGE, "POSITION_UNKNOWN", text)


def draining() -> Refusal:
    text = "the service is shutting down: retry on another node"
    return Refusal(StatusCode.UNAVAILABLE, "DRAINING", text, retry_after=RETRY_SOON)


def connection_lost() -> Refusal:
    """Not the service's word: what a caller sees of one that is gone. Without a reason there are no details."""
    return Refusal(StatusCode.UNAVAILABLE, "", "connection reset")


def deadline_exceeded() -> Refusal:
    text = "the deadline passed before the work was done"
    return Refusal(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", text)


def message_too_large() -> Refusal:
    text = f"a message may have at most {MESSAGE_BYTES} bytes: send less at once"
    return Refusal(StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", text)


def malformed_message() -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE", "the message cannot be read")


def unimplemented(path: str) -> Refusal:
    return Refusal(StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", f"there is no method `{path}`")


def internal() -> Refusal:
    return Refusal(StatusCode.INTERNAL, "INTERNAL", "internal error")
