"""A table in parts, some of whose columns are sealed: `part-00000.parquet` in clear, `part-00000.card.sealed` beside it.

Each column of each part is one sealed message under a data key of its own, so that whoever counts the clear columns needs no key, and
whoever may open one column opens only that. Memory: one part at a time.

The context names table, column and part, and has the SHA-256 of the part in clear: where rows were changed, dropped or put into another
order, the column does not open, instead of giving them other rows' values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from keyreeve import Opener, Sealer


def write_parts(
    batches: Iterable[pa.RecordBatch], directory: Path, sealer: Sealer, *, table: str, sealed: Sequence[str]
) -> int:
    """Returns the number of parts. A part's clear columns are written last: a job that was killed left no part without its columns."""
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, batch in enumerate(batches, 1):
        clear = directory / f"part-{count - 1:05}.parquet"
        written = clear.with_suffix(".writing")
        pq.write_table(pa.Table.from_batches([batch.drop_columns(list(sealed))]), written)
        for column in sealed:
            message = sealer.seal(_ipc(batch.select([column])), context=_context(table, column, clear.stem, written))
            _beside(clear, column).write_bytes(message)
        written.rename(clear)
    return count


def read_parts(directory: Path, opener: Opener, *, table: str, sealed: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Part by part, with the sealed columns that are asked for."""
    for clear in sorted(directory.glob("part-*.parquet")):
        part = pq.read_table(clear)
        for column in sealed:
            message = _beside(clear, column).read_bytes()
            opened = opener.open(message, context=_context(table, column, clear.stem, clear))
            part = part.append_column(column, pa.ipc.open_stream(opened.reveal()).read_all().column(column))
        yield part


def _context(table: str, column: str, part: str, clear: Path) -> dict[str, str]:
    return {"table": table, "column": column, "part": part, "rows": hashlib.sha256(clear.read_bytes()).hexdigest()}


def _beside(clear: Path, column: str) -> Path:
    return clear.with_suffix(f".{column}.sealed")


def _ipc(batch: pa.RecordBatch) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())
