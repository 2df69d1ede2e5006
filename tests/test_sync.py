"""The run against the sandbox: whatever is cut, wherever, the target ends equal to the source."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.shops import TABLES, insert, three_tables, write
from support.taps import ImpatientTap, QuickTap, Target, check, discover, expected, only, run
from support.taps import settings as tap_settings

from tap_vitess.errors import (
    RetriableError,
)
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve


def test_copy_then_follow_then_nothing(sandbox: Sandbox) -> None:
    """A full run, an incremental one, and one with nothing to do that opens no stream."""
    config, target = tap_settings(sandbox), Target()
    assert run(config, target)
    check(sandbox, target)
    write(sandbox.cluster)
    seen = len(target.messages)
    assert run(config, target)
    check(sandbox, target)
    operations = {m["record"]["_sdc_vitess_op"] for m in target.messages[seen:] if "record" in m}
    assert operations == {"insert", "update", "delete"}
    seen, streams = len(target.messages), len(sandbox.requests)
    assert run(config, target)
    assert [m["type"] for m in target.messages[seen:]] == ["STATE", *["SCHEMA"] * 3, "STATE"]
    assert len(sandbox.requests) == streams


@pytest.mark.parametrize("seconds", [0, 1000])
def test_messages_stand_in_the_order_targets_need(sandbox: Sandbox, seconds: int) -> None:
    """STATE first and last, SCHEMA before RECORD, a table in STATE before its first RECORD."""
    target = Target()
    run(tap_settings(sandbox, checkpoint_seconds=seconds), target)
    kinds = [message["type"] for message in target.messages]
    assert (kinds[0], kinds[-1]) == ("STATE", "STATE")
    assert kinds.count("ACTIVATE_VERSION") == 3
    known: set[str] = set()
    begun: str = ""
    for message in target.messages:
        if message["type"] == "SCHEMA":
            known.add(message["stream"])
        elif message["type"] == "STATE":
            begun = str(message["value"])
        elif message["type"] == "RECORD":
            assert message["stream"] in known
            assert repr(message["stream"].removeprefix("shop-")) in begun
    versions = {(m["stream"], m["version"]) for m in target.messages if "version" in m}
    assert len(versions) == 3


class WritingTarget(Target):
    """A target beside which somebody writes to the source, once, when the first row arrives."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster: Cluster | None = cluster

    def take(self, line: bytes) -> None:
        super().take(line)
        if self._cluster is not None and self.messages[-1]["type"] == "RECORD":
            write(self._cluster)
            self._cluster = None


@pytest.mark.parametrize("parallel", [1, 3])
def test_writes_during_a_copy_arrive_in_the_same_run(sandbox: Sandbox, parallel: int) -> None:
    """The run ends with the shared stream, past everything that was copied."""
    target = WritingTarget(sandbox.cluster)
    assert run(tap_settings(sandbox, copy_parallelism=parallel), target)
    check(sandbox, target)
    assert "delete" in {record["_sdc_vitess_op"] for record in target.records()}


def test_a_key_change_is_a_delete_and_an_insert(sandbox: Sandbox) -> None:
    """Both carry the whole row, in this order, with rising sequence numbers."""
    config, target = tap_settings(sandbox), Target()
    run(config, target)
    copied = max(record["_sdc_vitess_seq"] for record in target.records())
    sandbox.cluster.update("shop", "alpha", {"id": b"4"}, {"id": b"104"})
    seen = len(target.records())
    run(config, target)
    records = target.records()[seen:]
    shown = {(r["id"], r["name"], r["_sdc_vitess_op"]) for r in records}
    assert shown == {(4, "n4", "delete"), (104, "n4", "insert")}
    deleted = next(r for r in records if r["id"] == 4)
    assert deleted["_sdc_deleted_at"] == deleted["_sdc_vitess_commit_time"] is not None
    assert all(record["_sdc_vitess_seq"] > copied for record in records)


def test_metadata_columns_can_be_left_out(sandbox: Sandbox) -> None:
    """Without them only the delete marker stays."""
    target = Target()
    run(tap_settings(sandbox, metadata_columns=False), target)
    assert set(target.records()[0]) == {"id", "name", "_sdc_deleted_at"}
    [schema, *_] = [m["schema"] for m in target.messages if m["type"] == "SCHEMA"]
    assert set(schema["properties"]) == {"id", "name", "_sdc_deleted_at"}


@pytest.mark.slow
def test_killed_after_every_line(sandbox: Sandbox) -> None:
    """Cut the tap after each line it can write, change the source, resume: nothing is lost."""
    config = tap_settings(sandbox)
    lines = 0
    ended = False
    while not ended:
        lines += 1
        cluster = three_tables(4)
        with serve(cluster) as fresh:
            config = tap_settings(fresh)
            target = Target()
            ended = run(config, target, lines=lines)
            write_small(cluster)
            run(config, target, lines=lines)
            write_more(cluster)
            assert run(config, target)
            check(fresh, target)
    assert lines > 20


def write_small(cluster: Cluster) -> None:
    insert(cluster, "alpha", 50, 51)
    cluster.delete("shop", "alpha", {"id": b"1"})
    cluster.update("shop", "beta", {"id": b"2"}, {"id": b"60"})


def write_more(cluster: Cluster) -> None:
    cluster.delete("shop", "alpha", {"id": b"50"})
    insert(cluster, "beta", 2)
    insert(cluster, "empty", 7)


@pytest.mark.slow
@pytest.mark.parametrize("tap", [ImpatientTap, QuickTap], ids=["next run", "same run"])
def test_cut_after_every_event(tap: type[QuickTap]) -> None:
    """Cut the stream behind each event VTGate sends: the next run, or a retry, goes on."""
    cuts = 0
    whole = False
    while not whole:
        cuts += 1
        cluster = three_tables(4)
        with serve(cluster) as sandbox:
            config, target = tap_settings(sandbox), Target()
            run(config, target, tap_class=QuickTap) if cuts % 2 else None
            write_small(cluster)
            fault = Fault(cut_after_all_events=cuts)
            sandbox.faults.append(fault)
            with suppress(RetriableError):
                run(config, target, tap_class=tap)
            whole = fault in sandbox.faults
            sandbox.faults.clear()
            write_more(cluster)
            assert run(config, target)
            check(sandbox, target)
    print(f"{cuts} cuts")
    assert cuts > 30


def act(cluster: Cluster, choice: int) -> None:
    """Make one write, chosen by a number."""
    name = TABLES[choice % 2]
    ids = [row["id"] for row in cluster.rows("shop", name)]
    some = ids[choice % len(ids)] if ids else None
    match choice % 5:
        case 0 | 1:
            new = 1000 + choice
            if b"%d" % new not in ids:
                insert(cluster, name, new)
        case 2 if some is not None:
            cluster.delete("shop", name, {"id": some})
        case 3 if some is not None:
            cluster.update("shop", name, {"id": some}, {"name": b"u%d" % choice})
        case 4 if some is not None and b"%d" % (5000 + choice) not in ids:
            cluster.update("shop", name, {"id": some}, {"id": b"%d" % (5000 + choice)})
        case _:
            cluster.other_write("shop", "80-")


steps = st.lists(
    st.tuples(
        st.lists(st.integers(0, 10_000), max_size=6),  # writes before the run
        st.one_of(st.none(), st.integers(0, 60)),  # lines until the tap is killed
        st.one_of(st.none(), st.integers(1, 60)),  # events until a stream is cut
        st.sampled_from(["last", "older", "none"]),  # the state the next run is given
        st.sampled_from([1, 3]),  # copy_parallelism
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@given(steps)
def test_any_history_converges(
    history: list[tuple[list[int], int | None, int | None, str, int]],
) -> None:
    """Random writes, kills, cuts, and states lost by the target: equal at the end."""
    cluster = three_tables(5)
    with serve(cluster) as sandbox:
        target = Target()
        for writes, lines, events, remembered, parallel in history:
            for choice in writes:
                act(cluster, choice)
            if events is not None:
                sandbox.faults.append(Fault(cut_after_events=events))
            state = remember(target, remembered)
            event(f"state {remembered}")
            config = tap_settings(sandbox, copy_parallelism=parallel)
            run(config, target, state=state, lines=lines)
            sandbox.faults.clear()
        assert run(tap_settings(sandbox), target)
        check(sandbox, target)


def remember(target: Target, which: str) -> dict[str, object]:
    """Choose the state a target may have kept: the last, an older one, or none."""
    if which == "none" or not target.states:
        target.states.clear()
        return {}
    if which == "older":
        del target.states[len(target.states) // 2 + 1 :]
    return target.state


def test_a_table_left_out_of_a_run_keeps_its_place(sandbox: Sandbox) -> None:
    """Deselected for a run with changes, selected again: nothing is lost."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    everything = [f"shop-{name}" for name in TABLES]
    run(config, target, catalog=only(catalog, *everything))
    write(sandbox.cluster)
    run(config, target, catalog=only(catalog, "shop-alpha", "shop-empty"))
    assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    assert target.contents("shop-beta") != expected(sandbox.cluster, "shop", "beta")
    assert run(config, target, catalog=only(catalog, *everything))
    check(sandbox, target)
    assert len(target.state["bookmarks"]["vitess:shop"]["groups"]) == 1


def test_a_table_added_later_is_copied(sandbox: Sandbox) -> None:
    """The others go on without a copy."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    run(config, target, catalog=only(catalog, "shop-alpha"))
    write(sandbox.cluster)
    run(config, target, catalog=only(catalog, *[f"shop-{name}" for name in TABLES]))
    check(sandbox, target)
    activated = [m["stream"] for m in target.messages if m["type"] == "ACTIVATE_VERSION"]
    assert sorted(activated) == ["shop-alpha", "shop-beta", "shop-empty"]


def test_nothing_selected(sandbox: Sandbox) -> None:
    """The state goes through as it came."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    run(config, target, catalog=catalog)
    before = target.state
    assert run(config, target, catalog=only(catalog))
    assert target.messages[-1]["type"] == "STATE"
    assert target.state == before


def test_full_table_copies_afresh_each_run(sandbox: Sandbox) -> None:
    """Rows deleted since are removed by the new version."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    for stream in catalog["streams"]:
        stream["replication_method"] = "FULL_TABLE"
    for change in (write_small, write_more):
        assert run(config, target, catalog=catalog)
        check(sandbox, target)
        change(sandbox.cluster)
    assert {record["_sdc_vitess_op"] for record in target.records()} == {"copy"}
    assert target.state["bookmarks"]["vitess:shop"]["groups"] == []


def test_a_cut_full_table_copy_starts_again(sandbox: Sandbox) -> None:
    """Rows of two snapshots must not be mixed when no stream follows."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    for stream in catalog["streams"]:
        stream["replication_method"] = "FULL_TABLE"
    sandbox.faults.append(Fault(cut_in_copy=5))
    assert run(config, target, catalog=catalog)
    check(sandbox, target)
    versions = {
        m["version"] for m in target.messages if m.get("stream") == "shop-alpha" and "version" in m
    }
    assert len(versions) == 2


def test_deselected_columns_do_not_leave(sandbox: Sandbox) -> None:
    """Neither in SCHEMA nor in RECORD; own columns are automatic."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            entry["metadata"]["selected"] = entry["breadcrumb"] == []
    run(config, target, catalog=catalog)
    assert all("name" not in record for record in target.records())
    assert all("_sdc_vitess_op" in record for record in target.records())
    assert all("name" not in m["schema"]["properties"] for m in target.messages if "schema" in m)


def test_stream_maps_go_through_the_sdk(sandbox: Sandbox) -> None:
    """The slow path writes the same records, mapped."""
    config = tap_settings(
        sandbox,
        stream_maps={"shop-alpha": {"__alias__": "mapped", "name": None, "twice": "id * 2"}},
    )
    target = Target()
    run(config, target)
    assert {r["id"]: r["twice"] for r in target.records("mapped")} == {i: 2 * i for i in range(12)}
    assert all("name" not in record for record in target.records("mapped"))
    assert len(target.contents("shop-beta")) == 12


def test_both_paths_write_the_same(sandbox: Sandbox) -> None:
    """Encoded directly or through the SDK: the same messages but for times and numbers."""
    direct, mapped = Target(), Target()
    run(tap_settings(sandbox), direct)
    run(tap_settings(sandbox, stream_maps={"shop-alpha": {"__alias__": "shop-alpha"}}), mapped)
    assert direct.contents("shop-alpha") == mapped.contents("shop-alpha")
    [one, *_], [two, *_] = direct.records("shop-alpha"), mapped.records("shop-alpha")
    assert one.keys() == two.keys()


def test_a_table_without_a_key(sandbox: Sandbox) -> None:
    """Its rows arrive; a cut copy of it starts again with a new version."""
    sandbox.cluster.create_table("shop", Table("loose", (Column("id", "int"),)))
    sandbox.cluster.insert("shop", "loose", [{"id": b"%d" % (i % 7)} for i in range(40)])
    config, target = tap_settings(sandbox, tables=["shop.loose"]), Target()
    sandbox.faults.append(Fault(cut_in_copy=30))
    assert run(config, target)
    assert target.contents("shop-loose") == expected(sandbox.cluster, "shop", "loose")
    assert len(target.records()) > 40


def test_max_run_seconds_ends_cleanly(sandbox: Sandbox) -> None:
    """The run ends at a boundary with a STATE, exit code 0, and the next one finishes the work."""
    target = Target()
    assert run(tap_settings(sandbox, max_run_seconds=0.000001), target)
    assert target.messages[-1]["type"] == "STATE"
    assert target.contents("shop-alpha") != expected(sandbox.cluster, "shop", "alpha")
    assert run(tap_settings(sandbox, max_run_seconds=60), target)
    check(sandbox, target)


@pytest.mark.slow
@pytest.mark.parametrize("drop", [False, True], ids=["old shards there", "after a second run"])
def test_reshard_between_runs(sandbox: Sandbox, drop: bool) -> None:  # noqa: FBT001
    """The shared stream passes the reshard; the bookmark then lists the new shards."""
    config, target = tap_settings(sandbox), Target()
    run(config, target)
    write_small(sandbox.cluster)
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    write_more(sandbox.cluster)
    assert run(config, target)
    check(sandbox, target)
    if drop:
        sandbox.cluster.drop_old_shards("shop")
        write_small_again(sandbox.cluster)
        assert run(config, target)
        check(sandbox, target)


def write_small_again(cluster: Cluster) -> None:
    insert(cluster, "alpha", 300, 301, 302, 303)
    cluster.delete("shop", "beta", {"id": b"60"})


@pytest.mark.slow
@pytest.mark.parametrize("lines", range(4, 30, 3))
def test_reshard_in_mid_copy(sandbox: Sandbox, lines: int) -> None:
    """A copy begun on the old shards starts again on the new ones, with a new version."""
    config, target = tap_settings(sandbox), Target()
    run(config, target, lines=lines)
    state = target.state["bookmarks"]["vitess:shop"]
    unfinished = [table for table in TABLES if f'"{table}"' in state["copies"]]
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    write(sandbox.cluster)
    assert run(config, target)
    check(sandbox, target)
    begun = {t: v for g in state["groups"] for t, v in zip(g["tables"], g["versions"], strict=True)}
    done = {m["stream"]: m["version"] for m in target.messages if m["type"] == "ACTIVATE_VERSION"}
    assert all(done[f"shop-{name}"] > begun[name] for name in unfinished)
    assert unfinished or lines != 10


def test_a_new_table_beside_left_out_ones_is_followed(sandbox: Sandbox) -> None:
    """On an idle keyspace both stand at one position, and only one of them is in this run."""
    config = tap_settings(sandbox)
    catalog = discover(config)
    first = Target()
    run(config, first, catalog=only(catalog, "shop-alpha"))
    cluster = sandbox.cluster

    class Writing(Target):
        written = False

        def take(self, line: bytes) -> None:
            super().take(line)
            if self.messages[-1]["type"] == "RECORD" and not self.written:
                self.written = True
                write(cluster)

    target = Writing(tables=first.tables, states=list(first.states), keys=first.keys)
    assert run(config, target, catalog=only(catalog, "shop-beta"))
    assert target.contents("shop-beta") == expected(cluster, "shop", "beta")
