"""Random messages, and what may become of them on their way; the same number draws the same case."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from keyreeve.sealed import header as headers
from keyreeve.sealed.header import PREFIX, Wrapped
from keyreeve.sealed.payload import CHUNK, SEALED_CHUNK

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-./:äßλ→🗝 "
OFTEN: list[dict[str, str]] = [{}, {"table": "orders"}, {"table": "refunds"}, {"table": "orders", "ä": "ß"}]
"""Contexts that return, so that a kept data key is found again."""


@dataclass(frozen=True)
class Draft:
    """What is to be sealed, how, and with what it will be opened."""

    plaintext: bytes
    context: dict[str, str]
    store_context: bool
    seal_names: tuple[str, ...]
    open_names: tuple[str, ...]
    seal_stream: bool
    open_stream: bool
    kept: bool
    expect: str
    """`whole`, or `required` and `stored` of a message that stores its context."""
    expected: dict[str, str]


def draft(random: Random, names: list[str]) -> Draft:
    kept = random.random() < 0.3
    context = random.choice(OFTEN) if kept else _context(random)
    store_context = random.random() < 0.5
    sealed_to = random.sample(names, random.choice((1, 1, 2)))
    # At least one that fits, and maybe others, in any order.
    opened_with = {random.choice(sealed_to), *random.sample(names, random.randrange(len(names)))}
    expect = random.choice(("whole", "required", "stored")) if store_context else "whole"
    some = dict(random.sample(sorted(context.items()), random.randint(0, len(context))))
    return Draft(
        plaintext=random.randbytes(_size(random)),
        context=context,
        store_context=store_context,
        seal_names=tuple(sealed_to),
        open_names=tuple(random.sample(sorted(opened_with), len(opened_with))),
        seal_stream=random.random() < 0.5,
        open_stream=random.random() < 0.5,
        kept=kept,
        expect=expect,
        expected={"whole": context, "required": some, "stored": {}}[expect],
    )


def _size(random: Random) -> int:
    at_a_boundary = random.choice((1, 1, 1, 2, 3, 5)) * CHUNK + random.choice((-1, 0, 1))
    small = random.choice((0, 1, 15, 16, random.randrange(100)))
    return random.choice((small, random.randrange(5000), at_a_boundary, random.randrange(4 * CHUNK)))


def _context(random: Random) -> dict[str, str]:
    pairs = random.choice((0, 1, 1, 2, 3, 32))
    return {_text(random, 1, 12): _text(random, 0, 30) for _ in range(pairs)}


def _text(random: Random, least: int, most: int) -> str:
    return "".join(random.choices(LETTERS, k=random.randint(least, most)))


def damaged(random: Random, message: bytes) -> tuple[str, bytes]:
    """A message that is not as it was sealed, though some may still open, and what was done to it."""
    kind = random.choice(("cut", "cut", "flip", "flip", "header", "header", "chunks", "chunks", "keys", "longer"))
    end = headers.length(message[:32])
    if kind == "cut":
        at = random.choice((random.randrange(len(message)), len(message) - len(message[end + PREFIX :]) % SEALED_CHUNK))
        return f"cut at {at}", message[:at]
    if kind == "longer":
        return "with more behind", message + random.choice((b"\0", random.randbytes(16), message[-SEALED_CHUNK:]))
    if kind in ("flip", "header"):
        bit = random.randrange(8 * (len(message) if kind == "flip" else end))
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        return f"with bit {bit} flipped", bytes(changed)
    if kind == "keys":
        return _other_keys(random, message, end)
    return _other_chunks(random, message, end + PREFIX)


def _other_chunks(random: Random, message: bytes, start: int) -> tuple[str, bytes]:
    chunks = [message[at : at + SEALED_CHUNK] for at in range(start, len(message), SEALED_CHUNK)]
    one, other = random.randrange(len(chunks)), random.randrange(len(chunks))
    done = random.choice(("moved", "doubled", "dropped"))
    if done == "doubled":
        chunks.insert(other, chunks[one])
    else:
        taken = chunks.pop(one)
        if done == "moved":
            chunks.insert(other, taken)
    return f"with chunk {one} {done} ({other})", message[:start] + b"".join(chunks)


def _other_keys(random: Random, message: bytes, end: int) -> tuple[str, bytes]:
    """Anyone may add, remove and reorder wrapped keys."""
    header = headers.parse(message)
    wrapped = list(header.wrapped)
    one = wrapped[random.randrange(len(wrapped))]
    strange = random.choice(
        (
            Wrapped(9, random.randbytes(random.randrange(200))),
            Wrapped(1, one.data[:-1]),
            Wrapped(1, one.data[:24] + random.randbytes(4) + one.data[28:]),
            Wrapped(1, one.data[:24] + bytes(4) + one.data[28:]),
            Wrapped(1, one.data[:40] + random.randbytes(len(one.data) - 40)),
        )
    )
    done = random.choice(("reversed", "preceded", "followed", "replaced"))
    others = {
        "reversed": wrapped[::-1],
        "preceded": [strange, *wrapped],
        "followed": [*wrapped, strange],
        "replaced": [strange],
    }
    return f"with wrapped keys {done}", header.with_keys(tuple(others[done])).encode() + message[end:]


def another_context(random: Random, context: dict[str, str]) -> dict[str, str]:
    """One pair more, less, or other."""
    names = sorted(context)
    if not names or random.random() < 0.3:
        return {**dict(random.sample(sorted(context.items()), min(31, len(context)))), "another": "pair"}
    name = random.choice(names)
    other = {key: value for key, value in context.items() if key != name}
    return other if random.random() < 0.5 else {**other, name: context[name] + "x"}
