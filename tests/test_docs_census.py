"""Every block of code in the documentation is run by a test, or says why it is not.

Whoever writes a block adds it to `RUN`, or says above it why nothing runs it:
``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest
from doc_pages import ROOT, Page, every_text
from packaging.requirements import Requirement
from test_packaging import PLUGINS, project

CORE = "tests/test_docs.py::test_"
PIECES = "tests/test_docs_pieces.py::test_"
GUIDE = "tests/test_docs_guide.py::test_"


def of(plugin: str, test: str) -> str:
    return f"plugins/triggers-{plugin}/tests/test_{test}"


SHOWN = of("cli", "terminal.py::test_the_documentation_shows_what_the_session_needs")
TYPED = of("cli", "docs_commands.py::test_its_commands_can_be_typed")
OTEL_OPTIONS = of("otel", "docs_otel.py::test_every_option_is_listed_with_its_default")
ONE_TRANSACTION = PIECES + "fires_that_are_one_transaction"
PROGRAMS = ("file ", "$ python ")

RUN: dict[str, dict[str, str]] = {
    "*": {
        "$ python -m pip install": "tests/test_docs_census.py::test_what_is_installed_exists",
        "$ pip install": "tests/test_docs_census.py::test_what_is_installed_exists",
        "json": CORE + "configurations_can_be_used",
    },
    "README.md": {
        "file shop.py": CORE + "the_shop_of_the_readme",
        "python from triggers_core import configure": CORE + "the_other_examples_of_the_readme",
        "python import json": CORE + "the_other_examples_of_the_readme",
        "python def test_": CORE + "the_tests_of_workflows",
        "$ triggers demo": of("cli", "terminal.py::test_demo"),
    },
    "plugins/_template/README.md": {
        "python": PIECES + "what_the_plugin_template_does",
        "text": PIECES + "what_the_plugin_template_does",
        "$ python -m pytest": "tests/test_plugin_template.py::"
        "test_the_template_from_a_copy_to_a_plugin_that_is_listed",
    },
    "plugins/triggers-celery/README.md": {
        kind: of("celery", "docs_celery.py::test_the_application_of_the_readme")
        for kind in ("file", "python")
    },
    "plugins/triggers-cli/README.md": {"$ triggers demo": of("cli", "terminal.py::test_demo")},
    "plugins/triggers-django/README.md": {
        kind: of("django", "docs_django.py::test_the_pieces_of_code") for kind in ("python", "$")
    },
    "plugins/triggers-finalize/README.md": {
        "python configure": of("finalize", "docs_finalize.py::test_the_options"),
        "python class": of("finalize", "docs_finalize.py::test_the_same_by_hand"),
    },
    "plugins/triggers-otel/README.md": {
        "python from opentelemetry": of("otel", "docs_otel.py::test_the_pieces_of_code"),
        "python configure": of(
            "otel", "docs_otel.py::test_every_option_is_listed_with_its_default"
        ),
    },
    "plugins/triggers-postgres/README.md": {
        "python": of("postgres", "docs_postgres.py::test_the_event_of_the_readme"),
        "toml": of("postgres", "docs_postgres.py::test_the_settings_of_the_readme"),
        "$ triggers": of("postgres", "docs_postgres.py::test_the_commands_of_the_readme"),
    },
    "plugins/triggers-redis/README.md": {
        "python": of("redis", "docs_redis.py::test_the_event_of_the_readme"),
        "toml": of("redis", "docs_redis.py::test_the_settings_of_the_readme"),
    },
    "plugins/triggers-retry/README.md": {
        "python manager": of(
            "retry",
            "docs_retry.py::test_the_waits_of_the_readme_and_what_the_last_failure_says",
        ),
        "python configure": of("retry", "docs_retry.py::test_the_options_of_the_readme"),
    },
    "plugins/triggers-structlog/README.md": {
        "python configure": of("structlog", "docs_structlog.py::test_the_options"),
        "python": of("structlog", "docs_structlog.py::test_the_line_of_the_readme"),
    },
    "plugins/triggers-web/README.md": {
        "file pyproject.toml": of("web", "docs_web.py::test_the_webhook_of_the_readme"),
        "python": of("web", "docs_web.py::test_the_application_of_the_readme"),
        "$ triggers": TYPED,
    },
    "docs/async.md": dict.fromkeys(PROGRAMS, CORE + "the_examples_in_coroutines"),
    "docs/cli.md": {
        "python from": SHOWN,
        "toml [tool.triggers]": SHOWN,
        "toml [tool.triggers.plugin": of("cli", "docs_commands.py::test_what_is_not_reported"),
        "toml [project": of("cli", "docs_commands.py::test_a_command_of_ones_own"),
        "python import click": of("cli", "docs_commands.py::test_a_command_of_ones_own"),
        "yaml": of("cli", "docs_commands.py::test_the_hook_of_pre_commit"),
        "$ triggers demo": of("cli", "terminal.py::test_demo"),
        '$ eval "$(triggers completion': of(
            "cli", "docs_commands.py::test_completion_can_be_sourced"
        ),
        "$ triggers": TYPED,
    },
    "docs/concepts.md": {
        "python from triggers_core.exceptions": PIECES + "a_limit_that_a_body_notices",
        "python": PIECES + "the_questionnaire",
        "text unstarted": PIECES + "the_picture_of_the_statuses",
        "text t_ship#0": PIECES + "what_explain_says",
    },
    "docs/cookbook/django-views.md": {
        kind: of("django", "docs_django.py::test_the_views") for kind in ("file", "python", "$")
    },
    "docs/cookbook/fastapi.md": {
        kind: of("web", "docs_fastapi.py::test_the_service") for kind in PROGRAMS
    },
    "docs/cookbook/from-celery-chords.md": {
        kind: of("celery", "docs_celery_chords.py::test_a_chord_and_its_sentences_side_by_side")
        for kind in (*PROGRAMS, "text")
    },
    "docs/cookbook/from-the-2017-framework.md": {
        "file carry_over.py": CORE + "carrying_a_session_over",
        "python TRIGGER_STORAGE_TYPE": of("django", "docs_django.py::test_the_storage_on_a_cache"),
        "python def fire": PIECES + "which_of_two_frameworks_has_a_session",
        **dict.fromkeys(PROGRAMS, CORE + "moving_from_the_framework_of_2017"),
    },
    "docs/cookbook/outbox.md": {
        "python class": PIECES + "what_publishes_tries_until_it_can",
        **dict.fromkeys(PROGRAMS, CORE + "a_recipe"),
    },
    "docs/cookbook/*.md": dict.fromkeys(PROGRAMS, CORE + "a_recipe"),
    "docs/django.md": {
        "python # ": of("django", "django_walk.py::test_the_walk"),
        "python TRIGGER_STORAGE": of("django", "docs_django.py::test_the_storage_on_a_cache"),
        "python": of("django", "docs_django.py::test_the_pieces_of_code"),
        "$": of("django", "django_walk.py::test_the_walk"),
    },
    "docs/fault-injection.md": {
        "$ python -m": PIECES + "the_simulation_of_the_project",
        **dict.fromkeys(PROGRAMS, CORE + "the_examples_of_faults_and_that_every_rate_is_described"),
        "python": PIECES + "the_pieces_about_a_simulation",
        "text": PIECES + "the_pieces_about_a_simulation",
    },
    "docs/guarantees.md": {
        "python class": PIECES + "a_charge_has_the_key_of_its_instance",
        "python result": PIECES + "an_event_that_comes_twice",
        "python with manager": PIECES + "fires_that_are_one_transaction",
        "python from contextlib": PIECES + "a_service_that_sweeps_while_it_lives",
    },
    "docs/guide/celery.md": {
        **{kind: of("celery", "docs_celery.py::test_the_example") for kind in PROGRAMS},
        "python": of("celery", "docs_celery.py::test_the_other_code"),
    },
    "docs/guide/statuses.md": {
        "text": PIECES + "the_picture_of_the_statuses",
        **dict.fromkeys(PROGRAMS, GUIDE + "the_examples"),
    },
    "docs/guide/production/index.md": {
        "$ triggers": TYPED,
        "python from triggers_core.application": PIECES + "the_workers_of_a_server_that_forks",
    },
    "docs/guide/production/troubleshooting.md": {
        "text": GUIDE + "what_troubleshooting_quotes_is_said_somewhere",
        "$ triggers": TYPED,
    },
    "docs/guide/writing-tasks.md": {
        "toml": of("retry", "docs_retry.py::test_the_configuration_on_the_page"),
        **dict.fromkeys(PROGRAMS, GUIDE + "the_examples"),
    },
    "docs/guide/managers.md": {
        "toml": PIECES + "the_entry_points_of_a_page",
        **dict.fromkeys(PROGRAMS, GUIDE + "the_examples"),
        "python": GUIDE + "the_pieces_of_code_that_are_no_programs",
    },
    "docs/guide/*.md": {
        **dict.fromkeys(PROGRAMS, GUIDE + "the_examples"),
        "python": GUIDE + "the_pieces_of_code_that_are_no_programs",
    },
    "docs/hooks/*.md": {
        **dict.fromkeys(PROGRAMS, CORE + "a_page_has_an_example_that_does_what_it_says"),
        "python": CORE + "a_page_has_the_signature_of_the_spec",
    },
    "docs/opentelemetry.md": {
        **{kind: of("otel", "docs_otel.py::test_the_example") for kind in PROGRAMS},
        "python configure": of(
            "otel", "docs_otel.py::test_every_option_is_listed_with_its_default"
        ),
        "python": of("otel", "docs_otel.py::test_the_pieces_of_code"),
    },
    "docs/plugins.md": {
        "file shop-triggers/": "tests/test_plugin_template.py::"
        "test_the_how_to_leads_to_an_installed_plugin",
        "$ triggers plugins": "tests/test_plugin_template.py::"
        "test_the_how_to_leads_to_an_installed_plugin",
        **dict.fromkeys(PROGRAMS, CORE + "a_plugin_in_the_code_of_an_application"),
        "toml": PIECES + "the_entry_points_of_a_page",
    },
    "docs/plugins/publishing.md": {"file": PIECES + "the_entry_points_of_a_page"},
    "docs/settings.md": {
        "file mysite/settings.py": of("django", "docs_django.py::test_the_settings_of_a_project"),
        "text": PIECES + "what_a_wrong_setting_is_told",
        "python from triggers_core import configure": CORE + "the_examples_about_settings",
        **dict.fromkeys(PROGRAMS, CORE + "the_examples_about_settings"),
        "$ export": CORE + "the_same_settings_from_every_source",
        "python #": CORE + "the_same_settings_from_every_source",
        "toml": CORE + "the_same_settings_from_every_source",
    },
    "docs/start/django.md": {
        kind: of("django", "django_walk.py::test_the_start_page")
        for kind in ("file", "python", "$")
    },
    "docs/start/fastapi.md": {
        kind: of("web", "start_fastapi.py::test_the_join") for kind in ("file", "$")
    },
    "docs/start/first-join.md": {
        "$ SLOW": of("cli", "first_join.py::test_it_is_killed"),
        "$ kill": of("cli", "first_join.py::test_it_is_killed"),
        "file serve.py": of("cli", "first_join.py::test_it_is_killed"),
        "": of("cli", "first_join.py::test_the_join"),
    },
    "docs/start/install.md": {"$ triggers demo": of("cli", "terminal.py::test_demo")},
    "docs/start/redis-and-celery.md": {
        "": of("celery", "start_redis_celery.py::test_the_join"),
    },
    "docs/testing.md": {
        "toml": PIECES + "the_settings_of_the_tests_of_an_application",
        "$ python -m pytest": PIECES + "the_settings_of_the_tests_of_an_application",
        "python from fastapi": of("web", "docs_web.py::test_a_service_under_test"),
        "python import pytest": of("django", "docs_django.py::test_webhooks_under_pytest_django"),
        "": CORE + "the_tests_of_workflows",
    },
    "docs/transactions.md": {
        "python @app.post": of("postgres", "docs_postgres.py::test_a_request_of_fastapi"),
        "python @asynccontextmanager": PIECES + "a_service_that_sweeps_while_it_lives",
        "python from django": of("postgres", "docs_postgres.py::test_the_piece_about_django"),
        "python with manager.storage.store.transaction():": PIECES
        + "fires_that_are_one_transaction",
        "python": of("postgres", "docs_postgres.py::test_the_pieces_about_transactions"),
        "": of("postgres", "docs_postgres.py::test_the_order_and_its_event_in_one_transaction"),
    },
    "docs/views.md": dict.fromkeys(
        PROGRAMS, CORE + "the_example_of_the_views_and_that_each_is_listed"
    ),
    "docs/web.md": {
        "file asked": of("web", "docs_pages.py::test_the_example"),
        "$ python asked": of("web", "docs_pages.py::test_the_example"),
        "file pages_mounted": of("web", "docs_pages.py::test_the_application"),
        "file urls.py": of("django", "docs_django.py::test_the_addresses_of_a_project"),
        "$ triggers web": TYPED,
    },
    "docs/webhooks.md": {
        "toml": of("web", "docs_web.py::test_the_configurations"),
        "file mounted.py": of("web", "docs_web.py::test_the_application"),
        **{kind: of("web", "docs_web.py::test_the_example") for kind in PROGRAMS},
        "$ triggers": TYPED,
    },
    "docs/what-a-task-can-wait-for.md": dict.fromkeys(
        PROGRAMS, CORE + "the_examples_of_every_word"
    ),
    "docs/writing-a-runner.md": {
        "python from": PIECES + "the_rounds_of_a_runner",
        "file test_spool.py": CORE + "they_keep_their_contract",
        "$ python -m pytest": CORE + "they_keep_their_contract",
        **dict.fromkeys(PROGRAMS, CORE + "the_examples_of_a_storage_and_a_runner"),
    },
    "docs/writing-a-storage.md": {
        "python class Open": PIECES + "the_transactions_of_a_storage_on_a_database",
        "file test_folder": CORE + "they_keep_their_contract",
        "$ python -m pytest": CORE + "they_keep_their_contract",
        **dict.fromkeys(PROGRAMS, CORE + "the_examples_of_a_storage_and_a_runner"),
    },
}
"""Pages → what of them (see `parts`; the beginning of one will do) → the test that runs it."""

NO_CODE = {"mermaid"}
EVERYDAY = {"$ python -m venv venv", "$ . venv/bin/activate"}
"""Commands of the shell, which say nothing of ours."""
every_page = pytest.mark.parametrize("page", every_text(), ids=lambda page: page.name)


def parts(page: Page) -> Iterator[tuple[int, str]]:
    """What there is to run, with its line: ``file shop.py``, ``$ a command``, ``toml the text``."""
    for block in page.blocks:
        if block.reason or block.language in NO_CODE or block.language.startswith("{"):
            continue
        if block.file:
            yield block.line, f"file {block.file}"
        elif block.language == "console":
            typed = [f"$ {command.line}" for command in block.commands]
            yield from ((block.line, each) for each in typed if each not in EVERYDAY)
        else:
            yield block.line, f"{block.language} {block.text}"


def run_by(page: Page, part: str) -> str | None:
    for pattern, tests in RUN.items():
        if fnmatch(page.name, pattern):
            for begins, test in tests.items():
                if part.startswith(begins):
                    return test
    return None


@every_page
def test_each_block_is_run_or_says_why_not(page: Page) -> None:
    left = [
        f"{page.name}:{line}: {part.splitlines()[0]}"
        for line, part in parts(page)
        if run_by(page, part) is None
    ]
    assert not left, "\n".join(["nobody runs:", *left])


def test_each_of_these_tests_exists() -> None:
    for tests in RUN.values():
        for test in tests.values():
            file, _, name = test.partition("::")
            assert name in functions(file), test


@functools.cache
def functions(file: str) -> set[str]:
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef)}


@every_page
def test_reasons_are_reasons(page: Page) -> None:
    for block in page.blocks:
        assert not block.reason or len(block.reason.split()) > 3, block
    assert page.text.count("<!-- not run:") == sum(bool(each.reason) for each in page.blocks)


@every_page
def test_what_is_installed_exists(page: Page) -> None:
    """Our distributions and their extras; the others are theirs."""
    extras = project(ROOT)["optional-dependencies"]
    for command in page.commands:
        found = re.match(r"(?:python -m )?pip install ([^#\n]+)", command.line)
        for word in found[1].split() if found else []:
            word = word.strip("\"'")
            if word.startswith(("-", ".", "plugins/")):
                continue
            requirement = Requirement(word)
            if requirement.name == "triggers-core":
                assert requirement.extras <= extras.keys(), word
            elif requirement.name.startswith("triggers-") and "_template" not in page.name:
                [folder] = [each for each in PLUGINS if each.name == requirement.name]
                known = project(folder).get("optional-dependencies", {})
                assert requirement.extras <= known.keys(), word
