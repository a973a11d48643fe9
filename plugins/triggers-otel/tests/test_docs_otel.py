"""What the documentation and the README say of the plugin."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
from doc_pages import DOCS, ROOT, Page, run_python

from triggers_otel.options import Options

PAGE = Page(DOCS / "opentelemetry.md")
README = Page(ROOT / "plugins" / "triggers-otel" / "README.md")


def test_the_example(tmp_path: Path) -> None:
    ran = PAGE.run(tmp_path)
    assert ran == ["python shop.py paid", "python shop.py packed", "python shop.py signed"]


def test_every_option_is_listed_with_its_default() -> None:
    for page in (PAGE, README):
        text = page.section("Options").fences("python")[0]
        (call,) = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
        (given,) = [ast.literal_eval(each.value) for each in call.keywords]
        assert given["otel"] == msgspec.to_builtins(Options())


def test_every_metric_is_listed() -> None:
    rows = re.findall(r"^\| `(triggers\.[\w.]+)` \| `(\w+)`", PAGE.section("Metrics").text, re.M)
    source = (ROOT / "plugins/triggers-otel/src/triggers_otel").glob("*.py")
    created = re.compile(r'^ +"(triggers\.[\w.]+)",$', re.M)
    named = {name for file in source for name in created.findall(file.read_text())}
    assert {name for name, _ in rows} == named
    for name, shown in rows:
        assert shown.startswith(name.replace(".", "_"))


def test_the_pieces_of_code(tmp_path: Path) -> None:
    dashboard = PAGE.piece("from importlib.resources")
    (tmp_path / "dashboard.py").write_text(dashboard)
    assert list(Path(run_python(["dashboard.py"], tmp_path).strip()).glob("*.json"))
    processors = PAGE.piece("import structlog")
    last = "print(structlog.get_config()['processors'][0].__name__)\n"
    (tmp_path / "processors.py").write_text(processors + last)
    assert run_python(["processors.py"], tmp_path) == "add_trace_ids\n"
    setup = README.piece("from opentelemetry import trace")
    spans = "with trace.get_tracer('page').start_as_current_span('a span'):\n    pass\n"
    (tmp_path / "setup.py").write_text(setup + spans + "provider.shutdown()\n")
    assert '"name": "a span"' in run_python(["setup.py"], tmp_path)
