"""The one place that shows a diagnosis: to whom the permission was given, and to no cache."""

from __future__ import annotations

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from patients.models import Patient


@require_safe
@never_cache
@permission_required("patients.read_diagnosis", raise_exception=True)
def diagnosis(request: HttpRequest, patient_id: str) -> HttpResponse:
    patient = get_object_or_404(Patient, pk=patient_id)
    if patient.diagnosis is None:
        return HttpResponse(status=204)
    return HttpResponse(patient.diagnosis.reveal(), content_type="text/plain; charset=utf-8")
