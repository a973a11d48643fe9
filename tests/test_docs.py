"""What the documentation says is true: its code runs, and it leaves nothing out."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doc_pages import DOCS, ROOT, Page, pages, run_python

from triggers_core import views
from triggers_core.engine.configuration import parse_configuration
from triggers_core.hookspecs import TriggersSpec
from triggers_core.limits import Limits, Timing
from triggers_core.plugins.checks import HOOKS
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.runners import TaskRunner
from triggers_core.settings import Settings
from triggers_core.settings.sources import EnvironmentSource, ModuleSource, PyprojectSource, Source
from triggers_core.storages.base import Store
from triggers_core.testing.fake_distributions import FakeDistributions, distributions

__all__ = ["distributions"]  # a fixture

README = Page(ROOT / "README.md")
INDEX = Page(DOCS / "hooks" / "index.md")
SETTINGS = Page(DOCS / "settings.md")
PLUGINS = Page(DOCS / "plugins.md")
STORAGE = Page(DOCS / "writing-a-storage.md")
RUNNER = Page(DOCS / "writing-a-runner.md")
VIEWS = Page(DOCS / "views.md")

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
every_hook = pytest.mark.parametrize("hook", HOOKS)


def page_of(hook: str) -> Page:
    return Page(DOCS / "hooks" / f"{hook}.md")


def kind_of(hook: str) -> str:
    options = getattr(TriggersSpec, hook).triggers_spec
    return "first result" if options["firstresult"] else "all"


# -- all pages ------------------------------------------------------------------------------------


@every_page
def test_code_is_code(page: Page) -> None:
    for text in page.fences("python"):
        compile(text, page.name, "exec")
    for text in page.fences("toml"):
        tomllib.loads(text)


@every_page
def test_configurations_can_be_used(page: Page) -> None:
    for text in page.fences("json"):
        data = json.loads(text)
        if any(name.startswith("t_") for name in data):
            parse_configuration(data)


# -- hooks ----------------------------------------------------------------------------------------


def test_every_hook_has_a_page_and_every_page_a_hook() -> None:
    found = {file.stem for file in (DOCS / "hooks").glob("*.md")} - {"index"}
    assert found == set(HOOKS)


@every_hook
def test_a_page_says_what_when_and_what_an_error_does(hook: str) -> None:
    title, what, *_ = page_of(hook).text.split("\n\n")
    assert title == f"# {hook}"
    assert what.endswith(".")
    rows = table(page_of(hook))
    assert list(rows) == ["kind", "when", "an error"]
    assert all(rows.values())
    assert rows["kind"] == kind_of(hook)


@every_hook
def test_a_page_has_the_signature_of_the_spec(hook: str) -> None:
    [code] = page_of(hook).section("Signature").fences("python")
    scope: dict[str, Any] = {}
    exec(code, scope)  # the imports are there, so that readers can annotate
    [written] = [each for each in ast.parse(code).body if isinstance(each, ast.FunctionDef)]
    assert written.name == hook
    spec = inspect.signature(getattr(TriggersSpec, hook))
    parameters = {argument.arg: annotation(argument.annotation) for argument in written.args.args}
    expected = {
        name: normal(each.annotation) for name, each in spec.parameters.items() if name != "self"
    }
    assert list(parameters.items()) == list(expected.items())
    assert annotation(written.returns) == normal(spec.return_annotation)


def annotation(node: ast.expr | None) -> str:
    assert node is not None
    return ast.unparse(node)


def normal(annotation: str) -> str:
    return ast.unparse(ast.parse(annotation))


@every_hook
def test_a_page_has_an_example_that_does_what_it_says(hook: str, tmp_path: Path) -> None:
    example = page_of(hook).section("Example")
    plugin = ast.parse(example.files["shop_hooks.py"])
    implemented = [
        each.name
        for each in plugin.body
        if isinstance(each, ast.FunctionDef)
        and any(ast.unparse(decorator) == "hookimpl" for decorator in each.decorator_list)
    ]
    assert hook in implemented
    assert example.run(tmp_path) == ["python try_it.py"]


def test_the_index_lists_every_hook_with_its_kind() -> None:
    rows = {
        cells[0]: cells[1]
        for line in INDEX.text.splitlines()
        if line.startswith("| [`")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert rows == {f"[`{hook}`]({hook}.md)": kind_of(hook) for hook in HOOKS}


@every_hook
def test_a_hook_has_a_test(hook: str) -> None:
    """Some test about plugins implements it: as ``plugin(hook=...)``, or looked up by its name."""
    assert hook in {
        name for file in (ROOT / "tests").glob("test_plugin_*.py") for name in used(file)
    }


def used(file: Path) -> Iterator[str]:
    """The keywords and texts in the tests of a file, and in the constants that they read."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    constants = dict(constants_of(body))
    for test in body:
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            read = {each.id for each in ast.walk(test) if isinstance(each, ast.Name)}
            for part in (test, *(each for name, each in constants.items() if name in read)):
                for node in ast.walk(part):
                    if isinstance(node, ast.keyword) and node.arg:
                        yield node.arg
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield node.value


def constants_of(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for each in body:
        targets: list[ast.expr] = []
        if isinstance(each, ast.Assign):
            targets = each.targets
        elif isinstance(each, ast.AnnAssign):
            targets = [each.target]
        yield from ((target.id, each) for target in targets if isinstance(target, ast.Name))


def table(page: Page) -> dict[str, str]:
    """The first table of a page: its first column → its second."""
    rows = [line for line in page.text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first: second for first, second in cells if first}


# -- plugins --------------------------------------------------------------------------------------


def test_a_plugin_in_the_code_of_an_application(tmp_path: Path) -> None:
    assert PLUGINS.run(tmp_path) == ["python shop.py"]


def test_the_plugin_list(distributions: FakeDistributions) -> None:
    source = "from triggers_core import hookimpl\n@hookimpl\ndef post_fire(): ..."
    names = ("audit", "billing", "metrics")
    for name in names:
        distributions.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": source})
    distributions.module("shop.hooks", source)
    heading, *rows = rows_of(PLUGINS.section("The plugin list"))
    assert len(rows) == 9
    for listed, autoload, expected in rows:
        plugins = Plugins(
            None if listed == "not set" else json.loads(listed.strip("`")),
            autoload=json.loads(autoload),
        )
        loaded = [each.name for each in plugins.infos() if each.status == "loaded"]
        # Other distributions may be installed, too.
        ours = [name for name in loaded if name in (*names, "shop.hooks")]
        assert ", ".join(ours) == expected.replace("none", ""), (heading, listed, autoload)


# -- storages and runners -------------------------------------------------------------------------


def test_the_examples_of_a_storage_and_a_runner(tmp_path: Path) -> None:
    assert STORAGE.run(tmp_path) == ["python try_it.py"]
    assert RUNNER.run(tmp_path) == ["python web.py", "python worker.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "promises"), [(STORAGE, 200), (RUNNER, 20)], ids=["storage", "runner"]
)
def test_they_keep_their_contract(page: Page, promises: int, fast_dir: Path) -> None:
    page.write_files(fast_dir)
    tests = [name for name in page.files if name.startswith("test_")]
    assert {f"python -m pytest {each}" for each in tests} <= {each.line for each in page.commands}
    pytest_options = ["-q", "-p", "no:cacheprovider", f"--basetemp={fast_dir / 'temporary'}"]
    printed = run_python(["-m", "pytest", *pytest_options, *tests], fast_dir)
    found = re.search(r"(\d+) passed", printed)
    assert found
    assert int(found[1]) >= promises


def test_the_interfaces_are_described() -> None:
    for page, base in ((STORAGE, Store), (RUNNER, TaskRunner)):
        text = page.section("The interface").text
        methods = [name for name, each in vars(base).items() if inspect.isfunction(each)]
        public = [name for name in methods if not name.startswith("_") and name != "close"]
        missing = [name for name in public if f"`{name}" not in text]
        assert not missing, f"{page.name} does not mention {missing}"


def test_the_example_of_the_views_and_that_each_is_listed(tmp_path: Path) -> None:
    assert VIEWS.run(tmp_path) == ["python page.py"]
    modules = {f"`views.{each.name}`" for each in pkgutil.iter_modules(views.__path__)}
    missing = [each for each in modules if each not in VIEWS.text]
    assert not missing


# -- the README -----------------------------------------------------------------------------------


def test_the_shop_of_the_readme(tmp_path: Path) -> None:
    """Run twice: the second start finds what the first one did, on disk."""
    README.write_files(tmp_path)
    assert list(README.files) == ["shop.py"]
    first, again = (run_python(["shop.py"], tmp_path) for _ in range(2))
    assert first.count("shipping 42 with key ") == 1, "a repeated webhook ships nothing"
    assert "shipping" not in again
    for printed in (first, again):
        assert "t_ship: after paid and packed, run shop.Ship" in printed
    assert "t_ship#0: finished" in again
    assert (tmp_path / "triggers.db").exists()


def test_the_other_examples_of_the_readme(tmp_path: Path) -> None:
    _, settings, backtest = README.fences("python")
    assert Settings.isolated(**configured(settings)).TRIGGER_RUNNER == "celery"
    events = [
        {"session": order, "trigger": trigger}
        for order, trigger in [("1", "paid"), ("2", "packed"), ("1", "packed"), ("3", "paid")]
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    [configuration, _] = README.fences("json")
    (tmp_path / "last_month.py").write_text(f"configuration = {configuration}\n{backtest}")
    printed = run_python(["last_month.py"], tmp_path)
    assert printed == "1 orders would have shipped\n"


# -- settings -------------------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default() -> None:
    rows = [row for row in rows_of(SETTINGS) if row[0].startswith("`TRIGGER_")]
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}
    assert documented == {
        name: shown(getattr(Settings, name).default.value) for name in Settings.names()
    }


@pytest.mark.parametrize(("title", "kind"), [("Limits", Limits), ("Timing", Timing)])
def test_every_field_of_a_setting_is_documented(title: str, kind: type[msgspec.Struct]) -> None:
    heading, *rows = rows_of(SETTINGS.section(title))
    assert heading[1] == "default"
    shown = {row[0].strip("`"): row[1].replace(",", "") for row in rows}
    assert {name: None if text == "none" else float(text) for name, text in shown.items()} == {
        field.name: field.default for field in msgspec.structs.fields(kind)
    }


def test_the_same_settings_from_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = SETTINGS.section("Where they come from")
    in_code, module = part.fences("python")
    [pyproject] = part.fences("toml")
    (tmp_path / "page_settings.py").write_text(module)
    (tmp_path / "pyproject.toml").write_text(pyproject)
    monkeypatch.syspath_prepend(tmp_path)
    exported = dict(line.removeprefix("export ").split("=", 1) for line in lines(part))
    environment = {name: value.strip("'") for name, value in exported.items()}
    sources: dict[str, Source] = {
        "environment": EnvironmentSource(environment),
        "module": ModuleSource({"TRIGGERS_SETTINGS_MODULE": "page_settings"}),
        "pyproject": PyprojectSource(tmp_path),
    }
    expected = configured(in_code)
    assert len(expected) == 3
    for where, source in sources.items():
        settings = Settings([source])
        code = Settings.isolated(**expected)
        for name in expected:
            assert where in settings.origin(name)
            assert getattr(settings, name) == getattr(code, name)


def test_the_examples_about_settings(tmp_path: Path) -> None:
    assert SETTINGS.run(tmp_path) == [
        "python by_hand.py",
        "python tenants.py",
        "python patient.py",
    ]
    [limits] = SETTINGS.section("Limits").fences("python")
    assert Settings.isolated(**configured(limits)).limits == Limits(kwargs_bytes=1_000_000)


def configured(code: str) -> dict[str, Any]:
    """What a piece of code hands to `configure`."""
    values: dict[str, Any] = {}
    exec(code.replace("from triggers_core import configure", ""), {"configure": values.update})
    return values


def lines(page: Page) -> list[str]:
    return [command.line for command in page.commands]


def rows_of(page: Page) -> list[list[str]]:
    rows = [line for line in page.text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def shown(value: object) -> str:
    return "[]" if value == () else repr(value)
