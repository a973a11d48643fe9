"""What the documentation says about this storage is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
from doc_pages import DOCS, Page


def test_the_order_and_its_event_in_one_transaction(
    postgres_url: str, connection: psycopg.Connection[object], tmp_path: Path
) -> None:
    page = Page(DOCS / "transactions.md")
    page.write_files(tmp_path)
    database = f"docs_{os.getpid()}"
    connection.execute(f"CREATE DATABASE {database}")
    try:
        for command in page.commands:
            printed = subprocess.run(
                [sys.executable, "-W", "error", *command.line.split()[1:]],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "DATABASE_URL": postgres_url.rpartition("/")[0] + f"/{database}",
                },
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            assert printed.returncode == 0, printed.stderr
            assert printed.stdout == command.output
    finally:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
