"""MySQL's answers as the reference for values, for tests on a cluster and on recorded bytes.

A `Kind` is a column: its SQL type, values to insert (edges, and a strategy for more), the SQL that
asks MySQL for a value, and what the tap must write under some settings. The expected value is
derived from MySQL's answer alone, never with the tap's own code.
"""

from __future__ import annotations

import base64
import json
import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tap_vitess._proto import query_pb2 as query
from tap_vitess.protocol.items import Fields
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.types import ValueOptions

DATA = Path(__file__).parents[1] / "data"
EVIDENCE = DATA / "values.json.xz"
CHARSETS: dict[str, list[tuple[str, str]]] = json.loads(
    lzma.decompress((DATA / "charsets.json.xz").read_bytes())
)
OTHERWISE = ValueOptions(
    unsigned_bigint_as="decimal",
    tinyint1_as="boolean",
    bit1_as="boolean",
    decimal_as="number",
    zero_dates="string",
    invalid_text="replace",
    binary_as="hex",
    json_as="string",
    set_as="array",
    geometry_as="wkt",
)
THIRD = ValueOptions(unsigned_bigint_as="string", geometry_as="wkb")
OPTIONS = (ValueOptions(), OTHERWISE, THIRD)

Expect = Callable[[Any, ValueOptions], Any]


@dataclass(frozen=True)
class Kind:
    """A column.

    put: the SQL around a parameter. get: the SQL that reads it, {} being the column.
    """

    sql_type: str
    edges: Sequence[Any]
    more: SearchStrategy[Any]
    expect: Expect
    put: str = "%s"
    get: str = "cast({} as char)"


def _int(answer: str, _: ValueOptions) -> Any:
    return int(answer)


def _bigint_unsigned(answer: str, options: ValueOptions) -> Any:
    number = int(answer)
    if options.unsigned_bigint_as == "integer" or options.decimal_as == "number":
        return number if options.unsigned_bigint_as != "string" else str(number)
    return str(number)


def _tinyint1(answer: str, options: ValueOptions) -> Any:
    return int(answer) if options.tinyint1_as == "integer" else answer != "0"


def _bit(answer: str, _: ValueOptions) -> Any:
    return int(answer, 16)


def _bit1(answer: str, options: ValueOptions) -> Any:
    return int(answer) if options.bit1_as == "integer" else answer == "1"


def _decimal(answer: str, options: ValueOptions) -> Any:
    if options.decimal_as == "number":
        return Decimal(answer)
    sign, digits = ("-", answer[1:]) if answer[0] == "-" else ("", answer)
    whole, dot, fraction = digits.partition(".")
    return sign + (whole.lstrip("0") or "0") + dot + fraction


def _number(answer: str, _: ValueOptions) -> Any:
    return float(answer)


def _is_real(text: str) -> bool:
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return year > 0 and 0 < month <= 12 and 0 < day <= days[month - 1]


def _date(answer: str, options: ValueOptions) -> Any:
    return answer if _is_real(answer) or options.zero_dates == "string" else None


def _datetime(answer: str, options: ValueOptions) -> Any:
    real = _is_real(answer) or options.zero_dates == "string"
    return answer.replace(" ", "T") + "+00:00" if real else None


def _same(answer: Any, _: ValueOptions) -> Any:
    return answer


def _text(answer: str, _: ValueOptions) -> Any:
    return bytes.fromhex(answer).decode()


def _set(answer: str, options: ValueOptions) -> Any:
    text = _text(answer, options)
    if options.set_as == "string":
        return text
    return text.split(",") if text else []


def _binary(answer: str, options: ValueOptions) -> Any:
    return (
        answer if options.binary_as == "hex" else base64.b64encode(bytes.fromhex(answer)).decode()
    )


class DocumentText(str):
    """A JSON document as MySQL prints it; Vitess orders keys and escapes letters differently."""

    __slots__ = ()

    def is_said_by(self, text: object) -> bool:
        """Return whether a text is the same document, with the same digits in its numbers."""
        return isinstance(text, str) and _tokens(self) == _tokens(text)


class _Number:
    """A number, compared as spelled; two DOUBLEs, one with an exponent, by all their digits."""

    __slots__ = ("text",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Number):
            return False
        one, two = self.text, other.text
        exponent = "e" in (one + two).lower()
        doubles = all(set(text) & set(".eE") for text in (one, two))
        same = exponent and doubles and Decimal(one) == Decimal(two)
        return one == two or (same and one.startswith("-") == two.startswith("-"))


def _tokens(text: str) -> Any:
    return json.loads(text, parse_float=_Number, parse_int=_Number)


def _json(answer: str, options: ValueOptions) -> Any:
    return DocumentText(answer) if options.json_as == "string" else exact(answer)


def _geometry(answer: str, options: ValueOptions) -> Any:
    told = exact(answer)
    srid = told["srid"]
    match options.geometry_as:
        case "geojson":
            return told["geojson"] | ({"crs": told["crs"]} if srid else {})
        case "wkt":
            text = re.sub(r"-?[0-9.]+(?:e-?[0-9]+)?", _python_number, told["wkt"])
            return f"SRID={srid};{text}" if srid else text
        case "wkb":
            order, kind, rest = told["hex"][8:10], told["hex"][10:18], told["hex"][18:]
            if srid:  # PostGIS' flag in the kind, followed by MySQL's own four bytes
                kind = kind[:6] + "20" + told["hex"][:8]
            return order + kind + rest


def _python_number(match: re.Match[str]) -> str:
    return repr(float(match[0])).removesuffix(".0")


def exact(text: str | bytes) -> Any:
    """Read JSON so that all digits of its numbers count, but not how they are written."""
    return json.loads(text, parse_float=Decimal)


def _characters(charset: str) -> SearchStrategy[str]:
    """Text from the characters that MySQL knows in a charset."""
    found = "".join(text for _, text in CHARSETS[charset])
    return st.text(st.sampled_from(found), max_size=12)


_WIDE = st.text(st.characters(codec="utf-8"), max_size=12)
_BMP = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=12)


def _int_kind(sql_type: str, low: int, high: int, expect: Expect = _int) -> Kind:
    return Kind(sql_type, [low, high, 0, 1, max(low, -1)], st.integers(low, high), expect)


def _decimal_kind(precision: int, scale: int, attributes: str = "") -> Kind:
    top = 10**precision - 1
    low = 0 if attributes else -top
    unscaled = [0, 1, low and -1, top, low, 10**scale, low and -(10**scale)]
    texts = [_scaled(number, scale) for number in unscaled]
    more = st.integers(low, top) | st.integers(low and -(10**9), 10**9 if precision > 9 else top)
    kind = f"decimal({precision},{scale}){attributes}"
    return Kind(kind, texts, more.map(lambda n: _scaled(n, scale)), _decimal)


def _scaled(unscaled: int, scale: int) -> str:
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return ("-" if unscaled < 0 else "") + whole + ("." + fraction if scale else "")


def _float_kind(sql_type: str, edges: Sequence[str], numbers: SearchStrategy[float]) -> Kind:
    # Whole numbers of seven digits are where rounding to six has ties.
    more = numbers | st.integers(-(2**23), 2**23).map(float)
    return Kind(sql_type, edges, more.map(repr), _number, get="{}")


def _text_kind(sql_type: str, more: SearchStrategy[str], edges: Sequence[str] = ("", "a")) -> Kind:
    return Kind(sql_type, edges, more, _text, get="hex(convert({} using utf8mb4))")


def _bytes_kind(sql_type: str, size: int, edges: Sequence[bytes]) -> Kind:
    return Kind(sql_type, edges, st.binary(max_size=size), _binary, get="hex({})")


def _bit_kind(size: int) -> Kind:
    high = 2**size - 1
    expect = _bit1 if size == 1 else _bit
    return Kind(f"bit({size})", [0, 1, high], st.integers(0, high), expect, get="hex({})")


_SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
_DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
_DATES = ("0000-00-00", "2024-00-10", "2024-02-00", "0000-01-01", "1000-01-01", "9999-12-31")
_MONTHS = st.tuples(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31))
_ANY_DATE = _MONTHS.map(lambda d: f"{d[0]:04}-{d[1]:02}-{d[2]:02}")
_CLOCK = st.tuples(*map(st.integers, (0, 0, 0, 0), (23, 59, 59, 999999)))
_ANY_CLOCK = _CLOCK.map(lambda c: f"{c[0]:02}:{c[1]:02}:{c[2]:02}.{c[3]:06}")
_ANY_DATETIME = st.tuples(_ANY_DATE, _ANY_CLOCK).map(" ".join)
_DATETIMES = [f"{date} 00:00:00" for date in _DATES] + ["2024-02-29 23:59:59.123456"]
_STAMPS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001
    max_value=datetime(2038, 1, 18),  # noqa: DTZ001
).map(lambda d: d.isoformat(" "))
_TIMES = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 838), _ANY_CLOCK).map(
    lambda t: f"{t[0]}{t[1]:02}{t[2][2:]}"
)

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _WIDE
)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        # Vitess 22.0.3 panics at {"": 1}, which stops the keyspace's stream.
        | st.dictionaries(_WIDE, inner, max_size=4).filter(lambda found: list(found) != [""])
    ),
    max_leaves=8,
).map(lambda document: json.dumps(document, ensure_ascii=False))

_COORDINATE = st.floats(-80, 80) | st.integers(-80, 80).map(float)
_POINTS = st.tuples(_COORDINATE, _COORDINATE).map(lambda p: f"{p[0]!r} {p[1]!r}")
_LINES = st.lists(_POINTS, min_size=2, max_size=4).map(", ".join)
_RINGS = st.lists(_POINTS, min_size=3, max_size=3).map(lambda p: ", ".join([*p, p[0]]))


def _joined(form: str, part: str, inner: SearchStrategy[str]) -> SearchStrategy[str]:
    parts = st.lists(inner.map(part.format), min_size=1, max_size=3)
    return parts.map(lambda found: form.format(", ".join(found)))


_SIMPLE = st.one_of(
    _POINTS.map("POINT({})".format),
    _LINES.map("LINESTRING({})".format),
    _joined("POLYGON({})", "({})", _RINGS),
    _joined("MULTIPOINT({})", "({})", _POINTS),
    _joined("MULTILINESTRING({})", "({})", _LINES),
    _joined("MULTIPOLYGON({})", "(({}))", _RINGS),
)
_SHAPES = st.recursive(
    _SIMPLE, lambda inner: _joined("GEOMETRYCOLLECTION({})", "{}", inner), max_leaves=4
)
_SHAPE_EDGES = (
    "POINT(1 2)",
    "POINT(-0.0 1e-7)",
    "POINT(80 -80)",
    "GEOMETRYCOLLECTION EMPTY",
    "GEOMETRYCOLLECTION(GEOMETRYCOLLECTION EMPTY, MULTIPOINT(1 1))",
    "POLYGON((0 0, 10 0, 10 10, 0 0), (1 1, 2 1, 2 2, 1 1))",
)
_ASK_SHAPE = (
    "if({0} is null, null, json_object('srid', st_srid({0}), 'geojson', st_asgeojson({0}), "
    "'crs', json_extract(st_asgeojson({0}, 5, 2), '$.crs'), "
    "'wkt', st_astext({0}, 'axis-order=long-lat'), 'hex', hex({0})))"
)


def _geometry_kind(sql_type: str, srid: int, more: SearchStrategy[str] = _SHAPES) -> Kind:
    put = f"st_geomfromtext(%s, {srid})"
    edges = _SHAPE_EDGES if sql_type == "geometry" else _SHAPE_EDGES[:2]
    return Kind(sql_type, edges, more, _geometry, put, get=_ASK_SHAPE)


# Labels with everything that has a meaning in a type's text.
LABELS = ["", "plain", "it''s", 'qu"ote', "back\\\\slash", "é", "(x)", "a''), (''b", "日本"]
_ENUM = ", ".join(f"'{label}'" for label in ["a,b", *LABELS[1:]])
_SET = ", ".join(f"'{label}'" for label in LABELS[1:] if "," not in label)
_SET_LABELS = [
    label.replace("''", "'").replace("\\\\", "\\") for label in LABELS[1:] if "," not in label
]
_LATIN = "'é', 'ü', 'x'"

KINDS: dict[str, Kind] = {
    "tinyint": _int_kind("tinyint", -128, 127),
    "tinyint_u": _int_kind("tinyint unsigned", 0, 255),
    "tinyint1": _int_kind("tinyint(1)", -128, 127, _tinyint1),
    "smallint": _int_kind("smallint", -(2**15), 2**15 - 1),
    "mediumint": _int_kind("mediumint", -(2**23), 2**23 - 1),
    "int": _int_kind("int", -(2**31), 2**31 - 1),
    "int_u": _int_kind("int unsigned", 0, 2**32 - 1),
    "int_z": _int_kind("int(8) zerofill", 0, 2**32 - 1),
    "bigint": _int_kind("bigint", -(2**63), 2**63 - 1),
    "bigint_u": _int_kind("bigint unsigned", 0, 2**64 - 1, _bigint_unsigned),
    "bigint_z": _int_kind("bigint unsigned zerofill", 0, 2**64 - 1, _bigint_unsigned),
    "year": Kind("year", [0, 1901, 2155], st.integers(1901, 2155), _int),
    "bit1": _bit_kind(1),
    "bit9": _bit_kind(9),
    "bit64": _bit_kind(64),
    "decimal2": _decimal_kind(10, 2),
    "decimal0": _decimal_kind(38, 0),
    "decimal9": _decimal_kind(9, 0),
    "decimal30": _decimal_kind(65, 30),
    "decimal_all": _decimal_kind(4, 4),
    "decimal_z": _decimal_kind(12, 3, " unsigned zerofill"),
    "float": _float_kind("float", ["0", "-0", "1.1", "16777216", "3.4028234e38", "1e-45"], _SINGLE),
    "float3": _float_kind("float(10,3)", ["0", "-0.001", "1234567.891"], _SINGLE),
    "double": _float_kind("double", ["-0", "0.1", "5e-324", "1.7976931348623157e308"], _DOUBLE),
    "double3": _float_kind("double(15,3)", ["0", "-0.001", "123456789012.345"], _DOUBLE),
    "date": Kind("date", _DATES, _ANY_DATE, _date),
    "datetime": Kind("datetime", _DATETIMES, _ANY_DATETIME, _datetime),
    "datetime3": Kind("datetime(3)", _DATETIMES, _ANY_DATETIME, _datetime),
    "timestamp": Kind(
        "timestamp null", ["1970-01-01 00:00:01", "0000-00-00 00:00:00"], _STAMPS, _datetime
    ),
    "timestamp6": Kind("timestamp(6) null", ["2038-01-19 03:14:07.999999"], _STAMPS, _datetime),
    "time": Kind("time", ["-838:59:59", "838:59:59", "-00:00:01", "00:00:00"], _TIMES, _same),
    "time6": Kind("time(6)", ["-00:00:00.000001", "838:59:59", "-12:00:00.5"], _TIMES, _same),
    "char": _text_kind("char(12)", _WIDE, ["", "a ", " a", "\0"]),
    "varchar": _text_kind("varchar(12)", _WIDE, ["", "a ", '\t\n\r"\\/', "\0\x1f\x7f\u2028😀"]),
    "varchar_bin": _text_kind("varchar(12) collate utf8mb4_bin", _WIDE),
    "char_cs": _text_kind("char(12) collate utf8mb4_0900_as_cs", _WIDE),
    "longtext": _text_kind("longtext", _WIDE, ["", "é" * 40000]),
    "tinytext": _text_kind("tinytext", _WIDE),
    **{f"in_{c}": _text_kind(f"varchar(12) charset {c}", _characters(c)) for c in CHARSETS},
    **{f"in_{c}": _text_kind(f"varchar(12) charset {c}", _BMP) for c in ("ucs2", "utf8")},
    **{
        f"in_{c}": _text_kind(f"varchar(12) charset {c}", _WIDE)
        for c in ("utf16", "utf16le", "utf32")
    },
    "in_gbk_bin": _text_kind("varchar(12) charset gbk collate gbk_bin", _characters("gbk")),
    "in_german": _text_kind("char(12) collate latin1_german2_ci", _characters("latin1")),
    "binary": _bytes_kind("binary(4)", 4, [b"", b"\0", b"a\0", b"\xff\xfe\0\0"]),
    "varbinary": _bytes_kind("varbinary(12)", 12, [b"", b"\0", b"\xff"]),
    "blob": _bytes_kind("blob", 40, [b"", b"\0" * 300]),
    "json": Kind(
        "json",
        [
            "null",
            "[]",
            "{}",
            '{"b": 1, "aa": [1.0, 1e20], "a": {"z": 1, "": 2}}',
            '"\\u0007\\u000b"',
        ],
        _DOCUMENTS,
        _json,
        get="{}",
    ),
    "json_decimal": Kind(
        "json",
        ["0", "-7", "7", "12345678901234567890123", "-0.05"],
        st.decimals(-(10**20), 10**20, places=3).map(str) | st.integers(-(10**40), 10**40).map(str),
        _json,
        put="json_object('long', cast(%s as decimal(60,10)), 'x', cast('-.5' as decimal(5,2)), "
        "'', cast('7' as decimal(9,0)))",
        get="{}",
    ),
    "enum": Kind(
        f"enum({_ENUM})",
        ["", "a,b", *_SET_LABELS, "a'), ('b", "no such label"],
        st.sampled_from(_SET_LABELS),
        _text,
        get="hex(convert({} using utf8mb4))",
    ),
    "set": Kind(
        f"set({_SET})",
        ["", *_SET_LABELS],
        st.lists(st.sampled_from(_SET_LABELS)).map(",".join),
        _set,
        get="hex(convert({} using utf8mb4))",
    ),
    "enum_latin1": _text_kind(f"enum({_LATIN}) charset latin1", st.sampled_from(["é", "ü", "x"])),
    "set_latin1": Kind(
        f"set({_LATIN}) charset latin1",
        ["", "é,ü,x"],
        st.lists(st.sampled_from(["é", "ü", "x"])).map(",".join),
        _set,
        get="hex(convert({} using utf8mb4))",
    ),
    "geometry": _geometry_kind("geometry", 0),
    "geometry_4326": _geometry_kind("geometry", 4326),
    "geometry_3857": _geometry_kind("geometry", 3857),
    "point": _geometry_kind("point", 4326, _POINTS.map("POINT({})".format)),
}


def rows(count: int, number: int, columns: Mapping[str, Kind] = KINDS) -> list[dict[str, Any]]:
    """Make rows of values: all edges, `count` drawn ones, and one of NULLs."""
    longest = max(len(kind.edges) for kind in columns.values())
    edges = [
        {name: kind.edges[i % len(kind.edges)] for name, kind in columns.items()}
        for i in range(longest)
    ]
    drawn = {name: _drawn(kind.more, count, number) for name, kind in columns.items()}
    more = [{name: values[i % len(values)] for name, values in drawn.items()} for i in range(count)]
    return [*edges, *more, dict.fromkeys(columns)]


def _drawn(strategy: SearchStrategy[Any], count: int, number: int) -> list[Any]:
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=1 + -(-count // 10),  # the first is a list of the simplest value
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(strategy, min_size=10, max_size=10))
    def collect(values: list[Any]) -> None:
        found.extend(values)

    collect()
    return found[10:]


def expected(
    answers: dict[str, Any], options: ValueOptions, columns: Mapping[str, Kind] = KINDS
) -> dict[str, Any]:
    """Turn MySQL's answers for a row into what the tap must write."""
    return {
        name: None if answers[name] is None else kind.expect(answers[name], options)
        for name, kind in columns.items()
    }


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """List the columns that differ; -0.0 and 0.0 do, 1 and true do."""
    return {
        name: (found[name], value)
        for name, value in wanted.items()
        if not _equal(found[name], value)
    }


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    if isinstance(wanted, DocumentText):
        return wanted.is_said_by(found)
    if isinstance(wanted, float) and not isinstance(found, str):
        return found is not None and str(float(found)) == str(wanted)
    return bool(found == wanted)


# A cluster's answers, kept for tests without one


@dataclass(frozen=True)
class Evidence:
    """The same rows as they were copied, streamed and selected.

    fields, rows: by phase (`copied`, `streamed`); the rows also by number. charsets: the columns',
    from discovery. answers: MySQL's, by number. columns: the table's.
    """

    fields: dict[str, Fields]
    rows: dict[str, dict[int, query.Row]]
    charsets: dict[str, str]
    answers: dict[int, dict[str, Any]]
    columns: Mapping[str, Kind] = field(default_factory=lambda: KINDS)

    def decoded(self, phase: str, options: ValueOptions) -> dict[int, dict[str, Any]]:
        """Decode a phase's rows and write them as JSON, with all digits."""
        decoder = RowDecoder(
            self.fields[phase], "ks", self.columns.keys(), options, charsets=self.charsets
        )
        return {
            number: exact(orjson.dumps(decoder.decode(row)))
            for number, row in self.rows[phase].items()
        }

    def save(self, path: Path = EVIDENCE) -> None:
        """Write it to tests/data."""
        told = {
            "fields": {
                p: _packed(query.QueryResult(fields=f.fields)) for p, f in self.fields.items()
            },
            "rows": {p: {n: _packed(r) for n, r in rows.items()} for p, rows in self.rows.items()},
            "charsets": self.charsets,
            "answers": self.answers,
        }
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        path.write_bytes(lzma.compress(text.encode(), preset=9))

    @classmethod
    def load(cls, path: Path = EVIDENCE, columns: Mapping[str, Kind] = KINDS) -> Evidence:
        """Read it again."""
        told = json.loads(lzma.decompress(path.read_bytes()))
        fields = {
            phase: Fields(
                "kinds",
                "-80",
                tuple(query.QueryResult.FromString(base64.b64decode(packed)).fields),
                copying=phase == "copied",
            )
            for phase, packed in told["fields"].items()
        }
        rows = {
            phase: {int(n): query.Row.FromString(base64.b64decode(r)) for n, r in packed.items()}
            for phase, packed in told["rows"].items()
        }
        answers = {int(number): found for number, found in told["answers"].items()}
        return cls(fields, rows, told["charsets"], answers, columns)


def _packed(message: Message) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def check(evidence: Evidence) -> None:
    """Fail unless copied and streamed rows match SELECT's answers, under all OPTIONS."""
    for options in OPTIONS:
        for phase in ("copied", "streamed"):
            found = evidence.decoded(phase, options)
            assert found.keys() == evidence.answers.keys()
            for number, answers in evidence.answers.items():
                wanted = expected(answers, options, evidence.columns)
                differ = differences(found[number], wanted)
                assert not differ, f"{phase} row {number}: {differ} with {options}"
