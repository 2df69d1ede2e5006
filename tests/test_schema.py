"""A stream's properties follow a table that is altered, and never contradict its records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from support.events import field

from tap_vitess.errors import CatalogError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Fields
from tap_vitess.records.schema import StreamSchema
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.documents import plain
from tap_vitess.values.mysql_types import value_type, value_types

INTEGER = {"type": ["integer", "null"]}
TEXT = {"type": ["string", "null"]}


def schema(*deselected: str, told: Any = None, **properties: Any) -> StreamSchema:
    known = {"id": {"type": "integer"}, **properties}
    return StreamSchema("shop-t", known, ["id"], ["_own"], deselected, altered=told)


def fields(**columns: str) -> Fields:
    shown = (field("id", key=True), *(field(name, kind) for name, kind in columns.items()))
    return Fields("t", "-80", shown, copying=True)


def fit(found: StreamSchema, shown: Fields) -> bool:
    return found.fit(shown, value_types(shown))


@pytest.mark.parametrize(
    ("before", "column_type", "after"),
    [
        (INTEGER, "bigint", INTEGER),
        (INTEGER, "double", {"type": ["number", "null"]}),
        ({"type": ["number", "null"]}, "int", {"type": ["number", "null"]}),
        (INTEGER, "varchar(9)", TEXT),
        (INTEGER, "json", TEXT),
        (TEXT, "int", TEXT),
        (TEXT, "datetime", TEXT),
        ({**TEXT, "format": "date"}, "datetime", TEXT),
        ({**TEXT, "format": "date-time"}, "varchar(9)", TEXT),
        ({"type": ["string", "integer"]}, "decimal(5,2)", {"type": ["string", "integer"]}),
        ({}, "json", {}),
    ],
)
def test_what_becomes_of_an_altered_column(
    before: dict[str, Any], column_type: str, after: dict[str, Any]
) -> None:
    """Wider where that is enough, else text."""
    found = schema(v=before)
    changed = fit(found, fields(v=column_type))
    assert found.properties["v"] == after
    assert changed == (before != after)
    assert found.version == int(changed)


def test_precision_and_scale_grow() -> None:
    """Whatever both columns held has room."""
    found = schema(v=value_type("decimal(5,2)", None).nullable())
    assert fit(found, fields(v="decimal(6,4)"))
    grown = found.properties["v"]
    assert grown["format"] == "x-singer.decimal"
    assert grown["x-sql-datatype-properties"] == {"precision": 7, "scale": 4}
    assert not fit(found, fields(v="decimal(5,2)"))


def test_a_new_column_is_added() -> None:
    """It is nullable, for the other rows lack it."""
    found = schema(v=INTEGER)
    assert fit(found, fields(v="int", w="varchar(9)"))
    assert found.properties["w"] == TEXT
    assert found.wanted == {"id", "v", "w"}


def test_a_new_column_is_left_out_where_columns_are_chosen() -> None:
    """Somebody has decided what may leave the database."""
    found = schema("secret", v=INTEGER)
    shown = fields(v="int", secret="int", w="int")
    assert not fit(found, shown)
    assert found.left_out(shown) == {"w"}


def test_a_dropped_column_changes_nothing() -> None:
    """Another shard may still have it."""
    assert not fit(schema(v=INTEGER), fields())


def test_a_key_must_stay() -> None:
    """The target's rows could no longer be found."""
    gone = Fields("t", "-80", (field("pid"),), copying=True)
    with pytest.raises(CatalogError, match="stream shop-t on shard -80: the key column id is gone"):
        fit(schema(), gone)
    altered = Fields("t", "-80", (field("id", "varchar(9)"),), copying=True)
    with pytest.raises(CatalogError, match=r"the key column id is a varchar\(9\) now") as caught:
        fit(schema(), altered)
    assert caught.value.table == "t"


def test_a_new_column_of_our_own_name_is_refused() -> None:
    """It would be overwritten."""
    with pytest.raises(CatalogError, match="exclude_tables"):
        fit(schema(), fields(_own="int"))


def test_what_was_told_is_told_again() -> None:
    """With the catalog of before, and with one of today that it agrees with."""
    date = {**TEXT, "format": "date"}
    first = schema(v=INTEGER, w=INTEGER, d=date)
    assert first.altered == {}
    assert fit(first, fields(v="varchar(9)", w="int", d="date", x="int"))
    assert first.altered == {"v": TEXT, "x": INTEGER}
    again = schema(v=INTEGER, w=INTEGER, d=date, told=first.altered)
    assert again.properties == first.properties
    assert again.version
    assert not fit(again, fields(v="varchar(9)", w="int", d="date", x="int"))
    assert again.altered == first.altered
    noted = {**TEXT, "x-sql-datatype-properties": {"charset": "latin1"}}
    found = schema(v=noted, w=INTEGER, d=date, x=INTEGER, told=first.altered)
    assert (found.altered, found.version) == ({}, 0)
    found = schema(v=date, w=INTEGER, told={"v": TEXT, "w": {"type": ["number", "null"]}})
    assert found.altered == {"v": TEXT, "w": {"type": ["number", "null"]}}


def test_what_is_not_told_in_a_run_is_not_forgotten() -> None:
    """A column that is deselected for one run, and a new one while others are chosen."""
    told = {"v": TEXT, "x": INTEGER, "_own": INTEGER}
    found = schema("v", w=INTEGER, told=told)
    fit(found, fields(v="varchar(9)", w="int", x="int"))
    assert found.properties.keys() == {"id", "w"}
    assert found.altered == {"v": TEXT, "x": INTEGER}
    chosen = schema(v=INTEGER, w=INTEGER, told=found.altered)
    assert chosen.properties["v"] == TEXT


def test_a_new_column_that_is_dropped_again_is_forgotten() -> None:
    """Not told any more in the next run, in which it is not met."""
    first = schema(v=INTEGER)
    fit(first, fields(v="int", x="int"))
    second = schema(v=INTEGER, told=first.altered)
    assert second.altered == {"x": INTEGER}  # nothing has come yet
    fit(second, fields(v="int"))
    assert "x" in second.properties
    assert second.altered == {}


_VALUES = {
    "int": b"7",
    "bigint": b"-9",
    "double": b"1E+20",
    "varchar(9)": b"x",
    "datetime": b"2026-01-02 03:04:05",
    "date": b"2026-01-02",
    "decimal(5,2)": b".50",
    "decimal(9,4)": b"12345.5000",
    "json": b'{"a": [1]}',
    "blob": b"\xff",
    "time": b"-01:00:00",
    "bit(3)": b"\x05",
}


@given(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, max_size=6), st.booleans())
def test_records_always_fit_the_last_schema(column_types: list[str], again: bool) -> None:  # noqa: FBT001
    """Whatever a column becomes, shard by shard and back again, in one run or in several."""
    found = schema(v=value_type(column_types[0], "utf8mb4").nullable())
    catalog = dict(found.properties)
    for column_type in column_types:
        if again:
            found = schema(v=catalog["v"], told=found.altered)
        shown = fields(v=column_type)
        fit(found, shown)
        texts = found.as_text(value_types(shown))
        decoder = RowDecoder(shown, "shop", found.wanted, as_text=texts)
        record = decoder.decode(packed([b"1", _VALUES[column_type]]))
        validator = Draft7Validator({"type": "object", "properties": found.properties})
        validator.validate({name: plain(value) for name, value in record.items()})
