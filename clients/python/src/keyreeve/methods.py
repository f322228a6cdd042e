"""The methods of the service, as their descriptors tell: path, request, answer. No stub is written or generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from keyreeve.v1 import crypto_pb2, events_pb2, keys_pb2, system_pb2


@dataclass(frozen=True)
class Method:
    name: str
    """`Encrypt`"""
    path: str
    """`/keyreeve.v1.CryptoService/Encrypt`"""
    request: type[Message]
    answer: type[Message]
    streams: bool
    mutation: bool
    """Its request has a `request_id`."""


def _methods(file: FileDescriptor) -> dict[str, Method]:
    return {
        method.name: _method(service.full_name, method)
        for service in file.services_by_name.values()
        for method in service.methods
    }


def _method(service: str, method: MethodDescriptor) -> Method:
    takes: Any = method.input_type
    return Method(
        name=method.name,
        path=f"/{service}/{method.name}",
        request=GetMessageClass(takes),
        answer=GetMessageClass(method.output_type),
        streams=bool(method.client_streaming or method.server_streaming),
        mutation="request_id" in takes.fields_by_name,
    )


METHODS: dict[str, Method] = {
    name: method
    for module in (crypto_pb2, keys_pb2, system_pb2, events_pb2)
    for name, method in _methods(module.DESCRIPTOR).items()
}
