"""What will not pass is told, soon and as what it is, and no run of it looks like a success."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Address, Source
from cluster.test_doctor import DOCTOR, throttled

pytestmark = pytest.mark.cluster


def test_a_limit_does_not_hide_a_stream_that_stands_still(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """The throttler holds VStream back: a run with max_run_seconds ends with exit code 1."""
    table = source.create("held", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(1, "a"), (2, "b")])
    pipe = pipeline(max_run_seconds=14)
    pipe.complete()
    with throttled(own_cluster, "vstreamer"):
        source.insert(table, ["id", "v"], [(3, "c")])
        held = pipe.run()
        assert (held.tap, held.target) == (1, 0), held.log
        assert "max_run_seconds was reached, and the change stream" in held.log
    pipe.complete()
    pipe.check(table, ["id"])


@pytest.fixture
def alone(prefix: str, address: Address, tmp_path: Path) -> Callable[[str], Pipeline]:
    """Return what makes a keyspace's pipeline over one small table."""

    def make(keyspace: str) -> Pipeline:
        with closing(Source(replace(address, keyspace=keyspace), prefix)) as source:
            source.execute(f"create table {prefix}small (id bigint primary key, v varchar(20))")
            source.execute(f"insert into {prefix}small (id, v) values (1, 'a')")
            return Pipeline(tmp_path / "pipeline", source)

    return make


def _examined(pipe: Pipeline) -> list[str]:
    """Return the errors that the doctor tells."""
    path = pipe.folder / "doctor.json"
    path.write_text(json.dumps(pipe.settings()))
    command = [str(DOCTOR), "--json", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = json.loads(done.stdout)["findings"]
    return [finding["what"] for finding in found if finding["severity"] == "error"]


def _check_told(pipe: Pipeline, *words: str) -> None:
    """See that a run and the doctor say so."""
    done = pipe.alone()
    assert done.code == 1, done.log
    [last] = [line for line in done.log.splitlines() if "| CRITICAL" in line]
    assert [word for word in words if word not in last] == [], last
    assert any(words[-1] in error for error in _examined(pipe)), _examined(pipe)


def test_positions_without_gtids(
    own_cluster: Cluster, alone: Callable[[str], Pipeline], tmp_path: Path
) -> None:
    """vttablet follows files, or MySQL has no GTIDs: a sentence that says what VStream needs."""
    own_cluster.keyspace("tapbyfile", "0", VTTABLET_FLAGS="--db_flavor FilePos")
    pipe = alone("tapbyfile")
    _check_told(pipe, "tapbyfile/0", "FilePos/", "set gtid_mode=ON")
    path = own_cluster.folder / "no-gtids.cnf"
    path.write_text((own_cluster.folder / "extra.cnf").read_text() + NO_GTIDS)
    path.chmod(0o644)
    own_cluster.keyspace("tapnogtids", "0", EXTRA_MY_CNF=str(path))
    (tmp_path / "pipeline").rename(tmp_path / "before")
    _check_told(alone("tapnogtids"), "tapnogtids/0", "gtid_mode=OFF", "set gtid_mode=ON")


NO_GTIDS = "gtid_mode=OFF\nenforce_gtid_consistency=OFF\n"


def test_tagged_gtids(own_cluster: Cluster, alone: Callable[[str], Pipeline]) -> None:
    """Vitess opens no stream where MySQL has tagged GTIDs; the way out that is told works."""
    own_cluster.keyspace("taptagged", "0")
    number = own_cluster.primary("taptagged", "0")
    [row] = own_cluster.mysql(number, "select @@global.version as version")
    if tuple(map(int, row["version"].split("-")[0].split("."))) < (8, 3, 0):
        pytest.skip("MySQL has had tags since 8.3")
    pipe = alone("taptagged")
    pipe.complete()
    insert = f"insert into vt_taptagged.{pipe.source.prefix}small values"
    own_cluster.mysql(number, "set gtid_next = 'AUTOMATIC:some_tag'", f"{insert} (2, 'tagged')")
    _check_told(pipe, "taptagged/0", "tagged GTIDs")
    own_cluster.mysql(number, "reset binary logs and gtids", f"{insert} (3, 'after')")
    lost = pipe.run()
    assert (lost.tap, lost.target) == (1, 0), lost.log
    pipe.write_config(on_lost_position="resync")
    pipe.complete()
    assert sorted(record["id"] for record in pipe.records(f"{pipe.source.prefix}small")) == [
        1,
        2,
        3,
    ]
