"""The benchmarks run, and tell what they should; how fast is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tap_vitess"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a little of it, twice."""
    directory = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--small", "--results", str(directory), "copy"]
    first, again = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True, cwd=ROOT)
        for more in ([], ["arrow", "asyncio", "tricks"])
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


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package, which is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("all_cores", [1, 2])
def test_arrow_has_a_part_of_the_page(results: Path, tmp_path: Path, all_cores: int) -> None:
    """And another one where it ran on some cores alone."""
    from benchmarks import page

    figures = json.loads((results / "small.json").read_text())["arrow"]
    figures["about"] |= {"cores": 1, "all_cores": all_cores}
    file = tmp_path / "page.md"
    parts = [f"{page.BEGIN.format(name)}\n{page.END}\n" for name in ("arrow", "arrow, own cores")]
    file.write_text("".join(parts))
    page.write_arrow(file, figures)
    shared, own = file.read_text().split(page.BEGIN.format("arrow, own cores"))
    written, left = (shared, own) if all_cores == 1 else (own, shared)
    assert "copy, 300 rows" in written
    assert "copy" not in left


@pytest.mark.usefixtures("benchmarks")
def test_each_trick_is_measured(results: Path, tmp_path: Path) -> None:
    """With and without; the page has a line of each, and no line of one that is gone."""
    from benchmarks import apart, page

    figures = json.loads((results / "small.json").read_text())
    tricks = figures["tricks"]
    assert all(
        min(cost["with_us"], cost["without_us"], cost["times"]) > 0 for cost in tricks.values()
    )
    assert [cost["file"] for cost in tricks.values() if not (PACKAGE / cost["file"]).exists()] == []
    assert len(tricks.keys() & apart.TRICKS.keys()) == 1, "of those in other processes, one"
    shown = (ROOT / "docs" / "performance.md").read_text()
    assert names(shown) == [*dict.fromkeys([*tricks, *apart.TRICKS])]
    written = tmp_path / "performance.md"
    written.write_text(shown)
    page.write_tricks(written, figures)
    assert names(written.read_text()) == [*tricks]


def names(text: str) -> list[str]:
    """List the tricks of a page."""
    _, _, part = text.partition("<!-- figures: tricks -->")
    lines = part.partition("<!-- end -->")[0].splitlines()
    return [line.split(" | ")[0].removeprefix("| ") for line in lines if ".py` |" in line]


@pytest.mark.usefixtures("benchmarks")
def test_the_page_takes_figures(results: Path, tmp_path: Path) -> None:
    """Between its markers; the rest of it stays."""
    from benchmarks import page

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
    assert new_rest.count("| copy, 300 rows |") == 1
