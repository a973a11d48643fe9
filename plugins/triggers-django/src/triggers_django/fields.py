"""A column for names: compared byte by byte on every database, trailing spaces and emoji included.

Database collations fold case, accents or trailing spaces, each its own way; the names of Triggers
are data, compared character by character. Their order by bytes of UTF-8 is Python's order of texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    _Text = models.CharField[str, str]
else:
    _Text = models.CharField


class NameField(_Text):
    """A text of at most `max_length` characters, ordered and compared by its bytes.

    On PostgreSQL a ``varchar`` of the collation ``C``, on SQLite what it is by itself. On MySQL and
    MariaDB a ``varbinary``: their binary collations pad texts with spaces before they compare, and
    not every character fits a ``utf8mb3`` database.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "mysql":
            return f"varbinary({4 * (self.max_length or 0)})"
        if connection.vendor == "postgresql":
            # Its other name: for a `varchar` with an index, Django would make a second one, which
            # LIKE needs in other collations.
            return f"character varying({self.max_length})"
        return super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "postgresql":
            parameters["collation"] = "C"
        return parameters

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor == "mysql" and isinstance(value, str):
            return value.encode()
        return value

    def from_db_value(self, value: Any, *_: object) -> Any:
        return bytes(value).decode() if isinstance(value, bytes | bytearray | memoryview) else value
