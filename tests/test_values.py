"""Every MySQL type: the bytes of both phases, the value, and a schema that fits it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tap_vitess.vstream.charsets import charset_of, decoder
from tap_vitess.vstream.values import plain, value_type

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
    ("float", None, b"0.1", b"1E-01", 0.1),
    ("date", None, b"2024-02-29", None, "2024-02-29"),
    ("date", None, b"0000-00-00", None, None),
    ("date", None, b"2024-00-10", None, None),
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
    ("set('x','z')", "utf8mb4", b"x,z", None, "x,z"),
    ("binary(3)", None, b"\x01\x00\x00", None, "AQAA"),
    ("varbinary(3)", "binary", b"\xff", None, "/w=="),
    ("blob", None, b"", None, ""),
    ("json", None, b'{"a": [1.0, null]}', None, {"a": [1.0, None]}),
    ("json", None, b'{"p": 0.5, "n": -0.25}', b'{"p": .5, "n": -.25}', {"p": 0.5, "n": -0.25}),
    ("json", None, b'[7, "x.5 007", 0]', b'[000000007, "x.5 007", 000]', [7, "x.5 007", 0]),
    ("json", None, b"[1e5, -1E-2]", b"[1e5, -1E-2]", [1e5, -1e-2]),
    ("json", None, b"null", None, None),
    ("point", None, b"\x00\x00\x00\x00\x01", None, "AAAAAAE="),
    ("vector(2)", None, b"\x00\x00\x80?\x00\x00\x00@", None, [1.0, 2.0]),
    ("newtype(1)", None, b"what", None, "what"),
]


@pytest.mark.parametrize(("column_type", "charset", "copied", "streamed", "value"), CASES)
def test_both_phases_give_one_value(
    column_type: str, charset: str | None, copied: bytes, streamed: bytes | None, value: Any
) -> None:
    """Copied and streamed bytes become the same value, which fits the schema."""
    for copying, raw in ((True, copied), (False, copied if streamed is None else streamed)):
        if column_type.startswith("enum") and not copying and streamed is None:
            continue
        found = value_type(column_type, charset, copying=copying)
        converted = json.loads(orjson.dumps(found.convert(raw)))
        assert converted == value
        assert plain(found.convert(raw)) == value
        validator = Draft202012Validator(found.nullable())
        assert list(validator.iter_errors(converted)) == []


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
        ("varchar(5)", "dec8", b"a"),
        ("varchar(5)", None, b"a"),
        ("json", None, b'{"a": '),
        ("json", None, b"{\"a\": x'CAFE'}"),
        ("vector(2)", None, b"abc"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    column_type: str, charset: str | None, raw: bytes
) -> None:
    """No value is invented."""
    with pytest.raises(ValueError):  # noqa: PT011 - many kinds, all of them ValueError
        value_type(column_type, charset).convert(raw)


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


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(documents)
def test_json_passes_unharmed(document: Any) -> None:
    """A valid document goes through as it is written, on one line."""
    text = json.dumps(document, ensure_ascii=False).encode()
    written = orjson.dumps(value_type("json", None).convert(text))
    assert written == text
    assert b"\n" not in written


@pytest.mark.parametrize(
    ("collation", "charset"), [(63, "binary"), (54, "utf16"), (255, "utf8mb4"), (8, "latin1")]
)
def test_collations(collation: int, charset: str) -> None:
    """Collation ids lead to charsets, among them ids PyMySQL lacks."""
    assert charset_of(collation) == charset


def test_latin1_has_all_256_bytes() -> None:
    """MySQL's latin1 is cp1252 with C1 controls in its five gaps."""
    decode = decoder("latin1")
    assert decode is not None
    text = decode(bytes(range(256)))
    assert len(set(text)) == 256
    assert text[0x80] == "€"
    assert text[0x81] == "\x81"
