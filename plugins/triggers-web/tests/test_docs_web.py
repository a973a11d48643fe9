"""What `docs/webhooks.md` says is true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doc_pages import DOCS, Page
from web_signing import make_app

from triggers_web.http import MAX_BODY
from triggers_web.intake import Intake, bodies, routes, signatures
from triggers_web.starlette import ANSWER_WITHIN, BODY_TIMEOUT

PAGE = Page(DOCS / "webhooks.md")
SECRETS = {"STRIPE_SECRET": "x", "WAREHOUSE_SECRET": "x", "GITHUB_SECRET": "x"}


def test_the_example(tmp_path: Path) -> None:
    assert PAGE.run(tmp_path) == ["python by_hand.py"]


@pytest.mark.parametrize("text", PAGE.fences("toml"))
def test_the_configurations(text: str) -> None:
    found = tomllib.loads(text)["tool"]["triggers"]["plugin_options"]["web"]["webhooks"]
    Intake(found, make_app(), environ=SECRETS)


def test_the_application(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PAGE.fences("toml")[0])
    check = (
        "from starlette.routing import Mount; from mounted import app;"
        "[mount] = [each for each in app.routes if isinstance(each, Mount)];"
        "print(mount.path, list(mount.app._handler.routes))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env=SECRETS,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout == "/hooks ['/stripe', '/warehouse']\n", done.stderr


def test_every_word_is_explained() -> None:
    listed = PAGE.section("The words").text.partition("\n### ")[0]
    words = set(re.findall(r"`(\w+)`", listed))
    assert set(routes.RouteWords.__struct_fields__) <= words


def test_the_figures() -> None:
    for figure in (MAX_BODY, routes.MOST_BYTES, bodies._MAX_DIGITS):
        assert f"{figure:,}" in PAGE.text
    assert f"off, both ways: {signatures.AGE:g}" in PAGE.text
    assert f"over {bodies.MAX_DEPTH} levels" in PAGE.text
    assert f"within {BODY_TIMEOUT:g} seconds" in PAGE.text
    assert f"longer than {ANSWER_WITHIN:g} seconds" in PAGE.text
