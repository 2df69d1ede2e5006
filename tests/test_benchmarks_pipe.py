"""What the benchmark of the whole pipe measures, and what it says of it; without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).parents[1]
ABOUT = {
    "when": "2026-01-01T00:00:00",
    "against": "a cluster",
    "cores": 2,
    "all_cores": 2,
    "cpu": "some CPU",
    "python": "3.11",
    "versions": {},
    "load": 0.5,
}


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import pipe as module

    return module


def timed(*commands: list[str]) -> dict[str, Any]:
    """Run a pipe as the benchmark does."""
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "benchmarks" / "timed.py"],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


@pytest.mark.slow
def test_all_commands_of_a_pipe_count() -> None:
    """CPU time of both, of a child too, and the sum of the peaks; stdout's last line is kept."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {burn!r}])\n"
    held = "held = b'x' * 60_000_000\n"
    one = timed(python(held + child + "print('from the first')"), python("print(input())"))
    assert one["codes"] == [0, 0]
    assert one["out"] == "from the first\n"
    assert one["cpu"] >= 0.3
    assert one["wall"] >= 0.3
    two = timed(python(burn + held + "print('1')"), python(burn + held + "print(input())"))
    assert two["cpu"] >= 0.6
    assert two["rss"] >= 120_000_000


def test_a_command_that_fails_is_told() -> None:
    """The one before it learns that nobody reads any more, and ends too."""
    endless = "import sys\nwhile True: sys.stdout.write('x' * 70_000)"
    assert timed(python(endless), python("raise SystemExit(3)"))["codes"] == [1, 3]


def test_a_way_that_fails_is_an_error(pipe: ModuleType, tmp_path: Path) -> None:
    """With its log."""
    failing = python("raise SystemExit('no such host')")
    way = pipe.Way("RECORDs", "duckdb", "", "s", lambda _: [failing])
    with pytest.raises(
        pipe.BenchmarkError, match=r"RECORDs into duckdb ended with \[1\]:\nno such"
    ):
        way.run(tmp_path / "log")


def test_rows_that_lack_are_told(pipe: ModuleType, tmp_path: Path) -> None:
    """In the figures and in the page; the first way is what others are compared with."""
    file = str(tmp_path / "some.duckdb")
    with duckdb.connect(file) as connection:
        connection.execute("create schema s; create table s.t as select 1 as id")
    asked: list[Any] = []

    def commands(state: Any) -> list[list[str]]:
        asked.append(state)
        return [python("""print('{"value": 1}')""")]

    ways = [
        pipe.Way(name, "duckdb", file, "s", commands) for name in ("RECORDs", "tap-vitess-load")
    ]
    found = pipe.compare(ways, "t", 3, tmp_path, repeats=2)
    assert asked == [None, {"value": 1}] * 2
    figures = found["duckdb"]
    assert figures["RECORDs"]["of_the_first"] == 1
    first, second = (figures[way.name]["wall"] for way in ways)
    assert figures["tap-vitess-load"]["of_the_first"] == second / first
    assert {cost["rows_too_many"] for cost in figures.values()} == {-2}
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: turns -->\nold\n<!-- end -->\nafter\n")
    whole = {**found, "postgres": {}}
    from benchmarks import page as pages

    results = {"rows": 3, "changes": 2, "turns": 3, "about": ABOUT}
    pages.write_pipe(page, {**results, "copy": whole, "backlog": whole, "nothing": whole})
    text = page.read_text()
    assert text.startswith("before\n<!-- figures: turns -->\nMeasured 2026-01-01")
    assert "Medians of 3 turns." in text
    assert text.endswith("<!-- end -->\nafter\n")
    assert text.count("(-2 rows in the destination: **wrong**)") == 6
    assert "old" not in text


def test_ways_in_turns(pipe: ModuleType, tmp_path: Path) -> None:
    """Each turn has a table of its own; what is told is the median, and the worst count."""
    file = str(tmp_path / "some.duckdb")
    with duckdb.connect(file) as connection:
        for turn in range(3):
            connection.execute(f"create schema s{turn}")
            connection.execute(f"create table s{turn}.t as select * from range({2 + turn})")
    order = tmp_path / "order"

    def way(name: str, turn: int) -> Any:
        command = python(f"print('{name}{turn}', file=open({str(order)!r}, 'a'))")
        return pipe.Way(name, "duckdb", file, f"s{turn}", lambda _: [command])

    made = [[way(name, turn) for name in ("b", "a", "c")] for turn in range(3)]
    ways = [one for turn in made for one in pipe.chosen(turn, ("a", "b"))]
    found = pipe.compare(ways, "t", 2, tmp_path)["duckdb"]
    assert order.read_text().split() == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert list(found) == ["a", "b"]
    for figures in found.values():
        assert figures["rows_too_many"] == 2
        assert figures["wall"] == sorted(figures["walls"])[1]
    with pytest.raises(pipe.BenchmarkError, match="no way x; there are b, a, c"):
        pipe.chosen(made[0], ("x",))
