"""The notes behind a real gunicorn, against the real service."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.dev import Dev
from support.scripted import Failure, Scripted

import service
from app import create_app

HERE = Path(__file__).parent
CANARY = "canary-2b8e dear diary"


@dataclass
class Answer:
    status: int
    headers: Any
    json: Any


class Notes:
    """gunicorn with its workers."""

    def __init__(self, directory: Path, environment: dict[str, str], config: Path = HERE / "gunicorn.conf.py") -> None:
        self.database = directory / "notes.sqlite3"
        self.log = directory / "gunicorn.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", str(config), "--bind", "127.0.0.1:0"],
                cwd=HERE,
                env={**os.environ, **environment, "NOTES_DATABASE": str(self.database)},
                stdout=log,
                stderr=log,
            )
        self.url = until(lambda: re.search(r"Listening at: (\S+)", self.logged()), self._process)[1]

    def logged(self) -> str:
        return self.log.read_text()

    def ask(self, method: str, path: str, body: Any = None, *, user: str = "ada") -> Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Forwarded-User": user, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, answer.headers, json.loads(answer.read() or b"null"))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return Answer(error.code, error.headers, json.loads(text) if text.startswith(b"{") else None)

    def add(self, text: str = CANARY) -> str:
        answer = self.ask("POST", "/notes", {"text": text})
        assert answer.status == 201, self.logged()
        return str(answer.json["id"])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def until(found: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    deadline = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, "gunicorn ended"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def environment(dev: Dev, new_key: Callable[[], str]) -> dict[str, str]:
    return {**dev.environment(), "NOTES_KEY": new_key()}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Notes]:
    notes = Notes(tmp_path_factory.mktemp("notes"), environment)
    yield notes
    notes.stop()
    assert CANARY not in notes.logged()


def both_workers_answer(notes: Notes) -> bool:
    seen: set[int] = set()

    def another() -> bool:
        seen.add(notes.ask("GET", "/health").json["pid"])
        return len(seen) == 2

    return bool(until(another))


def test_a_note_opens_in_every_worker_and_the_database_does_not_hold_it(notes: Notes) -> None:
    note = notes.add()
    assert both_workers_answer(notes)
    for _ in range(8):
        answer = notes.ask("GET", f"/notes/{note}")
        assert answer.json == {"text": CANARY}
        assert answer.headers["Cache-Control"] == "no-store"
    assert CANARY.encode() not in notes.database.read_bytes()
    assert note.encode() in notes.database.read_bytes()


def test_a_note_is_its_users_alone(notes: Notes) -> None:
    note = notes.add()
    assert notes.ask("GET", f"/notes/{note}", user="grace").status == 404
    notes.ask("DELETE", f"/notes/{note}", user="grace")
    assert notes.ask("GET", f"/notes/{note}").status == 200
    notes.ask("DELETE", f"/notes/{note}")
    assert notes.ask("GET", f"/notes/{note}").status == 404


def test_a_row_that_is_given_to_another_user_in_the_database_does_not_open(notes: Notes) -> None:
    note = notes.add()
    with contextlib.closing(sqlite3.connect(notes.database)) as database, database:
        database.execute("UPDATE notes SET user = 'grace' WHERE id = ?", (note,))
    answer = notes.ask("GET", f"/notes/{note}", user="grace")
    assert answer.status == 500
    assert answer.json["request_id"] in notes.logged()
    assert "DECRYPT_FAILED" in notes.logged()


def test_while_the_service_is_gone_lists_go_on_and_notes_are_503_until_it_is_back(notes: Notes, dev: Dev) -> None:
    note = notes.add()
    address = dev.address
    dev.stop()
    try:
        for method, path, body in (("GET", f"/notes/{note}", None), ("POST", "/notes", {"text": CANARY})):
            begun = time.monotonic()
            answer = notes.ask(method, path, body)
            assert answer.status == 503
            assert 2 <= int(answer.headers["Retry-After"]) <= 4
            assert time.monotonic() - begun < service.DEADLINE + 2
        assert note in [listed["id"] for listed in notes.ask("GET", "/notes").json]
        assert notes.ask("GET", "/health").status == 200
    finally:
        dev.start(address)
    until(lambda: notes.ask("GET", f"/notes/{note}").status == 200)


def test_a_client_that_was_used_before_the_fork_is_replaced_in_the_workers(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    config = tmp_path / "warm.conf.py"
    used = "def when_ready(_):\n    import service\n    print('used before the fork:', service.client().who_am_i().identity)\n"
    config.write_text((HERE / "gunicorn.conf.py").read_text() + used)
    notes = Notes(tmp_path, environment, config)
    try:
        note = notes.add()
        assert both_workers_answer(notes)
        assert all(notes.ask("GET", f"/notes/{note}").json == {"text": CANARY} for _ in range(8))
        assert "used before the fork: spiffe://" in notes.logged()
    finally:
        notes.stop()


def test_what_is_no_note_or_more_than_one_call_takes_is_refused(notes: Notes) -> None:
    assert notes.ask("POST", "/notes", {"text": "x" * (64 << 10)}).status == 413
    bodies: list[Any] = [{}, [], {"text": 17}]
    for body in bodies:
        assert notes.ask("POST", "/notes", body).status == 400


def test_without_a_user_there_is_nothing(notes: Notes) -> None:
    assert notes.ask("GET", "/notes", user="").status == 401


def test_an_overloaded_service_says_when_to_come_back(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in scripted.settings().items():
        monkeypatch.setenv(f"KEYREEVE_{name.upper()}", value)
    service.client.cache_clear()
    scripted.script.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=7))
    browser = create_app(tmp_path / "notes.sqlite3").test_client()
    answer = browser.post("/notes", json={"text": CANARY}, headers={"X-Forwarded-User": "ada"})
    service.client().close()
    service.client.cache_clear()
    assert answer.status_code == 503
    assert 7 <= int(answer.headers["Retry-After"]) <= 14
    assert CANARY not in caplog.text + answer.text
    assert "OVERLOADED" in caplog.text
