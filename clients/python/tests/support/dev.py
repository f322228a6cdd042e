"""`keyreeve dev`: a throwaway service on a throwaway software token, on free ports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BINARY = Path(os.environ.get("KEYREEVE_BIN", Path(__file__).parents[4] / "target/debug/keyreeve"))


class Dev:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._env: dict[str, str] = {}

    def start(self, listen: str = "127.0.0.1:0") -> None:
        env = self.directory / "env"
        env.unlink(missing_ok=True)
        command = [
            str(BINARY),
            "dev",
            "--dir",
            str(self.directory),
            "--keep",
            "--listen",
            listen,
            "--local",
            "127.0.0.1:0",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not env.is_file() or "KEYREEVE_KEY" not in env.read_text():
            if self._process.poll() is not None:
                said = self._process.stderr.read().decode() if self._process.stderr else ""
                raise RuntimeError(f"keyreeve dev did not start: {said}")
            if time.monotonic() > deadline:
                raise RuntimeError("keyreeve dev did not start within 60 s")
            time.sleep(0.02)
        lines = env.read_text().splitlines()
        self._env = dict(line.removeprefix("export ").split("=", 1) for line in lines if line)

    def stop(self, *, kill: bool = False) -> None:
        """By its process id, and nobody else's."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()

    @contextlib.contextmanager
    def running(self, listen: str = "127.0.0.1:0") -> Iterator[str]:
        """Its address, while it runs."""
        self.start(listen)
        try:
            yield self.address
        finally:
            self.stop()

    @property
    def address(self) -> str:
        return self._env["KEYREEVE_ADDR"].removeprefix("https://")

    def settings(self, who: str = "admin") -> dict[str, Any]:
        """Arguments of a client. `who`: admin, or app, which may seal and not open."""
        tls = self.directory / "tls"
        return {
            "addr": self._env["KEYREEVE_ADDR"],
            "ca": str(tls / "ca.pem"),
            "cert": str(tls / f"{who}.pem"),
            "key": str(tls / f"{who}.key"),
        }

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in self._env.items() if name.startswith("KEYREEVE_")}
