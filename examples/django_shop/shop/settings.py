"""Settings of Django and, further down, of Triggers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True  # as `django-admin startproject` has it: for a look at it, on your own machine
SECRET_KEY = "a key that everybody knows"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "triggers_django",
    "orders",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
            ],
        },
    },
]
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

ENGINES = {"postgresql": "django.db.backends.postgresql", "mysql": "django.db.backends.mysql"}


def database(url: str) -> dict[str, Any]:
    """The database that a URL like ``postgresql://user:password@host:port/name`` names."""
    parts = urlsplit(url)
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
    }


SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("SHOP_FILE", BASE_DIR / "db.sqlite3"),
    "OPTIONS": {"timeout": 20},
}
if django.VERSION >= (5, 1):
    # A transaction waits for the others when it begins, not in its middle, where SQLite would
    # rather have it fail.
    SQLITE["OPTIONS"]["transaction_mode"] = "IMMEDIATE"

DATABASE = database(os.environ["SHOP_DATABASE"]) if "SHOP_DATABASE" in os.environ else SQLITE
DATABASES = {"default": {**DATABASE, "ATOMIC_REQUESTS": True}}

# -- Triggers -------------------------------------------------------------------------------------

# Every order is a session, and begins with these tasks.
TRIGGER_CONFIGURATION = {
    "t_ship": {"after": ["paid", "stockReserved"], "run": "orders.Ship"},
    "t_tell": {"after": ["t_ship"], "run": "orders.Tell"},
}

# "threading": in threads of the web service. "celery": in workers of their own.
TRIGGER_RUNNER = os.environ.get("SHOP_RUNNER", "threading")
TRIGGER_PLUGIN_OPTIONS = {"celery": {"app": "shop.celery:app"}}

CELERY_BROKER_URL = os.environ.get("SHOP_BROKER", "redis://localhost:6379/1")
