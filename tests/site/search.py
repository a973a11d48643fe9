"""The site as it was built: its search finds what people look for, and its index every name.

No part of the test suite: `python -m nox -s docs` builds the site, then runs this.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import Any

import pytest
from doc_pages import DOCS
from sphinx.search.en import SearchEnglish

sys.path.insert(0, str(DOCS))  # for triggers_docs
from triggers_docs import faces

SITE = DOCS / "_build" / "html"
FIRST = 3
"""Results that people look at."""

LOOKED_FOR = {
    "wait for two webhooks": "cookbook/webhooks",
    "run after all": "what-a-task-can-wait-for",
    "chord stuck": "cookbook/from-celery-chords",
    "one task in two chords": "cookbook/from-celery-chords",
    "deadline": "what-a-task-can-wait-for",
    "async": "async",
    "testing": "testing",
    "Django": "django",
    "rollback": "transactions",
    "dead worker": "guarantees",
}


@cache
def index() -> dict[str, Any]:
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").rstrip(";)\n"))
    return found


def search(query: str) -> list[str]:
    """The pages that the site's search shows, best first, each once.

    Ranks as searchtools.js of Sphinx does, with the same figures, but for parts of words in texts.
    """
    wanted = query.lower()
    names, titles = index()["docnames"], index()["titles"]
    scored: list[tuple[float, str, str]] = []  # and what breaks ties: the title
    later: list[tuple[float, str, str]] = []
    for title, places in index()["alltitles"].items():
        if wanted in title.lower() and len(wanted) >= len(title) / 2:
            for page, _ in places:
                score = round(15 * len(wanted) / len(title)) + (titles[page] == title)
                scored.append((score, title, names[page]))
    for entry, places in index()["indexentries"].items():
        if wanted in entry and len(wanted) >= len(entry) / 2:
            for page, _, main in places:
                score = round(100 * len(wanted) / len(entry))
                (scored if main else later).append((score, titles[page], names[page]))
    scored += [(score, name, names[page]) for score, name, page in objects(wanted)]
    scored += [(score, titles[page], names[page]) for page, score in texts(wanted).items()]
    best = [
        page
        for results in (scored, later)
        for _, _, page in sorted(results, key=lambda each: (-each[0], each[1].lower()))
    ]
    return list(dict.fromkeys(best))


def objects(wanted: str) -> list[tuple[float, str, int]]:
    """Names of the reference: (score, full name, page)."""
    found = []
    words = set(wanted.split())
    for prefix, members in index()["objects"].items():
        for page, kind, priority, _, name in members:
            full = f"{prefix}.{name}".lower()
            told = f"{prefix} {name} {index()['objnames'][str(kind)][2]} {index()['titles'][page]}"
            for word in words:
                if word in full and all(each in told.lower() for each in words - {word}):
                    last = full.rpartition(".")[2]
                    score = 11 if word in (full, last) else 6 if word in last else 0
                    found.append((score + {0: 15, 1: 5, 2: -5}.get(priority, 0), full, page))
    return found


def texts(wanted: str) -> dict[int, float]:
    """Pages that have all of the words: page → score."""
    language = SearchEnglish({})
    words = [each for each in re.findall(r"\w+", wanted) if each not in language.stopwords]
    of_word = []
    for word in map(language.stem, words):
        scores: dict[int, float] = {}
        for terms, score in (("terms", 5), ("titleterms", 15)):
            pages = index()[terms].get(word, [])
            scores |= dict.fromkeys(pages if isinstance(pages, list) else [pages], score)
        of_word.append(scores)
    shared = set.intersection(*map(set, of_word)) if of_word else set()
    return {page: max(each[page] for each in of_word) for page in shared}


@pytest.mark.parametrize(("query", "page"), LOOKED_FOR.items())
def test_the_search_finds(query: str, page: str) -> None:
    assert page in search(query)[:FIRST]


def test_a_search_for_nothing_there_finds_nothing() -> None:
    assert search("zebra crossing") == []


def test_every_public_name_is_in_the_index_of_the_site() -> None:
    listed = {
        f"{prefix}.{member[-1]}" if prefix else member[-1]
        for prefix, members in index()["objects"].items()
        for member in members
    }
    missing = {f"{module}.{name}" for _, module, name in faces.homes().values()} - listed
    assert not missing
