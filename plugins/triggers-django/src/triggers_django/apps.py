"""The Django application: what happens once a project's settings are there."""

from __future__ import annotations

from django.apps import AppConfig


class TriggersDjangoConfig(AppConfig):
    """``INSTALLED_APPS += ["triggers_django"]``."""

    name = "triggers_django"
    label = "triggers"
    verbose_name = "Triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Read Django's settings, look after this process's threads, and join Django's checks."""
        from triggers_django.checks import register_checks
        from triggers_django.host import become_host
        from triggers_django.settings import read_django_settings

        read_django_settings()
        become_host()
        register_checks()
