"""Where the service is, whom to trust, and who we are: from arguments, else from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from keyreeve.errors import ConfigurationError

DEADLINE = 30.0
CONNECT_TIMEOUT = 5.0
LONGEST_DEADLINE = 60.0

_VARIABLES = {"addr": "KEYREEVE_ADDR", "ca": "KEYREEVE_CA", "cert": "KEYREEVE_CERT", "key": "KEYREEVE_KEY"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a connection needs. Paths, never keys: files are read when a connection is made, and again when they change."""

    endpoints: tuple[str, ...]
    """`host:port` each."""
    ca: Path
    """PEM file of the authorities that may have signed the service's certificate."""
    cert: Path
    """PEM file of the client certificate, leaf first. Its SPIFFE ID is who the service takes the caller for."""
    key: Path
    """PEM file of the private key of `cert`."""
    deadline: float = DEADLINE
    """Seconds for a call, over all its tries."""


def load(
    addr: str | Iterable[str] | None,
    ca: str | os.PathLike[str] | None,
    cert: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    deadline: float,
) -> Config:
    """What is None comes from KEYREEVE_ADDR (several, with commas between), KEYREEVE_CA, KEYREEVE_CERT, KEYREEVE_KEY."""
    given = {"addr": addr, "ca": ca, "cert": cert, "key": key}
    found = {name: os.environ.get(_VARIABLES[name]) if value is None else value for name, value in given.items()}
    missing = [f"`{name}` ({_VARIABLES[name]})" for name, value in found.items() if not value]
    if missing:
        raise ConfigurationError(f"not told how to reach the service: {', '.join(missing)} missing")
    addresses = found["addr"]
    several = addresses.split(",") if isinstance(addresses, str) else list(addresses)  # type: ignore[arg-type]
    return Config(
        endpoints=tuple(dict.fromkeys(_endpoint(address.strip()) for address in several)),
        ca=Path(found["ca"]),  # type: ignore[arg-type]
        cert=Path(found["cert"]),  # type: ignore[arg-type]
        key=Path(found["key"]),  # type: ignore[arg-type]
        deadline=checked_deadline(deadline),
    )


def checked_deadline(seconds: float) -> float:
    """Seconds that the service would take, too."""
    if not 0 < seconds <= LONGEST_DEADLINE:
        raise ConfigurationError(
            f"a deadline of {seconds:g} s is not possible: more than 0, at most {LONGEST_DEADLINE:g} s"
        )
    return seconds


def _endpoint(address: str) -> str:
    url = urlsplit(address if "://" in address else f"https://{address}")
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if url.scheme != "https":
        raise ConfigurationError(
            f"`{address}` is no address of the service: it speaks TLS only, write https://host:port"
        )
    if not host or not port or url.path.strip("/") or url.query or url.username:
        raise ConfigurationError(f"`{address}` is no address of the service: write https://host:port")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
