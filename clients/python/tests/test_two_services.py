"""A message for keys of two services (A3, ADR 0010): the real one, and the double as the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from support.dev import Dev

from keyreeve import AsyncClient, Client, errors, testing
from keyreeve.events import Event

CONTEXT = {"table": "orders"}
THERE = "dev/shop/letters"


@pytest.fixture(scope="module")
def there() -> Iterator[testing.Service]:
    with testing.Service() as service:
        with service.client() as client:
            client.create_key(THERE)
        yield service


def test_either_service_opens_it_alone(client: Client, key: str, there: testing.Service) -> None:
    with there.client() as other:
        message = client.sealer(key, elsewhere=[(other, THERE)]).seal(b"hello", context=CONTEXT)
        assert client.opener(key).open(message, context=CONTEXT).reveal() == b"hello"
        assert other.opener(THERE).open(message, context=CONTEXT).reveal() == b"hello"
        with pytest.raises(errors.DecryptFailed):
            other.opener(THERE).open(message)


def test_the_async_client_seals_for_two_services(dev: Dev, client: Client, key: str, there: testing.Service) -> None:
    async def sealed() -> bytes:
        async with AsyncClient(**dev.settings()) as here, AsyncClient(**there.settings()) as other:
            return await here.sealer(key, elsewhere=[(other, THERE)]).seal(b"hello", context=CONTEXT)

    message = asyncio.run(sealed())
    with there.client() as other:
        assert other.opener(THERE).open(message, context=CONTEXT).reveal() == b"hello"


def test_nothing_is_sealed_if_one_of_the_services_refuses(client: Client, key: str, there: testing.Service) -> None:
    with there.client() as other, pytest.raises(errors.NotFound):
        client.sealer(key, elsewhere=[(other, "dev/shop/absent")]).seal(b"hello")


def test_a_kept_data_key_is_for_the_same_keys_of_both(
    dev: Dev, new_key: Callable[[], str], there: testing.Service
) -> None:
    told: list[Event] = []
    key, settings = new_key(), dev.settings()
    with Client(**settings, on_event=told.append, data_key_cache=True) as here, there.client() as other:
        here._data_keys.on_name = None  # a watch that begins drops what was kept before
        both, one = here.sealer(key, elsewhere=[(other, THERE)]), here.sealer(key)
        messages = [both.seal(b"1"), both.seal(b"2"), one.seal(b"3")]
        assert other.opener(THERE).open(messages[1]).reveal() == b"2"
        with pytest.raises(errors.DecryptFailed):
            other.opener(THERE).open(messages[2])
    assert [event.method for event in told if event.name == "call"].count("GenerateDataKey") == 2
