"""The service, and the echo of `keyreeve-bench`, as processes of their own; the bare gRPC client beside ours."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import grpc

KEY = "envs/dev/teams/shop/keys/bench"


class Service:
    """`keyreeve dev` on a throwaway token, and what its administrator calls it with."""

    def __init__(self, keyreeve: Path, directory: Path) -> None:
        self.directory = directory
        places = ["--dir", str(directory), "--keep", "--listen", "127.0.0.1:0", "--local", "127.0.0.1:0"]
        self._process = subprocess.Popen(
            [keyreeve, "dev", *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.environment = self._environment()

    def settings(self, address: str = "") -> dict[str, Any]:
        """Arguments of a client. `address`: of the echo, which trusts the same authority."""
        tls = self.directory / "tls"
        return {
            "addr": address or self.environment["KEYREEVE_ADDR"],
            "ca": tls / "ca.pem",
            "cert": tls / "admin.pem",
            "key": tls / "admin.key",
        }

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _environment(self) -> dict[str, str]:
        file = self.directory / "env"
        for _ in range(600):
            if file.is_file() and "KEYREEVE_KEY" in (text := file.read_text()):
                lines = [line.removeprefix("export ") for line in text.splitlines()]
                pairs = dict(line.split("=", 1) for line in lines if "=" in line)
                return {name: value for name, value in pairs.items() if name.startswith("KEYREEVE_")}
            time.sleep(0.1)
        raise RuntimeError("the service did not start within a minute: try `keyreeve dev`")


class Echo:
    """Answers Encrypt, and Encrypt on `Crypt`, with bytes of the right size and does nothing else."""

    def __init__(self, bench: Path, service: Service) -> None:
        tls = service.directory / "tls"
        names = {"--certificate": "server.pem", "--key": "server.key", "--client-ca": "ca.pem"}
        files = [argument for option, name in names.items() for argument in (option, str(tls / name))]
        self._process = subprocess.Popen(
            [bench, "echo", *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        said = self._process.stdout.readline() if self._process.stdout else ""
        if not said.startswith("listening "):
            raise RuntimeError("the echo did not start; its message is above")
        self.address = said.removeprefix("listening ").strip()

    def close(self) -> None:
        self._process.communicate()


def bare_credentials(settings: dict[str, Any]) -> grpc.ChannelCredentials:
    """Of grpcio, as its documentation shows it."""
    ca, key, certificate = (Path(settings[name]).read_bytes() for name in ("ca", "key", "cert"))
    return grpc.ssl_channel_credentials(ca, key, certificate)


def target(address: str) -> str:
    return address.removeprefix("https://")
