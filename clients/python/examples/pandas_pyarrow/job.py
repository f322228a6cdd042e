"""The three ways over a table of customers, with what each costs.

python job.py /tmp/warehouse [--rows 200000]
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from keyreeve import Client, errors

from files import open_parquet, seal_parquet
from parts import read_parts, write_parts
from rows import open_rows, seal_rows

KEY = "dev/shop/warehouse"
TABLE = "customers"
PART = 20_000
COLUMNS: dict[str, pa.DataType] = {"id": pa.int64(), "city": pa.string(), "card": pa.string()}
SCHEMA = pa.schema(COLUMNS)


def customers(rows: int) -> Iterator[pa.RecordBatch]:
    """As an export gives them: part by part."""
    chance = random.Random(rows)  # noqa: S311 - made-up customers
    for start in range(0, rows, PART):
        ids = range(start, min(start + PART, rows))
        columns: dict[str, list[Any]] = {
            "id": list(ids),
            "city": [chance.choice(("Köln", "Wien", "Bern")) for _ in ids],
            "card": [f"4000 {chance.randrange(10**12):012}" for _ in ids],
        }
        yield pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Figures only: a job's log is read by more people than its data."""
    begun = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {time.perf_counter() - begun:.2f} s, peak memory so far {peak:.0f} MiB", flush=True)


def by_row(client: Client) -> None:
    frame = pd.DataFrame({"id": range(2000), "card": [f"4000 {n:012}" for n in range(2000)]}).set_index("id")
    with told("2,000 values, one ciphertext each, sealed in batches"):
        frame["card"] = seal_rows(client, KEY, frame["card"], table=TABLE)
    with told("… of which 10 opened"):
        open_rows(client, KEY, frame["card"].iloc[:10], table=TABLE)


def by_part(client: Client, rows: int, directory: Path) -> None:
    with told(f"{rows:,} rows in parts, the card sealed"):
        write_parts(customers(rows), directory, client.sealer(KEY), table=TABLE, sealed=["card"])
    with told("… read without the card: no call"):
        sum(part.num_rows for part in read_parts(directory, client.opener(KEY), table=TABLE))
    with told("… read with it"):
        sum(part.num_rows for part in read_parts(directory, client.opener(KEY), table=TABLE, sealed=["card"]))


def by_file(client: Client, rows: int, path: Path) -> None:
    context = {"table": TABLE, "file": path.name}
    with told(f"{rows:,} rows, the whole file sealed"):
        identity = seal_parquet(customers(rows), SCHEMA, path, client.sealer(KEY), context=context)
    with told("… of which one column of one row group read"), path.open("rb") as source:
        open_parquet(source, client.opener(KEY), context=context, expect=identity).read_row_group(0, columns=["city"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a new one")
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    given.directory.mkdir(parents=True)
    # Each part has a context of its own, so a cache of data keys would save nothing here.
    with Client() as client:
        with contextlib.suppress(errors.AlreadyExists):
            client.create_key(KEY)
        by_row(client)
        by_part(client, given.rows, given.directory / "parts")
        by_file(client, given.rows, given.directory / "customers.sealed")


if __name__ == "__main__":
    main()
