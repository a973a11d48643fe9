"""What `docs/web.md` says is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from doc_pages import DOCS, Page

from triggers_core.payloads.values import LOADERS
from triggers_core.views.drawing import MOST_NODES
from triggers_core.views.timeline import EVENTS
from triggers_web import streaming
from triggers_web.pages import Access
from triggers_web.pages.session import MOST_INSTANCES
from triggers_web.pages.site import _PAGES, MAX_FORM

PAGE = Page(DOCS / "web.md")


def test_the_example(tmp_path: Path) -> None:
    assert "python asked_by_hand.py" in PAGE.run(tmp_path)


def test_the_application(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    check = """
from types import SimpleNamespace as User

from pages_mounted import access, app
from starlette.routing import Mount
from triggers_web.http import Request

[mount] = [each for each in app.routes if isinstance(each, Mount)]
alice, bob = (User(is_authenticated=True, display_name=name) for name in ("alice", "bob"))
rights = [access(Request(method="GET", path="/", user=user)) for user in (None, alice, bob)]
print(mount.path, [(each.who, each.read, each.act) for each in rights])
"""
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    told = "/triggers [('', False, False), ('alice', True, True), ('bob', True, False)]\n"
    assert done.stdout == told, done.stderr


def test_every_right_is_explained() -> None:
    listed = PAGE.section("In an application").text
    assert set(Access.__struct_fields__) <= set(re.findall(r"^\| `(\w+)`", listed, re.MULTILINE))


def test_the_pages_are_there() -> None:
    table = PAGE.text.partition("## In an application")[0]
    paths = re.findall(r"^\| `(/[\w/.]*)", table, re.MULTILINE)
    assert {"/", "/session", "/failed", "/configurations", "/instance"} <= set(paths) <= set(_PAGES)


def test_the_tags_are_those_of_payloads() -> None:
    tags = set(re.findall(r'\{"(\$\w+)": ', PAGE.section("Acts").text)) - {"$dict", "$ref"}
    assert tags
    assert tags <= set(LOADERS)


def test_the_figures() -> None:
    told = PAGE.section("What keeps them safe").text
    for figure in (MAX_FORM, MOST_INSTANCES, EVENTS, MOST_NODES, streaming.AT_ONCE):
        assert f"{figure:,}" in told
    script = (
        DOCS.parent / "plugins/triggers-web/src/triggers_web/pages/static/script.js"
    ).read_text()
    assert "EVERY = 5000" in script
    assert "every five seconds" in PAGE.text
    assert f"up to {streaming.LASTS:g} seconds" in PAGE.text
