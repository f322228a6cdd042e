"""Takes known secrets out of log lines, as the last defence: values that were revealed and then logged after all.

    redact.add(password)          # SecretStr or SecretBytes; kept as long as that object lives
    redact.install()              # every handler of the root logger, now

A value is found as it is, and as `repr`, hexadecimal, base64, URL-safe base64 or percent-encoded text.
"""

from __future__ import annotations

import base64
import logging
import re
import traceback
import urllib.parse
import weakref

from keyreeve.secret import SecretBytes, SecretStr

SHOWN = "[redacted]"
# Shorter values would be found everywhere.
SHORTEST = 4

_known: list[weakref.ref[SecretBytes | SecretStr]] = []


def add(*secrets: SecretBytes | SecretStr) -> None:
    """Redacts these from now on, for as long as the objects live."""
    for secret in secrets:
        value = secret.reveal()
        size = len(value)
        del value
        if size < SHORTEST:
            raise ValueError(f"a secret of less than {SHORTEST} bytes cannot be redacted: it would match everywhere")
        _known.append(weakref.ref(secret))


def text(line: str) -> str:
    """`line` without the known secrets."""
    alive: list[weakref.ref[SecretBytes | SecretStr]] = []
    forms: set[str] = set()
    for reference in _known:
        secret = reference()
        if secret is not None:
            alive.append(reference)
            forms |= _forms(secret)
    if len(alive) < len(_known):
        _known[:] = [reference for reference in _known if reference() is not None]
    if not forms:
        return line
    longest_first = sorted(forms, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), SHOWN, line)


class Filter(logging.Filter):
    """Redacts a record's message, exception and stack. For handlers; a logger's filter does not see its children's records.

    It never raises: what cannot be shown, for whatever reason, is said to be so.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            record.msg = text(record.getMessage())
        except Exception:  # noqa: BLE001 - arguments run code of their own, and a log line fails nobody
            # As `logging` would complain, but without the arguments.
            record.msg = f"a log record at {record.pathname}:{record.lineno} has arguments that do not fit its message"
        record.args = None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = _shown(record.exc_info[1])
        elif record.exc_text:
            record.exc_text = text(record.exc_text)
        # Else a formatter of another kind might print it anew.
        record.exc_info = None
        if record.stack_info:
            record.stack_info = text(record.stack_info)
        return True


def install(logger: logging.Logger | None = None) -> None:
    """Adds the filter to every handler that the logger (the root logger) has now."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(present, Filter) for present in handler.filters):
            handler.addFilter(Filter())


def _shown(error: BaseException) -> str:
    try:
        return text("".join(traceback.format_exception(error)).rstrip())
    except Exception:  # noqa: BLE001 - as above
        return f"{type(error).__name__}, which cannot be shown"


def _forms(secret: SecretBytes | SecretStr) -> set[str]:
    raw = secret.reveal() if isinstance(secret, SecretBytes) else secret.reveal().encode(errors="surrogatepass")
    forms = {
        repr(raw)[2:-1],
        raw.hex(),
        raw.hex().upper(),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        urllib.parse.quote(raw),
        urllib.parse.quote_plus(raw),
    }
    try:
        shown = raw.decode()
    except UnicodeDecodeError:
        return forms
    return forms | {shown, repr(shown)[1:-1]}
