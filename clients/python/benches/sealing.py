"""Local sealing against raw AES-256-GCM over the same chunks: how much of the time is not the cipher.

    python benches/sealing.py            # prints a table; needs no service

`raw` is one AES-GCM call per 16 KiB chunk with a cipher object that is there already, results kept and joined: what no format can beat in
this process. `one call` is the cipher over the whole, without chunks. CPU time of this process, median of several runs.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.sealed import streams
from keyreeve.sealed.header import ENVELOPE, PREFIX, Header, Wrapped, length
from keyreeve.sealed.payload import CHUNK, SEALED_CHUNK, Opening, Sealing

DATA_KEY = os.urandom(32)
HEADER = Header(os.urandom(16), None, (Wrapped(ENVELOPE, b"\xe5ENV" + bytes(152)),))
CONTEXT = b"\0\0"
CIPHER = AESGCM(os.urandom(32))


def seal(data: bytes) -> bytes:
    return Sealing(DATA_KEY, HEADER, CONTEXT).whole(data)


def open_whole(message: bytes) -> bytes:
    payload = memoryview(message)[length(message[:32]) :]
    opening = Opening(DATA_KEY, HEADER, CONTEXT, bytes(payload[:PREFIX]))
    return opening.whole(payload[PREFIX:])


def raw(data: bytes) -> bytes:
    view = memoryview(data)
    starts = enumerate(range(0, len(data) + 1, CHUNK))
    return b"".join([CIPHER.encrypt(number.to_bytes(12, "big"), view[at : at + CHUNK], None) for number, at in starts])


def raw_open(data: bytes) -> bytes:
    view = memoryview(data)
    starts = enumerate(range(0, len(data), SEALED_CHUNK))
    return b"".join(
        [CIPHER.decrypt(number.to_bytes(12, "big"), view[at : at + SEALED_CHUNK], None) for number, at in starts]
    )


def stream(data: bytes) -> None:
    streams.seal(Sealing(DATA_KEY, HEADER, CONTEXT), io.BytesIO(data), Nowhere())


class Nowhere(io.BytesIO):
    def write(self, data: object, /) -> int:
        return len(data)  # type: ignore[arg-type]


def seconds(work: Callable[[], object], runs: int) -> float:
    """Median time of one call; several calls a run where one is too short to measure."""
    begun = time.process_time()
    work()
    once = time.process_time() - begun
    calls = max(1, int(0.05 / max(once, 1e-7)))
    times = []
    for _ in range(runs):
        begun = time.process_time()
        for _ in range(calls):
            work()
        times.append((time.process_time() - begun) / calls)
    return statistics.median(times)


def main() -> None:
    print("| size | what | time | throughput | of raw |\n| --- | --- | --- | --- | --- |")
    for name, size in (("1 KiB", 1 << 10), ("64 KiB", 1 << 16), ("100 MB", 100_000_000)):
        data = os.urandom(size)
        message, chunks = seal(data), raw(data)
        rows: list[tuple[str, Callable[[], object], str]] = [
            ("raw seal", lambda d=data: raw(d), "raw seal"),  # type: ignore[misc]
            ("one call", lambda d=data: CIPHER.encrypt(bytes(12), d, None), "raw seal"),  # type: ignore[misc]
            ("seal", lambda d=data: seal(d), "raw seal"),  # type: ignore[misc]
            ("seal a stream", lambda d=data: stream(d), "raw seal"),  # type: ignore[misc]
            ("raw open", lambda c=chunks: raw_open(c), "raw open"),  # type: ignore[misc]
            ("open", lambda m=message: open_whole(m), "raw open"),  # type: ignore[misc]
        ]
        found = {what: seconds(work, 9) for what, work, _ in rows}
        for what, _, base in rows:
            took = found[what]
            of_raw = f"{found[base] / took:.0%}"
            print(f"| {name} | {what} | {took * 1e6:,.1f} µs | {size / took / 1e9:.2f} GB/s | {of_raw} |")


if __name__ == "__main__":
    main()
