"""A program that starts while the service may be away (F2): it waits for what it cannot do without, and goes on without the rest.

python start.py DIRECTORY        # holds database.sealed (needed) and mail.sealed (the program can do without)
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from keyreeve import Client, Event, KeyreeveError, SecretBytes, redact
from keyreeve.errors import Draining, LogUnavailable, Overloaded, TokenUnavailable, Unreachable

KEY = "dev/shop/config"
PATIENCE = 120.0

log = logging.getLogger("start")

# What passes by itself. A refusal does not: it is raised at once.
AWAY = (Unreachable, Draining, Overloaded, TokenUnavailable, LogUnavailable, TimeoutError)


def alarm(event: Event) -> None:
    """Where a real program counts: retries are noise, these are not."""
    if event.name in ("circuit_opened", "budget_exhausted", "certificate_unusable"):
        log.warning("keyreeve: %s at %s, %s", event.name, event.endpoint, event.reason)


def needed(client: Client, file: Path, *, patience: float = PATIENCE) -> SecretBytes:
    """Opens a secret, and waits for the service as long as `patience` says. The client itself gives up after its deadline."""
    begun = time.monotonic()
    pause = 1.0
    while True:
        try:
            return _opened(client, file)
        except AWAY as error:
            if time.monotonic() - begun + pause > patience:
                raise
            log.warning("waiting for %s: %s", file.name, error)
        time.sleep(pause)
        pause = min(pause * 2, 15.0)


def optional(client: Client, file: Path) -> SecretBytes | None:
    """Opens a secret that the program can do without; the operator is told."""
    try:
        return _opened(client, file)
    except KeyreeveError as error:
        log.error("going on without %s: %s", file.name, error)  # noqa: TRY400 - its text says all
        return None


def _opened(client: Client, file: Path) -> SecretBytes:
    secret = client.opener(KEY).open(file.read_bytes(), context={"file": file.name})
    # Should it end up in a log line all the same.
    redact.add(secret)
    return secret


def main(directory: Path) -> str:
    logging.basicConfig(level=logging.INFO)
    redact.install()
    with Client(on_event=alarm) as client:
        database = needed(client, directory / "database.sealed")
        mail = optional(client, directory / "mail.sealed")
    log.info("database password %s, mail password %s", database, mail)
    return f"serving, mail {'on' if mail else 'off'}"


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
