"""Where the double does not start, and whom it does not answer: it must not be taken for the service."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

OURS = "KEYREEVE_ENV"
OTHERS = ("APP_ENV", "ENVIRONMENT", "ENV", "DJANGO_ENV", "FLASK_ENV")
"""What frameworks and platforms call it. `KEYREEVE_ENV`, if it is set, says it alone."""
PRODUCTION = {"production", "prod", "live"}

WARNING = "keyreeve.testing: an in-memory double of Keyreeve serves in this process: for tests only, nothing it seals is protected\n"


class NotHere(RuntimeError):
    """The double refuses to start."""


def refuse_production(environment: Mapping[str, str] = os.environ) -> None:
    """Raises NotHere if the environment says production."""
    names = (OURS,) if environment.get(OURS) else OTHERS
    for name in names:
        if environment.get(name, "").strip().lower() in PRODUCTION:
            raise NotHere(
                f"{name}={environment[name]}: the test double of Keyreeve does not start in production. "
                f"Where this is a test all the same, set {OURS}=test"
            )


def loopback(address: str) -> str:
    """`host:port`, if the host is a loopback address. Names are none: what they mean is decided elsewhere."""
    try:
        url = urlsplit(f"//{address}")
        host, port = ipaddress.ip_address(url.hostname or ""), url.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise NotHere(f"`{address}` is no address for the test double: write 127.0.0.1:0")
    if not host.is_loopback:
        raise NotHere(f"`{address}` is not loopback: the test double of Keyreeve is for this host only")
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def is_loopback_peer(peer: str) -> bool:
    """`peer`: as gRPC names it, e.g. `ipv4:127.0.0.1:4711`."""
    kind, _, address = unquote(peer).partition(":")
    try:
        return kind in ("ipv4", "ipv6") and ipaddress.ip_address(urlsplit(f"//{address}").hostname or "").is_loopback
    except ValueError:
        return False


_warned = False


def warn_once() -> None:
    """One line on standard error, once in a process."""
    global _warned
    if not _warned:
        _warned = True
        sys.stderr.write(WARNING)
