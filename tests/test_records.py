"""Records of columns that are not as the catalog has them."""

from __future__ import annotations

from typing import Any

import pytest
from support.events import (
    KEYSPACE,
    begin,
    changes,
    commit,
    field,
    fields,
    rows,
    vgtid,
)
from support.taps import (
    settings,
)

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import (
    CatalogError,
    RequestError,
    ValueDecodeError,
)
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.mysql_types import value_types


def maker(schema: dict[str, Any], sandbox: Sandbox, key: tuple[str, ...] = ("id",)) -> RecordMaker:
    from tap_vitess.singer.streams import VitessStream

    tap = TapVitess(config=settings(sandbox))
    told = {"properties": schema, "type": "object"}
    stream = VitessStream(tap, f"{KEYSPACE}-t", KEYSPACE, "t", told, key, lambda _: iter(()))
    return RecordMaker(stream, RecordSequence(0), RecordOptions())


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (field("v", "varchar(9)"), "key column v is a varchar"),
        (field("v", "datetime"), "key column v is a datetime"),
        (field("v", "decimal(5,2)"), "key column v is a decimal"),
    ],
)
def test_an_altered_key_column_does_not_break_the_schema(
    sandbox: Sandbox, column: query.Field, words: str
) -> None:
    """A record never contradicts its SCHEMA message."""
    found = maker({"id": {"type": "integer"}, "v": {"type": "integer"}}, sandbox, key=("id", "v"))
    shown = Fields("t", "-80", (field("id", key=True), column), copying=True)
    with pytest.raises(CatalogError, match=words):
        found.prepare(shown)


def test_a_renamed_key_is_refused(sandbox: Sandbox) -> None:
    """Rows without their key cannot be matched."""
    found = maker({"id": {"type": "integer"}}, sandbox)
    shown = Fields("t", "-80", (field("pid", key=True),), copying=True)
    with pytest.raises(CatalogError, match="key column id is gone"):
        found.prepare(shown)


@pytest.mark.parametrize(
    "wanted", [{"type": ["number", "null"]}, {"type": ["string", "integer"]}, {}]
)
def test_a_wider_catalog_is_taken(sandbox: Sandbox, wanted: dict[str, Any]) -> None:
    """What a user has widened stays as it is."""
    found = maker({"id": {"type": "integer"}, "v": wanted}, sandbox)
    shown = Fields("t", "-80", (field("id", key=True), field("v")), copying=True)
    assert not found.prepare(shown)
    assert found.schema.as_text(value_types(shown)) == frozenset()


def records(found: RecordMaker, taken: Rows) -> list[dict[str, Any]]:
    found.prepare(taken.fields)
    return found.records(taken)


def copied(*values: bytes) -> binlogdata.RowChange:
    lengths = [len(value) for value in values]
    return binlogdata.RowChange(after=query.Row(lengths=lengths, values=b"".join(values)))


def test_a_doubtful_column_is_told_of_once(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A type that is not known is passed on as text, with one warning for all shards."""
    found = maker({"id": {"type": "integer"}, "v": {"type": ["string", "null"]}}, sandbox)
    columns = (field("id", key=True), field("v", "newtype"))
    for shard in ("-80", "80-", "-80"):
        rows_of_shard = Rows(Fields("t", shard, columns, copying=True), [copied(b"1", b"what")], 0)
        (record,) = records(found, rows_of_shard)
        assert record["v"] == "what"
    assert caplog.text.count("type newtype is not known") == 1
    assert "column id:" not in caplog.text


def test_the_catalog_tells_the_charset_where_vitess_does_not(sandbox: Sandbox) -> None:
    """Vitess sends collation 0 for gbk and others."""
    kind = {"type": ["string", "null"], "x-sql-datatype-properties": {"charset": "gbk"}}
    found = maker({"id": {"type": "integer"}, "v": kind}, sandbox)
    text = query.Field(name="v", column_type="varchar(9)", charset=0)
    shown = Fields("t", "-80", (field("id", key=True), text), copying=False)
    (record,) = records(found, Rows(shown, [copied(b"1", "中文".encode("gbk"))], 1))
    assert record["v"] == "中文"


def test_a_zero_date_in_a_key_ends_the_run(sandbox: Sandbox) -> None:
    """A null would be no key."""
    found = maker({"id": {"type": "string", "format": "date"}}, sandbox)
    shown = Fields("t", "-80", (field("id", "date", key=True),), copying=True)
    with pytest.raises(ValueDecodeError, match=r"column id: .*key column.*zero_dates to string"):
        records(found, Rows(shown, [copied(b"0000-00-00")], 0))


@pytest.mark.parametrize(("labelled", "value"), [(True, "b"), (False, "2")])
def test_enums_come_as_the_field_event_says(labelled: bool, value: str) -> None:  # noqa: FBT001
    """As labels since Vitess 20, as indexes before."""
    shown = fields("0", "t", field("id", key=True), field("v", "enum('a','b')"))
    shown.field_event.enum_set_string_values = labelled
    stream = changes()
    items = stream.feed(
        [
            begin("0", 1),
            shown,
            rows("0", "t", (None, ["1", value]), at=1),
            vgtid("0", {"0": 2}),
            commit("0", 1),
        ]
    )
    (found,) = [item for item in items if isinstance(item, Rows)]
    decoder = RowDecoder(found.fields, KEYSPACE, {"v"})
    assert decoder.decode(next(iter(found.changes)).after) == {"v": "b"}


def test_a_column_called_at_one_is_a_column() -> None:
    """Only when all names are lost has the table been altered."""
    named = (field("@1"), field("x"))
    RowDecoder(Fields("t", "-80", named, copying=False), KEYSPACE, {"x"})
    RowDecoder(Fields("t", "-80", (field("@1"),), copying=True), KEYSPACE, {"x"})
    with pytest.raises(RequestError, match="no longer knows the columns"):
        RowDecoder(Fields("t", "-80", (field("@1"), field("@2")), copying=False), KEYSPACE, set())
