"""The watch of a cache of data keys, for asyncio. Its rules are those of `keyreeve.cache_watch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from keyreeve.aio.watch import AsyncKeyChanges
from keyreeve.cache_watch import REFUSALS, Watched
from keyreeve.data_keys import DataKeys
from keyreeve.errors import KeyreeveError, PositionUnknown
from keyreeve.model import Position


class AsyncCacheWatch:
    """Drops cached data keys when their keys change. Its task runs while there are names."""

    def __init__(self, cache: DataKeys, watch: Callable[[list[str], Position | None], AsyncKeyChanges]) -> None:
        self._cache = cache
        self._watch = watch
        self._watched = Watched(cache)
        self._task: asyncio.Task[None] | None = None

    def add(self, name: str) -> None:
        """A key of this name may be kept from now on."""
        if not self._watched.lacks(name):
            return
        left = self._watched.add(name)
        if self._task is not None:
            # The next one goes on with the new name from the same position, so that nothing is missed.
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())
        for idle in left:
            self._cache.forget(idle)

    async def close(self) -> None:
        self._watched.over = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._watched.names and not self._watched.over:
            await self._follow(self._watch(self._watched.names, self._watched.position))

    async def _follow(self, changes: AsyncKeyChanges) -> None:
        try:
            while (change := await changes.message()) is not None:
                self._watched.told(change)
                self._watched.position = change.position
        except PositionUnknown:
            self._watched.position = None
        except REFUSALS:
            refused = [name for name in self._watched.names if await self._is_refused(name)]
            self._watched.refuse(refused)
            for name in refused:
                self._cache.forget(name)
        except KeyreeveError:
            # Told already.
            self._watched.over = True

    async def _is_refused(self, name: str) -> bool:
        try:
            async with self._watch([name], self._watched.position) as changes:
                await changes.message()
        except REFUSALS:
            return True
        except KeyreeveError:
            # Of no single name: the stream of all meets it, too.
            pass
        return False
