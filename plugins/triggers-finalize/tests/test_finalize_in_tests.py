"""How a user tests what waits for `sessionFinalized`, with the core's test kit."""

from __future__ import annotations

from triggers_core.testing import Triggers

CONFIG = {
    "t_pay": {"after": ["placed"], "run": "shop.Pay"},
    "t_ship": {"after": ["t_pay", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_report": {"after": ["sessionFinalized"], "run": "shop.Report"},
}


def test_it_is_finalized_once_in_any_order(triggers: Triggers) -> None:
    triggers.configure(TRIGGER_PLUGINS=["finalize"])
    runs = {"t_pay": 1, "t_ship": 1, "t_report": 1}
    triggers.assert_any_order(
        CONFIG, ["placed", "packed"], runs, duplicates=True, crash=True, sample=40
    )


def test_what_failed_holds_it_back(triggers: Triggers) -> None:
    triggers.configure(TRIGGER_PLUGINS=["finalize"])
    s = triggers.session(CONFIG)
    s.fails("t_pay", times=1)
    s.fire("placed")
    s.fire("packed")
    assert s.fired("sessionFinalized") == 0
    s.replay("t_pay")
    assert s.fired("sessionFinalized") == s.ran("t_report") == 1
