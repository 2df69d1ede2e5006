"""Old row events are not read with a definition they were not written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import field

from tap_vitess.errors import HistoryLostError
from tap_vitess.protocol.alterations import column_changes
from tap_vitess.protocol.ddl import altered_tables
from tap_vitess.protocol.items import Alteration, Fields
from tap_vitess.run.layouts import UNVOUCHED, Layouts, is_layout, layout_of

SHARDS = {"t": ["-80", "80-"]}
ONE = {"t": ["-80"]}
BEFORE = (("id", "bigint"), ("a", "varchar(10)"), ("b", "int"), ("e", "enum('x','y')"))


def shown(*columns: tuple[str, str], shard: str = "-80", charset: int = 255) -> Fields:
    made = tuple(field(name, kind) for name, kind in columns)
    for column in made:
        column.charset = charset if "char" in column.column_type else 63
    return Fields("t", shard, made, copying=False)


def at(shard: str, statement: str = "") -> Alteration:
    return Alteration("t", shard, column_changes(statement))


def changed(i: int, name: str, kind: str) -> tuple[tuple[str, str], ...]:
    return (*BEFORE[:i], (name, kind), *BEFORE[i + 1 :])


RIGHT = {
    "the same": BEFORE,
    "a column more at the end": (*BEFORE, ("z", "int")),
    "a longer varchar": changed(1, "a", "varchar(40)"),
    "a display width": changed(2, "b", "int(11)"),
    "a label more at the end": changed(3, "e", "enum('x','y','z')"),
}
WRONG = {
    "a column renamed": changed(1, "c", "varchar(10)"),
    "two columns exchanged": (BEFORE[0], BEFORE[2], BEFORE[1], BEFORE[3]),
    "a column more in front": (("z", "int"), *BEFORE),
    "a column dropped": BEFORE[:3],
    "another type": changed(2, "b", "bigint"),
    "unsigned": changed(2, "b", "int unsigned"),
    "labels exchanged": changed(3, "e", "enum('y','x')"),
    "a label dropped": changed(3, "e", "enum('x')"),
}


@pytest.mark.parametrize("columns", RIGHT.values(), ids=RIGHT)
def test_what_is_read_rightly(columns: tuple[tuple[str, str], ...]) -> None:
    """As seen on a real cluster: sizes, and what is added at the end."""
    known = {"t": layout_of(shown(*BEFORE).fields)}
    Layouts(known).check(shown(*columns))


@pytest.mark.parametrize("columns", WRONG.values(), ids=WRONG)
def test_what_is_read_wrongly_is_refused(columns: tuple[tuple[str, str], ...]) -> None:
    """Most of these come without an error of Vitess."""
    known = {"t": layout_of(shown(*BEFORE).fields)}
    with pytest.raises(HistoryLostError, match="t on shard -80 was altered") as caught:
        Layouts(known).check(shown(*columns))
    assert caught.value.table == "t"


def test_another_charset_is_refused() -> None:
    """Old bytes come under today's charset; another collation of it is nothing."""
    known = {"t": layout_of(shown(*BEFORE, charset=8).fields)}
    Layouts(known).check(shown(*BEFORE, charset=47))
    with pytest.raises(HistoryLostError):
        Layouts(known).check(shown(*BEFORE, charset=255))


def test_a_ddl_explains_another_layout() -> None:
    """On its own shard; the other one follows when its DDL comes."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.check(shown(*BEFORE))
    assert layouts.altered([at("-80")]) == {}
    new = WRONG["a column renamed"]
    layouts.check(shown(*new))
    with pytest.raises(HistoryLostError):
        layouts.check(shown(*new, shard="80-"))


def test_a_rollout_is_stored_shard_by_shard() -> None:
    """Until all shards look the same again."""
    old, new = layout_of(shown(*BEFORE).fields), layout_of(shown(*WRONG["another type"]).fields)
    layouts = Layouts({"t": old})
    layouts.check(shown(*BEFORE, shard="80-"))
    layouts.altered([at("-80")])
    assert layouts.stored(SHARDS) == {"t": {"80-": old}}
    layouts.check(shown(*WRONG["another type"]))
    assert layouts.stored(SHARDS) == {"t": {"-80": UNVOUCHED + new, "80-": old}}
    layouts = Layouts(layouts.stored(SHARDS))  # the next run
    layouts.asked()
    layouts.check(shown(*BEFORE, shard="80-"))
    layouts.check(shown(*WRONG["another type"]))
    assert layouts.altered([at("80-")]) == {}
    layouts.check(shown(*WRONG["another type"], shard="80-"))
    layouts.asked()
    layouts.reached(frozenset({"t"}))
    assert layouts.stored(SHARDS) == {"t": new}


def test_what_one_shard_showed_is_misread_there_alone() -> None:
    """A DDL of the next run says nothing of the other shards' rows."""
    layouts = Layouts({"t": {"-80": UNVOUCHED + layout_of(shown(*BEFORE).fields)}})
    layouts.asked()
    assert layouts.altered([at("80-")]) == {}
    assert layouts.altered([at("-80")]).keys() == {"t"}


def test_a_quiet_shard_vouches_for_nothing_new() -> None:
    """One shard has been altered and the other one says nothing: it may not have been."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.altered([at("-80")])
    layouts.check(shown(*WRONG["another type"]))
    later = Layouts(layouts.stored(SHARDS))
    later.asked()
    later.reached(frozenset({"t"}))
    later.check(shown(*BEFORE, shard="80-"))
    with pytest.raises(HistoryLostError):
        later.check(shown(*WRONG["another type"], shard="80-"))


def test_other_shards_are_not_what_some_old_ones_were() -> None:
    """A reshard behind a DDL that only some shards had shown."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.altered([at("-80")])
    layouts.resharded(["-40", "40-80"])
    layouts.check(shown(*WRONG["another type"], shard="-40"))
    layouts.check(shown(*WRONG["unsigned"], shard="40-80"))


def test_a_copy_vouches_when_the_stream_has_followed() -> None:
    """Its snapshot is later than the position, so not before."""
    layouts = Layouts({})
    layouts.copied(shown(*BEFORE))
    assert layouts.stored(ONE) == {}
    layouts.reached(frozenset({"t"}))
    assert layouts.stored(ONE) == {"t": layout_of(shown(*BEFORE).fields)}


def test_a_ddl_behind_rows_nobody_vouched_for() -> None:
    """They may have been misread: the table is copied again. Also by the next run."""
    layouts = Layouts({})
    layouts.copied(shown(*BEFORE))
    layouts.check(shown(*BEFORE))
    unproved = layouts.stored(ONE)
    assert unproved == {"t": UNVOUCHED + layout_of(shown(*BEFORE).fields)}
    assert Layouts(layouts.stored(ONE)).altered([at("80-")]).keys() == {"t"}
    assert layouts.altered([at("-80")]).keys() == {"t"}
    layouts.copy_begins("t")
    assert layouts.stored(ONE) == {}
    assert layouts.altered([at("-80")]) == {}


def test_rows_that_were_read_live_are_vouched_for_at_the_stop() -> None:
    """No DDL came behind them, up to a stop position that was asked for afterwards."""
    layouts = Layouts({})
    layouts.check(shown(*BEFORE))
    layouts.reached(frozenset({"t"}))
    assert layouts.stored(ONE) == {"t": UNVOUCHED + layout_of(shown(*BEFORE).fields)}
    layouts.asked()
    layouts.reached(frozenset({"t"}))
    assert layouts.stored(ONE) == {"t": layout_of(shown(*BEFORE).fields)}
    with pytest.raises(HistoryLostError):
        layouts.check(shown(*WRONG["unsigned"]))


def test_a_doubt_of_an_unknown_layout_outlives_a_harmless_ddl() -> None:
    """Only the stop position proves what an earlier run has given out."""
    layouts = Layouts({"t": {"-80": UNVOUCHED}})
    assert layouts.altered([at("-80", ADD)]) == {}
    assert layouts.altered([at("-80")]).keys() == {"t"}


def test_a_copy_forgets_which_column_was_the_last() -> None:
    """Another one may be by now, and a column that is added behind the old one is not the last."""
    known = layout_of(shown(*BEFORE).fields)
    layouts = Layouts({"t": known})
    layouts.check(shown(*BEFORE))
    layouts.copy_begins("t")
    layouts.copied(shown(*MORE))
    layouts.reached(frozenset("t"))
    layouts.altered([at("-80", "alter table t modify b int")])
    assert layouts.stored(ONE)["t"]["-80"].split("/")[2] == ""  # type: ignore[index]


def test_a_reshard_leaves_nothing_of_a_beginning() -> None:
    """Rows behind it rest on no proof, so a DDL that touches a column of theirs is a misreading."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.altered([at("-80", "alter table t modify b int")])
    layouts.resharded(["-80", "80-"])
    layouts.check(shown(*BEFORE))
    assert layouts.altered([at("-80", "alter table t modify b int unsigned")]).keys() == {"t"}


Step = Callable[[Layouts], object]
PLACES = st.tuples(st.sampled_from(["t", "u"]), st.sampled_from(["-80", "80-"]))
LOOKS = st.sampled_from([BEFORE, WRONG["unsigned"], RIGHT["a column more at the end"]])


def seen(place: tuple[str, str], columns: tuple[tuple[str, str], ...]) -> Fields:
    made = tuple(field(name, kind) for name, kind in columns)
    return Fields(*place, made, copying=False)


def checked(layouts: Layouts, fields: Fields) -> str | None:
    try:
        layouts.check(fields)
    except HistoryLostError as error:
        return error.table
    return None


CHANGES = st.sampled_from(
    [None, column_changes("alter table t add z int"), column_changes("alter table t modify b int")]
)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.just(Layouts.asked),
    st.builds(lambda at, look: lambda x: checked(x, seen(at, look)), PLACES, LOOKS),
    st.builds(lambda at, look: lambda x: x.copied(seen(at, look)), PLACES, LOOKS),
    st.builds(
        lambda at, how: lambda x: x.altered([Alteration(at[0], at[1], how)]), PLACES, CHANGES
    ),
    st.builds(lambda tables: lambda x: x.reached(tables), st.frozensets(st.sampled_from("tu"))),
    st.builds(lambda shards: lambda x: x.resharded(shards), st.just(["-80", "80-"])),
    st.builds(lambda table: lambda x: x.copy_begins(table), st.sampled_from("tu")),
)
BOTH = {"t": ["-80", "80-"], "u": ["-80", "80-"]}
OF_BEFORE = layout_of(seen(("t", "-80"), BEFORE).fields)
KNOWN = st.dictionaries(
    st.sampled_from("tu"),
    st.sampled_from(
        [OF_BEFORE, UNVOUCHED + OF_BEFORE, {"-80": UNVOUCHED + OF_BEFORE, "80-": OF_BEFORE}]
    ),
)


@given(KNOWN, st.lists(STEPS, max_size=12))
def test_what_is_stored_is_told_alike_however_often(known: Any, steps: list[Step]) -> None:
    """What was told before is kept until it is no longer so."""
    often = Layouts(known)
    for count, step in enumerate(steps, 1):
        step(often)
        assert often.stored(BOTH) == once_told(known, steps[:count], BOTH)
    fewer = {table: ["80-"] for table in BOTH}
    assert often.stored(fewer) == once_told(known, steps, fewer)


def once_told(known: Any, steps: Iterable[Step], tables: dict[str, list[str]]) -> Any:
    layouts = Layouts(known)
    for step in steps:
        step(layouts)
    return layouts.stored(tables)


@pytest.mark.parametrize(
    "before",
    [
        [lambda x: x.check(shown(*BEFORE))],
        [lambda x: x.check(shown(*BEFORE)), Layouts.asked],
        [lambda x: x.copied(shown(*BEFORE))],
        [lambda x: x.copied(shown(*BEFORE)), lambda x: x.reached(frozenset("t"))],
    ],
    ids=["shown", "shown before", "copied", "proved"],
)
def test_a_later_copy_is_what_counts(before: list[Step]) -> None:
    """Its snapshot alone is proved by the stop position."""
    layouts, new = Layouts({}), shown(*WRONG["unsigned"])
    for step in before:
        step(layouts)
    layouts.copy_begins("t")
    assert layouts.stored(ONE) == {}
    layouts.copied(new)
    assert layouts.reached(frozenset("t")) == {}
    assert layouts.stored(ONE) == {"t": layout_of(new.fields)}


@given(KNOWN, st.lists(STEPS, max_size=12), st.lists(STEPS, max_size=6))
def test_a_copy_forgets_all_of_its_table(known: Any, before: list[Step], after: list[Step]) -> None:
    """It goes on as if nothing had ever been known of it."""
    layouts, new = Layouts(known), Layouts({})
    for step in before:
        step(layouts)
    layouts.copy_begins("t")
    assert layouts.stored(SHARDS) == {}
    for step in after:
        told = [step(layouts), step(new)]
        assert ["t" in (found or ()) for found in told] in ([True, True], [False, False])  # type: ignore[operator]
        assert layouts.stored(SHARDS) == new.stored(SHARDS)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["int", "enum('x')"]))))
def test_a_layout_is_its_own_beginning(columns: list[tuple[str, str]]) -> None:
    """Text round trip, and the beginning of anything longer."""
    text = layout_of(shown(*columns).fields)
    assert is_layout(text)
    assert layout_of(shown(*columns, ("z", "enum('q')")).fields, text) == text


ADD, MORE = "alter table t add z int", (*BEFORE, ("z", "int"))
WIDER = "alter table t modify a varchar(40)"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ADD, "alter table t add y int"),
        (ADD, "alter table t add y int after z"),
        (ADD, WIDER),
        (WIDER, ADD),
        (WIDER, "alter table t modify a varchar(60), modify e enum('x','y','w')"),
        (ADD, "alter table t modify z int not null"),
    ],
)
@pytest.mark.parametrize("stored", [False, True], ids=["one run", "two runs"])
def test_rows_between_two_alters_that_leave_them_right(
    first: str, second: str, *, stored: bool
) -> None:
    """They show today's columns, and nothing of these two can have been misread."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.check(shown(*BEFORE))
    assert layouts.altered([at("-80", first)]) == {}
    layouts.check(shown(*(MORE if first is ADD else BEFORE)))
    if stored and "modify" not in second:
        layouts = Layouts(layouts.stored(ONE))
    assert layouts.altered([at("-80", second)]) == {}
    layouts.check(shown(*MORE, ("y", "int")))
    layouts.asked()
    assert layouts.reached(frozenset("t")) == {}
    assert layouts.stored(ONE) == {"t": layout_of(shown(*MORE, ("y", "int")).fields)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ADD, "alter table t rename column z to y"),
        (ADD, "alter table t add y int first"),
        (ADD, "alter table t add y int after a"),
        (ADD, "alter table t drop z, add z bigint"),
        (ADD, "alter table t modify z int unsigned"),
        ("alter table t drop e", ADD),
        ("alter table t modify a varchar(40)", "alter table t modify a varchar(40) charset latin1"),
        ("alter table t modify e enum('y','x')", "alter table t modify e enum('x','y')"),
        ("alter table t modify a varchar(40)", "alter table t charset latin1"),
        ("alter table t modify a varchar(40)", "alter table t convert to charset latin1"),
        ("alter table t modify a varchar(40) charset latin1", "alter table t modify b int first"),
    ],
)
def test_rows_between_two_alters_that_may_be_misread(first: str, second: str) -> None:
    """What shows is what the second one has made, or undone."""
    layouts = Layouts({"t": layout_of(shown(*BEFORE).fields)})
    layouts.altered([at("-80", first)])
    layouts.check(shown(*(MORE if first is ADD else BEFORE)))
    later = [(first, second)] if second is ADD else []
    found = layouts.altered([at("-80", second)])
    assert bool(found) is not bool(later)
    if found:
        assert "an ALTER on shard -80" in found["t"]


@pytest.mark.parametrize(
    ("statement", "alters"),
    [
        ("alter table t add column x int", True),
        ("alter table t add x int first", True),
        ("/* hello */ ALTER TABLE `t` DROP COLUMN x", True),
        ("alter table t modify b bigint", True),
        ("alter table t rename column a to b", True),
        ("alter table t convert to character set utf8mb4", True),
        ("rename table t to _t_old, _t_new to t", True),
        ("RENAME TABLE `t` TO `_vt_hld_a_1_`, `_vt_vrp_a_1_` TO `t`", True),
        ("create table t (id int)", True),
        ("DROP TABLE `t` /* generated by server */", True),
        ("alter table t add key i1 (v)", False),
        ("alter table t add unique index i1 (v)", False),
        ("alter table t drop key i1", False),
        ("alter table t rename index a to b", False),
        ("alter table t comment 'x'", False),
        ("alter table t default charset = latin1", True),
        ("alter table other add column t2 int", False),
        ("truncate table t", False),
        ("create temporary table t (id int)", False),
        ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`", False),
    ],
)
def test_which_statements_alter_columns(statement: str, alters: bool) -> None:  # noqa: FBT001
    """In Vitess' normalised texts and in others."""
    assert altered_tables(statement, frozenset({"t"})) == (frozenset({"t"}) if alters else set())
