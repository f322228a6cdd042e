"""The notes as the database holds them: whose, since when, and a ciphertext."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TABLE = (
    "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, user TEXT NOT NULL, made TEXT NOT NULL, body BLOB NOT NULL)"
)


class Listed(NamedTuple):
    id: str
    made: str


class Store:
    """One connection for each call: nothing is shared between threads, nor over a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        with self._connected() as database:
            database.execute(_TABLE)

    def add(self, note: str, user: str, body: bytes) -> None:
        with self._connected() as database:
            database.execute("INSERT INTO notes VALUES (?, ?, datetime('now'), ?)", (note, user, body))

    def of(self, user: str) -> list[Listed]:
        with self._connected() as database:
            rows = database.execute("SELECT id, made FROM notes WHERE user = ? ORDER BY made, id", (user,))
            return [Listed(*row) for row in rows]

    def body(self, note: str, user: str) -> bytes | None:
        with self._connected() as database:
            row = database.execute("SELECT body FROM notes WHERE id = ? AND user = ?", (note, user)).fetchone()
            return bytes(row[0]) if row else None

    def remove(self, note: str, user: str) -> None:
        with self._connected() as database:
            database.execute("DELETE FROM notes WHERE id = ? AND user = ?", (note, user))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path)) as database, database:
            yield database
