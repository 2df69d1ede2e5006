"""Results as text, beside those of the last time."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Figures: how each is called, and how it is written.
_FIGURES = {
    "late_median_ms": ("the loop is late by, median, ms", "{:,.2f}"),
    "late_99_ms": ("99 of 100 turns by less than, ms", "{:,.2f}"),
    "late_most_ms": ("at most, ms", "{:,.2f}"),
    "ratio": ("of the raw receive", "{:.2f}"),
    "rows_per_second": ("rows/s", "{:,.0f}"),
    "raw_rows_per_second": ("rows/s, raw receive", "{:,.0f}"),
    "parse_rows_per_second": ("rows/s, received and parsed", "{:,.0f}"),
    "cpu_per_million": ("CPU s a million rows", "{:.2f}"),
    "own_cpu_per_million": ("CPU s a million rows, without the start", "{:.2f}"),
    "raw_cpu_per_million": ("CPU s a million rows, raw receive", "{:.2f}"),
    "parse_cpu_per_million": ("CPU s a million rows, received and parsed", "{:.2f}"),
    "wall": ("wall s", "{:.2f}"),
    "cpu": ("CPU s", "{:.2f}"),
    "rss_mb": ("peak memory MB", "{:.0f}"),
    "of_the_first": ("wall, of the first way", "{:.2f}"),
    "with_us": ("CPU µs each, with it", "{:,.3f}"),
    "without_us": ("CPU µs each, without", "{:,.3f}"),
    "times": ("without divided by with", "{:.2f}"),
    "rows_too_many": ("rows too many in the destination", "{:+,}"),
}


def about(host: str | None, *, small: bool) -> Json:
    """Say where and when."""
    packages = ("tap-vitess", "grpcio", "protobuf", "orjson", "singer-sdk", "pyarrow")
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "against": "the replayed sandbox" if host is None else "a real cluster",
        "small": small,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "all_cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def text(results: Json, before: Json) -> str:
    """Return the figures as lines, with the last ones in parentheses."""
    return "\n".join(
        line
        for name, figures in results.items()
        if name != "about"
        for line in _lines(name, figures, before.get(name, {}))
    )


def _lines(title: str, figures: Json, before: Json) -> Iterator[str]:
    own = {name: value for name, value in figures.items() if name in _FIGURES}
    if own:
        yield f"\n{title}"
    for name, value in own.items():
        label, form = _FIGURES[name]
        last = before.get(name)
        beside = f"  (last {form.format(last)}, {value / last - 1:+.0%})" if last else ""
        yield f"  {label:<44}{form.format(value):>10}{beside}"
    for name, value in figures.items():
        if isinstance(value, dict) and name != "about":
            last = before.get(name)
            yield from _lines(f"{title} {name}", value, last if isinstance(last, dict) else {})
