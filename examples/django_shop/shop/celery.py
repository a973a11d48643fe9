"""The Celery app: ``celery -A shop worker``. Only read where SHOP_RUNNER=celery."""

import os

from celery import Celery

from triggers_celery import setup

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
setup(app)
