"""Guards of each storage's own: serial commits, all or nothing, joined transactions."""

from __future__ import annotations

from mutations.guard import Edit, Guard

_CONTRACTS = {
    "memory": "tests/test_storage_contract.py::TestMemory::test_",
    "sqlite": "tests/test_storage_contract.py::TestSqlite::test_",
    "redis": "plugins/triggers-redis/tests/test_contract_redis.py::TestRedis::test_",
    "spread": "plugins/triggers-redis/tests/test_contract_redis.py::TestSpreadRedis::test_",
    "postgres": "plugins/triggers-postgres/tests/test_contract_postgres.py::TestPostgres::test_",
    "django": "plugins/triggers-django/tests/test_contract_django.py::TestSqlite::test_",
    "django on PostgreSQL": (
        "plugins/triggers-django/tests/test_contract_django.py::TestPostgres::test_"
    ),
}
_FOLDERS = {
    "memory": "src/triggers_core/storages/memory",
    "sqlite": "src/triggers_core/storages/sqlite/",
    "redis": "plugins/triggers-redis/src/triggers_redis/",
    "postgres": "plugins/triggers-postgres/src/triggers_postgres/",
    "django": "plugins/triggers-django/src/triggers_django/",
}


def _guard(
    storage: str,
    name: str,
    promise: str,
    file: str,
    old: str,
    new: str,
    *tests: str,
    also: tuple[Edit, ...] = (),
) -> Guard:
    """A guard of a storage; tests without a file are promises of the contract.

    ``spread: …`` and the like name the contract, where it is not the storage's own.
    """
    found = []
    for test in tests:
        contract, colon, rest = test.rpartition(": ")
        if "/" in test:
            found.append(test)
        else:
            found.append(_CONTRACTS[contract if colon else storage] + rest)
    edit = Edit(_FOLDERS[storage] + file, old, new)
    return Guard(f"{storage}: {name}", promise, (edit, *also), tuple(found))


_REDIS = "plugins/triggers-redis/tests"
_POSTGRES = "plugins/triggers-postgres/tests"
_DJANGO = "plugins/triggers-django/tests"
_LOST = f"{_POSTGRES}/test_lost_answers_postgres.py::test_changes_of_others_meanwhile_hide_nothing"

STORAGES: tuple[Guard, ...] = (
    # -- memory -----------------------------------------------------------------------------------
    _guard(
        "memory",
        "serial number",
        "what a signal handler commits in the middle of a decision is not overwritten",
        ".py",
        "if serial == self._serial:",
        "if serial:",
        "tests/test_memory_storage.py::"
        "test_a_handler_that_changes_the_session_in_the_middle_of_a_decision",
    ),
    _guard(
        "memory",
        "a write is noted first",
        "an interrupted write is stored whole or not at all",
        ".py",
        "        self._unfinished = change, arguments  # from here on it is stored, whatever",
        "        # from here on it is stored, whatever",
        "tests/test_memory_storage.py::test_an_interrupted_change_is_stored_or_not[fire]",
    ),
    _guard(
        "memory",
        "lock",
        "two commits to one session are serial",
        ".py",
        "    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:\n"
        "        with self._lock:\n",
        "    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:\n"
        "        time.sleep(0)\n        with threading.RLock():\n",
        "tests/test_memory_storage.py::test_threads_wait_for_each_other_up_to_the_end_of_a_write",
    ),
    # -- SQLite -----------------------------------------------------------------------------------
    _guard(
        "sqlite",
        "BEGIN IMMEDIATE",
        "a commit decides on what is current",
        "file.py",
        '                    connection.execute("BEGIN IMMEDIATE")\n'
        "                    if opened.stood_lately()",
        '                    connection.execute("BEGIN")\n'
        "                    if opened.stood_lately()",
        "tests/test_sqlite_lock.py::test_nobody_writes_while_a_commit_decides",
    ),
    _guard(
        "sqlite",
        "rollback",
        "of a commit that fails while it is written nothing is stored",
        "file.py",
        "                        answer, keep = work(connection)\n"
        "                        if not keep:\n"
        "                            return answer\n",
        "                        try:\n"
        "                            answer, keep = work(connection)\n"
        "                        except Exception:\n"
        '                            connection.execute("COMMIT")\n'
        "                            raise\n"
        "                        if not keep:\n"
        "                            return answer\n",
        "a_plan_that_cannot_be_written_writes_nothing",
    ),
    _guard(
        "sqlite",
        "a file that has gone",
        "no commit is acknowledged that went into a file which was replaced",
        "file.py",
        "                        if opened.stands():\n                            return answer\n",
        "                        return answer\n",
        "tests/test_sqlite_file.py::"
        "test_a_file_that_is_replaced_during_a_commit_has_it_all_the_same",
    ),
    _guard(
        "sqlite",
        "rollback of a transaction",
        "of a block that raises nothing is stored",
        "transaction.py",
        "        finally:\n            if not self._in_step:\n"
        "                self._holding.close()\n            self._doomed = True",
        "        finally:\n            next(self._holding, None)\n            self._doomed = True",
        "after_a_roll_back_everything_is_as_before",
    ),
    _guard(
        "sqlite",
        "rollback of a block within",
        "of a block within a block that raises nothing is stored",
        "transaction.py",
        '            connection.execute(f"ROLLBACK TO {savepoint}")\n',
        "",
        "of_a_block_within_that_raises_nothing_is_stored",
    ),
    _guard(
        "sqlite",
        "callbacks of a transaction",
        "hooks and dispatch follow the end of a transaction",
        "store.py",
        "        if transaction is None:\n            callback()\n        else:\n",
        "        callback()\n        if False:\n",
        "hooks_and_dispatch_follow_the_end",
        "after_a_roll_back_nobody_is_told",
    ),
    _guard(
        "sqlite",
        "callbacks of a block within",
        "a block within that is rolled back leaves no message",
        "transaction.py",
        "                del self.callbacks[self._blocks[-1][1] :]\n",
        "",
        "of_a_block_within_that_raises_nothing_is_stored",
    ),
    _guard(
        "sqlite",
        "a commit within a transaction is whole",
        "of a commit that fails while it is written, within a block, nothing is stored",
        "transaction.py",
        "if self._doomed or (not whole and connection.total_changes != changes):",
        "if self._doomed:",
        "a_commit_that_fails_while_it_is_written_is_whole_or_absent",
    ),
    # -- Redis ------------------------------------------------------------------------------------
    _guard(
        "redis",
        "version line at a commit",
        "a commit decides on what is current",
        "lua/commit.lua",
        "local conflict = string.sub(text, 1, #expected) ~= expected"
        " or expected == '' and text ~= ''",
        "local conflict = false",
        f"{_REDIS}/test_write_cache.py::"
        "test_a_change_overwrites_nothing_that_another_process_did_while_it_was_decided",
    ),
    _guard(
        "redis",
        "version line of a session that is new",
        "of two first fires none is lost",
        "lua/commit.lua",
        " or expected == '' and text ~= ''",
        "",
        f"{_REDIS}/test_write_cache.py::"
        "test_a_change_overwrites_nothing_that_another_process_did_while_it_was_decided",
        also=(
            Edit(  # it would notice the other session in the listings
                _FOLDERS["redis"] + "lua/commit.lua",
                "if letter == 'n' and redis.call('ZSCORE', key, ARGV[at + 2]) then return 'L' end",
                "",
            ),
        ),
    ),
    _guard(
        "redis",
        "attempt at a claim",
        "a message is good for its own attempt only",
        "lua/claim.lua",
        "if attempt == ARGV[5] then",
        "if attempt then",
        "a_message_for_another_attempt_is_stale",
    ),
    _guard(
        "redis",
        "status at a claim",
        "one message in two copies runs one body",
        "lua/claim.lua",
        "'^s(%d+) ([%d,-]*)\\t(.*)$'",
        "'^.(%d+) ([%d,-]*)[^\\t]*\\t(.*)$'",
        "two_workers_with_one_message",
        "one_claim_wins",
    ),
    _guard(
        "redis",
        "generation at a claim",
        "a message about a deleted session runs nothing in the one that took its uid",
        "lua/claim.lua",
        "layout and generation == ARGV[6] and",
        "layout and",
        "a_message_of_a_deleted_session_is_stale",
    ),
    _guard(
        "redis",
        "a claim is a new version",
        "who decided before a claim does not overwrite it",
        "lua/claim.lua",
        "string.format('%s%d', layout, version + 1)",
        "string.format('%s%d', layout, version)",
        "each_commit_is_one_version",
        f"{_REDIS}/test_round_trips.py::test_a_claim_takes_one_a_heartbeat_one_and_a_finish_one",
    ),
    _guard(
        "redis",
        "plugins and schema at a claim",
        "a process that does not understand a session claims nothing in it",
        "lua/claim.lua",
        "    and is_understood(schema, requires, ARGV[9], ARGV[10])\n",
        "",
        "a_process_without_a_required_plugin_changes_nothing",
    ),
    _guard(
        "redis",
        "token at a heartbeat",
        "only who holds the attempt renews its lease",
        "lua/heartbeat.lua",
        "if token == ARGV[5] then",
        "if token then",
        f"{_REDIS}/test_fences_redis.py::test_a_heartbeat_of_a_lost_attempt_renews_nothing",
    ),
    _guard(
        "redis",
        "a commit whose reply was lost",
        "what was written before the connection broke is recognised, and not made twice",
        "committing.py",
        "if resent and self._is_written(keys, view, write):",
        "if resent and not resent:",
        f"{_REDIS}/test_lost_replies.py::test_changes_of_others_before_the_resend_hide_nothing",
    ),
    _guard(
        "redis",
        "decisions on an old view",
        "a decision on what a process remembers, and that fails, is made again on what is stored",
        "committing.py",
        "                if fresh or known is None or is_time_limit(error):\n"
        "                    raise\n",
        "                raise\n",
        f"{_REDIS}/test_write_cache.py::test_no_change_is_refused_for_what_is_only_remembered",
    ),
    _guard(
        "redis",
        "trial of each command",
        "a command that the server refuses in the middle leaves nothing half written",
        "lua/commit.lua",
        "ARGV[at + 2]) then return 'L' end\n        redis.call('ZADD', key, 'XX', 0, '')\n",
        "ARGV[at + 2]) then return 'L' end\n",
        f"{_REDIS}/test_all_or_nothing.py::test_an_index_that_holds_something_else",
    ),
    _guard(
        "redis",
        "look for what is left of an expired session",
        "a session that begins anew inherits nothing from the listings",
        "lua/commit.lua",
        "if letter == 'n' and redis.call('ZSCORE', key, ARGV[at + 2]) then return 'L' end",
        "",
        f"{_REDIS}/test_fleet_redis.py::test_a_session_inherits_nothing_of_one_that_expired",
    ),
    _guard(
        "redis",
        "only what is left is erased",
        "whoever lists an expired session does not erase one that began anew meanwhile",
        "fleet.py",
        "self._erase(keys, GONE)  # it expired: take",
        'self._erase(keys, b"")  # it expired: take',
        f"{_REDIS}/test_fleet_redis.py::test_a_listing_spares_a_session_that_has_begun_anew_meanwhile",
    ),
    # -- PostgreSQL -------------------------------------------------------------------------------
    _guard(
        "postgres",
        "lock of the session's row",
        "a commit decides on what is current",
        "schema.py",
        "FROM {at}sessions s WHERE s.uid = session_uid FOR UPDATE;",
        "FROM {at}sessions s WHERE s.uid = session_uid;",
        "a_change_overwrites_nothing_that_came_while_it_was_decided",
    ),
    _guard(
        "postgres",
        "a session that somebody else made meanwhile",
        "of two first fires none is lost, and none fails",
        "sql.py",
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (uid) DO NOTHING RETURNING id)",
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (uid) DO UPDATE"
        " SET header = excluded.header RETURNING id)",
        "a_change_overwrites_nothing_that_came_while_it_was_decided",
        f"{_POSTGRES}/test_joined_psycopg.py::test_two_first_fires_into_one_session",
    ),
    _guard(
        "postgres",
        "a commit whose answer was lost",
        "what was committed before the connection broke is recognised, and not made twice",
        "steps.py",
        "if sent and (yield from _is_written(tables, uid, sent[0])):",
        "if sent and not sent:",
        _LOST,
    ),
    _guard(
        "postgres",
        "a plan whose answer was lost, to the byte",
        "the commit of somebody else is not taken for one's own",
        "steps.py",
        'return any(row[0] != NOW and bytes(row[3] or b"") == record for row in rows)',
        "return any(row[0] != NOW and row[3] for row in rows)",
        f"{_POSTGRES}/test_lost_answers_postgres.py::"
        "test_what_others_stored_in_its_place_is_not_taken_for_it",
    ),
    _guard(
        "postgres",
        "callbacks of a joined transaction",
        "the application's rollback takes back hooks and messages, too",
        "joined.py",
        "        if self._within:\n            entry = Pending(",
        "        if not self._within:\n            entry = Pending(",
        f"{_POSTGRES}/test_joined_psycopg.py::test_after_a_roll_back_nothing_has_happened",
    ),
    _guard(
        "postgres",
        "joined transaction's rollback",
        "the application's rollback takes the event back",
        "joined.py",
        "        if is_alone(connection):\n",
        "        if connection.autocommit is False:\n            steps_before = steps\n"
        "            answer = self.outside._run(\n"
        "                lambda own: carry_within(own, self.place, steps_before)\n"
        "            )\n            return answer\n"
        "        if is_alone(connection):\n",
        f"{_POSTGRES}/test_joined_psycopg.py::test_after_a_roll_back_nothing_has_happened",
        f"{_POSTGRES}/test_joined_psycopg.py::test_a_block_that_raises",
    ),
    _guard(
        "postgres",
        "callbacks of a savepoint",
        "a savepoint that is rolled back leaves no message",
        "joining.py",
        "            while len(waiting) > before:\n                waiting.pop()\n",
        "",
        "of_a_block_within_that_raises_nothing_is_stored",
        also=(
            Edit(  # whatever is left is asked about
                _FOLDERS["postgres"] + "joining.py",
                'if not entry.nested or status[entry.xid] == "committed":',
                "if entry is not None:",
            ),
        ),
    ),
    _guard(
        "postgres",
        "a database that is another one",
        "no event is stored beside a row that is in another database",
        "joining.py",
        "        if found != ours:\n",
        "        if found is ours:\n",
        f"{_POSTGRES}/test_joined_psycopg.py::test_a_connection_to_another_database",
    ),
    # -- Django -----------------------------------------------------------------------------------
    _guard(
        "django",
        "lock of the session's row",
        "a commit decides on what is current",
        "reading.py",
        "        if self._lock:\n            of_uid = of_uid.select_for_update()\n",
        "",
        "django on PostgreSQL: a_change_overwrites_nothing_that_came_while_it_was_decided[known]",
    ),
    _guard(
        "django",
        "a transaction of its own",
        "of a commit that fails while it is written nothing is stored",
        "transactions.py",
        "    with atomic(connection):\n        return work(connection)\n",
        "    return work(connection)\n",
        f"{_DJANGO}/test_django_store.py::"
        "test_of_a_change_that_the_database_refuses_in_the_middle_nothing_is_stored",
    ),
    _guard(
        "django",
        "joined transaction's rollback",
        "the application's rollback takes the event back",
        "transactions.py",
        "    if in_transaction(connection):\n        return _within(connection, place, work)\n",
        "    if in_transaction(connection):\n"
        "        answer = _within(connection, place, work)\n"
        "        connection.connection.commit()\n        return answer\n",
        f"{_DJANGO}/test_django_atomic.py::test_a_roll_back_takes_back_fire_and_dispatch",
    ),
    _guard(
        "django",
        "callbacks of a joined transaction",
        "the application's rollback takes back hooks and messages, too",
        "store.py",
        "            transaction.on_commit(callback, using=connection.alias, robust=True)\n",
        "            callback()\n",
        f"{_DJANGO}/test_django_atomic.py::test_a_roll_back_takes_back_fire_and_dispatch",
    ),
    _guard(
        "django",
        "a session that somebody else made meanwhile",
        "of two first fires none is lost, and none fails",
        "writing.py",
        "    except IntegrityError as error:\n        raise AlreadyThere from error\n",
        "    except AlreadyThere:\n        raise\n",
        f"{_DJANGO}/test_django_atomic.py::test_a_session_that_two_make_at_the_same_time",
        "django on PostgreSQL: a_change_overwrites_nothing_that_came_while_it_was_decided[new]",
    ),
    _guard(
        "django",
        "a commit whose answer was lost",
        "what was committed before the connection broke is recognised, and not made twice",
        "store.py",
        "                    if stored == event:\n                        return records.plan\n",
        "",
        f"{_DJANGO}/test_django_atomic.py::test_a_commit_whose_answer_was_lost_is_recognised",
    ),
    _guard(
        "django",
        "a transaction that is lost already",
        "nothing is added to a transaction that can only be rolled back",
        "transactions.py",
        "    if connection.needs_rollback:\n        raise TransactionConflict(",
        "    if connection.needs_rollback is None:\n        raise TransactionConflict(",
        f"{_DJANGO}/test_django_atomic.py::test_when_a_transaction_is_lost_already",
    ),
)
