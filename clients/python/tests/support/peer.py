"""The Rust client as a process: `clients/rust/examples/parity`, which says what its frames hold."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.dev import BINARY

PEER = Path(os.environ.get("KEYREEVE_PARITY_PEER", BINARY.parent / "examples/parity"))


class Verdict(NamedTuple):
    opened: bool
    calls: str
    """Data keys that were generated and unwrapped, as `generate unwrap`."""
    result: bytes
    """The plaintext, or reason and text of the error."""


class Peer:
    def __init__(self) -> None:
        if not PEER.is_file():
            raise FileNotFoundError(f"`{PEER}` is missing: cargo build -p keyreeve-client --example parity")
        self._process = subprocess.Popen([str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields: bytes | str) -> list[bytes]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(_field(b"".join(map(_field, fields))))
        stdin.flush()
        length = int.from_bytes(stdout.read(4), "big")
        frame = stdout.read(length)
        answer = []
        while frame:
            end = 4 + int.from_bytes(frame[:4], "big")
            answer.append(frame[4:end])
            frame = frame[end:]
        assert self._process.poll() is None, "the Rust side ended; its error is above"
        return answer

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait(20)


def _field(data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(4, "big") + data
