from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from keyreeve import Client
from support.dev import Dev

import app as example


def test_notes_are_kept_encrypted_and_come_back(dev: Dev, client: Client, environment: None) -> None:
    client.create_key(example.KEY)
    with TestClient(example.app) as http:
        made = http.post("/notes", content="meet at noon", headers={"content-type": "text/plain"})
        note_id = made.json()["id"]
        assert b"noon" not in example.notes[note_id]
        assert http.get(f"/notes/{note_id}").json() == {"text": "meet at noon"}
        assert http.get("/notes/absent").status_code == 404


def test_a_note_in_the_place_of_another_is_refused(client: Client, environment: None) -> None:
    with TestClient(example.app) as http:
        one, other = (http.post("/notes", content=text).json()["id"] for text in ("one", "other"))
        example.notes[one] = example.notes[other]
        answer = http.get(f"/notes/{one}")
    assert answer.status_code == 500
    assert answer.json()["error"] == "DECRYPT_FAILED"
    assert answer.json()["request_id"]


def test_who_may_not_open_gets_403(
    dev: Dev, client: Client, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dev.settings("app")
    monkeypatch.setenv("KEYREEVE_CERT", settings["cert"])
    monkeypatch.setenv("KEYREEVE_KEY", settings["key"])
    with TestClient(example.app) as http:
        note_id = http.post("/notes", content="mine").json()["id"]
        assert http.get(f"/notes/{note_id}").status_code == 403
