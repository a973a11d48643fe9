"""The contract suites: what a derived class hides is found, and what ran is reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import StorageContract, VirtualClock
from triggers_core.testing.elsewhere import Elsewhere
from triggers_core.testing.storage import jobs
from triggers_core.testing.storage.concurrency import Concurrency
from triggers_core.testing.suite import SuiteMisused

pytest_plugins = ["pytester"]

HEAD = """
import pytest
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import StorageContract

LACKS = dict.fromkeys(("durable", "processes", "transactions", "joined", "awaited"), "in memory")
"""

MEMORY = """
    lacks = LACKS

    @pytest.fixture
    def make_store(self):
        return MemoryStore
"""

FEW = "suite_is_whole"


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest on a file; returns its result."""

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=HEAD + text)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "ignore", *options)

    return run


def derived(name: str, **attributes: object) -> type:
    return type(name, (StorageContract,), {"__module__": __name__, **attributes})


# -- what is hidden -------------------------------------------------------------------------------


def test_only_subclasses_named_test_are_collected() -> None:
    base = derived("Base")
    named = type("TestDerived", (base,), {"__module__": __name__, "__test__": False})
    assert [each.__test__ for each in (StorageContract, base, named)] == [False, False, True]


@pytest.mark.parametrize("instead", [None, lambda self: None, property(lambda self: None)])
def test_a_promise_cannot_be_replaced(instead: object) -> None:
    with pytest.raises(SuiteMisused, match=r"replaces the promise test_one_claim_wins.*`lacks`"):
        derived("TestCheating", test_one_claim_wins=instead)
    assert derived("TestHonest", test_of_its_own=instead)


def test_nor_can_the_check_of_the_store() -> None:
    with pytest.raises(SuiteMisused, match="replaces the suite's own store"):
        derived("TestCheating", store=pytest.fixture(lambda self: MemoryStore()))


def test_an_init_is_refused() -> None:
    with pytest.raises(SuiteMisused, match="has an __init__, and pytest collects no such class"):
        derived("TestCheating", __init__=lambda self: None)


def test_what_is_removed_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = derived("TestLater")
    suite().test_the_suite_is_whole()
    monkeypatch.delattr(Concurrency, "test_one_claim_wins")
    with pytest.raises(AssertionError, match="test_one_claim_wins was removed"):
        suite().test_the_suite_is_whole()


def test_replacing_a_promise_is_an_error_of_the_file(run: Run) -> None:
    result = run("class TestMemory(StorageContract):" + MEMORY + "    test_one_claim_wins = None\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*SuiteMisused: *TestMemory*replaces the promise*one_claim_wins*"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class Memory(StorageContract):" + MEMORY,
            "*nothing of it is collected: call it TestMem*",
        ),
        (
            "import abc\nclass TestMemory(StorageContract, abc.ABC):"
            + MEMORY
            + "    @abc.abstractmethod\n    def left_out(self): ...\n",
            "*TestMemory is abstract*it lacks left_out*",
        ),
        (
            "class TestMemory(StorageContract):" + MEMORY + "TestMemory.__test__ = False\n",
            "*nothing of it is collected*",
        ),
    ],
)
def test_an_empty_collection_is_an_error(run: Run, text: str, said: str) -> None:
    result = run(text)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])


def test_a_run_that_collects_other_names_is_an_error(run: Run) -> None:
    result = run("class TestMemory(StorageContract):" + MEMORY, "-o", "python_functions=check_*")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*python_functions of this run leaves all promises out*"])


def test_a_base_of_ones_own_is_none(run: Run) -> None:
    text = "class Base(StorageContract):" + MEMORY + "class TestMemory(Base): pass\n"
    result = run(text, "-k", FEW)
    assert result.ret == 0


def test_a_missing_fixture_is_named(run: Run) -> None:
    result = run("class TestMemory(StorageContract):\n    lacks = LACKS\n", "-k", "one_claim_wins")
    result.stdout.fnmatch_lines(["*override the fixture make_store in TestMemory: it returns*"])
    assert result.parseoutcomes()["errors"] == 1


# -- capabilities ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"transaction": "why"}, "no capability 'transaction': did you mean 'transactions'"),
        ({"durable": " "}, "expected the reason why there is no 'durable', got ' '"),
        ({"durable": True}, "expected the reason why there is no 'durable', got True"),
    ],
)
def test_what_a_suite_lacks_is_checked(lacks: object, said: str) -> None:
    with pytest.raises(SuiteMisused, match=said):
        derived("TestUnclear", lacks=lacks)


@pytest.mark.parametrize(
    "capability", ["durable", "processes", "transactions", "joined", "awaited"]
)
def test_nothing_is_missing_in_silence(run: Run, capability: str) -> None:
    text = "class TestMemory(StorageContract):" + MEMORY
    text += f"    lacks = {{k: v for k, v in LACKS.items() if k != {capability!r}}}\n"
    result = run(text, "-k", "says_why_not")
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 3)
    result.stdout.fnmatch_lines([f"*says nothing of '{capability}' (*lacks = {{*{capability}*"])


def test_nothing_is_offered_in_silence(run: Run) -> None:
    text = "class TestMemory(StorageContract):" + MEMORY
    text += "    reopen = pytest.fixture(lambda self: lambda store: store)\n"
    result = run(text, "-k", "says_why_not")
    result.stdout.fnmatch_lines(["*says that it lacks 'durable' (*), and offers it*"])


# -- the report -----------------------------------------------------------------------------------

LEASES = "owner_only or one_owner or a_restart or leases_are_apart or suite_is_whole"

BROKEN = """
class Anybody(MemoryStore):
    def acquire_lease(self, name, owner, seconds):
        return True

class TestMemory(StorageContract):
    lacks = LACKS

    @pytest.fixture
    def make_store(self):
        return Anybody

    def test_of_its_own(self):
        assert True
"""


def test_a_failure_names_its_promise_and_a_line_tells_of_each_suite(run: Run) -> None:
    whole = "class TestOther(StorageContract):\n    name = 'the other'\n" + MEMORY
    result = run(BROKEN + whole, "-k", LEASES)
    result.stdout.fnmatch_lines(
        [
            "*Captured promise setup*",
            "storage memory: one owner at a time holds a lease",
            "=* contracts =*",
            "storage memory: 1/*, 3 failed: one owner at a time holds a lease; *"
            ", * not offered: durable (in memory), * not run",
            "storage the other: 4/*, * not offered: durable (in memory), * not run",
        ]
    )


@pytest.mark.long
def test_workers_of_xdist_report_as_one(run: Run) -> None:
    pytest.importorskip("xdist")
    result = run(BROKEN, "-k", "owner_only or one_owner or is_whole", "-n", "2")
    lines = [each for each in result.outlines if each.startswith("storage memory: 1/")]
    assert len(lines) == 1
    assert "2 failed: " in lines[0]


def test_a_run_without_contracts_says_nothing_of_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(record_property): record_property('a', 1)")
    assert "= contracts =" not in pytester.runpytest_inprocess("-W", "ignore").stdout.str()


# -- other processes ------------------------------------------------------------------------------


def test_a_place_that_cannot_be_told_to_another_process() -> None:
    with Elsewhere() as other, pytest.raises(AssertionError, match=r"functools\.partial of one"):
        other.prepare(lambda clock: MemoryStore(clock), VirtualClock(), jobs.fired, "order:1")


def test_what_another_process_raises_is_told() -> None:
    with Elsewhere() as other:
        with pytest.raises(AssertionError, match=r"another process failed:(.|\n)*TypeError"):
            other.prepare(partial(MemoryStore, 1, 2), VirtualClock(), jobs.fired, "order:1")
        other.prepare(MemoryStore, VirtualClock(), jobs.fired, "order:1")
        other.go()
        assert other.hear() == []
        other.prepare(MemoryStore, VirtualClock(), jobs.fired, "order:1")
        other._process.kill()  # type: ignore[union-attr]
        with pytest.raises(AssertionError, match="hung or died"):
            other.hear()
