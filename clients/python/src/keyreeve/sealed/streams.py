"""Sealing and opening of what does not fit into memory: files and other byte streams, chunk by chunk."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keyreeve.data_keys import UsableKey
from keyreeve.errors import NotSealed, Truncated
from keyreeve.sealed import header as headers
from keyreeve.sealed.header import FIXED, PREFIX, Header, Identity
from keyreeve.sealed.payload import Opening, Sealing

AT_ONCE = 64 * 16384


def seal(key: UsableKey, header: Header, context: bytes, source: BinaryIO, target: BinaryIO) -> tuple[Identity, int]:
    """Returns the identity of the message and how many bytes were sealed."""
    sealing = Sealing(key.key, header, context)
    key.wipe()
    size = 0
    target.write(sealing.head)
    while data := source.read(AT_ONCE):
        size += len(data)
        target.write(sealing.update(data))
    target.write(sealing.finish())
    return Identity(header.message_id, sealing.commitment), size


def read_header(source: BinaryIO) -> Header:
    """The header of the message that `source` stands at; afterwards it stands at the payload."""
    fixed = _exactly(source, FIXED)
    return headers.parse(fixed + _exactly(source, headers.length(fixed) - FIXED))


def read_prefix(source: BinaryIO) -> bytes:
    prefix = _read(source, PREFIX)
    if len(prefix) < PREFIX:
        raise Truncated("the message ends before its first chunk")
    return prefix


def open_to(opening: Opening, source: BinaryIO, target: BinaryIO) -> int:
    """Writes each chunk after it verified. Only when this returns is the message known to be complete."""
    size = 0
    while data := source.read(AT_ONCE):
        size += target.write(opening.update(data))
    return size + target.write(opening.finish())


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete and on the disk. For ciphertexts: until then it lies beside its place."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(beside, "xb", opener=_owner_only) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


@contextlib.contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """A new file, for the owner alone, which is removed if it does not become complete. For plaintexts: there is no other file."""
    file = open(path, "xb", opener=_owner_only)  # noqa: SIM115 - closed below
    try:
        with file:
            yield file
    except BaseException:
        path.unlink()
        raise


def copy_rest(source: BinaryIO, target: BinaryIO) -> None:
    while data := source.read(AT_ONCE):
        target.write(data)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = _read(source, length)
    if len(data) < length:
        raise NotSealed("the header of this sealed message is cut off")
    return data


def _read(source: BinaryIO, length: int) -> bytes:
    """As much as there is, up to `length`: pipes and sockets give less at once."""
    data = b""
    while len(data) < length and (more := source.read(length - len(data))):
        data += more
    return data
