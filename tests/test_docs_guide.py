"""The Guide of the documentation: its examples run, and its tables leave nothing out."""

from __future__ import annotations

import builtins
import inspect
import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, Page, run_python

from triggers_core import Application, Status, TaskContext, TriggerManager, TriggerTask
from triggers_core import exceptions as errors
from triggers_core.engine.attempts import Claim
from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Task
from triggers_core.engine.records import RESOLVED, STATUSES, Instance
from triggers_core.exceptions import WrongState
from triggers_core.manager import FireResult
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import SessionStorage, TaskInstance
from triggers_core.testing import VirtualClock

GUIDE = DOCS / "guide"
INDEX = Page(GUIDE / "index.md")
ELSEWHERE = {"celery.md"}
"""Pages whose examples need a plugin: they are run by its tests."""
PAGES = [Page(file) for file in sorted(GUIDE.rglob("*.md")) if file.name not in ELSEWHERE]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def page(name: str) -> Page:
    return Page(GUIDE / name)


def first_cells(page: Page) -> list[str]:
    """The first column of its tables; of a cell with several names, each."""
    rows = [line for line in page.text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w.]+)", row.split(" | ")[0])]


EACH = """
import json, os, runpy, sys, traceback
import triggers_core.manager, triggers_core.running.worker, triggers_core.testing

printed = {}
for name in sys.argv[1:]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        sys.argv = [name]
        code = 1
        try:
            runpy.run_path(name, run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    with open(reading) as output:
        printed[name] = output.read()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name} failed")
print(json.dumps(printed))
"""
"""Runs each of some programs in a child of its own, after the imports that they have in common."""


@every_page
def test_the_examples(page: Page, tmp_path: Path) -> None:
    INDEX.write_files(tmp_path)
    page.write_files(tmp_path)
    (tmp_path / "each.py").write_text(EACH)
    names = [name for name in page.files if name != "shop.py"]
    expected = {
        command.line.removeprefix("python "): command.output
        for command in page.commands
        if re.fullmatch(r"python \w+\.py", command.line)
    }
    assert list(expected) == names
    assert not names or json.loads(run_python(["each.py", *names], tmp_path)) == expected


@every_page
def test_the_pieces_of_code_that_are_no_programs(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fire into a session of the settings, or set settings."""
    pieces = [text for text in page.fences("python") if not text.startswith("# ")]
    for piece in pieces:
        monkeypatch.chdir(tmp_path)
        app = Application("page", Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_RUNNER="manual"))
        with monkeypatch.context() as patched:
            patched.setattr("triggers_core.get_trigger_manager", app.manager)
            patched.setattr("triggers_core.configure", app.configure)
            exec(compile(piece, page.name, "exec"), {})
        app.close()


# -- the pages leave nothing out ------------------------------------------------------------------


def test_every_attribute_of_the_context() -> None:
    listed = first_cells(page("writing-tasks.md").section("Task context"))
    context = TaskContext(*[None] * 5)  # type: ignore[arg-type]
    public = {name for name in (*vars(TaskContext), *vars(context)) if not name.startswith("_")}
    assert set(listed) == public
    assert len(listed) == len(public)


def test_every_parameter_of_what_the_context_does() -> None:
    text = page("writing-tasks.md").section("Task context").text
    for name in ("fire", "retry", "skip", "get_logger_context"):
        parameters = [*inspect.signature(getattr(TaskContext, name)).parameters][1:]
        assert f"`{name}({', '.join(parameters)})`" in text


def test_every_attribute_of_a_task() -> None:
    listed = first_cells(page("writing-tasks.md").section("The class"))
    public = {name for name in TriggerTask.__annotations__ if not name.startswith("_")}
    assert set(listed) == public | {"celery_options"}


def test_every_argument_of_a_retry() -> None:
    listed = first_cells(page("writing-tasks.md").section("Retrying"))
    parameters = [*inspect.signature(TriggerTask.retry).parameters][1:]
    assert [name for name in listed if name in parameters] == parameters


def test_every_argument_and_answer_of_a_fire() -> None:
    listed = first_cells(page("firing.md"))
    parameters = [*inspect.signature(TriggerManager.fire).parameters][1:]
    assert listed[: len(parameters)] == parameters
    assert set(first_cells(page("firing.md").section("The answer"))) == set(
        FireResult.__struct_fields__
    )


def test_every_directive_and_every_answer_of_a_configuration() -> None:
    text = page("configuring-tasks.md").section("The directives").text
    names = {re.sub(r"_(\w)", lambda found: found[1].upper(), each) for each in _fields(Task)}
    for name in names - {"name", "directives"}:
        assert f"`{name}`" in text, name
    answers = first_cells(page("configuring-tasks.md").section("Changing open sessions"))
    assert set(_fields(Configured)) <= set(answers)


def test_every_way_to_look_at_a_session_and_an_instance() -> None:
    inspecting = page("inspecting.md")
    session = inspecting.section("A session").text
    plumbing = {"on", "open_store", "open_scratch", "options_from_text", "schemes", "header"}
    for name in vars(SessionStorage):
        if not name.startswith("_") and name not in plumbing:
            assert f"`{name}" in session, name
    instance = inspecting.section("An instance").text
    for name, each in vars(TaskInstance).items():
        if isinstance(each, property):
            assert f"`{name}`" in instance, name
    fields = set(Instance.__struct_fields__) | set(dir(TaskInstance)) | {"resolved", "name"}
    assert set(first_cells(inspecting.section("An instance"))) <= fields


def test_every_method_of_a_manager() -> None:
    text = page("managers.md").text
    for name, each in vars(TriggerManager).items():
        public = not name.startswith("_") and name not in {"outside", "commit", "dispatch"}
        if public and inspect.isfunction(each) and name != "after_commit":
            assert re.search(rf"\b{name}\b", text), name
    for name in ("_post_fire", "_post_replay", "_post_skip"):
        parameters = [*inspect.signature(getattr(TriggerManager, name)).parameters][1:]
        assert f"`{name}({', '.join(parameters)})`" in text


def test_the_table_of_statuses() -> None:
    """What it says of each status is what the manager does with an instance that has it."""
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page("statuses.md").text.partition("\n## ")[0].splitlines()
        if line.startswith("| `")
    ]
    names = [status.value for status in STATUSES]
    means = {row[0].strip("`"): row[2] for row in cells if len(row) == 3}
    rows = {row[0].strip("`"): row[1:] for row in cells if len(row) == 6}
    assert list(means) == list(rows) == names
    for status, (_, replayed, skipped, failed, _) in rows.items():
        assert (means[status] == "yes") == (Status(status) in RESOLVED)
        for said, act in (
            (replayed, lambda manager: manager.replay_failed_instance("t_x#0")),
            (skipped, lambda manager: manager.skip_failed_instance("t_x#0")),
            (failed, lambda manager: manager.fail_instance("t_x#0", "by hand")),
        ):
            manager = _with_status(Status(status))
            assert said in ("yes", "no")
            refused = pytest.raises(WrongState, match=status) if said == "no" else nullcontext()
            with refused:
                act(manager)


def _with_status(status: Status) -> TriggerManager:
    store = MemoryStore(VirtualClock(0.0))
    app = Application(
        "statuses", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner
    )
    manager = app.manager("s")

    class Body(TriggerTask):
        name = "guide.Body"

        def _run(self, context: TaskContext) -> None:
            if status is Status.SKIPPED:
                raise self.skip()
            if status in (Status.FAILED, Status.REPLAYED):
                raise ValueError

    manager.update_configuration(
        {"t_x": {"after": ["a", "b"], "unless": ["c"], "run": "guide.Body"}}
    )
    manager.fire("a")
    if status is Status.ABANDONED:
        manager.fire("c")
    if status in (Status.UNSTARTED, Status.ABANDONED):
        return manager
    manager.fire("b")
    if status is Status.RUNNING:
        manager.commit(Claim(instance="t_x#0", attempt=1, generation=_generation(manager)))
    elif status is not Status.SCHEDULED:
        manager.app.runner().work()
    if status is Status.REPLAYED:
        manager.replay_failed_instance("t_x#0")
    assert manager.storage["t_x#0"].status is status
    return manager


def _generation(manager: TriggerManager) -> str:
    assert manager.storage.header is not None
    return manager.storage.header.generation


def test_every_error_that_a_page_names_exists() -> None:
    kinds = "Error|Exceeded|Missing|Conflict|Failed|Fired|Schema|Closed|State|Argument|Payload|Name"
    told = {"WorkerLost", "AttemptFailed"}  # types that only records and logs have
    for each in PAGES:
        for name in re.findall(rf"`([A-Z]\w+(?:{kinds}))`", each.text):
            assert name in told or hasattr(errors, name) or hasattr(builtins, name), name


def test_what_troubleshooting_quotes_is_said_somewhere() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    troubleshooting = page("production/troubleshooting.md")
    explained = troubleshooting.section("Nothing runs").text
    cells = re.findall(r"^\| (`.+?`) \|", explained, re.MULTILINE)
    quoted = [*troubleshooting.fences("text"), *(cell.strip("`") for cell in cells)]
    assert len(quoted) > len(cells) > 5
    for text in quoted:
        for part in filter(None, map(str.strip, re.split(r"…|\n", text))):
            assert part in source, part


def _fields(kind: type) -> tuple[str, ...]:
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
    return fields
