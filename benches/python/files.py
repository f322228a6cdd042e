"""One file, sealed and opened by us, by `age`, and by the AWS Encryption SDK with a raw AES key: for scale only.

They do not do the same: `age` is Go with ChaCha20-Poly1305 and X25519; the SDK is run without signatures, in its frames of 4 KiB. `age`
starts a process, which its CPU includes.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aws_encryption_sdk
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider
from keyreeve import Client

from measure import Cells, Report, Run, say
from servers import KEY


def run(report: Report, settings: dict[str, Any], rounds: int, megabytes: int, folder: Path) -> None:
    plain, sealed, opened = folder / "plain", folder / "sealed", folder / "opened"
    with open(plain, "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1_000_000))
    length, cells = megabytes * 1_000_000, Cells()
    age = _Age(folder) if shutil.which("age") else None
    if age is None:
        say("files: `age` is not installed, and left out")
    sdk = _Sdk()
    with Client(**settings) as client:
        for at in range(rounds):
            cells.measure("keyreeve_seal", lambda: (client.sealer(KEY).seal_file(plain, sealed), length)[1])
            cells.measure("keyreeve_open", lambda: (client.opener(KEY).open_file(sealed, opened), length)[1])
            opened.unlink()
            if age:
                cells.add("age_seal", age.run(length, "-r", age.recipient, "-o", sealed, plain))
                cells.add("age_open", age.run(length, "-d", "-i", age.identity, "-o", opened, sealed))
                opened.unlink()
            cells.measure("aws_sdk_seal", lambda: sdk.work("encrypt", plain, sealed, length))
            cells.measure("aws_sdk_open", lambda: sdk.work("decrypt", sealed, opened, length))
            opened.unlink()
            say(f"files: round {at + 1} of {rounds}")
    others = ["keyreeve", "age", "aws_sdk"] if age else ["keyreeve", "aws_sdk"]
    for who in others:
        for way in ("seal", "open"):
            cell = f"{who}_{way}"
            report.add(f"{cell}_{megabytes}_mb_cpu", cells.cpu(cell) * length, "s")
            report.add(f"{cell}_{megabytes}_mb_wall", cells.wall(cell) * length, "s")


class _Age:
    def __init__(self, folder: Path) -> None:
        self.identity = folder / "age.key"
        made = subprocess.run(["age-keygen", "-o", self.identity], check=True, capture_output=True, text=True)
        self.recipient = made.stderr.split()[-1]

    def run(self, length: int, *arguments: str | Path) -> Run:
        begun, begun_cpu = time.perf_counter(), _cpu_of_children()
        subprocess.run(["age", *arguments], check=True)
        return Run((_cpu_of_children() - begun_cpu) / length, (time.perf_counter() - begun) / length)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Sdk:
    def __init__(self) -> None:
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self._keys = _RawKey()
        self._keys.add_master_key("bench")

    def work(self, mode: str, source: Path, target: Path, length: int) -> int:
        chosen = {"algorithm": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY} if mode == "encrypt" else {}
        with open(source, "rb") as read, open(target, "wb") as written:
            with self._client.stream(mode=mode, source=read, key_provider=self._keys, **chosen) as stream:
                for part in stream:
                    written.write(part)
            written.flush()
            # Ours does so, too.
            os.fsync(written.fileno())
        return length


class _RawKey(RawMasterKeyProvider):  # type: ignore[misc]
    provider_id = "bench"

    def _get_raw_key(self, _: bytes) -> WrappingKey:
        return WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
            wrapping_key=bytes(32),
            wrapping_key_type=EncryptionKeyType.SYMMETRIC,
        )
