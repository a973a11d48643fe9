"""The id under which a commit within the application's transaction was written."""

from __future__ import annotations

from triggers_postgres.sql import Rows, Statement
from triggers_postgres.steps import Batch, Last, Tables


class Mark:
    """Reads that id along with the commit, at no round trip of its own.

    It is the transaction's, or that of the savepoint in which the commit lies: the `xmin` of the
    session's row, which is the lower half of it.

    :param notify: a channel that is to be notified when the transaction is committed; None: none.
    """

    def __init__(self, tables: Tables, uid: str, notify: str | None = None) -> None:
        sessions = f'"{tables.schema}".sessions'
        ids = "xmin::text::int8, pg_current_xact_id()::text::int8"
        self._read: Statement = (f"SELECT {ids} FROM {sessions} WHERE uid = %s", (uid,))
        self._write: Statement = (
            f"UPDATE {sessions} SET uid = uid WHERE uid = %s RETURNING {ids}",
            (uid,),
        )
        self._same_session = tables.sql.same_session
        self._notify = notify
        self.xid: int | None = None
        """The id; None until something is written."""
        self.transaction: int = 0
        """The id of the whole transaction."""

    def extended(self, batch: Batch) -> Batch:
        """A batch, and what reads the id if the batch writes."""
        if not isinstance(batch, Last):
            return batch
        # A change that leaves the session's row alone has to show in it all the same.
        alone = any(self._same_session in text for text, _ in batch)
        more = [self._write if alone else self._read]
        if self._notify is not None:
            more.append(("SELECT pg_notify(%s, '')::text", (self._notify,)))
        return [*batch, *more]

    def heard(self, rows: Rows) -> None:
        """Take the answer to what `extended` has added."""
        if rows and len(rows[0]) == 2:
            lower, whole = rows[0]
            # A savepoint gets its id after its transaction has: it is the next that ends so.
            distance = (lower - whole) % (1 << 32)
            self.transaction, self.xid = whole, whole + distance


__all__ = ["Mark"]
