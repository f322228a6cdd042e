from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from keyreeve import Client
from keyreeve.errors import DecryptFailed, Unreachable
from support.dev import Dev

import start


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dev:
    """A service of our own, which we may stop, and the two files of the program."""
    service = Dev(tmp_path / "keyreeve")
    with service.running(), Client(**service.settings()) as client:
        client.create_key(start.KEY)
        for name in ("database", "mail"):
            context = {"file": f"{name}.sealed"}
            (tmp_path / f"{name}.sealed").write_bytes(
                client.sealer(start.KEY).seal(b"canary-" + name.encode(), context=context)
            )
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)
    return service


def test_it_waits_for_a_service_that_is_away(own: Dev, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def later() -> None:
        time.sleep(1.0)
        own.start(own.address)

    thread = threading.Thread(target=later)
    thread.start()
    assert start.main(tmp_path) == "serving, mail on"
    thread.join()
    own.stop()
    assert "waiting for database.sealed" in caplog.text
    assert "canary" not in caplog.text


def test_it_goes_on_without_what_it_can_do_without_and_says_so(
    own: Dev, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mail.sealed").write_bytes(b"broken")
    with own.running(own.address):
        assert start.main(tmp_path) == "serving, mail off"
    assert [r.levelno for r in caplog.records if "going on without mail.sealed" in r.message] == [logging.ERROR]


def test_it_does_not_wait_for_what_waiting_does_not_cure(own: Dev, tmp_path: Path) -> None:
    (tmp_path / "database.sealed").write_bytes((tmp_path / "mail.sealed").read_bytes())
    with own.running(own.address), pytest.raises(DecryptFailed):
        start.main(tmp_path)


def test_its_patience_ends(own: Dev, tmp_path: Path) -> None:
    with Client() as client, pytest.raises(Unreachable):
        start.needed(client, tmp_path / "database.sealed", patience=0.5)
