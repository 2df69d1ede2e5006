"""Logs how far a load is, as the tap does: now and then, and one line for each table at its end.

It counts rows that were read; that they are loaded is logged for each package.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from types import TracebackType
from typing import Self

from tap_vitess.config import Config
from tap_vitess.errors import VitessError
from tap_vitess.records.records import Tally
from tap_vitess.run.progress import Watch, estimated
from tap_vitess.run.state import KeyspaceState
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.vstream import TableRows


class LoadProgress:
    """An observer of `parts_of` that looks at one keyspace after another while it is entered."""

    def __init__(self, config: Config, names: Collection[str]) -> None:
        """Prepare for tables, named `keyspace.table`."""
        self._names = names
        self._watch = Watch(config.progress_seconds, functools.partial(estimated, config))
        self._tallies: dict[str, Tally] = {}

    def __enter__(self) -> Self:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        self._watch.__exit__()

    def begin(self, run: KeyspaceSync, state: KeyspaceState) -> None:
        """Look at this run from now on."""
        self._tallies = {table: Tally() for table in self._tables(run.keyspace)}
        self._watch.begin(run, state)
        self._watch.count(self._tallies)

    def add(self, item: TableRows) -> None:
        """Count rows by what happened to them."""
        counts = item.rows.column("_operation").value_counts().to_pylist()
        found = {count["values"]: count["counts"] for count in counts}
        self._tallies[item.table].add(found, time.monotonic())

    def end(self, run: KeyspaceSync | None, error: VitessError | None) -> None:
        """Sum it up, a line a table."""
        if run is not None:
            names = {table: f"{run.keyspace}.{table}" for table in self._tables(run.keyspace)}
            self._watch.end(names, error)

    def _tables(self, keyspace: str) -> list[str]:
        parted = (name.partition(".") for name in self._names)
        return [table for owner, _, table in parted if owner == keyspace]
