"""No regular expression takes a time that grows with the square of what it is given.

Servers and users choose what these read: documents, statements, errors of many kilobytes. Each is
tried as the code uses it, with texts that repeat its own letters, behind and before others.
"""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tap_vitess.vtgate.faults import CASES

PACKAGE = Path(__file__).parents[1] / "tap_vitess"
# A square of it takes a tenth of a second and more, a multiple of it less than a thousandth.
LENGTH = 6000
LONGEST = 0.03  # seconds of the processor
METHODS = {"search", "match", "fullmatch", "sub", "findall", "finditer", "split"}
WORDS = ("a", "0", " ", "x to ", "a.", "'", '"', "\\", "`", "``", "(", "/*", "--", "\n", "a b")

Pattern = re.Pattern[Any]
Use = tuple[str, Pattern, str]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if not {"sandbox", "_proto"} & set(parts) and parts[-1] != "__main__":
            yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


def uses() -> Iterator[Use]:
    """Find the expressions that have names, and what is called of them."""
    for name, module in modules():
        text = ast.unparse(module)
        if not re.search(r"\bre\.compile\(", text):
            continue
        held = vars(importlib.import_module(name))
        for key, value in held.items():
            if isinstance(value, re.Pattern) and re.search(rf"^{key} = re\.", text, re.MULTILINE):
                called = set(re.findall(rf"\b{key}\.(\w+)", text)) & METHODS or {"fullmatch"}
                yield from ((f"{name}.{key}", value, method) for method in sorted(called))
            elif isinstance(value, tuple):
                found = [p for pair in value if isinstance(pair, tuple) for p in pair[:1]]
                for i, one in enumerate(found):
                    if isinstance(one, re.Pattern):
                        yield f"{name}.{key}[{i}]", one, "sub"


def words_of_servers() -> Iterator[Use]:
    for origin, cases in CASES.items():
        for case in cases:
            if case.words:
                yield f"{origin} {case.words[:40]}", re.compile(case.words), "search"


EVERY = [*uses(), *words_of_servers()]


def tried(pattern: Pattern, method: str) -> Callable[[str], object]:
    """Return how the code uses it."""
    is_bytes = isinstance(pattern.pattern, bytes)
    called = getattr(pattern, method)
    if method == "sub":
        called = functools.partial(called, b"" if is_bytes else "")
    if method == "finditer":
        called = lambda text: sum(1 for _ in pattern.finditer(text))  # noqa: E731
    return lambda text: called(text.encode("latin-1", "replace") if is_bytes else text)


def texts(pattern: Pattern) -> Iterator[Callable[[int], str]]:
    """Yield ways to make texts of any length, of the expression's own words."""
    source = str(pattern.pattern)
    own = re.findall(r"[A-Za-z_][A-Za-z_ ]+[:(\"']*[ '\"]*|[0-9]|[^\w\s]", source)
    units = sorted({*WORDS, *own})
    for unit in units:
        for begin in ("", "'", '"', "`", "x", "x to ", "near '"):
            yield lambda length, b=begin, u=unit: b + u * (length // len(u)) + "\0"  # type: ignore[misc]
    for one, other in itertools.permutations(units, 2):
        both = one + other
        yield lambda length, u=both: u * (length // len(u)) + "\0"  # type: ignore[misc]


def seconds(use: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    use(text)
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pattern", "method"), EVERY, ids=[u[0] + u[2] for u in EVERY])
def test_time_grows_no_faster_than_length(name: str, pattern: Pattern, method: str) -> None:
    """Where a text takes long, one a quarter as long takes a sixteenth: then it is a square."""
    use = tried(pattern, method)
    for make in texts(pattern):
        if seconds(use, make(LENGTH)) < LONGEST:
            continue
        whole = min(seconds(use, make(LENGTH)) for _ in range(3))
        quarter = min(seconds(use, make(LENGTH // 4)) for _ in range(3))
        assert whole < 8 * max(quarter, 0.001), (name, make(40))
