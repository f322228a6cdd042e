"""The same for asyncio: `AsyncClient`, `AsyncSealer`, `AsyncOpener`."""

from keyreeve.aio.client import AsyncClient
from keyreeve.aio.opener import AsyncOpener
from keyreeve.aio.sealer import AsyncSealer
from keyreeve.aio.stream import AsyncCryptAnswers
from keyreeve.aio.watch import AsyncKeyChanges

__all__ = ["AsyncClient", "AsyncCryptAnswers", "AsyncKeyChanges", "AsyncOpener", "AsyncSealer"]
