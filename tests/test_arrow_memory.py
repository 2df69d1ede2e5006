"""A huge value as Arrow costs about three times its response, that one included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
import sys
from pathlib import Path

import msgspec
from support.events import KEYSPACE, VEvent, begin, commit, field, fields, vgtid

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.protocol.columns import decode_all
from tap_vitess.protocol.copy import TableCopy, by_shard
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.records.records import RecordOptions, RecordSequence
from tap_vitess.survey.facts import Column, Table
from tap_vitess.vstream.arrow_reader import OWN_COLUMNS, ArrowReader

SHARD, KIND, SIZE = "-80", sys.argv[1], 48 << 20


def response(*events):
    return vtgate.VStreamResponse(events=events).SerializeToString()


def row(value):
    change = binlogdata.RowChange(after=packed([b"1", b'"%b"' % value]))
    names = {"table_name": f"{KEYSPACE}.t", "keyspace": KEYSPACE, "shard": SHARD}
    event = binlogdata.RowEvent(row_changes=[change], **names)
    return VEvent(type=binlogdata.ROW, keyspace=KEYSPACE, shard=SHARD, row_event=event)


def read(received):
    copy = TableCopy("t", {SHARD: None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True)
    columns = Column("id", "bigint", False, None), Column("v", KIND, True, "utf8mb4")
    reader = ArrowReader(
        Table(KEYSPACE, "t", columns, ("id",)), RecordSequence(0), RecordOptions(), OWN_COLUMNS
    )
    for items in ([*by_shard(copy.feed(decode_all([one])))] for one in received):
        for rows in items:
            if isinstance(rows, Rows):
                [batch] = reader.read(rows, 1)
                assert batch.rows.num_rows == 1


def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


key = field("id", "bigint", key=True)
told = fields(SHARD, "t", key, field("v", KIND))
opening = response(begin(SHARD), told, vgtid(SHARD, {SHARD: 1}))
read([opening, response(row(b"x"), commit(SHARD))])  # imports, and what is kept
huge = response(row(b"y" * SIZE), commit(SHARD))
Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here on
before = memory("VmRSS") - len(huge)
read([opening, huge])
print((memory("VmHWM") - before) / len(huge))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells peaks anew")
@pytest.mark.parametrize("kind", ["longtext", "longblob", "json"])
def test_a_huge_value(kind: str) -> None:
    """In a process of its own: the response, its bytes in columns, and Arrow's own."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind],
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 1 < float(done.stdout) < 4.5
