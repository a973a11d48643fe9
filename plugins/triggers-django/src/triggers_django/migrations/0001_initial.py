"""The first tables."""

import django.db.models.deletion
from django.db import migrations, models

import triggers_django.fields


class Migration(migrations.Migration):
    """Creates all of them."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Configuration",
            fields=[
                (
                    "hash",
                    triggers_django.fields.NameField(
                        max_length=200, primary_key=True, serialize=False
                    ),
                ),
                ("body", models.BinaryField()),
                ("used_at", models.FloatField()),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("key", models.BigIntegerField(primary_key=True, serialize=False)),
                ("record", models.BinaryField()),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
                (
                    "name",
                    triggers_django.fields.NameField(
                        max_length=200, primary_key=True, serialize=False
                    ),
                ),
                ("owner", triggers_django.fields.NameField(max_length=200)),
                ("until", models.FloatField()),
                ("seconds", models.FloatField()),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="EventId",
            fields=[
                (
                    "key",
                    triggers_django.fields.NameField(
                        max_length=220, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.BigIntegerField()),
                ("given", triggers_django.fields.NameField(max_length=200)),
            ],
            options={
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["given"], name="triggers_event_id_given")],
            },
        ),
        migrations.CreateModel(
            name="Session",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("uid", triggers_django.fields.NameField(max_length=200)),
                ("header", models.BinaryField()),
                (
                    "config",
                    triggers_django.fields.NameField(blank=True, default="", max_length=200),
                ),
                ("instances", models.BigIntegerField(default=0)),
                ("failed", models.BigIntegerField(default=0)),
                ("waiting_since", models.FloatField(blank=True, null=True)),
                (
                    "missing",
                    triggers_django.fields.NameField(blank=True, default="", max_length=200),
                ),
            ],
            options={
                "permissions": [
                    ("close_session", "Can close sessions"),
                    ("delete_session", "Can delete sessions"),
                ],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["failed"], name="triggers_session_failed"),
                    models.Index(fields=["waiting_since"], name="triggers_session_waiting"),
                    models.Index(
                        fields=["missing", "waiting_since"], name="triggers_session_missing"
                    ),
                    models.Index(fields=["config", "uid"], name="triggers_session_config"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("uid",), name="triggers_session_uid")
                ],
            },
        ),
        migrations.CreateModel(
            name="Instance",
            fields=[
                ("key", models.BigIntegerField(primary_key=True, serialize=False)),
                ("task", triggers_django.fields.NameField(max_length=200)),
                ("number", models.BigIntegerField()),
                ("status", models.CharField(max_length=16)),
                ("open_logs", models.BooleanField()),
                ("due_at", models.FloatField(blank=True, null=True)),
                ("failed_at", models.FloatField(blank=True, null=True)),
                ("error", triggers_django.fields.NameField(blank=True, default="", max_length=200)),
                ("record", models.BinaryField()),
                (
                    "session",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="triggers.session",
                    ),
                ),
            ],
            options={
                "permissions": [
                    ("replay_instance", "Can replay failed instances"),
                    ("skip_instance", "Can skip failed instances"),
                    ("fail_instance", "Can fail stuck instances"),
                ],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Wait",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("trigger", triggers_django.fields.NameField(max_length=200)),
                (
                    "instance",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="triggers.instance",
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="triggers.session",
                    ),
                ),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(fields=["due_at"], name="triggers_instance_due"),
        ),
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(fields=["failed_at"], name="triggers_instance_failed"),
        ),
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(fields=["session", "status"], name="triggers_instance_status"),
        ),
        migrations.AddConstraint(
            model_name="instance",
            constraint=models.UniqueConstraint(
                fields=("session", "task", "number"), name="triggers_instance_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="wait",
            constraint=models.UniqueConstraint(
                fields=("session", "trigger", "instance"), name="triggers_wait_key"
            ),
        ),
    ]
