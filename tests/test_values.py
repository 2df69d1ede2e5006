"""Every MySQL type: the bytes of both phases, the value, and a schema that fits it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support import kinds, vectors
from support.events import read_images

from tap_vitess._proto import query_pb2 as query
from tap_vitess.config import SETTINGS, Config
from tap_vitess.errors import ValueDecodeError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Fields
from tap_vitess.values.charsets import charset_of, decoder
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.documents import DOCUMENTS, check, from_binlog, plain
from tap_vitess.values.encode import RowEncoder
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.numbers import DECIMALS, FLOATS, INTEGERS, NUMBERS
from tap_vitess.values.texts import BASE64, HEXADECIMAL, REPLACED_TEXTS, TEXTS
from tap_vitess.values.times import MOMENTS
from tap_vitess.values.types import DEFAULTS, UnfitError, ValueOptions, ValueType

POINT = bytes.fromhex("E6100000 01 01000000 0000000000003440 0000000000002440")
NUL_POINT = bytes(4) + POINT[4:]
GEO_CRS = {"type": "name", "properties": {"name": "EPSG:4326"}}

# (type, charset, bytes of a copy, bytes of the binlog or None when they are the same, value)
CASES: list[tuple[str, str | None, bytes, bytes | None, Any]] = [
    ("tinyint(4)", None, b"-128", None, -128),
    ("tinyint(1)", None, b"1", None, 1),
    ("smallint(5) unsigned zerofill", None, b"00007", b"7", 7),
    ("bigint(20) unsigned", None, b"18446744073709551615", None, 2**64 - 1),
    ("year(4)", None, b"0000", None, 0),
    ("bit(9)", None, b"\x01\x01", None, 257),
    ("decimal(10,2)", None, b"0.50", b".50", "0.50"),
    ("decimal(10,2)", None, b"-0.25", b"-.25", "-0.25"),
    ("decimal(10,2)", None, b"0.00", b".00", "0.00"),
    ("decimal(18,0)", None, b"5", b"000000000000000005", "5"),
    ("decimal(18,0)", None, b"-5", b"-000000005", "-5"),
    ("decimal(18,0)", None, b"0", b"000000000", "0"),
    ("decimal(10,2) unsigned zerofill", None, b"00000005.50", b"5.50", "5.50"),
    ("double", None, b"1e20", b"1E+20", 1e20),
    ("double(15,3)", None, b"-0.001", b"-1.0000000000000009E-03", -0.001),
    ("float", None, b"0.1", b"1E-01", 0.1),
    ("float", None, b"16777200", b"1.6777216E+07", 16777200.0),
    ("float", None, b"8388600", b"8.388605E+06", 8388600.0),  # a tie goes to the even digit
    ("float(10,4)", None, b"12345.6787", b"1.2345679E+04", 12345.6787),
    ("date", None, b"2024-02-29", None, "2024-02-29"),
    ("date", None, b"0000-00-00", None, None),
    ("date", None, b"2024-00-10", None, None),
    ("date", None, b"2023-02-29", None, None),
    ("datetime", None, b"2024-02-29 23:59:59", None, "2024-02-29T23:59:59+00:00"),
    ("datetime(3)", None, b"2024-02-29 23:59:59.123", None, "2024-02-29T23:59:59.123+00:00"),
    ("datetime", None, b"0000-00-00 00:00:00", None, None),
    ("timestamp(6)", None, b"2024-02-29 23:59:59.5", None, "2024-02-29T23:59:59.5+00:00"),
    ("time", None, b"-838:59:59", None, "-838:59:59"),
    ("char(5)", "utf8mb4", b"ab", None, "ab"),
    ("varchar(9)", "latin1", b"l\xe9\x80\x81", None, "lé€\x81"),
    ("varchar(9)", "utf16", "日本".encode("utf-16-be"), None, "日本"),
    ("longtext", "utf8mb4", 'a\n"\\😀'.encode(), None, 'a\n"\\😀'),
    ("enum('a','it''s')", "utf8mb4", b"it's", None, "it's"),
    ("enum('\xe9')", "latin1", b"\xe9", b"\xc3\xa9", "é"),
    ("enum('a')", "binary", b"a", None, "a"),
    ("set('x','z')", "utf8mb4", b"x,z", None, "x,z"),
    ("binary(3)", None, b"\x01\x00\x00", None, "AQAA"),
    ("varbinary(3)", "binary", b"\xff", None, "/w=="),
    ("blob", None, b"", None, ""),
    ("json", None, b'{"a": [1.0, null]}', None, {"a": [1.0, None]}),
    ("json", None, b'{"n": -0.25, "p": 0.5}', b'{"p": .5, "n": -.25}', {"p": 0.5, "n": -0.25}),
    ("json", None, b'[7, "x.5 007", 0]', b'[000000007, "x.5 007", 000]', [7, "x.5 007", 0]),
    ("json", None, b"[1e5, -1E-2]", b"[1e5, -1E-2]", [1e5, -1e-2]),
    ("json", None, b"null", None, None),
    ("point", None, POINT, None, {"type": "Point", "coordinates": [20.0, 10.0], "crs": GEO_CRS}),
    ("point", None, NUL_POINT, None, {"type": "Point", "coordinates": [20.0, 10.0]}),
    ("vector(2)", None, b"\x00\x00\x80?\x00\x00\x00@", None, [1.0, 2.0]),
    ("newtype(1)", None, b"what", None, "what"),
]

# The same behind the settings that differ from the default.
OTHER_CASES: list[tuple[dict[str, str], str, str | None, bytes, bytes | None, Any]] = [
    ({"unsigned_bigint_as": "string"}, "bigint unsigned", None, b"7", None, "7"),
    ({"unsigned_bigint_as": "string"}, "bigint(20) unsigned zerofill", None, b"007", b"7", "7"),
    ({"unsigned_bigint_as": "decimal"}, "bigint unsigned", None, b"18446744073709551615", None,
     "18446744073709551615"),
    ({"unsigned_bigint_as": "string"}, "bigint", None, b"-7", None, -7),
    ({"tinyint1_as": "boolean"}, "tinyint(1)", None, b"-1", None, True),
    ({"tinyint1_as": "boolean"}, "tinyint(1)", None, b"0", None, False),
    ({"tinyint1_as": "boolean"}, "tinyint(4)", None, b"1", None, 1),
    ({"tinyint1_as": "boolean"}, "tinyint(1) unsigned", None, b"200", None, 200),
    ({"bit1_as": "boolean"}, "bit(1)", None, b"\x01", None, True),
    ({"bit1_as": "boolean"}, "bit(8)", None, b"\x01", None, 1),
    ({"float_as": "stored"}, "float", None, b"16777216", b"1.6777216E+07", 16777216.0),
    ({"zero_dates": "string"}, "date", None, b"0000-00-00", None, "0000-00-00"),
    ({"zero_dates": "string"}, "datetime", None, b"2024-00-10 01:02:03", None,
     "2024-00-10T01:02:03+00:00"),
    ({"zero_dates": "error"}, "date", None, b"2024-02-29", None, "2024-02-29"),
    ({"invalid_text": "replace"}, "text", "utf8mb4", b"a\xff", None, "a\ufffd"),
    ({"invalid_text": "replace"}, "text", "eucjpms", b"a\x8e ", None, "a\ufffd"),
    ({"invalid_text": "replace"}, "text", "ujis", b"\xf5\xa1\xff", None, "\ue000\ufffd"),
    ({"invalid_text": "replace"}, "text", "swe7", b"[\xff", None, "Ä\ufffd"),
    ({"binary_as": "hex"}, "blob", None, b"\x0a\xff", None, "0AFF"),
    ({"json_as": "string"}, "json", None, b'{"a": 0.50, "b": "\\u0001\xc3\xa9"}',
     b'{"a": .50, "b": "\\u0001\xc3\xa9"}', '{"a": 0.50, "b": "\\u0001é"}'),
    ({"set_as": "array"}, "set('x','z')", "utf8mb4", b"x,z", None, ["x", "z"]),
    ({"set_as": "array"}, "set('x','z')", "utf8mb4", b"", None, []),
    ({"geometry_as": "wkt"}, "point", None, POINT, None, "SRID=4326;POINT(20 10)"),
    ({"geometry_as": "wkt"}, "point", None, NUL_POINT, None, "POINT(20 10)"),
    ({"geometry_as": "wkb"}, "point", None, POINT, None,
     "0101000020E610000000000000000034400000000000002440"),
    ({"geometry_as": "wkb"}, "point", None, NUL_POINT, None,
     "010100000000000000000034400000000000002440"),
]  # fmt: skip
ALL_CASES: list[Any] = [({}, *case) for case in CASES] + OTHER_CASES


@pytest.mark.parametrize(
    ("settings", "column_type", "charset", "copied", "streamed", "value"), ALL_CASES
)
def test_both_phases_give_one_value(
    settings: dict[str, Any],
    column_type: str,
    charset: str | None,
    copied: bytes,
    streamed: bytes | None,
    value: Any,
) -> None:
    """Copied and streamed bytes become the same value, which fits the schema."""
    for copying, raw in ((True, copied), (False, copied if streamed is None else streamed)):
        options = ValueOptions(**settings)
        found = value_type(column_type, charset, options=options, copying=copying)
        converted = json.loads(orjson.dumps(found.convert(raw)))
        assert converted == value
        assert type(converted) is type(value)
        assert plain(found.convert(raw)) == value
        validator = Draft202012Validator(found.nullable())
        assert list(validator.iter_errors(converted)) == []


def test_decimal_as_number_keeps_its_digits() -> None:
    """In our output, and where stream maps look at it."""
    options = ValueOptions(decimal_as="number")
    for copying, raw in ((True, b"-0.10000000000000000001"), (False, b"-.10000000000000000001")):
        found = value_type("decimal(30,20)", None, options=options, copying=copying)
        value = found.convert(raw)
        assert orjson.dumps(value) == b"-0.10000000000000000001"
        assert str(plain(value)) == "-0.10000000000000000001"
        assert found.schema == {"type": "number"}


@pytest.mark.parametrize(
    ("column_type", "charset", "raw"),
    [
        ("int", None, b"x"),
        ("int", None, b""),
        ("decimal(5,2)", None, b""),
        ("decimal(5,2)", None, b"-"),
        ("decimal(5,2)", None, b"1e5"),
        ("double", None, b"nan"),
        ("date", None, b"yesterday"),
        ("datetime", None, b"2024-02-29 25"),
        ("varchar(5)", "utf8mb4", b"\xff"),
        ("varchar(5)", "utf8mb4", b"\xed\xa0\x80"),
        ("varchar(5)", "dec8", b"\xff"),
        ("varchar(5)", "eucjpms", b"\x8e "),
        ("varchar(5)", "ujis", b"\xff"),
        ("varchar(5)", None, b"a"),
        ("varchar(5)", "nosuch", b"a"),
        ("json", None, b'{"a": '),
        ("json", None, b"{\"a\": x'CAFE'}"),
        ("vector(2)", None, b"abc"),
        ("point", None, b"\x00\x00\x00\x00\x01"),
        ("point", None, NUL_POINT + b"\0"),
        ("point", None, NUL_POINT[:-1]),
        ("geometry", None, NUL_POINT[:5] + b"\x08" + NUL_POINT[6:]),
        ("multipoint", None, bytes.fromhex("00000000 01 04000000 01000000 01 07000000 00000000")),
        ("linestring", None, bytes.fromhex("00000000 01 02000000 FFFFFFFF")),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    column_type: str, charset: str | None, raw: bytes
) -> None:
    """No value is invented."""
    for copying in (True, False):
        with pytest.raises(ValueError):  # noqa: PT011 - many kinds, all of them ValueError
            value_type(column_type, charset, copying=copying).convert(raw)


def decoded(column_type: str, raw: bytes, options: ValueOptions, *, charset: int = 255) -> Any:
    field = query.Field(name="v", column_type=column_type, charset=charset)
    decoder = RowDecoder(Fields("t", "-80", (field,), copying=False), "ks", {"v"}, options)
    return decoder.decode(query.Row(lengths=[len(raw)], values=raw))["v"]


@pytest.mark.parametrize(
    ("column_type", "raw", "charset", "words"),
    [
        ("date", b"2024-00-10", 63, "a zero or partial date; set zero_dates to null or to string"),
        ("text", b"secret\xff", 255, "not text in the column's charset; if an ALTER"),
        ("text", b"secret", 0, "names the column's charset"),
        ("json", b'"base64:type15:c2VjcmV0"]', 63, "not JSON: Vitess loses .* copy the table"),
        ("int", b"secret", 63, "does not fit the column's type \\(ValueError\\)"),
    ],
)
def test_errors_name_the_column_and_hide_the_value(
    column_type: str, raw: bytes, charset: int, words: str
) -> None:
    """They say where and what to do."""
    with pytest.raises(ValueDecodeError, match="ks.t on shard -80, column v: .*" + words) as caught:
        decoded(column_type, raw, ValueOptions(zero_dates="error"), charset=charset)
    assert "secret" not in str(caught.value)
    assert "2024" not in str(caught.value)


def test_a_zero_date_in_a_key_is_an_error_and_not_null() -> None:
    """Unless zero_dates is string; other dates of a key keep their format."""
    for kind, raw in (("date", b"0000-00-00"), ("datetime", b"2024-00-10 00:00:00")):
        found = value_type(kind, None, key=True)
        assert found.schema["format"]
        with pytest.raises(UnfitError, match=r"key column.*set zero_dates to string"):
            found.convert(raw)
        options = ValueOptions(zero_dates="string")
        found = value_type(kind, None, key=True, options=options)
        assert "format" not in found.schema
        assert found.convert(raw).startswith(raw[:10].decode())


LABELS = ["it's", "a,b", 'q"', "back\\slash", "new\nline", "é", "')", "\0", "\r", ""]
ENUM = "enum('it''s','a,b','q\"','back\\\\slash','new\\nline','é',''')','\\0','\\r','')"


def test_indexes_of_enums_become_labels() -> None:
    """As Vitess 19 sends them; 0 is MySQL's own empty label."""
    found = value_type(ENUM, "latin1", copying=False, labelled=False)
    indexes = [found.convert(b"%d" % i) for i in range(len(LABELS) + 1)]
    assert indexes == ["", *LABELS]
    for wrong in (b"11", b"-1", b"a"):
        with pytest.raises(ValueError):  # noqa: PT011
            found.convert(wrong)


@given(st.sets(st.integers(0, 63)))
def test_bitmaps_of_sets_become_labels(members: set[int]) -> None:
    """As Vitess 19 sends them, the 64th member among them."""
    kind = "set({})".format(",".join(f"'m{i}'" for i in range(64)))
    bits = b"%d" % sum(1 << i for i in members)
    labels = [f"m{i}" for i in sorted(members)]
    found = value_type(kind, "utf8mb4", copying=False, labelled=False)
    assert found.convert(bits) == ",".join(labels)
    options = ValueOptions(set_as="array")
    found = value_type(kind, "utf8mb4", copying=False, labelled=False, options=options)
    assert found.convert(bits) == labels
    assert not found.warning
    with pytest.raises(UnfitError):
        value_type("set('a')", None, copying=False, labelled=False).convert(b"2")


def test_what_cannot_be_put_right_is_told() -> None:
    """The 64th member of a SET in streamed changes, and types that are not known."""
    kind = "set({})".format(",".join(f"'m{i}'" for i in range(64)))
    for set_as in ("string", "array"):
        options = ValueOptions(set_as=set_as)
        assert value_type(kind, "utf8mb4", options=options, copying=False).warning
        assert not value_type(kind, "utf8mb4", options=options).warning
    assert "newtype" in (value_type("newtype(1)", None).warning or "")
    assert not any(value_type(case[0], case[1]).warning for case in CASES[:-1])


# Documents


@pytest.mark.parametrize(
    ("streamed", "printed"),
    [
        (rb'{"a": "\x01\a\v\U0001f600\\x01\\\a"}',
         '{"a": "\\u0001\\u0007\\u000b😀\\\\x01\\\\\\u0007"}'),
        (rb'"\u00e9\u202e\u0007"', r'"\u00e9\u202e\u0007"'),
        (b'{"b": {"cc": .50, "d": 1}, "": [00, -.0]}',
         '{"b": {"cc": 0.50, "d": 1}, "": [0, -0.0]}'),
        (b'{"aa": 1, "b": 18446744073709551616.00}', '{"aa": 1, "b": 18446744073709551616.00}'),
        (b'[{}, [], {"a": [{"bb": [], "c": {}}]}]', '[{}, [], {"a": [{"bb": [], "c": {}}]}]'),
        (b'"base64:type15:yv4="', '"base64:type15:yv4="'),
    ],
)  # fmt: skip
def test_streamed_documents_are_put_right(streamed: bytes, printed: str) -> None:
    """Numbers and escapes; keys stay in the order that Vitess gives them."""
    assert (
        orjson.dumps(value_type("json", None, copying=False).convert(streamed)) == printed.encode()
    )


@pytest.mark.parametrize("raw", [rb'"\xff"', rb'"\U00110000"', rb'"\q"', b"[1,]", b"[.]", b""])
def test_documents_that_cannot_be_repaired_are_refused(raw: bytes) -> None:
    with pytest.raises(UnfitError):
        value_type("json", None, copying=False).convert(raw)


words = st.text(st.characters(codec="utf-8"))
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner) | st.dictionaries(words, inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(documents)
def test_json_passes_unharmed(document: Any) -> None:
    """A valid document goes through as it is, on one line, in both phases."""
    text = json.dumps(document, ensure_ascii=False).encode()
    for copying in (True, False):
        written = orjson.dumps(value_type("json", None, copying=copying).convert(text))
        assert written == text
        assert b"\n" not in written


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"b": 1, "aa": ', b"}")])
def test_deep_documents(opening: bytes, closing: bytes) -> None:
    """MySQL's deepest are read; what nobody can read is refused, not a crash."""
    deepest = opening * 99 + b"[]" + closing * 99
    check([deepest] * 20)
    assert from_binlog(deepest) == deepest
    for levels in (1000, 100_000):
        value = opening * levels + b"[]" + closing * levels
        for read in (check, lambda values: from_binlog(values[0])):
            with pytest.raises(ValueError, match="nested deeper"):
                read([value] * 20)


@pytest.mark.parametrize(
    "broken", [b'{"b": "\xc3"}', b'{"b": 1.}', b'{"b": [1,]}', b'{"b": "a\nb"}', b'"\\"' * 99_999]
)
def test_broken_documents_are_refused(broken: bytes) -> None:
    """At once, however long they are."""
    with pytest.raises(ValueError, match=r"not JSON|utf-8"):
        from_binlog(broken)


@pytest.mark.parametrize(
    "text",
    ["12345678901234567890123", "0.1234567890123456789012345", "1.0", "1e20", "-0.0"],
)
def test_plain_keeps_numbers(text: str) -> None:
    """A float where that is exact, else a Decimal."""
    value = plain(value_type("json", None).convert(text.encode()))
    assert kinds.exact(str(value)) == kinds.exact(text)
    assert isinstance(value, float) == (text in {"1.0", "1e20", "-0.0"})


# Reading bytes without converting them


def readings() -> list[tuple[str, ValueType]]:
    """Every type under every setting in both phases."""
    types = {case[0]: case[1] for case in CASES} | {
        "bigint(20) unsigned zerofill": None,
        "decimal(5,0)": None,
        ENUM: "utf8mb4",
        "varchar(3)": "ascii",
        "char(3)": "utf8",
    }
    return [
        (f"{kind} copying={copying} labelled={labelled} {options}", found)
        for kind, charset in types.items()
        for copying in (True, False)
        for labelled in (True, False)
        for options in (*kinds.OPTIONS, ValueOptions(zero_dates="error", decimal_as="number"))
        for found in [
            value_type(kind, charset, options=options, copying=copying, labelled=labelled)
        ]
    ]


def check_raw(name: str, found: ValueType, raw: bytes) -> None:
    """Fail unless the fast reading is what `convert` gives."""
    value = orjson.loads(orjson.dumps(found.convert(raw)))
    if found.whole in {INTEGERS, NUMBERS}:
        assert kinds.exact(raw) == kinds.exact(orjson.dumps(found.convert(raw))), name
        assert value == orjson.loads(raw), name
    elif found.whole is TEXTS:
        assert value == raw.decode("utf-8"), name
    encoder = RowEncoder("t", {"v": found}, ["v"])
    if not raw:  # a row without a byte is not taken apart by column
        return
    line = b"".join(encoder.encode(read_images(packed([raw])), b"{", [b'"end":0}']))
    assert orjson.loads(line)["v"] == value, name


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["copied", "streamed"])
def test_fast_readings_equal_conversion(phase: str) -> None:
    """On all bytes that a real Vitess sent."""
    evidence = kinds.Evidence.load()
    texts = TEXTS, REPLACED_TEXTS, BASE64, HEXADECIMAL
    ways = INTEGERS, NUMBERS, DECIMALS, FLOATS, MOMENTS, *texts, DOCUMENTS, None
    seen = dict.fromkeys(ways, 0)
    for options in kinds.OPTIONS:
        for i, field in enumerate(evidence.fields[phase].fields):
            charset = evidence.charsets.get(field.name, charset_of(field.charset))
            found = value_type(
                field.column_type, charset, options=options, copying=phase == "copied"
            )
            for row in evidence.rows[phase].values():
                lengths = [max(length, 0) for length in row.lengths]
                start = sum(lengths[:i])
                if row.lengths[i] >= 0:
                    check_raw(field.name, found, row.values[start : start + lengths[i]])
                    seen[found.whole] += 1
    assert sum(seen.values()) > 5000
    assert all(count > 100 for count in seen.values()), seen


@given(st.text(st.characters(codec="utf-8")))
def test_fast_text_equals_conversion(text: str) -> None:
    for kind in ("varchar(9)", "longtext", "enum('a')", "set('a')"):
        for charset in ("utf8mb4", "utf8mb3", "utf8"):
            found = value_type(kind, charset)
            assert found.whole is TEXTS
            check_raw(kind, found, text.encode())
    assert value_type("varchar(9)", "latin1").whole is None


def test_only_converted_bytes_may_be_neither_number_nor_text() -> None:
    """What the ends of the readings are: YEAR 0000 and padded numbers are no JSON."""
    for name, found in readings():
        if found.whole in {INTEGERS, NUMBERS}:
            assert found.schema["type"] in {"integer", "number"}, name
            assert not name.startswith(("year", "float", "double", "bit")), name
            assert "zerofill" not in name or "copying=False" in name, name
        if found.whole is TEXTS:
            assert found.schema["type"] == "string", name
            if "zero_dates='string'" not in name:
                assert found.schema.get("format") in {None, "x-singer.decimal"}, name
    padded = value_type("int(8) unsigned zerofill", None)
    assert padded.whole is None


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-9999, max_value=9999)
)
def test_decimals_keep_their_text(number: Any) -> None:
    """A canonical decimal stays as it is, and its binlog form comes to the same."""
    convert = value_type("decimal(12,4)", None).convert
    text = f"{abs(number):.4f}" if number == 0 else f"{number:.4f}"
    binlog = text.replace("-0.", "-.") if text.startswith("-0.") else text.lstrip("0")
    assert convert(text.encode()) == text
    assert convert(binlog.encode()) == text


# What a real cluster sent and answered


def test_recorded_values_equal_what_select_answers() -> None:
    """Every type, copied and streamed, under all settings; recorded by tests/cluster."""
    evidence = kinds.Evidence.load()
    assert len(evidence.answers) > 60
    kinds.check(evidence)


def test_recorded_vectors_equal_what_select_answers() -> None:
    """The same for VECTOR, from a MySQL 9 and a Vitess 24."""
    evidence = kinds.Evidence.load(vectors.EVIDENCE, vectors.VECTORS)
    assert {max(row.lengths) for row in evidence.rows["copied"].values()} >= {4 * vectors.MOST}
    assert {f.type for f in evidence.fields["streamed"].fields} == {query.INT64, query.VECTOR}
    kinds.check(evidence)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('{"a": [3739804979590641.5, -1e20, 7, "1e2"]}', True),
        ('{"a": [3.7398049795906415e15, -1e20, 7, "1e2"]}', True),
        ('{"a": [3.7398049795906414e15, -1e20, 7, "1e2"]}', False),
        ('{"a": [3739804979590641.50, -1e20, 7, "1e2"]}', False),
        ('{"a": [-3.7398049795906415e15, -1e20, 7, "1e2"]}', False),
        ('{"a": [3739804979590641.5, -1e20, 7.0, "1e2"]}', False),
        ('{"a": [3739804979590641.5, -1e20, 7e0, "1e2"]}', False),
        ('{"a": [3739804979590641.5, -1e20, 7, "100.0"]}', False),
        ('{"a":[3739804979590641.5, -1e20, 7, "\\u0031e2"]}', True),
        ('{"b": [3739804979590641.5, -1e20, 7, "1e2"]}', False),
        ('{"a": [3739804979590641.5, -1e20, 7]}', False),
        (None, False),
    ],
)
def test_what_the_judge_takes_for_the_same_document(text: str | None, *, same: bool) -> None:
    """Keys have any order, a DOUBLE may have an exponent; numbers are else as spelled."""
    mysql = kinds.DocumentText('{"a": [3739804979590641.5, -1e20, 7, "1e2"]}')
    assert mysql.is_said_by(text) is same


def test_the_settings_are_the_options() -> None:
    """With the same choices and defaults."""
    config = Config.from_settings({"host": "h"})
    assert config.values == DEFAULTS
    for name in ValueOptions.__dataclass_fields__:
        for choice in SETTINGS[name]["enum"]:
            changed = Config.from_settings({"host": "h", name: choice}).values
            assert getattr(changed, name) == choice


# Charsets


@pytest.mark.parametrize(
    ("collation", "charset"), [(63, "binary"), (54, "utf16"), (255, "utf8mb4"), (8, "latin1")]
)
def test_collations(collation: int, charset: str) -> None:
    """Collation ids lead to charsets, among them ids PyMySQL lacks."""
    assert charset_of(collation) == charset


@pytest.mark.parametrize("charset", sorted(kinds.CHARSETS))
def test_every_character_of_a_charset(charset: str) -> None:
    """As MySQL converted them: all single bytes, all pairs, and a sample of what is longer."""
    strict, replacing = decoder(charset), decoder(charset, errors="replace")
    assert strict
    assert replacing
    seen = set()
    for first, text in kinds.CHARSETS[charset]:
        start = int(first, 16)
        for code, char in enumerate(text, start):
            raw = code.to_bytes(len(first) // 2, "big")
            assert strict(raw) == char, raw.hex()
            assert replacing(raw) == char, raw.hex()
            seen.add(raw)
    whole = b"".join(sorted(seen))
    assert len(strict(whole)) == len(seen)


@pytest.mark.parametrize(
    "charset", [c for c, runs in kinds.CHARSETS.items() if all(len(f) == 2 for f, _ in runs)]
)
def test_bytes_without_a_character(charset: str) -> None:
    """What MySQL shows as `?` is refused or replaced, unless Python's codec knows better."""
    known = {
        int(first, 16) + i for first, text in kinds.CHARSETS[charset] for i in range(len(text))
    }
    strict, replacing = decoder(charset), decoder(charset, errors="replace")
    assert strict
    assert replacing
    for byte in set(range(256)) - known:
        raw = bytes([byte])
        if charset in {"cp1256", "greek"} and replacing(raw) != "\ufffd":
            continue
        with pytest.raises(UnicodeDecodeError):
            strict(raw)
        assert replacing(raw) == "\ufffd"


def test_latin1_has_all_256_bytes() -> None:
    """MySQL's latin1 is cp1252 with C1 controls in its five gaps."""
    decode = decoder("latin1")
    assert decode is not None
    text = decode(bytes(range(256)))
    assert len(set(text)) == 256
    assert text[0x80] == "€"
    assert text[0x81] == "\x81"
