"""The storage `postgres` of Triggers: sessions in PostgreSQL, in the application's transactions."""

from triggers_postgres.storage import PostgresStorage
from triggers_postgres.store import PostgresStore

__version__ = "0.2.0"

__all__ = ["PostgresStorage", "PostgresStore", "__version__"]
