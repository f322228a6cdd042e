"""The double cannot be taken for the service: where it does not start, whom it does not answer, what it leaves behind (F4)."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyreeve import errors, testing
from keyreeve.testing import guard
from keyreeve.testing.guard import NotHere

HERE = {name: value for name, value in os.environ.items() if name not in (guard.OURS, *guard.OTHERS)}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (guard.OURS, *guard.OTHERS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", [guard.OURS, *guard.OTHERS])
@pytest.mark.parametrize("value", ["production", "PROD", " live "])
def test_it_does_not_start_where_the_environment_says_production(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.mkdtemp", None)  # nothing is written before
    with pytest.raises(NotHere, match=f"{name}=.*{guard.OURS}=test"):
        testing.Service()


def test_it_does_not_come_back_there_either(monkeypatch: pytest.MonkeyPatch) -> None:
    with testing.Service() as service:
        service.stop()
        monkeypatch.setenv("KEYREEVE_ENV", "production")
        with pytest.raises(NotHere):
            service.start()


def test_our_own_variable_says_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("KEYREEVE_ENV", "test")
    with testing.Service() as service:
        assert service.client().who_am_i()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.1.2.3:0", "192.0.2.1:7443", "[2001:db8::1]:0"])
def test_it_listens_on_loopback_only(address: str) -> None:
    with pytest.raises(NotHere, match="not loopback"):
        testing.Service(address=address)


@pytest.mark.parametrize("address", ["localhost:0", "keyreeve.example:7443", "127.0.0.1", "unix:/tmp/x", "", "x"])
def test_it_takes_no_name_whose_meaning_is_decided_elsewhere(address: str) -> None:
    with pytest.raises(NotHere, match="no address"):
        testing.Service(address=address)


def test_from_another_address_of_this_host_it_cannot_be_reached() -> None:
    with testing.Service() as service:
        port = int(service.address.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), 2).close()
        # Any address of the host but the one it listens on will do.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 2)


def test_a_peer_from_elsewhere_gets_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {
        "ipv4:127.0.0.1:4711": True,
        "ipv6:%5B::1%5D:4711": True,
        "ipv6:[::1]:4711": True,
        "ipv4:10.1.2.3:4711": False,
        "ipv6:%5B2001:db8::1%5D:4711": False,
        "unix:/tmp/socket": False,
        "": False,
    }
    assert {peer: guard.is_loopback_peer(peer) for peer in peers} == peers
    with testing.Service() as service:
        client = service.client()
        monkeypatch.setattr(guard, "is_loopback_peer", lambda _: False)
        with pytest.raises(errors.Unauthenticated, match="its own host only"):
            client.who_am_i()


def test_it_says_once_what_it_is() -> None:
    code = "from keyreeve import testing\nfor _ in range(3): testing.Service().close()"
    said = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=True)
    assert said.stderr == guard.WARNING
    assert said.stdout == ""


def test_its_files_are_for_the_owner_alone_and_go_with_it() -> None:
    service = testing.Service()
    directory = Path(service.settings()["key"]).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    service.close()
    assert not directory.exists()


def test_a_process_that_forgets_to_close_it_leaves_nothing() -> None:
    code = "from keyreeve import testing\nprint(testing.Service().settings()['key'])"
    said = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=True)
    assert not Path(said.stdout.strip()).parent.exists()


def test_its_keys_die_with_it() -> None:
    service = testing.Service()
    client = service.client()
    client.create_key("dev/shop/orders")
    held = service._directory.keys
    service.close()
    assert held == {}
    with pytest.raises(NotHere, match="keys are gone"):
        service.start()


def test_no_key_shows_in_what_it_prints_of_itself() -> None:
    with testing.Service() as service:
        key = service.client().create_key("dev/shop/orders").name
        secret = service._directory.keys[key].versions[0].secret
        assert secret is not None
        shown = repr((service, service._dispatch, service._directory, service._directory.keys[key], service.records))
        assert repr(secret) == "SecretBytes(version key)"
        for form in (secret.reveal().hex(), repr(secret.reveal())[2:-1]):
            assert form not in shown
