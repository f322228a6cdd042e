"""Every exception leaves the package through here, without the frames inside it.

Frames hold locals: plaintexts, keys, messages. Tools that print tracebacks with locals (`traceback` with `capture_locals`, error trackers,
test runners) would show them. So an exception that leaves a public function starts its traceback at that function; for what is no
`KeyreeveError`, a note says where it came from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from keyreeve.errors import KeyreeveError

P = ParamSpec("P")
T = TypeVar("T")


def clean(function: Callable[P, T]) -> Callable[P, T]:
    """For public functions."""

    @functools.wraps(function)
    def through(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again below
            failure = bare(error)
        del args, kwargs
        raise failure

    return through


def clean_async(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """For public coroutine functions."""

    @functools.wraps(function)
    async def through(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - as above
            failure = bare(error)
        del args, kwargs
        raise failure

    return through


def bare(error: BaseException) -> BaseException:
    """The exception without traceback, cause and context."""
    ours = isinstance(error, (KeyreeveError, StopIteration, StopAsyncIteration))
    if isinstance(error, Exception) and not ours and hasattr(error, "add_note"):
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        if last:
            error.add_note(
                f"raised in {last.tb_frame.f_code.co_filename}:{last.tb_lineno}; keyreeve shows no frames of its own"
            )
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
