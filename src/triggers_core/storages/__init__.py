"""Storages, by key: `storage_backends.get("sqlite", "applicant:42", path="triggers.db")`."""

from triggers_core.registries import storage_backends
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage, TaskInstance

__all__ = ["SessionStorage", "Store", "TaskInstance", "storage_backends"]
