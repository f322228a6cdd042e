"""The double's clock is moved by tests: what the service does in days is done at once."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from keyreeve import Client, KeyState, errors, testing

KEY = "dev/shop/orders"


@pytest.fixture
def service() -> Iterator[testing.Service]:
    with testing.Service() as service:
        yield service


@pytest.fixture
def client(service: testing.Service) -> Client:
    client = service.client()
    client.create_key(KEY)
    return client


def states(client: Client) -> list[str]:
    return [version.state.name for version in client.get_key(KEY).versions]


def test_a_scheduled_destruction_is_done_when_its_time_has_come(service: testing.Service, client: Client) -> None:
    sealed = client.encrypt(KEY, b"hello")
    client.rotate_key(KEY)
    due = client.destroy_key(KEY, version=1, wait_days=7, reason="out of use").versions[0].destroy_time
    assert due
    assert abs(due - service.clock.now() - datetime.timedelta(days=7)) < datetime.timedelta(minutes=1)
    service.clock.advance(days=6, hours=23)
    assert states(client) == ["PENDING_DESTRUCTION", "ACTIVE"]
    service.clock.advance(hours=2)
    assert states(client) == ["DESTROYED", "ACTIVE"]
    destroyed = client.get_key(KEY).versions[0]
    assert (destroyed.state_reason, destroyed.destroy_time) == ("out of use", None)
    with pytest.raises(errors.StateForbids, match="DESTROYED and may not decrypt"):
        client.decrypt(KEY, sealed)
    attested = client.attest_key(KEY).versions
    assert [(version.kcv != "", version.in_use is not None) for version in attested] == [(False, False), (True, True)]
    assert client.verify_keys("dev/shop").versions == 1
    assert service._directory.keys[client.get_key(KEY).name].versions[0].secret is None


def test_what_was_compromised_is_destroyed_compromised(service: testing.Service, client: Client) -> None:
    client.compromise_key(KEY)
    client.destroy_key(KEY)
    service.clock.advance(days=31)
    assert states(client) == ["DESTROYED_COMPROMISED"]
    with pytest.raises(errors.StateForbids):
        client.compromise_key(KEY)


def test_what_was_destroyed_can_be_marked_compromised_and_nothing_else(
    service: testing.Service, client: Client
) -> None:
    client.destroy_key(KEY)
    service.clock.advance(days=31)
    for change in (client.rotate_key, client.resume_key, client.cancel_key_destruction, client.destroy_key):
        with pytest.raises(errors.StateForbids):
            change(KEY)
    assert client.compromise_key(KEY).state is KeyState.DESTROYED_COMPROMISED


def test_what_was_cancelled_in_time_stays(service: testing.Service, client: Client) -> None:
    client.destroy_key(KEY, wait_days=7)
    service.clock.advance(days=6)
    client.cancel_key_destruction(KEY)
    service.clock.advance(days=60)
    assert states(client) == ["DEACTIVATED"]


def test_request_ids_are_forgotten_after_a_day(service: testing.Service, client: Client) -> None:
    again = str(uuid.uuid4())
    assert client.rotate_key(KEY, request_id=again).primary_version == 2
    service.clock.advance(hours=23)
    assert client.rotate_key(KEY, request_id=again).primary_version == 2
    service.clock.advance(hours=2)
    assert client.rotate_key(KEY, request_id=again).primary_version == 3


def test_page_tokens_are_good_for_a_day(
    service: testing.Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_key("dev/shop/refunds")
    monkeypatch.setattr("keyreeve.operations._PAGE", 1)
    assert len(client.list_keys("dev/shop")) == 2
    run = client._run

    def later(call: Any, deadline: float | None) -> Any:
        answer = run(call, deadline)
        service.clock.advance(hours=25)
        return answer

    monkeypatch.setattr(client, "_run", later)
    with pytest.raises(errors.InvalidArgument, match="older than a day"):
        client.list_keys("dev/shop")


def test_the_clock_does_not_go_back(service: testing.Service) -> None:
    with pytest.raises(ValueError, match="does not go back"):
        service.clock.advance(days=-1)
