"""The library's public names, and what importing them does not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tap_vitess.vstream as library

PACKAGE = Path(library.__file__)
TAKE_ALL = """
import sys
import tap_vitess.vstream as library
print(sorted(name for name in sys.modules if name.split(".")[0] in {wanted!r}))
"""


def modules(wanted: set[str]) -> str:
    """Import all public names in another process; list what it has imported then."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TAKE_ALL.format(wanted=wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_nothing_of_singer_or_airbyte_is_imported() -> None:
    found = modules({"singer_sdk", "simplejson", "airbyte_protocol", "mysql_mimic"})
    assert found == "[]"
    assert "tap_vitess.airbyte" not in modules({"tap_vitess"})


def test_public_names_are_imported_as_themselves() -> None:
    """So type checkers let them be imported from here."""
    seen = [
        alias
        for statement in ast.parse(PACKAGE.read_text()).body
        if isinstance(statement, ast.ImportFrom) and statement.module != "__future__"
        for alias in statement.names
    ]
    assert [alias.name for alias in seen if alias.asname != alias.name] == []
    assert all(hasattr(library, alias.name) for alias in seen)
    assert len(seen) > 50
