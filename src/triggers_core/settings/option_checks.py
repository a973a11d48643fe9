"""Options of storages and runners from the settings: errors name the setting and the option."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from triggers_core.exceptions import InvalidConfiguration, InvalidSetting, TriggersError
from triggers_core.redaction import error_text
from triggers_core.texts import did_you_mean

T = TypeVar("T")


def path_by_default(make: Callable[..., object]) -> str | os.PathLike[str] | None:
    """What `make` takes as its option `path` when none is given; None, if that is no path."""
    parameter = inspect.signature(make).parameters.get("path")
    default = None if parameter is None else parameter.default
    return default if isinstance(default, str | os.PathLike) else None


def with_options(
    make: Callable[..., T], *arguments: Any, options: Mapping[str, Any], setting: str, what: str
) -> T:
    """Call `make` with options from a setting.

    :param setting: the setting and where its value comes from, in words.
    :param what: what is made: ``storage 'sqlite'``.
    :raises InvalidSetting: it takes no such option, or refuses a value.

    Example::

        with_options(
            SqliteStorage.open_store,
            options={"path": "shop.db"},
            setting="TRIGGER_STORAGE_OPTIONS (configure())",
            what="storage 'sqlite'",
        )
    """
    place = f"{setting}: the {what}"
    parameters = list(inspect.signature(make).parameters.values())[len(arguments) :]
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        for name in options:
            if name not in named:
                known = did_you_mean(name, named) or ": it takes none"
                raise InvalidSetting(f"{place} has no option {name!r}{known}")
        for name, parameter in named.items():
            if parameter.default is parameter.empty and name not in options:
                raise InvalidSetting(f"{place} wants the option {name!r}")
    try:
        return make(*arguments, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidConfiguration):
            raise  # about TRIGGER_CONFIGURATION, which a runner may read; it names the task
        if isinstance(error, InvalidSetting) and str(error).startswith("TRIGGER_"):
            raise  # about another setting, which it names
        problem = str(error) if isinstance(error, TriggersError) else error_text(error)
        raise InvalidSetting(f"{place}: {problem}") from error
