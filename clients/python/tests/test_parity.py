"""Random messages: what Python seals Rust opens, and the other way round; and what the one refuses the other refuses, with the same text.

No service takes part: both sides hold the version keys. `KEYREEVE_PARITY=100000` for so many messages each way; a failure names the
variables that repeat it.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from random import Random, SystemRandom
from typing import Any

import pytest
from support import messages
from support.certificates import Authority
from support.messages import Draft
from support.offline import Offline, VersionKey
from support.peer import Peer, Verdict

from keyreeve import KeyreeveError, SecretBytes

CASES = int(os.environ.get("KEYREEVE_PARITY", "300"))
SEED = int(os.environ.get("KEYREEVE_PARITY_SEED", SystemRandom().randrange(1 << 32)))
ONLY = os.environ.get("KEYREEVE_PARITY_CASE")

NAMES = [f"envs/dev/teams/shop/keys/{name}" for name in ("archive", "orders", "reports")]


class Languages:
    """Both clients, each with and without a cache of data keys, over the same keys."""

    def __init__(self, authority: Authority) -> None:
        self.peer = Peer()
        keys = {name: VersionKey(os.urandom(16), SecretBytes(os.urandom(64))) for name in NAMES}
        for name, key in keys.items():
            self.peer.ask("key", name, key.key_id, key.secret.reveal())
        self._clients = {kept: Offline(authority, keys, data_key_cache=kept) for kept in (False, True)}

    def python_seals(self, draft: Draft) -> bytes:
        first, *others = draft.seal_names
        sealer = self._clients[draft.kept].sealer(first, also=others)
        if not draft.seal_stream:
            return sealer.seal(draft.plaintext, context=draft.context, store_context=draft.store_context)
        sealed = io.BytesIO()
        source = io.BytesIO(draft.plaintext)
        sealer.seal_stream(source, sealed, context=draft.context, store_context=draft.store_context)
        return sealed.getvalue()

    def rust_seals(self, draft: Draft) -> bytes:
        stored = "stored" if draft.store_context else ""
        names = "\n".join(draft.seal_names)
        answer = self.peer.ask(
            "seal", *_way(draft, draft.seal_stream), stored, names, draft.plaintext, *_flat(draft.context)
        )
        return answer[2]

    def python_opens(self, draft: Draft, message: bytes, expected: dict[str, str]) -> Verdict:
        client = self._clients[draft.kept]
        client.calls.clear()
        expectations: dict[str, dict[str, Any]] = {
            "whole": {"context": expected},
            "required": {"required": expected},
            "stored": {"accept_stored_context": True},
        }
        what = expectations[draft.expect]
        opener = client.opener(*draft.open_names)
        try:
            if draft.open_stream:
                target = io.BytesIO()
                opener.open_stream(io.BytesIO(message), target, **what)
                opened, result = True, target.getvalue()
            else:
                opened, result = True, opener.open(message, **what).reveal()
        except KeyreeveError as error:
            opened, result = False, f"{error.reason}: {error.message}".encode()
        return Verdict(opened, f"{client.calls['GenerateDataKey']} {client.calls['UnwrapDataKey']}", result)

    def rust_opens(self, draft: Draft, message: bytes, expected: dict[str, str]) -> Verdict:
        names = "\n".join(draft.open_names)
        opened, calls, result = self.peer.ask(
            "open", *_way(draft, draft.open_stream), draft.expect, names, message, *_flat(expected)
        )
        return Verdict(opened == b"opened", calls.decode(), result)


@pytest.fixture
def languages(authority: Authority) -> Iterator[Languages]:
    both = Languages(authority)
    yield both
    both.peer.close()


def test_each_language_opens_what_the_other_sealed_and_refuses_what_the_other_refuses(
    languages: Languages, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Counter[str] = Counter()
    numbers = iter([int(ONLY)] if ONLY else range(CASES))
    number = -1
    try:
        for number in numbers:
            found += check(languages, Random(f"{SEED}:{number}"))
    except BaseException:
        with capsys.disabled():
            print(f"\nto repeat it: KEYREEVE_PARITY_SEED={SEED} KEYREEVE_PARITY_CASE={number}")
        raise
    with capsys.disabled():
        print(f"\nparity, KEYREEVE_PARITY_SEED={SEED}: {dict(sorted(found.items()))}")
    # Cases that only ever opened or only ever failed would prove little.
    if not ONLY:
        assert found["sealed in Python, opened in Rust"] == found["sealed in Rust, opened in Python"] == CASES
        assert found["changed, refused by both"] > CASES / 4
        assert found["changed, opened by both"] > 0


def check(languages: Languages, random: Random) -> Counter[str]:
    """One message each way, and one of the two changed."""
    draft = messages.draft(random, NAMES)
    of_python, of_rust = languages.python_seals(draft), languages.rust_seals(draft)
    in_rust = languages.rust_opens(draft, of_python, draft.expected)
    in_python = languages.python_opens(draft, of_rust, draft.expected)
    assert (in_rust.opened, in_rust.result) == (True, draft.plaintext)
    assert (in_python.opened, in_python.result) == (True, draft.plaintext)
    what, message, expected = changed(random, draft, random.choice((of_python, of_rust)))
    one, other = languages.python_opens(draft, message, expected), languages.rust_opens(draft, message, expected)
    if draft.kept:
        # Each language counts its own cache.
        one, other = one._replace(calls=""), other._replace(calls="")
    assert one == other, f"a message {what}"
    if one.opened:
        assert one.result == draft.plaintext, f"a message {what}"
    verdict = "opened" if one.opened else "refused"
    return Counter(
        ["sealed in Python, opened in Rust", "sealed in Rust, opened in Python", f"changed, {verdict} by both"]
    )


def changed(random: Random, draft: Draft, message: bytes) -> tuple[str, bytes, dict[str, str]]:
    if draft.expect != "stored" and random.random() < 0.2:
        return "with another context", message, messages.another_context(random, draft.expected)
    what, message = messages.damaged(random, message)
    return what, message, draft.expected


def _way(draft: Draft, stream: bool) -> tuple[str, str]:
    return ("stream" if stream else "value", "kept" if draft.kept else "")


def _flat(context: dict[str, str]) -> list[str]:
    return [text for pair in context.items() for text in pair]
