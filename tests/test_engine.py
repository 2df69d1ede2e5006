"""The engine below Singer: retries, stalls, lagging tablets, groups, several copies at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import pytest
from support.events import (
    row,
)
from support.shops import SHARDS, served, shop
from support.taps import (
    Asked,
)

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.config import Config
from tap_vitess.errors import (
    ConnectError,
    KeyChangedError,
    RetriableError,
    ValueDecodeError,
    VitessError,
)
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.protocol.request import RequestOptions, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.interleave import interleave
from tap_vitess.run.pace import Checkpoint, Output, SyncOptions
from tap_vitess.run.parts import TableSpec
from tap_vitess.run.state import Group, KeyspaceState
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.values.decode import RowDecoder
from tap_vitess.vtgate.grpc import Client, connect, explain
from tap_vitess.vtgate.retry import RetryOptions


def three() -> Cluster:
    """Make three small tables."""
    cluster = shop(*(Table(name, (Column("id", "int"),), primary_key=("id",)) for name in "abc"))
    for name in "abc":
        cluster.insert("shop", name, [{"id": b"%d" % i} for i in range(20)])
    return cluster


pytestmark = served(three)
NOWHERE = Config.from_settings({"host": "nowhere"})


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    """Connect to the sandbox."""
    with connect(config_of(sandbox)) as connected:
        yield connected


def config_of(sandbox: Sandbox) -> Config:
    return Config.from_settings({"host": sandbox.host, "grpc_port": sandbox.grpc_port})


def now(cluster: Cluster, ahead: int = 0) -> Vgtid:
    """Tell where the sandbox is, or will be after some more transactions."""
    shards = {}
    for shard, text in cluster.gtid_executed("shop").items():
        uuid, _, last = text.replace(":1-", ":").partition(":")
        shards[shard] = GtidSet.parse(f"{uuid}:1-{int(last) + ahead}")
    return Vgtid("shop", shards)


def sync(
    client: Client,
    position: Callable[[], Vgtid],
    tables: str = "abc",
    state: KeyspaceState | None = None,
    **options: object,
) -> KeyspaceSync:
    retry = RetryOptions(budget=10, longest_wait=0.05, stall=0.5)
    return KeyspaceSync(
        client,
        Asked(position),
        [TableSpec(name) for name in tables],
        state or KeyspaceState("shop"),
        SyncOptions(retry=retry, checkpoint_seconds=0, **options),  # type: ignore[arg-type]
    )


def rows_of(run: KeyspaceSync) -> dict[str, list[int]]:
    """Run to the end and list the ids of each table's rows."""
    found: dict[str, list[int]] = {}
    for event in run.events():
        if isinstance(event, Rows):
            ids = [int(change.after.values) for change in event.changes]
            found.setdefault(event.fields.table, []).extend(ids)
    return found


def later(seconds: float, *actions: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, lambda: [action() for action in actions])
    timer.start()
    return timer


def test_a_lagging_snapshot_is_not_used(sandbox: Sandbox, client: Client) -> None:
    """Rows older than the stream's position are waited for, and never given out."""
    cluster = sandbox.cluster
    ahead = now(cluster, ahead=1)
    began = time.monotonic()
    caught_up = later(0.4, *(lambda s=s: cluster.other_write("shop", s) for s in SHARDS))
    run = sync(client, lambda: ahead, "a")
    first = next(event for event in run.events() if isinstance(event, Rows))
    assert time.monotonic() - began >= 0.4
    assert first.fields.table == "a"
    caught_up.join()


def test_a_snapshot_that_stays_behind_is_an_error(sandbox: Sandbox, client: Client) -> None:
    """It ends with a sentence that names table and shard, not with old rows."""
    ahead = now(sandbox.cluster, ahead=5)
    run = KeyspaceSync(
        client,
        Asked(lambda: ahead),
        [TableSpec("a")],
        KeyspaceState("shop"),
        SyncOptions(retry=RetryOptions(budget=0.2, longest_wait=0.05)),
    )
    seen: list[Output] = []
    with pytest.raises(RetriableError, match=r"shop\.a: the tablet of shard .* lags behind"):
        seen.extend(run.events())
    assert not any(isinstance(event, Rows) for event in seen)


@pytest.mark.slow
def test_a_stop_position_that_never_comes_is_an_error(sandbox: Sandbox, client: Client) -> None:
    """Heartbeats alone are no reason to wait for ever: the shards are named."""
    done = sync(client, lambda: now(sandbox.cluster), "a")
    rows_of(done)
    run = KeyspaceSync(
        client,
        Asked(lambda: now(sandbox.cluster, ahead=3)),
        [TableSpec("a")],
        done.parts.state,
        SyncOptions(retry=RetryOptions(budget=0.5, longest_wait=0.05, stall=0.5)),
    )
    with pytest.raises(RetriableError, match="not yet at the stop position: shards -80, 80-"):
        list(run.events())


@pytest.mark.slow
def test_a_stalled_stream_is_opened_again(sandbox: Sandbox, client: Client) -> None:
    """A stall is a passing fault, and what came before it is not lost."""
    sandbox.faults.append(Fault(stall_after_events=12))
    found = rows_of(sync(client, lambda: now(sandbox.cluster), "a"))
    assert set(found["a"]) == set(range(20))
    assert len(sandbox.requests) > 1


@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_copies_at_once(sandbox: Sandbox, client: Client, parallel: int) -> None:
    """Each table arrives once and whole."""
    run = sync(client, lambda: now(sandbox.cluster), copy_parallelism=parallel)
    assert {t: sorted(ids) for t, ids in rows_of(run).items()} == {
        name: list(range(20)) for name in "abc"
    }
    assert run.parts.state.copies == {}


@pytest.mark.parametrize("parallel", [1, 3])
def test_the_shared_stream_is_brought_forward_between_copies(
    sandbox: Sandbox, client: Client, parallel: int
) -> None:
    """A long load does not let the position grow old; paused copies go on."""
    cluster = sandbox.cluster

    def position() -> Vgtid:
        for shard in SHARDS:
            cluster.other_write("shop", shard)
        return now(cluster)

    run = sync(client, position, refresh_seconds=0, copy_parallelism=parallel)
    found = rows_of(run)
    assert {t: set(ids) for t, ids in found.items()} == {name: set(range(20)) for name in "abc"}
    streamed = [r for r in sandbox.requests if r.vgtid.shard_gtids[0].gtid]
    assert len(streamed) > 2


def test_a_vtgate_that_goes_away_is_waited_for(sandbox: Sandbox, client: Client) -> None:
    """Not at the first question, so that a wrong address is told at once, but from then on."""
    answers = iter([None, ConnectError("gone"), None])

    def position() -> Vgtid:
        if (error := next(answers)) is not None:
            raise error
        return now(sandbox.cluster)

    assert rows_of(sync(client, position, "a")).keys() == {"a"}

    def never() -> Vgtid:
        raise ConnectError("gone")

    with pytest.raises(ConnectError):
        rows_of(sync(client, never, "a"))


def test_groups_meet_again(sandbox: Sandbox, client: Client) -> None:
    """Tables at different positions are streamed to one stop and become one group."""
    cluster = sandbox.cluster
    first = sync(client, lambda: now(cluster))
    rows_of(first)
    cluster.insert("shop", "a", [{"id": b"%d" % i} for i in range(100, 110)])
    some = sync(client, lambda: now(cluster), "a", first.parts.state)
    assert rows_of(some).keys() == {"a"}
    assert len(some.parts.state.groups) == 2
    cluster.insert("shop", "b", [{"id": b"%d" % i} for i in range(100, 110)])
    both = sync(client, lambda: now(cluster), "abc", some.parts.state)
    assert set(rows_of(both)["b"]) == set(range(100, 110))
    assert len(both.parts.state.groups) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["late", "refused"])
def test_a_followed_stream_does_not_wait_for_sql(
    sandbox: Sandbox, client: Client, answer: str
) -> None:
    """A position that is not told, or too late, holds no row up, and is asked for again."""
    cluster, calls, enough = sandbox.cluster, Counter[str](), threading.Event()

    def position() -> Vgtid:
        calls["asked"] += 1
        if calls["asked"] == 3 and answer == "late":
            enough.wait(20)
        elif calls["asked"] == 3:
            raise ConnectError("gone")
        return now(cluster)

    run = KeyspaceSync(
        client,
        Asked(position),
        [TableSpec("a")],
        KeyspaceState("shop"),
        SyncOptions(
            retry=RetryOptions(budget=0), checkpoint_seconds=0, follow=True, poll_seconds=0.1
        ),
        stopping=enough.is_set,
    )
    for event in run.events():
        calls["streamed"] += isinstance(event, Rows) and not event.fields.copying
        if calls["asked"] >= 3 and not calls["inserted"]:
            calls["inserted"] += 1
            cluster.insert("shop", "a", [{"id": b"100"}])
        if calls["streamed"] and (answer == "late" or calls["asked"] > 3):
            enough.set()
    assert run.pace.stopped


def test_state_is_true_at_every_checkpoint(sandbox: Sandbox, client: Client) -> None:
    """Run from each checkpoint's state: everything not given out before it comes."""
    cluster = sandbox.cluster
    run = sync(client, lambda: now(cluster), "ab")
    states, seen, given = [], [], dict[str, set[int]](a=set(), b=set())
    for event in run.events():
        if isinstance(event, Rows):
            given[event.fields.table] |= {int(c.after.values) for c in event.changes}
        elif isinstance(event, Checkpoint):
            states.append(run.parts.state)
            seen.append({table: set(ids) for table, ids in given.items()})
    assert len(states) > 5
    for state, before in zip(states, seen, strict=True):
        rest = rows_of(sync(client, lambda: now(cluster), "ab", state))
        for table in "ab":
            assert before[table] | set(rest.get(table, [])) == set(range(20))


@pytest.mark.parametrize("asks", [6, 7, 8, 12])
def test_a_run_can_end_at_any_boundary(asks: int) -> None:
    """Stopped every few boundaries, runs make progress, and together they bring everything.

    The values are long, so that responses come one by one.
    """
    cluster = Cluster()
    cluster.create_keyspace("shop", SHARDS)
    cluster.create_table("shop", Table("a", (Column("id", "varchar(5000)"),), primary_key=("id",)))
    cluster.insert("shop", "a", [{"id": b"%5000d" % i} for i in range(40)])
    state, found, runs = KeyspaceState("shop"), set[int](), 0
    with (
        serve(cluster, options=Options(copy_rows_per_packet=4)) as served,
        connect(config_of(served)) as client,
    ):
        while not state.is_copied("a"):
            left = iter(range(asks))
            run = KeyspaceSync(
                client,
                Asked(lambda: now(cluster)),
                [TableSpec("a")],
                state,
                SyncOptions(checkpoint_seconds=0),
                stopping=lambda left=left: next(left, None) is None,  # type: ignore[misc]
            )
            found |= set(rows_of(run).get("a", []))
            state = run.parts.state
            runs += 1
            assert runs < 60, "no progress"
    assert found == set(range(40))
    assert runs > 1


def test_interleave_keeps_each_sources_order() -> None:
    """Nothing is lost, and each source's items come in its order."""
    sources = [lambda n=n: iter([(n, i) for i in range(200)]) for n in range(7)]
    items = list(interleave(sources, 3))
    for n in range(7):
        assert [i for source, i in items if source == n] == list(range(200))


def test_interleave_raises_what_a_source_raises() -> None:
    """And ends the others."""

    def fail() -> Iterator[int]:
        yield 1
        raise VitessError("broken")

    def endless() -> Iterator[int]:
        while True:
            yield 2

    with pytest.raises(VitessError, match="broken"):
        for _ in interleave([endless, fail, endless], 3):
            pass
    assert not [t for t in threading.enumerate() if t.name.startswith("copy-")]


def test_interleave_can_be_left() -> None:
    """Sources are closed when the reader leaves early."""
    closed = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(1)

    items = interleave([source, source], 2)
    next(items)
    items.close()
    assert len(closed) == 2
    assert not [t for t in threading.enumerate() if t.name.startswith("copy-")]


class SomeRpcError(grpc.RpcError):
    """An RpcError with a code and details, as calls have them."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
@pytest.mark.parametrize("details", ["", "something nobody has seen before\n" * 100])
def test_no_error_falls_through(code: grpc.StatusCode, details: str) -> None:
    """Every status code becomes an error of ours, short, with what VTGate said."""
    error = explain(SomeRpcError(code, details), NOWHERE)
    assert type(error) is not VitessError
    assert f"VTGate said {code.name}" in str(error)
    assert len(str(error)) < 1000


def test_the_largest_message_can_be_limited(sandbox: Sandbox) -> None:
    """And the error names the setting."""
    config = Config.from_settings(
        {"host": sandbox.host, "grpc_port": sandbox.grpc_port, "max_message_bytes": 10}
    )
    request = stream_request(["a"], now(sandbox.cluster), RequestOptions())
    with (
        connect(config) as small,
        pytest.raises(VitessError, match="max_message_bytes"),
        small.stream(request) as responses,
    ):
        list(responses)


def test_nobody_answers() -> None:
    """A closed port is told within the connect timeout."""
    config = Config.from_settings({"host": "127.0.0.1", "grpc_port": 1})
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"), connect(config):
        pass


def test_errors_quote_no_values() -> None:
    """Neither in the message nor in what it was raised from."""
    event = binlogdata.VEvent()
    field = event.field_event.fields.add(name="n", column_type="int", charset=63)
    decoder = RowDecoder(Fields("t", "-80", (field,), copying=True), "shop", {"n"})
    with pytest.raises(ValueDecodeError, match=r"shop\.t on shard -80, column n") as caught:
        decoder.decode(row("geheim"))
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_groups_at_different_positions_meet_where_both_are(
    sandbox: Sandbox, client: Client
) -> None:
    """The position of what is one group then must not skip what one of them lacks."""
    cluster = sandbox.cluster
    for _ in range(9):
        for shard in SHARDS:
            cluster.other_write("shop", shard)
    uuids = {s: t.partition(":")[0] for s, t in cluster.gtid_executed("shop").items()}

    def at(*lasts: int) -> Vgtid:
        pairs = zip(SHARDS, lasts, strict=True)
        return Vgtid("shop", {s: GtidSet.parse(f"{uuids[s]}:1-{last}") for s, last in pairs})

    state = KeyspaceState("shop", (Group(at(7, 5), {"a": 1}), Group(at(5, 7), {"b": 2})))
    run = sync(client, lambda: at(4, 4), "ab", state)
    assert rows_of(run) == {}
    assert sandbox.requests == []
    assert run.parts.state.groups == (Group(at(5, 5), {"a": 1, "b": 2}),)


def test_vtgates_words_for_an_altered_key() -> None:
    """They lead to a new copy, and what they quote does not show."""
    details = (
        'error starting stream from shard GTID keyspace:"shop" shard:"0" '
        'table_p_ks:{table_name:"t" lastpk:{fields:{name:"email" type:VARCHAR charset:255} '
        'rows:{lengths:15 lengths:3 values:"anna@secret.org\\"x"}}}: persistent error in vstream '
        "for shop/0 on tablet zone1-0000000102; giving up: target: shop.0.primary: vttablet: rpc "
        "error: code = Unknown desc = cannot build a row streamer plan for the t table as a lastpk "
        'value was provided and the number of primary key values within it ([VARCHAR("anna@secret.'
        'org") VARCHAR("foo")]) does not match the number of primary key columns'
    )
    error = explain(SomeRpcError(grpc.StatusCode.UNKNOWN, details), NOWHERE)
    assert isinstance(error, KeyChangedError)
    assert "secret" not in str(error)
    assert "foo" not in str(error)


def test_queries_and_syntax_errors_are_not_quoted() -> None:
    """MySQL's own messages may hold values, too."""
    details = (
        'error starting stream from shard GTID keyspace:"shop" shard:"0": persistent error in '
        "vstream for shop/0; giving up: You have an error in your SQL syntax; check the manual for "
        "the right syntax to use near '@secret.org) order by email' at line 1 (errno 1064) during "
        "query: select * from t where email > 'anna@secret.org'"
    )
    error = explain(SomeRpcError(grpc.StatusCode.UNKNOWN, details), NOWHERE)
    assert "secret" not in str(error)
    assert "errno 1064" in str(error)
