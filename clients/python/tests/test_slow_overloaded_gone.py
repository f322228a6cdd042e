"""The table of docs/clients.md against a service that is slow, overloaded, restarting or gone: the same for both clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from support.dev import Dev
from support.scripted import Failure, Scripted, silent

from keyreeve import AsyncClient, Client, CryptRequest, Event, errors
from keyreeve.v1 import crypto_pb2, keys_pb2

KEY = "dev/shop/orders"
OVERLOADED = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=0.05)
DRAINING = Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after=0.05)

Run = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, scripted: Scripted) -> Iterator[Run]:
    """`run(method, *args)`: calls a method of a client of the scripted service; `run.told`: its events."""
    told: list[Event] = []

    if request.param == "sync":
        with Client(**scripted.settings(), on_event=told.append) as client:

            def call(method: str, *args: Any, **kwargs: Any) -> Any:
                return getattr(client, method)(*args, **kwargs)

            call.told = told  # type: ignore[attr-defined]
            yield call
    else:
        loop = asyncio.new_event_loop()

        async def make() -> AsyncClient:
            return AsyncClient(**scripted.settings(), on_event=told.append)

        client_async = loop.run_until_complete(make())

        def call_async(method: str, *args: Any, **kwargs: Any) -> Any:
            return loop.run_until_complete(getattr(client_async, method)(*args, **kwargs))

        call_async.told = told  # type: ignore[attr-defined]
        yield call_async
        loop.run_until_complete(client_async.close())
        loop.close()


def ciphertext(_: Any) -> crypto_pb2.EncryptResponse:
    return crypto_pb2.EncryptResponse(ciphertext=b"sealed", key_version=1)


def names(run: Run) -> list[tuple[str, str]]:
    return [(event.name, event.reason) for event in run.told]  # type: ignore[attr-defined]


def test_an_overloaded_service_is_asked_again_after_its_delay(run: Run, scripted: Scripted) -> None:
    scripted.answers["Encrypt"] = ciphertext
    scripted.script.extend([OVERLOADED, OVERLOADED])
    begun = time.monotonic()
    assert run("encrypt", KEY, b"hello") == b"sealed"
    assert 0.1 <= time.monotonic() - begun < 2
    assert names(run) == [("retry", "OVERLOADED"), ("retry", "OVERLOADED"), ("call", "OK")]
    assert len({seen.metadata["x-request-id"] for seen in scripted.seen}) == 1


def test_an_overload_that_stays_comes_out_with_its_reason_and_the_number_of_tries(run: Run, scripted: Scripted) -> None:
    scripted.script.extend([OVERLOADED] * 9)
    with pytest.raises(errors.Overloaded) as caught:
        run("encrypt", KEY, b"hello")
    assert (caught.value.tries, caught.value.retry_after, len(scripted.seen)) == (5, 0.05, 5)
    assert caught.value.request_id == scripted.seen[0].metadata["x-request-id"]


def test_a_draining_node_is_asked_again(run: Run, scripted: Scripted) -> None:
    scripted.answers["Encrypt"] = ciphertext
    scripted.script.extend([DRAINING])
    assert run("encrypt", KEY, b"hello") == b"sealed"
    assert ("circuit_opened", "DRAINING") in names(run)
    assert ("circuit_closed", "") in names(run)


def test_a_slow_service_meets_the_total_deadline(run: Run, scripted: Scripted) -> None:
    scripted.script.extend([DRAINING, silent(3)])
    begun = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        run("encrypt", KEY, b"hello", deadline=0.8)
    assert 0.6 < time.monotonic() - begun < 1.5
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.tries == 2
    assert scripted.seen[1].remaining < scripted.seen[0].remaining <= 0.8


def test_a_refusal_is_not_asked_again(run: Run, scripted: Scripted) -> None:
    scripted.script.extend([Failure(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")])
    with pytest.raises(errors.PermissionDenied):
        run("encrypt", KEY, b"hello")
    assert len(scripted.seen) == 1


def test_a_change_is_asked_again_under_the_same_request_id(run: Run, scripted: Scripted) -> None:
    scripted.answers["RotateKey"] = lambda _: keys_pb2.RotateKeyResponse()
    scripted.script.extend([DRAINING])
    run("rotate_key", KEY)
    ids = [seen.request.request_id for seen in scripted.seen]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert len(ids[0]) == 36


def test_a_change_without_request_id_is_asked_once(run: Run, scripted: Scripted) -> None:
    scripted.script.extend([DRAINING])
    with pytest.raises(errors.Draining):
        run("rotate_key", KEY, request_id=None)
    assert [seen.request.request_id for seen in scripted.seen] == [""]


def test_a_service_that_never_answered_is_unreachable_after_the_last_try(run: Run, scripted: Scripted) -> None:
    scripted.stop()
    begun = time.monotonic()
    with pytest.raises(errors.Unreachable) as caught:
        run("encrypt", KEY, b"hello")
    assert time.monotonic() - begun < 1.5
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.tries == 5


def test_a_service_that_comes_back_is_found_again(run: Run, scripted: Scripted) -> None:
    scripted.answers["Encrypt"] = ciphertext
    run("encrypt", KEY, b"hello")
    scripted.stop()
    with pytest.raises(errors.Unreachable):
        run("encrypt", KEY, b"hello", deadline=0.3)
    scripted.start(scripted.address)
    time.sleep(0.2)
    assert run("encrypt", KEY, b"hello") == b"sealed"


def test_a_service_that_is_away_is_looked_for_several_times_a_second(scripted: Scripted) -> None:
    arrived: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    door.accept()[0].close()
                    arrived.append(time.monotonic())

        refusing = threading.Thread(target=refuse)
        refusing.start()
        with Client(**scripted.settings() | {"addr": f"127.0.0.1:{door.getsockname()[1]}"}) as client:
            client._rules.endpoints.answered = True
            with pytest.raises(errors.Unreachable):
                client.encrypt(KEY, b"hello", deadline=4)
        door.shutdown(socket.SHUT_RDWR)
    refusing.join()
    assert max(later - earlier for earlier, later in itertools.pairwise(arrived)) < 0.9


def test_an_answer_that_changed_on_its_way_is_refused(run: Run, scripted: Scripted) -> None:
    damaged = crypto_pb2.EncryptResponse(ciphertext=b"sealed", ciphertext_crc32c=7)
    scripted.script.extend([lambda _: damaged])
    with pytest.raises(errors.ChecksumMismatch, match="`ciphertext`") as caught:
        run("encrypt", KEY, b"hello")
    assert caught.value.request_id
    assert scripted.seen[0].request.plaintext_crc32c == 0x9A71BB4C


def test_an_answer_of_something_between_is_told_apart(run: Run, scripted: Scripted) -> None:
    scripted.script.extend(
        [
            Failure(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", domain="proxy.example"),
            Failure(grpc.StatusCode.UNKNOWN),
        ]
    )
    for code in ("PERMISSION_DENIED", "UNKNOWN"):
        with pytest.raises(errors.TransportError) as caught:
            run("encrypt", KEY, b"hello")
        assert caught.value.code == code


def test_an_answer_that_is_larger_than_a_message_may_be_is_told_so(run: Run, scripted: Scripted) -> None:
    scripted.answers["Encrypt"] = lambda _: crypto_pb2.EncryptResponse(ciphertext=bytes(6 << 20))
    with pytest.raises(errors.MessageTooLarge, match="send less at once") as caught:
        run("encrypt", KEY, b"hello")
    assert caught.value.tries == 1


def test_a_batch_with_an_answer_too_few_is_refused(run: Run, scripted: Scripted) -> None:
    scripted.answers["BatchEncrypt"] = lambda _: crypto_pb2.BatchEncryptResponse()
    with pytest.raises(errors.MalformedAnswer, match="0 of 1 items"):
        run("batch_encrypt", KEY, [b"a"])


def test_a_data_key_of_another_length_is_refused(scripted: Scripted) -> None:
    scripted.answers["GenerateDataKey"] = lambda _: crypto_pb2.GenerateDataKeyResponse(
        plaintext=b"short", ciphertext=b"\xe5ENV\x01\1\0\2" + bytes(19) + b"\1" + (124).to_bytes(4, "big") + bytes(124)
    )
    with Client(**scripted.settings()) as client, pytest.raises(errors.MalformedAnswer, match="32 bytes"):
        client.sealer(KEY).seal(b"hello")


def test_another_endpoint_takes_over_and_the_first_one_comes_back(scripted: Scripted) -> None:
    scripted.answers["Encrypt"] = ciphertext
    settings = scripted.settings() | {"addr": f"127.0.0.1:9,{scripted.address}"}
    with Client(**settings) as client:
        begun = time.monotonic()
        assert client.encrypt(KEY, b"hello") == b"sealed"
        assert time.monotonic() - begun < 1
        assert [(e.circuit, e.last_reason) for e in client.endpoints][1] == ("closed", "")
        assert client.endpoints[0].last_reason == "UNREACHABLE"
        assert client.retry_budget == pytest.approx(9.0)


def test_rule_7_a_stream_is_no_trial_while_there_is_a_choice_and_gives_back_the_one_it_was(
    dev: Dev, client: Client, key: str
) -> None:
    address = dev.address
    with Client(**dev.settings() | {"addr": f"127.0.0.1:9,{address}"}) as several:
        endpoints = several._rules.endpoints
        endpoints.visit("127.0.0.1:9").ended(errors.Unreachable("gone"))
        time.sleep(0.11)
        assert endpoints.health()[0].circuit == "half_open"
        assert [answer.tag for answer in several.crypt([CryptRequest.encrypt(1, key, b"x")])] == [1]
        assert several.endpoints[0].circuit == "half_open"

        endpoints.visit(address).ended(errors.Draining("going"))
        endpoints.visit("127.0.0.1:9").ended(errors.Unreachable("gone"))
        with several.crypt([]) as closed:
            pass
        assert closed is not None
        assert not any(circuit.trying for circuit in endpoints._circuits.values())

    told: list[Event] = []
    with Client(**dev.settings(), on_event=told.append) as one:
        one._rules.endpoints.visit(address).ended(errors.Draining("going"))
        time.sleep(0.11)
        endless = (CryptRequest.encrypt(tag, key, b"x") for tag in itertools.count())
        with one.crypt(endless) as answers:
            next(answers)
            assert one.endpoints[0].circuit == "closed", "its first answer is a success"
    assert [(event.name, event.reason) for event in told if event.name == "call"] == [("call", "CANCELLED")]


def test_rule_7_an_async_stream_gives_its_trial_back(dev: Dev, key: str) -> None:
    async def work() -> None:
        async with AsyncClient(**dev.settings()) as client:
            endpoints = client._rules.endpoints
            endpoints.visit(dev.address).ended(errors.Draining("going"))
            await asyncio.sleep(0.11)
            tried = [endpoints._circuits[dev.address].trying]
            async with client.crypt([]):
                tried.append(endpoints._circuits[dev.address].trying)
            assert [*tried, endpoints._circuits[dev.address].trying] == [False, True, False]
            assert endpoints.health()[0].circuit == "half_open", "nobody has answered"
            async with client.crypt(CryptRequest.encrypt(tag, key, b"x") for tag in range(10)) as answers:
                await anext(answers)
                assert client.endpoints[0].circuit == "closed"

    asyncio.run(work())


def test_a_cancelled_task_ends_its_call(scripted: Scripted) -> None:
    async def cancel() -> list[Event]:
        told: list[Event] = []
        async with AsyncClient(**scripted.settings(), on_event=told.append) as client:
            scripted.script.extend([silent(2)])
            task = asyncio.create_task(client.encrypt(KEY, b"hello"))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return told

    assert [(event.name, event.reason) for event in asyncio.run(cancel())] == [("call", "CANCELLED")]


def test_a_closed_client_says_so(scripted: Scripted) -> None:
    client = Client(**scripted.settings())
    client.close()
    with pytest.raises(errors.ClientClosed, match="was closed"):
        client.encrypt(KEY, b"hello")
