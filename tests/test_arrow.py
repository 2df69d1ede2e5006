"""Rows as Arrow's columns: the values of Python's objects, exactly typed, or all ways refuse.

The objects are held to MySQL's own answers (test_objects.py); here Arrow is held to the objects.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import vectors
from support.arrow_values import differences
from support.events import read_images
from support.kinds import EVIDENCE, KINDS, Evidence, Kind
from support.vectors import VECTORS

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ConfigError, ProtocolError, ValueDecodeError
from tap_vitess.protocol.columns import Images
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Fields
from tap_vitess.values.arrow import ArrowDecoder
from tap_vitess.values.charsets import collation_of
from tap_vitess.values.decode import ObjectDecoder
from tap_vitess.values.kernels import kernels
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.types import DEFAULTS, UnfitError, ValueOptions

Rows = list[list[bytes | None]]
POINT = bytes.fromhex("E6100000 01 01000000 0000000000003440 0000000000002440")

TYPES = [
    ("tinyint(1)", pa.int8()),
    ("tinyint unsigned", pa.uint8()),
    ("smallint", pa.int16()),
    ("mediumint unsigned", pa.uint32()),
    ("int(8) unsigned zerofill", pa.uint32()),
    ("int", pa.int32()),
    ("bigint", pa.int64()),
    ("bigint unsigned", pa.uint64()),
    ("year", pa.int16()),
    ("bit(9)", pa.uint64()),
    ("decimal(10,2)", pa.decimal128(10, 2)),
    ("decimal(38)", pa.decimal128(38, 0)),
    ("decimal(65,30)", pa.decimal256(65, 30)),
    ("float", pa.float32()),
    ("double(15,3)", pa.float64()),
    ("date", pa.date32()),
    ("datetime", pa.timestamp("us")),
    ("timestamp(6)", pa.timestamp("us", "UTC")),
    ("time(3)", pa.duration("us")),
    ("varchar(9)", pa.string()),
    ("longtext", pa.string()),
    ("enum('a','b')", pa.dictionary(pa.int32(), pa.string())),
    ("set('a','b')", pa.string()),
    ("binary(3)", pa.binary()),
    ("longblob", pa.binary()),
    ("json", pa.json_()),
    ("point", pa.binary()),
    ("vector(3)", pa.list_(pa.float32())),
    ("newtype", pa.string()),
]


def fields(*kinds: str, copying: bool = True, charset: int = 255) -> Fields:
    columns = tuple(
        query.Field(name=f"c{i}", column_type=kind, charset=charset) for i, kind in enumerate(kinds)
    )
    return Fields("t", "-80", columns, copying=copying)


class Every:
    """All columns."""

    def __contains__(self, name: object) -> bool:
        return True


def arrow(shown: Fields, options: ValueOptions = DEFAULTS, **more: Any) -> ArrowDecoder:
    return ArrowDecoder(shown, "ks", Every(), options, **more)


def one_by_one(decoder: ArrowDecoder, rows: Rows) -> list[Any]:
    return decoder.assemble([decoder.decode(packed(row)) for row in rows])


def by_column(decoder: ArrowDecoder, rows: Rows) -> list[Any]:
    """Take rows apart by column; a row has a byte at least, or it is not."""
    return decoder.decode_all(read_images(*map(packed, rows)))


def objects_of(value: Any, kind: str) -> Any:
    """Return what Arrow has where Python's object is another."""
    name = kind.partition("(")[0].partition(" ")[0]
    if value is None or (isinstance(value, str) and name in {"date", "datetime", "timestamp"}):
        return None  # a zero or partial date
    if name == "bit":
        return int.from_bytes(value, "big")
    if name == "float":
        return struct.unpack("f", struct.pack("f", value))[0]
    if name in {"geometry", "point"}:
        shape = value_type(kind, None, options=ValueOptions(geometry_as="wkb"))
        return bytes.fromhex(shape.convert(value))
    return value


def same(found: Any, value: Any, kind: str) -> bool:
    """Compare what Arrow holds with an object."""
    wanted = objects_of(value, kind)
    if kind == "json" and found is not None:
        return repr(read(found)) == repr(wanted)
    if kind.startswith("timestamp") and found is not None:
        found = found.replace(tzinfo=None)
    if isinstance(found, Decimal):
        return bool(found == wanted)  # to the digit; Arrow shows the column's scale
    return type(found) is type(wanted) and repr(found) == repr(wanted)


def read(document: str) -> Any:
    row = packed([document.encode()])
    return ObjectDecoder(fields("json"), "ks", {"c0"}).decode(row)["c0"]


@pytest.mark.parametrize(("kind", "wanted"), TYPES, ids=[kind for kind, _ in TYPES])
def test_types(kind: str, wanted: Any) -> None:
    """As wide as MySQL's, the same in both phases, and never with an object for a value."""
    for copying in (True, False):
        decoder = arrow(fields(kind, copying=copying))
        assert decoder.schema.field("c0").type == wanted
        empty = one_by_one(decoder, [[None]])
        assert (empty[0].type, empty[0].to_pylist()) == (wanted, [None])


def test_types_by_setting() -> None:
    """SET as a list, zero dates as text."""
    options = ValueOptions(set_as="array", zero_dates="string")
    shown = fields("set('a','b')", "date", "timestamp")
    decoder = arrow(shown, options)
    assert decoder.schema.types == [pa.list_(pa.string()), pa.string(), pa.string()]
    rows: Rows = [[b"a,b", b"0000-00-00", b"2024-00-10 00:00:00"], [b"", b"2024-02-29", None]]
    assert [found.to_pylist() for found in one_by_one(decoder, rows)] == [
        [["a", "b"], []],
        ["0000-00-00", "2024-02-29"],
        ["2024-00-10T00:00:00+00:00", None],
    ]


@pytest.mark.parametrize("taken", [slice(None), slice(2, 4), slice(1), slice(0)])
def test_vectors_are_read_where_they_are(taken: slice) -> None:
    """Also of nothing but nulls, of no row, and of a part of an array."""
    type_ = value_type("vector(3)", None).arrow
    assert type_.parse is not None
    numbers = [None, [1.5], [], [-2.0, 0.5, 1e-45], None]
    raw = [n if n is None else struct.pack(f"<{len(n)}f", *n) for n in numbers]
    found = type_.parse(kernels(), pa.array(raw, pa.binary())[taken])
    found.validate(full=True)
    assert found == pa.array(numbers, pa.list_(pa.float32()))[taken]
    for unfit in ([b"abc"], [b"ab", b"ab"]):
        with pytest.raises(UnfitError):
            type_.parse(kernels(), pa.array(unfit, pa.binary()))


@pytest.mark.parametrize("phase", ["copied", "streamed"])
def test_values_of_a_real_cluster(phase: str) -> None:
    """Each kind of column, each value, one by one and as columns."""
    evidence = Evidence.load()
    shown, rows = evidence.fields[phase], [*evidence.rows[phase].values()]
    names = {field.name for field in shown.fields}
    objects = ObjectDecoder(shown, "ks", names, charsets=evidence.charsets)
    wanted = [objects.decode(row) for row in rows]
    decoder = arrow(shown, charsets=evidence.charsets)
    columns = decoder.decode_all(read_images(*rows))
    single = decoder.assemble([decoder.decode(row) for row in rows])
    assert [c.to_pylist() for c in single] == [c.to_pylist() for c in columns]
    for field, column in zip(shown.fields, columns, strict=True):
        assert column.type == decoder.schema.field(field.name).type
        column.validate(full=True)
        for found, row in zip(column.to_pylist(), wanted, strict=True):
            assert same(found, row.get(field.name), field.column_type), field.name


@pytest.mark.parametrize("phase", ["copied", "streamed"])
@pytest.mark.parametrize(
    "of", [(EVIDENCE, KINDS), (vectors.EVIDENCE, VECTORS)], ids=["", "vectors"]
)
def test_values_are_mysqls_answers(of: tuple[Path, Mapping[str, Kind]], phase: str) -> None:
    """Of a real cluster, each kind of column and each value, by column and one by one."""
    evidence = Evidence.load(*of)
    decoder = arrow(evidence.fields[phase], charsets=evidence.charsets)
    found = evidence.rows[phase]
    columns = decoder.decode_all(read_images(*found.values()))
    single = decoder.assemble([decoder.decode(row) for row in found.values()])
    for read in (columns, single):
        rows = pa.Table.from_arrays(read, schema=decoder.schema).to_pylist()
        for number, row in zip(found, rows, strict=True):
            told = differences(row, evidence.answers[number], evidence.columns)
            assert told == [], f"row {number}"


numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1).map(lambda n: b"%d" % n),
    st.decimals(-999, 999, places=2).map(lambda n: str(n).encode()),
    st.floats(allow_nan=False).map(lambda n: repr(n).encode()),
    st.sampled_from([b"0", b"-0", b"007", b".50", b"-.25", b"1.", b"1E+20", b"1e400", b"nan"]),
    st.sampled_from([b"0x1F", b"+5", b" 5", b"1_0", b"", b"-", b".", b"inf", b"3.5e38"]),
)
moments = st.one_of(
    st.datetimes().map(lambda at: at.isoformat(" ").encode()),
    st.dates().map(lambda at: at.isoformat().encode()),
    st.sampled_from([b"0000-00-00", b"0000-01-01", b"2023-02-29", b"2024-00-10", b"20240229"]),
    st.sampled_from([b"0000-01-01 00:00:00", b"2024-02-29 23:59", b"2024-02-29 23:59:60"]),
    st.sampled_from([b"2024-02-29 23:59:59.5", b"2024-02-29T23:59:59"]),
    st.sampled_from([b"-838:59:59", b"-00:00:00.000001", b"12:00:00.5", b"1:00"]),
)
words = st.text(max_size=5).map(str.encode) | st.sampled_from([b"a\xc3", b"\xa9b", b"\xed\xa0\x80"])
documents = st.sampled_from(
    [b'{"a":\n1.0}', b'[.5, "\\x01"]', b'{"n": 0.1234567890123456789}', b"["]
)
raw = numbers | moments | words | documents | st.binary(max_size=8) | st.just(POINT)
CHARSETS = ["utf8mb4", "latin1", "sjis", "utf16"]


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Fields, ValueOptions, Rows]:
    """Draw a table of some columns, and rows of which most look like their columns."""
    kinds = draw(st.lists(st.sampled_from([kind for kind, _ in TYPES]), min_size=1, max_size=4))
    options = st.builds(
        ValueOptions,
        invalid_text=st.sampled_from(["error", "replace"]),
        float_as=st.sampled_from(["selected", "stored"]),
    )
    shown = fields(
        *kinds,
        "char(1)",
        copying=draw(st.booleans()),
        charset=collation_of(draw(st.sampled_from(CHARSETS))),
    )
    alike = [draw(st.sampled_from([numbers, moments, words, raw])) for _ in kinds]
    row = st.tuples(*(st.none() | values for values in alike)).map(list)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return shown, draw(options), [[*row, b"zz"] for row in rows]


@pytest.mark.slow
@settings(max_examples=400)
@given(drawn())
def test_what_arrow_takes_python_takes(case: tuple[Fields, ValueOptions, Rows]) -> None:
    """The same values, whether Arrow's own parsers read a column or each value is converted."""
    shown, options, rows = case
    decoder = arrow(shown, options)
    objects = ObjectDecoder(shown, "ks", set(decoder.schema.names), options)
    try:
        single = one_by_one(decoder, rows)
    except ValueDecodeError:
        with pytest.raises(ValueDecodeError):
            by_column(decoder, rows)
        return
    columns = by_column(decoder, rows)
    assert repr([c.to_pylist() for c in columns]) == repr([c.to_pylist() for c in single])
    wanted = [objects.decode(packed(row)) for row in rows]
    for field, column in zip(shown.fields, columns, strict=True):
        for found, row in zip(column.to_pylist(), wanted, strict=True):
            assert same(found, row[field.name], field.column_type), field.column_type


@pytest.mark.slow
@given(
    st.integers(1, 40),
    st.lists(st.sampled_from([0, 1, 62, 63, 64, 127, 128, 16383, 16384, 2**21]), max_size=12),
    st.randoms(use_true_random=False),
)
def test_lengths_of_every_size(width: int, sizes: list[int], random: Any) -> None:
    """Values of one byte of length and of several, NULLs, few columns and many."""
    shown = fields(*["longblob"] * width)
    rows: Rows = [
        [b"x" * size if random.random() < 0.8 else None for _ in range(width)]
        for size in sizes or [3]
    ]
    rows = [[*row[:-1], row[-1] or b"y"] for row in rows]  # a row has a byte at least
    columns = by_column(arrow(shown), rows)
    assert [column.to_pylist() for column in columns] == [*map(list, zip(*rows, strict=True))]


@given(st.binary(max_size=12), st.binary(max_size=40))
def test_lengths_that_are_none(lengths: bytes, values: bytes) -> None:
    """What one way refuses the other does; neither makes a row of two halves."""
    shown = fields("blob", "blob")
    good = read_images(packed([b"ab", b"c"]))
    objects = ObjectDecoder(shown, "ks", {"c0", "c1"})
    for images in (
        Images(1, lengths + good.lengths[-1:], values + good.values[3:]),
        Images(1, good.lengths, values + good.values[3:]),
        Images(1, lengths, good.values),
    ):
        try:
            columns = arrow(shown).decode_all(images)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                list(objects.decode_all(images))
            continue
        names = arrow(shown).schema.names
        row = dict(zip(names, (column[0].as_py() for column in columns), strict=True))
        assert list(objects.decode_all(images)) == [row]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("int", b"99999999999"), ("tinyint unsigned", b"-1"), ("int", b"secret")),
        *(("decimal(4,2)", b"1.234"), ("date", b"tomorrow"), ("time", b"noon")),
        *(("varchar(9)", b"secret\xff"), ("json", b'{"secret'), ("bit(64)", b"123456789")),
    ],
)
def test_errors_hold_no_values(kind: str, value: bytes) -> None:
    """They name the column."""
    decoder = arrow(fields(kind))
    with pytest.raises(ValueDecodeError, match=r"ks\.t on shard -80, column c0") as caught:
        decoder.decode_all(read_images(packed([value])))
    assert value.decode("latin1") not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_zero_date_in_a_key_is_refused() -> None:
    """It cannot be null."""
    decoder = arrow(fields("date"), key=["c0"])
    with pytest.raises(ValueDecodeError, match="zero or partial date in a key column"):
        one_by_one(decoder, [[b"0000-00-00"]])


def test_documents_are_text_that_says_the_same() -> None:
    """Also those that Vitess has printed in its own way."""
    decoder = arrow(fields("json", copying=False))
    [column] = one_by_one(decoder, [[b'{"p": .5}'], [None], [b"1.0"]])
    assert column.to_pylist() == ['{"p": 0.5}', None, "1.0"]
    assert orjson.loads(column[0].as_py()) == json.loads('{"p": 0.5}')


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="install tap-vitess with the extra arrow"):
        arrow(fields("int"))


@pytest.mark.slow
def test_pyarrow_is_imported_only_for_rows_as_arrow() -> None:
    """It takes most of a second."""
    program = (
        "import sys, tap_vitess.vstream, tap_vitess.values.arrow, tap_vitess.__main__\n"
        "assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
