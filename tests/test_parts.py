"""What becomes of a table in a run: copied again, left to the next run, or left behind."""

from __future__ import annotations

import pytest
from support.taps import Asked

from tap_vitess.errors import HistoryLostError, RequestError, VitessError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.pace import SyncOptions
from tap_vitess.run.parts import Parts, TableSpec
from tap_vitess.run.state import Group, KeyspaceState, parse
from tap_vitess.vtgate.retry import RetryOptions

UUID = "ac6c45eb-ca9c-11f0-8471-0242ac110002"
LOST = HistoryLostError("a was altered")
A = frozenset("a")


def at(last: int) -> Vgtid:
    return Vgtid("shop", {"0": GtidSet.parse(f"{UUID}:1-{last}")})


def parts(*, resync: bool = True, restarts: int = 1, full: str = "") -> Parts:
    """Make the parts of tables a, b and c, which are copied and streamed from one position."""
    specs = [TableSpec(name, full_table=name in full) for name in "abc"]
    state = KeyspaceState("shop", (Group(at(1), dict.fromkeys("abc", 7)),))
    inquiry = Inquiry(Asked(lambda: at(5)), RetryOptions(), lambda: False)
    made = Parts(specs, state, inquiry, SyncOptions(resync=resync, copy_restarts=restarts))
    made.running = made.log_based
    return made


def groups(made: Parts) -> list[tuple[Vgtid, str]]:
    return [(group.position, "".join(group.tables)) for group in made.state.groups]


def test_a_table_that_is_lost_is_copied_again() -> None:
    """From where the keyspace is now; the others move on without it."""
    made = parts()
    made.lose(A, LOST)
    assert groups(made) == [(at(5), "a"), (at(1), "bc")]
    assert [spec.name for spec in made.pending()] == ["a"]
    assert made.running == frozenset("bc")
    assert made.position == at(1)
    assert not made.errors


@pytest.mark.parametrize(
    ("error", "resync"), [(LOST, False), (RequestError("no"), True)], ids=["setting", "error"]
)
def test_a_table_that_is_not_copied_again_is_left_behind(error: VitessError, resync: bool) -> None:  # noqa: FBT001
    """Where it is, by itself, and neither copied nor followed in this run."""
    made = parts(resync=resync)
    made.lose(A, error)
    assert groups(made) == [(at(1), "bc"), (at(1), "a")]
    assert made.followed == made.running == frozenset("bc")
    assert made.pending() == []
    assert made.left_behind == {"a": error}
    assert [made.is_brought(table) for table in "ab"] == [False, True]


def test_a_table_that_is_lost_too_often_is_left_behind() -> None:
    """The copies that a DDL asked for count, too."""
    made = parts(restarts=2)
    made.copy_again({"a": "a DDL"})
    made.lose(A, LOST)
    assert not made.errors
    made.lose(A, LOST)
    assert made.errors == [LOST]
    assert groups(made) == [(at(5), "a"), (at(1), "bc")]


def test_several_ddls_ask_for_one_copy_and_too_many_for_one_in_the_next_run() -> None:
    """The table is followed all the same, and it is no error."""
    made = parts()
    for _ in range(2):
        made.copy_again({"a": "a DDL"})
        assert [spec.name for spec in made.pending()] == ["a"]
    made.state = made.state.copied("a")
    made.copy_again({"a": "a DDL"})
    assert made.pending() == []
    assert made.followed == frozenset("abc")
    assert not made.errors
    assert not made.are_brought()


def test_a_table_whose_copy_failed_is_followed() -> None:
    """Its deletes must not be missed; lost as well, it is left to the next run still."""
    made, error = parts(), RequestError("no")
    made.state = made.state.recopied("a")
    made.postpone("a", error)
    assert made.pending() == []
    assert made.followed == frozenset("abc")
    made.lose(A, LOST)
    assert groups(made) == [(at(5), "a"), (at(1), "bc")]
    assert made.pending() == []
    assert made.errors == [error]


def test_a_copy_without_changes_has_no_place_in_the_state() -> None:
    """Also when its shards are lost: the state could not be read again."""
    made = parts(full="a")
    made.lose(A, LOST)
    assert parse("shop", made.state.render()).copies == {}
    assert [spec.name for spec in made.pending()] == ["a"]
    made.finish(made.specs["a"])
    assert made.is_brought("a")
    assert made.pending() == []
