"""`encrypt` of the Python client ÷ a bare call of grpcio, both against the same echo in tonic: what the client itself costs.

| way | ours | bare |
| --- | --- | --- |
| sync | `Client.encrypt`, one after the other | a stub's call: message built, sent, answer parsed |
| asyncio | `AsyncClient.encrypt`, 64 in flight | the same of `grpc.aio` |
| stream | `Client.crypt`: requests as fast as they go | a stub's stream |
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from keyreeve import AsyncClient, Client, CryptRequest
from keyreeve.v1 import crypto_pb2

from measure import Cells, Report, say
from servers import KEY, bare_credentials, target

IN_FLIGHT = 64
SIZES = (64, 4096)
_SERVICE = "/keyreeve.v1.CryptoService/"
_pb: Any = crypto_pb2


def run(report: Report, settings: dict[str, Any], rounds: int, seconds: float) -> None:
    cells = Cells()
    loop = asyncio.new_event_loop()
    with Client(**settings) as client, Bare(settings) as bare:
        aio = loop.run_until_complete(_async_client(settings))
        bare_aio = loop.run_until_complete(_bare_async(settings))
        for at in range(rounds + 1):
            # The first round opens the connections, and does not count.
            counted = cells if at else Cells()
            for size in SIZES:
                data = bytes(size)
                ways: dict[str, Callable[[], int]] = {
                    "sync": lambda d=data: _for(seconds, lambda: client.encrypt(KEY, d)),  # type: ignore[misc]
                    "sync_bare": lambda d=data: _for(seconds, lambda: bare.encrypt(d)),  # type: ignore[misc]
                    "asyncio": lambda d=data: loop.run_until_complete(  # type: ignore[misc]
                        _in_flight(seconds, lambda: aio.encrypt(KEY, d))
                    ),
                    "asyncio_bare": lambda d=data: loop.run_until_complete(  # type: ignore[misc]
                        _in_flight(seconds, lambda: bare_aio(_request(d)))
                    ),
                    "stream": lambda d=data: _stream(seconds, client, d),  # type: ignore[misc]
                    "stream_bare": lambda d=data: bare.stream(seconds, d),  # type: ignore[misc]
                }
                for way, work in ways.items():
                    counted.measure(f"{way}_{size}", work)
            say(f"calls: round {at} of {rounds}")
        loop.run_until_complete(aio.close())
        loop.run_until_complete(bare_aio.channel.close())
    for way, size in itertools.product(("sync", "asyncio", "stream"), SIZES):
        cell, to = f"{way}_{size}", f"{way}_bare_{size}"
        report.add(f"encrypt_{way}_{size}_b_cpu_over_bare", cells.ratio(cell, to), "×")
        report.add(f"encrypt_{way}_{size}_b_rate_over_bare", 1 / cells.wall_ratio(cell, to), "×")
        for name in (cell, to):
            report.add(f"encrypt_{name}_b_cpu", cells.cpu(name) * 1e6, "us")
            report.add(f"encrypt_{name}_b_rate", 1 / cells.wall(name), "calls/s")


def _request(data: bytes) -> Any:
    return _pb.EncryptRequest(name=KEY, plaintext=data)


class Bare:
    """A channel of grpcio with one stub for each way."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._channel: Any = grpc.secure_channel(target(settings["addr"]), bare_credentials(settings))
        self._encrypt = self._channel.unary_unary(
            f"{_SERVICE}Encrypt",
            request_serializer=_pb.EncryptRequest.SerializeToString,
            response_deserializer=_pb.EncryptResponse.FromString,
        )
        self._crypt = self._channel.stream_stream(
            f"{_SERVICE}Crypt",
            request_serializer=_pb.CryptRequest.SerializeToString,
            response_deserializer=_pb.CryptResponse.FromString,
        )

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def encrypt(self, data: bytes) -> bytes:
        return bytes(self._encrypt(_request(data)).ciphertext)

    def stream(self, seconds: float, data: bytes) -> int:
        tags = _until(seconds)
        requests = (_pb.CryptRequest(tag=tag, encrypt=_request(data)) for tag in tags)
        return sum(bool(answer.encrypt.ciphertext) for answer in self._crypt(requests))


def _stream(seconds: float, client: Client, data: bytes) -> int:
    requests = (CryptRequest.encrypt(tag, KEY, data) for tag in _until(seconds))
    return sum(bool(answer.result()) for answer in client.crypt(requests))


def _until(seconds: float) -> Any:
    end = time.perf_counter() + seconds
    return itertools.takewhile(lambda _: time.perf_counter() < end, itertools.count())


def _for(seconds: float, call: Callable[[], object]) -> int:
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        call()
        done += 1
    return done


async def _in_flight(seconds: float, call: Callable[[], Awaitable[object]]) -> int:
    end, done = time.perf_counter() + seconds, 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    return done


async def _async_client(settings: dict[str, Any]) -> AsyncClient:
    return AsyncClient(**settings)


class _BareAsync:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.channel: Any = grpc.aio.secure_channel(target(settings["addr"]), bare_credentials(settings))
        self._encrypt = self.channel.unary_unary(
            f"{_SERVICE}Encrypt",
            request_serializer=_pb.EncryptRequest.SerializeToString,
            response_deserializer=_pb.EncryptResponse.FromString,
        )

    def __call__(self, request: Any) -> Awaitable[Any]:
        return self._encrypt(request)


async def _bare_async(settings: dict[str, Any]) -> _BareAsync:
    return _BareAsync(settings)
