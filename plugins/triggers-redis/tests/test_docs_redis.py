"""What the README says is accepted, and stores."""

from __future__ import annotations

import tomllib

from doc_pages import ROOT, Page

from triggers_core.settings import Settings
from triggers_core.storages import storage_backends
from triggers_redis import RedisStore

README = Page(ROOT / "plugins" / "triggers-redis" / "README.md")


def test_the_event_of_the_readme(redis_url: str, namespace: str) -> None:
    code = README.piece("from triggers_core import TriggerManager")
    code = code.replace("redis://localhost:6379/0", redis_url).replace('"shop"', repr(namespace))
    for _ in range(2):
        exec(code, {})
    storage = storage_backends.get("redis", "order:1", url=redis_url, namespace=namespace)
    assert (len(storage.events), storage.latest_kwargs["paid"]) == (1, {"amount": "9.90"})
    storage.store.close()


def test_the_settings_of_the_readme() -> None:
    [text] = README.fences("toml")
    settings = Settings.isolated(**tomllib.loads(text)["tool"]["triggers"])
    assert settings.TRIGGER_STORAGE_TYPE == "redis"
    store = RedisStore(**settings.TRIGGER_STORAGE_OPTIONS)  # connects when it is first used
    assert "redis.internal" in store.place
    store.close()
