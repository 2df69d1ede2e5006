"""What will not pass is told, soon and as what it is, and no run of it looks like a success."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import SHARDED
from cluster.launcher import Cluster, Version
from cluster.runs import DOCTOR, TAP, Finished, Pipeline
from cluster.source import Address, Source
from tap_vitess.survey.bookmark import FOLLOWS_OLD_SHARDS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_a_limit_does_not_hide_a_stream_that_stands_still(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """The throttler holds VStream back: a run with max_run_seconds ends with exit code 1."""
    table = source.create("held", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(1, "a"), (2, "b")])
    pipe = pipeline(max_run_seconds=14)
    pipe.complete()
    with own_cluster.throttled(SHARDED, "vstreamer"):
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
    if own_cluster.mysql_version(number) < (8, 3, 0):
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


SOON = 15.0  # seconds between the first line of the log and the last
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})", re.MULTILINE)


def _seconds(log: str) -> float:
    """Return how long a tap took once it had started, by its log."""
    times = [datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f") for text in _TIME.findall(log)]  # noqa: DTZ007
    return (times[-1] - times[0]).total_seconds()


def _discovered(pipe: Pipeline, **settings: Any) -> Finished:
    """Discover with the pipeline's settings, and without its keyspaces."""
    path = pipe.folder / "everywhere.json"
    config = {**pipe.settings(), "tables": [f"*.{pipe.source.prefix}*"], **settings}
    del config["keyspaces"]
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [str(TAP), "--config", str(path), "--discover"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, _seconds(done.stderr))


def test_a_keyspace_that_only_has_replicas(
    own_cluster: Cluster, source: Source, alone: Callable[[str], Pipeline]
) -> None:
    """Left out in seconds, an error where it is named, and read with tablet_type REPLICA."""
    source.create("here", "id bigint primary key")
    own_cluster.keyspace("tapreplicas", "0")
    pipe = alone("tapreplicas")
    table = f"{source.prefix}small"
    own_cluster.replica("tapreplicas", "0")
    primary = own_cluster.primary("tapreplicas", "0")
    own_cluster.kill_tablet(primary, mysql=False)
    own_cluster.run("ctl", "DeleteTablets", "--allow-primary", f"zone1-{primary:010}")
    while any(t["Alias"].endswith(f"{primary}") for t in own_cluster.tablets()):
        time.sleep(0.2)
    found = _discovered(pipe)
    assert found.code == 0, found.log
    assert _seconds(found.log) < SOON
    assert "keyspace tapreplicas is left out: no tablet is a PRIMARY" in found.log
    assert f"{source.address.keyspace}-{source.prefix}here" in found.out
    assert f"tapreplicas-{table}" not in found.out
    named = pipe.alone("--discover")
    assert (named.code, _seconds(named.log) < SOON) == (1, True), named.log
    assert "keyspace tapreplicas: no tablet is a PRIMARY" in named.log
    pipe.write_config(tablet_type="REPLICA")
    pipe.complete()
    assert [record["id"] for record in pipe.records(table)] == [1]
    nowhere = pipe.alone(tablet_type="RDONLY")
    assert (nowhere.code, _seconds(nowhere.log) < SOON) == (1, True), nowhere.log
    assert "no tablet is a RDONLY" in nowhere.log
    catalog = pipe.folder / "replicas.json"
    catalog.write_text(pipe.alone("--discover").out)
    nowhere = pipe.alone("--catalog", str(catalog), tablet_type="RDONLY")
    assert (nowhere.code, _seconds(nowhere.log) < SOON) == (1, True), nowhere.log
    assert "keyspace tapreplicas: no tablet is a RDONLY" in nowhere.log


def test_a_snapshot_keyspace(
    own_cluster: Cluster, source: Source, address: Address, prefix: str, tmp_path: Path
) -> None:
    """Restored from a backup as `vtctldclient` does it: left out, told of, and read."""
    if why := own_cluster.why_no_backups(own_cluster.primary(SHARDED, "-80")):
        pytest.skip(why)
    source.create("here", "id bigint primary key")
    table = f"{prefix}small"

    def make() -> None:
        with closing(Source(replace(address, keyspace="tapbase"), prefix)) as base:
            base.execute(f"create table {table} (id bigint primary key, v varchar(20))")
            base.execute(f"insert into {table} (id, v) values (1, 'a'), (2, 'b')")

    own_cluster.snapshot("tapbase", "tapsnap", make)
    pipe = Pipeline(tmp_path / "snap", source, keyspaces=["tapsnap"], tables=[f"tapsnap.{prefix}*"])
    found = _discovered(pipe)
    assert found.code == 0, found.log
    assert _seconds(found.log) < SOON
    assert "keyspace tapsnap is left out: no tablet is a PRIMARY" in found.log
    assert f"{source.address.keyspace}-{prefix}here" in found.out
    assert f"tapbase-{table}" in found.out
    assert f"tapsnap-{table}" not in found.out
    named = pipe.alone("--discover")
    assert (named.code, _seconds(named.log) < SOON) == (1, True), named.log
    assert "keyspace tapsnap: no tablet is a PRIMARY" in named.log
    pipe.write_config(tablet_type="REPLICA", keyspaces=["tapsnap"], tables=[f"tapsnap.{prefix}*"])
    done = pipe.alone()
    assert done.code == 0, done.log
    records = [message["record"] for message in done.messages() if message["type"] == "RECORD"]
    assert sorted((record["id"], record["v"]) for record in records) == [(1, "a"), (2, "b")]


def test_a_bookmark_from_before_a_reshard(
    own_cluster: Cluster,
    vitess_version: Version,
    address: Address,
    prefix: str,
    tmp_path: Path,
) -> None:
    """Followed from Vitess 20 on; before, told at once, and resync makes it good."""
    own_cluster.keyspace("tapbefore", "-80", "80-")
    with closing(Source(replace(address, keyspace="tapbefore"), prefix)) as source:
        table = source.create("some", "id bigint primary key, v varchar(20)")
        source.insert(table, ["id", "v"], [(i, "a") for i in range(100)])
        pipe = Pipeline(tmp_path / "before", source)
        pipe.complete()
        source.insert(table, ["id", "v"], [(i, "b") for i in range(100, 150)])
        own_cluster.reshard("tapbefore", "-80", "-40", "40-80")
        own_cluster.wait_served("tapbefore")
        source.execute(f"delete from {table} where id < 20")
        if vitess_version < FOLLOWS_OLD_SHARDS:
            told = pipe.run()
            assert (told.tap, told.target) == (1, 0), told.log
            assert _seconds(told.log) < SOON
            assert "shards -80 of the bookmark were resharded, and Vitess 19" in told.log
            assert "up to date" not in told.log
            pipe.write_config(on_lost_position="resync")
        pipe.complete()
        pipe.check(table, ["id"])
