"""Whether a bookmark can be read on from, by what each shard's MySQL says."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from tap_vitess.errors import (
    HistoryLostError,
    NoTabletError,
    PositionLostError,
    Remedy,
    RequestError,
    ShardsGoneError,
    StalledError,
)
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.survey.cascades import Cascade
from tap_vitess.survey.facts import BinlogReader, LockWait, ShardFacts, Tablet
from tap_vitess.survey.verdict import judge
from tap_vitess.vtgate.faults import classify
from tap_vitess.vtgate.retry import RetryOptions

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


def facts(executed: str, purged: str = "", options: str = "") -> ShardFacts:
    return ShardFacts("-80", gtids(executed), gtids(purged), "FULL", options, "ROW", 1, "8.0", 0.0)


def position(text: str) -> Vgtid:
    return Vgtid("shop", {"-80": gtids(text)})


@pytest.mark.parametrize(
    ("saved", "executed", "purged", "lost"),
    [
        (f"{A}:1-10", f"{A}:1-10", "", None),
        (f"{A}:1-10", f"{A}:1-99", f"{A}:1-10", None),
        (f"{A}:1-10", f"{A}:1-99,{B}:1-5", f"{A}:1-9", None),
        (f"{A}:1-10", f"{A}:1-99", f"{A}:1-11", "binlogs of shard -80 have been purged: 1 trans"),
        (f"{A}:1-10", f"{A}:1-99,{B}:1-5", f"{A}:1-9,{B}:1-2", "have been purged: 2 transactions"),
        ("", f"{A}:1-99", f"{A}:1-9", "have been purged: 9 transactions"),
        (f"{A}:1-10", f"{A}:1-7", "", "shard -80 lacks 3 transactions of the bookmark"),
        (f"{A}:1-10,{B}:1", f"{A}:1-99", "", f"does not know the server {B}"),
    ],
)
def test_a_primary_is_final(saved: str, executed: str, purged: str, lost: str | None) -> None:
    """Purged is in the bookmark, the bookmark in what was executed; else it is lost."""
    verdict = judge(position(saved), {"-80": facts(executed, purged)}, "PRIMARY")
    if lost is None:
        assert verdict.error("shop") is None
    else:
        with pytest.raises(PositionLostError, match=f"shop: .*{lost}.*on_lost_position"):
            raise verdict.error("shop") or AssertionError


def test_one_replica_is_not_final() -> None:
    """Another one may have what this one lacks; what is missing may still come."""
    lagging = judge(position(f"{A}:1-10"), {"-80": facts(f"{A}:1-7")}, "REPLICA")
    assert (lagging.lost, lagging.warnings) == ((), ())
    purged = judge(position(f"{A}:1-10"), {"-80": facts(f"{A}:1-99", f"{A}:1-11")}, "REPLICA")
    assert purged.lost == ()
    assert "have been purged" in purged.warnings[0]


@pytest.mark.parametrize(
    ("saved", "purged", "warned"), [(29, 10, True), (30, 10, False), (1, 0, False)]
)
def test_close_to_being_purged(saved: int, purged: int, warned: bool) -> None:  # noqa: FBT001
    """More than 8 of 10 transactions that are kept come after the bookmark."""
    gone = f"{A}:1-{purged}" if purged else ""
    verdict = judge(position(f"{A}:1-{saved}"), {"-80": facts(f"{A}:1-110", gone)}, "PRIMARY")
    assert verdict.lost == ()
    assert bool(verdict.warnings) == warned


class Told:
    """A survey with answers."""

    def __init__(
        self,
        found: dict[str, ShardFacts],
        tablets: list[Tablet] | None = None,
        throttled: dict[str, list[str]] | None = None,
        version: tuple[int, int, int] = (22, 0, 3),
        now: str = "",
        expressions: Iterable[str] = (),
    ) -> None:
        self._found = found
        self._expressions = list(expressions)
        self._tablets = tablets or []
        self._throttled = throttled or {}
        self._version = version
        self._now = now

    def position(self) -> Vgtid:
        return position(self._now)

    def facts(self, names: object) -> dict[str, ShardFacts]:  # noqa: ARG002
        return self._found

    def tablets(self) -> list[Tablet]:
        return self._tablets

    def throttled(self) -> dict[str, list[str]]:
        return self._throttled

    def routed(self, tables: object) -> dict[str, str]:  # noqa: ARG002
        return {}

    def lock_waits(self, table: str) -> list[LockWait]:  # noqa: ARG002
        return []

    def not_resumable(self) -> dict[str, str]:
        return {}

    def vindexes(self, tables: object) -> dict[str, str | None]:  # noqa: ARG002
        return {}

    def has_table(self, table: str) -> bool:  # noqa: ARG002
        return False

    def effects(self) -> list[tuple[str, str]]:
        return []

    def cascades(self) -> list[Cascade]:
        return []

    def version(self) -> tuple[int, int, int]:
        return self._version

    def column_charsets(self, shard: str, table: str) -> dict[str, str]:  # noqa: ARG002
        return {}

    def expression_indexes(self, table: str) -> list[str]:  # noqa: ARG002
        return self._expressions

    def readers(self, names: object) -> list[BinlogReader]:  # noqa: ARG002
        return []


def inquiry(told: Told) -> Inquiry:
    return Inquiry("shop", told, "PRIMARY", RetryOptions(budget=0), lambda: False)


def test_a_fault_that_is_a_lost_position_is_told_as_such() -> None:
    """VTGate only says CANCELED after 90 s."""
    found = inquiry(Told({"-80": facts(f"{A}:1-5")})).look(
        NoTabletError("no tablet"), position(f"{A}:1-9")
    )
    assert isinstance(found, PositionLostError)


def test_tablets_and_throttling_are_named() -> None:
    """What serves, what does not, and what is held back."""
    down = Tablet("zone1", "shop", "-80", "PRIMARY", "NOT_SERVING", "zone1-100", "h")
    told = Told({}, [down], {"-80": ["vstreamer"]})
    found = inquiry(told).look(StalledError("nothing comes"), None)
    assert isinstance(found, StalledError)
    assert str(found) == (
        "nothing comes; shard -80 has no PRIMARY tablet that serves: zone1-100 (PRIMARY, "
        "NOT_SERVING); the tablets of shard -80 throttle vstreamer"
    )


def test_a_stop_position_that_was_lost_is_taken_anew() -> None:
    """A failover without the last writes would be waited for for ever."""
    asked = inquiry(Told({}, now=f"{A}:1-7"))
    assert asked.peek(position(f"{A}:1-9")) == position(f"{A}:1-7")
    assert asked.peek(position(f"{A}:1-5")) == position(f"{A}:1-5")
    replica = Inquiry("shop", Told({}, now=f"{A}:1-7"), "REPLICA", RetryOptions(), lambda: False)
    assert replica.peek(position(f"{A}:1-9")) == position(f"{A}:1-9")


def test_partial_json_that_vitess_drops_is_refused() -> None:
    """Before 22 such updates are lost without a word, and with the option all updates are such."""
    partial = {"-80": facts(f"{A}:1-9", options="PARTIAL_JSON")}
    old = inquiry(Told(partial, version=(21, 0, 5)))
    with pytest.raises(RequestError, match=r"Vitess 21\.0\.5 loses every update") as caught:
        old.check(position(f"{A}:1-9"), ["-80"])
    assert caught.value.table is None
    new = inquiry(Told(partial))
    new.check(position(f"{A}:1-9"), ["-80"])
    assert not new.whole_rows("-80")
    assert not new.whole_rows("80-")


@pytest.mark.parametrize(
    ("expressions", "words"),
    [
        (["by_total", "z"], r"^shop\.t: .*hidden column .*\(by_total, z\).*generated column"),
        ([], "^the table was altered after the bookmark"),
    ],
)
def test_a_hidden_column_is_no_altered_table(expressions: list[str], words: str) -> None:
    """Rows with more columns than the table: altered since, or an index on an expression."""
    said = "cannot determine table columns for t: event has [8 15 15], schema has [name:id name:v]"
    found = inquiry(Told({}, expressions=expressions)).look(classify("grpc", "UNKNOWN", said), None)
    assert type(found) is HistoryLostError
    assert (found.table, found.remedy) == ("t", Remedy.POLICY)
    assert re.search(words, str(found)), found
    assert "on_lost_position" in str(found)


def test_a_keyspace_is_named_once() -> None:
    """A line begins with the keyspace, and so may an error."""
    for said in ("shop: gone", "gone", "keyspace shop: gone"):
        assert RequestError(said).within("shop") == "gone"
    assert RequestError("keyspace shopping: gone").within("shop") == "keyspace shopping: gone"


def test_a_shard_that_a_bookmark_knows_nothing_of_is_refused() -> None:
    """A state that was cut short is told at once; old shards that cover it are no loss."""
    asked = inquiry(Told({}))
    with pytest.raises(
        ShardsGoneError, match=r"knows nothing of shard 80-, .* only of -80.*resync"
    ):
        asked.check(position(f"{A}:1-9"), ["-80", "80-"])
    asked.check(position(f"{A}:1-9"), ["-40", "40-80"])


def test_vitess_19_does_not_follow_old_shards() -> None:
    """VTGate would look for a tablet of them for 90 s, again and again."""
    old = inquiry(Told({}, version=(19, 0, 10)))
    old.check(position(f"{A}:1-9"), ["-80"])
    with pytest.raises(ShardsGoneError, match=r"shards -80 .* Vitess 19\.0\.10 .*`resync`"):
        old.check(position(f"{A}:1-9"), ["-40", "40-80"])
