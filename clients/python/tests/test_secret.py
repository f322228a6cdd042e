"""F3: a secret shows its name, and nothing else, to whatever looks at it by accident."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import pprint
from collections.abc import Callable
from typing import Any

import pytest

from keyreeve import DataKey, EncryptItem, SecretBytes, SecretStr

CANARY = "canary-7f3a-canary"


@dataclasses.dataclass
class Holder:
    password: SecretStr
    blob: SecretBytes


def secrets() -> list[SecretStr | SecretBytes]:
    return [SecretStr(CANARY, name="db password"), SecretBytes(CANARY.encode(), name="db password")]


LOOKS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "format": lambda s: f"{s} {s!r} {s:>60} {s!s:.40}",
    "percent": lambda s: "%s %r" % (s, s),  # noqa: UP031 - old code does this
    "pprint": pprint.pformat,
    "list": lambda s: str([s, {"k": s}]),
    "vars": lambda s: [(name, getattr(s, name)) for name in dir(s) if name != "reveal" and not name.startswith("__")],
    "copy": lambda s: repr(copy.copy(s)),
    "deepcopy": lambda s: repr(copy.deepcopy([s])),
    "json default": lambda s: json.dumps({"k": s}, default=str),
    "data key": lambda s: repr(DataKey(plaintext=SecretBytes(CANARY.encode()), ciphertext=b"", key_version=1)),
    "item": lambda s: repr(EncryptItem(CANARY.encode(), context={"a": "b"})),
}


@pytest.mark.parametrize("secret", secrets(), ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_it_does_not_show(secret: SecretStr | SecretBytes, look: Callable[[Any], object]) -> None:
    assert CANARY not in str(look(secret))


def test_a_dataclass_that_holds_secrets_can_be_printed_and_taken_apart() -> None:
    holder = Holder(SecretStr(CANARY, name="password"), SecretBytes(CANARY.encode()))
    assert repr(holder) == "Holder(password=SecretStr(password), blob=SecretBytes(…))".replace(
        "Holder", Holder.__qualname__
    )
    assert CANARY not in str(dataclasses.asdict(holder))
    assert dataclasses.asdict(holder)["password"].reveal() == CANARY


@pytest.mark.parametrize("secret", secrets(), ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "take_out",
    [pickle.dumps, json.dumps, hash, lambda s: s + s, lambda s: "" + s, lambda s: bytes(s), len, iter, list],
    ids=["pickle", "json", "hash", "add", "radd", "bytes", "len", "iter", "list"],
)
def test_it_refuses_what_would_carry_it_on(secret: Any, take_out: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take_out(secret)
    assert CANARY not in str(caught.value)


def test_it_gives_its_value_to_whoever_asks_and_compares() -> None:
    text, data = secrets()
    assert text.reveal() == CANARY
    assert data.reveal() == CANARY.encode()
    assert SecretStr(CANARY) == text
    assert SecretStr("x") != text
    assert SecretBytes(memoryview(CANARY.encode())) == data
    assert text != CANARY
    assert SecretStr(CANARY).encode() == SecretBytes(CANARY.encode()).decode().encode()


def test_bytes_that_are_no_text_do_not_show_in_the_error() -> None:
    with pytest.raises(ValueError, match="not utf-8 text") as caught:
        SecretBytes(b"\xff" + CANARY.encode()).decode()
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_text_that_cannot_be_encoded_is_not_shown() -> None:
    for encoding, text in (("utf-8", "geheim\udc80"), ("ascii", "gehe\u00efm")):
        with pytest.raises(ValueError, match="cannot be written") as failure:
            SecretStr(text).encode(encoding)
        assert failure.value.__context__ is None
        assert "gehe" not in repr(failure.value) + str(vars(failure.value))
    assert SecretStr("geheim\udc80") == SecretStr("geheim\udc80")


def test_a_secret_is_made_of_what_it_says() -> None:
    for made in (lambda: SecretBytes(5), lambda: SecretBytes("text"), lambda: SecretStr(None), lambda: SecretStr(b"x")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is made of"):
            made()
