"""Storages and runners for tests that other distributions offer: `triggers.test_places`.

An entry point of this group names a context manager without parameters. It is entered once in a
process that runs tests, when the first test asks for it, and left when the run ends: here servers
are started and stopped. What it yields opens a place for one test, on that test's clock::

    @contextmanager
    def places() -> Iterator[OpenPlace]:
        with Server() as server:

            @contextmanager
            def open_place(clock: Clock) -> Iterator[Place]:
                store = MyStore(server.url, namespace=new_id(), clock=clock)
                yield Place(store)
                store.erase()

            yield open_place
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Final

from triggers_core.entry_points import KNOWN_DISTRIBUTIONS, find_providers, loads_badly
from triggers_core.exceptions import DuplicateKey, PluginError, StorageError, UnknownKey
from triggers_core.redaction import error_text
from triggers_core.texts import did_you_mean, short_repr

if TYPE_CHECKING:
    from triggers_core.storages.base import Clock
    from triggers_core.testing.kit.places import OpenPlace, Place

GROUP: Final = "triggers.test_places"

BUILT_IN: Final = ("memory", "sqlite")
"""Those of the core itself, in `places`, which need no entry point."""


def check_name(name: str) -> None:
    """Check that somebody offers a place of this name; imports nothing of theirs.

    :raises UnknownKey: nobody does; the message says what there is, and what to install.
    """
    if name not in BUILT_IN and not any(each.name == name for each in find_providers(GROUP)):
        raise _unknown(name)


def _unknown(name: str) -> UnknownKey:
    known = sorted({*BUILT_IN, *(each.name for each in find_providers(GROUP))})
    installable = KNOWN_DISTRIBUTIONS[GROUP]
    told = f"tests can use {', '.join(known)} here"
    if name in installable:
        return UnknownKey(
            f"the storage {name!r} is not installed: python -m pip install {installable[name]};"
            f" {told}"
        )
    hint = did_you_mean(name, {*known, *installable})
    return UnknownKey(
        f"no storage for tests is named {short_repr(name)}{hint}"
        f"{' ' if hint.endswith('?') else '. '}{told[0].upper()}{told[1:]}; another distribution"
        f" offers more by an entry point of the group {GROUP!r}"
    )


class Run:
    """What the tests of one process share: each provider is entered once, however many ask."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._entered = ExitStack()
        self._openers: dict[str, OpenPlace] = {}
        self._problems: dict[str, StorageError] = {}

    def open(self, name: str, clock: Clock) -> AbstractContextManager[Place]:
        """A place of one test.

        :raises UnknownKey: nobody offers this name.
        :raises DuplicateKey: two distributions do.
        :raises PluginError: what offers it cannot be imported.
        :raises StorageError: it cannot be used here: for example, there is no server.
        """
        if name in self._problems:
            # To try again would take each test as long.
            raise self._problems[name].with_traceback(None)
        if name not in self._openers:
            try:
                self._openers[name] = self._enter(name)
            except StorageError as error:
                self._problems[name] = error
                raise
        return self._openers[name](clock)

    def _enter(self, name: str) -> OpenPlace:
        places = _load(name)
        try:
            opener: OpenPlace = self._entered.enter_context(places())
        except Exception as error:
            raise StorageError(
                f"tests cannot use {name!r} on this machine: {error_text(error)}"
            ) from error
        return opener

    def close(self) -> None:
        """End what was started; the next `open` starts anew."""
        if self._pid == os.getpid():  # a forked child must not stop its parent's servers
            self._openers.clear()
            self._problems.clear()
            self._entered.close()


def _load(name: str) -> Callable[[], Any]:
    found = [each for each in find_providers(GROUP) if each.name == name]
    if not found:
        raise _unknown(name)
    if len(found) > 1:
        raise DuplicateKey(
            f"the storage {name!r} for tests is offered by {' and by '.join(map(str, found))}:"
            " uninstall one of them"
        )
    place = f"the storage {name!r} for tests ({found[0]}, {found[0].path})"
    try:
        loaded: Callable[[], Any] = found[0].load()
    except BaseException as error:
        if not loads_badly(error):
            raise
        raise PluginError(f"{place} cannot be loaded: {error_text(error)}") from error
    return loaded


_run: Run | None = None


def open_offered(name: str, clock: Clock) -> AbstractContextManager[Place]:
    """A place for one test, from the distribution that offers it; raises as `Run.open`."""
    global _run
    if _run is None or _run._pid != os.getpid():
        _run = Run()
        atexit.register(_run.close)  # for whoever uses places without pytest
    return _run.open(name, clock)


def end_run() -> None:
    """Stop the servers that tests have used; called when pytest ends."""
    global _run
    if _run is not None:
        run, _run = _run, None
        atexit.unregister(run.close)
        run.close()
