"""What the README says is true."""

from __future__ import annotations

from doc_pages import ROOT, Page, configured

from triggers_core import Application, TriggerManager
from triggers_core.settings import Settings
from triggers_core.testing import Triggers

README = Page(ROOT / "plugins" / "triggers-finalize" / "README.md")


def test_the_options() -> None:
    options = configured(README.piece("configure("))
    settings = Settings.isolated(
        **options, TRIGGER_PLUGINS=["finalize"], TRIGGER_STORAGE_TYPE="memory"
    )
    with Application("page", settings) as app:
        assert "finalize" in app.plugins.names


def test_the_same_by_hand() -> None:
    scope: dict[str, type[TriggerManager]] = {"TriggerManager": TriggerManager}
    exec(README.piece("class FinalizingManager"), scope)
    configuration = {
        "t_ship": {"after": ["paid"], "run": "shop.Ship"},
        "t_sendReport": {"after": ["sessionFinalized"], "run": "shop.Report"},
    }
    with Triggers() as triggers:
        session = triggers.session(configuration)
        manager = scope["FinalizingManager"](session.manager.storage, session.manager.app)
        manager.fire("paid")
        assert (session.ran("t_ship"), session.fired("sessionFinalized")) == (1, 1)
        assert session.ran("t_sendReport") == 1
