"""MkDocs' hook for links that leave docs/, such as those to tests and examples.

They point to the project's repository if mkdocs.yml has a repo_url, and are plain text otherwise.
tests/test_guide.py checks that the files exist.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^()\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return a page with its links to files outside of docs/ replaced."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            return link.group()
        return (
            f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})" if config.repo_url else text
        )

    return _LINK.sub(replaced, markdown)
