"""Rows as Python's objects: what PyMySQL makes of MySQL's own answers, copied or streamed.

The rows, the bytes of both phases and the answers are those of a real cluster (`kinds.py`), and
the objects expected are made of the answers by PyMySQL's own converters.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pymysql.constants import FIELD_TYPE
from pymysql.converters import decoders
from support import vectors
from support.events import read_images
from support.kinds import KINDS, Evidence
from support.vectors import VECTORS

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ValueDecodeError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Fields
from tap_vitess.values.decode import ObjectDecoder
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.types import ValueOptions
from tap_vitess.vstream import Vitess


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence.load()


def text(answer: str) -> str:
    return bytes.fromhex(answer).decode()


def shape(answer: str) -> bytes:
    return bytes.fromhex(json.loads(answer)["hex"])


def bits(size: int) -> Callable[[str], bytes]:
    return lambda answer: int(answer, 16).to_bytes((size + 7) // 8, "big")


def expected(name: str) -> Callable[[Any], Any]:
    """Return what makes the object of MySQL's answer for a kind of column."""
    sql_type = KINDS[name].sql_type
    kind = sql_type.partition("(")[0].partition(" ")[0]
    if kind == "bit":
        return bits(int(sql_type[4:-1]))
    if kind in {"geometry", "point"}:
        return shape
    if kind in {"binary", "varbinary", "blob"}:
        return bytes.fromhex
    if kind == "json":
        return lambda answer: json.loads(answer, parse_float=Decimal)
    numbers = {
        **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), FIELD_TYPE.LONGLONG),
        "year": FIELD_TYPE.YEAR,
        "decimal": FIELD_TYPE.NEWDECIMAL,
        "float": FIELD_TYPE.FLOAT,
        "double": FIELD_TYPE.DOUBLE,
        "date": FIELD_TYPE.DATE,
        "datetime": FIELD_TYPE.DATETIME,
        "timestamp": FIELD_TYPE.TIMESTAMP,
        "time": FIELD_TYPE.TIME,
    }
    found: Callable[[Any], Any] = decoders[numbers[kind]] if kind in numbers else text
    return found


def same(found: Any, wanted: Any) -> bool:
    """Compare with types and signs; a JSON number by its digits."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(found, float) and isinstance(wanted, Decimal):
        return Decimal(repr(found)) == wanted
    return type(found) is type(wanted) and repr(found) == repr(wanted)


@pytest.mark.parametrize("phase", ["copied", "streamed"])
@pytest.mark.parametrize("name", KINDS)
def test_values(evidence: Evidence, phase: str, name: str) -> None:
    """Each kind of column, each value, in both phases."""
    decoder = ObjectDecoder(evidence.fields[phase], "ks", {name}, charsets=evidence.charsets)
    make = expected(name)
    for number, row in evidence.rows[phase].items():
        answer = evidence.answers[number][name]
        found = decoder.decode(row)[name]
        wanted = None if answer is None else make(answer)
        assert same(found, wanted), f"row {number}: {found!r} is not {wanted!r}"


@pytest.mark.parametrize("phase", ["copied", "streamed"])
def test_by_column_is_the_same(evidence: Evidence, phase: str) -> None:
    """Rows that are taken apart together are those that are read one by one."""
    decoder = ObjectDecoder(evidence.fields[phase], "ks", KINDS.keys(), charsets=evidence.charsets)
    rows = list(evidence.rows[phase].values())
    images = read_images(*rows)
    assert repr(list(decoder.decode_all(images))) == repr([decoder.decode(row) for row in rows])


def field(column_type: str) -> Fields:
    return Fields("t", "0", (query.Field(name="c", column_type=column_type),), copying=False)


@pytest.mark.parametrize(
    ("column_type", "raw"),
    [
        ("decimal(5,2)", b"1.x"),
        ("date", b"tomorrow"),
        ("datetime", b"2024-01-01T25"),
        ("time", b"noon"),
        ("int", b"x"),
        ("json", b"{"),
    ],
)
def test_what_does_not_fit(column_type: str, raw: bytes) -> None:
    """It is an error that names the column and not the value."""
    decoder = ObjectDecoder(field(column_type), "ks", {"c"})
    for decode in (
        lambda: decoder.decode(packed([raw])),
        lambda: list(decoder.decode_all(read_images(packed([raw])))),
    ):
        with pytest.raises(ValueDecodeError, match=r"ks\.t on shard 0, column c") as error:
            decode()
        assert raw.decode() not in str(error.value).partition(": ")[2].split("(")
        assert error.value.__cause__ is None


def test_a_vector() -> None:
    """It is a list of floats."""
    row = packed([b"\x00\x00\x80?\x00\x00\x00\xc0"])
    assert ObjectDecoder(field("vector(2)"), "ks", {"c"}).decode(row) == {"c": [1.0, -2.0]}


@pytest.mark.parametrize("phase", ["copied", "streamed"])
def test_vectors_of_a_real_cluster(phase: str) -> None:
    """They are the numbers whose bytes MySQL shows, with the sign of a zero."""
    evidence = Evidence.load(vectors.EVIDENCE, VECTORS)
    decoder = ObjectDecoder(evidence.fields[phase], "ks", VECTORS.keys())
    for number, row in evidence.rows[phase].items():
        answers = evidence.answers[number].items()
        wanted = {name: answer and vectors.floats(answer) for name, answer in answers}
        assert repr(decoder.decode(row)) == repr({n: wanted[n] for n in VECTORS})


def test_settings_that_count() -> None:
    """Those of text and of floats; how JSON would be written does not."""
    options = ValueOptions(invalid_text="replace", decimal_as="number", binary_as="hex")
    fields = Fields(
        "t",
        "0",
        (
            query.Field(name="a", column_type="varchar(5)", charset=255),
            query.Field(name="b", column_type="decimal(3,1)"),
            query.Field(name="c", column_type="blob"),
        ),
        copying=True,
    )
    row = ObjectDecoder(fields, "ks", set("abc"), options).decode(packed([b"\xff", b"1.5", b"x"]))
    assert row == {"a": "\ufffd", "b": Decimal("1.5"), "c": b"x"}


@pytest.mark.parametrize(
    ("settings", "column_type", "raw", "value"),
    [
        ({}, "json", b'{"a": [1, 2.50]}', {"a": [1, 2.5]}),
        ({"json_as": "string"}, "json", b'{"a": [1, 2.50]}', '{"a": [1, 2.50]}'),
        ({}, "decimal(5,2)", b"1.50", Decimal("1.50")),
        ({"decimal_as": "number"}, "decimal(5,2)", b"1.50", 1.5),
        ({"decimal_as": "number"}, "decimal(5,2)", b"-.5", -0.5),
        ({}, "tinyint(1)", b"2", 2),
        ({"tinyint1_as": "boolean"}, "tinyint(1)", b"2", True),
        ({"tinyint1_as": "boolean"}, "tinyint(4)", b"2", 2),
    ],
)
def test_settings_of_objects(
    settings: dict[str, Any], column_type: str, raw: bytes, value: object
) -> None:
    """Those of `Vitess` reach the objects."""
    options = Vitess("h", **settings).config().values
    found = value_type(column_type, None, options=options).python(raw)
    assert found == value
    assert type(found) is type(value)
