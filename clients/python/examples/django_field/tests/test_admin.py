"""The admin, the one view, and error reports: who sees what."""

from __future__ import annotations

import logging
import os
import sys
import time

import pytest
from conftest import CANARY
from django.contrib.auth.models import Permission, User
from django.http import QueryDict
from django.test import Client as Browser
from django.test import RequestFactory
from django.views.debug import ExceptionReporter
from keyreeve import errors
from support.dev import Dev

from encrypted import service
from patients.models import Patient

log = logging.getLogger(__name__)


@pytest.fixture
def browser(calls: list[str]) -> Browser:
    browser = Browser(raise_request_exception=False)
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.fixture
def patient(calls: list[str]) -> Patient:
    patient = Patient.objects.create(name="Ada", diagnosis=CANARY)
    calls.clear()
    return patient


def test_the_admin_shows_no_value_and_opens_none(browser: Browser, patient: Patient, calls: list[str]) -> None:
    for page in ("/admin/patients/patient/", f"/admin/patients/patient/{patient.pk}/change/"):
        answer = browser.get(page)
        assert answer.status_code == 200
        assert "key version 1" in answer.text
        assert CANARY not in answer.text
    assert calls == []


def test_the_admin_takes_a_new_value_and_leaves_the_old_one_if_none_is_given(
    browser: Browser, patient: Patient
) -> None:
    page = f"/admin/patients/patient/{patient.pk}/change/"
    assert browser.post(page, {"name": "Ada L.", "new_diagnosis": ""}).status_code == 302
    assert Patient.objects.get().diagnosis.reveal() == CANARY
    browser.post(page, {"name": "Ada L.", "new_diagnosis": f"new {CANARY}"})
    assert Patient.objects.get().diagnosis.reveal() == f"new {CANARY}"
    assert CANARY not in browser.get(f"/admin/patients/patient/{patient.pk}/history/").text


def test_the_view_shows_it_to_whom_has_the_permission_and_to_no_cache(calls: list[str], patient: Patient) -> None:
    user = User.objects.create_user("nurse")
    browser = Browser()
    browser.force_login(user)
    page = f"/patients/{patient.pk}/diagnosis"
    assert browser.get(page).status_code == 403
    assert calls == [], "who may not see it does not have it opened"
    user.user_permissions.add(Permission.objects.get(codename="read_diagnosis"))
    answer = browser.get(page)
    assert answer.text == CANARY
    assert "no-store" in answer["Cache-Control"]


def test_a_service_that_is_gone_is_503_and_the_rest_of_the_site_goes_on(
    browser: Browser, patient: Patient, dev: Dev, caplog: pytest.LogCaptureFixture
) -> None:
    address = dev.address
    dev.stop()
    try:
        answer = browser.get(f"/patients/{patient.pk}/diagnosis")
        assert (answer.status_code, answer["Retry-After"]) == (503, "5")
        assert "UNREACHABLE" in caplog.text
        page = f"/admin/patients/patient/{patient.pk}/change/"
        assert browser.get(page).status_code == 200
        assert browser.post(page, {"name": "Ada", "new_diagnosis": CANARY}).status_code == 503
    finally:
        dev.start(address)
    # gRPC connects again after a second at most.
    deadline = time.monotonic() + 20
    while (answer := browser.get(f"/patients/{patient.pk}/diagnosis")).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.text == CANARY


def test_a_value_that_cannot_be_opened_is_an_error_with_its_request_id(
    browser: Browser, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    Patient.objects.filter(pk=patient.pk).update(id=Patient._meta.pk.get_default())
    moved = Patient.objects.get()
    answer = browser.get(f"/patients/{moved.pk}/diagnosis")
    assert answer.status_code == 500
    assert "DECRYPT_FAILED" in caplog.text
    assert answer.text.split()[-1] in caplog.text


@pytest.mark.parametrize("shown", [True, False], ids=["names only", "Django's own"])
def test_error_reports_show_names_and_no_values(shown: bool, settings_debug: None) -> None:
    request = RequestFactory().post("/", QueryDict(f"new_diagnosis={CANARY}").dict())
    try:
        diagnosis = CANARY
        int(diagnosis[0])
    except ValueError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    if not shown:
        reporter.filter = type(reporter.filter).__mro__[1]()
    report = reporter.get_traceback_html() + reporter.get_traceback_text()
    assert (CANARY in report) is not shown, "without the filter it would be there: the test can fail"
    assert "new_diagnosis" in report


@pytest.fixture
def settings_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    monkeypatch.setattr(settings, "DEBUG", True)


def test_the_client_of_a_process_is_made_once_and_anew_after_a_fork(patient: Patient) -> None:

    assert service.client() is service.client()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if Patient.objects.get().diagnosis.reveal() == CANARY else 1
        except errors.KeyreeveError:
            log.exception("in the child")
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
