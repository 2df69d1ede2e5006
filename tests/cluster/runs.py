"""Runs of the tap as a user has them: a process, a real pipe, a target, files between runs."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cluster.compare import Key, by_key, difference
from cluster.source import Source

TAP = Path(sys.executable).with_name("tap-vitess")
DOCTOR = Path(sys.executable).with_name("tap-vitess-doctor")
TARGET = Path(__file__).with_name("target.py")
LONGEST_RUN = 120.0
FIRST_LINES = 60.0


@dataclass(frozen=True, slots=True)
class Kill:
    """What happens in mid-run: a signal to the tap, at a line of its output or after seconds.

    die: the target is killed at that line too. tap: False leaves the tap alone. pid: at that
    line the signal goes to another process instead. slow: from that line on the target is slow,
    while this file exists, which it makes.
    """

    line: int = 0
    seconds: float = 0.0
    signum: int = signal.SIGKILL
    tap: bool = True
    die: bool = False
    pid: int | None = None
    slow: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    tap: int
    target: int
    log: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A tap that ran by itself."""

    code: int
    out: str
    log: str
    seconds: float

    def catalog(self) -> dict[str, Any]:
        """Parse what it has discovered."""
        assert self.code == 0, self.log
        found: dict[str, Any] = json.loads(self.out)
        return found

    def messages(self) -> list[dict[str, Any]]:
        """Parse its output."""
        return [json.loads(line) for line in self.out.splitlines()]


class Pipeline:
    """A tap and the killable target, with the files a user keeps between their runs."""

    def __init__(self, folder: Path, source: Source, **settings: Any) -> None:
        """Write the config; by default all of the test's tables are read."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.source = source
        self.merge = False  # whether the target keeps the columns that a record leaves out
        self.unbuffered = True  # as in most containers: the tap's writes may then be partial
        self._config = folder / "config.json"
        self._state = folder / "state.json"
        self._catalog: Path | None = None
        self._database = folder / "target.sqlite"
        self.write_config(**settings)

    def write_config(self, **settings: Any) -> None:
        """Write the config of the runs that follow."""
        self._config.write_text(json.dumps(self.settings(**settings)))

    def settings(self, **settings: Any) -> dict[str, Any]:
        """Return a config for the source."""
        address = self.source.address
        return {
            "host": address.host,
            "grpc_port": address.grpc_port,
            "mysql_port": address.mysql_port,
            "keyspaces": [address.keyspace],
            "tables": [f"{address.keyspace}.{self.source.prefix}*"],
            "connect_timeout_seconds": 5,
            **settings,
        }

    def stream(self, table: str) -> str:
        """Name a table's stream."""
        return f"{self.source.address.keyspace}-{table}"

    def alone(self, *arguments: str, **settings: Any) -> Finished:
        """Run the tap without a target; settings go on top of the pipeline's."""
        config = self.folder / "alone.json"
        config.write_text(json.dumps({**json.loads(self._config.read_text()), **settings}))
        start = time.monotonic()
        done = subprocess.run(
            [str(TAP), "--config", str(config), *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=LONGEST_RUN,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - start)

    def discover(self) -> dict[str, Any]:
        """Return the catalog of the pipeline's tables."""
        return self.alone("--discover").catalog()

    def use_catalog(self, catalog: Mapping[str, Any]) -> None:
        """Give this catalog to all further runs."""
        self._catalog = self.folder / "catalog.json"
        self._catalog.write_text(json.dumps(catalog))

    def command(self, state: Path | None) -> list[str]:
        """Return the tap's command line."""
        command = [str(TAP), "--config", str(self._config)]
        if self._catalog is not None:
            command += ["--catalog", str(self._catalog)]
        if state is not None:
            command += ["--state", str(state)]
        return command

    def run(self, states: str = "keep", kill: Kill | None = None) -> Outcome:
        """Run tap and target from the target's last STATE."""
        kill = kill or Kill()
        start = time.monotonic()
        log = self.folder / "tap.log"
        with log.open("w") as err:
            tap = subprocess.Popen(
                self.command(self._write_state()),
                stdout=subprocess.PIPE,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1" if self.unbuffered else ""},
            )
            target = self._target(tap, states, kill)
            if kill.seconds:
                _signal_after(target, kill)
                tap.send_signal(kill.signum)
            try:
                codes = target.wait(LONGEST_RUN), tap.wait(30)
            finally:
                tap.kill()
                target.kill()
        return Outcome(codes[1], codes[0], log.read_text(), time.monotonic() - start)

    @contextmanager
    def in_mid_run(self, line: int) -> Iterator[Future[Outcome]]:
        """Hold a run back from a line of its output on, until the block is left.

        The target takes some 450 lines a second meanwhile; the run must outlast the block.
        """
        slow = self.folder / "slow"
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.run, kill=Kill(line=line, tap=False, slow=slow))
            try:
                deadline = time.monotonic() + FIRST_LINES
                while not slow.exists() and not run.done() and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert slow.exists(), f"the run did not come to line {line}"
                yield run
                assert not run.done(), "the run ended before the cluster was changed"
            finally:
                slow.unlink(missing_ok=True)

    def complete(self) -> Outcome:
        """Run to the end; anything but success fails the test."""
        outcome = self.run()
        assert (outcome.tap, outcome.target) == (0, 0), outcome.log
        assert self.meta("last") == "STATE"
        return outcome

    def check(self, table: str, key: Sequence[str]) -> None:
        """Fail unless the target's table equals the source's."""
        differs = difference(self.source.rows(table, key), self.rows(table, key))
        assert not differs, f"{table}: {differs}"

    def rows(self, table: str, key: Sequence[str]) -> dict[Key, dict[str, Any]]:
        """Read the target's table."""
        return by_key(self.records(table), key)

    def records(self, table: str) -> list[dict[str, Any]]:
        """Read the target's table with the columns that the tap adds."""
        texts = self._select("select record from rows where stream = ?", self.stream(table))
        return [json.loads(text) for text in texts]

    def count(self, table: str) -> int:
        """Count the target's rows of a table."""
        return int(
            self._select("select count(*) from rows where stream = ?", self.stream(table))[0]
        )

    def meta(self, name: str) -> str:
        """Read what the target noted: last, records, states, state."""
        found = self._select("select value from meta where name = ?", name)
        return found[0] if found else ""

    def state(self) -> dict[str, Any]:
        """Return the keyspace's bookmark as the target has stored it."""
        bookmarks = json.loads(self.meta("state") or "{}").get("bookmarks", {})
        found: dict[str, Any] = bookmarks.get(f"vitess:{self.source.address.keyspace}", {})
        return found

    def rewrite_state(self, rewrite: Callable[[str], str]) -> None:
        """Change the text of the stored state."""
        text = self.meta("state")
        database = sqlite3.connect(self._database)
        try:
            sql = "update meta set value = ? where name = 'state'"
            assert rewrite(text) != text
            database.execute(sql, (rewrite(text),))
            database.commit()
        finally:
            database.close()

    def is_copied(self) -> bool:
        """Tell whether the stored state knows tables and no unfinished copy."""
        state = self.state()
        return bool(state.get("groups")) and state["copies"] == "{}"

    def _write_state(self) -> Path | None:
        text = self.meta("state")
        if not text:
            return None
        self._state.write_text(text)
        return self._state

    def _select(self, sql: str, argument: str) -> list[str]:
        if not self._database.exists():
            return []
        database = sqlite3.connect(self._database)
        try:
            return [str(value) for (value,) in database.execute(sql, (argument,))]
        finally:
            database.close()

    def _target(
        self, tap: subprocess.Popen[bytes], states: str, kill: Kill
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TARGET), str(self._database), f"--states={states}"]
        command += ["--merge"] if self.merge else []
        if kill.line:
            command += [f"--at={kill.line}", f"--signal={int(kill.signum)}"]
            command += [f"--pid={kill.pid or tap.pid}"] if kill.tap else []
            command += ["--die"] if kill.die else []
            command += [f"--slow={kill.slow}"] if kill.slow else []
        target = subprocess.Popen(command, stdin=tap.stdout)
        _close(tap.stdout)
        return target


def _signal_after(target: subprocess.Popen[bytes], kill: Kill) -> None:
    """Wait; the target ends when the tap does."""
    try:
        target.wait(kill.seconds)
    except subprocess.TimeoutExpired:
        return


def _close(pipe: IO[bytes] | None) -> None:
    """Leave the reading end to the target alone, so that the tap notices when it dies."""
    assert pipe is not None
    pipe.close()
