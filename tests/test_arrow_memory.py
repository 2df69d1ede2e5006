"""Memory of rows as Arrow: flat, and about three times its response for a huge value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMON = r"""
import sys
from pathlib import Path

import msgspec
from support.events import KEYSPACE, VEvent, begin, commit, field, fields, gtid, vgtid

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.protocol.changes import ChangeStream, by_table
from tap_vitess.protocol.decode import (decode_all)
from tap_vitess.protocol.copy import TableCopy, by_shard
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordOptions, RecordSequence
from tap_vitess.survey.facts import Column, Table
from tap_vitess.vstream.arrow_reader import OWN_COLUMNS, ArrowReader

SHARD, KIND, HOW = "-80", *sys.argv[1:]
AT = 0 if HOW == "copy" else 1_700_000_000
IMAGES = {"copy": ["after"], "insert": ["after"], "delete": ["before"]}


def response(*events):
    return vtgate.VStreamResponse(events=events).SerializeToString()


def row(value):
    image = packed([b"1", b'"%b"' % value])
    change = binlogdata.RowChange(**dict.fromkeys(IMAGES.get(HOW, ["before", "after"]), image))
    names = {"table_name": f"{KEYSPACE}.t", "keyspace": KEYSPACE, "shard": SHARD}
    event = binlogdata.RowEvent(row_changes=[change], **names)
    where = {"keyspace": KEYSPACE, "shard": SHARD}
    return VEvent(type=binlogdata.ROW, timestamp=AT, row_event=event, **where)


def feed():
    if HOW == "copy":
        shards, how = {SHARD: None}, RequestOptions()
        return TableCopy("t", shards, None, how, keyspace=KEYSPACE, resumable=True)
    start, stop = (Vgtid(KEYSPACE, {SHARD: GtidSet.parse(gtid(SHARD, n))}) for n in (1, 1000))
    return ChangeStream(["t"], start, stop, RequestOptions())


def read(taken, received):
    columns = Column("id", "bigint", False, None), Column("v", KIND, True, "utf8mb4")
    reader = ArrowReader(
        Table(KEYSPACE, "t", columns, ("id",)), RecordSequence(0), RecordOptions(), OWN_COLUMNS
    )
    rows = 0
    for responses in received:
        items = taken.feed(decode_all(responses))
        for item in by_shard(items) if HOW == "copy" else by_table(items, mixed=True):
            if isinstance(item, Rows):
                [batch] = reader.read(item, 1)
                rows += batch.rows.num_rows
    return rows


def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def measure_peak():
    Path("/proc/self/clear_refs").write_text("5")


told = fields(SHARD, "t", field("id", "bigint", key=True), field("v", KIND), at=AT)
opening = [begin(SHARD, AT), told] + ([vgtid(SHARD, {SHARD: 1})] if HOW == "copy" else [])
closing = ([] if HOW == "copy" else [vgtid(SHARD, {SHARD: 2})]) + [commit(SHARD, AT)]
"""

HUGE = r"""
def given(responses):
    while responses:
        yield (responses.pop(0) for _ in range(1))  # held by nobody else


def both(value):
    return [response(*opening), response(row(value), *closing)]


assert read(feed(), given(both(b"x"))) == 1  # imports, and what is kept
huge = both(b"y" * (48 << 20))
size = len(huge[1])
measure_peak()
before = memory("VmRSS") - size
assert read(feed(), given(huge)) == 1
print((memory("VmHWM") - before) / size)
"""

FLAT = r"""
def given(rounds):
    rows = [row(b"y" * (n % 300)) for n in range(500)]
    yield [response(*opening)]
    for number in range(2, 2 + rounds):
        at = [vgtid(SHARD, {SHARD: number})]
        first = [begin(SHARD, AT), *(at if HOW == "copy" else [])]
        last = [*([] if HOW == "copy" else at), commit(SHARD, AT)]
        yield [response(*first), *([response(*rows)] * 20), response(*last)]


assert read(feed(), given(10)) == 10 * 20 * 500
before = memory("VmHWM")
assert read(feed(), given(40)) == 40 * 20 * 500
print((memory("VmHWM") - before) >> 20)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells peaks anew"),
]


def run(program: str, *arguments: str) -> float:
    """Run a program in a process of its own; return what it prints."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, *arguments],
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *(("longtext", how) for how in ("copy", "insert", "update", "delete")),
        *(("longblob", "copy"), ("json", "copy"), ("json", "update")),
    ],
)
def test_a_huge_value(kind: str, how: str) -> None:
    """The response, its bytes in columns, and Arrow's own."""
    assert 1 < run(HUGE, kind, how) < 3.5


@pytest.mark.parametrize("how", ["copy", "update"])
def test_many_rows(how: str) -> None:
    """Four times as many batches take no more memory: each has some MB."""
    assert run(FLAT, "longtext", how) < 12
