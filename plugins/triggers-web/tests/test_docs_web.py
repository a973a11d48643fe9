"""What `docs/webhooks.md` says is true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, ROOT, Page
from web_signing import make_app

from triggers_web.http import MAX_BODY
from triggers_web.intake import Intake, bodies, routes, signatures
from triggers_web.starlette import ANSWER_WITHIN, BODY_TIMEOUT

PAGE = Page(DOCS / "webhooks.md")
README = Page(ROOT / "plugins" / "triggers-web" / "README.md")
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


def test_the_application_of_the_readme() -> None:
    class App:
        def __init__(self) -> None:
            self.mounted: dict[str, Any] = {}

        def mount(self, path: str, app: Any) -> None:
            self.mounted[path] = app

    app = App()
    for start in ("from triggers_web.pages", "from triggers_web.starlette"):
        exec(README.piece(start), {"app": app})
    assert list(app.mounted) == ["/triggers", "/hooks"]
    assert all(callable(each) for each in app.mounted.values())


def test_the_webhook_of_the_readme() -> None:
    found = tomllib.loads(README.files["pyproject.toml"])["tool"]["triggers"]["plugin_options"]
    Intake(found["web"]["webhooks"], make_app(), environ=SECRETS)


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


FASTAPI = """
from fastapi import Body, FastAPI
from triggers_core import TriggerTask, configure, get_trigger_manager

configure(TRIGGER_CONFIGURATION={"t_ship": {"after": ["paid", "stock"], "run": "shop.Ship"}})


class Ship(TriggerTask):
    name = "shop.Ship"

    def _run(self, context):
        return {"from": context.trigger_kwargs["stock"]["warehouse"]}


app = FastAPI()


@app.post("/payments")
def payments(body: dict = Body()):
    get_trigger_manager(f"order:{body['order']}").fire("paid", {"cents": body["cents"]})


@app.post("/stock")
def stock(body: dict = Body()):
    get_trigger_manager(f"order:{body['order']}").fire("stock", {"warehouse": body["warehouse"]})
"""


def test_a_service_under_test(tmp_path: Path) -> None:
    """What `docs/testing.md` says of web code, with FastAPI."""
    pytest.importorskip("fastapi")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.py").write_text(FASTAPI)
    test = Page(DOCS / "testing.md").piece("from fastapi.testclient")
    (tmp_path / "test_web.py").write_text(test)
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:django", "-o", "pythonpath=.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_web.py"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
