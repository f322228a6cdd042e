"""`keyreeve-double`: the service in memory of the Rust client (`clients/rust-testing`), in a process of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BINARY = Path(os.environ.get("KEYREEVE_DOUBLE_BIN", Path(__file__).parents[4] / "target/debug/keyreeve-double"))


class RustDouble:
    """What the contract suite needs of `keyreeve.testing.Service`. `callers`: the roles of each, with the keys of `teams`."""

    def __init__(
        self, *, bound: Iterable[str] = (), callers: Mapping[str, list[str]] | None = None, teams: Iterable[str] = ()
    ) -> None:
        arguments = [str(BINARY)]
        for name in bound:
            arguments += ["--environment", name]
        for name, roles in (callers or {}).items():
            arguments += ["--caller", f"{name}={','.join(roles)}@{','.join(teams)}"]
        environment = os.environ | {"KEYREEVE_ENV": "test"}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._said = self._process.stdin, self._process.stdout
        found = itertools.takewhile(lambda line: line != "\n", self._said)
        self._found = dict(line.rstrip("\n").split("=", 1) for line in found)
        if not self._found:
            raise RuntimeError("keyreeve-double did not start; it has said why on standard error")

    def __enter__(self) -> RustDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.wait(20)
        self._said.close()

    def settings(self, who: str = "admin") -> dict[str, Any]:
        """Arguments of a client."""
        files = Path(self._found["KEYREEVE_CERT"]).parent
        return {
            "addr": self._found["KEYREEVE_ADDR"],
            "ca": self._found["KEYREEVE_CA"],
            "cert": str(files / f"{who}.pem"),
            "key": str(files / f"{who}.key"),
        }

    def stop(self, *, drain: bool) -> None:
        """In order, which is the only way it knows."""
        assert drain
        self._orders.write("stop\n")
        self._orders.flush()
        assert self._said.readline() == "done\n"
