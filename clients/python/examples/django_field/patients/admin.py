"""The admin shows that there is a diagnosis, not which; it takes a new one, and never sends one to the browser."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin

from encrypted.fields import stored
from patients.models import Patient


class PatientForm(forms.ModelForm):
    new_diagnosis = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"autocomplete": "off"}), help_text="Empty: it stays as it is."
    )

    class Meta:
        model = Patient
        fields = ("name",)

    def save(self, commit: bool = True) -> Any:
        if new := self.cleaned_data["new_diagnosis"]:
            self.instance.diagnosis = new
        return super().save(commit)


@admin.register(Patient)
class PatientAdmin(admin.ModelAdmin):
    form = PatientForm
    list_display = ("name", "stored_diagnosis")
    fields = ("name", "stored_diagnosis", "new_diagnosis")
    readonly_fields = ("stored_diagnosis",)

    @admin.display(description="diagnosis")
    def stored_diagnosis(self, patient: Patient) -> str:
        return str(stored(patient, "diagnosis") or "none")
