"""The service in memory does what the real one does: each test runs on both."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keyreeve import Client, CryptRequest, DecryptItem, KeyState, KeySuite, SecretBytes, context, errors
from keyreeve.testing import AsyncMemoryClient, Memory, MemoryClient, envelope

CONTEXT = {"table": "orders"}
_numbers = itertools.count(1)

Act = Callable[[Client, str], object]


@pytest.fixture(params=["service", "memory"])
def either(request: pytest.FixtureRequest, shared_client: Client) -> Iterator[Client]:
    if request.param == "service":
        yield shared_client
    else:
        with MemoryClient() as client:
            yield client


@pytest.fixture
def either_key(either: Client) -> str:
    return either.create_key(f"dev/shop/double-{next(_numbers)}", labels={"tier": "1"}).name


def test_messages_open_with_their_context_only(either: Client, either_key: str) -> None:
    sealed = either.encrypt(either_key, b"hello", context=CONTEXT, aad=b"raw")
    assert len(sealed) == 124 + 5
    assert either.decrypt(either_key, sealed, context=CONTEXT, aad=b"raw").reveal() == b"hello"
    for wrong in (sealed[:-1], sealed + b"x", b"", sealed[:30], bytes(200), sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(errors.DecryptFailed):
            either.decrypt(either_key, wrong, context=CONTEXT, aad=b"raw")
    with pytest.raises(errors.DecryptFailed) as caught:
        either.decrypt(either_key, sealed, context=CONTEXT)
    assert caught.value.request_id


def test_data_keys_and_messages_are_told_apart(either: Client, either_key: str) -> None:
    made = either.generate_data_key(either_key, context=CONTEXT)
    assert either.unwrap_data_key(either_key, made.ciphertext, context=CONTEXT) == made.plaintext
    with pytest.raises(errors.DecryptFailed):
        either.decrypt(either_key, made.ciphertext, context=CONTEXT)
    moved = either.reencrypt(either_key, made.ciphertext, context=CONTEXT, to_context={})
    assert either.unwrap_data_key(either_key, moved) == made.plaintext
    assert len(either.generate_random("dev", 10).reveal()) == 10


ACTS: dict[str, Act] = {
    "rotate": lambda c, k: c.rotate_key(k),
    "suspend": lambda c, k: c.suspend_key(k),
    "resume": lambda c, k: c.resume_key(k),
    "deactivate": lambda c, k: c.deactivate_key(k),
    "compromise": lambda c, k: c.compromise_key(k),
    "destroy": lambda c, k: c.destroy_key(k),
    "cancel": lambda c, k: c.cancel_key_destruction(k),
    "encrypt": lambda c, k: c.encrypt(k, b"x"),
}


def what(act: Act, client: Client, key: str) -> str:
    try:
        act(client, key)
    except errors.KeyreeveError as error:
        return error.reason
    return "OK"


@pytest.mark.parametrize("first", [name for name in ACTS if name != "encrypt"])
def test_two_changes_in_a_row_end_as_in_the_service(shared_client: Client, first: str) -> None:
    for second in ACTS:
        found = []
        for client in (shared_client, MemoryClient()):
            key = client.create_key(f"dev/shop/double-{next(_numbers)}").name
            sealed = client.encrypt(key, b"x")
            reasons = [what(ACTS[name], client, key) for name in (first, second)]
            opened = what(lambda c, k, s=sealed: c.decrypt(k, s), client, key)  # type: ignore[misc]
            shown = client.get_key(key)
            found.append((reasons, opened, shown.primary_version, [version.state for version in shown.versions]))
        assert found[0] == found[1], f"{first}, {second}"


def test_a_change_is_made_once_for_its_request_id(either: Client, either_key: str) -> None:
    request_id = f"0b0a7f5e-6d2b-4c55-9d7b-{next(_numbers):012}"
    one, again = (either.rotate_key(either_key, request_id=request_id) for _ in range(2))
    assert one.primary_version == again.primary_version == 2
    with pytest.raises(errors.RequestIdReused):
        either.rotate_key(either.create_key(f"dev/shop/double-{next(_numbers)}").name, request_id=request_id)


def test_batches_streams_and_limits(either: Client, either_key: str) -> None:
    sealed = either.batch_encrypt(either_key, [b"a", b"x" * 70_000])
    assert isinstance(sealed[0], bytes)
    assert isinstance(sealed[1], errors.InvalidArgument)
    opened = either.batch_decrypt(either_key, [sealed[0], DecryptItem(sealed[0], CONTEXT)])
    assert opened[0] == SecretBytes(b"a")
    assert isinstance(opened[1], errors.DecryptFailed)
    made = either.batch_generate_data_key(either_key, [CONTEXT])
    assert not isinstance(made[0], errors.KeyreeveError)
    assert either.batch_unwrap_data_key(either_key, [DecryptItem(made[0].ciphertext, CONTEXT)]) == [made[0].plaintext]
    with either.crypt([CryptRequest.encrypt(1, either_key, b"x"), CryptRequest.decrypt(2, either_key, b"")]) as answers:
        found = {answer.tag: answer for answer in answers}
    assert isinstance(found[1].result(), bytes)
    assert isinstance(found[2].error, errors.DecryptFailed)


def test_names_are_found_listed_and_not_doubled(either: Client, either_key: str) -> None:
    shown = either.get_key(either_key)
    assert (shown.state, shown.suite, dict(shown.labels)) == (KeyState.ACTIVE, KeySuite.PRF_COMMIT, {"tier": "1"})
    assert shown.name in [key.name for key in either.list_keys("dev/shop")]
    assert "envs/dev/teams/shop" in [team.name for team in either.list_teams("dev")]
    assert either.get_environment("dev") in either.list_environments()
    assert either.verify_keys("dev/shop").faults == ()
    with pytest.raises(errors.AlreadyExists):
        either.create_key(either_key)
    with pytest.raises(errors.NotFound):
        either.encrypt("dev/shop/absent", b"")
    in_token = either.create_key(f"dev/shop/double-{next(_numbers)}", suite=KeySuite.TOKEN_GCM).name
    assert len(either.encrypt(in_token, b"hello")) == 60 + 5
    with pytest.raises(errors.InvalidArgument):
        either.encrypt(in_token, b"x" * 8193)


def test_sealing_works_the_same(either: Client, either_key: str) -> None:
    other = either.create_key(f"dev/shop/double-{next(_numbers)}").name
    message = either.sealer(either_key).seal(b"hello" * 9000, context=CONTEXT, store_context=True)
    assert either.opener(either_key).open(message, required=CONTEXT).reveal() == b"hello" * 9000
    moved = either.opener(either_key).rewrap(message, other, context=CONTEXT)
    assert either.opener(other).open(moved, context=CONTEXT).reveal() == b"hello" * 9000
    with pytest.raises(errors.DecryptFailed):
        either.opener(either_key).open(moved, context=CONTEXT)


def test_the_memorys_envelopes_have_the_bytes_of_the_page(vectors: Any) -> None:
    for name, suite in (("envelope_prf_commit", envelope.PRF_COMMIT), ("envelope_token_gcm", envelope.TOKEN_GCM)):
        vector = vectors[name]
        digest = context.digest(bytes.fromhex(vectors["encryption_context"]["canonical"]))
        sealed = envelope.seal(
            bytes.fromhex(vector["key"]),
            suite,
            bytes.fromhex(vector["key_id"]),
            vector["key_version"],
            bytes.fromhex(vector["plaintext"]),
            digest,
            salt=bytes.fromhex(vector.get("salt", "")),
            iv=bytes.fromhex(vector["iv"]),
        )
        assert sealed.hex() == vector["envelope"]


def test_failures_come_as_they_are_ordered_and_calls_are_counted() -> None:
    memory = Memory()
    client = MemoryClient(memory, data_key_cache=True)
    client.create_key("dev/shop/orders")
    memory.fail(errors.Unreachable("gone"), times=2)
    for _ in range(2):
        with pytest.raises(errors.Unreachable):
            client.encrypt("dev/shop/orders", b"x")
    sealer = client.sealer("dev/shop/orders")
    assert [len(sealer.seal(b"x")) for _ in range(3)] == [len(sealer.seal(b"x"))] * 3
    assert memory.calls == ["CreateKey", "Encrypt", "Encrypt", "GenerateDataKey"]
    client.close()
    with pytest.raises(errors.ClientClosed):
        client.encrypt("dev/shop/orders", b"x")


def test_the_async_client_in_memory_does_the_same() -> None:
    async def work() -> None:
        async with AsyncMemoryClient() as client:
            await client.create_key("dev/shop/orders")
            sealed = await client.encrypt("dev/shop/orders", b"x", context=CONTEXT)
            assert (await client.decrypt("dev/shop/orders", sealed, context=CONTEXT)).reveal() == b"x"
            message = await client.sealer("dev/shop/orders").seal(b"x")
            assert (await client.opener("dev/shop/orders").open(message)).reveal() == b"x"
            tags = [a.tag async for a in client.crypt([CryptRequest.encrypt(1, "dev/shop/orders", b"")])]
            assert tags == [1]

    asyncio.run(work())
