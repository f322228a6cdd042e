"""Random access to a sealed message: each chunk is verified when it is read, the end only when the last chunk was."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

from keyreeve.door import clean
from keyreeve.sealed import streams
from keyreeve.sealed.header import unopenable
from keyreeve.sealed.payload import CHUNK, SEALED_CHUNK, TAG, Opening


class SealedReader(io.RawIOBase):
    """Reads a sealed message like a file. Wrap it in `io.BufferedReader` for many small reads.

    `complete` tells whether the last chunk was verified; before that, what was read is a proved part of the message, and that it has an
    end is not proved. Whatever speaks of the end (`size`, a seek from it, a read up to it) verifies the last chunk first.
    """

    def __init__(self, opening: Opening, source: BinaryIO, payload: int) -> None:
        super().__init__()
        self._opening = opening
        self._source = source
        self._chunks = payload
        self._at = 0
        self._size: int | None = None
        self._kept: tuple[int, bytes] = (-1, b"")

    @property
    def complete(self) -> bool:
        """Whether the message is proved complete."""
        return self._size is not None

    @clean
    def size(self) -> int:
        """Length of the plaintext. Verifies the last chunk."""
        if self._size is None:
            sealed = self._source.seek(0, os.SEEK_END) - self._chunks
            last, rest = divmod(sealed, SEALED_CHUNK)
            if sealed < TAG or rest < TAG:
                raise unopenable()
            self._size = last * CHUNK + len(self._chunk(last))
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    @clean
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: 0}[whence]
        if whence == os.SEEK_END:
            at += self.size()
        if at < 0:
            raise ValueError("a seek to before the beginning")
        self._at = at
        return at

    @clean
    def read(self, size: int | None = -1, /) -> bytes:
        """All that is asked for, unless the end comes first: then the end is proved."""
        if size is None or size < 0:
            size = max(0, self.size() - self._at)
        out = []
        while size > 0:
            number, offset = divmod(self._at, CHUNK)
            part = self._chunk(number)[offset : offset + size] if self._is_there(number) else b""
            if not part:
                self.size()
                break
            out.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(out)

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _is_there(self, number: int) -> bool:
        return self._size is None or number * CHUNK < self._size

    def _chunk(self, number: int) -> bytes:
        if self._kept[0] != number:
            self._source.seek(self._chunks + number * SEALED_CHUNK)
            sealed = b""
            while len(sealed) < SEALED_CHUNK and (more := streams.read(self._source, SEALED_CHUNK - len(sealed))):
                sealed += more
            if not sealed:
                return b""
            self._kept = (number, self._opening.chunk(number, sealed))
        return self._kept[1]
