"""Triggers on Celery: instances run as Celery tasks, whatever the broker does to its messages."""

from triggers_celery.connect import setup
from triggers_celery.content_check import UnsafeContent
from triggers_celery.execution import AttemptFailed
from triggers_celery.identity import task_id
from triggers_celery.options import Options
from triggers_celery.publishing import BrokerUnavailable
from triggers_celery.runner import CeleryTaskRunner

__version__ = "0.2.0"

__all__ = [
    "AttemptFailed",
    "BrokerUnavailable",
    "CeleryTaskRunner",
    "Options",
    "UnsafeContent",
    "__version__",
    "setup",
    "task_id",
]
