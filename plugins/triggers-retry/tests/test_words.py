"""What can be written, and what is refused, with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from triggers_core import Application, TriggerManager, trigger_task
from triggers_core.exceptions import InvalidConfiguration, InvalidSetting
from triggers_core.settings import Settings
from triggers_retry.durations import parse_duration
from triggers_retry.options import NAME, Policy, RetryOptions, read_policy
from triggers_retry.plugin import RetryPlugin


@trigger_task(name="words.ok")
def ok(context: object) -> None:
    return None


@pytest.fixture
def manager() -> Iterator[TriggerManager]:
    app = Application(
        "words", Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[RetryPlugin()])
    )
    yield app.manager("s")
    app.close()


DURATIONS = [
    ("10 seconds", 10), ("1 second", 1), ("10s", 10), ("2 hours", 7_200), ("1h30m", 5_400),
    ("1 hour and 30 minutes", 5_400), ("1 hour, 30 minutes", 5_400), ("0.5 seconds", 0.5),
    ("1.5 hours", 5_400), ("3 days", 259_200), ("2 weeks", 1_209_600), ("10 Minutes", 600),
    (" 10 seconds ", 10), (10, 10), (0.25, 0.25), ("52 weeks", 31_449_600),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


NO_DURATIONS = [
    *("", "10", "soon", "10 parsecs", "ten seconds", "1:30", "0:10:00", "10 seconds ago"),
    *("-10 seconds", "0 seconds", "0", 0, -1, 0.0, float("inf"), float("nan")),
    *("1 month", "1.2.3 seconds", "53 weeks", 1e12, "1e3 seconds", "and", "10 seconds and"),
]


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_no_durations(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"expected a time .* got"):
        parse_duration(text)


REFUSED = [
    ({"tims": 5}, "t_x.retry: Object contains unknown field `tims`"),
    ({"times": 0}, "Expected `int` >= 1, at `t_x.retry.times`"),
    ({"times": -3}, "Expected `int` >= 1, at `t_x.retry.times`"),
    ({"times": 2.5}, "Expected `int`, got `float`, at `t_x.retry.times`"),
    ({"times": True}, "Expected `int`, got `bool`, at `t_x.retry.times`"),
    ({"waiting": "soon"}, "expected a time such as '10 seconds', '2 hours' or '1h30m', got 'soon',"
                          " at `t_x.retry.waiting`"),
    ({"waiting": "0 seconds"}, "expected a time above 0 and up to 366 days, got '0 seconds', at"
                               " `t_x.retry.waiting`"),
    ({"waiting": -10}, "got -10.0, at `t_x.retry.waiting`"),
    ({"waiting": True}, "Expected `float | str`, got `bool`, at `t_x.retry.waiting`"),
    ({"upTo": "x"}, "got 'x', at `t_x.retry.upTo`"),
    ({"waiting": "1 hour", "upTo": "10 minutes"},
     "expected no less than waiting ('1 hour'), got '10 minutes', at `t_x.retry.upTo`"),
    ({"doubling": "yes"}, "Expected `bool`, got `str`, at `t_x.retry.doubling`"),
    ({"jitter": 1}, "Expected `bool`, got `int`, at `t_x.retry.jitter`"),
    ({"on": []}, "Expected `array` of length >= 1, at `t_x.retry.on`"),
    ({"on": "ValueError"}, "Expected `array`, got `str`, at `t_x.retry.on`"),
    ({"on": ["ValueError", "a b"]}, "got 'a b', at `t_x.retry.on[1]`"),
    ({"exceptOn": ["requests."]}, "got 'requests.', at `t_x.retry.exceptOn[0]`"),
    ({}, "t_x.retry: Expected at least one word, or true for the defaults"),
    (0, "t_x.retry: Expected `int` >= 1"),
    (-1, "t_x.retry: Expected `int` >= 1"),
    ("5 times", "t_x.retry: Expected `bool | int | object`, got `str`"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "message"), REFUSED)
def test_what_is_refused(manager: TriggerManager, written: object, message: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        manager.update_configuration({"t_x": {"after": ["a"], "run": "words.ok", "retry": written}})
    assert message in str(refused.value)
    assert str(refused.value).startswith("t_x.retry: ")
    assert refused.value.path == "t_x.retry"
    assert not manager.storage.exists


EVERYTHING = {
    "times": 5,
    "waiting": "10 seconds",
    "doubling": True,
    "upTo": "10 minutes",
    "jitter": True,
    "on": ["requests.Timeout"],
    "exceptOn": ["ValueError"],
}


def test_everything_at_once(manager: TriggerManager) -> None:
    task = json.loads(json.dumps({"after": ["a"], "run": "words.ok", "retry": EVERYTHING}))
    manager.update_configuration({"t_x": task})
    stored = manager.storage.tasks["t_x"].directives["retry"]
    assert stored == EVERYTHING, "stored as it was written"
    assert read_policy(stored, RetryOptions()) == Policy(
        times=5,
        waiting=10,
        doubling=True,
        up_to=600,
        jitter=True,
        on=("requests.Timeout",),
        except_on=("ValueError",),
    )
    assert manager.storage.metadata is not None
    assert len(manager.storage.metadata.requires) == 1, (
        "a process without the plugin may not commit"
    )


def options_of(values: dict[str, object]) -> RetryOptions:
    settings = Settings.isolated(TRIGGER_PLUGIN_OPTIONS={NAME: values})
    return Application("options", settings).plugin_options(NAME, RetryOptions)


def test_words_win_over_options() -> None:
    options = options_of(
        {"times": 7, "waiting": "1 minute", "exceptOn": ["ValueError"], "jitter": True}
    )
    assert read_policy(True, options) == Policy(
        times=7, waiting=60, except_on=("ValueError",), jitter=True
    )
    assert read_policy(2, options) == Policy(
        times=2, waiting=60, except_on=("ValueError",), jitter=True
    )
    words = {"waiting": "1 second", "exceptOn": [], "jitter": False}
    assert read_policy(words, options) == Policy(times=7, waiting=1)
    assert read_policy(None, options) is None
    assert read_policy(False, options) is None


def test_a_wrong_option() -> None:
    with pytest.raises(InvalidSetting, match=r"^retry: Object contains unknown field `tims`$"):
        options_of({"tims": 3})
    with pytest.raises(InvalidSetting, match=r"at `TRIGGER_PLUGIN_OPTIONS\['retry'\].times`$"):
        options_of({"times": 0})
