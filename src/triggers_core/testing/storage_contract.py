"""`StorageContract`: every promise that a storage makes, as tests to derive from."""

from __future__ import annotations

from triggers_core.testing.storage.attempts import Attempts
from triggers_core.testing.storage.closing import Closing
from triggers_core.testing.storage.commits import Commits
from triggers_core.testing.storage.concurrency import Concurrency
from triggers_core.testing.storage.configurations import Configurations
from triggers_core.testing.storage.data import Data
from triggers_core.testing.storage.events import Events
from triggers_core.testing.storage.fire_rule import FireRule
from triggers_core.testing.storage.fleet import Fleet
from triggers_core.testing.storage.groups import Groups
from triggers_core.testing.storage.joining import Awaited, Joined
from triggers_core.testing.storage.moments import Moments
from triggers_core.testing.storage.offers import Offers
from triggers_core.testing.storage.operators import Operators
from triggers_core.testing.storage.processes import Processes
from triggers_core.testing.storage.recovery import Recovery
from triggers_core.testing.storage.survival import Survival
from triggers_core.testing.storage.transactions import Transactions
from triggers_core.testing.storage.uses import Uses


class StorageContract(
    FireRule,
    Configurations,
    Data,
    Events,
    Attempts,
    Operators,
    Recovery,
    Moments,
    Fleet,
    Groups,
    Uses,
    Commits,
    Concurrency,
    Closing,
    Processes,
    Transactions,
    Joined,
    Awaited,
    Survival,
    Offers,
):
    """What a storage plugin runs against itself. Name the subclass ``Test…``.

    Two fixtures, each of which returns a function:

    - `make_store`: takes a clock (seconds since 1970) and makes a new, empty `Store` that uses it;
    - `opener`: takes a store and returns what opens the same place again, here and in other
      processes: called as ``opener(clock=…)``. `reopen` closes a store and opens its place so; it
      may be overridden, too.

    Not every storage offers everything (`capabilities`). What is not in `lacks`, with the reason,
    has to hold; `joined` and `awaited` need the fixtures `joining` and `awaited_joining`.

    After every test, all counters and indexes of the store are compared with a recount. A report
    at the end of the run says how much of the contract holds.

    Example::

        class TestFolder(StorageContract):
            lacks = {
                "transactions": "each session is a file of its own",
                "joined": "files take no part in transactions",
                "awaited": "files take no part in transactions",
            }

            @pytest.fixture
            def make_store(self, tmp_path):
                numbers = itertools.count()
                return lambda clock: FolderStore(tmp_path / str(next(numbers)), clock)

            @pytest.fixture
            def opener(self):
                return lambda store: functools.partial(FolderStore, store.path)
    """
