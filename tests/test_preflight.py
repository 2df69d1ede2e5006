"""Whether a bookmark can be read on from, by what each shard's MySQL says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.taps import Asked

from tap_vitess.errors import (
    ConfigError,
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
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.survey import keyspace
from tap_vitess.survey.blockers import throttled
from tap_vitess.survey.bookmark import judge
from tap_vitess.survey.facts import ShardFacts, Tablet
from tap_vitess.survey.tables import expression_indexes
from tap_vitess.vtgate.faults import classify
from tap_vitess.vtgate.retry import RetryOptions

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


def facts(executed: str, purged: str = "", options: str = "") -> ShardFacts:
    return ShardFacts("-80", gtids(executed), gtids(purged), "FULL", options, "ROW", 1, "8.0", 1e9)


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
    young = judge(
        position(f"{A}:1-{saved}"), {"-80": facts(f"{A}:1-110", gone)}, "PRIMARY", copied=1e9 - 0.5
    )
    assert young.warnings == ()


Answers = Mapping[Callable[..., Any], Any]


def inquiry(answers: Answers) -> Inquiry:
    return Inquiry(Asked(lambda: position(""), answers), RetryOptions(budget=0), lambda: False)


def looking(answers: Answers, now: str = "", tablet_type: str = "PRIMARY") -> Diagnosis:
    survey = Asked(lambda: position(now), answers, tablet_type)
    return Diagnosis(survey, RetryOptions(budget=0), lambda: False)


def test_a_fault_that_is_a_lost_position_is_told_as_such() -> None:
    """VTGate only says CANCELED after 90 s."""
    found = looking({keyspace.facts: {"-80": facts(f"{A}:1-5")}}).look(
        NoTabletError("no tablet"), position(f"{A}:1-9")
    )
    assert isinstance(found, PositionLostError)


def test_tablets_and_throttling_are_named() -> None:
    """What serves, what does not, and what is held back."""
    down = Tablet("zone1", "shop", "-80", "PRIMARY", "NOT_SERVING", "zone1-100", "h")
    told = {keyspace.tablets: [down], throttled: {"-80": ["vstreamer"]}}
    found = looking(told).look(StalledError("nothing comes"), None)
    assert isinstance(found, StalledError)
    assert str(found) == (
        "nothing comes; shard -80 has no PRIMARY tablet that serves: zone1-100 (PRIMARY, "
        "NOT_SERVING); the tablets of shard -80 throttle vstreamer"
    )


def test_a_stop_position_that_was_lost_is_taken_anew() -> None:
    """A failover without the last writes would be waited for for ever."""
    asked = looking({}, now=f"{A}:1-7")
    assert asked.peek(position(f"{A}:1-9")) == position(f"{A}:1-7")
    assert asked.peek(position(f"{A}:1-5")) == position(f"{A}:1-5")
    replica = looking({}, now=f"{A}:1-7", tablet_type="REPLICA")
    assert replica.peek(position(f"{A}:1-9")) == position(f"{A}:1-9")


def test_partial_json_that_vitess_drops_is_refused() -> None:
    """Before 22 such updates are lost without a word, and with the option all updates are such."""
    partial = {"-80": facts(f"{A}:1-9", options="PARTIAL_JSON")}
    old = inquiry({keyspace.facts: partial, keyspace.version: (21, 0, 5)})
    with pytest.raises(RequestError, match=r"Vitess 21\.0\.5 loses every update") as caught:
        old.check(position(f"{A}:1-9"), ["-80"])
    assert caught.value.table is None
    new = inquiry({keyspace.facts: partial})
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
    told = looking({expression_indexes: expressions})
    found = told.look(classify("grpc", "UNKNOWN", said), None)
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
    asked = inquiry({})
    with pytest.raises(
        ShardsGoneError, match=r"knows nothing of shard 80-, .* only of -80.*resync"
    ):
        asked.check(position(f"{A}:1-9"), ["-80", "80-"])
    asked.check(position(f"{A}:1-9"), ["-40", "40-80"])


def test_a_keyspace_may_be_without_a_primary_for_a_while() -> None:
    """As in a failover, once it has told where it is; one that never had any is told as such."""
    replica = Tablet("zone1", "shop", "-80", "REPLICA", "SERVING", "zone1-101", "h")
    left = [position(f"{A}:1-9")]

    def tell() -> Vgtid:
        if left:
            return left.pop()
        raise NoTabletError("no primary")

    survey = Asked(tell, {keyspace.tablets: [replica]})
    asked = Inquiry(survey, RetryOptions(budget=0), lambda: False)
    assert asked.position() == position(f"{A}:1-9")
    with pytest.raises(NoTabletError):
        asked.position()
    with pytest.raises(ConfigError, match=r"^keyspace shop: no tablet is a PRIMARY; VTGate sees"):
        Inquiry(survey, RetryOptions(budget=0), lambda: False).position()


def test_vitess_19_does_not_follow_old_shards() -> None:
    """VTGate would look for a tablet of them for 90 s, again and again."""
    old = inquiry({keyspace.version: (19, 0, 10)})
    old.check(position(f"{A}:1-9"), ["-80"])
    with pytest.raises(ShardsGoneError, match=r"shards -80 .* Vitess 19\.0\.10 .*`resync`"):
        old.check(position(f"{A}:1-9"), ["-40", "40-80"])
