"""Names in docstrings and annotations as links, where they mean one thing of the reference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import find_pending_xref_condition

from triggers_docs import faces

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.domains.python import ObjectEntry

logger = logging.getLogger(__name__)

_TOP = frozenset({"class", "exception", "function", "data", "module"})


class FullNames(SphinxPostTransform):
    """Give each reference the full name of what it means, before Sphinx looks for that.

    Sphinx takes the first of several objects that end with a name, and warns. Here the nearest one
    wins, then one of the core's modules over a plugin's; a name that still means several is text.
    """

    default_priority = 5  # Sphinx resolves references at 10

    def run(self, **options: Any) -> None:
        """Go through the references of one page."""
        objects = self.env.domains.python_domain.objects
        ending: dict[str, list[str]] = {}  # last part → full names
        for name, entry in objects.items():
            if not entry.aliased:
                ending.setdefault(name.rpartition(".")[2], []).append(name)
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") != "py":
                continue
            found = meant(node, objects, ending)
            if found:
                node["reftarget"] = found
                node["refspecific"] = False
            else:
                if node["reftype"] == "obj" and not exists(node["reftarget"]):
                    logger.warning("no such name: %s", node["reftarget"], location=node)
                shown = find_pending_xref_condition(node, "*")
                node.replace_self(shown.children if shown else node.children)


def meant(node: Any, objects: dict[str, ObjectEntry], ending: dict[str, list[str]]) -> str:
    """The full name of what a reference means; empty if that is nothing, or not clear."""
    target = node["reftarget"].lstrip(".")
    module, cls = node.get("py:module") or "", node.get("py:class") or ""
    above = ((module, cls), (cls,), (module,), ())
    for name in (".".join(filter(None, (*each, target))) for each in above):
        if name in objects:
            return name
    last = ending.get(target.rpartition(".")[2], ())
    found = [name for name in last if name.endswith(f".{target}")]
    top = [name for name in found if objects[name].objtype in _TOP]
    core = [name for name in top if name.startswith("triggers_core.")]
    return next((names[0] for names in (found, top, core) if len(names) == 1), "")


def exists(target: str) -> bool:
    """Whether a full name of ours means something, be it on no page; other names always do."""
    if not target.startswith("triggers_"):
        return True
    module, _, name = target.rpartition(".")
    try:
        faces.load(target)
    except ModuleNotFoundError:
        try:
            return hasattr(faces.load(module), name)
        except ModuleNotFoundError:
            return False
    return True


def tidy(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let ``:raises A, B: text`` link both: a field's argument is one type."""
    for index, line in enumerate(lines):
        found = re.match(r"(\s*):raises ([\w, ]+):(.*)", line)
        if found and "," in found[2]:
            names = ", ".join(f"`{each.strip()}`" for each in found[2].split(","))
            lines[index] = f"{found[1]}:raises: {names}:{found[3]}"
