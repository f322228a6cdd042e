"""Random sequences of calls, drawn from a seed: after each the double and the service have given the same answer.

A failure names its seed; `KEYREEVE_CONTRACT_SEEDS=17,99` runs others, `KEYREEVE_CONTRACT_STEPS` longer ones.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from contract.sides import Both, Pair, pairs

SEEDS = [int(seed) for seed in os.environ.get("KEYREEVE_CONTRACT_SEEDS", "1,2,3,4,5,6").split(",")]
STEPS = int(os.environ.get("KEYREEVE_CONTRACT_STEPS", "250"))
RUST_PART = 0.4
"""The Rust double is the service's own code: so much of each sequence finds what is wrong between the two."""

CONTEXTS = [
    [],
    pairs({"a": "b"}),
    pairs({"a": "c"}),
    pairs({"a": "b", "ключ": ""}),
    [*pairs({"a": "b"}), *pairs({"a": "b"})],
]
MOVES = ["SuspendKey", "ResumeKey", "DeactivateKey", "CompromiseKey", "DestroyKey", "CancelKeyDestruction", "RotateKey"]
PAYLOADS = [b"", b"x", b"x" * 8192, b"x" * 8193, b"x" * 65_536, b"x" * 65_537]


class Sequence:
    """One run: what it has made so far, and the next call, which mostly is about that."""

    team = "envs/dev/teams/shop"

    def __init__(self, both: Both, prefix: str, seed: int) -> None:
        self.both = both
        self.prefix = prefix
        self.random = random.Random(seed)
        self.keys: list[str] = []
        self.sealed: list[Pair] = []
        self.request_ids = [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(20)]
        self.done: list[str] = []

    def step(self) -> None:
        calls = [
            self.make,
            self.move,
            self.move,
            self.move,
            self.seal,
            self.open,
            self.open,
            self.reencrypt,
            self.batch,
        ]
        calls += [self.look, self.look, self.list]
        self.random.choice(calls)()

    def call(self, method: str, **fields: Any) -> Both.Result:
        who = self.random.choice(["admin"] * 9 + ["app"])
        self.done.append(f"{who} {method} {fields.get('name') or fields.get('source_name')}")
        result = self.both.call(method, who, **fields)
        self.done[-1] += f" → {result.reason}"
        return result

    def make(self) -> None:
        number = self.random.randrange(12)
        made = self.call(
            "CreateKey",
            parent=self.team,
            key_id=f"{self.prefix}-{number}",
            suite=self.random.choice([0, 0, 1, 2]),
            labels={"data-keys": "allowed"} if self.random.random() < 0.2 else {},
            request_id=self.request_id(),
        )
        if made.reason == "OK":
            self.keys.append(made["key"].double.name)

    def move(self) -> None:
        method = self.random.choice(MOVES)
        fields: dict[str, Any] = {"name": self.key(), "request_id": self.request_id()}
        if method != "RotateKey":
            fields |= {"version": self.random.choice([0, 0, 0, 1, 2, 3]), "reason": self.random.choice(["", "why"])}
        if method == "DestroyKey":
            fields["wait_days"] = self.random.choice([0, 7, 30, 3])
        self.call(method, **fields)

    def seal(self) -> None:
        method = self.random.choice(["Encrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"])
        fields = {"plaintext": self.random.choice(PAYLOADS)} if method == "Encrypt" else {}
        made = self.call(method, name=self.key(), **self.bound(), **fields)
        if made.reason == "OK":
            self.sealed.append(made["ciphertext"])

    def open(self) -> None:
        method = self.random.choice(["Decrypt", "Decrypt", "UnwrapDataKey"])
        self.call(method, name=self.key(), ciphertext=self.ciphertext(), **self.bound())

    def reencrypt(self) -> None:
        source, target = self.bound(), self.bound()
        made = self.call(
            "ReEncrypt",
            source_name=self.key(),
            destination_name=self.random.choice(["", self.key()]),
            ciphertext=self.ciphertext(),
            source_encryption_context=source["encryption_context"],
            source_aad=source["aad"],
            destination_encryption_context=target["encryption_context"],
            destination_aad=target["aad"],
        )
        if made.reason == "OK":
            self.sealed.append(made["ciphertext"])

    def batch(self) -> None:
        method = self.random.choice(["BatchEncrypt", "BatchDecrypt", "BatchGenerateDataKey", "BatchUnwrapDataKey"])
        items = []
        for _ in range(self.random.randrange(6)):
            payload = {
                "BatchEncrypt": {"plaintext": self.random.choice(PAYLOADS)},
                "BatchGenerateDataKey": {},
            }.get(method, {"ciphertext": self.ciphertext()})
            items.append(self.bound() | payload)
        self.call(method, name=self.key(), items=items)

    def look(self) -> None:
        self.call(self.random.choice(["GetKey", "AttestKey"]), name=self.key())

    def list(self) -> None:
        method, size = self.random.choice(["ListKeys", "VerifyKeys"]), self.random.choice([0, 1, 5])
        page = self.call(method, parent=self.team, page_size=size)
        if page.reason == "OK" and page["next_page_token"].double:
            self.call(method, parent=self.team, page_token=page["next_page_token"])

    def key(self) -> str:
        rare = [f"{self.team}/keys/absent", "envs/nowhere/teams/shop/keys/orders", "no name"]
        return self.random.choice(self.keys * 5 + rare if self.keys else rare)

    def bound(self) -> dict[str, Any]:
        context = self.random.choices(CONTEXTS, [12, 4, 4, 2, 1])[0]
        return {"encryption_context": context, "aad": self.random.choice([b"", b"", b"", b"x"])}

    def ciphertext(self) -> Any:
        if not self.sealed or self.random.random() < 0.05:
            return b"no ciphertext"
        sealed = self.random.choice(self.sealed)
        if self.random.random() < 0.1:
            at = self.random.choice([*range(8), *range(24, 32), -1])
            sealed = Pair(*(_flipped(one, at) for one in sealed))
        return sealed

    def request_id(self) -> str:
        return self.random.choice(["", "", *self.request_ids])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_sequence_comes_out_the_same(
    both: Both, language: str, new_name: Callable[[], str], seed: int
) -> None:
    sequence = Sequence(both, new_name(), seed)
    try:
        for _ in range(STEPS if language == "python" else round(STEPS * RUST_PART)):
            sequence.step()
    finally:
        print("\n".join(sequence.done))  # shown when it fails
    assert {line.rpartition("→ ")[2] for line in sequence.done} > {"OK", "DECRYPT_FAILED", "STATE_FORBIDS", "NOT_FOUND"}


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
