"""The extension of the site: generated parts of pages, words for the search, links of names."""

from __future__ import annotations

from sphinx.application import Sphinx

from triggers_docs import expand, references
from triggers_docs.searching import index_entries


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_post_transform(references.FullNames)
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", references.tidy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    title, _, rest = expand(source[0]).partition("\n\n")
    source[0] = "\n\n".join(filter(None, (title, index_entries(page), rest)))
