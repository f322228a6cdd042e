"""Faults on order, and how the clients live through them (docs/clients.md): what users' own tests of degraded paths stand on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from test_reasons import reasons_of_the_service

from conftest import REPOSITORY
from keyreeve import Client, CryptRequest, Event, errors, testing
from keyreeve.testing.faults import _ALIKE, _DELAYS, _TEXTS, OF_CLIENTS, _text

KEY = "dev/shop/orders"


@pytest.fixture
def service() -> Iterator[testing.Service]:
    with testing.Service() as service:
        service.client().create_key(KEY)
        yield service


def reasons(service: testing.Service) -> list[str]:
    return [record.reason for record in service.records]


def test_what_is_unavailable_or_overloaded_for_a_moment_is_tried_again(service: testing.Service) -> None:
    told: list[Event] = []
    client = service.client(on_event=told.append)
    service.faults.overloaded(times=2, retry_after=0.01)
    service.faults.fail("DRAINING", retry_after=0.01)
    assert client.encrypt(KEY, b"hello")
    assert reasons(service)[1:] == ["OVERLOADED", "OVERLOADED", "DRAINING", "OK"]
    assert [event.reason for event in told if event.name == "retry"] == ["OVERLOADED", "OVERLOADED", "DRAINING"]
    service.faults.unavailable()
    begun = time.monotonic()
    assert client.encrypt(KEY, b"hello")
    assert 0.5 <= time.monotonic() - begun < 3


def test_what_stays_away_comes_out_with_its_reason(service: testing.Service) -> None:
    client = service.client()
    service.faults.overloaded(times=None, retry_after=0.01)
    with pytest.raises(errors.Overloaded, match="retry after 10 ms") as caught:
        client.encrypt(KEY, b"hello")
    assert (caught.value.tries, caught.value.retry_after) == (5, 0.01)
    service.faults.clear()
    assert client.encrypt(KEY, b"hello")


def test_a_slow_answer_comes_late_or_not_before_the_deadline(service: testing.Service) -> None:
    client = service.client()
    service.faults.slow(0.2)
    begun = time.monotonic()
    assert client.encrypt(KEY, b"hello")
    assert time.monotonic() - begun >= 0.2
    service.faults.slow(30)
    with pytest.raises(errors.DeadlineExceeded):
        client.encrypt(KEY, b"hello", deadline=0.2)


def test_a_fault_is_for_the_calls_and_the_key_that_it_names(service: testing.Service) -> None:
    client = service.client()
    client.create_key("dev/shop/refunds")
    service.faults.deny(times=None, key="dev/shop/refunds", calls=["Encrypt", "Decrypt"])
    assert client.encrypt(KEY, b"x")
    assert client.get_key("dev/shop/refunds")
    with pytest.raises(errors.PermissionDenied, match="may not Encrypt on `envs/dev/teams/shop/keys/refunds`"):
        client.encrypt("dev/shop/refunds", b"x")
    answers = {
        answer.tag: answer.error
        for answer in client.crypt(
            [CryptRequest.encrypt(1, KEY, b"x"), CryptRequest.encrypt(2, "dev/shop/refunds", b"x")]
        )
    }
    assert answers[1] is None
    assert isinstance(answers[2], errors.PermissionDenied)


def test_a_lost_answer_leaves_the_change_made_and_the_request_id_makes_it_once(service: testing.Service) -> None:
    client = service.client()
    service.faults.lose_answer(calls=["RotateKey"])
    assert client.rotate_key(KEY).primary_version == 2
    service.faults.lose_answer(calls=["RotateKey"])
    with pytest.raises(errors.LogUnavailable):
        client.rotate_key(KEY, request_id=None)
    assert client.get_key(KEY).primary_version == 3


@pytest.mark.parametrize("reason", sorted(set(errors.BY_REASON) - OF_CLIENTS))
def test_every_reason_of_the_service_can_be_ordered(service: testing.Service, reason: str) -> None:
    client = service.client()
    service.faults.fail(reason, times=None, calls=["Encrypt"], retry_after=0.01 if reason in _DELAYS else None)
    with pytest.raises(errors.BY_REASON[reason]) as caught:
        client.encrypt(KEY, b"x")
    assert caught.value.reason == reason
    assert caught.value.request_id


def test_those_are_the_reasons_that_the_service_knows() -> None:
    assert set(errors.BY_REASON) - OF_CLIENTS == reasons_of_the_service()


def test_their_texts_are_the_services() -> None:
    source = " ".join((REPOSITORY / "src/error.rs").read_text().split())
    named = {"CONFLICT", "INTEGRITY_FAILED", "ROTATION_REQUIRED", "OVERLOADED", "KEY_CEILING"}
    for reason in {*_TEXTS, *(make().reason for make in _ALIKE)} - named:
        assert f'#[error("{_text(reason, 0)}")]' in source or f'#[error( "{_text(reason, 0)}" )]' in source, reason


def test_what_nobody_could_meet_is_no_fault(service: testing.Service) -> None:
    for reason in ("UNREACHABLE", "MOON_PHASE", ""):
        with pytest.raises(ValueError, match="no reason of the service"):
            service.faults.fail(reason)
    with pytest.raises(ValueError, match="`encrypt` is no method"):
        service.faults.deny(calls=["encrypt"])


def test_a_service_that_is_gone_is_unreachable_and_back_with_its_keys(service: testing.Service) -> None:
    client = service.client()
    sealed, address = client.encrypt(KEY, b"hello"), service.address
    with service.gone(), pytest.raises(errors.Unreachable):
        client.decrypt(KEY, sealed, deadline=0.5)
    assert service.address == address
    assert client.decrypt(KEY, sealed).reveal() == b"hello", "the same client finds it again"
    assert service.client().decrypt(KEY, sealed).reveal() == b"hello"


def test_a_cached_data_key_seals_while_the_service_is_away(service: testing.Service) -> None:
    told: list[str] = []
    client = service.client(data_key_cache=True, on_event=lambda event: told.append(event.name))
    sealer = client.sealer(KEY)
    sealer.seal(b"first")
    # What was kept before the client has begun to watch its key, it forgets then.
    deadline = time.monotonic() + 10
    while "data_key_evicted" not in told and time.monotonic() < deadline:
        time.sleep(0.01)
    sealer.seal(b"second")
    made = [record.method for record in service.records].count("GenerateDataKey")
    with service.gone():
        sealed = sealer.seal(b"third")
    assert service.client().opener(KEY).open(sealed).reveal() == b"third"
    assert [record.method for record in service.records].count("GenerateDataKey") == made


def test_what_is_under_way_when_the_service_goes_is_lost(service: testing.Service) -> None:
    client = service.client()
    service.faults.slow(30, calls=["RotateKey"])
    going = threading.Timer(0.2, service.stop)
    going.start()
    held = threading.Event()
    with client.crypt(_one_then_wait(held)) as answers:
        assert next(answers).tag == 1
        with pytest.raises(errors.Unreachable):
            client.rotate_key(KEY, request_id=None)
        with pytest.raises(errors.Unreachable) as caught:
            next(answers)
        assert caught.value.unanswered == ()
        held.set()
    going.join()


def test_the_async_client_meets_them_too(service: testing.Service) -> None:
    async def work() -> None:
        async with service.async_client() as client:
            service.faults.overloaded(times=3, retry_after=0.01)
            assert await client.encrypt(KEY, b"hello")
            service.faults.slow(30)
            with pytest.raises(errors.DeadlineExceeded):
                await client.encrypt(KEY, b"hello", deadline=0.2)
            service.stop()
            with pytest.raises(errors.Unreachable):
                await client.encrypt(KEY, b"hello", deadline=0.5)
            service.start()
        async with service.async_client() as again:
            assert await again.encrypt(KEY, b"hello")

    asyncio.run(work())


def test_a_stop_does_not_wait_for_what_is_slow(service: testing.Service) -> None:
    client = Client(**service.settings())
    service.faults.slow(30)
    begun = time.monotonic()
    with pytest.raises(errors.KeyreeveError):
        client.encrypt(KEY, b"hello", deadline=0.1)
    service.close()
    client.close()
    assert time.monotonic() - begun < 5


def _one_then_wait(held: threading.Event) -> Iterator[CryptRequest]:
    yield CryptRequest.encrypt(1, KEY, b"x")
    held.wait()
