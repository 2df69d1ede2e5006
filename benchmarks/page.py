"""The figures of docs/performance.md: tables and plots between its markers, all else left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.plot import Points, svg

Json = dict[str, Any]
BEGIN, END = "<!-- figures: {} -->", "<!-- end -->"
_DESTINATIONS = {"postgres": "Postgres", "duckdb": "DuckDB"}

_RUNS = {
    "copy": "copy, {rows:,} rows",
    "stream": "backlog of {rows:,} changes, 500 a transaction",
    "stream_single": "backlog of {rows:,} changes, 1 a transaction",
    "transaction": "one transaction of {rows:,} rows",
}


def write(page: Path, results: Json, place: str) -> None:
    """Put results into the part of a page that is about one place, sandbox or cluster."""
    _put(page, place, _tables(results))
    if place == "sandbox" and "growth" in results:
        for name, drawing in _plots(results["growth"]):
            (page.parent / f"performance-{name}.svg").write_text(drawing)


def write_pipe(page: Path, figures: Json) -> None:
    """Put the figures of the whole pipe into their part of a page; turns have a part of theirs."""
    _put(page, "turns" if figures["turns"] > 1 else "pipe", _pipe(figures))


def write_arrow(page: Path, figures: Json) -> None:
    """Put the figures of Arrow into their part of a page; some CPUs alone have a part of theirs."""
    about = figures["about"]
    part = "arrow" if _has_all_cores(about) else "arrow, own cores"
    _put(page, part, [_measured(about), *_arrow(figures)])


def write_tricks(page: Path, results: Json) -> None:
    """Put the figures of each trick into their part of a page."""
    _put(page, "tricks", _tricks(results))


def _put(page: Path, part: str, lines: Iterable[str]) -> None:
    text = page.read_text()
    begin = BEGIN.format(part)
    head, found, rest = text.partition(begin)
    if not found:
        raise ValueError(f"{page} has no line {begin}")
    _, _, tail = rest.partition(END)
    tables = "\n".join(lines)
    page.write_text(f"{head}{begin}\n{tables}{END}{tail}")


def _pipe(figures: Json) -> Iterator[str]:
    yield _measured(figures["about"])
    if figures["turns"] > 1:
        yield f"Medians of {figures['turns']} turns.\n"
    labels = {
        "copy": f"copy, {figures['rows']:,} rows",
        "backlog": f"backlog of {figures['changes']:,} changes",
        "nothing": "nothing new",
    }
    for destination, name in _DESTINATIONS.items():
        yield f"| {name} | | wall s | of the first | CPU s | peak memory, MB |"
        yield "|---|---|---|---|---|---|"
        for workload, label in labels.items():
            for way, cost in figures[workload][destination].items():
                wrong = cost["rows_too_many"]
                note = f" ({wrong:+,} rows in the destination: **wrong**)" if wrong else ""
                yield (
                    f"| {label} | {way}{note} | {cost['wall']:.1f} | {cost['of_the_first']:.2f} "
                    f"| {cost['cpu']:.1f} | {cost['rss_mb']:.0f} |"
                )
        yield ""


def _tricks(results: Json) -> Iterator[str]:
    yield _measured(results["about"])
    yield "| | in | CPU µs | without | ratio |"
    yield "|---|---|---|---|---|"
    for what, cost in results["tricks"].items():
        with_, without = (f"{cost[side]:,.4g}" for side in ("with_us", "without_us"))
        yield f"| {what} | `{cost['file']}` | {with_} | {without} | {cost['times']:.2f} |"
    yield ""


def _tables(results: Json) -> Iterator[str]:
    yield _measured(results["about"])
    yield from _figures(results)


def _measured(about: Json) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    told = (
        f"Measured {about['when'][:10]} against {about['against']} on {_cores(about)} of "
        f"{about['cpu']}; Python {about['python']}, {versions}; load of the machine when it began "
        f"{about['load']:.1f}."
    )
    return fill(told, 120, break_on_hyphens=False) + "\n"


def _cores(about: Json) -> str:
    if _has_all_cores(about):
        return f"{about['cores']} cores"
    return f"{about['cores']} of {about['all_cores']} cores"


def _has_all_cores(about: Json) -> bool:
    return bool(about["cores"] == about["all_cores"])


def _figures(results: Json) -> Iterator[str]:
    runs = {name: results[name] for name in _RUNS if name in results}
    if runs:
        yield from _runs_table(runs, results.get("nothing", {}).get("one"))
    yield ""
    if "nothing" in results:
        yield from _nothing(results["nothing"])
    if "growth" in results:
        yield from _growth(results["growth"])


def _runs_table(runs: Json, start: Json | None) -> Iterator[str]:
    yield (
        "| | of the raw receive | rows/s | raw receive, rows/s | CPU s a million rows "
        "| the same without the start | peak memory, MB |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, figures in runs.items():
        label = _RUNS[name].format(rows=int(figures["rows"]))
        own = ""
        if start is not None:
            own = f"{(figures['cpu'] - start['cpu']) / figures['rows'] * 1e6:.1f}"
        yield (
            f"| {label} | {figures['ratio']:.2f} | {figures['rows_per_second']:,.0f} "
            f"| {figures['raw_rows_per_second']:,.0f} | {figures['cpu_per_million']:.1f} "
            f"| {own} | {figures['rss_mb']:.0f} |"
        )


def _arrow(results: Json) -> Iterator[str]:
    start = results["start"]
    yield (
        f"Rows as Arrow, by the library; a start with nothing to do costs {start['cpu']:.2f} CPU s "
        f"and {start['rss_mb']:.0f} MB.\n"
    )
    yield from _runs_table({name: results[name] for name in _RUNS if name in results}, start)
    yield ""


def _nothing(results: Json) -> Iterator[str]:
    yield "| nothing to do | wall s | CPU s | peak memory, MB |"
    yield "|---|---|---|---|"
    for label, name in (("1 table", "one"), (f"{results['tables']} tables", "many")):
        cost = results[name]
        yield f"| {label} | {cost['wall']:.2f} | {cost['cpu']:.2f} | {cost['rss_mb']:.0f} |"
    yield ""


def _growth(growth: Json) -> Iterator[str]:
    for name in ("rows", "columns"):
        yield f"| {name} | CPU s | CPU s a million rows | peak memory, MB |"
        yield "|---|---|---|---|"
        for size, figures in growth[name].items():
            yield (
                f"| {int(size):,} | {figures['cpu']:.2f} | {figures['cpu_per_million']:.1f} "
                f"| {figures['rss_mb']:.0f} |"
            )
        yield f"\n![CPU time against {name}](performance-{name}.svg)\n"
    for name in ("tables", "shards"):
        yield f"| {name} | copy, CPU s | nothing new | a change in each | peak memory, MB |"
        yield "|---|---|---|---|---|"
        for size, runs in growth[name].items():
            most = max(run["rss_mb"] for run in runs.values())
            yield (
                f"| {int(size):,} | {runs['copy']['cpu']:.2f} | {runs['nothing']['cpu']:.2f} "
                f"| {runs['changes']['cpu']:.2f} | {most:.0f} |"
            )
        yield f"\n![CPU time against {name}](performance-{name}.svg)\n"


def _plots(growth: Json) -> Iterator[tuple[str, str]]:
    for name in ("rows", "columns"):
        points = [(int(size), figures["cpu"]) for size, figures in growth[name].items()]
        yield name, svg(f"CPU s of a copy against {name}", name, {"copy": points})
    for name in ("tables", "shards"):
        yield name, svg(f"CPU s of a run against {name}", name, _runs(growth[name]))


def _runs(sizes: Mapping[str, Json]) -> dict[str, Points]:
    kinds = ("copy", "nothing", "changes")
    return {
        kind: [(int(size), runs[kind]["cpu"]) for size, runs in sizes.items()] for kind in kinds
    }
