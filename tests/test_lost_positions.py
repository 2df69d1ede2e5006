"""Lost positions, tables that cannot be read, and altered tables: whole runs on the sandbox."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.findings import look
from support.shops import insert, write
from support.taps import (
    ImpatientTap,
    Target,
    check,
    discover,
    expected,
    only,
    run,
    settings,
    without_shard,
)

from tap_vitess.doctor.findings import Severity
from tap_vitess.errors import (
    CatalogError,
    HistoryLostError,
    PositionLostError,
    RetriableError,
    ShardsGoneError,
    ValueDecodeError,
    VitessError,
)
from tap_vitess.run.layouts import layout_of
from tap_vitess.run.state import parse
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox


def purge(cluster: Cluster) -> None:
    for shard in cluster.shards("shop"):
        cluster.purge_binlogs("shop", shard)


def drop_old_shards(cluster: Cluster) -> None:
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    cluster.drop_old_shards("shop")


LOSSES: list[tuple[Callable[[Cluster], None], type[VitessError], str]] = [
    (purge, PositionLostError, "shop: the binlogs of shard -80 have been purged: . transactions"),
    (drop_old_shards, ShardsGoneError, "shards that no longer exist"),
]


@pytest.mark.parametrize(("lose", "kind", "words"), LOSSES, ids=["purged", "old shards gone"])
def test_a_lost_position_is_told(
    sandbox: Sandbox,
    lose: Callable[[Cluster], None],
    kind: type[VitessError],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The bookmark stays, the last message is a STATE, and the sentence says what to do, once."""
    config, target = settings(sandbox), Target()
    run(config, target)
    before = target.state["bookmarks"]["vitess:shop"]["groups"]
    write(sandbox.cluster)
    lose(sandbox.cluster)
    write_more(sandbox.cluster)
    with pytest.raises(kind, match=f"{words}.*on_lost_position"):
        run(config, target)
    assert target.messages[-1]["type"] == "STATE"
    assert target.state["bookmarks"]["vitess:shop"]["groups"] == before
    left = [line for line in caplog.messages if " not finished: " in line]
    assert left
    assert not [line for line in left if line.count("shop: ") > 1]


def write_more(cluster: Cluster) -> None:
    insert(cluster, "beta", *range(500, 520))
    cluster.delete("shop", "beta", {"id": b"7"})


@pytest.mark.parametrize("lose", [purge, drop_old_shards])
def test_a_lost_position_is_made_good(sandbox: Sandbox, lose: Callable[[Cluster], None]) -> None:
    """Rows that vanished meanwhile go with the old version."""
    config, target = settings(sandbox, on_lost_position="resync"), Target()
    run(config, target)
    write(sandbox.cluster)
    lose(sandbox.cluster)
    write_more(sandbox.cluster)
    run(config, target)
    check(sandbox, target)
    seen = len(target.messages)
    run(config, target)
    assert {m["type"] for m in target.messages[seen:]} == {"SCHEMA", "STATE"}


@pytest.mark.slow
@pytest.mark.parametrize("lines", range(1, 40, 3))
def test_a_resync_that_is_cut_goes_on(sandbox: Sandbox, lines: int) -> None:
    """At whatever line; the next run need not be told to resync again."""
    config, target = settings(sandbox), Target()
    run(config, target)
    write(sandbox.cluster)
    purge(sandbox.cluster)
    run({**config, "on_lost_position": "resync"}, target, lines=lines)
    write_more(sandbox.cluster)
    try:
        run(config, target)
    except PositionLostError:
        assert lines < 5  # cut before the STATE that says so
        run({**config, "on_lost_position": "resync"}, target)
    check(sandbox, target)


@pytest.mark.timeout(60)
def test_a_state_that_lacks_a_shard(sandbox: Sandbox) -> None:
    """Refused at once, and made good by resync; the shards of a reshard are no loss."""
    config, target = settings(sandbox), Target()
    run(config, target)
    write(sandbox.cluster)
    cut = without_shard(target.state, "80-")
    with pytest.raises(ShardsGoneError, match="shop: the bookmark knows nothing of shard 80-"):
        run(config, target, state=cut)
    run({**config, "on_lost_position": "resync"}, target, state=cut)
    check(sandbox, target)


def test_another_cluster_is_noticed(sandbox: Sandbox) -> None:
    """At once, not after VTGate's 90 s."""
    config, target = settings(sandbox), Target()
    run(config, target)
    for i, shard in enumerate(("-80", "80-")):
        sandbox.cluster.shard("shop", shard).uuid = f"00000000-1111-2222-3333-{i:012d}"
    write(sandbox.cluster)
    with pytest.raises(PositionLostError, match=r"does not know the server .* another cluster"):
        run(config, target)
    run({**config, "on_lost_position": "resync"}, target)
    check(sandbox, target)


@pytest.mark.slow
def test_a_bookmark_ahead_of_the_cluster(sandbox: Sandbox) -> None:
    """As after a restore: it is no run with nothing new, for what is written now would be lost."""
    config, target = settings(sandbox), Target()
    run(config, target)
    bookmark = target.state["bookmarks"]["vitess:shop"]
    group = bookmark["groups"][0]
    ahead = re.sub(r":1-(\d+)", lambda m: f":1-{int(m[1]) + 1000}", group["vgtid"])
    state = {"bookmarks": {"vitess:shop": {**bookmark, "groups": [{**group, "vgtid": ahead}]}}}
    with pytest.raises(PositionLostError, match="lacks 1000 transactions of the bookmark"):
        run(config, target, state=state)
    write(sandbox.cluster)
    run({**config, "on_lost_position": "resync"}, target, state=state)
    check(sandbox, target)


def test_a_bookmark_close_to_being_purged(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning while there is time, by the clock of MySQL."""
    config, target = settings(sandbox), Target()
    purge(sandbox.cluster)
    run(config, target)
    write(sandbox.cluster)
    sandbox.cluster.now = lambda: time.time() + 86_400
    with caplog.at_level(logging.WARNING):
        run(config, target)
    assert "it is close to being purged" in caplog.text
    check(sandbox, target)


@pytest.mark.slow
def test_a_new_bookmark_is_not_close_to_being_purged(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Right after a purge nearly all that MySQL keeps comes after any bookmark."""
    config, target = settings(sandbox), Target()
    run(config, target)
    write(sandbox.cluster)
    purge(sandbox.cluster)
    run({**config, "on_lost_position": "resync"}, target)
    for number in range(3):
        insert(sandbox.cluster, "alpha", 500 + 2 * number, 501 + 2 * number)
        assert [f for f in look(sandbox, target.state) if f.severity > Severity.INFO] == []
        run(config, target)
    assert "have been purged" in caplog.text
    assert "close to being purged" not in caplog.text
    check(sandbox, target)


# One table that cannot be read does not stop the others


def altered(cluster: Cluster, *columns: Column, statement: str = "alter table alpha") -> None:
    cluster.ddl("shop", statement, Table("alpha", columns, primary_key=("id",)))


ID, NAME = Column("id", "bigint", nullable=False), Column("name", "varchar(20)")


def test_a_table_altered_under_its_changes(sandbox: Sandbox) -> None:
    """Its older changes come without names: it is left behind, or copied again; others go on."""
    config, target = settings(sandbox), Target()
    run(config, target)
    bookmark = target.state["bookmarks"]["vitess:shop"]
    write(sandbox.cluster)
    # What a stream from before would be read with: the state says the table was another one.
    wrong = Table("alpha", (ID, Column("title", "varchar(20)")), primary_key=("id",))
    layouts = json.dumps({"alpha": layout_of(_fields(wrong))})
    state = {"bookmarks": {"vitess:shop": {**bookmark, "layouts": layouts}}}
    with pytest.raises(HistoryLostError, match=r"alpha on shard .* was altered after the bookmark"):
        run(config, target, state=state)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")
    left = parse("shop", target.state["bookmarks"]["vitess:shop"])
    assert left.position_of(frozenset({"alpha"})) == parse("shop", bookmark).groups[0].position
    seen = len(target.messages)
    run({**config, "on_lost_position": "resync"}, target)
    check(sandbox, target)
    copied = {m["stream"] for m in target.messages[seen:] if m["type"] == "ACTIVATE_VERSION"}
    assert copied == {"shop-alpha"}


def _fields(table: Table) -> list[Any]:
    from tap_vitess.sandbox.events import Source

    columns = [column.name for column in table.columns]
    return list(Source("shop", "-80").field_event(table, columns, copying=False).fields)


@pytest.mark.slow
def test_a_value_that_cannot_be_read(sandbox: Sandbox) -> None:
    """The table keeps its place, and is complete once its values are mended."""
    cluster = sandbox.cluster
    config, target = settings(sandbox), Target()
    run(config, target)
    write(cluster)
    cluster.update("shop", "alpha", {"id": b"100"}, {"name": b"\xff\xfe"})
    write_more(cluster)
    with pytest.raises(ValueDecodeError, match=r"shop\.alpha on shard .*, column name") as caught:
        run(config, target)
    assert "xff" not in str(caught.value)
    assert target.contents("shop-beta") == expected(cluster, "shop", "beta")
    assert len(target.state["bookmarks"]["vitess:shop"]["groups"]) == 2
    with pytest.raises(ValueDecodeError):
        run(config, target)
    cluster.update("shop", "alpha", {"id": b"100"}, {"name": b"mended"})
    run({**config, "on_lost_position": "resync"}, target)
    check(sandbox, target)


def test_a_value_that_cannot_be_copied(sandbox: Sandbox) -> None:
    """The other tables are copied and followed."""
    cluster = sandbox.cluster
    cluster.update("shop", "alpha", {"id": b"5"}, {"name": b"\xff\xfe"})
    config, target = settings(sandbox, copy_parallelism=2), Target()
    with pytest.raises(ValueDecodeError, match=r"shop\.alpha"):
        run(config, target)
    assert target.contents("shop-beta") == expected(cluster, "shop", "beta")
    cluster.update("shop", "alpha", {"id": b"5"}, {"name": b"mended"})
    run(config, target)
    check(sandbox, target)


# Altered tables


def schemas(target: Target, stream: str, since: int = 0) -> list[dict[str, Any]]:
    return [
        m["schema"]["properties"]
        for m in target.messages[since:]
        if m["type"] == "SCHEMA" and m["stream"] == stream
    ]


def add_column(cluster: Cluster, name: str, kind: str) -> None:
    altered(
        cluster, ID, NAME, Column(name, kind), statement=f"alter table alpha add column {name} x"
    )


def test_a_new_column_is_brought(sandbox: Sandbox) -> None:
    """The SCHEMA comes before the first record that has it; with an old catalog, too."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    run(config, target, catalog=catalog)
    insert(sandbox.cluster, "alpha", 300)
    add_column(sandbox.cluster, "size", "int")
    sandbox.cluster.insert("shop", "alpha", [{"id": b"301", "name": b"x", "size": b"9"}])
    seen = len(target.messages)
    run(config, target, catalog=catalog)
    before, after = schemas(target, "shop-alpha", seen)
    assert "size" not in before
    assert after["size"] == {"type": ["integer", "null"]}
    records = {r["id"]: r for r in target.records("shop-alpha")}
    assert records[301]["size"] == 9
    assert "size" not in records[300]
    order = [m for m in target.messages[seen:] if m.get("stream") == "shop-alpha"]
    at = next(i for i, m in enumerate(order) if m.get("record", {}).get("id") == 301)
    assert "size" in order[at - 1]["schema"]["properties"]


def test_a_table_that_was_empty_is_altered_twice(sandbox: Sandbox) -> None:
    """Its copy has told its columns without a row: the ALTERs leave what came between right."""
    config, target = settings(sandbox), Target()
    cluster = sandbox.cluster
    run(config, target)
    seen = len(target.messages)
    size = Column("size", "int")

    def alter(statement: str, *columns: Column) -> None:
        made = Table("empty", (ID, *columns), primary_key=("id",))
        cluster.ddl("shop", f"alter table empty {statement}", made)

    alter("add column size int", NAME, size)
    cluster.insert("shop", "empty", [{"id": b"1", "name": b"a", "size": b"2"}])
    alter("modify name varchar(60)", Column("name", "varchar(60)"), size)
    run(config, target)
    assert target.contents("shop-empty") == expected(cluster, "shop", "empty")
    assert "ACTIVATE_VERSION" not in {message["type"] for message in target.messages[seen:]}


def test_the_state_tells_what_is_not_the_catalogs(sandbox: Sandbox) -> None:
    """From the run that saw it on, until a catalog says the same."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    told = []
    run(config, target, catalog=catalog)
    told.append(altered_in_state(target))
    add_column(sandbox.cluster, "size", "int")
    sandbox.cluster.insert("shop", "alpha", [{"id": b"301", "name": b"x", "size": b"9"}])
    for _ in range(2):
        run(config, target, catalog=catalog)
        told.append(altered_in_state(target))
    run(config, target, catalog=discover(config))
    told.append(altered_in_state(target))
    size = {"alpha": {"size": {"type": ["integer", "null"]}}}
    assert told == [{}, size, size, {}]


@pytest.mark.parametrize("turn", range(3))
def test_an_alter_and_a_reshard_in_one_backlog(sandbox: Sandbox, turn: int) -> None:
    """The new shards' rows, which come with the end of the old ones', have the new columns."""
    del turn  # how the responses come together is a matter of luck
    config, target, cluster = settings(sandbox), Target(), sandbox.cluster
    run(config, target)
    renamed = "alter table alpha rename column name to title"
    altered(cluster, ID, Column("title", "varchar(20)"), statement=renamed)
    for first in (300, 400):
        rows = [{"id": b"%d" % i, "title": b"x"} for i in range(first, first + 20)]
        cluster.insert("shop", "alpha", rows)
        if first == 300:
            cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    assert run(config, target)
    found = {record["id"] for record in target.records("shop-alpha")}
    assert found >= {*range(300, 320), *range(400, 420)}


def altered_in_state(target: Target) -> Any:
    [state] = [m["value"] for m in target.messages if m["type"] == "STATE"][-1:]
    return json.loads(state["bookmarks"]["vitess:shop"]["altered"])


def test_a_new_column_goes_through_stream_maps(sandbox: Sandbox) -> None:
    """The maps are made anew for it."""
    maps = {"shop-alpha": {"shout": "name.upper()"}}
    config, target = settings(sandbox, stream_maps=maps), Target()
    run(config, target)
    add_column(sandbox.cluster, "size", "int")
    sandbox.cluster.insert("shop", "alpha", [{"id": b"301", "name": b"x", "size": b"9"}])
    catalog = discover(settings(sandbox))
    for stream in catalog["streams"]:
        stream["schema"]["properties"].pop("size", None)
        stream["metadata"] = [m for m in stream["metadata"] if "size" not in m["breadcrumb"]]
    run(config, target, catalog=catalog)
    [record] = [r for r in target.records("shop-alpha") if r["id"] == 301]
    assert (record["shout"], record["size"]) == ("X", 9)
    assert schemas(target, "shop-alpha")[-1].keys() >= {"shout", "size"}


def test_a_new_column_is_left_out_where_columns_are_chosen(sandbox: Sandbox) -> None:
    """Nobody has said that it may leave the database, and it is not asked for."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == ["properties", "name"]:
                entry["metadata"]["selected"] = False
    run(config, target, catalog=catalog)
    add_column(sandbox.cluster, "secret", "int")
    sandbox.cluster.insert("shop", "alpha", [{"id": b"301", "name": b"x", "secret": b"9"}])
    run(config, target, catalog=catalog)
    [record] = [r for r in target.records("shop-alpha") if r["id"] == 301]
    assert not record.keys() & {"secret", "name"}
    rules = [rule.filter for request in sandbox.requests for rule in request.filter.rules]
    assert not any("secret" in rule for rule in rules)


def test_a_column_of_another_type_becomes_text(sandbox: Sandbox) -> None:
    """From both shards, whichever has been altered."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    run(config, target, catalog=catalog)
    for stream in catalog["streams"]:
        stream["schema"]["properties"]["name"] = {"type": ["integer", "null"]}
    seen = len(target.messages)
    write(sandbox.cluster)
    run(config, target, catalog=catalog)
    assert [s["name"] for s in schemas(target, "shop-alpha", seen)] == [
        {"type": ["integer", "null"]},
        {"type": ["string", "null"]},
    ]
    check(sandbox, target)


def test_an_altered_key_is_an_error_of_its_table(sandbox: Sandbox) -> None:
    """The others go on."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    run(config, target, catalog=catalog)
    write(sandbox.cluster)
    for stream in catalog["streams"]:
        if stream["tap_stream_id"] == "shop-alpha":
            stream["schema"]["properties"]["id"] = {"type": "boolean"}
    with pytest.raises(CatalogError, match="the key column id is a bigint now"):
        run(config, target, catalog=catalog)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")


# What SQL tells


def test_a_table_moved_away_is_named(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """VTGate routes its queries elsewhere, and the stream would say nothing."""
    sandbox.cluster.create_keyspace("other", ["0"])
    sandbox.cluster.routes["shop", "alpha"] = "other"
    config, target = settings(sandbox, keyspaces=["shop"]), Target()
    run(config, target)
    assert "shop.alpha: VTGate routes it to the keyspace other" in caplog.text
    assert "shop.beta: VTGate routes" not in caplog.text


@pytest.mark.slow
def test_throttled_tablets_are_named(sandbox: Sandbox) -> None:
    """A stream that stands still is told with what holds it back."""
    config, target = settings(sandbox), Target()
    run(config, target)
    write(sandbox.cluster)
    shard = sandbox.cluster.shard("shop", "-80")
    shard.throttler, shard.throttled = True, {"vstreamer": 1.0}
    sandbox.faults.append(Fault(stall_after_events=0, times=None))

    class Hurried(ImpatientTap):
        retry = ImpatientTap.retry.__class__(budget=0, stall=1.5)

    with pytest.raises(RetriableError, match="the tablets of shard -80 throttle vstreamer"):
        run(config, target, tap_class=Hurried)
    sandbox.faults.clear()
    run(config, target)
    check(sandbox, target)


def test_left_out_tables_keep_their_layouts(sandbox: Sandbox) -> None:
    """A run without a table does not forget how it looked."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    run(config, target)
    before = parse("shop", target.state["bookmarks"]["vitess:shop"]).layouts
    assert before.keys() == {"alpha", "beta", "empty"}
    write(sandbox.cluster)
    run(config, target, catalog=only(catalog, "shop-beta"))
    assert parse("shop", target.state["bookmarks"]["vitess:shop"]).layouts == before
