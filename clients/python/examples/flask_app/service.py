"""The client of this process, and what the application does with it."""

from __future__ import annotations

import functools
import os

from keyreeve import Client, SecretBytes

KEY = os.environ.get("NOTES_KEY", "dev/shop/notes")

# A request that waits holds a thread of its worker. So the deadline is short, and well below the timeout of gunicorn, which would kill the
# worker and every request in it.
DEADLINE = 3


@functools.cache
def client() -> Client:
    """Made when it is first needed; its connections are for all threads of the process."""
    return Client(deadline=DEADLINE)


# Pre-fork servers: a client that was used before the fork has the parent's connections and says so (`ClientClosed`). Here the child makes
# its own. With that it does not matter whether something in the parent, under `--preload`, has used it.
os.register_at_fork(after_in_child=client.cache_clear)


def seal(text: str, *, user: str, note: str) -> bytes:
    """At most 64 KiB of UTF-8. Opens as this note of this user only."""
    return client().encrypt(KEY, text.encode(), context=_context(user, note))


def open_note(body: bytes, *, user: str, note: str) -> SecretBytes:
    """Raises DecryptFailed if it is another user's, or another note."""
    return client().decrypt(KEY, body, context=_context(user, note))


def _context(user: str, note: str) -> dict[str, str]:
    return {"table": "notes", "user": user, "note": note}
