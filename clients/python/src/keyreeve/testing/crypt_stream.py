"""`Crypt`: tagged requests on one stream, answered in an order that nobody should rely on; here a shuffled one, so that nobody does."""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from keyreeve import checksum
from keyreeve.testing.answers import item_error
from keyreeve.testing.dispatch import Asked, Dispatch
from keyreeve.testing.refusals import Refusal, draining, invalid
from keyreeve.v1 import crypto_pb2 as proto

IN_FLIGHT = 64
_LOOK = 0.05
_METHODS = {
    "encrypt": "Encrypt",
    "decrypt": "Decrypt",
    "re_encrypt": "ReEncrypt",
    "generate_data_key": "GenerateDataKey",
    "generate_data_key_without_plaintext": "GenerateDataKeyWithoutPlaintext",
    "unwrap_data_key": "UnwrapDataKey",
}
# Ends the queue.
_END: Any = object()


class CryptStream:
    """`arrived`: messages that a thread has taken from the wire."""

    def __init__(self, dispatch: Dispatch, asked: Asked, is_active: Callable[[], bool]) -> None:
        self._dispatch = dispatch
        self._asked = asked
        self._is_active = is_active
        self._arrived: queue.Queue[Any] = queue.Queue(IN_FLIGHT)

    def answers(self, incoming: Iterator[Any]) -> Iterator[proto.CryptResponse]:
        """`incoming`: parsed messages. Raises Refusal: DRAINING, or what `incoming` has raised."""
        threading.Thread(target=self._take, args=(incoming,), daemon=True, name="keyreeve.testing crypt").start()
        while self._is_active():
            messages = self._some()
            ended = [message for message in messages if message is _END or isinstance(message, Refusal)]
            work = [message for message in messages if message not in ended]
            random.shuffle(work)
            for message in work:
                if self._dispatch.ending.is_set() and not self._dispatch.drains:
                    raise self._dispatch.end()
                yield self._answer(message)
            if isinstance(ended and ended[0], Refusal):
                raise ended[0]
            if ended:
                return
            if self._dispatch.ending.is_set() and not work:
                raise self._dispatch.end()

    def _some(self) -> list[Any]:
        """What has arrived; at least one, unless the service ends."""
        messages = []
        with contextlib.suppress(queue.Empty):
            messages.append(self._arrived.get(timeout=_LOOK))
            while len(messages) < IN_FLIGHT:
                messages.append(self._arrived.get_nowait())
        return messages

    def _answer(self, message: Any) -> proto.CryptResponse:
        kind = message.WhichOneof("request")
        try:
            if self._dispatch.ending.is_set():
                raise draining()
            if kind is None:
                raise invalid("request", "it is empty, or of a kind that this release does not know")
            answer = self._dispatch.answer(_METHODS[kind], getattr(message, kind), self._asked)
        except Refusal as refusal:
            return proto.CryptResponse(tag=message.tag, error=item_error(refusal))
        response = proto.CryptResponse(tag=message.tag)
        getattr(response, kind).CopyFrom(answer)
        checksum.fill(response)
        return response

    def _take(self, incoming: Iterator[Any]) -> None:
        last = _END
        try:
            for message in incoming:
                self._put(message)
        except Refusal as refusal:
            last = refusal
        except grpc.RpcError:
            pass
        except Exception:  # noqa: BLE001, S110 - gRPC ends the iterator of a cancelled call by a bare Exception
            pass
        self._put(last)

    def _put(self, message: Any) -> None:
        while self._is_active():
            with contextlib.suppress(queue.Full):
                self._arrived.put(message, timeout=_LOOK)
                return
