from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Under importlib, test files reach the helper modules beside them only through the path.
sys.path.insert(0, str(Path(__file__).parent))

from real_browser import open_chromium
from web_signing import make_app, make_intake

from triggers_core import Application
from triggers_web.intake import Intake


@pytest.fixture
def app() -> Iterator[Application]:
    """An application in memory, that runs nothing by itself."""
    app = make_app()
    yield app
    app.close()


@pytest.fixture
def intake(app: Application) -> Intake:
    """The webhooks of `web_signing.ROUTES`."""
    return make_intake(app)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; not for longer than a module, as what drives it has an event loop of its own."""
    with open_chromium() as browser:
        yield browser
