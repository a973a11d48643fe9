"""The code of the 2017 framework's documents, in a project as `startproject` makes it today.

Word for word, but for the imports and what the documents leave out with `...`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django_projects import Project

pytest.importorskip("triggers_redis")

SETTINGS = """
    TRIGGER_MANAGER_TYPE = 'default'
    TRIGGER_STORAGE_TYPE = 'cache'
"""
TRIGGERS = '''
    from typing import Text
    from triggers_core import TriggerManager
    from triggers_core.manager import trigger_managers
    from triggers_core.storages import storage_backends

    from my_app.settings import TRIGGER_MANAGER_TYPE, \\
      TRIGGER_STORAGE_TYPE

    def get_trigger_manager(uid):
      # type: (Text) -> TriggerManager
      """
      Given a session UID, returns a configured trigger manager.
      """
      storage = storage_backends.get(TRIGGER_STORAGE_TYPE, uid)
      manager = trigger_managers.get(TRIGGER_MANAGER_TYPE, storage)

      return manager
'''
VIEWS = '''
    from django import forms
    from django.http import HttpResponse
    from triggers_core import TriggerManager
    from triggers_django.cache import CacheStorage as CacheStorageBackend

    from my_app.models import Questionnaire

    class QuestionnaireResponsesForm(forms.Form):
      questionnaire_id = forms.CharField()
      name = forms.CharField()
      birthday = forms.DateField()

    def start_questionnaire(request):
      """
      Django view tha processes a request to start a new questionnaire.
      """
      # Create the new questionnaire instance.
      # For this example, we will use the PK value of the
      # new database record as the session UID.
      new_questionnaire = Questionnaire.objects.create()

      trigger_manager = TriggerManager(
        storage = CacheStorageBackend(
          # The session UID must be a string value.
          uid = str(new_questionnaire.pk),

          cache    = 'default',
          timeout  = 3600,
        ),
      )

      trigger_manager.update_configuration({
        't_importSubject': {
          'after': ['firstPageReceived', 'questionnaireComplete'],
          'run': 'app.tasks.ImportSubject',
        },

        't_importResponses': {
          'after': ['t_importSubject'],
          'andEvery': 'pageReceived',
          'run': 'app.tasks.ImportResponses',
        },

        't_importBrowserMetadata': {
          'after': ['t_importSubject', 'pageReceived'],
          'unless': ['isEmbeddedApplication'],
          'run': 'app.tasks.ImportBrowserMetadata',
        },
      })

      return HttpResponse(new_questionnaire.pk)

    def responses(request):
      """
      Django view that processes a page of response data from
      the client.
      """
      responses_form = QuestionnaireResponsesForm(request.POST)
      if responses_form.is_valid():
        trigger_manager = TriggerManager(
          storage = CacheStorageBackend(
            uid      = responses_form.cleaned_data['questionnaire_id'],
            cache    = 'default',
            timeout  = 3600,
          ),
        )

        trigger_manager.fire(
          trigger_name   = 'firstPageReceived',
          trigger_kwargs = {'responses': responses_form.cleaned_data},
        )

        return HttpResponse()
'''
TASKS = """
    from my_app.models import Subject
    from triggers_core import TaskContext, TriggerTask

    class ImportSubject(TriggerTask):
      def _run(self, context):
        # type: (TaskContext) -> dict

        # Load kwargs provided when the ``firstPageReceived``
        # trigger was fired by the application.
        page_data =\\
          context.trigger_kwargs['firstPageReceived']['responses']

        # Create a new ``subject`` record.
        new_subject =\\
          Subject.objects.create(
            birthday = page_data['birthday'],
            name     = page_data['name'],
          )

        # Make the PK value accessible to tasks that are
        # waiting for a cascade.
        return {
          'subjectId': new_subject.pk,
        }

    class ImportResponses(TriggerTask):
      def _run(self, context):
        return {"of": Subject.objects.get(pk=context.trigger_kwargs['t_importSubject']['subjectId']).name}

    class ImportBrowserMetadata(ImportResponses):
      pass
"""  # noqa: E501
MODELS = """
    from django.db import models

    class Questionnaire(models.Model):
      pass

    class Subject(models.Model):
      birthday = models.DateField()
      name = models.CharField(max_length=100)
"""
URLS = """
    from django.urls import path
    from app import views
    urlpatterns = [path("start/", views.start_questionnaire), path("page/", views.responses)]
"""


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from triggers_redis.testing import RedisServer

    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def project(project_folder: Path, redis_url: str) -> Project:
    project = Project(project_folder, "my_app", "app")
    project.settings(SETTINGS)
    project.settings(f"""
        INSTALLED_APPS += ["my_app"]
        ALLOWED_HOSTS = ["testserver"]
        TRIGGER_IMPORTS = ["app.tasks"]
        CACHES = {{
            "default": {{
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "{redis_url}",
            }}
        }}
    """)
    project.write("my_app/triggers.py", TRIGGERS)
    project.write("my_app/models.py", MODELS)
    project.write("my_app/urls.py", URLS)
    project.write("app/views.py", VIEWS)
    project.write("app/tasks.py", TASKS)
    project.manage("makemigrations", "-v0", "my_app")
    project.manage("migrate", "-v0")
    return project


def test_the_questionnaire_as_it_was_written(project: Project) -> None:
    printed = project.python("""
        from django.test import Client
        client = Client()
        uid = client.post("/start/").content.decode()
        page = {"questionnaire_id": uid, "name": "Ada", "birthday": "1815-12-10"}
        print(client.post("/page/", page).status_code)

        from my_app.triggers import get_trigger_manager
        manager = get_trigger_manager(uid)
        manager.fire("pageReceived"), manager.fire("questionnaireComplete")
        manager.fire("pageReceived"), manager.fire("isEmbeddedApplication")
        manager.join(60)
        for each in sorted(manager.storage.instances.values(), key=lambda each: each.name):
            print(each.name, each.status.value, each.result)

        from my_app.models import Subject
        print(Subject.objects.get().birthday)
        print(manager.storage.store.place.rpartition(", ")[2])
    """)
    status, *instances, birthday, place = printed.splitlines()
    assert (status, birthday, place) == ("200", "1815-12-10", "namespace 'triggers'")
    assert [each for each in instances if "BrowserMetadata" not in each] == [
        "t_importResponses#0 finished {'of': 'Ada'}",
        "t_importResponses#1 finished {'of': 'Ada'}",
        "t_importSubject#0 finished {'subjectId': 1}",
    ]
    # The command line sees the same sessions.
    assert "t_importSubject" in project.manage("triggers", "explain", "1").stdout
