"""Lines by column: the same JSON as from dicts, for any bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import read_images

from tap_vitess.errors import ProtocolError, ValueDecodeError
from tap_vitess.protocol.columns import LARGE, Images
from tap_vitess.protocol.images import packed
from tap_vitess.values.documents import DOCUMENTS
from tap_vitess.values.encode import RowEncoder
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.types import ValueOptions, ValueType

KINDS = [
    *("tinyint", "int", "bigint unsigned", "int(5) unsigned zerofill", "year", "bit(9)"),
    *("decimal(10,2)", "decimal(18,0)", "float", "double", "date", "datetime", "timestamp(6)"),
    *("time", "char(5)", "varchar(9)", "longtext", "enum('a','é')", "set('x','y')"),
    *("binary(3)", "blob", "json", "vector(2)", "newtype"),
]
CHARSETS = ["utf8mb4", "ascii", "latin1", "utf16", "sjis", "binary", None]

words = st.text(max_size=12).map(str.encode)
awkward = st.sampled_from(
    ['"', "\\", "\n", "\x00", "\x7f", "\u2028", "\u00a0", "é", "😀", " ", "plain", ""]
).map(str.encode)
numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1).map(lambda n: b"%d" % n),
    st.sampled_from([2**64, -(2**63) - 1, 10**30, 10**400]).map(lambda n: b"%d" % n),  # are none
    st.sampled_from([b"0", b"-0", b"007", b"-5", b".50", b"-.25", b"0.00", b"-0.00", b"1.20"]),
    st.sampled_from([b"1e5", b"1E+20", b"1e400", b"nan", b"+5", b" 5", b"1_0", b"", b"-", b"1,2"]),
)
moments = st.sampled_from(
    [
        *(b"2024-02-29 23:59:59", b"2024-02-30 00:00:00", b"0000-00-00 00:00:00", b"2024-02-29"),
        *(b"2024-02-29 23:59:59.5", b"2024-02-29 23:59:59.123456", b"2024-02-29T23:59:59"),
        *(b"2024-00-10", b"20240229 235959", b"2024-02-29 25:00:00", b"2024-02-29 23:59:5\n"),
    ]
)
documents = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b'{"p": .5}', b"[1", b"2]", b"1, 2", b'{"a":\n1}', b"", b'"\xff"']),
    st.sampled_from([b'1],"\\u0000\\u0000",[2', b'{"a":', b'"\\u0000\\u0000"', b"[", b"]"]),
)
raw = st.one_of(words, awkward, numbers, moments, documents, st.binary(max_size=6))


options = st.builds(
    ValueOptions,
    unsigned_bigint_as=st.sampled_from(["integer", "decimal", "string"]),
    tinyint1_as=st.sampled_from(["integer", "boolean"]),
    decimal_as=st.sampled_from(["string", "number"]),
    float_as=st.sampled_from(["selected", "stored"]),
    zero_dates=st.sampled_from(["null", "error", "string"]),
    invalid_text=st.sampled_from(["error", "replace"]),
    binary_as=st.sampled_from(["base64", "hex"]),
    json_as=st.sampled_from(["object", "string"]),
    set_as=st.sampled_from(["string", "array"]),
)


@st.composite
def columns(draw: st.DrawFn) -> tuple[ValueType, list[bytes | None]]:
    """Draw a type of either phase and some values; more often than not they look alike."""
    found = value_type(
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from(CHARSETS)),
        options=draw(options),
        copying=draw(st.booleans()),
    )
    values = draw(st.sampled_from([words, awkward, numbers, moments, documents, raw]))
    return found, draw(st.lists(st.none() | values, min_size=1, max_size=6))


def from_dicts(types: dict[str, ValueType], rows: list[list[bytes | None]]) -> list[str] | None:
    """Go the other way; None when a value does not fit its type."""
    try:
        return [
            orjson.dumps(
                {
                    name: None if value is None else found.convert(value)
                    for (name, found), value in zip(types.items(), row, strict=True)
                }
            ).decode()
            for row in rows
        ]
    except (ValueError, TypeError):
        return None


def by_column(types: dict[str, ValueType], rows: list[list[bytes | None]]) -> list[str] | None:
    # A row has a byte at least, or it is not taken apart by column.
    encoder = RowEncoder("here", {**types, "unwanted": value_type("int", None)}, types)
    written = [packed([*row, b"1"]) for row in rows]
    tail = (b'"end":%d}\n' % i for i in range(len(rows)))
    try:
        lines = b"".join(encoder.encode(read_images(*written), b"{", [tail])).decode()
    except ValueDecodeError:
        return None
    assert lines.endswith("\n")
    found = [line.rpartition(',"end":')[0] + "}" for line in lines.split("\n")[:-1]]
    assert [json.loads(line)["end"] for line in lines.split("\n")[:-1]] == list(range(len(rows)))
    return found


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(columns(), min_size=1, max_size=4))
def test_both_ways_write_the_same(drawn: list[tuple[ValueType, list[bytes | None]]]) -> None:
    """Values and the order of keys, and what one refuses the other refuses."""
    count = min(len(values) for _, values in drawn)
    types = {f"c{i}": found for i, (found, _) in enumerate(drawn)}
    rows = [[values[n] for _, values in drawn] for n in range(count)]
    wanted, found = from_dicts(types, rows), by_column(types, rows)
    if wanted is None or found is None:
        assert found == wanted
        return
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert pairs(one) == pairs(other)


def pairs(line: str) -> Any:
    """Parse, keeping the order and number of keys, and every digit."""
    return json.loads(line, object_pairs_hook=list, parse_float=float)


@pytest.mark.parametrize(
    ("kind", "charset", "values"),
    [
        ("int", None, [b"5", b"-5"]),
        ("decimal(10,2)", None, [b"5.10", b"-0.01"]),
        ("double", None, [b"5.1", b"1e20"]),
        ("datetime(3)", None, [b"2024-02-29 23:59:59.123", b"2024-01-01 00:00:00.000"]),
        ("varchar(9)", "utf8mb4", ["é".encode(), b""]),
        ("json", None, [b'{"a": 1}', b"[]"]),
    ],
)
def test_usual_values_need_no_converter(kind: str, charset: str | None, values: Any) -> None:
    """The fast way is taken where it is meant to be: the converter is not called."""
    found = value_type(kind, charset)

    def refuse(_: bytes) -> Any:
        raise AssertionError

    refusing = replace(found, convert=refuse)
    assert found.whole is not None
    rows = [[None], *([value] for value in values)]
    assert by_column({"c": refusing}, rows) == from_dicts({"c": found}, rows)


@pytest.mark.parametrize(
    "values",
    [
        [b'{"a":1', b'"b":2}', b"1,2"],
        [b"[1", b"2]"],
        [b"1", b"2,3"],
        [b"", b"1"],
    ],
)
def test_documents_that_are_none_do_not_make_whole_ones(values: list[bytes]) -> None:
    """Each must be one by itself."""
    types = {"c": value_type("json", None, copying=True)}
    assert types["c"].whole is DOCUMENTS
    assert by_column(types, [[value] for value in values]) is None


@pytest.mark.parametrize("size", [10, 10_000])
def test_many_documents(size: int) -> None:
    """Large ones and small ones, and the last like the first."""
    types = {"c": value_type("json", None, copying=True)}
    rows: list[list[bytes | None]] = [[b'["%b",\n%d]' % (b"x" * size, i)] for i in range(200)]
    assert by_column(types, rows) == from_dicts(types, rows)
    assert by_column(types, [*rows, [b"[1"]]) is None


def test_broken_letters_do_not_make_a_whole_one() -> None:
    """The end of one value and the beginning of the next are no text together."""
    types = {"c": value_type("varchar(9)", "utf8mb4")}
    assert by_column(types, [[b"a\xc3"], [b"\xa9b"]]) is None


TEXT = 'wörd \U0001f600 "\\\n\x01'.encode()
HUGE = {
    "longtext": [b"x" * start + TEXT * (LARGE // len(TEXT) + 1) for start in range(4)],
    "longblob": [bytes(range(256)) * (LARGE // 256) + b"x" * more for more in (1, 2, 3)],
    "json": [b'["%b"]' % ("wörd".encode() * LARGE), b'["%b"]\n' % (b"x" * LARGE)],
    "point": [b"x" * (LARGE + 1)],
    "int": [b"1" * (LARGE + 1)],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize(
    "options_", [ValueOptions(), ValueOptions(invalid_text="replace", binary_as="hex")]
)
def test_huge_values_are_written_in_pieces(kind: str, options_: ValueOptions) -> None:
    """As they are in one piece, beside NULLs, small ones and each other."""
    found = value_type(kind, "utf8mb4", options=options_)
    types = {"a": value_type("int", None), "b": found, "c": found}
    rows: list[list[bytes | None]] = [[b"5", one, None] for one in HUGE[kind]]
    assert by_column(types, rows) == from_dicts(types, rows)
    rows = [[None, None, None], *rows, [None, None, HUGE[kind][-1]]]
    assert by_column(types, rows) == from_dicts(types, rows)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [b"\xf0\x9f", b"\xffx"])
def test_of_a_huge_value_that_is_refused_no_piece_is_written(broken: bytes) -> None:
    """Whoever has taken a part of a line cannot give it back."""
    types = {"a": value_type("longtext", "utf8mb4")}
    value = b"x" * LARGE + broken
    images = read_images(packed([value]))
    given: list[bytes] = []
    with pytest.raises(ValueDecodeError, match="column a: a value has bytes that are not text"):
        given.extend(RowEncoder("here", types, types).encode(images, b"{", [b"}\n"]))
    assert not given
    replaced = {
        "a": value_type("longtext", "utf8mb4", options=ValueOptions(invalid_text="replace"))
    }
    assert by_column(replaced, [[value]]) == from_dicts(replaced, [[value]])


def test_huge_rows_that_are_none_are_refused() -> None:
    """Whatever is wrong with their lengths."""
    types = {"a": value_type("longtext", "utf8mb4")}
    [whole] = [read_images(packed([b"x" * (LARGE + 1)]))]
    for lengths, values, why in (
        (whole.lengths, whole.values[:-1], "lengths are not those of its values"),
        (whole.lengths, whole.values + b"x", "more bytes than its values"),
        (whole.lengths + b"\x02", whole.values, "of other columns"),
        (whole.lengths[:-1] + b"\x03", whole.values, "an invalid length"),
    ):
        with pytest.raises(ProtocolError, match=why):
            [*RowEncoder("here", types, types).encode(Images(1, lengths, values), b"{", [b"}\n"])]


def test_only_wanted_columns_are_looked_at() -> None:
    """A value that would be refused stands in a column nobody wants."""
    types = {"a": value_type("int", None), "b": value_type("int", None)}
    encoder = RowEncoder("here", types, ["b"])
    assert list(encoder.encode(read_images(packed([b"x", b"5"])), b"{", [b"}\n"])) == [
        b'{"b":5,}\n'
    ]


def test_errors_hold_no_values() -> None:
    """Only where and what kind."""
    encoder = RowEncoder("shop.t on shard -80", {"a": value_type("int", None)}, ["a"])
    with pytest.raises(ValueDecodeError, match=r"shop\.t on shard -80, column a") as raised:
        list(encoder.encode(read_images(packed([b"secret"])), b"{", [b"}\n"]))
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
