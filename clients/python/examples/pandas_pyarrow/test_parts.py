"""A table in parts: the clear columns need no key, and the sealed ones belong to exactly these rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from keyreeve import Client, Event, errors
from support.dev import Dev

from job import PART, SCHEMA, customers
from parts import read_parts, write_parts

ROWS = 2 * PART + 5


@pytest.fixture
def key(new_key: Callable[[], str]) -> str:
    return new_key()


@pytest.fixture
def directory(shared_client: Client, key: str, tmp_path: Path) -> Path:
    assert (
        write_parts(customers(ROWS), tmp_path / "parts", shared_client.sealer(key), table="customers", sealed=["card"])
        == 3
    )
    return tmp_path / "parts"


def read(client: Client, key: str, directory: Path, *sealed: str) -> pa.Table:
    return pa.concat_tables(read_parts(directory, client.opener(key), table="customers", sealed=sealed))


def test_the_table_comes_back(shared_client: Client, key: str, directory: Path) -> None:
    assert read(shared_client, key, directory, "card") == pa.Table.from_batches(customers(ROWS))


def test_clear_columns_are_read_without_a_call_and_no_file_holds_a_card(dev: Dev, key: str, directory: Path) -> None:
    calls: list[Event] = []
    with Client(**dev.settings(), on_event=calls.append) as client:
        assert read(client, key, directory).column_names == ["id", "city"]
        assert calls == []
    assert all(b"4000 " not in file.read_bytes() for file in directory.iterdir())


def test_whoever_may_only_seal_writes_and_does_not_read(dev: Dev, key: str, tmp_path: Path) -> None:
    with Client(**dev.settings("app")) as job:
        write_parts(customers(5), tmp_path, job.sealer(key), table="customers", sealed=["card"])
        assert read(job, key, tmp_path).num_rows == 5
        with pytest.raises(errors.PermissionDenied):
            read(job, key, tmp_path, "card")


def test_rows_in_another_order_do_not_get_each_others_cards(shared_client: Client, key: str, directory: Path) -> None:
    part = directory / "part-00002.parquet"
    pq.write_table(pq.read_table(part).take([1, 0, 2, 3, 4]), part)
    with pytest.raises(errors.DecryptFailed):
        read(shared_client, key, directory, "card")


def test_parts_that_changed_places_do_not_open(shared_client: Client, key: str, directory: Path) -> None:
    for suffix in (".parquet", ".card.sealed"):
        first, second = directory / f"part-00000{suffix}", directory / f"part-00001{suffix}"
        first.rename(directory / "aside")
        second.rename(first)
        (directory / "aside").rename(second)
    with pytest.raises(errors.DecryptFailed):
        read(shared_client, key, directory, "card")


def test_a_part_whose_column_could_not_be_sealed_is_not_there(dev: Dev, key: str, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from customers(PART)
        client.suspend_key(key)
        yield from customers(PART)

    with Client(**dev.settings()) as client:
        with pytest.raises(errors.StateForbids):
            write_parts(batches(), tmp_path, client.sealer(key), table="customers", sealed=["card"])
        client.resume_key(key)
        assert read(client, key, tmp_path, "card").num_rows == PART


def test_the_schema_is_that_of_the_batches() -> None:
    assert next(customers(1)).schema == SCHEMA
