"""The arrows between the packages point down, and each outside library has its rooms.

The graph is read out of the source, with the imports inside functions and under TYPE_CHECKING:
what a file needs to be understood counts, not what happens to be loaded.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tap_vitess"
ENTRIES = {"__main__", "__init__"}

# What each room may import of the package. Files of the root are rooms of one file.
ARROWS: Mapping[str, set[str]] = {
    "_proto": set(),
    "codes": set(),
    "errors": {"codes"},
    "signals": set(),
    "log": {"codes", "errors"},
    "stdout": {"errors"},
    "protocol": {"_proto", "errors"},
    "values": {"protocol", "_proto", "errors"},
    "vtgate": {"log", "protocol", "_proto", "errors"},
    "config": {"values", "vtgate", "protocol", "_proto", "errors"},
    "settings": {"config", "values", "vtgate", "protocol", "_proto", "errors"},
    "records": {"log", "values", "protocol", "_proto", "errors"},
    "survey": {"log", "records", "config", "values", "vtgate", "protocol", "_proto", "errors"},
}
ENGINE = {*ARROWS["survey"], "survey"}
ARROWS = {
    **ARROWS,
    "run": ENGINE,
    "mirror": {*ENGINE, "run", "signals", "settings", "stdout"},
    "singer": {*ENGINE, "run", "mirror", "signals", "settings", "stdout"},
    "airbyte": {*ENGINE, "run", "signals", "settings", "stdout"},
    "vstream": {*ENGINE, "run", "mirror", "signals", "settings"},
    "dlt": {*ENGINE, "run", "vstream", "settings"},
    "load": {"log", "dlt", "config", "errors", "signals", "settings", "stdout"},
    "init": {"config", "settings", "signals", "errors"},
    "doctor": {*ENGINE, "codes", "run", "mirror", "signals", "settings", "stdout"},
    "sandbox": {"values", "protocol", "_proto", "errors", "signals", "stdout"},
    "join": {"run", "settings", "errors"},
    "__main__": {"signals", "stdout", "singer", "init", "join"},
}
OUTSIDE = {
    "grpc": {"vtgate", "sandbox"},
    "pymysql": {"vtgate"},
    "pyarrow": {"values"},
    "singer_sdk": {"singer"},
    "backoff": {"vtgate"},
    "dlt": {"dlt"},
}


# Files that say what they say without a socket, a clock or a log.
PURE_ROOMS = {"protocol", "values", "errors", "codes", "config"}
PURE_FILES = {
    *("survey/facts", "survey/identity", "survey/cascades", "survey/bookmark"),
    *("run/state", "run/standstill", "run/layouts", "records/operations", "records/lines"),
    "records/schema",
    *("airbyte/catalog", "airbyte/failures"),
    *("vstream/mapping", "vstream/events", "singer/columns"),
}
IMPURE = {"grpc", "pymysql", "singer_sdk", "backoff", "time", "logging", "socket", "threading"}


def room_of(path: Path) -> str:
    """Name the room of a file: its package, or itself where it lies in the root."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Name the modules that a file imports, wherever in it that stands."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> list[Path]:
    """Find all files but generated ones and the package's own head."""
    found = sorted(PACKAGE.rglob("*.py"))
    return [path for path in found if room_of(path) not in {"_proto", "__init__"}]


def arrows() -> Iterator[tuple[str, str, str]]:
    """Yield the file, its room and the room of each import within the package."""
    for path in files():
        for name in imported(path):
            if name.startswith("tap_vitess."):
                yield str(path.relative_to(PACKAGE)), room_of(path), name.split(".")[1]


def test_arrows_point_down() -> None:
    wrong = {
        f"{path} imports {other}"
        for path, room, other in arrows()
        if other not in {*ARROWS[room], room}
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_there_is_no_circle() -> None:
    """Not even by way of others: each room is below all that reach it."""

    def reach(room: str) -> set[str]:
        found: set[str] = set()
        waiting = [room]
        while waiting:
            new = ARROWS[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    assert [room for room in ARROWS if room in reach(room)] == []
    assert {room_of(path) for path in files()} <= ARROWS.keys()


@pytest.mark.parametrize("library", OUTSIDE)
def test_a_library_has_its_rooms(library: str) -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {library}"
        for path in files()
        for name in imported(path)
        if name.split(".")[0] == library and room_of(path) not in OUTSIDE[library]
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_front_ends_do_not_know_each_other() -> None:
    fronts = {"singer", "airbyte", "vstream", "doctor", "sandbox"}
    wrong = {
        f"{path} imports {other}"
        for path, room, other in arrows()
        if room in fronts and other in fronts - {room}
    }
    assert not wrong, "\n".join(sorted(wrong))


def is_pure(path: Path) -> bool:
    return room_of(path) in PURE_ROOMS or (
        path.relative_to(PACKAGE).with_suffix("").as_posix() in PURE_FILES
    )


def test_pure_files_do_no_io() -> None:
    """Nor does any file that they import, by whatever way."""
    paths = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in files()}
    assert paths.keys() >= PURE_FILES
    wrong = set[str]()
    for path in filter(is_pure, paths.values()):
        seen, waiting = set[Path](), [path]
        while waiting:
            one = waiting.pop()
            seen.add(one)
            for name in imported(one):
                if name.split(".")[0] in IMPURE:
                    wrong.add(f"{path.relative_to(PACKAGE)}: {one.relative_to(PACKAGE)} {name}")
                inner = "/".join(name.split(".")[1:])
                found = paths.get(inner) or paths.get(inner.rpartition("/")[0])
                if name.startswith("tap_vitess.") and found is not None and found not in seen:
                    waiting.append(found)
    assert not wrong, "\n".join(sorted(wrong))


# The tests

TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.mark.slow
def test_tests_do_not_import_each_other() -> None:
    """What they share is in `support`, and in the modules beside the tests of a real cluster."""
    wrong = {
        f"{path.name} imports {name}"
        for path in TESTS
        for name in imported(path)
        if any(part.startswith("test_") for part in name.split(".")[:2])
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_no_fixture_is_there_twice() -> None:
    """Of one name and body, wherever it stands."""
    found = Counter(
        (node.name, *map(ast.unparse, node.body))
        for path in TESTS
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    )
    assert [name for (name, *_), times in found.items() if times > 1] == []
