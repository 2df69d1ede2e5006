"""Every type's values through three real targets and back: what was stored is what the source has.

The source is the sandbox, the pipe a real one; half of the rows are copied and half of them
streamed. What a target cannot hold is left out here and told in docs/values.md: target-postgres
no integers of 2^63 and more (so BIGINT UNSIGNED goes as decimal) and no NUL in text, target-duckdb
no documents that are bare strings (so JSON goes as string) and no empty strings (they become NULL).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import targets
from support.environments import install
from support.taps import settings

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Row, Table
from tap_vitess.sandbox.server import Sandbox, serve

pytestmark = pytest.mark.environments

Read = Callable[[Any], Any]


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(str(value)).replace(tzinfo=None)


def _document(value: Any) -> Any:
    return json.loads(value, parse_float=str) if isinstance(value, str) else value


POINT = bytes.fromhex("E6100000 01 01000000 0000000000003440 0000000000002540")
CRS = {"type": "name", "properties": {"name": "EPSG:4326"}}
SHAPE = {"type": "Point", "coordinates": ["20.0", "10.5"], "crs": CRS}

# column -> type, how a stored value is read, and pairs of bytes in the source and value.
COLUMNS: dict[str, tuple[str, Read, list[tuple[bytes, Any]]]] = {
    "tinyint": ("tinyint", int, [(b"-128", -128), (b"127", 127)]),
    "bool": ("tinyint(1)", int, [(b"0", 0), (b"1", 1)]),
    "smallint": ("smallint", int, [(b"-32768", -32768), (b"32767", 32767)]),
    "mediumint": ("mediumint", int, [(b"-8388608", -(2**23)), (b"8388607", 2**23 - 1)]),
    "int": ("int", int, [(b"-2147483648", -(2**31)), (b"2147483647", 2**31 - 1)]),
    "int_u": ("int unsigned", int, [(b"0", 0), (b"4294967295", 2**32 - 1)]),
    "bigint": ("bigint", int, [(b"%d" % -(2**63), -(2**63)), (b"%d" % (2**63 - 1), 2**63 - 1)]),
    "bigint_u": ("bigint unsigned", int, [(b"0", 0), (b"18446744073709551615", 2**64 - 1)]),
    "year": ("year", int, [(b"0000", 0), (b"2155", 2155)]),
    "bit": ("bit(9)", int, [(b"\0\0", 0), (b"\x01\xff", 511)]),
    "decimal": (
        "decimal(38,10)",
        Decimal,
        [
            (b"-0.0000000001", Decimal("-0.0000000001")),
            (b"1234567890123456789012345678.0123456789",
             Decimal("1234567890123456789012345678.0123456789")),
        ],
    ),
    "whole": ("decimal(20,0)", Decimal, [(b"-5", -5), (b"99999999999999999999", 10**20 - 1)]),
    "float": ("float", float, [(b"-1.5", -1.5), (b"3.40282e38", 3.40282e38)]),
    "double": ("double", float, [(b"0.1", 0.1), (b"-1.7976931348623157e308", -sys.float_info.max)]),
    "date": (
        "date",
        lambda value: str(value)[:10],
        [(b"1000-01-01", "1000-01-01"), (b"0000-00-00", None)],
    ),
    "datetime": (
        "datetime(6)",
        _moment,
        [
            (b"1000-01-01 00:00:00.000001", datetime(1000, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
            (b"9999-12-31 23:59:59.123456", datetime(9999, 12, 31, 23, 59, 59, 123456)),  # noqa: DTZ001
        ],
    ),
    "timestamp": (
        "timestamp",
        _moment,
        [
            (b"1970-01-01 00:00:01", datetime(1970, 1, 1, 0, 0, 1)),  # noqa: DTZ001
            (b"2038-01-19 03:14:07", datetime(2038, 1, 19, 3, 14, 7)),  # noqa: DTZ001
        ],
    ),
    "time": ("time", str, [(b"-838:59:59", "-838:59:59"), (b"23:00:00", "23:00:00")]),
    "char": ("char(9)", str, [(b"", ""), ("é日😀".encode(), "é日😀")]),
    "text": ("text", str, [(b"a\t\n\r\"\\'b", "a\t\n\r\"\\'b"), (b"\x01\x7f", "\x01\x7f")]),
    "enum": ("enum('a','it''s')", str, [(b"a", "a"), (b"it's", "it's")]),
    "set": ("set('x','y')", str, [(b"", ""), (b"x,y", "x,y")]),
    "binary": ("binary(3)", str, [(b"\0\0\0", "AAAA"), (b"\xff\xfe\0", "//4A")]),
    "blob": ("blob", str, [(b"", ""), (b"\0\xff", "AP8=")]),
    "object": ("json", _document, [(b"{}", {}), (b'{"a": [1.5, null]}', {"a": ["1.5", None]})]),
    "array": ("json", _document, [(b"[]", []), (b'["x", true]', ["x", True])]),
    "number": ("json", _document, [(b"1", 1), (b"-0.5", "-0.5")]),
    "point": ("point", _document, [(POINT, SHAPE), (POINT, SHAPE)]),
}  # fmt: skip


def _row(number: int, which: int | None) -> Row:
    found: Row = {"id": b"%d" % number}
    for name, (_, _, pairs) in COLUMNS.items():
        found[name] = None if which is None else pairs[which][0]
    return found


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    made = Cluster()
    made.create_keyspace("shop", ["-80", "80-"])
    return made


def _create(cluster: Cluster, table: str) -> None:
    columns = (Column(name, kind) for name, (kind, _, _) in COLUMNS.items())
    cluster.create_table(
        "shop",
        Table(table, (Column("id", "int", nullable=False), *columns), primary_key=("id",)),
    )


def _check(rows: list[dict[str, Any]], *, empty: str | None = "") -> None:
    """Fail unless rows 1 to 3 (copied) and 11 to 13 (streamed) are the low, the high and NULLs.

    empty: what has become of empty strings.
    """
    found = {int(row["id"]): row for row in rows}
    assert sorted(found) == [1, 2, 3, 11, 12, 13]
    wrong = {}
    for number, row in found.items():
        for name, (_, read, pairs) in COLUMNS.items():
            wanted = None if number % 10 == 3 else pairs[number % 10 - 1][1]
            value = None if row[name] is None else read(row[name])
            if value != (empty if wanted == "" else wanted):
                wrong[number, name] = (row[name], wanted)
    assert not wrong


def _run(sandbox: Sandbox, table: str, target: list[str], folder: Path, **options: str) -> None:
    """Copy three rows and stream three, in two runs of the pipe."""
    config = folder / "tap.json"
    found = settings(sandbox, tables=[f"shop.{table}"], **options)
    config.write_text(json.dumps(found))
    tap = [sys.executable, "-W", "error", "-m", "tap_vitess", "--config", str(config)]
    _create(sandbox.cluster, table)
    state = folder / "state.json"
    for first in (0, 10):
        rows = [_row(first + 1, 0), _row(first + 2, 1), _row(first + 3, None)]
        sandbox.cluster.insert("shop", table, rows)
        given = ["--state", str(state)] if first else []
        state.write_text(json.dumps(targets.pipe([*tap, *given], target, folder)))
    log = (folder / "tap.log").read_text()
    assert '"copy"' not in log


def _target(program: str, requirements: tuple[str, ...], folder: Path, **config: Any) -> list[str]:
    path = folder / "target.json"
    path.write_text(json.dumps(config))
    return [str(install(requirements) / program), "--config", str(path)]


def test_jsonl(cluster: Cluster, tmp_path: Path) -> None:
    """With the defaults of all settings."""
    target = _target(
        "target-jsonl",
        targets.JSONL,
        tmp_path,
        destination_path=str(tmp_path / "out"),
        do_timestamp_file=False,
    )
    with serve(cluster) as sandbox:
        _run(sandbox, "jsonl", target, tmp_path)
    text = (tmp_path / "out" / "shop-jsonl.jsonl").read_text(encoding="utf-8")
    _check([json.loads(line, parse_float=str) for line in text.strip("\n").split("\n")])


def test_postgres(cluster: Cluster, tmp_path: Path) -> None:
    """With BIGINT UNSIGNED as decimal."""
    with targets.postgres() as address, serve(cluster) as sandbox:
        target = _target(
            "target-postgres",
            targets.POSTGRES,
            tmp_path,
            sqlalchemy_url=address.replace("postgresql://", "postgresql+psycopg://"),
            default_target_schema="public",
        )
        _run(sandbox, "pg", target, tmp_path, unsigned_bigint_as="decimal")
        _check(targets.read_postgres(address, '"public"."pg"'))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="duckdb 1.1.3 has no wheel for this Python")
def test_duckdb(cluster: Cluster, tmp_path: Path) -> None:
    """With JSON as string."""
    database = tmp_path / "duck.db"
    target = _target(
        "target-duckdb",
        targets.DUCKDB,
        tmp_path,
        path=str(database),
        filepath=str(database),
        database="duck",
        default_target_schema="main",
    )
    with serve(cluster) as sandbox:
        _run(sandbox, "duck", target, tmp_path, json_as="string")
    _check(targets.read_duckdb(database, "main.duck"), empty=None)
