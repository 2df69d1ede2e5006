"""Every session recorded from a real Vitess, replayed over real gRPC into the reader."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support import recordings
from support.recordings import Recording, replay

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.errors import (
    PositionLostError,
    RequestError,
    RetriableError,
    VitessError,
)
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import completed
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.types import ValueOptions
from tap_vitess.vtgate.grpc import connect
from tap_vitess.vtgate.reader import read
from tap_vitess.vtgate.retry import RetryOptions

SELECT = json.loads((Path(recordings.DIRECTORY) / "all_types.select.json").read_text())
NOWHERE = GtidSet.parse("ffffffff-ffff-ffff-ffff-ffffffffffff:1")


class Everything:
    """A container that contains everything."""

    def __contains__(self, _: object) -> bool:
        return True


def feed_for(recording: Recording) -> ChangeStream | TableCopy:
    """Make the feed that the recorded request was for; its stop position is never reached."""
    asked = recording.request.vgtid.shard_gtids
    keyspace = asked[0].keyspace
    events = [event for response in recording.responses for event in response.events]
    names = {event.row_event.table_name for event in events if event.type == binlogdata.ROW}
    tables = frozenset(name.removeprefix(f"{keyspace}.") for name in names) or frozenset({"item"})
    shards = {e.shard for event in events for e in event.vgtid.shard_gtids} or {"-80", "80-"}
    if any(not entry.gtid or entry.table_p_ks for entry in asked):
        table = recording.request.filter.rules[0].match
        progress = dict.fromkeys(shards)
        copy = TableCopy(table, progress, None, RequestOptions(), keyspace=keyspace, resumable=True)
        copy.tables = tables  # some recordings copy several at once
        return copy
    start = Vgtid(keyspace, dict.fromkeys(shards, GtidSet({})))
    stop = Vgtid(keyspace, dict.fromkeys(shards, NOWHERE))
    return ChangeStream(tables, start, stop, RequestOptions())


def read_all(recording: Recording, each: Callable[[Rows, RowDecoder], None]) -> VitessError:
    """Read a recording to its end, and return what it ended with."""
    decoders: dict[Fields, RowDecoder] = {}
    with (
        replay(recording.responses, end=recording.end, details=recording.details) as config,
        connect(config) as client,
    ):
        try:
            for items in read(client, feed_for(recording), RetryOptions(budget=0)):
                for item in items:
                    if isinstance(item, Rows):
                        if item.fields not in decoders:
                            decoders[item.fields] = RowDecoder(
                                item.fields, "shop", Everything(), ValueOptions(geometry_as="wkb")
                            )
                        each(item, decoders[item.fields])
        except VitessError as error:
            return error
    return VitessError("finished")


def decode(change: binlogdata.RowChange, decoder: RowDecoder) -> list[dict[str, Any]]:
    """Return the images of a change, without what they do not tell."""
    images = []
    if change.HasField("before"):
        images.append((change.before, frozenset[str]()))
    if change.HasField("after"):
        images.append(completed(change, decoder.fields, decoder.where))
    return [
        {
            name: value
            for name, value in json.loads(orjson.dumps(decoder.decode(image))).items()
            if name not in unknown
        }
        for image, unknown in images
    ]


ENDED = (RetriableError, "VTGate ended the stream")  # the recorder left, not VTGate
FINISHED = (VitessError, "finished")
ENDS: dict[str, tuple[type[VitessError], str]] = {
    "error_bad_filter": (RequestError, "VTGate said UNKNOWN"),
    "error_bad_gtid": (RequestError, "VTGate failed inside"),
    "error_purged_gtid": (PositionLostError, "binlogs after the bookmark have been purged"),
    "v24/error_purged_gtid": (RetriableError, "no tablet serves the shard, or none that has"),
    "error_unknown_column": (RequestError, "not found in table"),
    "error_unknown_keyspace": (RequestError, "does not know the keyspace"),
    "error_unknown_shard": (PositionLostError, "shards that no longer exist"),
    "error_unknown_table": (RequestError, "not there \\(any more\\)"),
    "reshard_old_position_completed": (PositionLostError, "shards that no longer exist"),
    "copy_all_tables": FINISHED,
    "copy_resume_in_table": FINISHED,
    "copy_with_writes": FINISHED,
    "reshard_followed": (RetriableError, "VTGate said NOT_FOUND"),
}


@pytest.mark.parametrize("name", recordings.names())
def test_every_recording_is_read_to_its_end(name: str) -> None:
    """All events are understood, all rows decoded, and the end is explained."""
    recording = recordings.load(name)
    seen = 0

    def count(rows: Rows, decoder: RowDecoder) -> None:
        nonlocal seen
        seen += sum(len(decode(change, decoder)) > 0 for change in rows.changes)

    end = read_all(recording, count)
    kind, words = ENDS.get(name) or ENDS.get(name.removeprefix("v24/")) or ENDED
    with pytest.raises(kind, match=words):
        raise end
    if (kind, words) == ENDED:
        sent = sum(
            len(event.row_event.row_changes)
            for response in recording.responses
            for event in response.events
            if event.type == binlogdata.ROW
        )
        assert seen == sent or isinstance(feed_for(recording), TableCopy)


def as_selected(record: dict[str, Any]) -> dict[str, Any]:
    """Turn a decoded record into what SELECT printed: everything as text, bytes in hex."""
    return {
        name: None if record[name] is None else _as_text(kind.partition("(")[0], record[name])
        for name, kind in SELECT["columns"].items()
    }


def _as_text(kind: str, value: Any) -> Any:
    match kind:
        case "bit":
            return f"{value:X}"
        case "binary" | "varbinary" | "tinyblob" | "blob":
            return base64.b64decode(value).hex().upper()
        case "geometry" | "point":
            return "00000000" + value  # MySQL's form begins with the SRID
        case "datetime" | "timestamp":
            return value.replace("T", " ").removesuffix("+00:00")
        case "json" | "float" | "double":
            return value
        case _:
            return str(value)


def selected(row: dict[str, Any]) -> dict[str, Any]:
    """Read the parts of a SELECT's answer that are no text to us."""
    found = dict(row)
    for name, kind in SELECT["columns"].items():
        if row[name] is not None and kind in {"json", "float", "double"}:
            found[name] = json.loads(row[name])
        if row[name] is not None and kind.startswith("bit"):
            found[name] = row[name].lstrip("0") or "0"
        if row[name] is not None and row[name].startswith("0000-00-00"):
            found[name] = None
    return found


@pytest.mark.parametrize("version", ["", "v24/"])
def test_values_equal_what_select_answers(version: str) -> None:
    """MySQL is the judge of every type, in the copy and in the binlog."""
    found: dict[str, dict[str, Any]] = {}

    def keep(rows: Rows, decoder: RowDecoder) -> None:
        if rows.fields.table == "all_types":
            for change in rows.changes:
                for record in decode(change, decoder):
                    found[str(record["id"])] = record
                if not change.HasField("after"):
                    found.pop(str(decode(change, decoder)[0]["id"]))

    read_all(recordings.load(f"{version}copy_all_tables"), keep)
    copied = set(found)
    read_all(recordings.load(f"{version}binlog_all_types"), keep)
    wanted = {row["id"]: selected(row) for row in SELECT["rows"]}
    assert copied <= found.keys()
    if not version:
        assert found.keys() == wanted.keys()
    for key in found.keys() & wanted.keys():
        got = as_selected(found[key])
        wrong = {n: (got[n], v) for n, v in wanted[key].items() if got[n] != v}
        assert not wrong, f"row {key}"
