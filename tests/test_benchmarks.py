"""The benchmarks run, and tell what they should; how fast is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a little of it, twice."""
    directory = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--small", "--results", str(directory), "copy"]
    first, again = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True, cwd=ROOT)
        for more in ([], ["arrow", "asyncio"])
    )
    assert "(last" not in first.stdout
    assert "(last" in again.stdout, "it compares with the last time"
    return directory


def test_a_copy_is_measured(results: Path) -> None:
    """All rows have gone both ways."""
    figures = json.loads((results / "small.json").read_text())["copy"]
    assert figures["rows"] == 300
    assert figures["responses"] >= 2
    assert min(figures["ratio"], figures["cpu"], figures["rss_mb"]) > 0


def test_rows_as_arrow_are_measured(results: Path) -> None:
    """A copy and both backlogs, each beside the raw receive."""
    figures = json.loads((results / "small.json").read_text())["arrow"]
    assert [figures[name]["rows"] for name in ("copy", "stream", "stream_single")] == [300, 100, 12]
    assert all(figures[name]["ratio"] > 0 for name in ("copy", "stream", "stream_single"))


def test_the_lateness_of_a_loop_is_measured(results: Path) -> None:
    """Beside each kind of consumer, and beside nothing."""
    figures = json.loads((results / "small.json").read_text())["asyncio"]
    rows = {kind: found["rows"] for kind, found in figures.items()}
    assert rows == {"idle": 0, "python": 300, "items": 300, "arrow": 300}
    assert all(found["late_99_ms"] <= found["late_most_ms"] for found in figures.values())


def test_the_page_takes_figures(results: Path, tmp_path: Path) -> None:
    """Between its markers; the rest of it stays."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import page
    finally:
        sys.path.remove(str(ROOT))
    text = (ROOT / "docs" / "performance.md").read_text()
    written = tmp_path / "performance.md"
    written.write_text(text)
    figures = json.loads((results / "small.json").read_text())
    page.write(written, figures, "sandbox")
    begin = page.BEGIN.format("sandbox")
    before, _, rest = text.partition(begin)
    new_before, _, new_rest = written.read_text().partition(begin)
    assert new_before == before
    assert new_rest.partition(page.END)[2] == rest.partition(page.END)[2]
    assert new_rest.count("| copy, 300 rows |") == 2
