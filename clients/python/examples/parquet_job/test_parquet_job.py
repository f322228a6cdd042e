from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from parquet_job import job

from keyreeve import Client
from keyreeve.errors import DecryptFailed


class Counting:
    """A file that counts what is read of it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "rb")  # noqa: SIM115 - closed by the test
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.bytes_read += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rows = 100_000
    return pa.table({"amount": [n % 1000 for n in range(rows)], "blob": [os.urandom(40) for _ in range(rows)]})


def test_a_job_reads_one_column_and_little_else(client: Client, table: pa.Table, tmp_path: Path) -> None:
    client.create_key(job.KEY)
    sealed = tmp_path / "sales.sealed"
    job.seal(client, table, sealed, "sales")
    assert job.total(client, sealed, "amount", "sales") == pc.sum(table["amount"]).as_py()
    counting = Counting(sealed)
    reader = client.opener(job.KEY).reader(counting, context={"dataset": "sales"})  # type: ignore[arg-type]
    job.column(reader, "amount")
    assert reader.complete
    assert counting.bytes_read < sealed.stat().st_size / 4
    counting.file.close()


def test_a_file_that_was_cut_or_exchanged_is_refused(client: Client, table: pa.Table, tmp_path: Path) -> None:
    sealed = tmp_path / "sales.sealed"
    job.seal(client, table.slice(0, 5000), sealed, "sales")
    with pytest.raises(DecryptFailed):
        job.total(client, sealed, "amount", "refunds")
    sealed.write_bytes(sealed.read_bytes()[:-16400])
    with pytest.raises(DecryptFailed):
        job.total(client, sealed, "amount", "sales")
