"""The tables of the storage `django`.

They belong to `triggers_django.store`, which keeps them consistent with each other: read them at
will, change sessions through a `TriggerManager` alone. What a record holds, `triggers_core.engine`
says: `decode_header`, `decode_event`, `decode_instance`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from django.db import models

from triggers_core.engine.names import MAX_LENGTH
from triggers_django.fields import NameField

ROW_BITS: Final = 32
"""Bits of the key of an event or instance that count within its session; above is the session's id.
So these tables need one index to be read along, and a session's rows lie beside each other."""

_PERMISSIONS: Final = ("view",)  # whoever changed a row by hand would break its session


class Session(models.Model):
    """A session: its header, and what the fleet index lists it by.

    Of what a fire changes, `missing` alone is in an index, and not every fire changes that:
    so PostgreSQL can mostly update the row in place.
    """

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    uid: NameField = NameField(max_length=MAX_LENGTH)
    header: models.BinaryField[bytes, bytes] = models.BinaryField()
    config: NameField = NameField(max_length=MAX_LENGTH, blank=True, default="")
    """The address of its configuration; empty when it has none."""
    instances: models.BigIntegerField[int, int] = models.BigIntegerField(default=0)
    """How many instances it has had: the next one's place."""
    failed: models.BigIntegerField[int, int] = models.BigIntegerField(default=0)
    waiting_since: models.FloatField[float | None, float | None] = models.FloatField(
        null=True, blank=True
    )
    """In seconds since 1970."""
    missing: NameField = NameField(max_length=MAX_LENGTH, blank=True, default="")
    """What it waits for, as `triggers_core.storages.groups` writes it."""

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["uid"], name="triggers_session_uid"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["failed"], name="triggers_session_failed"),
            models.Index(fields=["waiting_since"], name="triggers_session_waiting"),
            models.Index(fields=["missing", "waiting_since"], name="triggers_session_missing"),
            models.Index(fields=["config", "uid"], name="triggers_session_config"),
        ]
        permissions: ClassVar = [
            ("close_session", "Can close sessions"),
            ("delete_session", "Can delete sessions"),
        ]

    def __str__(self) -> str:
        return self.uid


class Configuration(models.Model):
    """A task configuration, under the address of its content; sessions share it."""

    hash: NameField = NameField(max_length=MAX_LENGTH, primary_key=True)
    body: models.BinaryField[bytes, bytes] = models.BinaryField()
    used_at: models.FloatField[float, float] = models.FloatField()
    """When a session last adopted it, to the hour, in seconds since 1970."""

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS

    def __str__(self) -> str:
        return self.hash


class Event(models.Model):
    """An event, under its session's id and its number."""

    key: models.BigIntegerField[int, int] = models.BigIntegerField(primary_key=True)
    record: models.BinaryField[bytes, bytes] = models.BinaryField()

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS

    def __str__(self) -> str:
        return f"{self.key >> ROW_BITS}/{self.key % (1 << ROW_BITS)}"


class EventId(models.Model):
    """An id that the application gave an event: ``session:id``. Generated ones hold the number."""

    key: NameField = NameField(max_length=MAX_LENGTH + 20, primary_key=True)
    number: models.BigIntegerField[int, int] = models.BigIntegerField()
    given: NameField = NameField(max_length=MAX_LENGTH)
    """The id alone, to be found whatever the session."""

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS
        indexes: ClassVar = [models.Index(fields=["given"], name="triggers_event_id_given")]

    def __str__(self) -> str:
        return self.key


class Instance(models.Model):
    """An instance, under its session's id and its place among the session's instances."""

    key: models.BigIntegerField[int, int] = models.BigIntegerField(primary_key=True)
    session: models.ForeignKey[Session, Session] = models.ForeignKey(
        Session, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    task: NameField = NameField(max_length=MAX_LENGTH)
    number: models.BigIntegerField[int, int] = models.BigIntegerField()
    status: models.CharField[str, str] = models.CharField(max_length=16)
    open_logs: models.BooleanField[bool, bool] = models.BooleanField()
    """Whether it logged a warning or worse that nobody has dealt with."""
    due_at: models.FloatField[float | None, float | None] = models.FloatField(null=True, blank=True)
    """When the sweep should look at it next, in seconds since 1970."""
    failed_at: models.FloatField[float | None, float | None] = models.FloatField(
        null=True, blank=True
    )
    """When it failed, in seconds since 1970; None unless it is failed."""
    error: NameField = NameField(max_length=MAX_LENGTH, blank=True, default="")
    """The type of the error that it failed of last."""
    record: models.BinaryField[bytes, bytes] = models.BinaryField()

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["session", "task", "number"], name="triggers_instance_name"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="triggers_instance_due"),
            models.Index(fields=["failed_at"], name="triggers_instance_failed"),
            models.Index(fields=["session", "status"], name="triggers_instance_status"),
        ]
        permissions: ClassVar = [
            ("replay_instance", "Can replay failed instances"),
            ("skip_instance", "Can skip failed instances"),
            ("fail_instance", "Can fail stuck instances"),
        ]

    def __str__(self) -> str:
        return f"{self.task}#{self.number}"


class Wait(models.Model):
    """A key under which an unstarted instance is found: a trigger, or the moment when it is due."""

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    session: models.ForeignKey[Session, Session] = models.ForeignKey(
        Session, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    trigger: NameField = NameField(max_length=MAX_LENGTH)
    instance: models.ForeignKey[Instance, Instance] = models.ForeignKey(
        Instance, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["session", "trigger", "instance"], name="triggers_wait_key"
            ),
        ]

    def __str__(self) -> str:
        return self.trigger


class Lease(models.Model):
    """A lease over all sessions: of the processes that sweep, one has it."""

    name: NameField = NameField(max_length=MAX_LENGTH, primary_key=True)
    owner: NameField = NameField(max_length=MAX_LENGTH)
    until: models.FloatField[float, float] = models.FloatField()
    seconds: models.FloatField[float, float] = models.FloatField()
    """How long it was asked for: one that ends later was written by a wrong clock."""

    class Meta:
        """The Django options."""

        default_permissions = _PERMISSIONS

    def __str__(self) -> str:
        return self.name
