"""A full copy of 100,000 rows into the real target-jsonl, then incremental runs.

The target is the released one, in a venv of its own. Its files, upserted by key with
`_sdc_deleted_at` respected, equal the source; the state between runs is the one it prints.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.compare import Key, by_key, difference
from cluster.runs import Pipeline
from cluster.source import Source, quote
from cluster.writers import BIG

pytestmark = pytest.mark.cluster

TARGET = "target-jsonl==0.1.4"
ROWS = 100_000
KEY = ("id", "n")


@pytest.fixture(scope="session")
def target_jsonl(request: pytest.FixtureRequest) -> Path:
    """Install the target once, into pytest's cache."""
    cache = request.config.cache
    assert cache is not None
    venv = cache.mkdir(TARGET.replace("==", "-")) / "venv"
    program = venv / "bin" / "target-jsonl"
    if not program.exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(venv)], check=True)
        python = str(venv / "bin" / "python")
        subprocess.run([uv, "pip", "install", "-q", "--python", python, TARGET], check=True)
    return program


@dataclass(slots=True)
class Jsonl:
    """A pipeline into target-jsonl."""

    pipe: Pipeline
    program: Path
    state: Path | None = None

    def run(self) -> float:
        """Run tap and target, keep the state the target prints; return the seconds it took."""
        start = time.monotonic()
        folder = self.pipe.folder
        config = folder / "jsonl.json"
        config.write_text(
            json.dumps({"destination_path": str(folder / "out"), "do_timestamp_file": False})
        )
        log = folder / "tap.log"
        with log.open("w") as err:
            tap = subprocess.Popen(
                self.pipe.command(self.state), stdout=subprocess.PIPE, stderr=err
            )
            target = subprocess.Popen(
                [str(self.program), "--config", str(config)],
                stdin=tap.stdout,
                stdout=subprocess.PIPE,
                stderr=err,
            )
            assert tap.stdout is not None
            tap.stdout.close()
            out, _ = target.communicate(timeout=200)
            codes = tap.wait(30), target.returncode
        assert codes == (0, 0), log.read_text()
        self.state = folder / "state.json"
        self.state.write_bytes(out.splitlines()[-1])
        return time.monotonic() - start

    def lines(self, table: str) -> list[dict[str, Any]]:
        """Read everything the target wrote for a table."""
        path = self.pipe.folder / "out" / f"{self.pipe.stream(table)}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def rows(self, table: str, key: Sequence[str]) -> dict[Key, dict[str, Any]]:
        """Fold the lines: the last one of a key holds, unless it tells of a delete."""
        last = {tuple(line[column] for column in key): line for line in self.lines(table)}
        return by_key((r for r in last.values() if r["_sdc_deleted_at"] is None), key)


def _change(source: Source, table: str) -> None:
    """Insert, update, delete and change keys, in statements that span the shards."""
    name = quote(table)
    columns = ["id", "n", "name", "amount", "at"]
    source.insert(table, columns, [(ROWS + i, 1, "new", "0.10", None) for i in range(500)])
    source.execute(
        f"update {name} set name = 'changed', amount = '-0.05' where id between 100 and 900",
        f"delete from {name} where id between 2000 and 2600",
        f"update {name} set n = n + 1000000 where id between 3000 and 3400",
        f"delete from {name} where id = 3100",
        f"insert into {name} (id, n, name) values (2001, 2001, 'again'), (2002, 7, 'again')",
        f"update {name} set n = 2002 where id = 2002",
    )


@pytest.mark.timeout(600)
def test_full_then_incremental(
    source: Source, pipeline: Callable[..., Pipeline], target_jsonl: Path
) -> None:
    """A full run, an incremental one, and one with nothing new, which brings no RECORD."""
    table = source.create("big", BIG)
    rows = [(i, i, f"name {i} é€😀", f"{i}.{i % 100:02}", None) for i in range(ROWS)]
    source.insert(table, ["id", "n", "name", "amount", "at"], rows)
    jsonl = Jsonl(pipeline(), target_jsonl)

    print(f"full run of {ROWS} rows: {jsonl.run():.1f} s")
    assert not difference(source.rows(table, KEY), jsonl.rows(table, KEY))
    copied = len(jsonl.lines(table))
    assert copied == ROWS

    _change(source, table)
    print(f"incremental run: {jsonl.run():.1f} s")
    differs = difference(source.rows(table, KEY), jsonl.rows(table, KEY))
    assert not differs, differs
    streamed = len(jsonl.lines(table)) - copied
    assert 500 < streamed < 4000, f"{streamed} records for the changes: was it copied again?"

    print(f"run with nothing new: {jsonl.run():.1f} s")
    assert len(jsonl.lines(table)) == copied + streamed
