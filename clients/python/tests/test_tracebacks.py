"""F3: a traceback shows no plaintext and no key, even where it shows the locals of every frame."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import logging
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.dev import Dev
from support.scripted import Failure, Scripted

from keyreeve import AsyncClient, Client, CryptRequest, KeyreeveError, SecretBytes, checksum, door
from keyreeve.connections import Connection
from keyreeve.v1 import crypto_pb2

CANARY = b"canary-51c9-canary-plain-or-key!"  # 32 bytes: it can be a data key
KEY = "dev/shop/orders"
NO = Failure(grpc.StatusCode.INTERNAL, "INTERNAL")


def shown(error: BaseException) -> str:
    """Everything that tools print of an exception, locals and hidden contexts included."""
    text = []
    seen: set[int] = set()

    def walk(e: BaseException | None) -> None:
        if e is None or id(e) in seen:
            return
        seen.add(id(e))
        text.append("".join(traceback.TracebackException.from_exception(e, capture_locals=True).format(chain=False)))
        text.append(repr(e.args) + repr(vars(e)))
        walk(e.__cause__)
        walk(e.__context__)

    walk(error)
    return "".join(text)


def leaks(text: str) -> bool:
    forms = [CANARY.decode(), CANARY.hex(), base64.b64encode(CANARY).decode()[:30], str(list(CANARY))[:40]]
    return any(form in text for form in forms)


class Boom(Exception):
    """What no code of ours raises."""


def break_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(_: Any) -> None:
        raise Boom("in the middle of everything")

    monkeypatch.setattr(checksum, "check", boom)


def data_key(_: Any) -> crypto_pb2.GenerateDataKeyResponse:
    return crypto_pb2.GenerateDataKeyResponse(plaintext=CANARY, ciphertext=b"no envelope")


def parts() -> Iterator[bytes]:
    yield CANARY
    raise Boom("the caller's iterator")


CALLS: dict[str, Callable[[Client], Any]] = {
    "encrypt": lambda c: c.encrypt(KEY, CANARY),
    "encrypt to a bad name": lambda c: c.encrypt("no name", CANARY),
    "encrypt with a bad context": lambda c: c.encrypt(KEY, CANARY, context={"kms:x": "y"}),
    "encrypt with a bad aad": lambda c: c.encrypt(KEY, CANARY, aad="text"),  # type: ignore[arg-type]
    "encrypt with a bad deadline": lambda c: c.encrypt(KEY, CANARY, deadline=-1),
    "encrypt with an unknown argument": lambda c: c.encrypt(KEY, CANARY, aadd=b""),  # type: ignore[call-arg]
    "batch": lambda c: c.batch_encrypt(KEY, [CANARY, SecretBytes(CANARY)]),
    "seal": lambda c: c.sealer(KEY).seal(CANARY),
    "seal a stream": lambda c: c.sealer(KEY).seal_stream(io.BytesIO(CANARY), io.BytesIO()),
    "stream": lambda c: list(c.crypt([CryptRequest.encrypt(1, KEY, CANARY)])),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_that_the_service_fails_shows_nothing(scripted: Scripted, call: Callable[[Client], Any]) -> None:
    scripted.script.append(NO)
    with Client(**scripted.settings()) as client, pytest.raises((KeyreeveError, TypeError)) as caught:
        call(client)
    assert not leaks(shown(caught.value))
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {Path(frame.filename).name for frame in frames} <= {Path(__file__).name, "door.py"}


def test_an_answer_that_cannot_be_used_shows_nothing(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.answers["GenerateDataKey"] = data_key
    with Client(**scripted.settings(), data_key_cache=True) as client:
        with pytest.raises(KeyreeveError, match="no wrapped data key") as caught:
            client.sealer(KEY).seal(CANARY)
        assert not leaks(shown(caught.value))
        break_checksums(monkeypatch)
        for call in (lambda: client.generate_data_key(KEY), lambda: client.sealer(KEY).seal(CANARY)):
            with pytest.raises(Boom) as other:
                call()
            assert not leaks(shown(other.value))


def test_the_same_for_the_async_client(scripted: Scripted) -> None:
    async def call() -> str:
        scripted.script.append(NO)
        async with AsyncClient(**scripted.settings()) as client:
            with pytest.raises(KeyreeveError) as caught:
                await client.encrypt(KEY, CANARY)
            with pytest.raises(KeyreeveError) as sealing:
                scripted.script.append(NO)
                await client.sealer(KEY).seal(CANARY)
        return shown(caught.value) + shown(sealing.value)

    assert not leaks(asyncio.run(call()))


def test_an_iterator_that_fails_while_it_is_sealed_shows_nothing(client: Client, key: str) -> None:
    with pytest.raises(Boom) as caught:
        list(client.sealer(key).seal_chunks(parts()))
    assert not leaks(shown(caught.value))


def test_an_iterator_that_fails_while_it_is_streamed_shows_nothing(
    client: Client, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    def requests() -> Iterator[CryptRequest]:
        yield CryptRequest.encrypt(1, key, CANARY)
        raise Boom("the caller's iterator")

    with pytest.raises(Boom) as caught:
        list(client.crypt(requests()))
    assert not leaks(shown(caught.value))
    assert not leaks(caplog.text)

    async def of_async() -> str:
        async def again() -> AsyncIterator[CryptRequest]:
            for request in requests():
                yield request

        async with AsyncClient(**_settings(client)) as other:
            with pytest.raises(Boom) as caught:
                async for _ in other.crypt(again()):
                    pass
        return shown(caught.value)

    assert not leaks(asyncio.run(of_async()))


class Harsh(BaseException):
    """What `except Exception` does not catch."""


def test_an_iterator_that_fails_before_its_stream_is_there_is_told_to_the_caller_and_to_no_log(
    client: Client, key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    begin = Connection.stream

    def slowly(connection: Connection[Any], method: Any) -> Any:
        def call(messages: Iterator[Any], metadata: Any) -> Any:
            stream = begin(connection, method)(messages, metadata=metadata)
            time.sleep(0.3)  # its thread asks for the first request meanwhile
            return stream

        return call

    monkeypatch.setattr(Connection, "stream", slowly)
    for boom in (Boom, Harsh):

        def requests(boom: type[BaseException] = boom) -> Iterator[CryptRequest]:
            if boom:
                raise boom(CANARY.decode())
            yield CryptRequest.encrypt(1, key, b"x")

        with pytest.raises(boom):
            list(client.crypt(requests()))
    assert not leaks(caplog.text)
    assert "iterat" not in caplog.text


def test_an_async_iterator_that_fails_harshly_is_told_to_the_caller_and_to_no_log(
    client: Client, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def call(boom: type[BaseException]) -> None:
        async def requests() -> AsyncIterator[CryptRequest]:
            yield CryptRequest.encrypt(1, key, b"x")
            raise boom(CANARY.decode())

        async with AsyncClient(**_settings(client)) as other:
            async for _ in other.crypt(requests()):
                pass

    for boom in (Boom, Harsh):
        with pytest.raises(boom):
            asyncio.run(call(boom))
    gc.collect()
    assert not leaks(caplog.text)


def test_opening_that_fails_late_shows_nothing(client: Client, key: str) -> None:
    sealed = bytearray(client.sealer(key).seal(CANARY * 4096))
    sealed[-1] ^= 1
    opener = client.opener(key)
    for attempt in (
        lambda: opener.open(bytes(sealed)),
        lambda: opener.open_stream(io.BytesIO(sealed), io.BytesIO()),
        lambda: list(opener.open_chunks([bytes(sealed)])),
        lambda: opener.reader(io.BytesIO(sealed)).read(),
    ):
        with pytest.raises(KeyreeveError) as caught:
            attempt()
        assert not leaks(shown(caught.value))


def test_logs_of_a_failing_call_show_nothing(scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scripted.script.extend([NO, Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")])
    with Client(**scripted.settings()) as client:
        try:
            client.encrypt(KEY, CANARY)
        except KeyreeveError:
            logging.getLogger("app").exception("failed")
        client.encrypt(KEY, CANARY)
    assert "failed" in caplog.text
    assert not leaks(caplog.text)


def test_causes_and_contexts_stay_inside() -> None:
    def inner(key: bytes) -> None:
        raise ValueError(len(key))

    @door.clean
    def outer(key: bytes) -> None:
        try:
            inner(key)
        except ValueError as error:
            raise Boom("because of the other") from error

    with pytest.raises(Boom) as caught:
        outer(CANARY)
    assert not leaks(shown(caught.value))
    if sys.version_info >= (3, 11):
        assert "test_tracebacks.py" in "".join(caught.value.__notes__), "where it came from is told all the same"


def test_a_client_that_is_not_made_shows_no_private_key(dev: Dev) -> None:
    other = Path(dev.settings("app")["key"])
    for made in (Client, AsyncClient):
        with pytest.raises(KeyreeveError, match="is not the private key") as failure:
            made(**dev.settings() | {"key": str(other)})
        text = shown(failure.value)
        assert "PRIVATE KEY-----" not in text
        assert other.read_text().splitlines()[1] not in text


def test_these_tests_see_a_leak(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the door, frames of the client show what they work on."""
    monkeypatch.setattr(door, "bare", lambda error: error)
    scripted.script.append(NO)
    with Client(**scripted.settings()) as client, pytest.raises(KeyreeveError) as caught:
        client.encrypt(KEY, CANARY)
    assert leaks(shown(caught.value))


def _settings(client: Client) -> dict[str, Any]:
    config = client._config
    return {"addr": config.endpoints, "ca": config.ca, "cert": config.cert, "key": config.key}
