"""What tells a row from all others of its keyspace: MySQL keeps keys unique within a shard only.

More cases of the last test by hand: TAP_VITESS_EXAMPLES=500, of a seed that is printed.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest
from support.shops import served, shop
from support.taps import Target, discover, expected, run, settings

from tap_vitess.airbyte.catalog import stream_of
from tap_vitess.config import Config, Keys
from tap_vitess.doctor.examine import examine
from tap_vitess.doctor.findings import Finding, Severity
from tap_vitess.errors import HistoryLostError
from tap_vitess.sandbox.cluster import Cluster, DuplicateEntryError, keyspace_id
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.survey.facts import Column as FoundColumn
from tap_vitess.survey.facts import Table as FoundTable
from tap_vitess.survey.identity import Key, doubt, identity, lacking, repeats
from tap_vitess.values.types import DEFAULTS
from tap_vitess.vstream import Change, Vitess, changes

EXAMPLES = int(os.environ.get("TAP_VITESS_EXAMPLES", "0"))

# The decision


@pytest.mark.parametrize(
    ("key", "vindex", "found"),
    [
        (("id",), "customer", ("id", "customer")),
        (("id",), "region, customer", ("id", "region", "customer")),
        (("id",), "CUSTOMER", ("id", "customer")),
        (("customer", "id"), "Customer", ("customer", "id")),
        (("id", "customer"), "region, customer", ("id", "customer", "region")),
        (("id",), "", ("id",)),  # pinned, or a reference table
        (("id",), "a, b", ("id", "a, b")),  # one column, with such a name
        (("id",), None, ("id",)),  # the VSchema lacks the table
        (("id",), "nope", ("id",)),
        (("id",), "region, nope", ("id",)),
        (("id",), "rounded", ("id",)),
        ((), "customer", ()),
        (("my_row_id",), "customer", ("my_row_id", "customer")),
        (("my_row_id",), "", ()),
        (("my_row_id",), None, ()),
        (("my_row_id",), "rounded", ()),
    ],
)
def test_identity(key: Key, vindex: str | None, found: Key) -> None:
    """The key, then the vindex columns that it does not hold, where all of them can be in it."""
    columns = ("id", "customer", "region", "a, b", "rounded", "my_row_id")
    assert identity(key, vindex, columns, ["rounded"], "with_vindex") == found
    if key != ("my_row_id",):
        assert identity(key, vindex, columns, ["rounded"], "primary") == key
    else:  # each shard counts its own rows, whatever anybody sets
        assert identity(key, vindex, columns, ["rounded"], "primary") == found


def test_doubt() -> None:
    """A key that holds the vindex, and no key at all, leave none."""
    assert lacking(("id",), "region, id") == ("region",)
    assert doubt(("id", "Region"), "region, id") is None
    assert doubt((), "region") is None
    assert doubt(("id",), "") is None
    assert "unique within a shard only, as it lacks" in (doubt(("id",), "region") or "")
    assert "the VSchema lacks it" in (doubt(("id",), None) or "")


# Discovery and runs, on a sandbox

AI = Table(
    "ai",
    (Column("id", "bigint", nullable=False), Column("customer", "bigint"), Column("v", "int")),
    ("id",),
    vindex=("customer",),
)


def counted(cluster: Cluster, table: Table, customers: range, first: int = 1) -> None:
    """Insert rows whose key each shard counts from one, or another number."""
    last = {0: first - 1, 1: first - 1}
    for customer in customers:
        row: dict[str, bytes | None] = {"customer": b"%d" % customer}
        half = keyspace_id(table, row)[0] >> 7
        last[half] += 1
        cluster.insert("shop", table.name, [{**row, table.primary_key[0]: b"%d" % last[half]}])


def counting() -> Cluster:
    """Make a sharded keyspace with the table, and one that is not sharded with it."""
    cluster = shop(AI)
    cluster.create_keyspace("main", ["0"])
    cluster.create_table("main", AI)
    counted(cluster, AI, range(20))
    return cluster


pytestmark = served(counting)


def keys_of(catalog: dict[str, Any]) -> dict[str, list[str]]:
    return {stream["tap_stream_id"]: stream["key_properties"] for stream in catalog["streams"]}


def test_the_same_key_on_two_shards(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """No row is lost, nor by the delete of another; the schema and a warning tell of NULL."""
    config, target = settings(sandbox, tables=["shop.*"]), Target()
    catalog = discover(config)
    assert keys_of(catalog) == {"shop-ai": ["id", "customer"]}
    (stream,) = catalog["streams"]
    assert stream["schema"]["properties"]["customer"]["type"] == ["integer", "null"]
    assert stream["schema"]["properties"]["id"]["type"] == "integer"
    assert "shop.ai: the column customer of its vindex is in its key and may be NULL" in caplog.text
    run(config, target)
    assert len(target.contents("shop-ai")) == 20
    cluster = sandbox.cluster
    cluster.delete("shop", "ai", {"id": b"1", "customer": b"0"})
    cluster.insert("shop", "ai", [{"id": b"99", "customer": None, "v": b"1"}])
    cluster.update("shop", "ai", {"id": b"2", "customer": b"3"}, {"customer": b"103"})
    run(config, target)
    assert target.contents("shop-ai") == expected(cluster, "shop", "ai")
    cluster.delete("shop", "ai", {"id": b"99"})
    run(config, target)
    assert target.contents("shop-ai") == expected(cluster, "shop", "ai")


def test_a_key_of_a_shard_alone(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The user may say that keys are unique; the sandbox shows what becomes of it if they are not.

    A catalog of such keys is honoured, with a warning for the table in each run.
    """
    config, target = settings(sandbox, tables=["shop.*"]), Target()
    primary = {**config, "keys": "primary"}
    catalog = discover(primary)
    assert keys_of(catalog) == {"shop-ai": ["id"]}
    run(primary, target, catalog=catalog)
    assert "shard" not in caplog.text
    assert len(target.contents("shop-ai")) < 20
    run(config, target, catalog=catalog)
    assert (
        "shop.ai: its key id is unique within a shard only, as it lacks the primary vindex's "
        "column customer, and rows of several shards with one key become one row in the target"
    ) not in caplog.text, "there was nothing to do"
    counted(sandbox.cluster, AI, range(30, 32), first=50)
    run(config, target, catalog=catalog)
    assert (
        "shop.ai: its key id is unique within a shard only, as it lacks the primary vindex's "
        "column customer, and rows of several shards with one key become one row in the target"
    ) in caplog.text


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (Table("t", AI.columns, ("id",)), ["id"]),
        (Table("t", AI.columns, ("id",), vindex=("v", "customer")), ["id", "v", "customer"]),
        (Table("t", AI.columns, ("id",), role="pinned"), ["id"]),
        (Table("t", AI.columns, ("id",), role="reference"), ["id"]),
        (Table("t", AI.columns, ("id",), role="unlisted"), ["id"]),
        (Table("t", AI.columns, unique_keys=(("id",),), vindex=("v",)), ["id", "v"]),
        (Table("t", AI.columns, vindex=("v",)), []),
    ],
    ids=lambda value: value.role if isinstance(value, Table) else "",
)
def test_keys_by_role(table: Table, key: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Only a table that the VSchema lacks leaves a doubt, and none of an unsharded keyspace."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-"])
    cluster.create_keyspace("main", ["0"])
    for keyspace in ("shop", "main"):
        cluster.create_table(keyspace, table)
    with serve(cluster) as sandbox:
        found = keys_of(discover(settings(sandbox)))
    own = key if not key else ["id"]
    assert found == {"shop-t": key, "main-t": own}
    assert ("shop.t: the VSchema lacks it" in caplog.text) == (table.role == "unlisted")
    assert "main.t: the VSchema" not in caplog.text


def test_a_generated_key(caplog: pytest.LogCaptureFixture) -> None:
    """Each shard counts MySQL's `my_row_id`: with the vindex it is a key, alone it is none."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    cluster.create_keyspace("main", ["0"])
    columns = (Column("my_row_id", "bigint unsigned", nullable=False), Column("customer", "bigint"))
    table = Table("listed", columns, ("my_row_id",), vindex=("customer",))
    cluster.create_table("shop", table)
    cluster.create_table("shop", Table("unlisted", columns, ("my_row_id",), role="unlisted"))
    cluster.create_table("main", Table("t", columns, ("my_row_id",)))
    counted(cluster, table, range(20))
    with serve(cluster) as sandbox:
        for setting in ("with_vindex", "primary"):
            assert keys_of(discover(settings(sandbox, keys=setting))) == {
                "shop-listed": ["my_row_id", "customer"],
                "shop-unlisted": [],
                "main-t": ["my_row_id"],
            }
        assert "shop.unlisted has no primary key" in caplog.text
        target = Target()
        run(settings(sandbox), target)
    assert len(target.contents("shop-listed")) == 20


def test_every_front_end_has_the_key(sandbox: Sandbox) -> None:
    """Airbyte's source-defined key, and the changes of the library."""
    columns = (FoundColumn("id", "int", False, None), FoundColumn("c", "int", True, None))  # noqa: FBT003
    described = stream_of(FoundTable("shop", "ai", columns, ("id", "c"), "c"), DEFAULTS)
    assert described["source_defined_primary_key"] == [["id"], ["c"]]
    assert described["json_schema"]["properties"]["c"]["type"] == ["integer", "null"]
    assert described["json_schema"]["properties"]["id"]["type"] == "integer"

    def keys(setting: Keys) -> list[Any]:
        vitess = Vitess(
            sandbox.host,
            grpc_port=sandbox.grpc_port,
            mysql_port=sandbox.mysql_port,
            keys=setting,
        )
        found = changes(vitess, ["shop.ai"])
        return [dict(item.key) for item in found if isinstance(item, Change)]

    assert {tuple(key) for key in keys("with_vindex")} == {("id", "customer")}
    assert {tuple(key) for key in keys("primary")} == {("id",)}
    assert len({tuple(key.values()) for key in keys("with_vindex")}) == 20
    assert len({tuple(key.values()) for key in keys("primary")}) < 20


@pytest.mark.slow
def test_the_doctor_lists_them(sandbox: Sandbox) -> None:
    """By what is discovered, or by the keys of the catalog given."""

    def found(catalog: dict[str, Key] | None = None, **more: Any) -> list[Finding]:
        config = Config.from_settings(settings(sandbox, tables=["shop.*"], **more))
        examined = examine(config, {"shop": catalog} if catalog else None)
        return [f for f in examined if f.check == "key"]

    (nullable,) = found()
    assert nullable.severity is Severity.WARNING
    assert "may be NULL" in nullable.what
    (primary,) = found(keys="primary")
    assert primary.severity is Severity.INFO
    assert str(primary.place) == "shop.ai"
    (catalogued,) = found({"ai": ("id",)})
    assert catalogued.severity is Severity.WARNING
    assert "its key id is unique within a shard only" in catalogued.what
    sandbox.cluster.create_table("shop", Table("lost", AI.columns, ("id",), role="unlisted"))
    assert [f for f in found() if "VSchema lacks it" in f.what and f.place.table == "lost"]


@pytest.mark.parametrize(
    ("key", "uniques", "repeated"),
    [
        (("id",), [("id",)], False),
        (("ID", "region"), [("id",)], False),
        (("id",), [("n",), ("id",)], False),
        (("id",), [("id", "n")], True),
        (("id",), [], True),
        ((), [], False),
    ],
)
def test_a_key_that_mysql_does_not_keep(key: Key, uniques: list[Key], repeated: bool) -> None:  # noqa: FBT001
    """A key of a catalog that an ALTER has taken away since lets rows become one."""
    assert bool(repeats(key, uniques)) is repeated


def test_a_key_that_was_altered(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The run and the doctor say so; a run with nothing to do asks for nothing."""
    config, target = settings(sandbox, tables=["shop.*"], keys="primary"), Target()
    catalog = discover(config)
    run(config, target, catalog=catalog)
    said = "shop.ai: its key id holds no primary key and no NOT NULL unique key of the table"
    assert said not in caplog.text
    altered = replace(AI, primary_key=("id", "customer"))
    rekeyed = "alter table ai drop primary key, add primary key (id, customer)"
    sandbox.cluster.ddl("shop", rekeyed, altered)
    counted(sandbox.cluster, altered, range(30, 32), first=50)
    run(config, target, catalog=catalog)
    assert said in caplog.text
    found = examine(Config.from_settings(config), {"shop": {"ai": ("id",)}})
    assert [f for f in found if f.check == "key" and "holds no primary key" in f.what]


# Images that do not carry every column

NOTES = Table(
    "notes",
    (
        Column("id", "int", nullable=False),
        Column("customer", "bigint"),
        Column("n", "int"),
        Column("note", "text"),
    ),
    ("id",),
    vindex=("customer",),
)


def partial(table: Table) -> Cluster:
    """Make a cluster that leaves out TEXT that does not change."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    cluster.create_table("shop", table)
    for name in ("-80", "80-"):
        cluster.shard("shop", name).variables["binlog_row_image"] = "NOBLOB"
    rows = [
        {"id": b"%d" % n, "customer": b"%d" % n if n % 3 else None, "n": b"0", "note": b"n%d" % n}
        for n in range(12)
    ]
    cluster.insert("shop", table.name, rows)
    return cluster


def test_values_are_fetched_by_a_key_with_null() -> None:
    """What an image lacks is asked for by the whole key, NULL included."""
    cluster = partial(NOTES)
    with serve(cluster) as sandbox:
        target = Target()
        run(settings(sandbox), target)
        for number in range(12):
            cluster.update("shop", "notes", {"id": b"%d" % number}, {"n": b"1"})
        cluster.delete("shop", "notes", {"id": b"3"})
        run(settings(sandbox), target)
    assert target.contents("shop-notes") == expected(cluster, "shop", "notes")


def test_a_key_column_that_was_not_sent() -> None:
    """An unchanged TEXT is not logged: nothing tells which row is meant, so the table is copied."""
    cluster = partial(Table("notes", NOTES.columns, ("id",), vindex=("note",)))
    with serve(cluster) as sandbox:
        target = Target()
        run(settings(sandbox), target)
        cluster.delete("shop", "notes", {"id": b"3"})
        with pytest.raises(
            HistoryLostError, match="a change does not carry the key column note; set binlog_row"
        ):
            run(settings(sandbox), target)
        run(settings(sandbox, on_lost_position="resync"), target)
    assert target.contents("shop-notes") == expected(cluster, "shop", "notes")


# Any key with any vindex

COLUMNS = (
    Column("id", "bigint", nullable=False),
    Column("k", "int", nullable=False),
    Column("r", "bigint"),
    Column("c", "bigint", nullable=False),
    Column("t", "varchar(9)"),
    Column("v", "int"),
)
OWN_KEYS: tuple[dict[str, Any], ...] = (
    {"primary_key": ("id",)},
    {"primary_key": ("k", "id")},
    {"unique_keys": (("id",),)},
    {"unique_keys": (("id", "k"),)},
)
VINDEXES = (("c",), ("r",), ("t",), ("k",), ("r", "c"), ("c", "k"), ("t", "r"), ("id",))


class World:
    """A table of any key and vindex, written to at random, in a keyspace that is resharded."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        own, vindex = rng.choice(OWN_KEYS), rng.choice(VINDEXES)
        self.table = Table("t", COLUMNS, vindex=vindex, **own)
        self.cluster = Cluster()
        self.cluster.create_keyspace("shop", ["-80", "80-"])
        self.cluster.create_table("shop", self.table)

    def write(self) -> None:
        """Insert, move, change or delete a row; a second row with a shard's key is refused."""
        rng, cluster = self._rng, self.cluster
        rows = cluster.rows("shop", "t")
        kind = rng.choice(["insert", "insert", "move", "update", "delete"])
        try:
            if kind == "insert" or not rows:
                cluster.insert("shop", "t", [{"id": b"%d" % rng.randrange(9), **self._others()}])
                return
            row = {n: value for n, value in rng.choice(rows).items() if n in self._identity}
            if kind == "delete":
                cluster.delete_many("shop", "t", [row])
            elif kind == "update":
                change = {"v": b"%d" % rng.randrange(100)}
                cluster.update_many("shop", "t", [(row, change)])
            else:
                cluster.update_many("shop", "t", [(row, self._others())])
        except DuplicateEntryError:
            pass

    @property
    def _identity(self) -> set[str]:
        return {*self.table.copy_key, *self.table.vindex}

    def _others(self) -> dict[str, bytes | None]:
        rng = self._rng
        return {
            "k": b"%d" % rng.randrange(3),
            "r": rng.choice([None, b"1", b"2", b"3"]),
            "c": b"%d" % rng.randrange(9),
            "t": rng.choice([None, b"a", b"A", b"z"]),
            "v": b"%d" % rng.randrange(100),
        }

    def reshard(self) -> None:
        """Split a shard; two could not be put together where both have a key."""
        for shard, *parts in (("80-", "80-c0", "c0-"), ("-80", "-40", "40-80")):
            if shard in self.cluster.shards("shop"):
                self.cluster.reshard("shop", [shard], parts)
                return

    def twice(self) -> int:
        """Count the rows whose MySQL key another row has as well."""
        keys = [
            tuple(row[n] for n in self.table.copy_key) for row in self.cluster.rows("shop", "t")
        ]
        return len(keys) - len(set(keys))


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * EXAMPLES)
def test_any_vindex() -> None:
    """Whatever moves, goes or is resharded, and wherever a run is cut: the target equals SELECT."""
    number = random.randrange(10**6) if EXAMPLES else 14
    print(f"seed {number}")
    twice = 0
    for example in range(EXAMPLES or 6):
        rng = random.Random(number + example)
        world = World(rng)
        with serve(world.cluster) as sandbox:
            target, config = Target(), settings(sandbox)
            for _ in range(4):
                for _ in range(rng.randrange(25)):
                    world.write()
                if rng.random() < 0.3:
                    world.reshard()
                if rng.random() < 0.4:
                    run(config, target, lines=rng.randrange(2, 40))
                twice += world.twice()
            run(config, target)
        found = target.contents("shop-t")
        assert found == expected(world.cluster, "shop", "t"), (number + example, world.table)
    print(f"rows whose key was on two shards: {twice}")
    assert twice
