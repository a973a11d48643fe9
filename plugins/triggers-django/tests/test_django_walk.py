"""The walks of the documentation, as they are typed: from an empty folder to a join in Django."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "django.md"
START = DOCS / "start" / "django.md"
TITLE = "From an empty project to a join in the admin"
LIMIT = 120.0
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_walk(project_folder: Path) -> None:
    walk(PAGE.read_text().split(f"## {TITLE}\n")[1].split("\n## ")[0], project_folder)


def test_the_start_page(tmp_path: Path) -> None:
    """Its views are called by its `curl`, one roll-back among them."""
    before, after = START.read_text().split("$ python manage.py runserver\n")
    folder = walk(f"{before}```\n", tmp_path, serve=False)
    calls = list(commands(after))
    assert [line.split()[0] for line, _ in calls] == ["curl", "curl", "python", "curl", "python"]
    with served(folder) as (address, _):
        for line, expected in calls:
            if line.startswith("curl"):
                assert curl(address, line) == expected.strip()
            elif "order:1" in line:
                until = time.monotonic() + LIMIT
                while "finished" not in run(line, folder):
                    assert time.monotonic() < until
                    time.sleep(0.05)
                assert_like(run(line, folder), without_time(expected), line)
            else:
                assert_like(run(line, folder, code=1), expected.strip(), line)


def curl(address: str, line: str) -> str:
    """What a call of the page answers: its body, or its status where the page asks for that."""
    words = shlex.split(line)
    [place] = [each for each in words if each.startswith("localhost")]
    body = words[words.index("-d") + 1].encode()
    try:
        answer = fetch(build_opener(), f"{address}/{place.partition('/')[2]}", body)
    except HTTPError as error:
        with error:
            return str(error.code)
    assert "%{http_code}" not in line, "it was to fail"
    return answer


def without_time(expected: str) -> str:
    """Without times, and how many events: other plugins are installed here, which fire more."""
    expected = re.sub(r"\d events", "… events", expected)
    return re.sub(r"\d\d:\d\d:\d\d UTC \(.*?\)", "…", expected)


def commands(text: str) -> Iterator[tuple[str, str]]:
    for language, fence in _FENCE.findall(text):
        if language == "console":
            for part in re.split(r"^\$ ", fence, flags=re.MULTILINE)[1:]:
                line, _, expected = part.partition("\n")
                yield line, expected


def walk(section: str, folder: Path, serve: bool = True) -> Path:
    """Write and type what a page says; the folder in which that ends."""
    has_served = False
    for language, text in _FENCE.findall(section):
        if language == "python":
            first, _, rest = text.partition("\n")
            name = first.removeprefix("# ").split(",")[0].split(":")[0]
            file = folder / name
            before = file.read_text() if "at its end" in first else ""
            file.write_text(before + rest)
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            if "pip install" in line or "venv" in line:
                continue
            if line.endswith("runserver"):
                has_served = True
                look_at_it(folder)
                continue
            printed = run(line.split(" && ")[0], folder)
            if " && cd " in line:
                folder = folder / line.split(" && cd ")[1]
            assert_like(printed, expected, line)
    assert has_served == serve
    return folder


def assert_like(printed: str, expected: str, line: str) -> None:
    """That the output is as the page says, which leaves out what stands for `…`."""
    pattern = ".*".join(re.escape(each) for each in expected.split("…"))
    assert re.match(pattern, printed, re.DOTALL), f"{line}:\n{printed}"


def environment(folder: Path) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("TRIGGER", "DJANGO"))}
    admin = {"USERNAME": "ada", "EMAIL": "ada@example.com", "PASSWORD": "analytical"}
    answers = {f"DJANGO_SUPERUSER_{name}": value for name, value in admin.items()}
    return {**ours, **answers, "PYTHONUNBUFFERED": "1"}


def arguments(line: str) -> list[str]:
    program, *rest = shlex.split(line)
    if program == "django-admin":
        return [sys.executable, "-m", "django", *rest]
    assert program == "python", line
    return [sys.executable, *rest, *(["--noinput"] if rest[-1] == "createsuperuser" else [])]


def run(line: str, folder: Path, code: int = 0) -> str:
    done = subprocess.run(
        arguments(line),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


def look_at_it(folder: Path) -> None:
    """What the reader sees in the browser; and that only the process that serves sweeps."""
    with served(folder) as (address, server):
        browser = build_opener(HTTPCookieProcessor(CookieJar()))
        form = fetch(browser, f"{address}/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token
        answers = {"username": "ada", "password": "analytical", "csrfmiddlewaretoken": token[1]}
        data = urlencode({**answers, "next": "/admin/triggers/session/"}).encode()
        sessions = fetch(browser, f"{address}/admin/login/?next=/admin/triggers/session/", data)
        found = re.search(r'<a href="(/admin/triggers/session/\d+/change/)">order:1</a>', sessions)
        assert found, sessions
        until = time.monotonic() + LIMIT
        while "finished" not in (page := fetch(browser, address + found[1])):
            assert time.monotonic() < until, page
            time.sleep(0.05)
        assert "t_ship#0" in page
        if Path("/proc").is_dir():
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert re.search(r"^Threads:\s+1$", status, re.MULTILINE), "the reloader has threads"


def fetch(browser: OpenerDirector, address: str, data: bytes | None = None) -> str:
    with browser.open(address, data, timeout=LIMIT) as answer:
        text: str = answer.read().decode()
    return text


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`manage.py runserver`, with its autoreloader, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}"]
    address = f"http://127.0.0.1:{port}"
    with (
        open(folder / "server.log", "wb") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as server,
    ):
        try:
            until = time.monotonic() + LIMIT
            while not answers(address):
                told = (folder / "server.log").read_text()
                assert server.poll() is None, told
                assert time.monotonic() < until, told
                time.sleep(0.05)
            yield address, server
        finally:
            os.killpg(server.pid, 15)  # the reloader's child is in its group
            server.wait(LIMIT)


def answers(address: str) -> bool:
    try:
        fetch(build_opener(), f"{address}/admin/login/")
    except URLError:
        return False
    return True
