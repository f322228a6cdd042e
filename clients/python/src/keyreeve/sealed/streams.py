"""Sealing and opening of what does not fit into memory: files and other byte streams, chunk by chunk."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keyreeve.errors import UnexpectedMessage
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import FIXED, PREFIX, Header, unopenable
from keyreeve.sealed.payload import CHUNK, SEALED_CHUNK, Opening, Sealing

AT_ONCE, SEALED_AT_ONCE = 16 * CHUNK, 16 * SEALED_CHUNK
"""So much that its parts stay in the processor's cache: 64 chunks open at half the speed. Whole chunks, so that none is left over to be
joined with the next read.
"""
_BUFFER = SEALED_AT_ONCE + SEALED_CHUNK


def seal(sealing: Sealing, source: BinaryIO, target: BinaryIO) -> None:
    """Seals what is left of `source`."""
    write(target, sealing.head)
    buffer = _buffer_for(target)
    while data := read(source, AT_ONCE):
        write(target, sealing.update_into(data, buffer) if buffer else sealing.update(data))
    write(target, sealing.finish())


def read_header(source: BinaryIO) -> Header:
    """The header of the message that `source` stands at; afterwards it stands at the payload."""
    fixed = _exactly(source, FIXED)
    return headers.parse(fixed + _exactly(source, headers.length(fixed) - FIXED))


def read_prefix(source: BinaryIO) -> bytes:
    prefix = _read(source, PREFIX)
    if len(prefix) < PREFIX:
        raise unopenable()
    return prefix


def open_to(opening: Opening, source: BinaryIO, target: BinaryIO) -> None:
    """Writes each chunk after it verified. Only when this returns is the message known to be complete."""
    buffer = _buffer_for(target)
    try:
        while data := read(source, SEALED_AT_ONCE):
            write(target, opening.update_into(data, buffer) if buffer else opening.update(data))
    finally:
        if buffer:
            buffer[:] = bytes(len(buffer))
    write(target, opening.finish())


def _buffer_for(target: BinaryIO) -> memoryview | None:
    """One buffer for all reads, if the target is of `io`, whose `write` keeps nothing of what it is given; another one might."""
    return memoryview(bytearray(_BUFFER)) if isinstance(target, io.IOBase) else None


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name, from what has it now, only when it is whole and on the disk."""
    with _beside(path) as (file, beside):
        yield file
        _sync(file)
        os.replace(beside, path)


def with_header(path: Path, old: Header, new: Header) -> None:
    """Gives the message in a file another header. The file keeps its mode; a symbolic link stays, and what it points to is replaced."""
    real = path.resolve(strict=True)
    with open(real, "rb") as source, replaced(real) as target:
        if read_header(source) != old:
            raise UnexpectedMessage("the file was replaced by another message meanwhile")
        os.chmod(target.name, stat.S_IMODE(os.fstat(source.fileno()).st_mode))
        write(target, new.encode())
        while data := read(source, AT_ONCE):
            write(target, data)


@contextlib.contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """The same for a name that nothing has: what is there already is left alone."""
    if path.exists():
        raise FileExistsError(f"`{path}` is there already")
    with _beside(path) as (file, beside):
        yield file
        _sync(file)
        try:
            # Unlike a rename, a link does not replace what came to be there meanwhile.
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links.
            os.rename(beside, path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file for the owner alone, in the same directory. It is gone afterwards, unless it has its name."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(beside, "xb", opener=_owner_only) as file:
            yield file, beside
    finally:
        beside.unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = _read(source, length)
    if len(data) < length:
        raise unopenable()
    return data


def _read(source: BinaryIO, length: int) -> bytes:
    """As much as there is, up to `length`: pipes and sockets give less at once."""
    data = b""
    while len(data) < length and (more := read(source, length - len(data))):
        data += more
    return data


def read(source: BinaryIO, length: int) -> bytes:
    """Some bytes, none at the end. What has none yet is not at its end."""
    data: bytes | None = source.read(length)
    if data is None:
        raise BlockingIOError("the source has nothing to read yet: give one that waits")
    return data


def write(target: BinaryIO, data: bytes | memoryview) -> None:
    """All of `data`: raw files take less at once."""
    while data:
        written: int | None = target.write(data)
        if written is None and isinstance(target, io.RawIOBase):
            raise BlockingIOError("the target takes nothing now: give one that waits")
        data = b"" if written is None else data[written:]
