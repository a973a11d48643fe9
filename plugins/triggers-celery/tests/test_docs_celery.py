"""The page of the Guide about Celery tasks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from doc_pages import DOCS, ROOT, Page, run_python

from triggers_celery import adapter
from triggers_celery.options import Options
from triggers_core.settings import Settings

PAGE = Page(DOCS / "guide" / "celery.md")
README = Page(ROOT / "plugins" / "triggers-celery" / "README.md")


def test_the_example(tmp_path: Path) -> None:
    assert PAGE.run(tmp_path) == ["python eager.py"]


def test_the_other_code(tmp_path: Path) -> None:
    (settings,) = [text for text in PAGE.fences("python") if text.startswith("# shop/settings.py")]
    (worker,) = [text for text in PAGE.fences("python") if text.startswith("# shop/worker.py")]
    (ship,) = PAGE.section("Celery's options").fences("python")
    values: dict[str, Any] = {}
    exec(settings, values)
    given = {name: value for name, value in values.items() if name.startswith("TRIGGER_")}
    assert Settings.isolated(**given).TRIGGER_RUNNER == "celery"
    options = "from triggers_celery.adapter import options_of\nprint(sorted(options_of(Ship)))\n"
    (tmp_path / "ship.py").write_text(f"from triggers_core import TriggerTask\n{ship}{options}")
    printed = "['priority', 'queue', 'rate_limit', 'time_limit']\n"
    assert run_python(["ship.py"], tmp_path) == printed
    (tmp_path / "worker.py").write_text(f"{worker}\nprint('triggers.sweep' in app.tasks)\n")
    assert run_python(["worker.py"], tmp_path) == "True\n"


def test_what_is_refused_is_named() -> None:
    refused = PAGE.section("What is refused").text
    assert set(re.findall(r"`(\w+)`", refused.partition(":")[0])) == adapter._RETRIES


def test_the_options_that_it_names_exist() -> None:
    runners = Page(DOCS / "guide" / "runners.md").text
    [row] = [line for line in runners.splitlines() if line.startswith("| `celery` | `app`")]
    named = re.findall(r"`(\w+)`", row.partition(";")[0])[1:]
    assert named == list(Options.__struct_fields__)


def test_the_application_of_the_readme(tmp_path: Path) -> None:
    README.write_files(tmp_path)
    shop = tmp_path / "shop"
    assert (shop / "settings.py").exists()
    (shop / "worker.py").write_text(README.piece("# shop/worker.py"))
    head = "from typing import ClassVar\nfrom triggers_core import TriggerTask\n"
    (shop / "tasks.py").write_text(head + README.piece("class Ship(TriggerTask)"))
    (tmp_path / "look.py").write_text(
        "import shop\n"
        "from shop.worker import app\n"
        "from triggers_core.application import default_application\n"
        "settings = default_application.settings\n"
        "print(settings.TRIGGER_RUNNER, settings.TRIGGER_STORAGE_TYPE, *settings.TRIGGER_IMPORTS)\n"
        "from shop.tasks import Ship\n"
        "from triggers_celery.adapter import options_of\n"
        "print(sorted(options_of(Ship)), 'triggers.sweep' in app.tasks)\n"
    )
    options = ["queue", "rate_limit", "soft_time_limit", "time_limit"]
    told = f"celery redis shop.tasks\n{options} True\n"
    assert run_python(["look.py"], tmp_path) == told
