"""A column of a DataFrame, each value encrypted for its row, by batch calls: for columns that are opened row by row.

Costs 124 bytes a value and one call for up to 1,000 values. For columns that are read as a whole `parts.py` is smaller and faster.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import pandas as pd
from keyreeve import Client, DecryptItem, EncryptItem, KeyreeveError, SecretBytes

T = TypeVar("T", EncryptItem, DecryptItem)
V = TypeVar("V", str, bytes)
R = TypeVar("R", bytes, SecretBytes)

# Of one call.
MOST_ITEMS, MOST_BYTES = 1000, 1 << 20


class RowsFailed(Exception):
    """Some values could not be encrypted or opened. `errors` has each row's error; none shows a value."""

    def __init__(self, errors: Mapping[Hashable, KeyreeveError]) -> None:
        first, error = next(iter(errors.items()))
        super().__init__(f"{len(errors)} values failed; the first, of row {first!r}: {error}")
        self.errors = errors


def seal_rows(client: Client, key: str, values: pd.Series[str], *, table: str) -> pd.Series[bytes]:
    """Ciphertexts, under the same labels. The label is the row's identity: it must be there again when the value is opened."""
    named = _named(values, table)
    items = ((row, EncryptItem(value.encode(), context=named | {"row": str(row)})) for row, value in _present(values))
    sealed: dict[Hashable, bytes] = {}
    for rows, batch in _batches(items):
        sealed |= _whole(rows, client.batch_encrypt(key, batch))
    return pd.Series(sealed, dtype=object, name=values.name).reindex(values.index)


def open_rows(client: Client, key: str, sealed: pd.Series[bytes], *, table: str) -> pd.Series[str]:
    """The values in clear: a frame that holds them shows them wherever it is printed."""
    named = _named(sealed, table)
    items = ((row, DecryptItem(value, named | {"row": str(row)})) for row, value in _present(sealed))
    opened: dict[Hashable, str] = {}
    for rows, batch in _batches(items):
        found = _whole(rows, client.batch_decrypt(key, batch))
        opened |= {row: secret.reveal().decode() for row, secret in found.items()}
    return pd.Series(opened, dtype=object, name=sealed.name).reindex(sealed.index)


def _named(values: pd.Series[V], table: str) -> dict[str, str]:
    if not values.index.is_unique:
        raise ValueError("the index names the rows, so each label may be there once: `set_index` an identifier first")
    return {"table": table, "column": str(values.name)}


def _present(values: pd.Series[V]) -> Iterator[tuple[Hashable, V]]:
    return ((row, value) for row, value in values.items() if value is not None and value == value)


def _batches(items: Iterable[tuple[Hashable, T]]) -> Iterator[tuple[list[Hashable], list[T]]]:
    """What fits into one call."""
    rows: list[Hashable] = []
    batch: list[T] = []
    size = 0
    for row, item in items:
        more = _size(item)
        if batch and (len(batch) == MOST_ITEMS or size + more > MOST_BYTES):
            yield rows, batch
            rows, batch, size = [], [], 0
        rows.append(row)
        batch.append(item)
        size += more
    if batch:
        yield rows, batch


def _size(item: EncryptItem | DecryptItem) -> int:
    return len(item.ciphertext) if isinstance(item, DecryptItem) else len(item.plaintext.reveal())


def _whole(rows: list[Hashable], answers: list[R | KeyreeveError]) -> dict[Hashable, R]:
    """A batch answers item by item: one that failed is no exception until somebody looks."""
    failed = {row: answer for row, answer in zip(rows, answers, strict=True) if isinstance(answer, KeyreeveError)}
    if failed:
        raise RowsFailed(failed)
    return {row: answer for row, answer in zip(rows, answers, strict=True) if not isinstance(answer, KeyreeveError)}
