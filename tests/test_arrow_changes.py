"""Levels 2 and 3 with rows as Arrow: the same changes, boundaries and states as with objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.library import NAMES, QUICK, KilledError, Store, vitess
from support.shops import SHARDS, TABLES, everything, insert, served, table, three_tables, write
from support.taps import expected

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.vstream import (
    ArrowBatch,
    Boundary,
    Change,
    ConfigError,
    Consumed,
    MemoryState,
    TableCopied,
    TableRows,
    TableSchema,
    arrow_changes,
    changes,
    consume,
)
from tap_vitess.vstream.arrow_reader import FEW_ROWS

Items = list[TableSchema | TableRows | TableCopied | Boundary]


def items(sandbox: Sandbox, names: Any = NAMES, **more: Any) -> Items:
    return list(arrow_changes(vitess(sandbox), names, retry=QUICK, **more))


def last_state(found: Items) -> str:
    [*_, last] = [item for item in found if isinstance(item, Boundary)]
    return last.state


def rows_of(found: Any, name: str) -> list[dict[str, Any]]:
    parts = [item.rows for item in found if isinstance(item, TableRows) and item.name == name]
    return [row for part in parts for row in part.to_pylist()]


def flat(row: dict[str, Any]) -> tuple[Any, ...]:
    """Tell of a row of Arrow's what a Change tells, but for what differs from run to run."""
    own = {name: row.pop(f"_{name}") for name in ("operation", "shard", "commit_time", "unsent")}
    del row["_sequence"], row["_version"]
    present = {n: v for n, v in row.items() if n not in (own["unsent"] or ())}
    return own["operation"], own["shard"], own["commit_time"], present


def same_as_changes(sandbox: Sandbox, names: Any, state: str | None, **settings: Any) -> Items:
    """Read both ways; fail unless they tell the same, in one order a table and shard."""
    place = vitess(sandbox, **settings)
    found = list(arrow_changes(place, names, state=state, retry=QUICK))
    wanted = list(changes(place, names, state=state, retry=QUICK))
    for name in names:
        for shard in SHARDS:
            told = [flat(row) for row in rows_of(found, name) if row["_shard"] == shard]
            assert told == [
                (c.operation, c.shard, c.commit_time, c.before if c.after is None else c.after)
                for c in wanted
                if isinstance(c, Change) and (c.name, c.shard) == (name, shard)
            ]
    copied = [item.name for item in wanted if isinstance(item, TableCopied)]
    assert [item.name for item in found if isinstance(item, TableCopied)] == copied
    return found


def test_a_copy_and_changes(sandbox: Sandbox) -> None:
    """Each operation, by column and one by one; a delete has the row as it was."""
    first = same_as_changes(sandbox, NAMES, None)
    write(sandbox.cluster)
    with sandbox.cluster.transaction("shop"):
        insert(sandbox.cluster, "empty", *range(300, 600))
    found = same_as_changes(sandbox, NAMES, last_state(first))
    gone = [
        (row["id"], row["name"])
        for row in rows_of(found, "shop.alpha")
        if row["_operation"] == "delete"
    ]
    assert sorted(gone) == [(3, "n3"), (4, "n4")]
    assert any(item.rows.num_rows > FEW_ROWS for item in found if isinstance(item, TableRows))


def test_numbers_and_versions(sandbox: Sandbox) -> None:
    """As of changes: numbers rise, across runs too, and the version is that of the copy."""
    first = items(sandbox)
    done = {item.name: item.version for item in first if isinstance(item, TableCopied)}
    assert done.keys() == NAMES.keys()
    write(sandbox.cluster)
    second = items(sandbox, state=last_state(first))
    numbers = []
    for item in [*first, *second]:
        if isinstance(item, TableRows):
            assert set(item.rows["_version"].to_pylist()) == {item.version} == {done[item.name]}
            numbers += item.rows["_sequence"].to_pylist()
    assert numbers == sorted(set(numbers))


def test_the_schema_is_told_first(sandbox: Sandbox) -> None:
    """Before the first row and the first boundary, and of a table without a row."""
    found = items(sandbox)
    told = {item.name: item.schema for item in found[:3] if isinstance(item, TableSchema)}
    assert told.keys() == NAMES.keys()
    assert told["shop.empty"].names[:2] == ["id", "name"]
    assert told["shop.empty"].field("id").type == pa.int64()
    assert not any(isinstance(item, TableSchema) for item in found[3:])
    for item in found:
        if isinstance(item, TableRows):
            item.rows.validate(full=True)
            assert item.rows.schema == told[item.name]


def test_a_new_schema_is_told(sandbox: Sandbox) -> None:
    """Before the first batch that has it."""
    state = last_state(items(sandbox))
    insert(sandbox.cluster, "alpha", 49)
    altered = table("alpha", Column("more", "int"))
    sandbox.cluster.ddl("shop", "alter table alpha add column more int", altered)
    sandbox.cluster.insert("shop", "alpha", [{"id": b"50", "name": None, "more": b"7"}])
    known: dict[str, pa.Schema] = {}
    widths = []
    for item in items(sandbox, state=state):
        if isinstance(item, TableSchema):
            known[item.name] = item.schema
        elif isinstance(item, TableRows):
            assert item.rows.schema == known[item.name]
            widths.append("more" in item.rows.schema.names)
    assert widths == [False, True]


@served(everything)
def test_every_kind_of_column(sandbox: Sandbox) -> None:
    """Exactly typed, NULLs too."""
    names = ["shop.types", "shop.documents", "shop.pairs"]
    found = items(sandbox, names, own_columns=())
    rows = {row["id"]: row for row in rows_of(found, "shop.types")}
    full, empty = rows[0], rows[6]
    assert full["price"] == Decimal("0.50")
    assert full["moment"] == datetime.fromisoformat("2024-02-29 23:59:59.123456")
    assert full["big"] == 2**64 - 1
    assert set(empty.values()) == {6, None}
    documents = [row["document"] for row in rows_of(found, "shop.documents")]
    assert documents.count(None) == 1
    assert "null" in documents


def in_default_pool() -> int:
    pool = pa.default_memory_pool()
    assert pool.backend_name != "system", "what tells nothing"
    return int(pool.bytes_allocated())


@served(everything)
def test_values_are_in_the_systems_memory(sandbox: Sandbox) -> None:
    """Of every type, whether they are read by column or one by one."""
    held = [items(sandbox, ["shop.types"])]
    before = in_default_pool()
    held += [items(sandbox, ["shop.types", "shop.documents", "shop.pairs"])]
    assert in_default_pool() == before


def test_geometries_tell_their_crs(sandbox: Sandbox) -> None:
    """As GeoArrow wants it, where the column has one; a value's own SRID is in the value."""
    columns = (
        Column("id", "int"),
        Column("here", "point", srid=4326),
        Column("flat", "polygon", srid=0),
        Column("any", "geometry"),
    )
    sandbox.cluster.create_table("shop", Table("places", columns, primary_key=("id",)))
    point = bytes.fromhex("E6100000 01 01000000 0000000000003440 0000000000002440")
    sandbox.cluster.insert("shop", "places", [{"id": b"1", "here": point, "any": point}])
    for item in items(sandbox, ["shop.places"]):
        schema = item.schema if isinstance(item, TableSchema) else None
        if isinstance(item, TableRows):
            schema = item.rows.schema
            assert item.rows["here"].to_pylist() == item.rows["any"].to_pylist() != [None]
        if schema is not None:
            told = [schema.field(i).metadata for i in range(4)]
            assert told[0] is None
            assert {t[b"ARROW:extension:name"] for t in told[1:]} == {b"geoarrow.wkb"}
            crs = [json.loads(t[b"ARROW:extension:metadata"]) for t in told[1:]]
            assert crs == [{"crs": "EPSG:4326", "crs_type": "authority_code"}, {}, {}]


def test_own_columns(sandbox: Sandbox) -> None:
    """Those that are asked for, in one order; others are errors at once, and so are taken names."""
    found = items(sandbox, own_columns=["shard", "sequence"])
    schemas = [item.schema.names for item in found if isinstance(item, TableSchema)]
    assert schemas == [["id", "name", "_sequence", "_shard"]] * 3
    with pytest.raises(ConfigError, match="there is no colour"):
        items(sandbox, own_columns=["colour"])
    sandbox.cluster.create_table("shop", table("own", Column("_shard", "int")))
    with pytest.raises(ConfigError, match=r"shop\.own has a column _shard"):
        items(sandbox, ["shop.own"])
    assert items(sandbox, ["shop.own"], own_columns=["version"])


def test_partial_images(sandbox: Sandbox) -> None:
    """What the binlog does not carry is fetched, or null and named as unsent."""
    cluster = sandbox.cluster
    columns = (Column("id", "int"), Column("n", "bit(8)"), Column("note", "text"))
    cluster.create_table("shop", Table("t", columns, primary_key=("id",)))
    for name in SHARDS:
        cluster.shard("shop", name).variables["binlog_row_image"] = "NOBLOB"
    cluster.insert(
        "shop", "t", [{"id": b"%d" % i, "n": b"\x00", "note": b"note %d" % i} for i in range(9)]
    )
    state = last_state(items(sandbox, ["shop.t"]))
    for i in range(9):
        cluster.update("shop", "t", {"id": b"%d" % i}, {"n": b"\x01"})
    cluster.delete("shop", "t", {"id": b"3"})
    found = items(sandbox, ["shop.t"], state=state)
    told = {(row["_operation"], row["id"]): row for row in rows_of(found, "shop.t")}
    assert (told["update", 5]["n"], told["update", 5]["note"]) == (1, "note 5")
    assert told["update", 5]["_unsent"] is None
    for gone in (told["update", 3], told["delete", 3]):
        assert (gone["n"], gone["note"], gone["_unsent"]) == (1, None, ["note"])
    omitting = vitess(sandbox, on_partial_image="omit")
    omitted = rows_of(arrow_changes(omitting, ["shop.t"], state=state), "shop.t")
    assert {tuple(row["_unsent"]) for row in omitted} == {("note",)}


# Level 3


class Replica:
    """Tables by name: key -> version and row, as Arrow brings them. fail: see Replica's twin."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, tuple[int, dict[str, Any]]]] = {}
        self.schemas: dict[str, pa.Schema] = {}
        self.batches: list[ArrowBatch] = []
        self.fail: Callable[[str], None] = lambda _: None

    def flush(self, batch: ArrowBatch) -> None:
        self.fail("flush")
        self.batches.append(batch)
        for item in batch.items:
            rows = self.tables.setdefault(item.name, {})
            match item:
                case TableSchema():
                    self.schemas[item.name] = item.schema
                case TableCopied():
                    for key in [k for k, (version, _) in rows.items() if version < item.version]:
                        del rows[key]
                case TableRows():
                    assert item.rows.schema == self.schemas[item.name]
                    self._apply(rows, item.rows.to_pylist())
            self.fail("item")
        self.fail("flushed")

    @staticmethod
    def _apply(rows: dict[int, tuple[int, dict[str, Any]]], found: list[dict[str, Any]]) -> None:
        for row in found:
            if row["_operation"] == "delete":
                rows.pop(row["id"], None)
            else:
                shown = {n: v for n, v in row.items() if not n.startswith("_")}
                rows[row["id"]] = row["_version"], shown

    def check(self, cluster: Cluster) -> None:
        """Fail unless this equals the sandbox."""
        for name in TABLES:
            found = [row for _, row in self.tables.get(f"shop.{name}", {}).values()]
            wanted = expected(cluster, "shop", name)
            assert sorted(found, key=lambda r: r["id"]) == sorted(wanted, key=lambda r: r["id"])


def bring(sandbox: Sandbox, replica: Replica, state: MemoryState, **more: Any) -> Consumed:
    arguments = {"batch_rows": 5, "batch_seconds": 0, "retry": QUICK, "follow": False, **more}
    return consume(vitess(sandbox), NAMES, replica.flush, state, rows="arrow", **arguments)


def test_batches(sandbox: Sandbox) -> None:
    """A table's rows in one piece, and the state behind them."""
    replica, state = Replica(), Store()
    done = bring(sandbox, replica, state, batch_rows=1000, batch_seconds=60)
    assert done.reason == "finished"
    assert done.rows == 24 == sum(part.rows.num_rows for b in replica.batches for part in b.rows)
    assert all(batch.state for batch in replica.batches)
    replica.check(sandbox.cluster)
    write(sandbox.cluster)
    replica.batches.clear()
    bring(sandbox, replica, state, batch_rows=1000, batch_seconds=60)
    replica.check(sandbox.cluster)
    for batch in replica.batches:
        names = [part.name for part in batch.rows]
        assert len(names) == len(set(names)), "a table's rows are one piece"


def test_batches_are_in_the_systems_memory(sandbox: Sandbox) -> None:
    """But for what joining shards makes there, one dictionary a table."""
    replica, state = Replica(), Store()
    insert(sandbox.cluster, "empty", *range(1000, 1300))
    bring(sandbox, replica, state, batch_rows=1000)
    before = in_default_pool()
    insert(sandbox.cluster, "empty", *range(2000, 2300))
    bring(sandbox, replica, state, batch_rows=1000, batch_seconds=60)
    bring(sandbox, replica, Store(), batch_rows=1000, batch_seconds=60)
    assert (
        in_default_pool() - before
        < 1000
        < sum(part.rows.nbytes for part in replica.batches[-1].rows)
    )


@pytest.mark.parametrize("limit", [{"batch_rows": 2}, {"batch_bytes": 2000}])
def test_a_large_transaction_comes_in_parts(sandbox: Sandbox, limit: dict[str, int]) -> None:
    """By rows or by bytes; only the last one carries a state."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state, batch_rows=1000)
    with sandbox.cluster.transaction("shop"):
        insert(sandbox.cluster, "empty", *range(1000, 1300))
    replica.batches.clear()
    bring(sandbox, replica, state, **{"batch_rows": 1000, **limit})
    parts = [batch for batch in replica.batches if batch.state is None]
    assert len(parts) > 4
    for part in parts:
        assert sum(found.rows.num_rows for found in part.rows) <= 20 or "batch_rows" not in limit
        assert sum(found.rows.nbytes for found in part.rows) <= 5000
    replica.check(sandbox.cluster)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(
        st.tuples(
            st.sampled_from(("flush", "item", "flushed", "save", "saved")),
            st.integers(0, 8),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
    cut=st.none() | st.integers(1, 60),
)
def test_killed_anywhere(kills: list[tuple[str, int, bool]], cut: int | None) -> None:
    """Whatever is killed, with lost saves, cut connections and writes between: it converges."""
    with serve(three_tables(), options=Options(copy_rows_per_packet=3)) as sandbox:
        replica, state = Replica(), Store()
        for number, (moment, left, lose) in enumerate(kills):
            countdown = iter(range(left, -1, -1))

            def fail(word: str, moment: str = moment, countdown: Any = countdown) -> None:
                if word == moment and next(countdown, 0) == 0:
                    raise KilledError

            replica.fail = state.fail = fail
            before = state.state
            if cut is not None:
                sandbox.faults.append(Fault(cut_after_events=cut))
            try:
                bring(sandbox, replica, state, batch_rows=3)
            except KilledError:
                event(f"killed at {moment}")
            if lose:
                state.state = before
            if number == 0:
                write(sandbox.cluster)
            sandbox.cluster.delete("shop", "beta", {"id": b"%d" % number})
        replica.fail = state.fail = lambda _: None
        bring(sandbox, replica, state)
        replica.check(sandbox.cluster)


def test_what_cannot_be_asked_for(sandbox: Sandbox) -> None:
    """Rows as Arrow become no classes."""
    place, state = vitess(sandbox), MemoryState()
    with pytest.raises(ConfigError, match="name each with dict"):
        consume(place, {"shop.alpha": Change}, print, state, rows="arrow")
    with pytest.raises(ConfigError, match="batch_bytes: at least 1"):
        consume(place, NAMES, print, state, rows="arrow", batch_bytes=0)
