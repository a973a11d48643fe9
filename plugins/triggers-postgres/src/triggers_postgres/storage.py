"""`PostgresStorage`: one session in PostgreSQL, as applications and the registry see it."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Final
from weakref import WeakValueDictionary

from triggers_core.exceptions import StorageError
from triggers_core.storages.session import SessionStorage
from triggers_postgres.store import PostgresStore


class PostgresStorage(SessionStorage):
    """One session in PostgreSQL.

    Example::

        storage = storage_backends.get("postgres", "order:1", url="postgresql://shop@db/shop")
    """

    schemes: ClassVar[tuple[str, ...]] = ("postgres", "postgresql")

    def __init__(
        self,
        uid: str,
        url: str | None = None,
        schema: str = "triggers",
        create: bool = True,
        conninfo: str | None = None,
        listen: bool = True,
        **options: Any,
    ) -> None:
        """Open a session; the server is asked for nothing yet.

        :param uid: the session's uid.
        :param conninfo: another name of `url`, that of psycopg.

        The other parameters are those of `PostgresStore`.
        """
        store = self.open_store(
            url=url, schema=schema, create=create, conninfo=conninfo, listen=listen, **options
        )
        super().__init__(uid, store)

    @classmethod
    def open_store(
        cls,
        url: str | None = None,
        schema: str = "triggers",
        create: bool = True,
        conninfo: str | None = None,
        listen: bool = True,
        **options: Any,
    ) -> PostgresStore:
        """The process's store for these options, opened on first use."""
        if url is not None and conninfo is not None:
            raise StorageError("postgres: url and conninfo are two names of one option: give one")
        where = url if conninfo is None else conninfo
        key = repr((where, schema, create, listen, sorted(options.items(), key=str)))
        with _opening:
            store = _open.get(key)
            if store is None:
                store = _open[key] = PostgresStore(
                    "" if where is None else where, schema, create, listen=listen, **options
                )
            return store


_open: Final[WeakValueDictionary[str, PostgresStore]] = WeakValueDictionary()
_opening: Final = threading.Lock()
