"""The mirror, in a keyspace that is not sharded and in one that is: fence, confirm, resume."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cluster.launcher import Cluster
from cluster.runs import TAP, TARGET, Finished, Pipeline
from cluster.source import Address, Source, quote
from cluster.writers import Tables, Writer
from tap_vitess.config import Config
from tap_vitess.errors import FencedError, VitessError
from tap_vitess.mirror.row import Claim, Place, claim, create
from tap_vitess.vtgate.mysql import connect

pytestmark = pytest.mark.cluster

MIRROR = TAP.with_name("tap-vitess-mirror")
ROWS = 6000
LONG = "é" * 3_000_000


def _unsharded(source: Source) -> str:
    names = [next(iter(row.values())) for row in source.query("show vitess_shards")]
    keyspaces = [str(name).rpartition("/")[0] for name in names]
    alone = [name for name in keyspaces if keyspaces.count(name) == 1]
    return alone[0] if alone else pytest.skip("needs a keyspace of one shard")


def _config(address: Address, **more: Any) -> Config:
    return Config.from_settings(
        {
            "host": address.host,
            "grpc_port": address.grpc_port,
            "mysql_port": address.mysql_port,
            **more,
        }
    )


@pytest.fixture
def config(address: Address) -> Config:
    """Return the settings to reach VTGate."""
    return _config(address)


@pytest.fixture(params=["unsharded", "sharded"])
def place(
    request: pytest.FixtureRequest, source: Source, config: Config, prefix: str
) -> Iterator[Place]:
    """Make a mirror's table, and drop it after the test."""
    sharded = request.param == "sharded"
    keyspace = source.address.keyspace if sharded else _unsharded(source)
    made = Place(keyspace, prefix + "mirror", "job")
    create(config, made)
    _wait_known(config, made)
    yield made
    source.execute(f"drop table {quote(keyspace)}.{quote(made.table)}")
    if sharded:
        source.execute(f"alter vschema drop table {quote(made.table)}")


def _wait_known(config: Config, place: Place) -> None:
    """VTGate learns of a VSchema and of a table with a delay."""
    deadline = time.monotonic() + 20
    while True:
        try:
            claim(config, place)
        except VitessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _row(config: Config, place: Place) -> dict[str, Any]:
    with connect(config) as sql:
        sql.use(place.keyspace)
        [row] = sql.query(f"select * from {quote(place.table)} where name = %s", place.name)
    return row


def test_the_newer_claim_wins(config: Config, place: Place) -> None:
    """States of some megabytes come back whole; the older one's writes change nothing."""
    older, _ = claim(config, place)
    older.confirm(LONG)
    older.emit("a")
    older.emit("a")
    newer, confirmed = claim(config, place)
    assert confirmed == LONG
    for write in (older.emit, older.confirm):
        with pytest.raises(FencedError, match="has taken over"):
            write("old")
    newer.emit("b")
    row = _row(config, place)
    assert (row["token"], row["confirmed"], row["emitted"]) == (newer.token, LONG, "b")


def test_many_at_once(config: Config, place: Place, seed: int) -> None:
    """Of runs that begin at the same time one can write, the holder; all others are told."""
    rng = random.Random(seed)
    jobs = 6
    fenced: list[FencedError] = []
    kept: list[Claim] = []
    deadline = time.monotonic() + 60

    def work(pause: float) -> None:
        time.sleep(pause)
        try:
            mine, _ = claim(config, place)
            mine.emit(mine.token)  # all others may have been told already
            while len(fenced) < jobs - 1 and time.monotonic() < deadline:
                mine.emit(mine.token)
            mine.confirm(mine.token)
        except FencedError as error:
            fenced.append(error)
        else:
            kept.append(mine)

    with ThreadPoolExecutor(jobs) as pool:
        for ended in [pool.submit(work, rng.uniform(0, 0.1)) for _ in range(jobs)]:
            ended.result()
    assert (len(fenced), len(kept)) == (jobs - 1, 1)
    row = _row(config, place)
    assert row["confirmed"] == row["emitted"] == row["token"] == kept[0].token


def test_errors_do_not_quote_the_state(config: Config, place: Place, source: Source) -> None:
    """VTGate quotes a refused statement with all its values."""
    mine, _ = claim(config, place)
    table = f"{quote(place.keyspace)}.{quote(place.table)}"
    source.execute(f"alter table {table} modify confirmed varchar(9)")
    with pytest.raises(VitessError, match="Data too long") as error:
        mine.confirm("secretstate" * 9)
    assert "secretstate" not in str(error.value)
    assert "`tap-vitess-mirror ddl` prints" in str(error.value)


def test_a_table_without_a_vindex_on_the_name(source: Source, config: Config, prefix: str) -> None:
    """In a sharded keyspace it is refused, and so is one that is not there."""
    nowhere = Place(source.address.keyspace, prefix + "nowhere", "job")
    with pytest.raises(VitessError, match=r"a table is not there.*tap-vitess-mirror ddl"):
        claim(config, nowhere)
    columns = "name varchar(99), token char(32), started_at datetime, confirmed longtext, "
    columns += "emitted longtext, id int, primary key (name, id)"
    table = source.create("other", columns)
    with pytest.raises(VitessError, match="put its vindex on the column name"):
        claim(config, Place(source.address.keyspace, table, "job"))
    assert source.query(f"select * from {quote(table)}") == []


class Job:
    """The whole pipe, `tap | target | tap-vitess-mirror confirm`, without a file of state."""

    def __init__(self, pipe: Pipeline, place: Place, **settings: Any) -> None:
        self._config = pipe.folder / "mirrored.json"
        self._database = pipe.folder / "target.sqlite"
        self._log = pipe.folder / "mirrored.log"
        mirror = {
            "mirror_keyspace": place.keyspace,
            "mirror_table": place.table,
            "mirror_name": place.name,
            "start_from_mirror": True,
            # The mirror's own table has the prefix of the test's.
            "exclude_tables": [f"*.{place.table}"],
        }
        self._config.write_text(json.dumps(pipe.settings(**mirror, **settings)))

    def run(self, *, kill_at: int = 0) -> tuple[int, int, Finished]:
        """Run it; return the exit codes of the tap and the target, and how `confirm` ended."""
        start = time.monotonic()
        config = ["--config", str(self._config)]
        with self._log.open("w") as log:
            tap = subprocess.Popen([str(TAP), *config], stdout=subprocess.PIPE, stderr=log)
            killing = [f"--at={kill_at}", f"--pid={tap.pid}", f"--signal={int(signal.SIGKILL)}"]
            command = [sys.executable, str(TARGET), str(self._database), "--print"]
            target = subprocess.Popen(
                command + (killing if kill_at else []), stdin=tap.stdout, stdout=subprocess.PIPE
            )
            confirm = subprocess.Popen(
                [str(MIRROR), "confirm", *config],
                stdin=target.stdout,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            for pipe in (tap.stdout, target.stdout):
                assert pipe is not None
                pipe.close()
            try:
                out, _ = confirm.communicate(timeout=120)
                codes = tap.wait(30), target.wait(30)
            finally:
                for process in (tap, target, confirm):
                    process.kill()
        seconds = time.monotonic() - start
        return *codes, Finished(confirm.returncode, out, self._log.read_text(), seconds)


@pytest.mark.parametrize("place", ["unsharded"], indirect=True)
def test_a_pipe_that_keeps_its_state_in_the_mirror_only(
    source: Source,
    pipeline: Callable[..., Pipeline],
    config: Config,
    place: Place,
    seed: int,
) -> None:
    """Killed in mid-copy, with writers running: it goes on from what was confirmed."""
    tables = Tables(source, ROWS, random.Random(seed))
    pipe = pipeline()
    job = Job(pipe, place, checkpoint_seconds=0)
    with Writer(source, tables, seed):
        tap, target, confirm = job.run(kill_at=ROWS // 2)
        assert (tap, target, confirm.code) == (-signal.SIGKILL, 0, 0), confirm.log
        assert json.loads(confirm.out.splitlines()[-1]) == json.loads(
            _row(config, place)["confirmed"]
        )
    tap, target, confirm = job.run()
    assert (tap, target, confirm.code) == (0, 0, 0), confirm.log
    assert "starting from what the mirror" in confirm.log
    assert "copying continues" in confirm.log
    assert int(pipe.meta("records")) < ROWS
    for table, key in tables:
        pipe.check(table, key)
    row = _row(config, place)
    assert json.loads(row["confirmed"]) == json.loads(row["emitted"])
    one = next(iter(source.rows(tables.big, ["id"]).values()))["id"]  # the writer deletes some
    source.execute(f"update {quote(tables.big)} set name = 'x' where id = {one}")
    tap, target, confirm = job.run()
    assert (tap, target, confirm.code) == (0, 0, 0), confirm.log
    assert pipe.meta("records") == "1"


@pytest.mark.parametrize("place", ["unsharded"], indirect=True)
def test_the_older_of_two_runs(
    source: Source,
    pipeline: Callable[..., Pipeline],
    config: Config,
    place: Place,
    seed: int,
) -> None:
    """It ends with an error while the newer one goes on, and the row is the newer one's."""
    Tables(source, ROWS, random.Random(seed))
    mirror = {"mirror_keyspace": place.keyspace, "mirror_table": place.table, "mirror_name": "job"}
    pipe = pipeline(checkpoint_seconds=1, **mirror, exclude_tables=[f"*.{place.table}"])
    with pipe.in_mid_run(500) as older:
        newer = pipe.alone("--catalog", str(_catalog(pipe)))
        assert newer.code == 0, newer.log
    outcome = older.result()
    assert (outcome.tap, outcome.target) == (1, 0), outcome.log
    assert "has taken over from this one" in outcome.log
    assert "Traceback" not in outcome.log
    row = _row(config, place)
    states = [message for message in newer.messages() if message["type"] == "STATE"]
    assert json.loads(row["emitted"]) == states[-1]["value"]


def _catalog(pipe: Pipeline) -> Path:
    path = pipe.folder / "alone-catalog.json"
    path.write_text(json.dumps(pipe.discover()))
    return path


def test_rights(own_cluster: Cluster, source: Source, config: Config, prefix: str) -> None:
    """A user who may only SELECT, INSERT and UPDATE can use the mirror."""
    place = Place(_unsharded(source), prefix + "mirror", "job")
    create(config, place)
    table = f"{quote(place.keyspace)}.{quote(place.table)}"
    tablet = own_cluster.primary(place.keyspace, "0")
    rights = "delete, create, drop, alter, index on *.*"
    app = "'vt_app'@'localhost'"
    own_cluster.mysql(tablet, f"revoke {rights} from {app}")
    try:
        own_cluster.set_globals(tablet, binlog_row_image="FULL")  # which makes new connections
        with pytest.raises(pymysql.MySQLError, match="denied"):
            source.execute(f"delete from {table}")
        older, _ = claim(config, place)
        newer, _ = claim(config, place)
        newer.confirm("{}")
        newer.emit("{}")
        with pytest.raises(FencedError):
            older.emit("{}")
    finally:
        own_cluster.mysql(tablet, f"grant {rights} to {app}")
        own_cluster.set_globals(tablet, binlog_row_image="FULL")
    source.execute(f"drop table {table}")
