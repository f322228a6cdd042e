"""A service that answers as a test says: errors with the details of the real one, damage, silence."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from keyreeve.checksum import fill
from keyreeve.methods import METHODS
from support.certificates import Authority

Answer = Callable[[Any], Message]


@dataclass
class Failure:
    """How the service fails a call."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after: float | None = None
    domain: str = "keyreeve.dev"
    message: str = "the service says no"

    def details(self, request_id: str) -> bytes:
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain, metadata={"request_id": request_id})
        details = [_packed(info)]
        if self.retry_after is not None:
            delay = Duration(seconds=int(self.retry_after), nanos=int(self.retry_after % 1 * 1e9))
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=details)
        return bytes(status.SerializeToString())


@dataclass
class Seen:
    """A call as it arrived."""

    method: str
    request: Any
    metadata: dict[str, Any]
    remaining: float


@dataclass(repr=False)
class Scripted:
    authority: Authority
    script: deque[Failure | Answer] = field(default_factory=deque)
    """What becomes of the next calls; afterwards every call is answered."""
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    peers: list[bytes | int] = field(default_factory=list)
    address: str = ""

    def start(self, address: str = "127.0.0.1:0") -> None:
        cert, key = self.authority.issue("server")
        credentials = grpc.ssl_server_credentials(
            [(key.read_bytes(), cert.read_bytes())], self.authority.ca.read_bytes(), require_client_auth=True
        )
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        handlers = {name: self._handler(name) for name, method in METHODS.items() if not method.streams}
        for service in ("CryptoService", "KeyService", "SystemService"):
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"keyreeve.v1.{service}", handlers),)
            )
        port = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def settings(self) -> dict[str, Any]:
        cert, key = self.authority.directory / "client.pem", self.authority.directory / "client.key"
        if not cert.exists():
            self.authority.issue("client", uri="spiffe://test/client")
        return {"addr": self.address, "ca": str(self.authority.ca), "cert": str(cert), "key": str(key)}

    def _handler(self, name: str) -> grpc.RpcMethodHandler[Any, Any]:
        method = METHODS[name]

        def handle(request: Any, context: grpc.ServicerContext) -> Message:
            metadata = {str(key): value for key, value in context.invocation_metadata()}
            self.seen.append(Seen(name, request, metadata, context.time_remaining() or 0))
            self.peers.append((context.auth_context().get("x509_pem_cert") or [b""])[0])
            step = self.script.popleft() if self.script else None
            if isinstance(step, Failure):
                if step.reason:
                    details = step.details(str(metadata["x-request-id"]))
                    context.set_trailing_metadata((("grpc-status-details-bin", details),))
                context.abort(step.code, step.message)
            if step is not None and not isinstance(step, Failure):
                return step(request)
            answer = self.answers.get(name, lambda _: method.answer())(request)
            fill(answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=method.request.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )


def silent(seconds: float) -> Answer:
    """Answers nothing for that long."""

    def wait(_: Any) -> Message:
        threading.Event().wait(seconds)
        raise RuntimeError("nobody waits any more")

    return wait


def running(authority: Authority) -> Iterator[Scripted]:
    service = Scripted(authority)
    service.start()
    yield service
    service.stop()


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
