"""Values that do not show: not in repr, str, format, logs, tracebacks, copies, pickles or JSON.

They keep a value from getting out by accident, not from code that asks for it: `reveal()` gives it. Python can neither wipe immutable
bytes nor hide them from a debugger.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T", bytes, str)
V = TypeVar("V")


class _Secret(Generic[T]):
    # A function is kept, not the value: tools that print the attributes of an object print a function's address.
    __slots__ = ("__weakref__", "_name", "_value")

    _name: str
    _value: Callable[[], T]

    def reveal(self) -> T:
        """The value. Use it where it is needed, and do not keep it."""
        return self._value()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name or '…'})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __copy__(self) -> _Secret[T]:
        return self

    def __deepcopy__(self, memo: object) -> _Secret[T]:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled: pass on its name or its ciphertext, and open it where it is used")

    # Equal secrets with different hashes, or a hash that tells of the value: neither is good.
    __hash__ = None  # type: ignore[assignment]


class SecretBytes(_Secret[bytes]):
    """Bytes that do not show. `SecretBytes(value, name="…")`: only the name is shown."""

    __slots__ = ()

    def __init__(self, value: bytes | bytearray | memoryview | SecretBytes, *, name: str = "") -> None:
        self._name = name
        if not isinstance(value, (SecretBytes, bytes, bytearray, memoryview)):
            raise TypeError(f"a secret of bytes is made of bytes, not {type(value).__name__}")
        kept = value.reveal() if isinstance(value, SecretBytes) else bytes(value)
        self._value = lambda: kept

    def decode(self, encoding: str = "utf-8") -> SecretStr:
        """The same as text. A `ValueError` does not show the bytes."""
        try:
            return SecretStr(self.reveal().decode(encoding), name=self._name)
        except UnicodeDecodeError:
            pass
        raise ValueError(f"the secret is not {encoding} text")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self.reveal(), other.reveal())


class SecretStr(_Secret[str]):
    """Text that does not show. `SecretStr(value, name="…")`: only the name is shown."""

    __slots__ = ()

    def __init__(self, value: str | SecretStr, *, name: str = "") -> None:
        self._name = name
        if not isinstance(value, (SecretStr, str)):
            raise TypeError(f"a secret of text is made of text, not {type(value).__name__}")
        kept = value.reveal() if isinstance(value, SecretStr) else str(value)
        self._value = lambda: kept

    def encode(self, encoding: str = "utf-8") -> SecretBytes:
        """The same as bytes. A `ValueError` does not show the text."""
        try:
            return SecretBytes(self.reveal().encode(encoding), name=self._name)
        except UnicodeEncodeError:
            pass
        raise ValueError(f"the secret cannot be written as {encoding}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretStr):
            return NotImplemented
        own, others = (secret.reveal().encode(errors="surrogatepass") for secret in (self, other))
        return hmac.compare_digest(own, others)


class Hidden(Generic[V]):
    """Carries anything through frames whose locals somebody may print. Internal: its value is an attribute."""

    __slots__ = ("value",)

    def __init__(self, value: V) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<hidden>"


def plain(value: bytes | bytearray | memoryview | SecretBytes) -> bytes:
    """What a caller gave as plaintext."""
    if isinstance(value, SecretBytes):
        return value.reveal()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"plaintext is bytes or SecretBytes, not {type(value).__name__}")
