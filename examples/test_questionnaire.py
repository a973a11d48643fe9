"""Tests of the questionnaire: ``python -m pytest test_questionnaire.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from questionnaire import CONFIGURATION

from triggers_core.testing import SessionUnderTest, Triggers

FIRST = ("firstPageReceived", {"answers": {"name": "Ann"}})
COMPLETED = ("questionnaireCompleted", {})
PAGES = [("pageReceived", {"page": 2}), ("pageReceived", {"page": 3})]


@pytest.fixture
def crm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRM", str(tmp_path / "crm.jsonl"))
    return tmp_path / "crm.jsonl"


@pytest.fixture
def ann(triggers: Triggers, crm: Path) -> SessionUnderTest:
    return triggers.session(CONFIGURATION, uid="applicant:42")


def test_pages_wait_for_the_subject(ann: SessionUnderTest, crm: Path) -> None:
    ann.fire(*PAGES[0])
    ann.fire(*FIRST)
    assert ann.ran("t_importPage") == 0
    ann.fire(*COMPLETED)
    ann.fire(*PAGES[1])
    assert ann.ran("t_importPage") == 2
    written = [json.loads(line)["what"] for line in crm.read_text().splitlines()]
    assert written == ["Ann", "Ann, page 2", "Ann, page 3"]


def test_an_embedded_app_has_no_browser(ann: SessionUnderTest) -> None:
    ann.fire("embeddedAppDetected", {"app": "PartnerApp"})
    ann.fire(*COMPLETED)
    assert ann.status("t_fetchBrowserMetadata") == "abandoned"


def test_a_web_process_is_killed_in_the_import(ann: SessionUnderTest) -> None:
    ann.dies("t_importSubject")
    ann.fire(*FIRST)
    ann.fire(*COMPLETED)
    assert ann.ran("t_importSubject") == 0
    ann.advance("1 minute")
    assert ann.ran("t_importSubject") == 1


def test_in_any_order(triggers: Triggers, crm: Path) -> None:
    runs = {"t_importSubject": 1, "t_importPage": 2, "t_fetchBrowserMetadata": 1}
    triggers.assert_any_order(CONFIGURATION, [FIRST, *PAGES, COMPLETED], runs)


@pytest.mark.triggers_storage("memory")  # many orders; every storage decides alike
def test_in_any_order_and_each_request_twice(triggers: Triggers, crm: Path) -> None:
    events = [FIRST, PAGES[0], COMPLETED]
    triggers.assert_any_order(CONFIGURATION, events, {"t_importPage": 1}, duplicates="redelivered")
