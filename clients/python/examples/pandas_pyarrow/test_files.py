"""Whole files: nothing in clear on the disk, parts by random access, memory of one row group."""

from __future__ import annotations

import io
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from keyreeve import Client, Identity, errors
from support.dev import Dev

from files import open_parquet, seal_parquet
from job import PART, SCHEMA, customers

ROWS = 10 * PART
CONTEXT = {"table": "customers", "file": "2026-11"}


@pytest.fixture(scope="module")
def key(new_key: Callable[[], str]) -> str:
    return new_key()


@pytest.fixture(scope="module")
def sealed(shared_client: Client, key: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identity]:
    path = tmp_path_factory.mktemp("files") / "customers.sealed"
    return path, seal_parquet(customers(ROWS), SCHEMA, path, shared_client.sealer(key), context=CONTEXT)


class Counted(io.FileIO):
    """Counts what is read of it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self.read_bytes += len(data)
        return data


def test_the_file_comes_back_and_holds_nothing_in_clear(
    shared_client: Client, key: str, sealed: tuple[Path, Identity]
) -> None:
    path, identity = sealed
    with path.open("rb") as source:
        assert open_parquet(
            source, shared_client.opener(key), context=CONTEXT, expect=identity
        ).read() == pa.Table.from_batches(customers(ROWS))
    whole = path.read_bytes()
    assert not any(clear in whole for clear in (b"4000 ", b"PAR1", b"city"))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_one_column_of_one_row_group_is_read_without_the_rest(
    shared_client: Client, key: str, sealed: tuple[Path, Identity]
) -> None:
    path, _ = sealed
    with Counted(path) as source:
        file = open_parquet(source, shared_client.opener(key), context=CONTEXT)
        assert file.read_row_group(7, columns=["city"]).num_rows == PART
        assert file.num_row_groups == 10
        assert source.read_bytes < path.stat().st_size / 10


def test_another_context_or_an_older_file_is_refused(
    shared_client: Client, key: str, sealed: tuple[Path, Identity], tmp_path: Path
) -> None:
    path, identity = sealed
    newer = tmp_path / "newer"
    pinned = seal_parquet(customers(5), SCHEMA, newer, shared_client.sealer(key), context=CONTEXT)
    assert pinned != identity
    with path.open("rb") as source, pytest.raises(errors.UnexpectedMessage):
        open_parquet(source, shared_client.opener(key), context=CONTEXT, expect=pinned)
    with path.open("rb") as source, pytest.raises(errors.DecryptFailed):
        open_parquet(source, shared_client.opener(key), context=CONTEXT | {"file": "2026-10"})


def test_a_changed_byte_and_a_missing_end_come_out_as_errors_without_plaintext(
    shared_client: Client, key: str, sealed: tuple[Path, Identity], tmp_path: Path
) -> None:
    whole = sealed[0].read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for damaged, error in ((bytes(changed), errors.DecryptFailed), (whole[: -len(whole) // 3], errors.KeyreeveError)):
        (tmp_path / "damaged").write_bytes(damaged)
        with (tmp_path / "damaged").open("rb") as source, pytest.raises(error) as caught:
            open_parquet(source, shared_client.opener(key), context=CONTEXT).read()
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert "4000 " not in "".join(shown.format())


def test_an_export_that_fails_leaves_no_file(shared_client: Client, key: str, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from customers(PART)
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError):
        seal_parquet(batches(), SCHEMA, tmp_path / "file", shared_client.sealer(key), context=CONTEXT)
    assert list(tmp_path.iterdir()) == []


PEAK = """
import os, resource, sys
from pathlib import Path
import pyarrow as pa
from files import open_parquet, seal_parquet
from keyreeve import Client

key, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
schema = pa.schema([pa.field("blob", pa.binary())])
batches = (pa.RecordBatch.from_pydict({"blob": [os.urandom(1 << 20) for _ in range(4)]}, schema=schema) for _ in range(count))
with Client() as client:
    seal_parquet(batches, schema, path, client.sealer(key), context={"a": "b"})
    with path.open("rb") as source:
        file = open_parquet(source, client.opener(key), context={"a": "b"})
        for group in range(file.num_row_groups):
            file.read_row_group(group)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_file(dev: Dev, key: str, tmp_path: Path) -> None:
    peaks = []
    for count in (8, 64):
        command = [sys.executable, "-c", PEAK, key, str(tmp_path / "file"), str(count)]
        environment = {**dev.environment(), "PYTHONPATH": str(Path(__file__).parent)}
        peaks.append(int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
    small, large = peaks
    assert large - small < 40, f"{small} MiB for 32 MiB, {large} MiB for 256 MiB"
