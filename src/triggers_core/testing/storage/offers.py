"""What not every storage offers: each capability holds, or the suite says why it does not."""

from __future__ import annotations

from contextlib import suppress
from inspect import getattr_static

import pytest

from triggers_core.exceptions import CannotJoin
from triggers_core.storages.base import Store
from triggers_core.testing.storage.base import JOINING, OPENER, StoragePromises


class Offers(StoragePromises):
    """Nothing is offered in silence, and nothing is missing in silence."""

    def test_several_commits_can_be_one_or_the_suite_says_why_not(self, store: Store) -> None:
        self._one_of("transactions", _has_transactions(store), "implement Store.transaction")

    def test_commits_can_be_joined_or_the_suite_says_why_not(self, store: Store) -> None:
        self._one_of("joined", self._overrides("joining"), JOINING)
        self._one_of("awaited", self._overrides("awaited_joining"), JOINING)
        with pytest.raises(CannotJoin, match=r"\S"):
            store.joined(object())

    def test_sessions_outlive_the_store_or_the_suite_says_why_not(self) -> None:
        offered = self._overrides("opener") or self._overrides("reopen")
        self._one_of("durable", offered, f"{OPENER}, or the fixture reopen")

    def test_several_processes_may_use_it_or_the_suite_says_why_not(self, store: Store) -> None:
        if "processes" not in self.lacks:
            assert self._overrides("opener"), self.undeclared("processes", OPENER)
            assert not store.in_this_process, "no other process sees sessions in_this_process"

    def _overrides(self, fixture: str) -> bool:
        return getattr_static(self, fixture) is not getattr_static(StoragePromises, fixture)

    def _one_of(self, capability: str, offered: bool, cure: str) -> None:
        if capability not in self.lacks:
            assert offered, self.undeclared(capability, cure)
        else:
            assert not offered, (
                f"{type(self).__name__} says that it lacks {capability!r}"
                f" ({self.capabilities[capability]}), and offers it: take that out of `lacks`"
            )


def _has_transactions(store: Store) -> bool:
    with suppress(CannotJoin), store.transaction():
        return True
    return False
