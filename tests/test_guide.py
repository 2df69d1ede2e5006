"""What the documentation points at is there: tests, files, headings, sentences of the code."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import sentences

from tap_vitess.codes import CODES, code_of, plain
from tap_vitess.vtgate.faults import CASES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TROUBLES = ROOT / "docs" / "troubleshooting.md"

EVERY_PAGE = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_TEST = re.compile(r"`(test_\w+)`")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


class Link(NamedTuple):
    text: str
    path: Path
    anchor: str


def prose(page: Path) -> str:
    """Return a page without what stands in fences."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[Link]:
    """List the links to files of this project."""
    for text, target in _LINK.findall(prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield Link(text, (page.parent / path).resolve() if path else page, anchor)


@functools.cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        shown = _LINK.sub(r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return frozenset(found)


@functools.cache
def functions(path: Path) -> frozenset[str]:
    """Return the tests of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    """The file is there, and the heading in it."""
    wrong = [
        f"{link.text} -> {link.path.name}#{link.anchor}"
        for link in links(page)
        if not link.path.exists()
        or (link.anchor and (link.path.suffix != ".md" or link.anchor not in anchors(link.path)))
    ]
    assert wrong == []


@EVERY_PAGE
def test_every_test_that_is_named_is_there(page: Path) -> None:
    """Each stands in a link to its file, and is a function in it."""
    linked = {(link.text, link.path) for link in links(page) if _TEST.fullmatch(link.text)}
    wrong = [
        f"{text} in {path.name}"
        for text, path in sorted(linked)
        if not path.is_file() or text.strip("`") not in functions(path)
    ]
    assert wrong == []
    assert set(_TEST.findall(prose(page))) <= {text.strip("`") for text, _ in linked}


def test_the_guide_names_many_tests() -> None:
    """Each of its entries says what shows it, or that nothing does."""
    pages = sorted((ROOT / "docs" / "vstream").glob("*.md"))
    assert len(pages) == 9
    named = {test for page in pages for test in _TEST.findall(prose(page))}
    assert len(named) > 120
    bare = [
        f"{page.name}: {entry.splitlines()[0]}"
        for page in pages
        for entry in prose(page).split("\n### ")[1:]
        if not _TEST.search(entry) and "not run here" not in entry.lower() and "](" not in entry
    ]
    assert bare == []


class Entry(NamedTuple):
    """A row of the troubleshooting page."""

    code: str
    sentence: str
    when: str
    todo: str


HEAD = "| Message | When it comes | What to do |\n|---|---|---|\n"


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The rows of the tables of the troubleshooting page, of which each has three cells."""
    tables = TROUBLES.read_text(encoding="utf-8").split(HEAD)[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    return tuple(_entry(row) for row in rows)


def _entry(row: str) -> Entry:
    found = re.fullmatch(
        r"\| (?:\*\*(TV\d{3})\*\* <a id=\"tv\d{3}\"></a>)?([^|]+) \| ([^|]*) \| ([^|]*) \|", row
    )
    assert found, f"not a row of three cells: {row}"
    return Entry(*(cell or "" for cell in found.groups()))


def quotes() -> list[str]:
    """The sentences of the troubleshooting page."""
    return [entry.sentence for entry in entries()]


def test_each_sentence_has_a_code_and_an_anchor() -> None:
    """Each code is one sentence's; scripts/generate-docs makes codes and anchors of the page."""
    assert {entry.code: plain(entry.sentence) for entry in entries()} == CODES
    assert len(set(CODES.values())) == len(CODES)
    page = TROUBLES.read_text(encoding="utf-8")
    found = re.findall(r"^\| \*\*(TV\d{3})\*\* <a id=\"tv(\d{3})\"></a>", page, re.MULTILINE)
    assert sorted(code for code, _ in found) == sorted(CODES)
    assert [code for code, anchor in found if code != f"TV{anchor}"] == []


def test_a_message_finds_its_code() -> None:
    """Whatever stands for what varies, and whatever stands around it."""
    wrong = {
        (code, found)
        for code, text in CODES.items()
        if (found := code_of(f"shop.orders: {text.replace('…', 'x')} (VTGate said y: z)")) != code
    }
    assert wrong == set()
    assert code_of("no such sentence") is None


def test_the_code_says_what_is_quoted() -> None:
    """A sentence that was changed in the code is changed on the page."""
    said = sentences.said()
    assert [quote for quote in quotes() if plain(quote) not in said] == []


def test_every_sentence_is_explained() -> None:
    """What a user can be told when something is wrong has an entry."""
    quoted = {plain(quote) for quote in quotes()}
    assert sorted(sentences.told() - quoted) == []
    advice = {case.advice for cases in CASES.values() for case in cases}
    assert sorted(text for text in advice if plain(text) not in quoted) == []


def test_no_sentence_is_explained_twice() -> None:
    """One place for each."""
    found = [plain(quote) for quote in quotes()]
    assert sorted({quote for quote in found if found.count(quote) > 1}) == []


def test_every_entry_says_when_and_what_to_do() -> None:
    """A sentence each, which needs no other row: who reads it has one sentence in hand."""
    bare = [
        entry.code
        for entry in entries()
        for cell in (entry.when, entry.todo)
        if not re.match(r"(?!The same)[`A-Z].*\w", cell) or not cell.endswith(".")
    ]
    assert bare == []
