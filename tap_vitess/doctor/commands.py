"""A call of `tap-vitess-doctor`: the preflight report on the command line."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from tap_vitess.config import Config
from tap_vitess.doctor import plan
from tap_vitess.doctor.examine import examine, failed
from tap_vitess.doctor.findings import Finding, exit_code
from tap_vitess.doctor.report import as_json, as_text
from tap_vitess.errors import CatalogError, ConfigError, StateError, VitessError
from tap_vitess.run.state import bookmarks_of
from tap_vitess.settings import config_option, read_config, read_json
from tap_vitess.signals import end_by_signals
from tap_vitess.survey.identity import Key

MOST_JOBS = 100


def run(arguments: Sequence[str] | None = None) -> int:
    """Examine or plan, report on stdout, and return the exit code."""
    end_by_signals()
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.plan is None:
        return _report(_findings(options.config, options.catalog, options.state), options)
    if options.catalog or options.state:
        parser.error("--plan takes no --catalog and no --state: it goes by the settings")
    try:
        made = plan.planned(read_config(options.config, os.environ), options.plan)
    except VitessError as error:
        return _report([failed("plan", error)], options)
    sys.stdout.write((plan.as_json(made) if options.json else plan.as_text(made, _width())) + "\n")
    return 0


def _report(findings: Sequence[Finding], options: argparse.Namespace) -> int:
    sys.stdout.write((as_json(findings) if options.json else as_text(findings, _width())) + "\n")
    return exit_code(findings)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def _findings(sources: Sequence[str], catalog: str | None, state: str | None) -> list[Finding]:
    try:
        config = read_config(sources, os.environ)
    except ConfigError as error:
        return [failed("config", error)]
    findings: list[Finding] = []
    tables, bookmarks = None, None
    try:
        tables = read_catalog(catalog, config) if catalog else None
    except CatalogError as error:
        findings.append(failed("catalog", error))
    try:
        bookmarks = bookmarks_of(read_json(state, StateError)) if state else None
    except StateError as error:
        findings.append(failed("state", error))
    return findings + examine(config, tables, bookmarks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tap-vitess-doctor",
        parents=[config_option()],
        description="Looks at a Vitess as tap-vitess would read it, and reports what a run would "
        "meet. It changes nothing.",
        epilog="Exit code: 0 all is well, 1 there are errors, 3 there are warnings but no errors "
        "(2 is a wrong command line).",
    )
    parser.add_argument("--catalog", metavar="FILE", help="look at the selected tables only")
    parser.add_argument("--state", metavar="FILE", help="look at its bookmarks too")
    parser.add_argument(
        "--plan",
        type=_jobs,
        metavar="JOBS",
        help="instead of a report, propose how to split a keyspace over JOBS jobs, by the sizes "
        "of its tables",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document for machines")
    return parser


def _jobs(text: str) -> int:
    """Read a number of jobs.

    Raises:
        ArgumentTypeError: it is not a number from 1 to `MOST_JOBS`.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_JOBS):
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_JOBS} is expected")
    return int(text)


def read_catalog(path: str, config: Config) -> dict[str, dict[str, Key]]:
    """Read the selected tables of a catalog and their keys, by keyspace.

    Raises:
        CatalogError: it cannot be read, or is not a catalog of this tap.
    """
    found = read_json(path, CatalogError)
    tables: dict[str, dict[str, Key]] = {}
    try:
        for stream in found["streams"]:
            name = stream["tap_stream_id"]
            root = next(m["metadata"] for m in stream["metadata"] if not m["breadcrumb"])
            if root.get("selected", stream.get("selected")) is not False:
                keyspace = root["schema-name"]
                table = config.table_of(keyspace, name) or name
                key = tuple(stream.get("key_properties") or ())
                tables.setdefault(keyspace, {})[table] = key
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise CatalogError(f"{path} is not a catalog of tap-vitess: discover again") from error
    return tables
