"""What a real Vitess sent, looked at event by event: the evidence of docs/vstream.

The recordings are of Vitess 22.0.3, those under `v24/` of a snapshot of 24. None of our code reads
them here but the protobuf messages. What holds for all of them is asked of all of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from support import recordings

from tap_vitess._proto.binlogdata_pb2 import ShardGtid, VEvent
from tap_vitess._proto.binlogdata_pb2 import VEventType as Type

EVERY = pytest.mark.parametrize("name", recordings.names())
BOTH = pytest.mark.parametrize("version", ["", "v24/"])
PRI_KEY = 2


def events(name: str, shard: str | None = None) -> list[VEvent]:
    """All events of a recording, or those of one shard."""
    found = (event for response in recordings.load(name).responses for event in response.events)
    return [event for event in found if shard in (None, event.shard)]


def types(found: list[VEvent]) -> list[str]:
    return [Type.Name(event.type) for event in found]


def by_shard(name: str) -> dict[str, list[VEvent]]:
    found: dict[str, list[VEvent]] = defaultdict(list)
    for event in events(name):
        found[event.shard].append(event)
    return found


def entries(event: VEvent) -> dict[str, ShardGtid]:
    return {entry.shard: entry for entry in event.vgtid.shard_gtids}


def vgtids(name: str) -> Iterator[VEvent]:
    return (event for event in events(name) if event.type == Type.VGTID)


# Transactions


@EVERY
def test_the_vgtid_comes_before_the_commit(name: str) -> None:
    """And has no time; whoever stores it at once says that rows have arrived which may not have."""
    for found in by_shard(name).values():
        for before, event in pairwise(found):
            if event.type in {Type.COMMIT, Type.DDL, Type.OTHER}:
                assert before.type == Type.VGTID
            if event.type == Type.VGTID:
                assert (event.timestamp, event.current_time) == (0, 0)


@EVERY
def test_no_response_mixes_shards_and_no_transaction_is_interleaved(name: str) -> None:
    """From BEGIN to COMMIT of changes, all responses are of one shard."""
    opened = ""
    for response in recordings.load(name).responses:
        shards = {event.shard for event in response.events} - {""}
        assert len(shards) <= 1
        if not response.events[0].timestamp:
            continue
        assert not opened or shards <= {opened}
        for event in response.events:
            if event.type == Type.BEGIN:
                opened = event.shard
            elif event.type == Type.COMMIT:
                opened = ""


@BOTH
def test_a_large_transaction_is_one_group(version: str) -> None:
    """3,000 rows, several to a ROW event, one BEGIN, one VGTID, one COMMIT."""
    found = [event for event in events(f"{version}binlog_big_transaction") if event.timestamp]
    assert types(found).count("BEGIN") == types(found).count("COMMIT") == 1
    counts = [len(e.row_event.row_changes) for e in found if e.type == Type.ROW]
    assert (sum(counts), max(counts) > 1) == (3000, True)


@BOTH
def test_writes_to_other_tables_move_the_position(version: str) -> None:
    """Transactions without a row: BEGIN, VGTID, COMMIT."""
    found = events(f"{version}binlog_unrelated_writes")
    assert "ROW" not in types(found)
    assert types(found)[4:7] == ["BEGIN", "VGTID", "COMMIT"]
    positions = [[e.gtid for e in event.vgtid.shard_gtids] for event in found if event.vgtid]
    assert len(set(map(tuple, positions))) > 3


@BOTH
def test_deletes_and_changes_of_a_key(version: str) -> None:
    """A delete has the before image alone; another key is one change with two keys."""
    changes = [
        (event.row_event.table_name, change.HasField("before"), change.HasField("after"), change)
        for event in events(f"{version}binlog_dml_2")
        for change in event.row_event.row_changes
    ]
    assert ("shop.item", True, False) in [change[:3] for change in changes]
    [line] = [c[3] for c in changes if c[0] == "shop.line"]
    before, after = line.before, line.after
    assert before.values[: sum(before.lengths[:1])] == after.values[: sum(after.lengths[:1])]
    assert before.values != after.values


@EVERY
def test_table_names_have_the_keyspace_in_some_events_only(name: str) -> None:
    """FIELD and ROW have it, the TablePKs of a VGTID and the text of a DDL do not."""
    for event in events(name):
        keyspace = event.keyspace + "."
        if event.type == Type.FIELD:
            assert event.field_event.table_name.startswith(keyspace)
        if event.type == Type.ROW:
            assert event.row_event.table_name.startswith(keyspace)
        for entry in event.vgtid.shard_gtids:
            assert not any(pk.table_name.startswith(keyspace) for pk in entry.table_p_ks)
        assert keyspace not in event.statement


# The start


@BOTH
def test_current_is_answered_at_once(version: str) -> None:
    """VGTID and OTHER for each shard, also when nothing is written; the rest stands as asked."""
    found = events(f"{version}current_idle_heartbeat")
    assert types(found)[:4] == ["VGTID", "OTHER", "VGTID", "OTHER"]
    first, second = (entries(event) for event in found[0:3:2])
    assert sorted(entry.gtid == "current" for entry in first.values()) == [False, True]
    assert not any(entry.gtid == "current" for entry in second.values())


@BOTH
def test_heartbeats_have_no_position(version: str) -> None:
    """Nor a keyspace or shard: they prove VGTate alone."""
    beats = [e for e in events(f"{version}current_idle_heartbeat") if e.type == Type.HEARTBEAT]
    assert beats
    for beat in beats:
        assert (beat.keyspace, beat.shard, bool(beat.vgtid.shard_gtids)) == ("", "", False)
        assert beat.current_time


# The copy


@BOTH
def test_copied_rows_have_no_time(version: str) -> None:
    """One row an event, an after image alone; a change has the time, and a ROW many changes."""
    rows = [event for event in events(f"{version}copy_with_writes") if event.type == Type.ROW]
    copied = [row for row in rows if not row.timestamp]
    streamed = [row for row in rows if row.timestamp]
    assert len(copied) > 100
    for row in copied:
        [change] = row.row_event.row_changes
        assert (change.HasField("before"), change.HasField("after")) == (False, True)
        assert row.current_time == 0
    assert max(len(row.row_event.row_changes) for row in streamed) > 1


@BOTH
def test_a_begin_may_follow_a_begin(version: str) -> None:
    """An empty table begins and does not commit."""
    shards = by_shard(f"{version}copy_all_tables").values()
    assert any(
        types(found[i : i + 3]) == ["BEGIN", "FIELD", "BEGIN"]
        or types(found[i : i + 4]) == ["BEGIN", "FIELD", "VGTID", "BEGIN"]
        for found in shards
        for i in range(len(found))
    )


@BOTH
def test_each_shard_completes_by_itself_and_all_together(version: str) -> None:
    """The last one's COPY_COMPLETED and that of the whole come in one response."""
    ends = [
        [event.shard for event in response.events]
        for response in recordings.load(f"{version}copy_all_tables").responses
        if response.events[0].type == Type.COPY_COMPLETED
    ]
    assert [len(end) for end in ends] == [1, 2]
    assert ends[1][1] == ""
    assert {ends[0][0], ends[1][0]} == {"-80", "80-"}


@BOTH
def test_a_table_that_is_finished_leaves_the_vgtid(version: str) -> None:
    """Between two tables a VGTID of a copy looks like one of a stream."""
    shards = by_shard(f"{version}copy_all_tables")
    for shard, found in ((name, shards[name]) for name in ("-80", "80-")):
        named = [
            (before.type, [pk.table_name for pk in entries(event)[shard].table_p_ks])
            for before, event in pairwise(found)
            if event.type == Type.VGTID
        ]
        assert {len(tables) for before, tables in named if before == Type.BEGIN} == {0}
        assert {len(tables) for before, tables in named if before == Type.ROW} == {1}


def test_a_table_is_skipped_in_silence() -> None:
    """From a VGTID between two tables nothing is copied, and no error is told."""
    cut, resumed = map(
        recordings.load, ("copy_interrupted_between_tables", "copy_resume_between_tables")
    )
    tables = {rule.match for rule in cut.request.filter.rules}
    copied = {e.row_event.table_name for e in events(cut.name) if e.type == Type.ROW}
    assert (tables, copied) == ({"item", "line"}, {"shop.item"})
    last = list(vgtids(cut.name))[-1]
    assert [entry.gtid for entry in resumed.request.vgtid.shard_gtids] == [
        entry.gtid for entry in last.vgtid.shard_gtids
    ]
    assert not any(entry.table_p_ks for entry in last.vgtid.shard_gtids)
    assert (resumed.responses, resumed.end) == ([], "DEADLINE_EXCEEDED")


def test_a_resumed_copy_goes_on_behind_the_lastpk() -> None:
    """On its shard; tables without an entry are copied from their first row."""
    resumed = recordings.load("copy_resume_in_table")
    asked = {entry.shard: entry for entry in resumed.request.vgtid.shard_gtids}
    assert [pk.table_name for pk in asked["80-"].table_p_ks] == ["item"]
    assert not asked["-80"].table_p_ks
    rows = {(e.shard, e.row_event.table_name) for e in events(resumed.name) if e.type == Type.ROW}
    assert rows == {("-80", "shop.item"), ("-80", "shop.line"), ("80-", "shop.line")}


@BOTH
def test_labels_are_announced_in_the_field_event(version: str) -> None:
    """Always in a copy; while streaming only where the table has an ENUM or SET."""
    found = [
        event
        for name in ("copy_all_tables", "binlog_all_types", "binlog_dml")
        for event in events(version + name)
        if event.type == Type.FIELD
    ]
    for event in found:
        told = event.field_event
        labels = any(f.column_type.startswith(("enum", "set")) for f in told.fields)
        assert told.enum_set_string_values == (labels or not event.timestamp)


@BOTH
def test_a_bin_collation_turns_text_into_a_binary_type(version: str) -> None:
    """The type says VARBINARY; only the charset, which is not 63, says that it is text."""
    fields = {
        field.name: field
        for event in events(f"{version}copy_all_tables")
        for field in event.field_event.fields
    }
    odd = [
        field
        for field in fields.values()
        if field.column_type.startswith(("varchar", "char", "text", "enum")) and field.charset == 46
    ]
    print([(f.name, f.column_type, f.type) for f in odd])
    assert odd


# DDL


@BOTH
def test_a_ddl_comes_without_begin_and_commit(version: str) -> None:
    """VGTID, DDL; the first rows behind an ALTER have a FIELD event before them."""
    found = by_shard(f"{version}binlog_ddl")["-80"]
    for before, event in pairwise(found):
        if event.type == Type.DDL:
            assert before.type == Type.VGTID
    ddl = [i for i, event in enumerate(found) if event.statement.startswith("alter")]
    assert len(ddl) == 4
    for i in ddl:
        rows = next(j for j in range(i, len(found)) if found[j].type == Type.ROW)
        assert "FIELD" in types(found[i:rows])


@BOTH
def test_truncate_and_drop_delete_no_row(version: str) -> None:
    """There is a DDL, and not one before image."""
    found = events(f"{version}binlog_ddl")
    statements = [event.statement.lower() for event in found if event.type == Type.DDL]
    assert {text.split()[0] for text in statements} >= {"truncate", "rename", "drop"}
    changes = [change for event in found for change in event.row_event.row_changes]
    assert changes
    assert not any(change.HasField("before") for change in changes)


# Resharding and failover


def test_a_reshard_is_followed_without_a_word() -> None:
    """No JOURNAL; the list of shards changes in the VGTIDs, before any event of the new ones."""
    found = events("reshard_old_position")
    assert "JOURNAL" not in types(found)
    lists = [set(entries(event)) for event in found if event.type == Type.VGTID]
    assert lists[0] == {"-80", "80-"}
    assert lists[-1] == {"-40", "40-80", "80-"}
    first = next(i for i, shards in enumerate(lists) if shards == lists[-1])
    named = [event.shard for event in found if event.type == Type.VGTID]
    assert named[first] == "80-"


def test_stop_on_reshard_does_not_end_the_call() -> None:
    """JOURNAL comes last; the recorder had to cancel."""
    recording = recordings.load("reshard_stopped")
    assert recording.request.flags.stop_on_reshard
    assert recording.end == "cancelled by client"
    last = recording.responses[-1].events
    assert types(list(last)) == ["BEGIN", "JOURNAL", "VGTID", "COMMIT"]
    journal = last[1].journal
    assert [entry.shard for entry in journal.participants] == ["80-"]
    assert sorted(entry.shard for entry in journal.shard_gtids) == ["80-c0", "c0-"]


def test_new_shards_may_not_be_found_at_first() -> None:
    """Behind the journal the stream ended, for VGTate did not know the new tablets yet."""
    recording = recordings.load("reshard_followed")
    assert recording.end == "NOT_FOUND"
    assert "is either down or nonexistent" in recording.details


def test_a_failover_adds_a_server_to_the_position() -> None:
    """The stream goes on, FIELD comes once more, and the GTID set has a second UUID."""
    found = events("failover")
    assert types(found).count("FIELD") == 2
    uuids = [
        len(set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", event.vgtid.shard_gtids[0].gtid)))
        for event in found
        if event.type == Type.VGTID
    ]
    assert (uuids[0], uuids[-1]) == (1, 2)


# Errors


def test_what_a_purged_position_looks_like() -> None:
    """On v22 UNKNOWN with MySQL's words; on the v24 snapshot CANCELLED, and the reason is lost."""
    old, new = map(recordings.load, ("error_purged_gtid", "v24/error_purged_gtid"))
    assert (old.end, new.end) == ("UNKNOWN", "CANCELLED")
    assert "errno 1236" in old.details
    assert "purged" in old.details
    assert "purged" not in new.details
    assert "failed to find a PRIMARY tablet" in new.details


@BOTH
def test_codes_get_lost_in_the_binlog_loop(version: str) -> None:
    """INVALID_ARGUMENT, said inside of an UNKNOWN."""
    recording = recordings.load(f"{version}error_bad_filter")
    assert recording.end == "UNKNOWN"
    assert "Code: INVALID_ARGUMENT" in recording.details
    assert "failed to build table replication plan" in recording.details


@BOTH
def test_a_rule_without_a_select_fails_at_the_first_change(version: str) -> None:
    """Until then it streams like any other."""
    recording = recordings.load(f"{version}error_bad_filter")
    assert [rule.filter for rule in recording.request.filter.rules] == [""]
    assert recording.responses


@BOTH
@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("error_bad_gtid", "INTERNAL", "could not decode position"),
        ("error_unknown_column", "FAILED_PRECONDITION", "not found in table"),
        ("error_unknown_keyspace", "UNKNOWN", "node doesn't exist"),
        ("error_unknown_shard", "FAILED_PRECONDITION", "shard provided in VGTID"),
        ("error_unknown_table", "UNKNOWN", "is not present in the database"),
    ],
)
def test_what_a_wrong_request_is_told(version: str, name: str, code: str, words: str) -> None:
    recording = recordings.load(version + name)
    assert recording.end == code
    assert words in recording.details


@BOTH
def test_errors_quote_the_request(version: str) -> None:
    """A position here, a lastpk's values elsewhere: not for a log as it is."""
    recording = recordings.load(f"{version}error_purged_gtid")
    gtids = [entry.gtid for entry in recording.request.vgtid.shard_gtids]
    assert any(gtid and gtid in recording.details for gtid in gtids)
