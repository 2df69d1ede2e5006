"""The doctor's report on a real cluster: what it finds there is there."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import SHARDED
from cluster.launcher import Cluster
from cluster.runs import DOCTOR, Pipeline
from cluster.source import Address, Source

pytestmark = pytest.mark.cluster

Report = dict[str, Any]


@pytest.fixture
def examine(address: Address, prefix: str, tmp_path: Path) -> Callable[..., Report]:
    """Return what runs the doctor over the test's tables."""

    def run(state: object = None, plan: int | None = None, **settings: Any) -> Report:
        config = {
            "host": address.host,
            "grpc_port": address.grpc_port,
            "mysql_port": address.mysql_port,
            "keyspaces": [address.keyspace],
            "tables": [f"{address.keyspace}.{prefix}*"],
            **settings,
        }
        (tmp_path / "doctor.json").write_text(json.dumps(config))
        command = [str(DOCTOR), "--json", "--config", str(tmp_path / "doctor.json")]
        if state is not None:
            (tmp_path / "state.json").write_text(json.dumps(state))
            command += ["--state", str(tmp_path / "state.json")]
        command += [] if plan is None else ["--plan", str(plan)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        report: Report = json.loads(done.stdout)
        assert done.returncode == report.get("exit_code", 0)
        return report

    return run


def worse(report: Report, check: str | None = None) -> list[Report]:
    """List what is not ok; an older Vitess is warned of by its version, which is not asked here."""
    return [
        f
        for f in report["findings"]
        if f["severity"] != "ok" and f["check"] == (check or f["check"]) != "version"
    ]


def test_tables_and_state(
    source: Source, pipeline: Callable[..., Pipeline], examine: Callable[..., Report]
) -> None:
    """A table without a key, one with foreign text, and a state that is up to date."""
    good = source.create("good", "id bigint primary key, v varchar(20)")
    bare = source.create("bare", "id bigint, v int")
    text = source.create(
        "text",
        "id bigint primary key, l varchar(9) charset latin1, b varchar(9) collate utf8mb4_bin",
    )
    source.insert(good, ["id", "v"], [(i, "x") for i in range(20)])
    pipe = pipeline()
    assert pipe.run().tap == 0
    state = json.loads(pipe.meta("state"))
    report = examine(state)
    assert {(f["severity"], f["check"], f["table"]) for f in worse(report)} == {
        ("warning", "key", bare),
        ("info", "charset", text),
    }
    assert report["exit_code"] == 3
    before = behind(report)
    assert len(before) > 1
    source.insert(good, ["id", "v"], [(i, "x") for i in range(100, 140)])
    after = behind(examine(state))
    assert all(after[shard] > before[shard] for shard in before)


def behind(report: Report) -> dict[str, int]:
    """Read by how many transactions each shard's bookmark is behind."""
    return {
        f["shard"]: int(re.findall(r"lags by ([\d,]+) transactions", f["what"])[0].replace(",", ""))
        for f in report["findings"]
        if f["check"] == "position"
    }


def test_a_foreign_state(
    source: Source, pipeline: Callable[..., Pipeline], examine: Callable[..., Report]
) -> None:
    """The state of another cluster is told before a run waits 90 s for it."""
    source.create("good", "id bigint primary key, v varchar(20)")
    pipe = pipeline()
    assert pipe.run().tap == 0
    state = json.loads(pipe.meta("state"))
    bookmark = state["bookmarks"][f"vitess:{source.address.keyspace}"]
    vgtid = json.loads(bookmark["groups"][0]["vgtid"])
    shard = vgtid["shard_gtids"][0]
    shard["gtid"] = "MySQL56/00000000-0000-0000-0000-000000000001:1-5"
    bookmark["groups"][0]["vgtid"] = json.dumps(vgtid)
    (found,) = worse(examine(state), "position")
    assert (found["severity"], found["shard"]) == ("error", shard["shard"])
    assert "another cluster" in found["what"]


def test_tablets_that_are_not_there(source: Source, examine: Callable[..., Report]) -> None:
    """No RDONLY anywhere: told for each shard, by tablets and by a stream, and all else too."""
    source.create("good", "id bigint primary key")
    report = examine(tablet_type="RDONLY", connect_timeout_seconds=2)
    errors = [f for f in worse(report) if f["severity"] == "error"]
    assert {f["check"] for f in errors} == {"tablets", "stream", "shard"}
    assert len({f["shard"] for f in errors if f["check"] == "stream"}) > 1
    assert any(f["check"] == "tables" for f in report["findings"])


def test_the_throttler(
    source: Source, own_cluster: Cluster, examine: Callable[..., Report]
) -> None:
    """An app that is held back is named, on every shard."""
    source.create("good", "id bigint primary key")
    assert worse(examine()) == []
    with own_cluster.throttled(SHARDED, "vstreamer"):
        deadline = time.monotonic() + 20
        while len(found := worse(examine(), "throttler")) < 2 and time.monotonic() < deadline:
            time.sleep(0.3)
    assert [f["severity"] for f in found] == ["warning"] * len(found)
    assert len(found) > 1
    assert all("vstreamer" in f["what"] for f in found)


def test_a_plan(
    source: Source, own_cluster: Cluster, examine: Callable[..., Report], tmp_path: Path
) -> None:
    """By each shard's InnoDB: a table that is most of the keyspace is split over the shards.

    Taps with the settings of the jobs bring each row once, and all of them.
    """
    keyspace = source.address.keyspace
    rows = {"large": 6_000, "small": 300, "tiny": 3}
    tables = {name: source.create(name, "id bigint primary key, v blob") for name in rows}
    for name, count in rows.items():
        source.insert(tables[name], ["id", "v"], [(i, "v" * 2_000) for i in range(count)])
    told = Counter[str]()
    for shard in ("-80", "80-"):
        number = own_cluster.primary(keyspace, shard)
        own_cluster.mysql(number, *(f"analyze table vt_{keyspace}.{t}" for t in tables.values()))
        listed = ", ".join(f"'{table}'" for table in tables.values())
        told.update(
            {
                row["name"]: row["size"]
                for row in own_cluster.mysql(
                    number,
                    "select table_name as name, data_length as size from "
                    f"information_schema.tables where table_name in ({listed})",
                )
            }
        )
    plan = examine(plan=3)
    assert (plan["keyspace"], plan["shards"]) == (keyspace, ["-80", "80-"])
    assert plan["bytes"] == told.total()
    assert 6_000 * 2_000 < told[tables["large"]] < 3 * 6_000 * 2_000
    small, large = sorted([tables["small"], tables["tiny"]]), f"{keyspace}.{tables['large']}"
    assert [(sorted(job["tables"]), job["shards"]) for job in plan["jobs"]] == [
        ([tables["large"]], ["-80"]),
        ([tables["large"]], ["80-"]),
        (small, ["-80", "80-"]),
    ]
    assert [job["settings"] for job in plan["jobs"]] == [
        {"tables": [large], "shards": ["-80"]},
        {"tables": [large], "shards": ["80-"]},
        {"exclude_tables": [large]},
    ]
    sizes = [job["bytes"] for job in plan["jobs"]]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes[:2]) < 1.5 * min(sizes[:2]), "hashed ids are spread evenly"
    brought: dict[str, list[int]] = {table: [] for table in tables.values()}
    for number, job in enumerate(plan["jobs"], start=1):
        pipe = Pipeline(tmp_path / f"job{number}", source, **job["settings"])
        pipe.complete()
        for table, ids in brought.items():
            ids += [record["id"] for record in pipe.records(table)]
    for name, count in rows.items():
        assert sorted(brought[tables[name]]) == [*range(count)]
