"""BATCH files: what is in them, when they are named, and what becomes of them.

With the real target-postgres: `test_target_runs.py`.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.shops import insert, served, shop, table
from support.taps import Message, Target, discover, expected, run, settings

from tap_vitess.errors import ConfigError, TargetClosedError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.batch import BatchFolder, BatchOptions
from tap_vitess.singer.output import BufferedWriter

ROWS = 300
ROUNDS = int(os.environ.get("TAP_VITESS_EXAMPLES", "8"))
STREAM = "shop-alpha"


def cluster() -> Cluster:
    made = shop(table("alpha"), table("beta"))
    for name in ("alpha", "beta"):
        insert(made, name, *range(ROWS))
    return made


pytestmark = served(cluster)


@dataclass
class BatchTarget(Target):
    """Loads a file when it is named; keeps what was in each."""

    files: dict[Path, list[dict[str, Any]]] = field(default_factory=dict)

    def _batch(self, message: Message) -> None:
        [url] = message["manifest"]
        path = Path(urlsplit(url).path)
        packed = message["encoding"]["compression"] == "gzip"
        assert path not in self.files
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        self.files[path] = [json.loads(line) for line in content.splitlines()]
        for row in self.files[path]:
            record = {n: v for n, v in row.items() if n != "_sdc_table_version"}
            version = row["_sdc_table_version"]
            self._record({"stream": message["stream"], "record": record, "version": version})

    def types(self, stream: str) -> set[str]:
        return {m["type"] for m in self.messages if m.get("stream") == stream}


def batches(folder: Path | str, *, rows: int = 50, **encoding: str) -> dict[str, Any]:
    kind = {"format": "jsonl", "compression": "gzip", **encoding}
    return {"encoding": kind, "storage": {"root": str(folder)}, "batch_size": rows}


def change(of: Cluster, random: random.Random) -> None:
    """Change, delete and insert rows of both tables; truncate one at times."""
    for name in ("alpha", "beta"):
        there = [row["id"] for row in of.rows("shop", name)]
        for number in random.sample(there, min(len(there), 20)):
            if random.random() < 0.3:
                of.delete("shop", name, {"id": number or b""})
            else:
                of.update(
                    "shop", name, {"id": number or b""}, {"name": b"%x" % random.getrandbits(40)}
                )
        known = {int(number or 0) for number in there}
        insert(of, name, *random.sample(sorted(set(range(1000)) - known), 20))
    if random.random() < 0.3:
        of.ddl("shop", "truncate table beta", None)
        insert(of, "beta", *range(5))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_files_hold(sandbox: Sandbox, tmp_path: Path, compression: str) -> None:
    """Rows as RECORDs have them, and the version that ACTIVATE_VERSION looks at."""
    config = settings(sandbox, batch_config=batches(tmp_path, compression=compression))
    target, plain = BatchTarget(), Target()
    run(config, target)
    run(settings(sandbox), plain)
    assert target.types(STREAM) == {"SCHEMA", "BATCH", "ACTIVATE_VERSION"}
    assert (
        target.contents(STREAM)
        == plain.contents(STREAM)
        == expected(sandbox.cluster, "shop", "alpha")
    )
    assert len([path for path in target.files if "shop-alpha" in path.name]) > 1
    assert all(path.name.endswith("gz") == (compression == "gzip") for path in target.files)
    schemas = {
        of: next(m for m in target_.messages if m["type"] == "SCHEMA" and m["stream"] == STREAM)
        for of, target_ in (("batch", target), ("record", plain))
    }
    added = schemas["batch"]["schema"]["properties"].pop("_sdc_table_version")
    assert added == {"type": ["null", "integer"]}
    assert schemas["batch"] == schemas["record"]
    [activated] = [
        m for m in target.messages if m["type"] == "ACTIVATE_VERSION" and m["stream"] == STREAM
    ]
    versions = {
        row["_sdc_table_version"]
        for path, rows in target.files.items()
        for row in rows
        if "shop-alpha" in path.name
    }
    assert versions == {activated["version"]}


def test_nothing_new_makes_no_file(sandbox: Sandbox, tmp_path: Path) -> None:
    config, target = settings(sandbox, batch_config=batches(tmp_path)), BatchTarget()
    run(config, target)
    before = len(target.files)
    run(config, target)
    assert len(target.files) == before == len(list(tmp_path.iterdir()))


def test_a_stream_with_a_map_has_records(sandbox: Sandbox, tmp_path: Path) -> None:
    """All of one kind in a run: the target would store a BATCH before older RECORDs."""
    maps = {STREAM: {"upper": "name.upper()"}}
    config = settings(sandbox, batch_config=batches(tmp_path), stream_maps=maps)
    target = BatchTarget()
    run(config, target)
    assert target.types(STREAM) == {"SCHEMA", "RECORD", "ACTIVATE_VERSION"}
    assert target.types("shop-beta") == {"SCHEMA", "BATCH", "ACTIVATE_VERSION"}


@pytest.mark.slow
def test_cut_anywhere(sandbox: Sandbox, tmp_path: Path) -> None:
    """What a STATE says has been given: the pipe breaks after any message, and nothing is lost."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    target = BatchTarget()
    for number in range(ROUNDS):
        rows = chance.choice([1, 7, 1000])
        config = settings(
            sandbox,
            batch_config=batches(tmp_path / str(number), rows=rows),
            checkpoint_seconds=chance.choice([0, 60]),
        )
        for _ in range(3):
            if run(config, target, lines=chance.randrange(1, 80)):
                break
        change(sandbox.cluster, chance)
        run(config, target)
        for name in ("alpha", "beta"):
            assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_old_files_go(sandbox: Sandbox, tmp_path: Path, scheme: str) -> None:
    """Those of earlier runs in the same place with the same prefix, and no others."""
    old = "tap-vitess-20200101T000000Z-0123abcd-000001-shop-alpha.jsonl.gz"
    others = [
        f"mine-{old}",
        "tap-vitess-2020.jsonl.gz",
        "tap-vitess-20990101T000000Z-0123abcd-000001-x.jsonl",
    ]
    unread = old.replace("0123abcd", "4567abcd")  # another job, whose copy has run since 2020
    for name in (old, unread, *others):
        (tmp_path / name).touch()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    for name in (old, *others):
        os.utime(tmp_path / name, (long_ago, long_ago))
    config, target = settings(sandbox, batch_config=batches(f"{scheme}{tmp_path}")), BatchTarget()
    run(config, target)
    assert not (tmp_path / old).exists()
    assert all((tmp_path / name).exists() for name in (unread, *others))
    run(config, target)
    assert all(path.exists() for path in target.files)
    run({**config, "batch_keep_hours": 0}, target)
    assert not any(path.exists() for path in target.files)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            {"encoding": {"format": "parquet"}, "storage": {"root": "x"}},
            "set encoding.format to `jsonl`",
        ),
        ({"storage": {"root": "x"}}, "set encoding.format to `jsonl`"),
        ({"encoding": {"format": "jsonl"}}, "set storage.root to"),
        (
            {"encoding": {"format": "jsonl"}, "storage": {"root": "x"}, "batch_size": 0},
            "set batch_size",
        ),
        (
            {"encoding": {"format": "jsonl"}, "storage": {"root": "nope://x"}},
            "nope://x cannot be used",
        ),
        (
            {"encoding": {"format": "jsonl"}, "storage": {"root": __file__}},
            "cannot be used: File exists",
        ),
    ],
)
def test_settings_that_cannot_be(sandbox: Sandbox, setting: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(settings(sandbox, batch_config=setting), BatchTarget())
    assert said in str(caught.value)


def test_a_file_that_cannot_be_written(sandbox: Sandbox, tmp_path: Path) -> None:
    """The run ends, and no STATE says that its rows were given."""
    folder = tmp_path / "batches"

    class Removing(BatchTarget):
        def _batch(self, message: Message) -> None:
            super()._batch(message)
            if folder.exists():
                shutil.rmtree(folder)

    target = Removing()
    assert not run(settings(sandbox, batch_config=batches(folder)), target)
    run(settings(sandbox, batch_config=batches(tmp_path / "other")), target)
    assert target.contents(STREAM) == expected(sandbox.cluster, "shop", "alpha")
    gone = BatchFolder(BatchOptions(str(folder)), BufferedWriter())
    folder.rmdir()
    with pytest.raises(TargetClosedError, match="stream s: a BATCH file cannot be written"):
        gone.put("s", b"{}\n")


def versioned() -> Cluster:
    made = shop(table("alpha", Column("_sdc_table_version", "int")))
    insert(made, "alpha", 1)
    return made


@served(versioned)
def test_a_column_of_the_versions_name(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is refused before the first row, and a deselected one is no obstacle."""
    config = settings(sandbox, batch_config=batches(tmp_path))
    target = BatchTarget()
    with pytest.raises(ConfigError, match="alpha: the column _sdc_table_version has the name"):
        run(config, target)
    assert not target.types(STREAM)
    catalog = discover(config)
    [stream] = catalog["streams"]
    for entry in stream["metadata"]:
        if entry["breadcrumb"] == ["properties", "_sdc_table_version"]:
            entry["metadata"]["selected"] = False
    run(config, target, catalog=catalog)
    assert "BATCH" in target.types(STREAM)
