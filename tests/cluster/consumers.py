"""A consumer in a process of its own that a test kills, and what its database must hold."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from cluster.compare import difference
from cluster.source import Address, Source, quote
from cluster.writers import Tables

ROOT = Path(__file__).parents[2]
SECONDS = 60.0

Rows = dict[tuple[Any, ...], dict[str, Any]]


class Process:
    """A consumer in a process of its own, with a database that outlives it."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, read: Callable[..., Rows]
    ) -> None:
        """Name the command; `read` reads a table and its key out of the database."""
        self._command = [str(part) for part in command]
        self._log = folder / "log"
        self._read = read
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", *self._command], stderr=log, cwd=ROOT
            )

    def check(self) -> None:
        """Fail, with its log, unless it is running."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        """Kill it, which must have been running."""
        self.check()
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        """Ask it to stop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(20) == 0, self._log.read_text()

    def difference(self, source: Source, tables: Tables) -> str:
        """Describe what differs from the source."""
        found = [
            difference(_of_source(source, table, key), self._read(table, key))
            for table, key in tables
        ]
        return "\n".join(filter(None, found))

    def settle(self, source: Source, tables: Tables) -> None:
        """Run until it is in step, stop it, and look once more."""
        self.start()
        deadline = time.monotonic() + SECONDS
        while (differs := self.difference(source, tables)) and time.monotonic() < deadline:
            self.check()
            time.sleep(0.5)
        self.stop()
        assert not differs, differs
        assert not self.difference(source, tables)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal | date | datetime) else value


def indexed(rows: Sequence[dict[str, Any]], key: Sequence[str]) -> Rows:
    """Index rows by their key."""
    return {tuple(row[name] for name in key): row for row in rows}


def _of_source(source: Source, table: str, key: Sequence[str]) -> Rows:
    rows = source.query(f"select * from {quote(table)}")
    return indexed([{n: _plain(v) for n, v in row.items()} for row in rows], key)


def database_at(path: Path) -> sqlite3.Connection:
    """Open a consumer's database."""
    database = sqlite3.connect(path, timeout=30)
    database.row_factory = sqlite3.Row
    return database


def where(address: Address) -> str:
    """Write an address as a consumer's argument."""
    return f"{address.host}:{address.grpc_port}:{address.mysql_port}"
