"""The Celery app: ``celery -A shop.worker worker``."""

import os

from celery import Celery

from triggers_celery import setup

# Not the database of the sessions (0): what is in a broker may be lost, and may be flushed.
app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "redis://localhost:6379/1"))
setup(app)
