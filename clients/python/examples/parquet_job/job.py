"""A sealed Parquet file, of which a job opens only what it reads.

python job.py seal SOURCE.parquet TARGET.sealed
python job.py total TARGET.sealed COLUMN
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from keyreeve import Client, SealedReader

KEY = "dev/shop/exports"


def seal(client: Client, table: pa.Table, target: Path, dataset: str) -> None:
    """The table goes from memory into the sealed file: it is on no disk in clear."""
    parquet = io.BytesIO()
    pq.write_table(table, parquet, row_group_size=50_000)
    parquet.seek(0)
    with open(target, "xb") as sealed:
        client.sealer(KEY).seal_stream(parquet, sealed, context={"dataset": dataset})


def column(reader: SealedReader, name: str) -> pa.ChunkedArray:
    """One column; chunks of the file that hold others are neither read nor opened."""
    # Parquet's index is at the end of the file: to find it, the reader proves first that the file has an end.
    return pq.ParquetFile(pa.PythonFile(reader, mode="r")).read(columns=[name]).column(name)


def total(client: Client, source: Path, name: str, dataset: str) -> float:
    with open(source, "rb") as file:
        reader = client.opener(KEY).reader(file, context={"dataset": dataset})
        return float(pc.sum(column(reader, name)).as_py())


def main() -> None:
    with Client() as client:
        match sys.argv[1:]:
            case ["seal", source, target]:
                seal(client, pq.read_table(source), Path(target), dataset=Path(target).stem)
            case ["total", source, name]:
                print(total(client, Path(source), name, dataset=Path(source).stem))
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main()
