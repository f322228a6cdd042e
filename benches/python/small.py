"""Messages of 1 KiB under a kept data key ÷ AES-256-GCM of `cryptography` under a key derived for each, and the calls that were saved."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from keyreeve import Client, Event

from measure import Cells, Report, say
from servers import KEY

CONTEXT = {"table": "orders"}
SIZE = 1024
DATA_KEY = os.urandom(32)


def run(report: Report, settings: dict[str, Any], rounds: int, messages: int) -> None:
    data, cells, told = os.urandom(SIZE), Cells(), Counter[str]()

    def count(event: Event) -> None:
        if event.name == "call":
            told[event.method] += 1

    def seal() -> int:
        for _ in range(messages):
            sealer.seal(data, context=CONTEXT)
        return messages

    def open_() -> int:
        for _ in range(messages):
            opener.open(sealed, context=CONTEXT)
        return messages

    with Client(**settings, data_key_cache=True, on_event=count) as client:
        sealer, opener = client.sealer(KEY), client.opener(KEY)
        sealed, raw = sealer.seal(data, context=CONTEXT), raw_seal(data)
        for at in range(rounds):
            cells.measure("seal", seal)
            cells.measure("raw_seal", lambda: sum(bool(raw_seal(data)) for _ in range(messages)))
            cells.measure("open", open_)
            cells.measure("raw_open", lambda: sum(bool(raw_open(raw)) for _ in range(messages)))
            say(f"small: round {at + 1} of {rounds}")
    for way in ("seal", "open"):
        report.add(f"{way}_1_kib_kept_key_over_raw", cells.ratio(way, f"raw_{way}"), "×")
        report.add(f"{way}_1_kib_kept_key_cpu", cells.cpu(way) * 1e6, "us")
        report.add(f"raw_{way}_1_kib_cpu", cells.cpu(f"raw_{way}") * 1e6, "us")
    report.add("small_messages", 2 * rounds * messages + 1, "")
    report.add("small_messages_calls", told.total(), "")


def raw_seal(data: bytes) -> bytes:
    salt = os.urandom(24)
    return salt + AESGCM(_derived(salt)).encrypt(bytes(12), data, None)


def raw_open(message: bytes) -> bytes:
    return AESGCM(_derived(message[:24])).decrypt(bytes(12), message[24:], None)


def _derived(salt: bytes) -> bytes:
    return HKDFExpand(SHA512(), 32, b"bench" + salt).derive(DATA_KEY)
