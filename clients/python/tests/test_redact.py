"""F3: known values do not reach a log line, whatever form they have there."""

from __future__ import annotations

import base64
import gc
import io
import logging
import sys
import traceback
import urllib.parse
from collections.abc import Iterator

import pytest

from keyreeve import SecretBytes, SecretStr, redact

CANARY = "canary/pa ss'wörd+1"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    logger = logging.getLogger("test-redact")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger.addHandler(handler)
    logger.propagate = False
    redact.install(logger)
    yield logger, out
    logger.removeHandler(handler)


FORMS = {
    "as it is": CANARY,
    "repr": repr(CANARY),
    "repr of bytes": repr(CANARY.encode()),
    "hex": CANARY.encode().hex(),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "url-safe base64": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "percent": urllib.parse.quote(CANARY),
    "form": urllib.parse.quote_plus(CANARY),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_known_value_is_taken_out_in_every_form(log: tuple[logging.Logger, io.StringIO], form: str) -> None:
    logger, out = log
    secret = SecretStr(CANARY)
    logger.error("before: %s", form)
    assert form in out.getvalue(), "the test can see a leak"
    out.truncate(0)
    redact.add(secret)
    logger.error("after: %s", form)
    assert form not in out.getvalue()
    assert redact.SHOWN in out.getvalue()


def test_exceptions_and_stacks_are_redacted_too(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    secret = SecretBytes(CANARY.encode())
    redact.add(secret)
    try:
        raise ValueError(f"cannot log in with {CANARY}")
    except ValueError:
        logger.exception("failed", stack_info=True)
    assert "ValueError: cannot log in with [redacted]" in out.getvalue()
    assert CANARY not in out.getvalue()


def test_a_formatter_that_prints_exceptions_in_its_own_way_gets_none() -> None:
    class Own(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            shown = traceback.format_exception(*record.exc_info) if record.exc_info else []
            return record.getMessage() + "".join(shown)

    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Own())
    handler.addFilter(redact.Filter())
    secret = SecretStr(CANARY)
    redact.add(secret)
    try:
        raise ValueError(CANARY)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    handler.handle(record)
    assert "failed" in out.getvalue()
    assert CANARY not in out.getvalue()


def test_a_value_is_known_as_long_as_its_secret_lives() -> None:
    secret = SecretStr(CANARY)
    redact.add(secret)
    assert redact.text(f"a {CANARY} b") == "a [redacted] b"
    del secret
    gc.collect()
    assert redact.text(f"a {CANARY} b") == f"a {CANARY} b"


def test_the_longer_of_two_values_is_taken_out_whole() -> None:
    short, long = SecretStr("canary"), SecretStr("canary-and-more")
    redact.add(short, long)
    assert redact.text("canary-and-more") == "[redacted]"


def test_a_value_that_would_match_everywhere_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="less than 4") as caught:
        redact.add(SecretStr("abc"))
    assert "abc" not in str(caught.value)


def test_arguments_that_do_not_fit_are_not_printed(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    logger.error("%d", CANARY)
    assert CANARY not in out.getvalue()
    assert "arguments that do not fit" in out.getvalue()


class Unshowable(Exception):
    """Fails in every way in which a value in a log line can."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__


def test_a_line_that_cannot_be_shown_fails_nobody(
    log: tuple[logging.Logger, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, out = log
    monkeypatch.setattr(logging, "raiseExceptions", False)
    redact.add(SecretStr(CANARY))
    logger.error("%(absent)s", {"present": CANARY})
    logger.error("%s", Unshowable())
    logger.error(Unshowable())
    try:
        raise Unshowable
    except Unshowable:
        logger.exception("failed")
    monkeypatch.setattr(traceback, "format_exception", lambda _: 1 / 0)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("failed")
    assert out.getvalue().count("arguments that do not fit") == 3
    assert "ValueError, which cannot be shown" in out.getvalue()
    assert CANARY not in out.getvalue()


def test_what_another_handler_has_formatted_is_redacted_too() -> None:
    secret = SecretStr(CANARY)
    redact.add(secret)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), None)
    record.exc_text = f"ValueError: {CANARY}"
    assert redact.Filter().filter(record)
    assert record.exc_text == "ValueError: [redacted]"
