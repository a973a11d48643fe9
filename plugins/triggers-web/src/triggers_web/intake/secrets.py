"""Where secrets are: in the environment or in files, never in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triggers_core.exceptions import InvalidSetting


def read_secrets(
    wanted: str | Sequence[str], environ: Mapping[str, str], place: str
) -> tuple[str, ...]:
    """The secrets that a configuration names: one, or several while one replaces another.

    :param wanted: ``env:NAME`` or ``file:/path``, or a list of them.
    :param environ: the environment.
    :param place: where they are named, for errors.
    :raises InvalidSetting: one is not there, is empty, or stands in the configuration itself.

    Example::

        read_secrets(["env:STRIPE_SECRET", "env:STRIPE_SECRET_OLD"], os.environ, "…")
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names:
        raise InvalidSetting(f"{place}: name at least one, such as 'env:WEBHOOK_SECRET'")
    return tuple([_secret(name, environ, place) for name in names])


def with_absolute_files(words: Any, folder: Path) -> Any:
    """A route as it is written, the files of its secrets taken as relative to a folder.

    Example::

        with_absolute_files({"secret": "file:stripe.key"}, Path("/srv/shop"))
    """
    wanted = words.get("secret") if isinstance(words, Mapping) else None
    if isinstance(wanted, str):
        return {**words, "secret": _absolute(wanted, folder)}
    if isinstance(wanted, list):
        return {**words, "secret": [_absolute(each, folder) for each in wanted]}
    return words


def _absolute(name: Any, folder: Path) -> Any:
    kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    return f"file:{folder / rest}" if kind == "file" and rest else name


def _secret(name: str, environ: Mapping[str, str], place: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "env" and rest:
        found = environ.get(rest, "").strip()
        if not found:
            raise InvalidSetting(f"{place}: the environment variable {rest} is not set, or empty")
    elif kind == "file" and rest:
        try:
            found = Path(rest).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidSetting(f"{place}: the file {rest} cannot be read: {why}") from None
        if not found:
            raise InvalidSetting(f"{place}: the file {rest} is empty")
    else:
        # What was written is not repeated: it is most likely the secret.
        raise InvalidSetting(
            f"{place}: a secret does not belong in a configuration: put it into an environment"
            " variable and write 'env:ITS_NAME', or into a file and write 'file:/its/path'"
        )
    return found
