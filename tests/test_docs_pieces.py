"""Pieces of code on pages that are no programs: each is run within what its page says around it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doc_pages import DOCS, ROOT, Page, configured, fails_python, run_python

import triggers_core
from triggers_core import Application, TaskContext, TriggerTask, trigger_task
from triggers_core.engine.records import STATUSES
from triggers_core.entry_points import KNOWN_DISTRIBUTIONS
from triggers_core.exceptions import SoftTimeLimitExceeded
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import Triggers, VirtualClock
from triggers_core.testing.kit.providers import BUILT_IN, GROUP
from triggers_core.testing.simulation import simulate

CONCEPTS = Page(DOCS / "concepts.md")
GUARANTEES = Page(DOCS / "guarantees.md")
FAULTS = Page(DOCS / "fault-injection.md")
START = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC
TASK = {"TriggerTask": TriggerTask, "TaskContext": TaskContext}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Application]:
    """The application of the page's settings, on a file: what `get_trigger_manager` uses."""
    settings = Settings.isolated(
        TRIGGER_PLUGINS=[],
        TRIGGER_RUNNER="manual",
        TRIGGER_STORAGE_OPTIONS={"path": str(tmp_path / "page.db")},
    )
    with Application("page", settings) as app:
        monkeypatch.setattr(triggers_core, "get_trigger_manager", app.manager)
        monkeypatch.setattr("triggers_core.application.default_application", app)
        yield app


def run(code: str, **scope: Any) -> dict[str, Any]:
    exec(compile(code, "page", "exec"), scope)
    return scope


# -- concepts -------------------------------------------------------------------------------------


def test_the_questionnaire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [configuration] = CONCEPTS.fences("json")
    make, fire, task = (
        CONCEPTS.piece(start)
        for start in (
            "from triggers_core import TriggerManager",
            "manager.fire(",
            "from triggers_core import TaskContext",
        )
    )
    subject = (
        "class ImportSubject(TriggerTask):\n"
        "    name = 'app.tasks.ImportSubject'\n"
        "    def _run(self, context):\n"
        "        return {'subject_id': 7}\n"
    )
    explain = CONCEPTS.piece("manager.explain(")
    (tmp_path / "page.py").write_text(
        f"import json\n{task}\n{subject}\nconfiguration = json.loads('''{configuration}''')\n"
        f"{make}{fire}manager.join()\nprint({explain.strip()})\n"
        "print(manager.storage['t_importResponses#0'].result)\n"
    )
    explained, result = run_python(["page.py"], tmp_path).rstrip().rsplit("\n", 1)
    assert "t_importResponses: after t_importSubject, and every pageReceived" in explained
    assert result == "{'imported': 1}"
    assert (tmp_path / "triggers.db").exists()


def test_a_limit_that_a_body_notices() -> None:
    code = CONCEPTS.piece("from triggers_core.exceptions import SoftTimeLimitExceeded")

    def import_all() -> None:
        raise SoftTimeLimitExceeded

    made = run(code, **TASK, import_all=import_all, so_far=lambda: 3)["ImportResponses"]
    assert made._run(SimpleNamespace(), None) == {"rows": 3}
    assert (made.soft_time_limit, made.time_limit) == (60, 90)


@pytest.mark.parametrize("page", [CONCEPTS, Page(DOCS / "guide" / "statuses.md")])
def test_the_picture_of_the_statuses(page: Page) -> None:
    picture = page.piece("unstarted ──►", "text")
    named = set(re.findall(r"[a-z]+", picture))
    assert named >= {status.value for status in STATUSES}


def test_what_explain_says() -> None:
    clock = VirtualClock(START)
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    app = Application("page", settings, store=MemoryStore(clock), runner=ManualRunner)
    manager = app.manager("order:42")
    paid = {"trigger": "paid", "where": {"status": "succeeded"}}
    manager.update_configuration(
        {
            "t_ship": {
                "after": ["placed", {"anyOf": [paid, "invoiced"]}, {"atLeast": 5, "of": "packed"}],
                "within": "14 days",
                "otherwise": "late",
                "run": "shop.Ship",
            }
        }
    )
    manager.fire("placed")
    clock.advance(120)
    manager.fire("paid", {"status": "failed"})
    clock.advance(60)
    for _ in range(3):
        manager.fire("packed")
    shown = CONCEPTS.piece("t_ship#0: waits", "text").split()  # where lines end is the page's
    assert " ".join(shown) in " ".join(str(manager.explain("t_ship")).split())


# -- guarantees -----------------------------------------------------------------------------------


def test_a_charge_has_the_key_of_its_instance() -> None:
    made: list[str] = []

    def charge(amount: int, idempotency_key: str) -> SimpleNamespace:
        made.append(idempotency_key)
        return SimpleNamespace(id=amount)

    payments = SimpleNamespace(charge=charge)
    task = run(GUARANTEES.piece("class ChargeCard"), **TASK, payments=payments)["ChargeCard"]
    context = SimpleNamespace(trigger_kwargs={"orderPlaced": {"amount": 4200}}, idempotency_key="k")
    assert task._run(SimpleNamespace(), context) == {"charge": 4200}
    assert made == ["k"]


def test_an_event_that_comes_twice(app: Application) -> None:
    code = GUARANTEES.piece("result = manager.fire(")
    manager = app.manager("order:1")
    said = [run(code, manager=manager)["result"].status for _ in range(3)]
    assert said == ["recorded", "duplicate", "duplicate"]
    assert "first time" in code


def test_fires_that_are_one_transaction(app: Application) -> None:
    code = GUARANTEES.piece("with manager.storage.store.transaction()")
    of_sqlite = Page(DOCS / "transactions.md").section("SQLite").fences("python")[0]
    managers = {"manager": app.manager("order:1"), "other_manager": app.manager("order:2")}
    run(code + of_sqlite, get_trigger_manager=app.manager, **managers)
    uids = ("order:1", "order:2")
    fired = {uid: [each.trigger for each in app.manager(uid).storage.events] for uid in uids}
    assert fired == {"order:1": ["merged", "paid"], "order:2": ["mergedFrom", "orderPaid"]}


def test_a_service_that_sweeps_while_it_lives(app: Application, sweeps: Callable[[], bool]) -> None:
    of_fastapi = Page(DOCS / "transactions.md").piece("@asynccontextmanager")
    head = "from contextlib import asynccontextmanager\n"
    app.configure(TRIGGER_RUNNER="threading")
    for code in (GUARANTEES.piece(head), head + of_fastapi):
        lifespan = run(code, default_application=app)["lifespan"]
        app.stop()
        assert not sweeps()

        async def live(lifespan: Callable[[object], Any] = lifespan) -> None:
            async with lifespan(None):
                assert sweeps()

        asyncio.run(live())
        assert not sweeps()


@pytest.fixture
def sweeps() -> Callable[[], bool]:
    """Whether there is a sweep, but for those that other tests have left behind."""
    before = set(threading.enumerate())

    def sweeps() -> bool:
        since = set(threading.enumerate()) - before
        return any(each.name == "triggers-sweep" for each in since)

    return sweeps


def test_the_workers_of_a_server_that_forks(app: Application, sweeps: Callable[[], bool]) -> None:
    page = Page(DOCS / "guide" / "production" / "index.md")
    hooks = run(page.piece("from triggers_core.application import default_application"))
    app.configure(TRIGGER_RUNNER="threading")
    app.stop()
    assert not sweeps()
    hooks["post_worker_init"](None)
    assert sweeps()
    hooks["worker_exit"](None, None)
    assert not sweeps()


# -- faults ---------------------------------------------------------------------------------------


def test_the_pieces_about_a_simulation() -> None:
    program = FAULTS.files["charging.py"].partition("try:")[0]
    scope = run(program)

    @trigger_task(name="shop.charge_with_key_of_pieces")
    def charge(context: TaskContext) -> None:
        scope["charges"][context.manager.uid] = [42]

    scope["CONFIG"]["t_charge"]["run"] = charge.name
    traced: list[str] = []
    run(FAULTS.piece("simulate(").replace("print", "traced.append"), **scope, traced=traced)
    line = re.compile(r" *\d+\.\d{3} (p\d|-) +(\w+) +\S.*")
    assert all(line.fullmatch(each) for each in traced)
    shown = FAULTS.piece("    61.218", "text").splitlines()
    assert all(line.fullmatch(each) for each in shown)
    code = FAULTS.piece("from triggers_core.testing.simulation import Rates")
    rates = run(code.replace("seeds=100", "seeds=2"), **scope)
    assert rates["simulate"] is simulate


def test_the_simulation_of_the_project(tmp_path: Path) -> None:
    many, one = [each.line for each in FAULTS.commands if "simulation" in each.line]
    assert "--seeds 1000 " in many
    told = run_python(many.replace("1000", "4").split()[1:], tmp_path)
    assert re.search(r"^4 seeds, .* 0 violations .* seeds/s", told, re.MULTILINE)
    assert run_python(one.split()[1:], tmp_path).count("\n") > 20


# -- the cookbook ---------------------------------------------------------------------------------


def test_what_publishes_tries_until_it_can() -> None:
    sent: list[tuple[Any, ...]] = []

    def send(topic: str, kwargs: dict[str, Any], key: str) -> None:
        sent.append((topic, kwargs, key))
        if len(sent) < 3:
            raise ConnectionError

    code = Page(DOCS / "cookbook" / "outbox.md").piece("class Publish")
    run(code, **TASK, kafka=SimpleNamespace(send=send))
    with Triggers() as triggers:
        s = triggers.session(
            {
                "t_ship": {"after": ["paid"], "run": "shop.Ship"},
                "t_publish": {"after": ["t_ship"], "run": "shop.Publish"},
            }
        )
        s.returns("t_ship", {"parcel": 7})
        s.fire("paid")
        s.advance("1 minute")
        assert s.status("t_publish") == "finished"
    assert [each[:2] for each in sent] == [("shipped", {"parcel": 7})] * 3


def test_which_of_two_frameworks_has_a_session() -> None:
    code = Page(DOCS / "cookbook" / "from-the-2017-framework.md").piece("def fire(")
    created = {"old": 1, "new": 3}
    fired: list[tuple[Any, ...]] = []

    def managers(where: str) -> Callable[[str], SimpleNamespace]:
        return lambda uid: SimpleNamespace(fire=lambda *given: fired.append((where, uid, *given)))

    scope = run(
        code,
        SWITCHED=2,
        Questionnaire=SimpleNamespace(
            objects=SimpleNamespace(get=lambda pk: SimpleNamespace(created=created[pk]))
        ),
        old_trigger_manager=managers("2017"),
        get_trigger_manager=managers("here"),
    )
    scope["fire"]("old", "page", {})
    scope["fire"]("new", "page", {})
    assert fired == [("2017", "old", "page", {}), ("here", "new", "page", {})]


# -- storages, runners, settings ------------------------------------------------------------------


class Connection:
    """What the page calls ``ourdriver``: notes what is asked of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def commit(self) -> None:
        self.said.append("commit")

    def rollback(self) -> None:
        self.said.append("rollback")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.said.append("rollback to savepoint")
            raise
        self.said.append("release")


def test_the_transactions_of_a_storage_on_a_database() -> None:
    connection = Connection()

    @contextmanager
    def lend() -> Iterator[Connection]:
        yield connection

    scope = run(
        Page(DOCS / "writing-a-storage.md").piece("class Open"),
        Store=object,
        threading=threading,
        contextmanager=contextmanager,
        CannotJoin=ValueError,
        ourdriver=SimpleNamespace(Connection=Connection),
        JoinedStore=lambda store, connection: (store, connection),
    )
    store = scope["DatabaseStore"]()
    store._open, store._pool = scope["Open"](), SimpleNamespace(connection=lend)
    store.place = "here"
    told: list[int] = []
    store.when_committed(lambda: told.append(0))
    with store.transaction():
        store.when_committed(lambda: told.append(1))
        with suppress(KeyError), store.transaction():
            store.when_committed(lambda: told.append(2))
            raise KeyError
        with store.transaction():
            store.when_committed(lambda: told.append(3))
        assert told == [0]
    assert told == [0, 1, 3]
    assert connection.said == ["rollback to savepoint", "release", "commit"]
    with suppress(KeyError), store.transaction():
        store.when_committed(lambda: told.append(4))
        raise KeyError
    assert told == [0, 1, 3]
    assert connection.said[-1] == "rollback"
    assert store.joined(connection) == (store, connection)
    with pytest.raises(ValueError, match="expected a connection of ourdriver"):
        store.joined(None)
    assert hasattr(Store, "transaction")
    assert hasattr(Store, "when_committed")
    assert hasattr(Store, "joined")


def test_the_rounds_of_a_runner(app: Application) -> None:
    from triggers_core.running.outages import Outages
    from triggers_core.running.rounds import Rounds

    code = Page(DOCS / "writing-a-runner.md").piece("from triggers_core.running.rounds")
    runner = SimpleNamespace(
        ended=False,
        heartbeats=SimpleNamespace(beat=lambda: None),
        rounds=Rounds(app, Outages(logging.getLogger("page"))),
    )
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        runner.ended = True

    runner.nap = SimpleNamespace(wait=wait, clear=lambda: None)
    run(code)["sweep_forever"](runner)
    assert 0 < waits[0] <= 5


def test_what_a_wrong_setting_is_told(tmp_path: Path) -> None:
    text = Page(DOCS / "settings.md").piece("InvalidSetting: ", "text")
    (tmp_path / "wrong.py").write_text(
        "import os\nos.environ['TRIGGER_STORAGE_OPTIONS'] = '{\"pth\": \"shop.db\"}'\n"
        "from triggers_core import get_trigger_manager\n"
        "from triggers_core.exceptions import InvalidSetting\n"
        "try:\n    get_trigger_manager('order:1').fire('paid')\n"
        "except InvalidSetting as error:\n    print(f'InvalidSetting: {error}')\n"
    )
    assert run_python(["wrong.py"], tmp_path).split() == text.split()


def test_the_settings_of_the_tests_of_an_application(tmp_path: Path) -> None:
    page = Page(DOCS / "testing.md")
    (tmp_path / "pyproject.toml").write_text(page.piece("[tool.pytest", "toml"))
    (tmp_path / "test_where.py").write_text(
        "def test_where(triggers):\n    assert triggers.place_name == 'none'\n"
    )
    one, many = [each.line.split() for each in page.commands if "--triggers" in each.line]
    options = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:django"]
    told = fails_python(options, tmp_path)
    assert "[memory]" in told
    assert "[sqlite]" in told
    assert one[:-1] == many[:-1]
    assert {*many[-1].split(","), "sqlite"} == {*BUILT_IN, *KNOWN_DISTRIBUTIONS[GROUP]}


PUBLISHING = Page(DOCS / "plugins" / "publishing.md")


@pytest.mark.parametrize(
    "text",
    [
        Page(DOCS / "plugins.md").piece("[project.entry-points", "toml"),
        Page(DOCS / "guide" / "managers.md").piece("[project.entry-points", "toml"),
        PUBLISHING.files["triggers-example/pyproject.toml"],
    ],
)
def test_the_entry_points_of_a_page(text: str) -> None:
    """They name groups that there are, and classes and modules that pages or the template have."""
    pages = ("writing-a-storage.md", "writing-a-runner.md", "guide/managers.md")
    known = {
        name
        for each in pages
        for code in Page(DOCS / each).fences("python")
        for name in re.findall(r"^class (\w+)", code, re.MULTILINE)
    }
    template = tomllib.loads((ROOT / "plugins" / "_template" / "pyproject.toml").read_text())
    for group, points in tomllib.loads(text)["project"]["entry-points"].items():
        assert group in {*KNOWN_DISTRIBUTIONS, "triggers.managers"}
        for name, target in points.items():
            if group == "triggers.plugins":
                assert template["project"]["entry-points"][group] == {name: target}
            else:
                assert target.partition(":")[2] in known, target


def test_what_the_plugin_template_does(tmp_path: Path) -> None:
    """The line that its README shows, and its options."""
    readme = Page(ROOT / "plugins" / "_template" / "README.md")
    options = configured(readme.piece("configure("))["TRIGGER_PLUGIN_OPTIONS"]
    [configuration] = map(json.loads, readme.fences("json"))
    (tmp_path / "page.py").write_text(
        "import logging, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'plugins' / '_template' / 'src')!r})\n"
        "import triggers_example.plugin\n"
        "from triggers_core.testing import Triggers\n"
        "logging.basicConfig(stream=sys.stdout, format='%(levelname)s %(name)s: %(message)s')\n"
        "with Triggers() as triggers:\n"
        "    triggers.configure(TRIGGER_PLUGINS=[triggers_example.plugin],"
        f" TRIGGER_PLUGIN_OPTIONS={options!r})\n"
        f"    s = triggers.session({configuration!r}, uid='order:42')\n"
        "    s.returns('t_ship', lambda context: s.advance(45))\n"
        "    s.fire('paid')\n"
        "    s.fire('packed')\n"
    )
    assert run_python(["page.py"], tmp_path) == readme.fences("text")[0]
