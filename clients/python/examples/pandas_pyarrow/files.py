"""Whole Parquet files as sealed messages: written as they are made, read by row group and column. No plaintext on the disk.

Everything is sealed, names of columns and statistics included. Memory: one row group.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from keyreeve import Context, Identity, Opener, Sealer, inspect

# A header has 64 KiB at most; salt and commitment follow it.
_HEAD = 65536 + 56


def seal_parquet(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path, sealer: Sealer, *, context: Context
) -> Identity:
    """One row group for each batch. `target` takes its name when it is whole. Returns what tells this file from any other."""
    beside = target.with_name(f".{target.name}.writing")
    try:
        with beside.open("wb") as file:
            for sealed in sealer.seal_chunks(_parquet(batches, schema), context=context):
                file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)
    with target.open("rb") as file:
        return inspect(file.read(_HEAD)).identity


def open_parquet(
    source: BinaryIO, opener: Opener, *, context: Context, expect: Identity | None = None
) -> pq.ParquetFile:
    """Reads and verifies only the chunks of what is asked for. `expect`: this file, not an older one that was put in its place."""
    reader = opener.reader(source, context=context, expect=expect)
    # The footer stands at the end: whoever reads it has proved that the file is whole.
    return pq.ParquetFile(pa.PythonFile(reader, mode="r"), pre_buffer=False)


class _Taken(io.RawIOBase):
    """What the Parquet writer wrote since it was asked last."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    """The bytes of the file as they are made. If a batch fails, so does the sealing, and there is no file."""
    taken = _Taken()
    with pq.ParquetWriter(pa.PythonFile(taken, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield taken.take()
    yield taken.take()
