"""Opening a storage, or making a runner, with the options of the settings: errors name those."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from triggers_core.exceptions import InvalidSetting, TriggersError
from triggers_core.redaction import error_text
from triggers_core.texts import did_you_mean

T = TypeVar("T")


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
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # written in C
        signature = None
    if signature is not None:
        _check_names(signature, arguments, options, f"{setting}: the {what}")
    try:
        return make(*arguments, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidSetting) and str(error).startswith("TRIGGER_"):
            raise  # about another setting, which it names
        own = isinstance(error, TriggersError)
        problem = str(error) if own else error_text(error)
        raise InvalidSetting(f"{setting}: the {what}: {problem}") from error


def _check_names(
    signature: inspect.Signature,
    arguments: tuple[Any, ...],
    options: Mapping[str, Any],
    place: str,
) -> None:
    parameters = list(signature.parameters.values())
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    named = [
        each.name
        for each in parameters[len(arguments) :]
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    for name in options:
        if name not in named:
            known = did_you_mean(name, named) or ": it takes none"
            raise InvalidSetting(f"{place} has no option {name!r}{known}")
    missing = [
        each.name
        for each in parameters[len(arguments) :]
        if each.name in named and each.default is each.empty and each.name not in options
    ]
    if missing:
        raise InvalidSetting(f"{place} wants the option {missing[0]!r}")
