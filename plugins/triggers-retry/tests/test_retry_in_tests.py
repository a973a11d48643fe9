"""How a user tests the `retry` directive, with the core's test kit."""

from __future__ import annotations

from triggers_core.testing import Triggers

CONFIG = {
    "t_pay": {
        "after": ["placed"],
        "run": "shop.Pay",
        "retry": {"times": 3, "waiting": "10 seconds", "doubling": True, "on": ["ConnectionError"]},
    },
    "t_ship": {"after": ["t_pay"], "run": "shop.Ship"},
}


def test_it_retries_after_ten_and_after_twenty_seconds(triggers: Triggers) -> None:
    triggers.configure(TRIGGER_PLUGINS=["retry"])
    s = triggers.session(CONFIG)
    s.fails("t_pay", ConnectionError("no network"), times=2)
    s.fire("placed")
    s.advance("29 seconds")
    assert (s.ran("t_pay"), s.ran("t_ship")) == (2, 0)
    s.advance("1 second")
    assert (s.ran("t_pay"), s.ran("t_ship")) == (3, 1)


def test_it_gives_up(triggers: Triggers) -> None:
    triggers.configure(TRIGGER_PLUGINS=["retry"])
    s = triggers.session(CONFIG)
    s.fails("t_pay", ConnectionError)
    s.fire("placed")
    s.advance("1 hour")
    assert (s.ran("t_pay"), s.status("t_pay")) == (4, "failed")
    s.fails("t_pay", ValueError)
    s.replay("t_pay")
    s.advance("1 hour")
    assert s.ran("t_pay") == 5, "a ValueError is not retried"
