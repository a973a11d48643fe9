"""The example `examples/webhooks_only`: what its README shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from doc_pages import ROOT, Page
from web_process import PATIENCE, TRIGGERS, WebProcess
from web_signing import hmac_headers, make_app, stripe_headers

FOLDER = ROOT / "examples" / "webhooks_only"
SECRETS = {"STRIPE_SECRET": "whsec_example", "WAREHOUSE_SECRET": "example"}
README = Page(FOLDER / "README.md")


@pytest.fixture
def server(tmp_path: Path) -> WebProcess:
    """Not started; in a copy of the example, so that its database is elsewhere."""
    folder = tmp_path / "shop"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.db*", "venv", "__pycache__"))
    return WebProcess(folder, SECRETS)


def triggers(server: WebProcess, *arguments: str) -> str:
    done = subprocess.run(
        [TRIGGERS, *arguments],
        cwd=server.folder,
        env=server.environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def test_the_example(server: WebProcess) -> None:
    dry = {each.line: each.output for each in README.section("Dry").commands}
    assert dry
    for line, output in dry.items():
        assert triggers(server, *line.split()[1:]) == output
    shown = re.findall(r'^\{"status.*\}$', README.text, re.MULTILINE)
    paid, packed = ((FOLDER / f"{each}.json").read_bytes() for each in ("paid", "packed"))
    path = server.folder / "triggers.db"
    app = make_app(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS={"path": path})
    with server:
        signed = hmac_headers(packed, SECRETS["WAREHOUSE_SECRET"])
        answers = [server.post("/webhooks/warehouse", packed, signed)]
        assert "waits for paid" in str(app.manager("order:42").explain("t_ship"))
        signed = stripe_headers(paid, int(time.time()), SECRETS["STRIPE_SECRET"])
        answers += [server.post("/webhooks/stripe", paid, signed) for _ in range(2)]
        assert [each.status for each in answers] == [200, 200, 200]
        assert [each.body.decode() for each in answers] == [*shown, shown[-1]]
        end = time.monotonic() + PATIENCE
        while "parcel B7-42, worth 19.90" not in server.log.read_text():
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.05)
    instances = app.storage("order:42").instances
    assert {name: str(each.status) for name, each in instances.items()} == {"t_ship#0": "finished"}
    app.close()
