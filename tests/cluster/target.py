"""A small Singer target over SQLite, made for being killed.

It stores a STATE only together with the rows before it, and rows now and then without one. It
upserts by key, deletes rows marked `_sdc_deleted_at`, and at ACTIVATE_VERSION drops the rows of
all other versions. At a given line it can signal a process, and kill itself; or it becomes slow
there, so that a run goes on while something happens to the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

ROWS_PER_COMMIT = 1000
SLOW_SECONDS = 0.002  # a line
TABLES = """
create table if not exists rows (
    stream text, key text, version integer, record text, primary key (stream, key));
create table if not exists meta (name text primary key, value text);
"""

Message = dict[str, Any]


class Target:
    """One run of the target."""

    def __init__(self, path: str, states: str, *, merge: bool, prints: bool = False) -> None:
        """Open the database; `states` is keep, behind (one STATE late) or none.

        merge: a column that a record leaves out keeps its value, as in targets that update.
        prints: each state that is stored is printed, as targets do.
        """
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(TABLES)
        self._db.execute("begin")
        self._states = states
        self._merge = merge
        self._prints = prints
        self._keys: dict[str, list[str]] = {}
        self._before: str | None = None
        self._uncommitted = 0
        self._count = {"RECORD": 0, "STATE": 0}

    def take(self, message: Message) -> None:
        """Apply one message."""
        match message["type"]:
            case "RECORD":
                self._record(message)
            case "STATE":
                self._state(json.dumps(message["value"]))
            case "SCHEMA":
                self._keys[message["stream"]] = message["key_properties"]
            case "ACTIVATE_VERSION":
                self._db.execute(
                    "delete from rows where stream = ? and version is not ?",
                    (message["stream"], message["version"]),
                )
            case other:
                raise ValueError(f"a message of type {other}")

    def end(self, last: str) -> None:
        """Store what the run brought, and the type of its last message."""
        self._set("last", last)
        self._set("records", str(self._count["RECORD"]))
        self._set("states", str(self._count["STATE"]))
        self._commit()

    def _record(self, message: Message) -> None:
        stream, record = message["stream"], message["record"]
        self._count["RECORD"] += 1
        if key := self._keys[stream]:
            name = json.dumps([record[column] for column in key])
        else:
            name = f"{message['version']} {record['_sdc_vitess_seq']}"
        if record["_sdc_deleted_at"] is None:
            if self._merge:
                record = {**self._stored(stream, name), **record}
            self._db.execute(
                "insert or replace into rows values (?, ?, ?, ?)",
                (stream, name, message["version"], json.dumps(record)),
            )
        else:
            self._db.execute("delete from rows where stream = ? and key = ?", (stream, name))
        self._uncommitted += 1
        if self._uncommitted >= ROWS_PER_COMMIT:
            self._commit()

    def _stored(self, stream: str, name: str) -> dict[str, Any]:
        sql = "select record from rows where stream = ? and key = ?"
        found = self._db.execute(sql, (stream, name)).fetchone()
        stored: dict[str, Any] = json.loads(found[0]) if found else {}
        return stored

    def _state(self, text: str) -> None:
        self._count["STATE"] += 1
        stored = {"keep": text, "behind": self._before, "none": None}[self._states]
        if stored is not None:
            self._set("state", stored)
        self._before = text
        self._commit()
        if self._prints and stored is not None:
            sys.stdout.write(stored + "\n")
            sys.stdout.flush()

    def _commit(self) -> None:
        self._db.execute("commit")
        self._db.execute("begin")
        self._uncommitted = 0

    def _set(self, name: str, value: str) -> None:
        self._db.execute("insert or replace into meta values (?, ?)", (name, value))


def main() -> None:
    """Read messages until the pipe ends; a line that was cut by a kill is left out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--states", choices=["keep", "behind", "none"], default="keep")
    parser.add_argument("--pid", type=int, help="process to signal at line --at")
    parser.add_argument("--signal", type=int, default=signal.SIGKILL)
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--die", action="store_true", help="be killed at line --at")
    parser.add_argument(
        "--slow", type=Path, help="from line --at on be slow while this file exists"
    )
    parser.add_argument("--merge", action="store_true", help="keep what a record leaves out")
    parser.add_argument("--print", action="store_true", help="print each state that is stored")
    options = parser.parse_args()
    target = Target(options.database, options.states, merge=options.merge, prints=options.print)
    last = ""
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.endswith(b"\n"):
            break
        message = json.loads(line)
        target.take(message)
        last = message["type"]
        if number == options.at:
            if options.pid is not None:
                os.kill(options.pid, options.signal)
            if options.die:
                os.kill(os.getpid(), signal.SIGKILL)
            if options.slow is not None:
                options.slow.touch()
        if options.slow is not None and number >= options.at and options.slow.exists():
            time.sleep(SLOW_SECONDS)
    target.end(last)


if __name__ == "__main__":
    main()
