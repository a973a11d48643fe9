"""Applications: set up once, whoever comes first; started, stopped; many stores; re-entrancy."""

from __future__ import annotations

import logging
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from applications import eventually
from msgspec import structs

from triggers_core import Application, TaskContext, TriggerTask, hookimpl
from triggers_core.engine.attempts import Claim
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import ImportExited, LimitExceeded, StorageError, WrongState
from triggers_core.limits import Limits
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.runners import TaskRunner
from triggers_core.running.rounds import Pace
from triggers_core.settings import Settings
from triggers_core.storages import storage_backends
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.storages.session import SessionStorage
from triggers_core.testing import bodies
from triggers_core.testing.bodies import Gate
from triggers_core.testing.manager_helpers import configure, fire_silently, statuses

QUICK = {"lease": 0.05, "heartbeat": 0.02, "sweep": 0.02, "redispatch_after": 0.05}


@pytest.fixture
def made() -> Iterator[Callable[..., Application]]:
    apps: list[Application] = []

    def make(**settings: Any) -> Application:
        apps.append(
            Application(
                "test",
                Settings.isolated(
                    **{"TRIGGER_STORAGE_TYPE": "memory", "TRIGGER_PLUGINS": [], **settings}
                ),
            )
        )
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = []

    def write(name: str, text: str) -> None:
        names.append(name)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))

    yield write
    for name in names:
        sys.modules.pop(name, None)


class Calls(TriggerTask):
    """Does what its application is told to, in its body."""

    name = "tests.Calls"
    what: Callable[[TaskContext], Any] = staticmethod(lambda context: None)

    def _run(self, context: TaskContext) -> None:
        type(self).what(context)


# -- imports ---------------------------------------------------------------------------------------


def test_a_module_that_failed_is_imported_again(
    made: Callable[..., Application], module: Callable[[str, str], None]
) -> None:
    module("fails_once_a", "raise OSError('not yet')")
    app = made(TRIGGER_IMPORTS=["fails_once_a"])
    for _ in range(2):
        with pytest.raises(OSError, match="not yet") as raised:
            app.manager("a")
        assert "'fails_once_a' of TRIGGER_IMPORTS" in raised.value.__notes__[0]
    module("fails_once_a", "")
    app.manager("a")


@pytest.mark.parametrize("code", ["0", "3", "'bye'", ""])
def test_a_module_that_exits_is_named(
    made: Callable[..., Application], module: Callable[[str, str], None], code: str
) -> None:
    module("exits_a", f"import sys; sys.exit({code})")
    app = made(TRIGGER_IMPORTS=["exits_a"])
    for _ in range(2):
        with pytest.raises(ImportExited, match="exits_a"):
            app.manager("a")
    with pytest.raises(ImportError):
        app.start()


def test_all_first_managers_wait_for_the_imports(
    made: Callable[..., Application], module: Callable[[str, str], None]
) -> None:
    module(
        "slow_a",
        """
        import threading; threading.Event().wait(0.2)
        from triggers_core import TriggerTask
        class Slow(TriggerTask):
            name = "slow_a.Slow"
            def _run(self, context): pass
        """,
    )
    app = made(TRIGGER_IMPORTS=["slow_a"])

    def first(number: int) -> None:
        app.manager(f"{number}").update_configuration({"t": {"after": ["x"], "run": "slow_a.Slow"}})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(first, range(4)))


def test_a_module_that_makes_a_manager_while_it_is_imported(
    made: Callable[..., Application], module: Callable[[str, str], None]
) -> None:
    """From both sides at once: by the application, and by the program itself."""
    app = made(TRIGGER_IMPORTS=["uses_app_a"])
    module(
        "uses_app_a",
        """
        import threading, builtins
        threading.Event().wait(0.1)
        builtins.uses_app_a.manager("while imported")
        """,
    )
    import builtins

    builtins.uses_app_a = app  # type: ignore[attr-defined]
    try:
        with ThreadPoolExecutor(4) as pool:
            both = [lambda: app.manager("a"), lambda: __import__("uses_app_a")] * 2
            for done in [pool.submit(each) for each in both]:
                done.result(60)
    finally:
        del builtins.uses_app_a  # type: ignore[attr-defined]


def test_a_module_that_fails_after_it_has_made_a_manager_is_imported_again(
    made: Callable[..., Application], module: Callable[[str, str], None]
) -> None:
    import builtins

    app = made(TRIGGER_IMPORTS=["half_a"])
    builtins.half_a = app  # type: ignore[attr-defined]
    try:
        module("half_a", "import builtins; builtins.half_a.manager('x'); raise OSError('not yet')")
        with pytest.raises(OSError, match="not yet"):
            __import__("half_a")
        with pytest.raises(OSError, match="not yet"):
            app.manager("a")
    finally:
        del builtins.half_a  # type: ignore[attr-defined]


# -- parts -----------------------------------------------------------------------------------------


def test_parts_are_made_once(made: Callable[..., Application]) -> None:
    count, barrier = [], threading.Barrier(8)
    opened = MemoryStorage.open_store

    class Slow(MemoryStorage):
        @classmethod
        def open_store(cls, *_: Any) -> MemoryStore:  # type: ignore[override]
            count.append(1)
            threading.Event().wait(0.05)
            return opened()

    storage_backends.register("slow", Slow)
    app = made(TRIGGER_STORAGE_TYPE="slow")

    def first(_: int) -> tuple[int, int, int]:
        barrier.wait()
        return id(app.store), id(app.plugins), id(app.runner())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first, range(8)))) == 1
    assert count == [1]
    assert type(app.replace().storage("a")) is Slow
    storage_backends.unregister("slow")


def test_parts_that_are_given(made: Callable[..., Application], fast_dir: Path) -> None:
    store = MemoryStore()
    plugins = Plugins([])
    rules = Rules(limits=Limits(tasks=1), plugins=plugins.names)
    settings = Settings.isolated(TRIGGER_STORAGE_OPTIONS={"path": str(fast_dir / "unused.db")})
    app = Application("given", settings, store=store, plugins=plugins, rules=rules)
    assert (app.store, app.plugins, app.rules) == (store, plugins, rules)
    assert app.stores() == [store]
    manager = app.manager("a")
    assert type(manager.storage) is MemoryStorage
    manager.fire("go")
    app.reset()
    assert app.manager("a").storage.metadata.events == 1
    assert (app.plugins, app.rules) == (plugins, rules)
    task = {"after": ["go"], "run": bodies.Echo.name}
    with pytest.raises(LimitExceeded, match="tasks"):
        app.manager("a").update_configuration({"t_a": task, "t_b": task})
    app.configure(TRIGGER_STORAGE_OPTIONS={"path": str(fast_dir / "mine.db")})
    assert app.store.place == f"the SQLite file {fast_dir / 'mine.db'}"
    assert app.plugins is plugins
    app.configure(TRIGGER_PLUGINS=[])
    assert app.plugins is not plugins
    app.close()
    assert not (fast_dir / "unused.db").exists()


def test_a_store_of_no_registered_storage_can_be_given() -> None:
    class Own(MemoryStore):
        key = "own"

    app = Application("own", Settings.isolated(TRIGGER_PLUGINS=[]), store=Own())
    app.manager("a").fire("go")
    assert type(app.storage("a")) is SessionStorage
    assert app.storage("a").metadata.events == 1


def test_replace_makes_another_application(made: Callable[..., Application]) -> None:
    class Own(TaskRunner):
        pass

    app = made()
    app.manager("a").fire("go")
    rules = structs.replace(app.rules, limits=Limits(tasks=1))
    other = app.replace(name="other", rules=rules, runner=Own)
    assert (other.name, other.rules, app.name) == ("other", rules, "test")
    assert app.rules.limits == Limits()
    assert (other.store, other.plugins, other.settings) == (app.store, app.plugins, app.settings)
    assert other.manager("a").storage.metadata.events == 1
    assert type(other.runner()) is type(other.runner("any key")) is Own
    assert other.runner() is other.runner("any key")
    assert other.runner().app is other
    other.close()
    assert app.storage("a").metadata.events == 1
    again = other.replace(store=MemoryStore())
    assert again.rules is rules
    assert type(again.runner()) is Own
    assert not again.storage("a").exists


def test_replace_with_other_settings_shares_nothing_made_from_these(
    made: Callable[..., Application],
) -> None:
    app = made()
    app.manager("a").fire("go")
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[])
    other = app.replace(settings=settings)
    assert not other.storage("a").exists
    assert other.plugins is not app.plugins
    given = Application("given", settings, store=app.store).replace(settings=settings)
    assert given.store is app.store


def test_configure_keeps_what_a_module_has_registered(made: Callable[..., Application]) -> None:
    class Plugin:
        @hookimpl
        def post_commit(self, manager: Any, changes: Any) -> None:
            pass

    app = made()
    app.plugins.register(Plugin(), "mine")
    app.configure(TRIGGER_LIMITS={"tasks": 1})
    assert "mine" in app.plugins.names
    assert app.rules.limits.tasks == 1
    app.configure(TRIGGER_PLUGINS=[])
    assert "mine" not in app.plugins.names


def test_a_plugin_that_uses_the_application_while_it_is_loaded(
    made: Callable[..., Application], module: Callable[[str, str], None]
) -> None:
    import builtins

    module("loads_a", "import builtins; builtins.loads_a.plugins")
    app = builtins.loads_a = made(TRIGGER_PLUGINS=["loads_a"])  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="being set up"):
        app.manager("a")
    del builtins.loads_a  # type: ignore[attr-defined]


# -- re-entrancy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["join", "join_all", "close", "stop", "configure", "reset", "shutdown"]
)
def test_a_body_that_waits_for_itself_fails(made: Callable[..., Application], what: str) -> None:
    app = made()

    def wait(context: TaskContext) -> None:
        {
            "join": lambda: context.manager.join(),
            "join_all": lambda: app.runner().join_all(timeout=60),
            "close": app.close,
            "stop": app.stop,
            "configure": lambda: app.configure(TRIGGER_LIMITS={"tasks": 7}),
            "reset": app.reset,
            "shutdown": lambda: app.runner().shutdown(),
        }[what]()

    Calls.what = staticmethod(wait)
    manager = app.manager("a")
    configure(manager, t_a=(Calls, {"after": ["go"]}))
    manager.fire("go")
    assert manager.join(60)
    error = manager.storage["t_a#0"].metadata["error"]
    assert "WrongState" in error["type"]
    assert "wait for itself" in error["message"]
    assert app.settings.limits.tasks != 7, "a refused configure changes nothing"


def test_a_plugin_that_uses_the_application_while_another_thread_sets_that_up(
    module: Callable[[str, str], None],
) -> None:
    """One thread imports the plugin and wants the application, the other one the other way."""
    import builtins

    module(
        "both_ways_a",
        """
        import builtins, threading
        from triggers_core import hookimpl
        @hookimpl
        def resolve_task(): ...
        app, begun = builtins.both_ways_a
        begun.set()
        while app._builder is None:
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)
        app.store
        """,
    )
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=["both_ways_a"])
    app, begun = Application("test", settings), threading.Event()
    builtins.both_ways_a = (app, begun)  # type: ignore[attr-defined]
    try:
        importing = threading.Thread(target=__import__, args=("both_ways_a",), daemon=True)
        importing.start()
        assert begun.wait(60)
        building = threading.Thread(target=lambda: app.plugins, daemon=True)
        building.start()
        for thread in (importing, building):
            thread.join(60)
            assert not thread.is_alive(), "each waits for the other"
        assert app.plugins.names == {"both_ways_a"}
        app.close()
    finally:
        del builtins.both_ways_a  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["close", "reset", "configure"])
def test_closing_while_bodies_with_cascades_run(
    made: Callable[..., Application], what: str
) -> None:
    app = made()
    manager = app.manager("a")
    configure(
        manager,
        t_a=(bodies.Gated, {"after": ["go"]}),
        t_b=(bodies.Echo, {"after": ["t_a"]}),
        t_c=(bodies.Echo, {"after": ["t_b"]}),
    )
    gate = Gate(f"closing by {what}")
    manager.fire("go", {"gate": f"closing by {what}"})
    gate.wait_for(1)
    calls = {
        "close": app.close,
        "reset": app.reset,
        "configure": lambda: app.configure(TRIGGER_LIMITS={"tasks": 500}),
    }
    closing = threading.Thread(target=calls[what], daemon=True)
    closing.start()
    gate.open()
    closing.join(60)
    assert not closing.is_alive()
    assert set(statuses(manager).values()) == {"finished"}
    assert len(statuses(manager)) == 3


# -- start and stop --------------------------------------------------------------------------------


def left_behind(path: Path) -> None:
    """What a killed process leaves: an attempt that nobody makes any more."""
    app = Application(
        "test",
        Settings.isolated(
            TRIGGER_PLUGINS=[],
            TRIGGER_STORAGE_OPTIONS={"path": str(path)},
            TRIGGER_RUNNER_OPTIONS={"sweep": False},
            TRIGGER_TIMING=QUICK,
        ),
    )
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    message = fire_silently(app, manager, "t_a#0")
    claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
    claim.token += "@elsewhere:42"
    manager.storage.store.commit("order:1", claim, app.rules)
    app.close()


def test_a_start_without_traffic_picks_up_what_was_left(
    made: Callable[..., Application], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(tmp_path / "t.db")
    app = made(
        TRIGGER_STORAGE_TYPE="sqlite",
        TRIGGER_STORAGE_OPTIONS={"path": str(tmp_path / "t.db")},
        TRIGGER_TIMING={"sweep": 0.02},  # a lease as short as that one would run out once more
    )
    with app, app.start():
        store = app.store
        eventually(lambda: store.instances("order:1")[0].status == "finished")
        assert store.instances("order:1")[0].attempt == 2
    (lost,) = [each.message for each in caplog.records if "was lost" in each.message]
    assert "attempt 1 (elsewhere:42)" in lost
    assert not app._runners.all()
    app.stop()
    with app:
        pass


def test_no_file_is_made_for_a_store_that_nobody_uses(
    made: Callable[..., Application], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from triggers_core import TriggerManager

    app = made(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_TIMING=QUICK)
    TriggerManager(MemoryStorage("a"), app)
    app.runner().sweep()  # type: ignore[attr-defined]
    app.close()
    assert list(tmp_path.iterdir()) == []


# -- many stores -----------------------------------------------------------------------------------


class Tenants:
    """As the docs of `storage_load` and `stores_to_sweep` have it, in memory."""

    def __init__(self, count: int) -> None:
        self.stores = {f"{number:03}": MemoryStore() for number in range(count)}

    @hookimpl
    def storage_load(self, backend: str, uid: str, options: object) -> MemoryStorage | None:
        store = self.stores.get(uid.partition(":")[0])
        return None if store is None else MemoryStorage(uid, store)

    @hookimpl
    def stores_to_sweep(self, backend: str, options: object) -> list[Any]:
        return [*self.stores.values()]


def test_every_tenant_is_swept(
    made: Callable[..., Application], caplog: pytest.LogCaptureFixture
) -> None:
    tenants = Tenants(150)
    writer = made(TRIGGER_PLUGINS=[tenants], TRIGGER_RUNNER_OPTIONS={"sweep": False})
    for name in tenants.stores:
        manager = writer.manager(f"{name}:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        fire_silently(writer, manager, "t_a#0")
        tenants.stores[name].clock = lambda: 5e9

    def away(*_: object) -> None:
        raise StorageError("this tenant's disk is full")

    tenants.stores["007"].due = away  # type: ignore[assignment]
    app = made(TRIGGER_PLUGINS=[tenants], TRIGGER_TIMING={"sweep": 0.05})
    assert len(app.stores()) == 151

    def done() -> int:
        return sum(
            store.instances(f"{name}:1")[0].status == "finished"
            for name, store in tenants.stores.items()
        )

    with app:
        eventually(lambda: done() == 149)
    broken = [each.message for each in caplog.records if "disk is full" in each.message]
    assert len(broken) == 1
    del tenants.stores["007"].due  # type: ignore[method-assign]
    assert [len(each.dispatch) for each in app.recover()] == [1]
    assert app.prune(0, resolved_only=False) >= 149


def test_a_hook_that_fails_or_names_nonsense_hides_no_store(
    made: Callable[..., Application], caplog: pytest.LogCaptureFixture
) -> None:
    class Fails:
        @hookimpl
        def stores_to_sweep(self) -> list[Any]:
            raise OSError("no such folder")

    class Nonsense:
        @hookimpl
        def stores_to_sweep(self) -> list[Any]:
            return ["a.db", MemoryStorage("any")]

    app = made(TRIGGER_PLUGINS=[Fails(), Nonsense()])
    assert len(app.stores()) == 2
    assert "no such folder" in caplog.text
    assert "named a str" in caplog.text


def test_stores_of_managers_are_known_and_counted_once(
    made: Callable[..., Application], tmp_path: Path
) -> None:
    class PerTenant:
        @hookimpl
        def storage_load(self, uid: str) -> Any:
            return storage_backends.get("sqlite", uid, path=str(tmp_path / f"{uid[0]}.db"))

    app = made(TRIGGER_PLUGINS=[PerTenant()])
    for uid in ("a1", "a2", "b1", "a3"):
        app.manager(uid)
    assert len(app.stores()) == 3


def test_a_backlog_is_worked_off_without_pauses(
    made: Callable[..., Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pause of an hour between two looks, only turns without pauses get it done."""
    app = made(TRIGGER_TIMING={"sweep": 3_600})
    monkeypatch.setattr(app.runner()._rounds, "pace", Pace(batch=10))
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"andEvery": "go"}))
    for number in range(95):
        fire_silently(app, manager, f"t_a#{number}")
    app.store.clock = lambda: 5e9
    app.runner().wake()
    eventually(lambda: list(statuses(manager).values()).count("finished") == 95)


def test_refusals_name_the_fix(made: Callable[..., Application]) -> None:
    app = made()
    manager = app.manager("a")
    seen: list[BaseException] = []

    class Hook:
        @hookimpl
        def post_fire(self, manager: Any, event: Any) -> None:
            if event.trigger == "t_a":
                try:
                    manager.join()
                except WrongState as error:
                    seen.append(error)

    app.plugins.register(Hook(), "hook")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    with_level = logging.getLogger("triggers_core")
    assert with_level is not None
    manager.fire("go")
    assert manager.join(60)
    assert "`after`" in str(seen[0])


def test_a_signal_handler_may_make_a_manager_while_another_is_made() -> None:
    app = Application("signals", Settings.isolated(TRIGGER_STORAGE_TYPE="memory"))
    with app._places._lock:  # where a handler may interrupt this thread
        assert app.manager("order:1").fire("paid").status == "recorded"
    app.close()
