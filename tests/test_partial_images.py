"""Changes that do not carry every column: recorded ones, and whole runs on the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.recordings import load
from support.shops import served, shop
from support.taps import Target, run, settings

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.config import Config
from tap_vitess.errors import RequestError, VitessError
from tap_vitess.protocol.images import completed, is_partial, nulls, packed, unpacked
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.lookup import Lookup


def changes(name: str) -> Iterator[tuple[binlogdata.RowChange, list[query.Field]]]:
    """Read the changes of a recording, each with its columns."""
    fields: list[query.Field] = []
    for response in load(name).responses:
        for event in response.events:
            if event.HasField("field_event"):
                fields = list(event.field_event.fields)
            for change in event.row_event.row_changes:
                yield change, fields


def known(name: str) -> list[tuple[list[bytes | None], set[str]]]:
    found = []
    for change, fields in changes(name):
        if change.HasField("after"):
            assert is_partial(change)
            row, unknown = completed(change, fields, "here")
            found.append(([v and v[:30] for v in unpacked(row, len(fields), "here")], set(unknown)))
    return found


def test_noblob() -> None:
    """Columns of (id, body json, txt, bin, n): an unchanged TEXT or BLOB is unknown."""
    body = b'{"a": 1, "tags": ["x"]}'
    assert known("binlog_row_image_noblob")[:2] == [
        ([b"1", body, None, None, b"2"], {"txt", "bin"}),
        ([b"1", body, b"new", None, b"2"], {"bin"}),
    ]


def test_a_minimal_image_left_over() -> None:
    """The key is taken from the before image."""
    assert known("binlog_row_image_minimal") == [
        ([b"1", None, None, None, b"3"], {"body", "txt", "bin"}),
    ]


def test_partial_json() -> None:
    """An empty value is the document as it was; a template is not known here."""
    found = known("binlog_partial_json")
    assert {frozenset(unknown) for _, unknown in found} <= {frozenset(), frozenset({"body"})}
    for (change, fields), (row, unknown) in zip(changes("binlog_partial_json"), found, strict=True):
        body = [field.name for field in fields].index("body")
        sent = unpacked(change.after, len(fields), "here")[body]
        assert ("body" in unknown) == bool(sent)
        if not sent:
            assert row[body] == (unpacked(change.before, len(fields), "here")[body] or b"")[:30]


def test_nulls_of_a_before_image() -> None:
    """They are NULL, or were not sent."""
    fields = [query.Field(name="a"), query.Field(name="b")]
    assert nulls(packed([b"", None]), fields, "here") == {"b"}


# Whole runs


def without_blobs() -> Cluster:
    """Make a table in a MySQL that leaves out TEXT and BLOB that do not change."""
    columns = (Column("id", "int"), Column("n", "int"), Column("note", "text"))
    cluster = shop(Table("t", columns, primary_key=("id",)))
    for shard in cluster.all_shards("shop"):
        shard.variables["binlog_row_image"] = "NOBLOB"
    insert(cluster, *range(20))
    return cluster


pytestmark = served(without_blobs)


def insert(cluster: Cluster, *numbers: int) -> None:
    rows = [{"id": b"%d" % i, "n": b"0", "note": b"note %d" % i} for i in numbers]
    cluster.insert("shop", "t", rows)


def change(cluster: Cluster) -> None:
    """Change rows so that most images lack the note."""
    for i in range(10):
        cluster.update("shop", "t", {"id": b"%d" % i}, {"n": b"1"})
    cluster.update("shop", "t", {"id": b"3"}, {"note": b"another"})
    cluster.update("shop", "t", {"id": b"4"}, {"id": b"104"})
    cluster.update("shop", "t", {"id": b"5"}, {"note": None})
    for i in (6, 7):
        cluster.delete("shop", "t", {"id": b"%d" % i})


def follow(sandbox: Sandbox, **changed: Any) -> Target:
    """Copy, change, and stream the changes."""
    config = settings(sandbox, **changed)
    target = Target()
    run(config, target)
    change(sandbox.cluster)
    run(config, target, state=target.state)
    return target


def test_a_vector_is_fetched_as_bytes(sandbox: Sandbox) -> None:
    """What MySQL calls a VECTOR, PyMySQL reads as ASCII; see tests/cluster for the real thing."""
    asked = "cast(`v` as binary) as c0"
    sandbox.faults.append(Fault(refused=(asked, 1105, "it was asked so")))
    fields = [
        query.Field(name=n, column_type=t) for n, t in {"id": "int", "v": "vector(3)"}.items()
    ]
    lookup = Lookup(Config.from_settings(settings(sandbox)), "shop")
    with pytest.raises(VitessError, match="it was asked so"):
        lookup.fetch("t", fields, [{"id": b"1"}], {"v"})


def test_what_was_not_sent_is_fetched(sandbox: Sandbox) -> None:
    """The target equals the source; rows that are gone meanwhile are told of by their delete."""
    target = follow(sandbox)
    rows = {row["id"]: row for row in target.contents("shop-t")}
    assert rows.keys() == {*range(20), 104} - {4, 6, 7}
    for number, row in rows.items():
        note = {3: "another", 5: None, 104: "note 4"}.get(number, f"note {number}")
        assert row == {"id": number, "n": int(number < 10 or number == 104), "note": note}
    late = [r for r in target.records("shop-t") if r["_sdc_vitess_op"] == "update"]
    assert {r["id"] for r in late if "note" not in r} == {4, 6, 7}  # the stream tells later
    gone = [r for r in target.records("shop-t") if r["_sdc_vitess_op"] == "delete"]
    assert len(gone) == 3
    assert not any("note" in record for record in gone)  # a delete's image lacks it, too


def test_what_was_not_sent_is_left_out(sandbox: Sandbox) -> None:
    """Absent, and never null."""
    target = follow(sandbox, on_partial_image="omit")
    updates = [r for r in target.records("shop-t") if r["_sdc_vitess_op"] == "update"]
    assert len(updates) == 12
    assert [r["note"] for r in updates if "note" in r] == ["another", None]


def test_what_was_not_sent_ends_the_table(sandbox: Sandbox) -> None:
    """The sentence names the column and the way out."""
    with pytest.raises(RequestError, match=r"shop.t on shard .*: a change does not carry.* note;"):
        follow(sandbox, on_partial_image="fail")
