"""The configuration of webhooks: what is wrong in it is said before any request."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from web_signing import ENVIRON, ROUTES, make_app

from triggers_core import Application
from triggers_core.exceptions import InvalidSetting
from triggers_core.settings import Settings
from triggers_core.settings.sources import PyprojectSource
from triggers_web.intake import Intake
from triggers_web.intake.secrets import with_absolute_files
from triggers_web.starlette import site

GOOD = {"verify": "stripe", "secret": "env:STRIPE", "uid": "order:{body.id}", "trigger": "paid"}
OWN = {**GOOD, "verify": "hmac", "header": "X-S"}


def problem(app: Application, words: Any, path: str = "/x") -> str:
    with pytest.raises(InvalidSetting) as caught:
        Intake({path: words}, app, environ=ENVIRON)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "place", "cure"),
    [
        ({"verify": "strip"}, "", "verify"),
        ({"verify": None}, "", "verify"),
        ({"uuid": "x"}, "", "did you mean 'uid'?"),
        ({"uid": None}, "", "uid"),
        ({"uid": ""}, ".uid", "give it a name"),
        ({"uid": "order:{body.id"}, ".uid", "written twice"),
        ({"uid": "order:{bdy.id}"}, ".uid", "did you mean 'body'?"),
        ({"trigger": ""}, ".trigger", "give it a name"),
        ({"trigger": {"map": {}}}, ".trigger", "from"),
        ({"trigger": {"from": "body.type", "map": {}}}, ".trigger.map", "empty"),
        ({"trigger": {"from": "{{x}}", "map": {"a": "b"}}}, ".trigger.from", "{body.type}"),
        ({"trigger": {"from": "type", "map": {"a": "b"}}}, ".trigger.from", "'body.data"),
        ({"trigger": {"form": "body.type", "map": {}}}, ".trigger", "did you mean 'from'?"),
        ({"trigger": {"from": "body.t", "map": {"a": ""}}}, ".trigger.map['a']", "a name"),
        ({"trigger": {"from": "body.t", "map": {"a": "b"}, "others": "x"}}, ".trigger", "others"),
        ({"kwargs": "headers.x"}, ".kwargs", "begins with 'body'"),
        ({"kwargs": {"a": "x"}}, ".kwargs['a']", "'body.data"),
        ({"kwargs": 3}, "", "kwargs"),
        ({"event_id": "x"}, ".event_id", "only the first would count"),
        ({"event_id": "{x}"}, ".event_id", "body"),
        ({"age": 0}, "", "age"),
        ({"age": 1e9}, "", "age"),
        ({"max_bytes": 0}, "", "max_bytes"),
        ({"max_bytes": 10**9}, "", "max_bytes"),
        ({"header": "X-S"}, ".header", '"verify": "hmac"'),
        ({"secret": None}, ".secret", "env:ITS_NAME"),
        ({"secret": []}, ".secret", "at least one"),
        ({"secret": "env:NOWHERE"}, ".secret", "NOWHERE is not set"),
        ({"secret": ["env:STRIPE", "env:"]}, ".secret", "does not belong"),
        ({"secret": "file:/nowhere/at/all"}, ".secret", "No such file"),
        ({"verify": "none"}, ".secret", "nothing is verified"),
        ({"verify": "github", "age": 3}, ".age", "no time in it"),
        ({"verify": "hmac"}, ".header", "which header"),
        ({**OWN, "digest": "md5"}, "", "digest"),
        ({**OWN, "encoding": "base32"}, "", "encoding"),
        ({"verify": "standard"}, ".secret", "Base64"),
    ],
)  # fmt: skip
def test_an_error_names_place_and_cure(
    app: Application, changes: dict[str, Any], place: str, cure: str
) -> None:
    words = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    told = problem(app, words)
    assert told.startswith(f"webhooks['/x']{place}: "), told
    assert cure in told


@pytest.mark.parametrize(
    "path", ["", "x", "/", "/x/", "//x", "/x//y", "/../x", "/x/..", "/.x", "/x y", "/%78", "/x?y",
             "/é", "/x\n", "/{x}"],
)  # fmt: skip
def test_what_is_no_path_of_a_route(app: Application, path: str) -> None:
    assert "a path begins with '/'" in problem(app, GOOD, path)


def test_a_secret_is_never_repeated(app: Application) -> None:
    told = problem(app, {**GOOD, "secret": "whsec_abcdefgh"})
    assert "does not belong in a configuration" in told
    assert "abcdefgh" not in told


def test_a_secret_in_a_file(app: Application, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x\n")
    Intake({"/x": {**GOOD, "secret": f"file:{file}"}}, app, environ={})
    file.write_text("\n")
    assert "is empty" in problem(app, {**GOOD, "secret": f"file:{file}"})


def test_a_relative_file_of_a_secret_is_beside_the_pyproject_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.triggers.plugin_options.web.webhooks."/x"]
        verify = "stripe"
        uid = "order:{body.id}"
        trigger = "paid"
        secret = ["file:new.key", "file:/nowhere/old.key"]
        """
    )
    (tmp_path / "new.key").write_text("x\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    app = Application("shop", Settings([PyprojectSource()]))
    with pytest.raises(InvalidSetting, match=r"the file /nowhere/old\.key cannot be read"):
        Intake.from_settings(app)  # the first one has been read
    routes: Any = {"/x": {**GOOD, "secret": "file:new.key"}}
    app.configure(TRIGGER_PLUGIN_OPTIONS={"web": {"webhooks": routes}})
    with pytest.raises(InvalidSetting, match=r"the file new\.key cannot be read"):
        Intake.from_settings(app)  # given in code: relative to the current folder


@pytest.mark.parametrize(
    "words",
    [
        *(None, [], "x", {"secret": None}, {"secret": 3}, {"secret": [None, 3]}),
        *({"secret": "env:file"}, {"secret": "file:"}, {"secret": "file"}, {"uid": "file:x"}),
    ],
)
def test_what_names_no_file_is_left_as_it_is(words: Any) -> None:
    assert with_absolute_files(words, Path("/srv")) == words


@pytest.mark.parametrize("routes", [None, [], "x", {"/x": None}, {"/x": []}, {"/x": "stripe"}])
def test_what_is_no_mapping(app: Application, routes: Any) -> None:
    with pytest.raises(InvalidSetting, match="expected a mapping"):
        Intake(routes, app)


def test_settings_are_checked_when_the_site_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    good = make_app(TRIGGER_PLUGIN_OPTIONS={"web": {"webhooks": ROUTES}})
    site(good)
    bad = make_app(TRIGGER_PLUGIN_OPTIONS={"web": {"webhooks": {"/x": {**GOOD, "trigger": 3}}}})
    with pytest.raises(InvalidSetting, match=r"webhooks\['/x'\].*trigger"):
        site(bad)
    worse = make_app(TRIGGER_PLUGIN_OPTIONS={"web": {"webhoks": {}}})
    with pytest.raises(InvalidSetting, match="webhoks"):
        site(worse)


def test_what_is_open_to_all_or_shared_is_told(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Intake(ROUTES, app, environ=ENVIRON)
    assert caplog.messages == []
    open_to_all = {"verify": "none", "uid": "x", "trigger": "y"}
    Intake({"/a": GOOD, "/b": GOOD, "/c": open_to_all}, app, environ=ENVIRON)
    shared, unsigned = caplog.messages
    assert "/a and /b share a secret" in shared
    assert "webhook /c: anybody may send it" in unsigned
