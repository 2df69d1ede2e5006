"""The sentences in the code that documentation may quote; `…` stands for what varies.

They are read from the source: string literals, f-strings, sums of these with constants of their
module, and what logging fills in (`%s`).
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tap_vitess.codes import VARIES, plain

PACKAGE = Path(__file__).parents[2] / "tap_vitess"
# The sandbox speaks for VTGate; docs/airbyte.md covers Airbyte's own sentences.
NOT_OURS = {"sandbox", "_proto", "airbyte"}
SPEAKS_IN_ALL_STRINGS = {"bookmark.py", "tls.py"}
LEAST = 12  # shorter texts are names and words

# Errors about a broken server or a part of a value; one entry stands for all of them.
_INNER = {"ProtocolError", "UnfitError", "AssertionError", "TypeError", "ValueError"}
_SAYING = {"warning", "critical", "_error", "_cut", "_lost"}
_FILLED = re.compile(r"%(\.\d+)?[sdgrf]")


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Parse all files of the package that speak to users."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not NOT_OURS & set(path.parts)]
    return tuple((path.name, ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def said() -> set[str]:
    """Return every text in the code."""
    return {
        plain(text)
        for _, module in modules()
        for known in [_constants(module)]
        for node in ast.walk(module)
        if isinstance(node, ast.expr) and (text := _text(node, known))
    }


def told() -> set[str]:
    """Return the texts for users when something is wrong: errors, warnings, findings."""
    found: set[str] = set()
    for name, module in modules():
        known = _constants(module)
        nodes = _strings(module) if name in SPEAKS_IN_ALL_STRINGS else _telling(module)
        found |= {plain(text) for node in nodes if (text := _text(node, known))}
    return {text for text in found if len(text) >= LEAST and " " in text}


def _telling(module: ast.Module) -> Iterator[ast.expr]:
    """Find the arguments that are sentences, by the called function."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        match node.func:
            case ast.Attribute(attr="finding"):
                yield node.args[2]
            case ast.Attribute(attr="warning" | "error") if _is_word(node.args[0]):
                yield node.args[1]  # a finding's
            case ast.Name(id="Problem"):
                yield node.args[1]
            case ast.Name(id=name) if name.endswith("Error") and name not in _INNER:
                yield node.args[0]
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _SAYING:
                yield from node.args


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).isidentifier()


def _strings(module: ast.Module) -> Iterator[ast.expr]:
    """Find the strings that are values on their own: no docstrings, no parts of others."""
    inner = {id(part) for node in ast.walk(module) for part in _parts(node)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inner:
            yield node


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.JoinedStr() | ast.Expr() | ast.FormattedValue() | ast.IfExp():
            yield from ast.iter_child_nodes(node)


def _constants(module: ast.Module) -> dict[str, str]:
    """Return the module's strings by name, with the words that it imports from the package."""
    found: dict[str, str] = {}
    for statement in module.body:
        match statement:
            case ast.ImportFrom(module=str(name), names=names) if name.startswith("tap_vitess."):
                found |= {
                    a.name: s for a in names if " " not in (s := _elsewhere(name).get(a.name, " "))
                }
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if (text := _text(value, found)) is not None:
                    found[name] = text
    return found


@functools.cache
def _elsewhere(module: str) -> dict[str, str]:
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return _constants(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _text(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """Return the text of an expression, with `…` for what varies; None if it is not a text."""
    match node:
        case ast.Constant(value=str(text)):
            return _FILLED.sub(VARIES, text)
        case ast.Name(id=name):
            return known.get(name)
        case ast.JoinedStr(values=parts):
            return "".join(_part(part, known) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = _text(left, known), _text(right, known)
            return None if one is None or other is None else one + other
    return None


def _part(part: ast.expr, known: Mapping[str, str]) -> str:
    if isinstance(part, ast.FormattedValue):
        return _text(part.value, known) or VARIES
    return _text(part, known) or ""
