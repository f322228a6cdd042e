"""Settings of the example. Where Keyreeve is comes from KEYREEVE_ADDR, KEYREEVE_CA, KEYREEVE_CERT and KEYREEVE_KEY."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

# The key of all encrypted fields. A setting, not an argument of the fields: it differs from environment to environment, and migrations,
# which hold the arguments of fields, do not.
ENCRYPTED_FIELDS_KEY = os.environ.get("CLINIC_KEY", "dev/shop/patients")

# Error pages and mails without values of variables and forms.
DEFAULT_EXCEPTION_REPORTER_FILTER = "encrypted.error_reports.NamesOnly"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CLINIC_DATABASE", Path(__file__).parent.parent / "clinic.sqlite3"),
    }
}

DEBUG = os.environ.get("CLINIC_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
# Sessions end with the process, unless it is given.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(48)
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "encrypted",
    "patients",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "encrypted.unavailable.TryLater",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "clinic.urls"
STATIC_URL = "static/"
USE_TZ = True
