"""Killed at every step of `BEGIN; insert the order; fire; COMMIT; dispatch`: both are there, or
neither is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from django.db import connections

from triggers_core.testing.invariants import check_store

# Forks a child for each point, which kills itself there; then looks what is left.
PROGRAM = """
import json, os, signal, sys
import django, pymysql
from django.conf import settings

pymysql.version_info = (2, 2, 7, "final", 0)
pymysql.install_as_MySQLdb()
settings.configure(
    SECRET_KEY="x",
    DATABASES={"default": json.loads(sys.argv[1])},
    INSTALLED_APPS=["triggers_django"],
    USE_TZ=True,
    TRIGGER_RUNNER="manual",
    TRIGGER_PLUGINS=[],
    TRIGGER_CONFIGURATION={"t_ship": {"andEvery": "paid", "run": "shop.Ship"}},
)
django.setup()

from django.db import connection, transaction
from triggers_core import get_trigger_manager
from triggers_core.application import default_application as app
from triggers_core.runners.manual import ManualRunner

class Points:
    def __init__(self, kill_at):
        self.kill_at, self.number = kill_at, 0

    def reach(self):
        self.number += 1
        if self.number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, work):
        def counted(*arguments):
            self.reach()
            answer = work(*arguments)
            self.reach()
            return answer
        return counted

def pay(uid, points):
    connection.ensure_connection()
    connection._commit = points.around(connection._commit)
    ManualRunner.dispatch = points.around(ManualRunner.dispatch)
    with connection.execute_wrapper(lambda execute, *given: points.around(execute)(*given)):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO shop_order (uid) VALUES (%s)", [uid])
            get_trigger_manager(uid).fire("paid", {"amount": 1}, event_id="stripe:1")

def child(uid, kill_at):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        points = Points(kill_at)
        pay(uid, points)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

get_trigger_manager("first").fire("noise")  # imports what there is to import
told = {"points": 0, "stored": 0, "torn": [], "not swept": []}
for kill_at in range(1, 200):
    for uid in (f"order:{kill_at}", "first"):  # a session that is new, and one that is there
        app.close()
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM shop_order")
        events = len(app.store.events(uid))
        connection.close()
        status = child(uid, kill_at)
        if status not in (0, signal.SIGKILL):
            sys.exit(f"the child ended with {status}")
        killed = status == signal.SIGKILL
        with connection.cursor() as cursor:
            cursor.execute("SELECT uid FROM shop_order")
            ordered = len(cursor.fetchall())
        fired = len(app.store.events(uid)) - events
        if ordered != fired:
            told["torn"].append([kill_at, uid, ordered, fired])
        if fired and not app.store.due_ahead(-1.0, 1):
            told["not swept"].append([kill_at, uid])
        told["points"] += killed
        told["stored"] += killed and fired
        if uid == "first" and fired:  # its event's id is taken now
            app.store.delete(uid)
            get_trigger_manager(uid).fire("noise")
    if not killed:
        break
print(json.dumps(told))
"""


def test_the_order_exists_if_and_only_if_its_event_does(
    databases_of_each_kind: Any, make_django_store: Callable[..., Any]
) -> None:
    store = make_django_store(databases_of_each_kind)()
    connection = connections[store.alias]
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS shop_order")
        cursor.execute("CREATE TABLE shop_order (uid varchar(200) NOT NULL)")
    try:
        database = {
            name: connection.settings_dict[name]
            for name in ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD")
        }
        connection.close()
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(database)], capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout.splitlines()[-1])
        print(f"{told['points']} crash points: {len(told['torn'])} torn")
        assert told["torn"] == []
        assert told["not swept"] == []
        assert told["points"] > 30, "before and after each statement of both kinds of session"
        assert 0 < told["stored"] < told["points"], "some of them after the commit"
        check_store(store)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE shop_order")
