"""The client knows every reason that the service and docs/clients.md know, and no other."""

from __future__ import annotations

import pickle
import re

import pytest

from conftest import REPOSITORY
from keyreeve import KeyreeveError, errors


def reasons_of_the_service() -> set[str]:
    error, status = (REPOSITORY / "src/error.rs").read_text(), (REPOSITORY / "src/grpc/status.rs").read_text()
    named = set(re.findall(r'Self::\w+[^\n]*=> "([A-Z_]+)"', error))
    # What a bare answer of tonic is dressed as, up to the tests at the end.
    built = status.split("#[cfg(test)]")[0]
    dressed = set(re.findall(r'"([A-Z][A-Z_]{3,})"', built)) | set(re.findall(r'Code::\w+ => "([A-Z_]+)"', built))
    return (named | dressed) - {"OK"}


def reasons_of_the_page() -> set[str]:
    page = (REPOSITORY / "docs/clients.md").read_text().split("## Errors")[1].split("## Events")[0]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))


def test_every_reason_of_service_and_page_has_a_class_and_no_class_is_left_over() -> None:
    assert len(reasons_of_the_service()) > 30
    assert len(reasons_of_the_page()) == 9
    assert set(errors.BY_REASON) == reasons_of_the_service() | reasons_of_the_page()


@pytest.mark.parametrize("kind", errors.BY_REASON.values(), ids=lambda kind: kind.reason)
def test_each_says_what_to_do_next_and_survives_a_queue(kind: type[KeyreeveError]) -> None:
    error = kind("it failed", request_id="r-1", tries=3, retry_after=0.5, fields=(("name", "has no team"),))
    assert error.next_step != KeyreeveError.next_step
    text = str(error)
    assert text == f"it failed [{kind.reason}, request r-1, 3 tries, retry after 0.5 s] Next: {kind.next_step}."
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.fields) == (text, error.fields)


def test_a_reason_of_a_newer_service_is_kept() -> None:
    error = errors.of_reason("MOON_PHASE", "wait for the moon", code="UNAVAILABLE")
    assert type(error) is KeyreeveError
    assert (error.reason, error.code) == ("MOON_PHASE", "UNAVAILABLE")
