"""A log of real events, with every word of the language, in Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from words.receipt import FEW, FOLDER, MISSING, QUARTERS, log_of, play

from triggers_core import Application
from triggers_core.backtest import backtest
from triggers_core.settings import Settings
from triggers_redis import RedisStore

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=MISSING)


CASES = [
    pytest.param(FEW, id="50 sessions"),
    *(
        pytest.param(part, id=f"all, part {number}", marks=pytest.mark.long)
        for number, part in enumerate(QUARTERS, 1)
    ),
]


@pytest.mark.parametrize("sessions", CASES)
def test_managers_and_sweeps(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch, sessions: slice
) -> None:
    play(log_of(sessions, monkeypatch), make_redis_store)


@pytest.mark.parametrize("sessions", CASES)
def test_a_backtest_with_bodies(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch, sessions: slice
) -> None:
    log = log_of(sessions, monkeypatch)
    with make_redis_store() as store:
        settings = Settings.isolated(TRIGGER_STORAGE_TYPE="redis", TRIGGER_PLUGINS=[])
        app = Application("test", settings, store=store)
        until = log.expected["until"]
        log.check(backtest(log.config, log.lines, store, app=app, run=True, until=until).store)
