"""What work in a thread must leave to the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from keyreeve.data_keys import UsableKey


def in_loop(key: UsableKey) -> UsableKey:
    """The same key, for a thread: its bytes are counted in the loop, where `on_event` runs."""
    loop = asyncio.get_running_loop()

    def count(size: int) -> None:
        loop.call_soon_threadsafe(lambda: key.count(size))

    return replace(key, count=count)
