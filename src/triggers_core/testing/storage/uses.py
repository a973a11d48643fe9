"""Which configurations are in use, and by which sessions."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.commands import Close
from triggers_core.engine.configuration import parse_configuration
from triggers_core.exceptions import InvalidArgument
from triggers_core.storages.base import Store
from triggers_core.storages.groups import ConfigurationInUse
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import Reopen, StoragePromises

SHOP = {"t_ship": {"after": ["paid"], "run": "tests.Body"}}
MAIL = {"t_mail": {"after": ["paid"], "run": "tests.Body"}}


class Uses(StoragePromises):
    """`Store.configurations_in_use` and `sessions_with`; a storage may have no index for them."""

    def test_sessions_are_counted_by_their_configuration(self, store: Store) -> None:
        _skip_without_index(store)
        for uid in "cab":
            SessionDriver(store, uid).configure(SHOP)
        SessionDriver(store, "d").configure(MAIL)
        SessionDriver(store, "e").fire("noise")  # it has none
        SessionDriver(store, "a").commit(Close())
        shop, mail = _address(SHOP), _address(MAIL)
        assert _in_use(store) == {shop: 3, mail: 1}
        assert _uids(store, shop) == ["a", "b", "c"]
        assert _uids(store, mail) == ["d"]
        assert _uids(store, "unknown") == []
        closed = store.sessions_with(shop, limit=1)
        assert closed is not None
        assert closed[0].state == "closed"

    def test_configurations_in_use_are_read_page_by_page(self, store: Store) -> None:
        _skip_without_index(store)
        configurations = [
            {f"t_{each}": {"after": ["go"], "run": "tests.Body"}} for each in range(5)
        ]
        for each, configuration in enumerate(configurations):
            for uid in range(3):
                SessionDriver(store, f"{each}:{uid}").configure(configuration)
        addresses: list[str] = []
        while page := store.configurations_in_use(2, addresses[-1] if addresses else ""):
            assert len(page) <= 2
            addresses += [each.address for each in page]
        assert addresses == sorted(_address(each) for each in configurations)
        one = _address(configurations[2])
        assert _uids(store, one, limit=2) == ["2:0", "2:1"]
        assert _uids(store, one, after="2:0") == ["2:1", "2:2"]
        assert store.configurations_in_use(limit=0) == []
        assert store.sessions_with(one, limit=0) == []

    def test_uses_are_counted_no_further_than_asked_for(self, store: Store) -> None:
        _skip_without_index(store)
        for uid in "abc":
            SessionDriver(store, uid).configure(SHOP)
        address = _address(SHOP)
        for most, more in ((2, True), (3, False)):
            listed = store.configurations_in_use(most=most)
            assert listed is not None
            [use] = listed
            assert use.example in {"a", "b", "c"}
            assert use == ConfigurationInUse(
                address=address, sessions=most, more=more, example=use.example
            )

    def test_a_session_that_changes_its_configuration_has_the_new_one(self, store: Store) -> None:
        _skip_without_index(store)
        for uid in "ab":
            SessionDriver(store, uid).configure(SHOP)
        SessionDriver(store, "a").configure(MAIL)
        both = _address({**SHOP, **MAIL})
        assert _in_use(store) == {_address(SHOP): 1, both: 1}
        store.delete("b")
        assert _in_use(store) == {both: 1}
        assert _uids(store, _address(SHOP)) == []

    def test_configurations_in_use_outlive_a_restart(self, store: Store, reopened: Reopen) -> None:
        _skip_without_index(store)
        SessionDriver(store, "a").configure(SHOP)
        again = reopened(store)
        assert _in_use(again) == {_address(SHOP): 1}
        assert _uids(again, _address(SHOP)) == ["a"]

    @pytest.mark.parametrize("limit", [-1, 1.5, True])
    def test_a_limit_of_configurations_is_a_whole_number(self, store: Store, limit: Any) -> None:
        _skip_without_index(store)
        with pytest.raises(InvalidArgument):
            store.configurations_in_use(limit=limit)
        with pytest.raises(InvalidArgument):
            store.sessions_with("x", limit=limit)


def _skip_without_index(store: Store) -> None:
    if store.configurations_in_use() is None:
        assert store.sessions_with("unknown") is None
        pytest.skip(f"the storage {store.key!r} has no index of the configurations in use")


def _address(configuration: dict[str, Any]) -> str:
    return parse_configuration(configuration).hash


def _in_use(store: Store) -> dict[str, int]:
    found = store.configurations_in_use()
    assert found is not None
    return {each.address: each.sessions for each in found}


def _uids(store: Store, address: str, limit: int | None = 100, after: str = "") -> list[str]:
    found = store.sessions_with(address, limit, after)
    assert found is not None
    return [each.uid for each in found]
