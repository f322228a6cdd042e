"""A large stream sealed and opened ÷ raw AES-256-GCM over the same chunks: of `cryptography` in this process, of aws-lc-rs in Rust.

Ours reads 256 KiB at once, from where plaintext is generated or from a sealed message in memory, and writes to nowhere. *Raw* reads so,
too, and calls the cipher for each chunk of 16 KiB, under a key that is there. With threads, each works on a message of its own: a message
has one thread.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyreeve import Client

from measure import Cells, Report, Run, say
from servers import KEY

CHUNK, TAG = 16384, 16
AT_ONCE = 16
"""Chunks, as the client reads them."""
BLOCK = bytes(range(256)) * (AT_ONCE * CHUNK // 256)
CIPHER = AESGCM(bytes(32))


class Generated(io.RawIOBase):
    """So many bytes, without a copy of any."""

    def __init__(self, length: int) -> None:
        self._left = length

    def read(self, size: int = -1, /) -> bytes:
        given = BLOCK if min(size, self._left) >= len(BLOCK) else BLOCK[: min(size, self._left)]
        self._left -= len(given)
        return given


class Nowhere(io.RawIOBase):
    def write(self, data: Any, /) -> int:
        return len(data)


def run(report: Report, settings: dict[str, Any], rounds: int, megabytes: int, folder: Path, bench: Path) -> None:
    length, opened, threads = megabytes * 1_000_000, 256_000_000, 2
    _memory(report, settings, length, folder)
    cells = Cells()
    sealed, raw_sealed = io.BytesIO(), io.BytesIO()
    with Client(**settings) as client:
        seal(client, cast(BinaryIO, Generated(opened)), sealed)
        raw_seal(cast(BinaryIO, Generated(opened)), raw_sealed)
        ways: dict[str, Callable[[int], None]] = {
            "seal": lambda n: seal(client, cast(BinaryIO, Generated(n)), cast(BinaryIO, Nowhere())),
            "raw_seal": lambda n: raw_seal(cast(BinaryIO, Generated(n)), cast(BinaryIO, Nowhere())),
            "open": lambda _: open_(client, _begun(sealed), cast(BinaryIO, Nowhere())),
            "raw_open": lambda _: raw_open(_begun(raw_sealed), cast(BinaryIO, Nowhere())),
        }
        for at in range(rounds):
            for way, work in ways.items():
                size = opened if way.endswith("open") else length
                cells.measure(f"{way}_1", lambda w=work, n=size: (w(n), n)[1])  # type: ignore[misc]
            for way in ("seal", "raw_seal"):
                cells.measure(f"{way}_{threads}", lambda w=ways[way]: _threads(threads, length, w))  # type: ignore[misc]
            _rust(cells, bench, folder)
            say(f"streams: round {at + 1} of {rounds}")
    for way in ("seal", "open"):
        report.add(f"{way}_stream_1_thread_over_raw", 1 / cells.ratio(f"{way}_1", f"raw_{way}_1"), "×")
        report.add(f"{way}_stream_1_thread_over_aws_lc_rs", 1 / cells.ratio(f"{way}_1", f"aws_lc_{way}"), "×")
        for cell in (f"{way}_1", f"raw_{way}_1", f"aws_lc_{way}"):
            report.add(f"{cell}_rate_of_cpu", 1e-9 / cells.cpu(cell), "GB/s")
    report.add(
        f"seal_stream_{threads}_threads_over_raw", 1 / cells.wall_ratio(f"seal_{threads}", f"raw_seal_{threads}"), "×"
    )
    report.add(f"seal_stream_{threads}_threads_over_1", 1 / cells.wall_ratio(f"seal_{threads}", "seal_1"), "×")
    report.add(f"raw_seal_{threads}_threads_over_1", 1 / cells.wall_ratio(f"raw_seal_{threads}", "raw_seal_1"), "×")


def seal(client: Client, source: BinaryIO, target: BinaryIO) -> None:
    client.sealer(KEY).seal_stream(source, target)


def open_(client: Client, source: BinaryIO, target: BinaryIO) -> None:
    client.opener(KEY).open_stream(source, target)


def raw_seal(source: BinaryIO, target: BinaryIO) -> None:
    number = 0
    while data := source.read(AT_ONCE * CHUNK):
        view = memoryview(data)
        for at in range(0, len(view), CHUNK):
            target.write(CIPHER.encrypt(number.to_bytes(12, "big"), view[at : at + CHUNK], None))
            number += 1


def raw_open(source: BinaryIO, target: BinaryIO) -> None:
    number = 0
    while data := source.read(AT_ONCE * (CHUNK + TAG)):
        view = memoryview(data)
        for at in range(0, len(view), CHUNK + TAG):
            target.write(CIPHER.decrypt(number.to_bytes(12, "big"), view[at : at + CHUNK + TAG], None))
            number += 1


def _begun(source: io.BytesIO) -> BinaryIO:
    source.seek(0)
    return source


def _threads(count: int, length: int, work: Callable[[int], None]) -> int:
    running = [threading.Thread(target=work, args=(length // count,)) for _ in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return length


def _rust(cells: Cells, bench: Path, folder: Path) -> None:
    """aws-lc-rs over chunks of 16 KiB, copied into a buffer first as any reader must."""
    output = folder / "clients.json"
    plan = ["clients", "--rounds", "1", "--megabytes", "256", "--messages", "1", "--output", str(output)]
    subprocess.run([bench, *plan], check=True, stdout=subprocess.DEVNULL)
    figures = {figure["name"]: figure["value"] for figure in json.loads(output.read_text())}
    for way in ("seal", "open"):
        of_one = 1e-9 / figures[f"raw_read_{way}_1_thread_rate"]
        cells.add(f"aws_lc_{way}", Run(of_one, of_one))


def _memory(report: Report, settings: dict[str, Any], length: int, folder: Path) -> None:
    """In a process that does nothing else."""
    given = json.dumps(
        {"settings": {name: str(value) for name, value in settings.items()}, "length": length, "folder": str(folder)}
    )
    ran = subprocess.run([sys.executable, __file__], input=given, capture_output=True, text=True, check=True)
    for name, kibibytes in json.loads(ran.stdout).items():
        report.add(name, kibibytes / 1024, "MB")


def _one_process() -> None:
    given = json.load(sys.stdin)
    with Client(**given["settings"]) as client:
        client.sealer(KEY).seal(b"connected")
        before = _peak()
        with open(Path(given["folder"]) / "memory.sealed", "wb") as file:
            seal(client, cast(BinaryIO, Generated(given["length"])), file)
        with open(file.name, "rb") as sealed:
            open_(client, sealed, cast(BinaryIO, Nowhere()))
        Path(file.name).unlink()
    print(json.dumps({"seal_and_open_1_gb_peak_memory": _peak(), "seal_and_open_1_gb_memory_of_it": _peak() - before}))


def _peak() -> int:
    """KiB. What the kernel's `getrusage` says includes the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    _one_process()
