"""Certificates that change on disk are taken up, whole or not at all; settings that cannot work are refused with a reason."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from support.certificates import Authority
from support.scripted import Failure, Scripted

from keyreeve import AsyncClient, Client, Event, config, credentials, errors
from keyreeve.connections import Connections
from keyreeve.events import Events
from keyreeve.v1 import crypto_pb2

KEY = "dev/shop/orders"


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyreeve.connections.LOOK_EVERY", 0.0)


@pytest.fixture
def service(scripted: Scripted) -> Scripted:
    scripted.answers["Encrypt"] = lambda _: crypto_pb2.EncryptResponse(ciphertext=b"sealed")
    return scripted


def peer(service: Scripted) -> str:
    pem = service.peers[-1]
    assert isinstance(pem, bytes)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names.get_values_for_type(x509.UniformResourceIdentifier)[0])


def test_a_new_certificate_is_used_for_the_next_call(service: Scripted, authority: Authority) -> None:
    told: list[Event] = []
    with Client(**service.settings(), on_event=told.append) as client:
        client.encrypt(KEY, b"x")
        assert peer(service) == "spiffe://test/client"
        authority.issue("client", uri="spiffe://test/renewed")
        client.encrypt(KEY, b"x")
        assert peer(service) == "spiffe://test/renewed"
    assert [(event.name, event.detail) for event in told if event.name != "call"] == [
        ("certificate_reloaded", "spiffe://test/renewed")
    ]


def test_the_same_for_the_async_client(service: Scripted, authority: Authority) -> None:
    async def work() -> None:
        async with AsyncClient(**service.settings()) as client:
            await client.encrypt(KEY, b"x")
            authority.issue("client", uri="spiffe://test/renewed")
            await asyncio.gather(*(client.encrypt(KEY, b"x") for _ in range(20)))
            assert peer(service) == "spiffe://test/renewed"

    asyncio.run(work())


def test_files_in_the_middle_of_their_change_are_left_until_they_fit(service: Scripted, authority: Authority) -> None:
    told: list[Event] = []
    settings = service.settings()
    with Client(**settings, on_event=told.append) as client:
        client.encrypt(KEY, b"x")
        key = Path(settings["key"]).read_bytes()
        _, new_key_file = authority.issue("client", uri="spiffe://test/renewed")
        new_key = new_key_file.read_bytes()
        new_key_file.write_bytes(key)
        client.encrypt(KEY, b"x")
        assert peer(service) == "spiffe://test/client"
        assert "certificate_unusable" in [event.name for event in told]
        new_key_file.write_bytes(new_key)
        client.encrypt(KEY, b"x")
        assert peer(service) == "spiffe://test/renewed"


def test_a_refused_certificate_is_tried_again_if_its_files_have_changed(
    service: Scripted, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Failure(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    with Client(**service.settings()) as client:
        client.encrypt(KEY, b"x")
        monkeypatch.setattr("keyreeve.connections.LOOK_EVERY", 3600.0)
        service.script.append(refused)
        authority.issue("client", uri="spiffe://test/renewed")
        assert client.encrypt(KEY, b"x") == b"sealed"
        assert peer(service) == "spiffe://test/renewed"
        service.script.append(refused)
        with pytest.raises(errors.Unauthenticated):
            client.encrypt(KEY, b"x")


def test_an_old_connection_is_closed_when_its_last_call_has_ended(service: Scripted, authority: Authority) -> None:
    closed: list[str] = []
    found = service.settings()
    settings = config.load(found["addr"], found["ca"], found["cert"], found["key"], 10.0)
    connections = Connections(settings, Events(None), lambda address, who: who.identity, closed.append)
    first, again = connections.lease("a:1"), connections.lease("a:1")
    assert first is again
    authority.issue("client", uri="spiffe://test/renewed")
    assert connections.lease("a:1").channel == "spiffe://test/renewed"
    connections.release(first)
    assert closed == []
    connections.release(again)
    assert closed == ["spiffe://test/client"]


def test_calls_under_way_end_on_the_old_connection(service: Scripted, authority: Authority) -> None:
    def slowly(_: Any) -> crypto_pb2.EncryptResponse:
        time.sleep(0.5)
        return crypto_pb2.EncryptResponse(ciphertext=b"slow", ciphertext_crc32c=0x18F0A6F4)

    async def work() -> None:
        async with AsyncClient(**service.settings()) as client:
            await client.encrypt(KEY, b"x")
            service.script.append(slowly)
            slow = asyncio.create_task(client.encrypt(KEY, b"x"))
            await asyncio.sleep(0.1)
            authority.issue("client", uri="spiffe://test/renewed")
            assert await client.encrypt(KEY, b"x") == b"sealed"
            with pytest.raises(errors.ChecksumMismatch):
                await slow

    asyncio.run(work())


def test_a_server_of_another_authority_is_not_trusted(service: Scripted, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    settings = service.settings() | {"ca": str(Authority(tmp_path / "other").ca)}
    with Client(**settings) as client, pytest.raises(errors.Unreachable):
        client.encrypt(KEY, b"x")
    assert service.seen == []


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("cert", b"nothing", "no certificate"),
        ("ca", b"", "no certificate"),
        ("key", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "no private key"),
        ("key", None, "cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_named(service: Scripted, file: str, content: bytes | None, problem: str) -> None:
    settings = service.settings()
    path = Path(settings[file])
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises(errors.ConfigurationError, match=problem) as caught:
        Client(**settings)
    assert str(path) in str(caught.value)


def test_a_key_of_another_certificate_is_refused_and_no_key_is_shown(service: Scripted, authority: Authority) -> None:
    _, other = authority.issue("other")
    with pytest.raises(errors.ConfigurationError, match="is not the private key of"):
        Client(**(service.settings() | {"key": str(other)}))
    settings = service.settings()
    found = credentials.read(config.load(settings["addr"], settings["ca"], settings["cert"], settings["key"], 10.0))
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize(
    ("address", "endpoints"),
    [
        ("localhost:7443", ("localhost:7443",)),
        ("https://localhost:7443", ("localhost:7443",)),
        ("https://[::1]:7443/", ("[::1]:7443",)),
        ("a:1, https://b:2,a:1", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
    ],
)
def test_addresses_with_and_without_scheme_mean_the_same(address: Any, endpoints: tuple[str, ...]) -> None:
    assert config.load(address, "ca", "cert", "key", 10.0).endpoints == endpoints


@pytest.mark.parametrize(
    "address", ["http://a:1", "a", "https://a", "unix:///run/x", "https://:1", "https://a:x", "a:1/path"]
)
def test_addresses_that_cannot_work_are_refused(address: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="is no address"):
        config.load(address, "ca", "cert", "key", 10.0)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDR", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"KEYREEVE_{name}", raising=False)
    with pytest.raises(errors.ConfigurationError, match=r"`cert` \(KEYREEVE_CERT\), `key` \(KEYREEVE_KEY\) missing"):
        Client("a:1", ca="ca")
    with pytest.raises(errors.ConfigurationError, match="a deadline of 61 s"):
        config.load("a:1", "ca", "cert", "key", 61)
