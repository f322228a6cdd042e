from django.contrib import admin
from django.urls import path

from patients.views import diagnosis

urlpatterns = [
    path("admin/", admin.site.urls),
    path("patients/<uuid:patient_id>/diagnosis", diagnosis),
]
