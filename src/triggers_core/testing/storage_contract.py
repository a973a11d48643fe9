"""`StorageContract`: every promise that a storage makes, as tests to derive from."""

from __future__ import annotations

from triggers_core.testing.storage.attempts import Attempts
from triggers_core.testing.storage.commits import Commits
from triggers_core.testing.storage.concurrency import Concurrency
from triggers_core.testing.storage.configurations import Configurations
from triggers_core.testing.storage.data import Data
from triggers_core.testing.storage.events import Events
from triggers_core.testing.storage.fire_rule import FireRule
from triggers_core.testing.storage.fleet import Fleet
from triggers_core.testing.storage.operators import Operators
from triggers_core.testing.storage.recovery import Recovery
from triggers_core.testing.storage.survival import Survival


class StorageContract(
    FireRule,
    Configurations,
    Data,
    Events,
    Attempts,
    Operators,
    Recovery,
    Fleet,
    Commits,
    Concurrency,
    Survival,
):
    """What a storage plugin runs against itself. Name the subclass ``Test…``.

    Override two fixtures; each returns a function:

    - `make_store`: takes a clock (seconds since 1970) and makes a new, empty `Store` that uses it;
    - `reopen`: takes a store, closes it, and opens the same place as a new object with the same
      clock. A storage whose sessions are gone with its object sets `not_durable` to the reason
      instead; the tests about restarts are then skipped with it.

    After every test, all counters and indexes of the store are compared with a recount.

    Example::

        class TestRedis(StorageContract):
            @pytest.fixture
            def make_store(self, redis_url):
                return lambda clock: RedisStore(redis_url, namespace=new_id(), clock=clock)

            @pytest.fixture
            def reopen(self):
                return lambda store: RedisStore(store.url, store.namespace, clock=store.clock)
    """
