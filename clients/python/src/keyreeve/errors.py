"""Every way a call can fail: one class per reason, all of them `KeyreeveError`, each saying what to do next.

Reasons are the service's (`ErrorInfo.reason`) or of the client itself (docs/clients.md). No payload is ever in an error.
"""

from __future__ import annotations

from typing import Any, ClassVar

OURS = "keyreeve.dev"


class KeyreeveError(Exception):
    """Why a call failed. Itself raised only for reasons that this version of the client does not know."""

    reason: str = ""
    code: str = "UNKNOWN"
    next_step: ClassVar[str] = "look up the reason in the documentation of the service; a newer client may know it"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        request_id: str = "",
        tries: int = 0,
        retry_after: float | None = None,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason:
            self.reason = reason
        if code:
            self.code = code
        self.request_id = request_id
        """Names the call in the audit log; empty if nothing was sent."""
        self.tries = tries
        self.retry_after = retry_after
        """Seconds, where a retry helps."""
        self.fields = fields
        """Fields of the request at fault, each with what is wrong."""
        self.unanswered: tuple[int, ...] = ()
        """Of a broken stream: tags that got no answer."""
        self.of_service = False
        """Whether the service itself said so; else this client did, or something on the way."""

    @property
    def is_temporary(self) -> bool:
        """Whether the same call may succeed later although nobody changes anything: what a web server answers with 503."""
        return self.retry_after is not None or self.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")

    def __str__(self) -> str:
        about = [self.reason or self.code]
        if self.request_id:
            about.append(f"request {self.request_id}")
        if self.tries > 1:
            about.append(f"{self.tries} tries")
        if self.retry_after is not None:
            about.append(f"retry after {self.retry_after:g} s")
        return f"{self.message} [{', '.join(about)}] Next: {self.next_step}."

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross processes (workers, pools); the default would call the class with the message alone.
        return (type(self), (self.message,), self.__dict__.copy())


class InvalidArgument(KeyreeveError, ValueError):
    reason, code = "INVALID_ARGUMENT", "INVALID_ARGUMENT"
    next_step = "correct the argument that the message names"


class ChecksumMismatch(KeyreeveError):
    reason, code = "CHECKSUM_MISMATCH", "DATA_LOSS"
    next_step = "send it again; if it comes back, suspect the memory of this host or of the service's"


class DecryptFailed(KeyreeveError):
    reason, code = "DECRYPT_FAILED", "INVALID_ARGUMENT"
    next_step = "check key, context and associated data: they must be those of the encryption, and the bytes whole and unchanged"


class Unauthenticated(KeyreeveError):
    reason, code = "UNAUTHENTICATED", "UNAUTHENTICATED"
    next_step = "check that the client certificate is valid, not revoked, and of an authority that the service trusts"


class PermissionDenied(KeyreeveError):
    reason, code = "PERMISSION_DENIED", "PERMISSION_DENIED"
    next_step = (
        "ask the key's owner for the action that the message names; `who_am_i()` shows who the service takes you for"
    )


class NotFound(KeyreeveError):
    reason, code = "NOT_FOUND", "NOT_FOUND"
    next_step = "check the name; the lists of environments, teams and keys show what there is"


class AlreadyExists(KeyreeveError):
    reason, code = "ALREADY_EXISTS", "ALREADY_EXISTS"
    next_step = "use what exists, or choose another name"


class Conflict(KeyreeveError):
    reason, code = "CONFLICT", "ABORTED"
    next_step = "read the object again, then decide whether the change is still wanted"


class StateForbids(KeyreeveError):
    reason, code = "STATE_FORBIDS", "FAILED_PRECONDITION"
    next_step = "see the key's state (`get_key`): resume it, rotate it, or use another key"


class RotationRequired(KeyreeveError):
    reason, code = "ROTATION_REQUIRED", "FAILED_PRECONDITION"
    next_step = "have the key rotated (`rotate_key`)"


class ApprovalRequired(KeyreeveError):
    reason, code = "APPROVAL_REQUIRED", "FAILED_PRECONDITION"
    next_step = (
        "this needs an approval that the service cannot take yet: it is not possible in a production environment"
    )


class EnvironmentUnbound(KeyreeveError):
    reason, code = "ENVIRONMENT_UNBOUND", "FAILED_PRECONDITION"
    next_step = "have an operator bind the environment to a token group in the service's configuration"


class PositionUnknown(KeyreeveError):
    reason, code = "POSITION_UNKNOWN", "OUT_OF_RANGE"
    next_step = "forget what you know of keys and watch again without a position: the store was restored from a backup"


class RequestIdReused(KeyreeveError):
    reason, code = "REQUEST_ID_REUSED", "INVALID_ARGUMENT"
    next_step = "use a new request_id for another request"


class Overloaded(KeyreeveError):
    reason, code = "OVERLOADED", "RESOURCE_EXHAUSTED"
    next_step = "send less at once, use batches, or try later"


class KeyCeiling(KeyreeveError):
    reason, code = "KEY_CEILING", "RESOURCE_EXHAUSTED"
    next_step = "wait, seal locally with cached data keys, or have the key's ceiling raised"


class MessageTooLarge(KeyreeveError):
    reason, code = "MESSAGE_TOO_LARGE", "RESOURCE_EXHAUSTED"
    next_step = "send less at once, or seal large data locally (`Sealer`)"


class MalformedMessage(KeyreeveError):
    reason, code = "MALFORMED_MESSAGE", "INVALID_ARGUMENT"
    next_step = "the service could not read the request: compare the versions of client and service"


class DeadlineExceeded(KeyreeveError, TimeoutError):
    reason, code = "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"
    next_step = "allow more time (`deadline`) or try later; a change may have been made"


class Cancelled(KeyreeveError):
    reason, code = "CANCELLED", "CANCELLED"
    next_step = "the call was cancelled on this side or by the service: make it again if it is still wanted"


class Draining(KeyreeveError):
    reason, code = "DRAINING", "UNAVAILABLE"
    next_step = "try again: another node, or the restarted one, will answer"


class TokenUnavailable(KeyreeveError):
    reason, code = "TOKEN_UNAVAILABLE", "UNAVAILABLE"
    next_step = "try later; if it stays, an operator sees in `keyreeve tokens status` what the token needs"


class TokenRefuses(KeyreeveError):
    reason, code = "TOKEN_REFUSES", "FAILED_PRECONDITION"
    next_step = "have an operator run `keyreeve doctor`: the token cannot do this"


class LogUnavailable(KeyreeveError):
    reason, code = "LOG_UNAVAILABLE", "UNAVAILABLE"
    next_step = "try later; an operator must see to the audit log's disk. A change may have been made"


class IntegrityFailed(KeyreeveError):
    reason, code = "INTEGRITY_FAILED", "DATA_LOSS"
    next_step = "tell an operator at once: `keyreeve audit verify` shows what was changed in the store"


class InternalError(KeyreeveError):
    reason, code = "INTERNAL", "INTERNAL"
    next_step = "report it with the request id: it is a defect of the service"


class Unimplemented(KeyreeveError):
    reason, code = "UNIMPLEMENTED", "UNIMPLEMENTED"
    next_step = "the service does not have this method: compare the versions of client and service"


# What a service answers with a bare code and the code's own name as reason; it should not happen.
class Unknown(KeyreeveError):
    reason, code = "UNKNOWN", "UNKNOWN"
    next_step = "report it with the request id: it is a defect of the service"


class OutOfRange(KeyreeveError):
    reason, code = "OUT_OF_RANGE", "OUT_OF_RANGE"
    next_step = "correct the argument that the message names"


class Aborted(KeyreeveError):
    reason, code = "ABORTED", "ABORTED"
    next_step = "read the object again, then decide whether the change is still wanted"


class FailedPrecondition(KeyreeveError):
    reason, code = "FAILED_PRECONDITION", "FAILED_PRECONDITION"
    next_step = "bring the object into the state that the message names"


class ResourceExhausted(KeyreeveError):
    reason, code = "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"
    next_step = "send less at once, or try later"


class Unavailable(KeyreeveError):
    reason, code = "UNAVAILABLE", "UNAVAILABLE"
    next_step = "try later"


class DataLoss(KeyreeveError):
    reason, code = "DATA_LOSS", "DATA_LOSS"
    next_step = "tell an operator at once, with the request id"


# Of the client itself (docs/clients.md, errors).
class ConfigurationError(KeyreeveError, ValueError):
    reason, code = "CONFIGURATION", "INVALID_ARGUMENT"
    next_step = "correct the setting that the message names; `keyreeve dev` prints a full set for a throwaway server"


class Unreachable(KeyreeveError, ConnectionError):
    reason, code = "UNREACHABLE", "UNAVAILABLE"
    next_step = "check address, network and certificates; the service may be restarting"


class TransportError(KeyreeveError):
    reason, code = "TRANSPORT", "UNKNOWN"
    next_step = "something between client and service answered: check the address and what lies on the way"


class MalformedAnswer(KeyreeveError):
    reason, code = "MALFORMED_ANSWER", "INTERNAL"
    next_step = "the service answered what this client cannot use: compare the versions of client and service"


class ClientClosed(KeyreeveError):
    reason, code = "CLOSED", "CANCELLED"
    next_step = "make a new client; after a fork, in the child"


class UnexpectedMessage(KeyreeveError):
    reason, code = "UNEXPECTED_MESSAGE", "FAILED_PRECONDITION"
    next_step = "this is another message than the expected one: it may be an older copy put in its place"


def _all_under(base: type[KeyreeveError]) -> dict[str, type[KeyreeveError]]:
    return {sub.reason: sub for sub in base.__subclasses__()}


BY_REASON: dict[str, type[KeyreeveError]] = _all_under(KeyreeveError)


def of_reason(reason: str, message: str, **details: Any) -> KeyreeveError:
    """The error of a reason. One that is not known is a plain `KeyreeveError` that carries it."""
    kind = BY_REASON.get(reason)
    return kind(message, **details) if kind else KeyreeveError(message, reason=reason, **details)
