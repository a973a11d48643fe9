"""`--triggers-storage`, its ini option and its marker; storages that other distributions offer."""

from __future__ import annotations

import pytest

from triggers_core.exceptions import DuplicateKey, PluginError, StorageError, UnknownKey
from triggers_core.testing import VirtualClock
from triggers_core.testing.fake_distributions import FakeDistributions, distributions
from triggers_core.testing.kit import providers
from triggers_core.testing.kit.places import open_place
from triggers_core.testing.kit.providers import GROUP, Run

__all__ = ["distributions"]

pytest_plugins = ["pytester"]

TEST = """
    def test_ship(triggers):
        s = triggers.session({"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}})
        s.fire("paid")
        s.fire("packed")
        assert s.ran("t_ship") == 1
"""
ACME = """
    from contextlib import contextmanager

    from triggers_core.storages.memory import MemoryStore
    from triggers_core.testing.kit.places import Place

    said = []

    @contextmanager
    def places():
        said.append("server starts")

        @contextmanager
        def open_place(clock):
            said.append("opened")
            yield Place(MemoryStore(clock))
            said.append("emptied")

        yield open_place
        said.append("server stops")

    def broken():
        raise FileNotFoundError("no acme-server: install it, or set ACME_URL")
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:django", "-p", "no:cacheprovider", *arguments)


def ids(result: pytest.RunResult) -> list[str]:
    lines = [line.split()[0] for line in result.outlines if line.endswith("%]")]
    return sorted(line.partition("::")[2] for line in lines)


# -- which storages --------------------------------------------------------------------------------


def test_memory_by_default_and_nothing_is_said_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = run(pytester, "-v")
    assert ids(result) == ["test_ship"]
    result.stdout.no_fnmatch_line("triggers: *")


def test_each_test_runs_once_for_each_storage(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST + "\n    def test_without(): pass")
    options = ("--triggers-storage", "memory,sqlite", "--triggers-storage=sqlite")
    result = run(pytester, "-v", *options)
    result.assert_outcomes(passed=3)
    assert ids(result) == ["test_ship[memory]", "test_ship[sqlite]", "test_without"]
    result.stdout.fnmatch_lines(["triggers: storages memory, sqlite"])


@pytest.mark.parametrize(
    "ini",
    ["[pytest]\ntriggers_storage = sqlite memory", "[pytest]\ntriggers_storage = sqlite, memory"],
)
def test_the_ini_file_says_which_and_the_command_line_wins(
    pytester: pytest.Pytester, ini: str
) -> None:
    pytester.makepyfile(TEST)
    pytester.makeini(ini)
    assert ids(run(pytester, "-v")) == ["test_ship[memory]", "test_ship[sqlite]"]
    assert ids(run(pytester, "-v", "--triggers-storage=sqlite")) == ["test_ship[sqlite]"]


def test_one_test_says_which_whatever_the_option_says(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def order(triggers):
            return triggers.place_name

        @pytest.mark.triggers_storage("memory", "sqlite")
        @pytest.mark.parametrize("n", [1, 2])
        def test_marked(order, n, request):
            assert order in request.node.name

        @pytest.mark.parametrize("triggers", ["memory"], indirect=True)
        def test_parametrised(triggers):
            assert triggers.place_name == "memory"

        @pytest.mark.parametrize("n, triggers", [(1, "memory")], indirect=["triggers"])
        def test_among_others(triggers, n):
            assert triggers.place_name == "memory"

        def test_by_name(request):
            assert request.getfixturevalue("triggers").place_name == "sqlite"
    """)
    result = run(pytester, "-v", "--strict-markers", "--triggers-storage=sqlite")
    result.assert_outcomes(passed=7)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sqlit", "*did you mean 'sqlite'*"),
        ("zzz", "*no storage for tests is named 'zzz'*"),
    ],
)
def test_a_name_that_nobody_offers(pytester: pytest.Pytester, name: str, told: str) -> None:
    pytester.makepyfile(TEST)
    result = run(pytester, "--triggers-storage", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.triggers_storage({name!r})
        def test_marked(triggers): pass
    """)
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*Traceback*")


# -- what other distributions offer ----------------------------------------------------------------


@pytest.fixture
def acme(distributions: FakeDistributions) -> FakeDistributions:
    points = {"acme": "acme_testing:places", "broken": "acme_testing:broken"}
    distributions.add("acme-triggers", points, {"acme_testing": ACME}, group=GROUP)
    return distributions


def test_a_server_serves_a_whole_run(acme: FakeDistributions, pytester: pytest.Pytester) -> None:
    import acme_testing

    pytester.makepyfile(test_one=TEST, test_two=TEST)
    result = run(pytester, "-v", "--triggers-storage=acme,memory")
    result.assert_outcomes(passed=4)
    assert acme_testing.said == [
        "server starts",
        *("opened", "emptied", "opened", "emptied"),
        "server stops",
    ]


def test_what_cannot_be_used_says_why_and_is_tried_once(
    acme: FakeDistributions, pytester: pytest.Pytester
) -> None:
    clock, run = VirtualClock(), Run()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"cannot use 'broken'.*ACME_URL") as error:
            run.open("broken", clock)
        assert isinstance(error.value.__cause__, FileNotFoundError)
    acme.module("acme_testing", "def broken(): raise AssertionError('tried again')")
    with pytest.raises(StorageError, match="ACME_URL"):
        run.open("broken", clock)


def test_providers_that_are_wrong(distributions: FakeDistributions) -> None:
    distributions.add("one", {"twice": "nowhere:places"}, group=GROUP)
    distributions.add("two", {"twice": "nowhere:places", "once": "nowhere:it"}, group=GROUP)
    with pytest.raises(DuplicateKey, match=r"'twice'.*one 1\.0 and by two 1\.0"):
        Run().open("twice", VirtualClock())
    with pytest.raises(PluginError, match=r"'once'.*nowhere"):
        Run().open("once", VirtualClock())
    with pytest.raises(UnknownKey, match="did you mean 'twice'"):
        open_place("twicee", VirtualClock())


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "find_providers", lambda group: [])
    for name in providers.KNOWN_DISTRIBUTIONS[GROUP]:
        told = f"'{name}' is not installed: python -m pip install triggers-{name}.*memory, sqlite"
        with pytest.raises(UnknownKey, match=told):
            open_place(name, VirtualClock())


def test_a_forked_child_leaves_the_servers_of_its_parent(acme: FakeDistributions) -> None:
    run = Run()
    with run.open("acme", VirtualClock()):
        pass
    import acme_testing

    run._pid -= 1
    run.close()
    assert "server stops" not in acme_testing.said
    run._pid += 1
    run.close()
    assert acme_testing.said[-1] == "server stops"
