"""The example `examples/django_shop`: its own tests, and its README's walk on a real server."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import django
import pytest

T = TypeVar("T")

SHOP = Path(__file__, "../../../../examples/django_shop").resolve()
SECONDS = 60.0  # that anything may take; nothing should
WHO = {"username": "admin", "password": "s3cret and long"}
FINISHED = {"t_ship#0": "finished", "t_tell#0": "finished"}
SOON = json.dumps({"lease": 1.0, "heartbeat": 0.2, "sweep": 0.1})
"""Timing with which what a killed process held is taken over soon, for that process alone."""

if not SHOP.is_dir():
    pytest.skip("the examples are not beside the plugins", allow_module_level=True)


class Shop:
    """The project, with a database of its own, and its server."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("TRIGGER", "DJANGO"))}
        self.environ = {**ours, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **environ}
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def manage(self, *arguments: str, code: int = 0, **environ: str) -> str:
        """Run ``manage.py``, and see that it ends with that exit code; what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        ended = subprocess.run(
            command,
            cwd=SHOP,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * SECONDS,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    def create_superuser(self) -> None:
        named = {f"DJANGO_SUPERUSER_{name.upper()}": value for name, value in WHO.items()}
        self.manage("createsuperuser", "--no-input", "--email", "clerk@example.org", **named)

    def serve(self, **environ: str) -> None:
        """Start ``runserver``, and wait until it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = ("manage.py", "runserver", "--noreload", str(self.port))
        self._process = self._start(*command, **environ)
        until(self._answers)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """Have Python run something beside the server."""
        process = self._start(*arguments)
        try:
            yield
            process.terminate()
            assert process.wait(SECONDS) == 0, self.log()
        finally:
            process.kill()
            process.wait()

    def _start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=SHOP,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def call(
        self, path: str, event: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON of an answer."""
        data = None if event is None else json.dumps(event).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data)
        try:
            with urlopen(request, timeout=SECONDS) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, None

    def admin(self, path: str) -> str:
        """A page of the admin, for somebody who has logged in."""
        opener = build_opener(HTTPCookieProcessor(CookieJar()))
        root = f"http://127.0.0.1:{self.port}"
        with opener.open(f"{root}/admin/login/", timeout=SECONDS) as page:
            token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', page.read().decode())
        assert token is not None
        form = {**WHO, "csrfmiddlewaretoken": token[1], "next": path}
        with opener.open(f"{root}/admin/login/", urlencode(form).encode(), timeout=SECONDS) as page:
            text: str = page.read().decode()
            return text

    def pay(self, order: int, cents: int = 1990) -> tuple[int, dict[str, Any] | None]:
        return self.call("/payments", {"id": f"evt-{order}", "order": order, "cents": cents})

    def reserve(self, order: int) -> tuple[int, dict[str, Any] | None]:
        return self.call("/stock", {"id": f"res-{order}", "order": order, "warehouse": "B"})

    def tasks(self, order: int) -> dict[str, str]:
        status, answer = self.call(f"/orders/{order}")
        assert status == 200
        assert answer is not None
        tasks: dict[str, str] = answer["tasks"]
        return tasks

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return self.call("/orders/none")[0] == 404
        except URLError:
            return False


def until(condition: Callable[[], T]) -> T:
    """Ask again and again until the answer is yes."""
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)
    return answer


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, {"SHOP_FILE": str(tmp_path / "shop.sqlite3")})
    yield shop
    shop.kill()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_its_own_tests(kind: str, shop: Shop, request: pytest.FixtureRequest) -> None:
    if kind != "sqlite":
        request.getfixturevalue(kind)  # there is a server, or else this is skipped
        shop.environ["SHOP_DATABASE"] = server_url(kind, request) + f"shop_{secrets.token_hex(4)}"
    if kind == "mariadb":  # what mysqlclient would be
        stand_in = "import pymysql\npymysql.version_info = (2, 2, 7, 'final', 0)\n"
        (shop.folder / "sitecustomize.py").write_text(
            f"{stand_in}pymysql.install_as_MySQLdb()\n", "utf-8"
        )
        shop.environ["PYTHONPATH"] = str(shop.folder)
    told = shop.manage("test")
    assert "OK" in told.splitlines(), told


def server_url(kind: str, request: pytest.FixtureRequest) -> str:
    """The address of a server, up to the name of a database."""
    if kind == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url[: url.rindex("/") + 1]
    user, password = (os.environ.get(f"MYSQL_{name}", "") for name in ("USER", "PASSWORD"))
    host, port = (os.environ.get(f"MYSQL_{name}", "") for name in ("HOST", "PORT"))
    login = quote(user or "root") + (f":{quote(password)}" if password else "")
    return f"mysql://{login}@{host or '127.0.0.1'}:{port or 3306}/"


def test_its_migrations_are_there(shop: Shop) -> None:
    assert "No changes detected" in shop.manage("makemigrations", "--check", "--dry-run")


@pytest.mark.skipif(
    django.VERSION < (5, 1),
    reason="Django before 5.1 has SQLite refuse a request while a body is stored (triggers.W004)",
)
def test_the_walk_of_its_readme(shop: Shop) -> None:
    shop.manage("migrate")
    shop.create_superuser()
    told = shop.manage("check", "--database", "default")
    assert "no issues" in told, told
    shop.serve()

    # in both orders, each delivered twice
    for order, webhooks in ((1, (shop.pay, shop.reserve)), (2, (shop.reserve, shop.pay))):
        for webhook in webhooks:
            for status in ("recorded", "duplicate"):
                assert webhook(order) == (202, {"order": str(order), "status": status})
        until(lambda o=order: shop.tasks(o) == FINISHED)

    # a request that is rolled back leaves neither a row nor an event, nor a session
    assert shop.pay(3, cents=-1)[0] == 500
    assert shop.call("/orders/3")[0] == 404
    assert "no session 'order:3'" in shop.manage("triggers", "show", "order:3", code=1)

    listed = shop.admin("/admin/triggers/session/")
    assert "order:1" in listed
    assert "order:2" in listed
    assert "order:3" not in listed

    shop.kill()
    assert shop.log().count("is on its way as parcel") == 2


@pytest.mark.slow
def test_what_a_killed_server_left_behind_is_shipped(shop: Shop) -> None:
    shop.manage("migrate")
    shop.serve(SHOP_SLOW="3600", TRIGGER_TIMING=SOON)
    shop.pay(1)
    shop.pay(2)
    shop.reserve(2)
    until(lambda: shop.tasks(2)["t_ship#0"] == "running")
    shop.kill()

    shop.serve(TRIGGER_TIMING=json.dumps({"sweep": 0.1}))
    shop.reserve(1)
    for order in (1, 2):
        until(lambda o=order: shop.tasks(o) == FINISHED)
    shop.kill()
    assert shop.log().count("is on its way as parcel") == 2


@pytest.mark.slow
def test_workers_of_celery(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("triggers_celery")
    servers = pytest.importorskip("triggers_redis.testing")
    with servers.RedisServer(tmp_path) as broker:
        shop.environ |= {"SHOP_RUNNER": "celery", "SHOP_BROKER": broker.url}
        shop.manage("migrate")
        worker = ("-A", "shop", "worker", "-P", "solo", "--without-mingle", "--without-gossip")
        with shop.running("-m", "celery", *worker):
            shop.serve()
            shop.reserve(1)
            shop.pay(1)
            until(lambda: shop.tasks(1) == FINISHED)
            shop.kill()
    assert shop.log().count("is on its way as parcel") == 1
