"""The client of this process."""

from __future__ import annotations

import functools
import os

from keyreeve import Client


@functools.cache
def client() -> Client:
    """Made when it is first needed. The deadline is shorter than a worker's timeout, so that a slow service does not cost workers."""
    return Client(deadline=5)


# A client that was used before a fork is of no use in the child; here the child makes its own. So it does not matter whether something
# that runs before the fork (an `AppConfig.ready`, `gunicorn --preload`) has used it already.
os.register_at_fork(after_in_child=client.cache_clear)
