"""The plan of a run of `python`: the Python client beside what it is made of, in interleaved rounds (`benches/run.sh python --help`).

| part | what |
| --- | --- |
| calls | `encrypt` one by one, on asyncio, on a stream ÷ bare grpcio, against the same echo |
| streams | a large stream sealed and opened ÷ raw AES-GCM of `cryptography`, and of aws-lc-rs |
| files | a file, beside `age` and the AWS Encryption SDK |
| small | messages of 1 KiB under a kept data key ÷ AES-GCM with a key derived for each |
| cold | import, and the first decrypt of a process |
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from keyreeve import Client

import calls
import cold
import files
import small
import streams
from measure import Report
from servers import KEY, Echo, Service

PARTS = ("calls", "streams", "files", "small", "cold")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyreeve", type=Path, required=True)
    parser.add_argument("--bench", type=Path, required=True, help="keyreeve-bench, for the echo and aws-lc-rs")
    parser.add_argument("--output", type=Path, default=Path("target/bench/python.json"))
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="of a measurement of calls")
    parser.add_argument("--stream-megabytes", type=int, default=1000)
    parser.add_argument("--file-megabytes", type=int, default=256)
    parser.add_argument("--messages", type=int, default=5000, help="small ones, of a measurement")
    given = parser.parse_args()
    parts = given.only or PARTS
    report = Report()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.output.parent) as made:
        folder = Path(made).resolve()
        service = Service(given.keyreeve, folder / "keyreeve")
        echo = Echo(given.bench, service)
        try:
            settings = service.settings()
            with Client(**settings) as client:
                client.create_key(KEY)
            if "cold" in parts:
                cold.run(report, service.environment, runs=2 * given.rounds + 1)
            if "calls" in parts:
                calls.run(report, service.settings(echo.address), given.rounds, given.seconds)
            if "small" in parts:
                small.run(report, settings, given.rounds, given.messages)
            if "streams" in parts:
                streams.run(report, settings, given.rounds, given.stream_megabytes, folder, given.bench)
            if "files" in parts:
                files.run(report, settings, given.rounds, given.file_megabytes, folder)
        finally:
            echo.close()
            service.close()
    report.write(given.output)


if __name__ == "__main__":
    main()
