"""`make site`: the documentation as pages that are whole by themselves, and a search over them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.clones import clone, run, with_uv

pytestmark = pytest.mark.environments


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the site in a clone."""
    folder = clone(tmp_path_factory.mktemp("project"))
    done = run(["make", "site"], folder, with_uv())
    assert done.returncode == 0, done.stdout
    return folder


def test_pages_need_no_other_host(project: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own; links may lead anywhere."""
    pages = sorted((project / "site").rglob("*.html"))
    assert len(pages) > 20
    loaded = [
        tag
        for page in pages
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text("utf-8"))
        if "://" in tag and 'rel="canonical"' not in tag
    ]
    assert loaded == []


def test_links_that_leave_the_pages_are_text(project: Path) -> None:
    """There is no repository to link to."""
    wrong = [
        (page.name, link)
        for page in sorted((project / "site").rglob("*.html"))
        for link in re.findall(r'href="([^"]*)"', page.read_text("utf-8"))
        if re.search(r"\.(?:py|md|ya?ml)$", link)
    ]
    assert wrong == []


def test_the_search_finds_sentences(project: Path) -> None:
    index = json.loads((project / "site" / "search" / "search_index.json").read_text("utf-8"))
    for words in ("binlog_row_image", "TV017"):
        assert any(words in entry["text"] for entry in index["docs"])
    assert 'id="tv017"' in (project / "site" / "troubleshooting" / "index.html").read_text("utf-8")


def test_a_link_that_leads_nowhere_is_refused(project: Path) -> None:
    page = project / "docs" / "index.md"
    page.write_text(page.read_text("utf-8") + "\n[a heading](start.md#nowhere)\n", "utf-8")
    done = run(["make", "site"], project, with_uv())
    assert done.returncode != 0
    assert "#nowhere" in done.stdout
