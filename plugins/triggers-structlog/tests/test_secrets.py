"""With default settings no secret shows, wherever the canary was put."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from triggers_core import TaskContext
from triggers_core.exceptions import with_context

CANARY = "c4n4ry"

KWARGS = {
    "login": {"user": "ann", "password": CANARY, "session_token": CANARY},
    "url": f"https://ann:{CANARY}@example.org/path?api_key={CANARY}",
    "headers": [{"Authorization": f"Bearer {CANARY}"}],
}


@dataclass
class Login:
    user: str
    password: str


@contextmanager
def held() -> Iterator[None]:
    password = CANARY  # a local variable that a traceback could show
    yield
    del password


def body(context: TaskContext) -> None:
    login = Login("ann", CANARY)
    extra = {"api_key": CANARY, "login": login, "kwargs": context.trigger_kwargs}
    with context.get_logger_context(context=extra) as log:
        log.info("kwargs", kwargs=context.trigger_kwargs, login=login, secret=CANARY)
        log.info("kwargs %s and %r", context.trigger_kwargs, login)
        log.info(f"kwargs {context.trigger_kwargs} {login}")
        log.info("token=%s", CANARY)
        log.info(json.dumps(context.trigger_kwargs))
        log.bind(password=CANARY, url=f"redis://:{CANARY}@h").info("bound")
        log.info("deep", data=[[{"a": ({"token": CANARY},)}]], raw=f"token={CANARY}".encode())
        logging.getLogger("library").info("x")
        try:
            raise KeyError(f"password='{CANARY}'")
        except KeyError as error:
            log.warning("handled", exc_info=True)
            log.warning("handled", error=error)
        with held():
            try:
                raise OSError(f"redis://:{CANARY}@host refused token={CANARY}")
            except OSError as error:
                data = {"login": login, "password": CANARY, **KWARGS}
                raise with_context(ValueError(f"token={CANARY}"), data) from error


@pytest.mark.parametrize("renderer", ["json", "console"])
def test_the_canary_is_nowhere(run: Any, lines: Any, renderer: str) -> None:
    manager = run(body, KWARGS, renderer=renderer)
    text = "\n".join(lines.texts)
    assert CANARY not in text
    assert len(lines.of()) == 10
    assert text.count("Traceback (most recent call last)") == 3
    assert "ann" in text, "the rest is shown"
    failed = manager.storage["t#0"]
    assert failed.status == "failed"
    assert CANARY not in repr(failed.metadata)
    assert CANARY not in str(manager.explain())
    assert CANARY not in json.dumps(manager.explain().data)
    assert failed.kwargs["go"] == KWARGS, "what the body needs is stored as it is"
    if renderer == "json":
        assert [line["api_key"] for line in lines.json()] == ["***"] * 10


def test_more_keys(run: Any, lines: Any) -> None:
    def logs(context: TaskContext) -> None:
        with context.get_logger_context(context={"iban": CANARY}) as log:
            log.info(f"x iban={CANARY} y", data={"iban": CANARY, "libanon": 1, "token": CANARY})

    run(logs, secret_keys=[r"\biban\b"])
    (line,) = lines.json()
    assert CANARY not in json.dumps(line)
    assert line["event"] == "x iban=*** y"
    assert line["data"] == {"iban": "***", "libanon": 1, "token": "***"}


def test_it_can_be_switched_off(run: Any, lines: Any) -> None:
    def logs(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("x", token=CANARY)

    run(logs, redact=False)
    assert lines.json()[0]["token"] == CANARY
