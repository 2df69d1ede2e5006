"""`python -m benchmarks`: measure, print, compare with the last time, keep."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from benchmarks import page, report
from benchmarks.places import Place, cluster, sandbox
from benchmarks.process import BenchmarkError
from benchmarks.scenarios import SCENARIOS, SMALL, Bench, Scale

RESULTS = Path(".bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios asked for; return the exit code."""
    options = _parser().parse_args(arguments)
    scale = SMALL if options.small else Scale()
    if options.repeats is not None:
        scale = replace(scale, repeats=options.repeats)
    if options.rows is not None:
        scale = replace(scale, pipe_rows=options.rows)
    if options.changes is not None:
        scale = replace(scale, pipe_changes=options.changes)
    scale = replace(scale, pipe_turns=options.turns, pipe_ways=tuple(options.way))
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)  # inherited by what is started
    results: report.Json = {"about": report.about(options.host, small=options.small)}
    try:
        with tempfile.TemporaryDirectory() as directory, _place(options) as place:
            bench = Bench(place, scale, Path(directory))
            for name in options.scenarios or SCENARIOS:
                start = time.monotonic()
                results[name] = getattr(bench, name)()
                print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    for name in {"arrow", "pipe"} & results.keys():
        results[name]["about"] = results["about"]
    last: Path = options.results / ("small.json" if options.small else "last.json")
    before = json.loads(last.read_text()) if last.exists() else {}
    print(report.text(results, before))
    last.parent.mkdir(exist_ok=True)
    last.write_text(json.dumps({**before, **results}, indent=1) + "\n")
    if options.page is not None:
        _write(options.page, results, json.loads(last.read_text()), options.host)
    return 0


def _write(file: Path, results: report.Json, kept: report.Json, host: str | None) -> None:
    """Put figures into the page."""
    if "pipe" in results:
        page.write_pipe(file, results["pipe"])
    if "tricks" in results:
        page.write_tricks(file, results)
    if "arrow" in results and host is not None:
        page.write_arrow(file, results["arrow"])
    if results.keys() - {"about", "arrow", "pipe", "tricks"}:
        page.write(file, kept, "sandbox" if host is None else "cluster")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure tap-vitess against a client that only receives the same bytes.",
    )
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="scenario",
        help=f"of {', '.join(SCENARIOS)}; default all of these. And tricks, each of the "
        "hot path with and without; and pipe, which installs targets",
    )
    parser.add_argument("--small", action="store_true", help="a little of everything, in seconds")
    parser.add_argument(
        "--cpus",
        type=lambda text: {int(number) for number in text.split(",")},
        metavar="N,N",
        help="use these CPUs alone; start Vitess on the others, by taskset",
    )
    parser.add_argument("--repeats", type=int, help="runs of which the median is told")
    parser.add_argument("--rows", type=int, help="of pipe: rows to copy")
    parser.add_argument("--changes", type=int, help="of pipe: changes in the backlog")
    parser.add_argument("--turns", type=int, default=1, help="of pipe: of each way, in turns")
    parser.add_argument(
        "--way",
        action="append",
        default=[],
        metavar="NAME",
        help="of pipe: measure this way, the first of those given being what is compared with; "
        "all if none is given",
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where the figures are kept (%(default)s)"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="put the figures kept into docs/performance.md"
    )
    address = parser.add_argument_group("a real cluster instead of the sandbox")
    address.add_argument("--host", help="VTGate")
    address.add_argument("--grpc-port", type=int, default=15991)
    address.add_argument("--mysql-port", type=int, default=15306)
    address.add_argument("--keyspace", help="tables of the benchmark are made and dropped there")
    return parser


def _place(options: argparse.Namespace) -> AbstractContextManager[Place]:
    if options.host is None:
        return sandbox()
    if options.keyspace is None:
        raise BenchmarkError("a real cluster needs --keyspace")
    return cluster(options.host, options.grpc_port, options.mysql_port, options.keyspace)


if __name__ == "__main__":
    sys.exit(main())
