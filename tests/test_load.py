"""Loads into destinations of dlt's: each has what the source has, whatever was interrupted."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from support.load_kills import Command
from support.loads import Warehouse, config_of, pipeline_of
from support.shops import everything, insert, served, shop, table, three_tables, write

from tap_vitess.dlt import vitess_source
from tap_vitess.dlt.failures import sentence_of
from tap_vitess.dlt.feed import Limits
from tap_vitess.dlt.first import FirstCopy
from tap_vitess.errors import ConfigError, PositionLostError
from tap_vitess.load.commands import working_folder
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import TableRows

OF_OURS = ("_sdc_vitess_op", "_sdc_vitess_shard", "_sdc_vitess_commit_time")
ONE_BY_ONE = Options(copy_rows_per_packet=2)


@pytest.fixture
def duck(sandbox: Sandbox, tmp_path: Path) -> Warehouse:
    return Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)


def truncated(sandbox: Sandbox) -> None:
    sandbox.cluster.ddl("shop", "truncate table alpha", table("alpha"))
    insert(sandbox.cluster, "alpha", 3, 50)


def purged(sandbox: Sandbox) -> None:
    """Delete rows of which nobody will tell."""
    sandbox.cluster.delete("shop", "alpha", {"id": b"1"})
    sandbox.cluster.delete("shop", "beta", {"id": b"2"})
    for shard in sandbox.cluster.shards("shop"):
        sandbox.cluster.purge_binlogs("shop", shard)


def written(sandbox: Sandbox) -> None:
    write(sandbox.cluster)


def nothing(sandbox: Sandbox) -> None:
    """Change nothing."""


STEPS = (nothing, written, truncated, purged)


@pytest.mark.slow
def test_a_copy_and_changes(duck: Warehouse) -> None:
    """Deletes, changed keys, a key deleted and inserted again; each run knows what is there."""
    assert duck.load().rows == 24
    duck.check()
    write(duck.sandbox.cluster)
    assert duck.load().rows == 10
    duck.check()
    assert duck.load().rows == 0
    assert (duck.load().packages, duck.load().rows) == (0, 0)


@pytest.mark.slow
@served(three_tables, options=ONE_BY_ONE)
def test_several_packages(duck: Warehouse) -> None:
    """Each ends at a boundary, with a state that the next run can start from."""
    assert duck.load(Limits(rows=10)).packages > 1
    duck.check()


@pytest.mark.slow
@served(three_tables, options=ONE_BY_ONE)
def test_told_to_stop(duck: Warehouse) -> None:
    """What was read by then is loaded, and the next run resumes."""
    asked = iter([False])  # responses may come together: all rows with the next one
    stopped = duck.load(stop=lambda: next(asked, True))
    assert (stopped.packages, stopped.rows < 24) == (1, True)
    duck.load()
    duck.check()


@pytest.mark.slow
def test_progress(duck: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """As the tap's: what is done, how far and how fast, and a line a table at the end."""
    caplog.set_level("INFO")
    duck.load(progress_seconds=0.0001)
    assert re.search(r"shop(\.\w+)?: (asking|copying|streaming), .*[\d,]+ rows/s", caplog.text)
    assert re.search(r"shop\.alpha: 12 rows copied in \d.\d s; up to date", caplog.text)
    assert "package 1 is loaded, 24 rows so far" in caplog.text
    caplog.clear()
    write(duck.sandbox.cluster)
    duck.load()
    assert re.search(r"shop\.alpha: 3 inserts, 2 deletes in", caplog.text)


def test_one_at_a_time() -> None:
    with (
        working_folder("to", "vitess") as folder,
        pytest.raises(ConfigError, match="another tap-vitess-load is loading into this dataset"),
        working_folder("to", "vitess"),
    ):
        pass
    assert not folder.exists()


@pytest.mark.slow
def test_rows_of_older_versions_go(duck: Warehouse) -> None:
    """After a TRUNCATE, with a lost position, and with resync_tables."""
    duck.load()
    truncated(duck.sandbox)
    duck.load()
    duck.check()
    purged(duck.sandbox)
    with pytest.raises(PositionLostError):
        duck.load()
    duck.load(on_lost_position="resync")
    duck.check()
    assert duck.load(resync_tables=["shop.beta"]).rows == len(duck.rows("beta", "id"))
    duck.check()
    with pytest.raises(ConfigError, match=r"resync_tables: shop.nothing matches no selected table"):
        duck.load(resync_tables=["shop.nothing"])


@pytest.mark.environments
def test_postgres(sandbox: Sandbox, tmp_path: Path, postgres_address: str) -> None:
    warehouse = Warehouse(sandbox, postgres_address, tmp_path)
    for step in STEPS:
        step(sandbox)
        warehouse.load(Limits(rows=10), on_lost_position="resync")
        warehouse.check()


VALUES: dict[str, Any] = {
    "number": -5,
    "big": Decimal(2**64 - 1),
    "price": Decimal("0.50"),
    "ratio": 1e20,
    "flags": Decimal(257),
    "day": date(2024, 2, 29),
    "moment": datetime(2024, 2, 29, 23, 59, 59, 123456),  # noqa: DTZ001 - a DATETIME
    "span": "-838:59:59",
    "year": 2024,
    "text": "ä\n\"'",
    "raw": b"\x00\xff",
    "choice": "a",
}


@pytest.mark.environments
@served(everything)
def test_values(sandbox: Sandbox, tmp_path: Path, postgres_address: str) -> None:
    """Of every kind, and NULLs; an empty text and zero bytes, too, in both destinations."""
    empty = {"id": b"9", "text": b"", "raw": b"", **dict.fromkeys(["number", "day"])}
    sandbox.cluster.insert("shop", "types", [empty])
    for address in (f"duckdb:///{tmp_path}/shop.duckdb", f"{postgres_address}&application_name=x"):
        warehouse = Warehouse(sandbox, address, tmp_path)
        with pipeline_of(address, tmp_path).sql_client() as client:
            client.drop_dataset() if client.has_dataset() else None
        warehouse.load()
        rows = {row[0]: row[1:] for row in warehouse.rows("types", "id", *VALUES)}
        assert rows[0] == tuple(VALUES.values())
        assert set(rows[6]) == {None}
        named = dict(zip(VALUES, rows[9], strict=True))
        assert (named["text"], named["raw"], named["number"]) == ("", b"", None)
        [(stamp,)] = {row[1:] for row in warehouse.rows("types", "id", "stamp") if row[0] < 5}
        assert stamp.astimezone(UTC) == datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
        assert len(warehouse.rows("documents", "id", "document")) == 7


def two_keyspaces() -> Cluster:
    made = three_tables()
    made.create_keyspace("other", ["0"])
    made.create_table("other", table("alpha"))
    return made


@pytest.mark.slow
@served(two_keyspaces)
def test_what_would_be_mixed_up_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """Tables of one name, unless a template tells them apart; what a merge would blank."""
    address = f"duckdb:///{tmp_path}/shop.duckdb"
    cases: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
        ({}, {}, "would both be the table alpha"),
        ({"table_names": "{nothing}"}, {}, "a template of {keyspace} and {table} is expected"),
        ({}, {"tables": ["shop.*"], "on_partial_image": "omit"}, "a merge would put NULL"),
    )
    for manner, settings, words in cases:
        with pytest.raises(PipelineStepFailed) as raised:
            Warehouse(sandbox, address, tmp_path, **manner).load(**settings)
        assert words in sentence_of(raised.value, "duckdb")
    apart = Warehouse(sandbox, address, tmp_path, table_names="{keyspace}_{table}")
    apart.load()
    assert len(apart.rows("shop_alpha", "id")) == 12
    assert apart.rows("other_alpha", "id") == []


@pytest.mark.slow
def test_altered_tables(duck: Warehouse) -> None:
    """A new column is one; another type has a column of its own, as dlt names its variants."""
    duck.load()
    cluster = duck.sandbox.cluster
    cluster.ddl("shop", "alter table alpha add n int", table("alpha", Column("n", "int")))
    cluster.insert("shop", "alpha", [{"id": b"70", "name": b"x", "n": b"7"}])
    duck.load()
    assert (70, "x", 7) in duck.rows("alpha", "id", "name", "n")
    text = table("alpha", Column("n", "varchar(9)"))
    cluster.ddl("shop", "alter table alpha modify n varchar(9)", text)
    cluster.insert("shop", "alpha", [{"id": b"71", "name": b"y", "n": b"seven"}])
    duck.load()
    assert (71, None, "seven") in duck.rows("alpha", "id", "n", "n__v_text")
    wide = table("alpha", Column("n", "bigint"))
    cluster.ddl("shop", "alter table alpha modify n bigint", wide)
    cluster.insert("shop", "alpha", [{"id": b"72", "name": b"z", "n": b"9000000000"}])
    duck.load()
    assert (72, 9_000_000_000) in duck.rows("alpha", "id", "n")


def keyless() -> Cluster:
    made = shop(Table("log", (Column("id", "bigint"), Column("name", "varchar(20)")), ()))
    insert(made, "log", 1, 2)
    return made


@pytest.mark.slow
@served(keyless)
def test_a_table_without_a_key_is_appended_to(duck: Warehouse) -> None:
    duck.load()
    duck.sandbox.cluster.delete("shop", "log", {"id": b"1"})
    duck.load()
    found = duck.rows("log", "id", "_sdc_vitess_op", "_sdc_deleted_at IS NULL")
    assert sorted(found) == [(1, "copy", True), (1, "delete", False), (2, "copy", True)]


@pytest.mark.slow
def test_a_history(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each change is a row, in files, too; a merge needs a table format there."""
    history = Warehouse(sandbox, f"duckdb:///{tmp_path}/h.duckdb", tmp_path, write="append")
    files = Warehouse(sandbox, f"file://{tmp_path}/files", tmp_path, write="append")
    for warehouse in (history, files):
        warehouse.load()
    write(sandbox.cluster)
    for warehouse in (history, files):
        warehouse.load()
        found = [op for _, op in warehouse.rows("alpha", "id", "_sdc_vitess_op")]
        assert len(found) == 12 + 5
        assert found.count("delete") == 2
    merging = Warehouse(sandbox, f"file://{tmp_path}/merged", tmp_path)
    with pytest.raises(Exception, match="files cannot be merged into"):
        merging.load()


@pytest.mark.slow
def test_delta(sandbox: Sandbox, tmp_path: Path) -> None:
    """What Delta cannot do by itself is done here: each key comes once in a package."""
    delta = Warehouse(sandbox, f"file://{tmp_path}/delta", tmp_path, table_format="delta")
    for step in STEPS:
        step(sandbox)
        delta.load(on_lost_position="resync")
        delta.check()


@pytest.mark.slow
def test_dlts_own_way(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipeline.run(vitess_source(...))`, settings in dlt's environment, and its contracts."""
    config = config_of(sandbox)
    monkeypatch.setenv("SOURCES__VITESS__HOST", config.host)
    monkeypatch.setenv("SOURCES__VITESS__GRPC_PORT", str(config.grpc_port))
    monkeypatch.setenv("SOURCES__VITESS__MYSQL_PORT", str(config.mysql_port))
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)
    pipeline = pipeline_of(warehouse.address, tmp_path)
    pipeline.run(vitess_source(tables=["shop.*"]))
    warehouse.check()
    write(sandbox.cluster)
    pipeline.run(vitess_source(tables=["shop.*"]))
    warehouse.check()
    truncated(sandbox)
    pipeline.run(vitess_source(tables=["shop.*"]))
    pipeline.run(vitess_source(tables=["shop.*"]))  # rows of older versions go when it begins
    warehouse.check()
    cluster = sandbox.cluster
    cluster.ddl("shop", "alter table alpha add n int", table("alpha", Column("n", "int")))
    cluster.insert("shop", "alpha", [{"id": b"80", "name": b"x", "n": b"7"}])
    frozen = vitess_source(tables=["shop.*"])
    frozen.schema_contract = "freeze"
    with pytest.raises(PipelineStepFailed, match="frozen"):
        pipeline.run(frozen)
    purged(sandbox)
    before = warehouse.rows("alpha", "id")
    with pytest.raises(PipelineStepFailed, match="have been purged"):
        pipeline.run(vitess_source(tables=["shop.*"]))
    assert warehouse.rows("alpha", "id") == before
    with pytest.raises(ConfigError, match="there is no setting colour"):
        vitess_source(colour="red")


# Some columns


def noted() -> Cluster:
    """Make a shop of notes, on the shards of who has them."""
    columns = (
        Column("id", "bigint", nullable=False),
        Column("owner", "bigint", nullable=False),
        Column("title", "varchar(20)"),
        Column("note", "blob"),
    )
    cluster = shop(Table("notes", columns, primary_key=("id",), vindex=("owner",)))
    for i in range(20):
        note_of(cluster, i)
    return cluster


def note_of(cluster: Cluster, i: int) -> None:
    row = {"id": b"%d" % i, "owner": b"%d" % (i % 7), "title": b"t%d" % i, "note": b"n%d" % i}
    cluster.insert("shop", "notes", [row])


def asked_for(sandbox: Sandbox) -> set[str]:
    """Return the SELECTs of the requests so far, and forget them."""
    found = {rule.filter for request in sandbox.requests for rule in request.filter.rules}
    sandbox.requests.clear()
    return found


@pytest.mark.slow
@served(noted)
def test_only_some_columns(duck: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """Of copies and of changes, with those of the key and the vindex; others are a new copy."""
    some = {"shop.notes": ("title",)}
    for number in (100, 101):
        duck.load(columns=some)
        assert asked_for(duck.sandbox) == {"select `id`, `owner`, `title` from `notes`"}
        assert duck.columns("notes") & {"id", "owner", "title", "note"} == {"id", "owner", "title"}
        present = duck.sandbox.cluster.rows("shop", "notes")
        rows = sorted((int(r["id"] or 0), (r["title"] or b"").decode()) for r in present)
        assert duck.rows("notes", "id", "title") == rows
        note_of(duck.sandbox.cluster, number)
    assert "copied again" not in caplog.text
    duck.load(columns={"shop.notes": ("note",)})
    assert "its filter or its list of columns has changed" in caplog.text
    assert duck.rows("notes", "id", "title", "note")[:2] == [(0, None, b"n0"), (1, None, b"n1")]
    assert len(duck.rows("notes", "id")) == 22


@pytest.mark.slow
@served(noted)
def test_only_some_columns_by_the_command(command: Command, duck: Warehouse) -> None:
    assert command.run("--columns", "shop.notes=title,owner") == 0, command.log()
    assert asked_for(duck.sandbox) == {"select `id`, `owner`, `title` from `notes`"}
    for wrong, words in (
        ("shop.notes=colour", "columns: shop.notes has no column colour"),
        ("shop.nothing=id", "columns: shop.nothing is not a table of those to read"),
    ):
        command.folder.joinpath("shop.duckdb").unlink()
        assert command.run("--columns", wrong) == 1
        assert words in command.log()
    for wrong in ("shop.notes", "=id", "shop.notes=", "shop.notes=,"):
        assert command.run("--columns", wrong) == 2
        assert "expected is, say, shop.orders=id,status" in command.log()


@pytest.mark.slow
@served(noted)
def test_only_some_columns_in_dlts_own_way(sandbox: Sandbox, tmp_path: Path) -> None:
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)
    where: dict[str, Any] = {"grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    columns = {"shop.notes": ["title"]}
    found = vitess_source(sandbox.host, columns=columns, **where)
    pipeline_of(warehouse.address, tmp_path).run(found)
    assert asked_for(sandbox) == {"select `id`, `owner`, `title` from `notes`"}
    assert len(warehouse.rows("notes", "id", "owner", "title")) == 20


@pytest.mark.parametrize("wrong", ["id", [], ""])
def test_wrong_columns(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"columns: shop\.notes: a list of names is expected"):
        vitess_source("localhost", columns={"shop.notes": wrong})


# First copies


def dispositions(warehouse: Warehouse) -> dict[str, Any]:
    """Return how the tables were written last."""
    tables = warehouse.pipeline().default_schema.data_tables()
    return {str(table["name"]): table["write_disposition"] for table in tables}


def execute(warehouse: Warehouse, sql: str) -> None:
    with warehouse.pipeline().sql_client() as client:
        client.execute_sql(sql)


@pytest.mark.slow
def test_a_first_copy_is_appended_and_what_follows_merged(duck: Warehouse) -> None:
    duck.load()
    assert dispositions(duck) == {"alpha": "append", "beta": "append", "empty": "merge"}
    duck.check()
    write(duck.sandbox.cluster)
    duck.load()
    assert dispositions(duck)["alpha"] == "merge"
    duck.check()


@pytest.mark.slow
def test_what_a_killed_run_has_left_is_merged_with(duck: Warehouse) -> None:
    """Rows are there, and no state that counts; one of them has been deleted since."""
    duck.load()
    execute(duck, "DELETE FROM _dlt_loads")
    execute(duck, "DELETE FROM beta")
    duck.sandbox.cluster.delete("shop", "alpha", {"id": b"1"})
    assert duck.load().rows == 23
    assert dispositions(duck) == {"alpha": "merge", "beta": "append", "empty": "merge"}
    duck.check()


REFUSING = """
CREATE SEQUENCE tries;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM nextval('vitess.tries'); RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON vitess.alpha EXECUTE FUNCTION refuse();
"""


@pytest.mark.environments
def test_a_job_that_appends_is_not_repeated(
    sandbox: Sandbox, tmp_path: Path, postgres_address: str
) -> None:
    """Whether a lost connection has stored its rows nobody knows; the next run looks."""
    warehouse = Warehouse(sandbox, postgres_address, tmp_path)
    with pipeline_of(postgres_address, tmp_path).sql_client() as client:
        client.drop_dataset() if client.has_dataset() else None
    warehouse.load()
    execute(warehouse, "TRUNCATE alpha, beta; DELETE FROM _dlt_loads")
    execute(warehouse, REFUSING)
    with pytest.raises(PipelineStepFailed):
        warehouse.load()
    with warehouse.pipeline().sql_client() as client:
        assert client.execute_sql("SELECT last_value FROM tries") == [(1,)]
    execute(warehouse, "DROP TRIGGER refuse ON alpha; DROP FUNCTION refuse; DROP SEQUENCE tries")
    warehouse.load()
    warehouse.check()


def item(ids: list[int], *, version: int = 1, copied: bool = True) -> TableRows:
    """Return rows of the engine."""
    kind = pa.timestamp("s", "UTC")
    time = None if copied else datetime(2026, 1, 2, tzinfo=UTC)
    columns = [pa.array(ids), pa.array([time] * len(ids), kind)]
    rows = pa.RecordBatch.from_arrays(columns, names=["id", "_commit_time"])
    return TableRows("shop", "alpha", version, rows)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([item([1, 2]), item([3])], True),
        ([item([1, 2]), item([2])], False),  # read again after a lost connection
        ([item([1, 2]), item([3], copied=False)], False),
        ([item([1, 2]), item([3], version=2)], False),  # the copy has started over
    ],
)
def test_which_rows_can_be_appended(items: list[TableRows], *, expected: bool) -> None:
    first = FirstCopy(("id",))
    so_far = [first.add(item, item.rows) for item in items]
    assert (all(so_far) and first.is_each_key_once()) is expected


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path) -> Command:
    config = config_of(sandbox)
    where = {"host": config.host, "grpc_port": config.grpc_port, "mysql_port": config.mysql_port}
    return Command(tmp_path, f"duckdb:///{tmp_path}/shop.duckdb", where)


@pytest.mark.slow
def test_the_command(command: Command, duck: Warehouse) -> None:
    """With nothing new it leaves the destination as it is."""
    assert command.run() == 0, command.log()
    assert command.run() == 0
    duck.check()
    before = (command.folder / "shop.duckdb").read_bytes()
    assert command.run() == 0
    assert (command.folder / "shop.duckdb").read_bytes() == before


@pytest.mark.slow
def test_the_command_stays(command: Command, duck: Warehouse) -> None:
    """With --every it loads what comes, until SIGTERM."""
    with command.start("--every", "0.5") as process:
        for packages in (1, 2):
            until = time.monotonic() + 60
            while command.log().count("is loaded") < packages:
                assert time.monotonic() < until, command.log()
                time.sleep(0.1)
            if packages == 1:
                write(duck.sandbox.cluster)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM, command.log()
    duck.check()


SECRET = "swordfish"
BAD = [
    ("nowhere", {}, "dlt has no destination nowhere"),
    ("duckdb:///vitess.duckdb", {}, "give the dataset another name by --dataset"),
    (f"postgresql://me:{SECRET}@localhost:1/x", {}, "postgres: the step sync has failed"),
    ("postgres", {}, "lacks"),
    ("duckdb:///x.duckdb", {"grpc_port": "high"}, "setting grpc_port"),
    ("duckdb:///x.duckdb", {"tables": ["shop.nothing"]}, "matches no table"),
    ("duckdb:///x.duckdb", {"shards": ["-80"]}, "give each a --name"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("address", "settings", "words"), BAD)
def test_bad_input_is_one_sentence(
    command: Command, address: str, settings: dict[str, Any], words: str
) -> None:
    command.address = address.replace("///", f"///{command.folder}/")
    command.settings |= settings
    assert command.run() == 1
    log = command.log()
    assert words in log
    assert SECRET not in log
    assert "Traceback" not in log


def many_rows() -> Cluster:
    return three_tables(90)


@pytest.mark.slow
@served(many_rows, options=Options(copy_rows_per_packet=5))
def test_killed(command: Command, duck: Warehouse) -> None:
    """By SIGKILL, half of the times in the load stage, with writes between: nothing is lost."""
    seed = int(os.environ.get("TAP_VITESS_TEST_SEED") or random.randrange(10**6))
    print(f"TAP_VITESS_TEST_SEED={seed}")
    rng = random.Random(seed)
    command.options = ("--package-rows", "30")
    command.settings["on_lost_position"] = "resync"
    steps = {2: written, 3: truncated, 5: purged}
    for number in range(6):
        steps.get(number, nothing)(duck.sandbox)
        command.kill(rng, "any" if number % 2 else "load", 3)
    assert command.run() == 0, command.log()
    duck.check()
    print(command.happened)
