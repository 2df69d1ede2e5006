"""The library's public names, and what importing them does not import."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import tap_vitess.vstream as library

PACKAGE = Path(library.__file__)
TAKE_ALL = """
import sys
import tap_vitess.vstream as library
before = sorted(name for name in sys.modules if name.startswith("tap_vitess."))
for name in library.__all__:
    getattr(library, name)
print(before)
print(sorted(name for name in sys.modules if name.split(".")[0] in {wanted!r}))
"""


def modules(wanted: set[str]) -> list[str]:
    """Import all public names in another process; list what it has imported then."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TAKE_ALL.format(wanted=wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_nothing_of_singer_or_airbyte_is_imported() -> None:
    """Nor anything at all before a name is asked for."""
    before, found = modules({"singer_sdk", "simplejson", "airbyte_protocol", "mysql_mimic"})
    assert before == "['tap_vitess.vstream']"
    assert found == "[]"
    assert "tap_vitess.airbyte" not in modules({"tap_vitess"})[1]


def test_all_lists_of_names_agree() -> None:
    """`__all__`, the lazy table, what type checkers see, and what is really there."""
    [checked] = [node for node in ast.parse(PACKAGE.read_text()).body if isinstance(node, ast.If)]
    seen = {
        alias.name: statement.module
        for statement in checked.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert sorted(seen) == sorted(library.__all__)
    assert seen == library.MODULE_OF
    for name, module in seen.items():
        assert getattr(library, name) is getattr(importlib.import_module(str(module)), name)
    assert set(library.__all__) <= set(dir(library))


def test_a_name_that_is_not_there() -> None:
    """Is an AttributeError, as in any module."""
    assert not hasattr(library, "nothing")


def test_arrows_point_down() -> None:
    """The engine knows nothing of the library's levels, and level 3 stands on level 2."""
    root = PACKAGE.parents[1]
    for path in root.rglob("*.py"):
        if path == PACKAGE or path.parent.name == "consumer":
            continue
        assert "tap_vitess.consumer" not in path.read_text(), path
    consume = (root / "consumer" / "consume.py").read_text()
    for module in ("sync", "engine", "records", "vstream.client", "sql", "survey"):
        assert f"from tap_vitess.{module} import" not in consume
