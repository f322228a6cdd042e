"""Every call of the service, against the service itself, by both clients."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support.dev import Dev

import keyreeve
from keyreeve import (
    AsyncClient,
    Client,
    CryptRequest,
    DecryptItem,
    EncryptItem,
    KeyState,
    KeySuite,
    SecretBytes,
    errors,
)

CONTEXT = {"table": "orders", "row": "7"}


def test_a_message_is_encrypted_and_opened_with_its_context(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"hello", context=CONTEXT, aad=b"more")
    assert client.decrypt(key, sealed, context=CONTEXT, aad=b"more").reveal() == b"hello"
    others: list[dict[str, Any]] = [{}, {"context": CONTEXT, "aad": b"other"}]
    for wrong in others:
        with pytest.raises(errors.DecryptFailed) as caught:
            client.decrypt(key, sealed, **wrong)
        assert caught.value.request_id


def test_every_kind_of_bytes_can_be_encrypted(client: Client, key: str) -> None:
    for value in (b"x", bytearray(b"x"), memoryview(b"x"), SecretBytes(b"x")):
        assert client.decrypt(key, client.encrypt(key, value)).reveal() == b"x"
    with pytest.raises(TypeError, match="not str"):
        client.encrypt(key, "text")  # type: ignore[arg-type]


def test_short_and_full_names_mean_the_same(client: Client, key: str) -> None:
    short = "/".join(key.split("/")[1::2])
    assert client.get_key(short) == client.get_key(key)
    for wrong in ("orders", "dev/shop", "dev/shop/Orders", "envs/dev/teams/shop/orders/x", "", "a/b/c/d"):
        with pytest.raises(errors.InvalidArgument, match="is no name of a key"):
            client.encrypt(wrong, b"")


def test_reencryption_changes_key_and_context_and_keeps_the_plaintext(
    client: Client, new_key: Callable[[], str]
) -> None:
    one, other = new_key(), new_key()
    sealed = client.encrypt(one, b"hello", context=CONTEXT)
    client.rotate_key(one)
    assert client.decrypt(one, client.reencrypt(one, sealed, context=CONTEXT), context=CONTEXT).reveal() == b"hello"
    moved = client.reencrypt(one, sealed, context=CONTEXT, to=other, to_context={"a": "b"})
    assert client.decrypt(other, moved, context={"a": "b"}).reveal() == b"hello"


def test_data_keys_are_made_unwrapped_and_not_decrypted(client: Client, key: str) -> None:
    made = client.generate_data_key(key, context=CONTEXT)
    assert client.unwrap_data_key(key, made.ciphertext, context=CONTEXT) == made.plaintext
    wrapped = client.generate_data_key_without_plaintext(key)
    assert len(client.unwrap_data_key(key, wrapped).reveal()) == 32
    with pytest.raises(errors.DecryptFailed):
        client.decrypt(key, wrapped)


def test_what_is_larger_than_a_message_may_be_is_told_so(dev: Dev, client: Client, key: str) -> None:
    async def call() -> None:
        async with AsyncClient(**dev.settings()) as aio:
            await aio.encrypt(key, bytes(5 << 20))

    for attempt in (
        lambda: client.encrypt(key, bytes(5 << 20)),
        lambda: client.encrypt(key, bytes((4 << 20) - 100)),
        lambda: list(client.crypt([CryptRequest.encrypt(1, key, bytes(5 << 20))])),
        lambda: asyncio.run(call()),
    ):
        with pytest.raises(errors.KeyreeveError) as caught:
            attempt()
        assert caught.value.reason in ("MESSAGE_TOO_LARGE", "INVALID_ARGUMENT"), caught.value
        assert "something between" not in str(caught.value)
        assert caught.value.request_id


def test_random_bytes_differ(client: Client) -> None:
    one, other = client.generate_random("dev", 32), client.generate_random("envs/dev", 32)
    assert len(one.reveal()) == 32
    assert one != other


def test_a_batch_has_a_result_for_each_item(client: Client, key: str) -> None:
    sealed = client.batch_encrypt(key, [b"a", EncryptItem(b"b", context=CONTEXT), b"x" * 70_000])
    assert isinstance(sealed[2], errors.InvalidArgument)
    assert isinstance(sealed[0], bytes)
    assert isinstance(sealed[1], bytes)
    opened = client.batch_decrypt(key, [sealed[0], DecryptItem(sealed[1], context=CONTEXT), sealed[1]])
    assert opened[:2] == [SecretBytes(b"a"), SecretBytes(b"b")]
    assert isinstance(opened[2], errors.DecryptFailed)
    made = client.batch_generate_data_key(key, [{}, CONTEXT])
    assert not any(isinstance(one, keyreeve.KeyreeveError) for one in made)
    wrapped = [DecryptItem(one.ciphertext, context) for one, context in zip(made, [{}, CONTEXT], strict=True)]  # type: ignore[union-attr]
    assert client.batch_unwrap_data_key(key, wrapped) == [one.plaintext for one in made]  # type: ignore[union-attr]


def test_a_stream_answers_every_tag_and_goes_on_after_a_failure(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"hello")
    made = client.generate_data_key(key)
    requests = [
        CryptRequest.decrypt(1, key, sealed),
        CryptRequest.decrypt(2, key, sealed, context={"not": "this"}),
        CryptRequest.generate_data_key(3, key),
        CryptRequest.unwrap_data_key(4, key, made.ciphertext),
        *(CryptRequest.encrypt(tag, key, b"x" * tag) for tag in range(5, 300)),
    ]
    answers = {answer.tag: answer for answer in client.crypt(requests)}
    assert set(answers) == set(range(1, 300))
    assert answers[1].result() == SecretBytes(b"hello")
    assert isinstance(answers[2].error, errors.DecryptFailed)
    assert answers[4].result() == made.plaintext
    with pytest.raises(errors.DecryptFailed):
        answers[2].result()


def test_a_stream_refuses_a_tag_that_is_under_way(client: Client, key: str) -> None:
    requests = (CryptRequest.encrypt(7, key, b"x") for _ in range(1000))
    with pytest.raises(errors.InvalidArgument, match="tag 7"):
        list(client.crypt(requests))


def test_a_stream_that_its_reader_leaves_is_ended(client: Client, key: str) -> None:
    endless = (CryptRequest.encrypt(tag, key, b"x") for tag in itertools.count())
    with client.crypt(endless) as answers:
        next(answers)
    assert client.encrypt(key, b"x")


def test_keys_go_through_their_states(client: Client, key: str) -> None:
    assert client.rotate_key(key).primary_version == 2
    assert client.suspend_key(key, reason="audit").state is KeyState.SUSPENDED
    with pytest.raises(errors.StateForbids):
        client.encrypt(key, b"x")
    assert client.resume_key(key).state is KeyState.ACTIVE
    assert client.destroy_key(key, version=1, wait_days=7).versions[0].destroy_time is not None
    assert client.cancel_key_destruction(key, version=1).versions[0].state is KeyState.DEACTIVATED
    assert client.deactivate_key(key).state is KeyState.DEACTIVATED
    assert client.compromise_key(key, reason="leak").state is KeyState.COMPROMISED
    assert client.attest_key(key).software_token


def test_a_change_is_made_once_however_often_it_is_asked(client: Client) -> None:
    request_id = "0b0a7f5e-6d2b-4c55-9d7b-2f61a6a0c001"
    first = client.create_key("dev/shop/once", labels={"tier": "1"}, request_id=request_id)
    assert client.create_key("dev/shop/once", labels={"tier": "1"}, request_id=request_id) == first
    with pytest.raises(errors.RequestIdReused):
        client.create_key("dev/shop/twice", request_id=request_id)
    with pytest.raises(errors.AlreadyExists):
        client.create_key("dev/shop/once")


def test_a_key_of_another_suite_has_its_limits(client: Client) -> None:
    made = client.create_key("dev/shop/in-token", suite=KeySuite.TOKEN_GCM)
    assert made.suite is KeySuite.TOKEN_GCM
    with pytest.raises(errors.InvalidArgument) as caught:
        client.encrypt(made.name, b"x" * 9000)
    assert caught.value.fields[0][0] == "plaintext"


def test_environments_teams_keys_and_the_service_are_shown(client: Client, key: str) -> None:
    assert [environment.name for environment in client.list_environments()] == ["envs/dev"]
    assert client.get_environment("dev").production is False
    assert client.create_team("dev/team-two").name == client.get_team("dev/team-two").name
    assert "envs/dev/teams/team-two" in [team.name for team in client.list_teams("dev")]
    assert key in [found.name for found in client.list_keys("dev/shop")]
    assert client.verify_keys("dev/shop").faults == ()
    status = client.get_status()
    assert status.tokens[0].breaker == "closed"
    assert status.start_time
    assert status.start_time.tzinfo
    with pytest.raises(errors.EnvironmentUnbound):
        client.create_environment("nowhere")
    with pytest.raises(errors.NotFound):
        client.get_key("dev/shop/absent")


def test_lists_of_many_pages_are_read_to_their_end(
    client: Client, new_key: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [new_key() for _ in range(5)]
    monkeypatch.setattr(keyreeve.operations, "_PAGE", 2)
    assert set(made) <= {found.name for found in client.list_keys("dev/shop")}


def test_an_application_that_may_not_open_is_told_so(dev: Dev, key: str) -> None:
    with Client(**dev.settings("app")) as app:
        assert app.who_am_i().identity == "spiffe://keyreeve.dev/app"
        sealed = app.encrypt(key, b"hello")
        with pytest.raises(errors.PermissionDenied, match="may not Decrypt"):
            app.decrypt(key, sealed)


def test_a_call_is_recorded_under_the_callers_request_id(client: Client) -> None:
    with keyreeve.request_id("job-7"), pytest.raises(errors.NotFound) as caught:
        client.get_key("dev/shop/absent")
    assert caught.value.request_id == "job-7"
    with pytest.raises(errors.InvalidArgument), keyreeve.request_id("not fit"):
        pass


def test_the_environment_tells_where_the_service_is(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dev.environment().items():
        monkeypatch.setenv(name, value)
    with Client() as client:
        assert client.who_am_i().roles == ("admin", "decrypter", "encrypter")


def test_the_async_client_does_the_same(dev: Dev, key: str) -> None:
    async def work() -> None:
        async with AsyncClient(**dev.settings()) as client:
            sealed = await asyncio.gather(*(client.encrypt(key, b"%d" % n, context=CONTEXT) for n in range(50)))
            opened = await client.batch_decrypt(key, [DecryptItem(one, CONTEXT) for one in sealed])
            assert opened == [SecretBytes(b"%d" % n) for n in range(50)]
            tags = {answer.tag async for answer in client.crypt(CryptRequest.encrypt(n, key, b"") for n in range(100))}
            assert tags == set(range(100))
            assert (await client.rotate_key(key)).primary_version == 2
            assert key in [found.name for found in await client.list_keys("dev/shop")]
            with pytest.raises(errors.NotFound):
                await client.get_key("dev/shop/absent")

    asyncio.run(work())
