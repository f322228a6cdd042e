"""The bytes of docs/formats.md, as `tests/vectors/formats-v1.json` fixes them for every language."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from keyreeve import context, inspect
from keyreeve.errors import InvalidArgument
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import ENVELOPE, PREFIX, Header, Wrapped
from keyreeve.sealed.payload import Opening, PayloadKey, Sealing


def test_a_context_has_its_canonical_bytes(vectors: Any) -> None:
    vector = vectors["encryption_context"]
    canonical = context.canonical(vector["map"])
    assert canonical.hex() == vector["canonical"]
    assert context.digest(canonical).hex() == vector["sha256"]
    assert context.parse(canonical) == vector["map"]


def test_the_empty_context_has_two_bytes(vectors: Any) -> None:
    vector = vectors["encryption_context"]
    assert context.canonical({}).hex() == vector["empty_canonical"]
    assert context.digest(context.canonical({})).hex() == vector["empty_sha256"]


def test_keys_are_sorted_by_their_bytes(vectors: Any) -> None:
    vector = vectors["encryption_context"]["non_ascii"]
    assert context.canonical(vector["map"]).hex() == vector["canonical"]
    assert context.parse(bytes.fromhex(vector["canonical"])) == vector["map"]


def test_thirty_two_pairs_fit(vectors: Any) -> None:
    vector = vectors["encryption_context"]["pairs_32"]
    canonical = context.canonical({f"k{n:02}": f"v{n}" for n in range(32)})
    found = (len(canonical), hashlib.sha256(canonical).hexdigest())
    assert found == (vector["length"], vector["sha256"])


def test_raw_associated_data_enters_as_its_hash(vectors: Any) -> None:
    vector = vectors["encryption_context"]["raw_aad"]
    assert context.canonical({}, bytes.fromhex(vector["aad"])).hex() == vector["canonical"]


def test_bytes_that_are_not_canonical_are_refused(vectors: Any) -> None:
    refused = vectors["encryption_context"]["refused"]
    assert len(refused) == 9
    for case in refused:
        with pytest.raises(InvalidArgument):
            context.parse(bytes.fromhex(case["bytes"]))


@pytest.fixture
def envelope(vectors: Any) -> bytes:
    return bytes.fromhex(vectors["data_key_envelope"]["envelope"])


def plaintext(text: str) -> bytes:
    if text.startswith("hex:"):
        return bytes.fromhex(text.removeprefix("hex:"))
    byte, count = text.split(" x ")
    return bytes.fromhex(byte) * int(count)


def sealed(vector: Any, header: Header, canonical: bytes, data: bytes) -> bytes:
    salt = bytes.fromhex(vector["salt"])
    return Sealing(bytes.fromhex(vector["data_key"]), header, canonical, salt=salt).whole(data)


def opened(vector: Any, message: bytes, canonical: bytes) -> bytes:
    payload = message[headers.length(message[:32]) :]
    opening = Opening(bytes.fromhex(vector["data_key"]), headers.parse(message), canonical, payload[:PREFIX])
    return opening.whole(payload[PREFIX:])


def test_payload_key_nonces_and_commitment(vectors: Any, envelope: bytes) -> None:
    vector = vectors["sealed_message"]
    canonical = bytes.fromhex(vectors["encryption_context"]["canonical"])
    header = Header(bytes.fromhex(vector["message_id"]), canonical, (Wrapped(ENVELOPE, envelope),))
    assert len(header.encode()) == vector["header_length"]
    key = PayloadKey(bytes.fromhex(vector["data_key"]), bytes.fromhex(vector["salt"]), header.bound, canonical)
    assert key.commitment.hex() == vector["commitment"]
    assert key._nonce(0).hex() == vector["nonce_base"]


@pytest.mark.parametrize("name", ["empty", "hello", "one_full_chunk", "chunk_and_quarter"])
def test_a_sealed_message_has_these_bytes(vectors: Any, envelope: bytes, name: str) -> None:
    vector = vectors["sealed_message"]
    case = next(case for case in vector["cases"] if case["name"] == name)
    canonical = bytes.fromhex(vectors["encryption_context"]["canonical"])
    header = Header(bytes.fromhex(vector["message_id"]), canonical, (Wrapped(ENVELOPE, envelope),))
    message = sealed(vector, header, canonical, plaintext(case["plaintext"]))
    assert (len(message), hashlib.sha256(message).hexdigest()) == (case["length"], case["sha256"])
    assert opened(vector, message, canonical) == plaintext(case["plaintext"])
    assert headers.parse(message) == header


def test_a_message_without_stored_context(vectors: Any, envelope: bytes) -> None:
    vector = vectors["sealed_message"]
    canonical = bytes.fromhex(vectors["encryption_context"]["canonical"])
    header = Header(bytes.fromhex(vector["message_id"]), None, (Wrapped(ENVELOPE, envelope),))
    message = sealed(vector, header, canonical, b"hello")
    expected = vector["hello_without_stored_context"]
    assert (len(message), hashlib.sha256(message).hexdigest()) == (expected["length"], expected["sha256"])
    assert inspect(message).context is None


def test_a_message_with_two_wrapped_keys(vectors: Any, envelope: bytes) -> None:
    vector = vectors["sealed_message"]
    expected = vector["hello_two_wrapped_keys"]
    canonical = bytes.fromhex(vectors["encryption_context"]["canonical"])
    wrapped = (Wrapped(9, bytes.fromhex("c0ffee")), Wrapped(ENVELOPE, envelope))
    header = Header(bytes.fromhex(vector["message_id"]), canonical, wrapped)
    message = sealed(vector, header, canonical, b"hello")
    assert len(header.encode()) == expected["header_length"]
    assert message.hex() == expected["message"]
    assert hashlib.sha256(message).hexdigest() == expected["sha256"]
    assert opened(vector, message, canonical) == b"hello"
    info = inspect(message)
    assert info.context == vectors["encryption_context"]["map"]
    assert info.key_ids == ("00112233-4455-6677-8899-aabbccddeeff",)
    assert info.identity.commitment.hex() == vector["commitment"]


def test_a_wrapped_data_key_tells_its_key_and_nothing_else_is_one(vectors: Any, envelope: bytes) -> None:
    about = headers.envelope(envelope)
    assert about is not None
    assert (about.key_id.hex(), about.key_version) == ("00112233445566778899aabbccddeeff", 7)
    in_token = envelope[:6] + b"\0\1" + envelope[8:28] + (60).to_bytes(4, "big") + bytes(60)
    assert headers.envelope(in_token) == about
    for other in (
        bytes.fromhex(vectors["envelope_prf_commit"]["envelope"]),
        envelope[:-1],
        envelope + b"x",
        envelope[:6] + b"\0\1" + envelope[8:],
        envelope[:28] + bytes(4) + envelope[32:],
        envelope[:24] + bytes(4) + envelope[28:],
        b"",
    ):
        assert headers.envelope(other) is None
