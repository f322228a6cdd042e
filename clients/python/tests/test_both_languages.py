"""What `keyreeve seal` of the command line (Rust) seals, Python opens, and the other way round: the same bytes (A3)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.dev import BINARY, Dev

from keyreeve import Client, inspect

CONTEXT = {"table": "orders", "ä": "ß"}
PAIRS = [part for key, value in CONTEXT.items() for part in ("--context", f"{key}={value}")]

Run = Callable[..., None]


@pytest.fixture
def run(dev: Dev, tmp_path: Path) -> Run:
    def command(*arguments: str) -> None:
        environment = os.environ | dev.environment()
        subprocess.run([str(BINARY), *arguments], check=True, cwd=tmp_path, env=environment, capture_output=True)

    return command


@pytest.mark.parametrize("size", [0, 5, 16_384, 300_000])
def test_each_language_opens_what_the_other_sealed(
    run: Run, client: Client, key: str, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    (tmp_path / "data").write_bytes(data)
    run("seal", "--to", "/".join(key.split("/")[1::2]), *PAIRS, "data", "--out", "rust.sealed")
    assert client.opener(key).open((tmp_path / "rust.sealed").read_bytes(), context=CONTEXT).reveal() == data
    (tmp_path / "python.sealed").write_bytes(client.sealer(key).seal(data, context=CONTEXT))
    run("open", "--with", "/".join(key.split("/")[1::2]), *PAIRS, "python.sealed", "--out", "opened")
    assert (tmp_path / "opened").read_bytes() == data


def test_each_language_wraps_anew_what_the_other_sealed(
    run: Run, client: Client, new_key: Callable[[], str], tmp_path: Path
) -> None:
    old, new = new_key(), new_key()
    short = ["/".join(name.split("/")[1::2]) for name in (old, new)]
    (tmp_path / "sealed").write_bytes(client.sealer(old).seal(b"hello", context=CONTEXT, store_context=True))
    run("rewrap", "--with", short[0], "--to", short[1], *PAIRS, "sealed")
    both = (tmp_path / "sealed").read_bytes()
    assert len(inspect(both).key_ids) == 2
    for name in (old, new):
        assert client.opener(name).open(both, required=CONTEXT).reveal() == b"hello"
    (tmp_path / "sealed").write_bytes(client.opener(old).rewrap(both, new, context=CONTEXT))
    run("open", "--with", short[1], *PAIRS, "sealed", "--out", "opened")
    assert (tmp_path / "opened").read_bytes() == b"hello"
