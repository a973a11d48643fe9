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
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from doc_pages import DOCS, ROOT, Page, configured, every_text, fails_python, run_python

from triggers_core import views
from triggers_core.engine.configuration import Directive, parse_configuration
from triggers_core.engine.language import LANGUAGE
from triggers_core.hookspecs import TriggersSpec
from triggers_core.limits import Limits, Timing
from triggers_core.methods.awaitable import AwaitableMethods
from triggers_core.plugins.checks import HOOKS
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.runners import TaskRunner
from triggers_core.settings import Settings
from triggers_core.settings.sources import EnvironmentSource, ModuleSource, PyprojectSource, Source
from triggers_core.storages.base import Store
from triggers_core.testing import SessionUnderTest, TriggerManagerTestCaseMixin, Triggers
from triggers_core.testing.fake_distributions import FakeDistributions, distributions
from triggers_core.testing.simulation import Rates

__all__ = ["distributions"]  # a fixture

README = Page(ROOT / "README.md")
INDEX = Page(DOCS / "hooks" / "index.md")
SETTINGS = Page(DOCS / "settings.md")
PLUGINS = Page(DOCS / "plugins.md")
STORAGE = Page(DOCS / "writing-a-storage.md")
RUNNER = Page(DOCS / "writing-a-runner.md")
ASYNC = Page(DOCS / "async.md")
FAULTS = Page(DOCS / "fault-injection.md")
TESTING = Page(DOCS / "testing.md")
VIEWS = Page(DOCS / "views.md")
WORDS = Page(DOCS / "what-a-task-can-wait-for.md")
COOKBOOK = {each.stem for each in (DOCS / "cookbook").glob("*.md")} - {"index"}
ELSEWHERE = {"django-views", "fastapi", "from-celery-chords", "from-the-2017-framework"}
"""Recipes that take other servers and frameworks: the tests of plugins run them."""

OF_PLUGINS = {name: Directive(name, Any, "a plugin") for name in ("optional", "retry", "slowAfter")}
"""Directives in the READMEs of plugins, whose own tests check their values."""
every_page = pytest.mark.parametrize("page", every_text(), ids=lambda page: page.name)
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
            parse_configuration(data, directives=OF_PLUGINS)


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


# -- the language of conditions -------------------------------------------------------------------


def test_the_examples_of_every_word(tmp_path: Path) -> None:
    ran = WORDS.run(tmp_path)
    assert {f"python {name}" for name in WORDS.files} - {"python shop.py"} == set(ran)


def test_every_word_is_explained() -> None:
    listed = WORDS.text.partition("\n\n```")[0]
    words = {"anyOf", "atLeast", "of", "where", "as", *LANGUAGE} - {"after", "andEvery", "unless"}
    assert not [word for word in sorted(words) if f"`{word}`" not in listed]
    headings = {line for line in WORDS.text.splitlines() if line.startswith("#")}
    linked = re.findall(r"\]\(#([\w-]+)\)", WORDS.text)
    assert {anchor(each) for each in headings} >= set(linked)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ")).lower().replace(" ", "-")


@pytest.mark.parametrize("name", sorted(COOKBOOK - ELSEWHERE))
def test_a_recipe(name: str, tmp_path: Path) -> None:
    WORDS.write_files(tmp_path)
    page = Page(DOCS / "cookbook" / f"{name}.md")
    ran = page.run(tmp_path)
    imported = "\n".join(page.files.values())
    assert {f"python {file}" for file in page.files if not is_imported(file, imported)} == set(ran)


def is_imported(file: str, code: str) -> bool:
    """Whether other files of a page need it, so that it need not be run by itself."""
    package, _, module = file.removesuffix(".py").rpartition("/")
    return bool(package) or f"from {module} import" in code


def test_every_recipe_is_listed() -> None:
    index = Page(DOCS / "cookbook" / "index.md").text
    assert COOKBOOK >= ELSEWHERE
    for name in COOKBOOK:
        assert f"[]({name}.md)" in index
        assert f"\n{name}\n" in index


def test_moving_from_the_framework_of_2017(tmp_path: Path) -> None:
    page = Page(DOCS / "cookbook" / "from-the-2017-framework.md")
    assert page.run(tmp_path) == ["python after.py"]
    pytest_options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django"]
    assert "1 passed" in run_python([*pytest_options, "test_subject.py"], tmp_path)
    assertions = {name for name in vars(TriggerManagerTestCaseMixin) if name.startswith("assert")}
    missing = {name for name in assertions if f"self.{name}(" not in page.text}
    assert missing == {"assertInstanceStatus"}


def test_carrying_a_session_over() -> None:
    scope: dict[str, Any] = {}
    exec(Page(DOCS / "cookbook" / "from-the-2017-framework.md").files["carry_over.py"], scope)
    mail = SimpleNamespace(name="t_mail")
    old = SimpleNamespace(
        storage=SimpleNamespace(
            get_unresolved_tasks=lambda: [mail],
            latest_kwargs={"first": {"page": 1}, "t_subject": {"id": 7}},
        )
    )
    configuration = {
        "t_subject": {"after": ["first"], "run": "app.Subject"},
        "t_mail": {"after": ["t_subject"], "run": "app.Mail"},
    }
    with Triggers() as triggers:
        session = triggers.session({})
        for _ in range(2):  # it died half-way
            scope["carry_over"](old, session.manager, configuration)
        assert session.ran("t_mail") == 1
        assert session.manager.storage["t_mail#0"].kwargs == {"t_subject": {"id": 7}}
        assert len(session.manager.storage.instances) == 1


# -- storages and runners -------------------------------------------------------------------------


def test_the_examples_of_a_storage_and_a_runner(tmp_path: Path) -> None:
    assert STORAGE.run(tmp_path) == ["python try_it.py"]
    assert RUNNER.run(tmp_path) == ["python web.py", "python worker.py"]


@pytest.mark.long
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


def test_the_examples_of_faults_and_that_every_rate_is_described(tmp_path: Path) -> None:
    assert len(FAULTS.run(tmp_path)) == 2
    table = FAULTS.section("What goes wrong, and how often").text
    for name in Rates.__struct_fields__:
        assert f"`{name}`" in table, name


def test_the_examples_in_coroutines(tmp_path: Path) -> None:
    assert ASYNC.run(tmp_path) == ["python web.py", "python client.py"]


def test_every_awaitable_method_is_listed() -> None:
    listed = ASYNC.text
    for name in vars(AwaitableMethods):
        assert name.startswith("_") or f"`{name}" in listed, name


def test_the_example_of_the_views_and_that_each_is_listed(tmp_path: Path) -> None:
    assert VIEWS.run(tmp_path) == ["python page.py"]
    modules = {f"`views.{each.name}`" for each in pkgutil.iter_modules(views.__path__)}
    missing = [each for each in modules if each not in VIEWS.text]
    assert not missing


def test_the_tests_of_workflows(tmp_path: Path) -> None:
    TESTING.write_files(tmp_path)
    pytest_options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django"]
    names = [name for name in TESTING.files if name.startswith("test_")] + ["test_readme.py"]
    [of_readme] = README.section("Prove a workflow").fences("python")
    (tmp_path / "test_readme.py").write_text(of_readme)
    assert re.search(r"^\d+ passed", run_python([*pytest_options, *names], tmp_path), re.MULTILINE)
    failing = [name for name in TESTING.files if name.startswith("failing/")]
    shown = TESTING.fences("text")
    printed = fails_python([*pytest_options, "-o", "pythonpath=.", *failing], tmp_path)
    assert len(failing) == len(shown) == 2
    lines = [line.rstrip() for line in printed.splitlines()]
    for text in shown:
        assert text in "\n".join(lines) + "\n"


def test_all_that_can_be_asked_in_a_test_is_listed() -> None:
    for name, each in vars(SessionUnderTest).items():
        if inspect.isfunction(each) and not name.startswith("_"):
            assert f"s.{name}" in TESTING.text, name
    assertions = {name for name in vars(TriggerManagerTestCaseMixin) if name.startswith("assert")}
    assert len(assertions) == 10
    missing = {name for name in assertions if name not in TESTING.text}
    assert missing == {"assertInstanceStatus"}


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
    _, settings, _, backtest = README.fences("python")
    assert Settings.isolated(**configured(settings)).TRIGGER_RUNNER == "celery"
    events = [
        {"session": order, "trigger": trigger}
        for order, trigger in [("1", "paid"), ("2", "packed"), ("1", "packed"), ("3", "paid")]
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    [configuration, _] = README.fences("json")
    (tmp_path / "last_month.py").write_text(f"configuration = {configuration}\n{backtest}")
    printed = run_python(["last_month.py"], tmp_path)
    assert printed == "orders that would have shipped: 1\n"


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
        if where == "pyproject":  # this one says which folder is meant
            code.configure(TRIGGER_STORAGE_OPTIONS={"path": str(tmp_path / "shop.db")})
        for name in expected:
            assert getattr(settings, name) == getattr(code, name)


def test_the_examples_about_settings(tmp_path: Path) -> None:
    assert SETTINGS.run(tmp_path) == [
        "python by_hand.py",
        "python tenants.py",
        "python patient.py",
    ]
    [limits] = SETTINGS.section("Limits").fences("python")
    assert Settings.isolated(**configured(limits)).limits == Limits(kwargs_bytes=1_000_000)


def lines(page: Page) -> list[str]:
    return [command.line for command in page.commands]


def rows_of(page: Page) -> list[list[str]]:
    rows = [line for line in page.text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def shown(value: object) -> str:
    return "[]" if value == () else repr(value)
