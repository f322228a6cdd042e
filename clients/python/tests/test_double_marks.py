"""Every ciphertext of the double shows that it is one; the service opens none of them, and the double none of the service's (F4)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from support import rust_double
from support.dev import Dev
from support.rust_double import RustDouble

from keyreeve import Client, DecryptItem, errors, testing
from keyreeve.testing import is_test_ciphertext, is_test_key_id
from keyreeve.testing.marks import new_key_id


@pytest.fixture(scope="module")
def double() -> Iterator[Client]:
    with testing.Service() as service:
        yield service.client()


def ciphertexts(client: Client, key: str) -> list[bytes]:
    """One of each kind."""
    sealed = client.encrypt(key, b"hello")
    return [
        sealed,
        client.reencrypt(key, sealed),
        client.generate_data_key(key).ciphertext,
        client.generate_data_key_without_plaintext(key),
        client.batch_encrypt(key, [b"x"])[0],  # type: ignore[list-item]
        client.sealer(key).seal(b"hello"),
        client.sealer(key).seal(b"hello", context={"a": "b"}, store_context=True),
    ]


def test_every_kind_of_ciphertext_is_marked_and_those_of_the_service_are_not(
    double: Client, client: Client, key: str
) -> None:
    double.create_key(key)
    assert [is_test_ciphertext(one) for one in ciphertexts(double, key)] == [True] * 7
    assert [is_test_ciphertext(one) for one in ciphertexts(client, key)] == [False] * 7
    for junk in (b"", b"x" * 200, b"\xe5ENV", ciphertexts(double, key)[0][:20]):
        assert not is_test_ciphertext(junk)


@pytest.mark.skipif(not rust_double.BINARY.is_file(), reason="keyreeve-double is not built")
def test_what_the_rust_double_seals_is_marked_too() -> None:
    with RustDouble() as double, Client(**double.settings()) as client:
        created = client.create_key("dev/shop/orders")
        assert is_test_key_id(created.id)
        assert [is_test_ciphertext(one) for one in ciphertexts(client, "dev/shop/orders")] == [True] * 7


def test_a_mark_is_a_uuid_that_the_service_never_draws() -> None:
    drawn = {new_key_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert {one.version for one in drawn} == {8}
    assert all(str(one).startswith("646f7562-6c65-8") and one.variant == uuid.RFC_4122 for one in drawn)
    for one in drawn:
        assert is_test_key_id(one)
        assert is_test_key_id(str(one))
        assert is_test_key_id(one.bytes)
    for other in (uuid.uuid4(), "", "x", b"double", uuid.UUID(bytes=b"double" + bytes(10))):
        assert not is_test_key_id(other)


def test_neither_opens_what_the_other_has_sealed(double: Client, client: Client, key: str) -> None:
    double.create_key(key)
    assert is_test_key_id(double.get_key(key).id)
    assert not is_test_key_id(client.get_key(key).id)
    for one, other in ((double, client), (client, double)):
        sealed = one.encrypt(key, b"hello")
        wrapped = one.generate_data_key(key).ciphertext
        message = one.sealer(key).seal(b"hello")
        with pytest.raises(errors.DecryptFailed):
            other.decrypt(key, sealed)
        with pytest.raises(errors.DecryptFailed):
            other.unwrap_data_key(key, wrapped)
        with pytest.raises(errors.DecryptFailed):
            other.reencrypt(key, sealed)
        with pytest.raises(errors.DecryptFailed):
            other.opener(key).open(message)
        assert isinstance(other.batch_decrypt(key, [DecryptItem(sealed)])[0], errors.DecryptFailed)


def test_the_mark_cannot_be_taken_off(double: Client, dev: Dev, client: Client, key: str) -> None:
    double.create_key(key)
    sealed = double.encrypt(key, b"hello")
    unmarked = sealed[:8] + uuid.UUID(client.get_key(key).id).bytes + sealed[24:]
    assert not is_test_ciphertext(unmarked)
    for one in (double, client):
        with pytest.raises(errors.DecryptFailed):
            one.decrypt(key, unmarked)
