"""Several jobs, each with some of a keyspace's shards: together they have all, through reshards."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.findings import brief, look
from support.shops import SHARDS, TABLES, insert, served, table, write
from support.taps import ImpatientTap, Target, expected, run, settings

from tap_vitess.errors import BorderError, ConfigError, ShardsGoneError, StateError
from tap_vitess.join import main as join
from tap_vitess.protocol.keyranges import KeyRanges
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.settings import checked
from tap_vitess.vstream import (
    Boundary,
    Change,
    TableCopied,
    Vitess,
    changes,
    events,
    join_states,
    state_at,
)


def job(table_of: Target) -> Target:
    """Make a target of another job that fills the same tables, with a state of its own."""
    return Target(tables=table_of.tables)


def run_job(sandbox: Sandbox, ranges: Sequence[str], target: Target, **more: Any) -> None:
    """Run a job of some ranges; a fault is not waited for."""
    run(settings(sandbox, shards=[*ranges], **more), target, tap_class=ImpatientTap)


def check_all(sandbox: Sandbox, target: Target) -> None:
    """Compare what all jobs have written with the source."""
    for name in TABLES:
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name), name


def positions(target: Target) -> set[str]:
    """Name the shards of a job's state."""
    [group] = target.state["bookmarks"]["vitess:shop"]["groups"]
    return {entry["shard"] for entry in json.loads(group["vgtid"])["shard_gtids"]}


def test_two_jobs_have_all(sandbox: Sandbox) -> None:
    """Each knows its own shards alone; none removes rows of the other."""
    first = Target()
    second = job(first)
    for change in (lambda _: None, write):
        change(sandbox.cluster)
        run_job(sandbox, ["-80"], first)
        run_job(sandbox, ["80-"], second)
        check_all(sandbox, first)
    assert (positions(first), positions(second)) == ({"-80"}, {"80-"})
    kinds = {message["type"] for target in (first, second) for message in target.messages}
    assert "ACTIVATE_VERSION" not in kinds
    asked = {e.shard for r in sandbox.requests for e in r.vgtid.shard_gtids}
    assert asked == {"-80", "80-"}
    assert all(len(r.vgtid.shard_gtids) == 1 for r in sandbox.requests)


# Any split of any layout, through reshards

ENDS = ("20", "40", "60", "80", "a0", "c0", "e0")


def named(ends: Sequence[str]) -> list[str]:
    """Name the ranges between some ends, from the first id to the last."""
    places = ["", *sorted(ends), ""]
    return [f"{first}-{last}" for first, last in pairwise(places)]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[str], list[list[str]], list[str]]:
    """Draw the ends of shards, those of them between jobs, and the ends after a reshard."""
    ends = draw(st.sets(st.sampled_from(ENDS), min_size=1, max_size=4))
    borders = sorted(draw(st.sets(st.sampled_from(sorted(ends)), max_size=3)))
    owners = draw(st.lists(st.integers(0, 2), min_size=len(borders) + 1, max_size=len(borders) + 1))
    jobs: dict[int, list[str]] = {}
    for owner, one in zip(owners, named(borders), strict=True):
        jobs.setdefault(owner, []).append(one)
    later = draw(st.sets(st.sampled_from(ENDS), max_size=4))
    return named(sorted(ends)), list(jobs.values()), named(sorted(later | set(borders)))


def cluster_of(shards: Sequence[str]) -> Cluster:
    """Make a shop of these shards, with rows on each of them."""
    cluster = Cluster()
    cluster.create_keyspace("shop", shards)
    for one in map(table, TABLES):
        cluster.create_table("shop", one)
    insert(cluster, "alpha", *range(40))
    insert(cluster, "beta", *range(30))
    return cluster


def reshard(cluster: Cluster, shards: Sequence[str]) -> None:
    """Let a keyspace have these shards, by as many workflows as there are borders in common."""
    before = cluster.shards("shop")
    ends = {end for shard in before for end in shard.split("-")}
    common = sorted(ends & {end for shard in shards for end in shard.split("-")} - {""})
    for part in (KeyRanges((name,)) for name in named(common)):
        old, new = (sorted(filter(part.holds, names)) for names in (before, shards))
        if old != new:
            cluster.reshard("shop", old, new)


def scramble(cluster: Cluster, rng: random.Random) -> None:
    """Insert, update and delete rows."""
    for name in TABLES[:2]:
        ids = [int(row["id"] or 0) for row in cluster.rows("shop", name)]
        for number in rng.sample(ids, min(8, len(ids))):
            cluster.delete("shop", name, {"id": b"%d" % number})
        left = sorted(int(row["id"] or 0) for row in cluster.rows("shop", name))
        for number in rng.sample(left, 5):
            cluster.update(
                "shop", name, {"id": b"%d" % number}, {"name": b"%d" % rng.randrange(99)}
            )
        insert(cluster, name, *range(max(ids) + 1, max(ids) + 9))


@pytest.mark.slow
@examples(max_examples=8, deadline=None)
@given(world=worlds(), seed=st.integers(0, 9999), drop=st.booleans())
def test_any_split_of_any_layout(
    *, world: tuple[list[str], list[list[str]], list[str]], seed: int, drop: bool
) -> None:
    """Together the jobs have what the source has, also after a reshard within their borders."""
    shards, jobs, later = world
    rng = random.Random(seed)
    cluster = cluster_of(shards)
    targets = [Target()]
    targets += [job(targets[0]) for _ in jobs[1:]]
    with serve(cluster) as sandbox:
        for step in range(3):
            for ranges, target in zip(jobs, targets, strict=True):
                run_job(sandbox, ranges, target)
            check_all(sandbox, targets[0])
            scramble(cluster, rng)
            if step == 0:
                reshard(cluster, later)
                scramble(cluster, rng)
            elif drop:
                cluster.drop_old_shards("shop")
        for ranges, target in zip(jobs, targets, strict=True):
            run_job(sandbox, ranges, target)
        check_all(sandbox, targets[0])
        for ranges, target in zip(jobs, targets, strict=True):
            own = {s for s in cluster.shards("shop") if KeyRanges(tuple(ranges)).holds(s)}
            assert positions(target) == own


# A reshard across a border


THREE = ["-40", "40-80", "80-"]
CROSSED = [
    ["-80"],
    ["-20", "20-80"],
    ["-20", "20-40", "40-60", "60-80"],  # no new shard crosses the border, but the workflow does
]


def joined(one: Target, other: Target) -> Target:
    """Make the target of a job with the states of two."""
    both = job(one)
    both.states.append(json.loads(join_states(json.dumps(one.state), json.dumps(other.state))))
    return both


@pytest.mark.parametrize("new", CROSSED, ids=" ".join)
@served(lambda: cluster_of(THREE))
def test_a_reshard_across_a_border(sandbox: Sandbox, new: list[str]) -> None:
    """Both jobs end with a sentence; by its advice nothing is copied again, and nothing lost."""
    cluster, rng = sandbox.cluster, random.Random(1)
    left = Target()
    targets = [left, job(left), job(left)]
    for shard, target in zip(THREE, targets, strict=True):
        run_job(sandbox, [shard], target)
    scramble(cluster, rng)
    cluster.reshard("shop", THREE[:2], new)
    scramble(cluster, rng)
    for shard, target, policy in zip(THREE, targets, ("fail", "resync"), strict=False):
        with pytest.raises(BorderError, match=r"border .*setting shards.*tap-vitess join-states"):
            run_job(sandbox, [shard], target, on_lost_position=policy)
        assert positions(target) == {shard}
    run_job(sandbox, ["80-"], targets[2])
    both = joined(left, targets[1])
    run_job(sandbox, ["-80"], both)
    check_all(sandbox, left)
    assert positions(both) == {*new}
    assert "copy" not in {record["_sdc_vitess_op"] for record in both.records()}
    # And apart again, each from the state of both.
    scramble(cluster, rng)
    parts = [job(left) for _ in new]
    for shard, part in zip(new, parts, strict=True):
        part.states.append(both.state)
        run_job(sandbox, [shard], part)
        assert positions(part) == {shard}
        assert "copy" not in {record["_sdc_vitess_op"] for record in part.records()}
    run_job(sandbox, ["80-"], targets[2])
    check_all(sandbox, left)


@pytest.mark.parametrize("new", CROSSED, ids=" ".join)
@served(lambda: cluster_of(THREE))
def test_a_reshard_across_a_border_in_a_run(sandbox: Sandbox, new: list[str]) -> None:
    """A job that follows for ever ends with the sentence, and its last boundary holds."""
    cluster, rows, names = sandbox.cluster, dict[int, Any](), ["shop.alpha"]
    left, rest = (follow(rows, library(sandbox, shard), names) for shard in ("-40", "80-"))
    states = list[str]()

    def until_it_ends() -> None:
        copied, vitess = False, library(sandbox, "40-80")
        for item in changes(vitess, names, follow=True, boundary_seconds=0, poll_seconds=0.2):
            apply(rows, item)
            copied = copied or isinstance(item, TableCopied)
            if isinstance(item, Boundary):
                states.append(item.state)
                if copied and set(cluster.shards("shop")) == {*THREE}:
                    cluster.reshard("shop", THREE[:2], new)
                    scramble(cluster, random.Random(2))

    with pytest.raises(BorderError, match=r"border .*setting shards.*join-states"):
        until_it_ends()
    follow(rows, library(sandbox, "-80"), names, join_states(left, states[-1]))
    follow(rows, library(sandbox, "80-"), names, rest)
    assert sorted(rows.values(), key=json.dumps) == expected(cluster, "shop", "alpha")


def apply(rows: dict[int, Any], item: object) -> None:
    """Do to rows what a change says."""
    if isinstance(item, Change):
        rows.pop(item.key["id"], None)
        if item.after is not None:
            rows[item.key["id"]] = item.after


def follow(
    rows: dict[int, Any], vitess: Vitess, tables: list[str], state: str | None = None
) -> str:
    """Bring rows to where a job's shards are; return its state."""
    for item in changes(vitess, tables, state=state, boundary_seconds=0):
        apply(rows, item)
        state = item.state if isinstance(item, Boundary) else state
    assert state is not None
    return state


def library(sandbox: Sandbox, *shards: str) -> Vitess:
    """Say where a sandbox is, and which shards of it are read."""
    return Vitess(sandbox.host, sandbox.grpc_port, sandbox.mysql_port, shards=shards or None)


# Changed ranges


def test_a_job_that_is_given_more_refuses(sandbox: Sandbox) -> None:
    """Nothing says from where the changes of a new shard are missing, but a new copy does."""
    target = Target()
    run_job(sandbox, ["-80"], target)
    write(sandbox.cluster)
    for more in ({"shards": ["-"]}, {"shards": ["80-"]}, {}):
        with pytest.raises(ShardsGoneError, match=r"knows nothing of shard 80-.*resync"):
            run(settings(sandbox, **more), target, tap_class=ImpatientTap)
        assert positions(target) == {"-80"}
    run_job(sandbox, ["-"], target, on_lost_position="resync")
    assert positions(target) == {"-80", "80-"}
    # What was deleted before the new copy stays: other jobs' rows would go with it.
    for name in TABLES:
        rows = expected(sandbox.cluster, "shop", name)
        assert all(row in target.contents(f"shop-{name}") for row in rows)


def test_a_job_that_is_given_less(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """It forgets the other shards with a warning; who begins with its state has them."""
    whole = Target()
    run_job(sandbox, ["-"], whole)
    half = job(whole)
    half.states.append(whole.state)
    write(sandbox.cluster)
    run_job(sandbox, ["-80"], whole)
    assert "shard 80- of the bookmark is outside of the setting shards (-80)" in caplog.text
    run_job(sandbox, ["80-"], half)
    check_all(sandbox, whole)
    assert (positions(whole), positions(half)) == ({"-80"}, {"80-"})


def test_a_cut_copy_is_divided(sandbox: Sandbox) -> None:
    """What has been copied of each shard is known to who takes it over."""
    whole = Target()
    assert not run(settings(sandbox, shards=["-"]), whole, lines=9)
    half = job(whole)
    half.states.append(whole.state)
    run_job(sandbox, ["-80"], whole)
    run_job(sandbox, ["80-"], half)
    check_all(sandbox, whole)


def test_ranges_changed_before_a_reshard_was_followed(sandbox: Sandbox) -> None:
    """The old shard crosses the new border: it is followed first, with the ranges of before."""
    target = Target()
    run_job(sandbox, ["-80"], target)
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    write(sandbox.cluster)
    with pytest.raises(ShardsGoneError, match="shard -80 of the bookmark crosses the border 40"):
        run_job(sandbox, ["-40"], target)
    run_job(sandbox, ["-80"], target)
    run_job(sandbox, ["-40"], target)
    assert positions(target) == {"-40"}


# Ranges that are wrong


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        (["4-8"], "'4-8' is not a key range"),
        (["xy-"], "'xy-' is not a key range"),
        (["40"], "'40' is not a key range"),
        ([""], "'' is not a key range"),
        (["40-40"], "the key range 40-40 is empty"),
        (["80-40"], "the key range 80-40 is empty"),
        (["-60", "40-80"], "the key ranges -60 and 40-80 overlap"),
        (["-40", "-"], "overlap"),
        ([], "setting shards: "),
    ],
)
def test_ranges_that_are_none(shards: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=f"setting shards: .*{words}|{words}"):
        checked({"host": "localhost", "shards": shards})


def no_shards() -> Cluster:
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    cluster.create_table("shop", table("alpha"))
    return cluster


@served(no_shards)
def test_an_unsharded_keyspace(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="the keyspace is not sharded, its shard is 0"):
        run_job(sandbox, ["-80"], Target())


def test_a_shard_crosses_a_border(sandbox: Sandbox) -> None:
    for shards in (["-40"], ["-40", "80-"], ["40-80"]):
        with pytest.raises(BorderError, match="shard -80 crosses the border 40 of the setting"):
            run_job(sandbox, shards, Target())


def test_events_of_some_shards(sandbox: Sandbox) -> None:
    """The lowest level begins with them, too."""
    stream = events(library(sandbox, "-80"), ["shop.alpha"], copy=True)
    found = [next(stream) for _ in range(12)]
    stream.close()
    assert {event.shard for event in found if event.shard} == {"-80"}
    position = state_at(library(sandbox, "-80"), ["shop.alpha"])
    assert "80-\\" not in position


def test_the_doctor_looks_at_the_jobs_shards(sandbox: Sandbox) -> None:
    """It judges no others, names a border that is crossed, and a state that is another job's."""
    target = Target()
    run_job(sandbox, ["-"], target)
    for shard in ("-80", "80-"):
        found = look(sandbox, target.state, shards=[shard])
        assert brief(found) <= {("INFO", "position", f"shop/{other}") for other in SHARDS}
        assert {str(f.place) for f in found if f.check == "shard"} == {f"shop/{shard}"}
        assert {f.what for f in found if f.check == "position" and "forgets it" in f.what}
    run_job(sandbox, ["-80"], target)
    assert brief(look(sandbox, target.state, shards=["-80"])) == set()
    found = look(sandbox, target.state, shards=["80-"])
    [other] = [f for f in found if f.check == "position" and f.severity.name == "ERROR"]
    assert "knows nothing of shard 80-" in other.what
    crossed = [f for f in look(sandbox, shards=["-40"]) if "crosses the border 40" in f.what]
    assert {f.severity.name for f in crossed} == {"ERROR"}


# A run that is refused


def test_a_refused_run_forgets_nothing(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A typo in shards costs nothing: the state is as it was, and the old setting resumes."""
    target = Target()
    run_job(sandbox, ["-"], target)
    with pytest.raises(BorderError, match="shard -80 crosses the border 40"):
        run_job(sandbox, ["-40"], target)
    assert positions(target) == {*SHARDS}
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    write(sandbox.cluster)
    with pytest.raises(ShardsGoneError, match="run once more with ranges that hold it"):
        run_job(sandbox, ["-40"], target)
    assert positions(target) == {*SHARDS}
    assert "is forgotten" not in caplog.text
    before = len(target.records())
    run_job(sandbox, ["-"], target)
    check_all(sandbox, target)
    assert "copy" not in {r["_sdc_vitess_op"] for r in target.records()[before:]}


def test_forgotten_shards_are_named_whatever_else_the_state_has(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Another table of the state keeps them, because the run does not read it."""
    target = Target()
    run_job(sandbox, ["-"], target)
    run_job(sandbox, ["-80"], target, tables=["shop.alpha"])
    assert "shard 80- of the bookmark is outside of the setting shards (-80)" in caplog.text


# Joined states


def test_states_that_cannot_be_joined(sandbox: Sandbox) -> None:
    first, whole = Target(), Target()
    run_job(sandbox, ["-80"], first)
    run_job(sandbox, ["-"], whole)
    texts = json.dumps(first.state), json.dumps(whole.state)
    for states, words in (
        (texts, "the states are not those of jobs with different shards: .*overlap"),
        ((texts[0], "{}"), "not every state given is one of the keyspace shop"),
        ((texts[0], "x"), "not JSON"),
    ):
        with pytest.raises(StateError, match=words):
            join_states(*states)


def test_a_table_that_no_job_reads_any_more(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is forgotten, and named; the others are joined."""
    whole = Target()
    run_job(sandbox, ["-"], whole)
    paths = []
    for shard in SHARDS:
        target = job(whole)
        target.states.append(whole.state)
        run_job(sandbox, [shard], target, tables=["shop.alpha"])
        paths.append(str(tmp_path / f"{shard}.json"))
        Path(paths[-1]).write_text(json.dumps(target.state))
    capsys.readouterr()
    assert join(paths) == 0
    told = capsys.readouterr()
    [group] = json.loads(told.out)["bookmarks"]["vitess:shop"]["groups"]
    assert group["tables"] == ["alpha"]
    assert {entry["shard"] for entry in json.loads(group["vgtid"])["shard_gtids"]} == {*SHARDS}
    assert "shop.beta: not every state follows it" in told.err


@pytest.mark.parametrize("lines", [5, 8, 14, 22])
def test_a_cut_copy_is_joined(sandbox: Sandbox, lines: int) -> None:
    """A table starts over whose copy one job has not finished, or not begun."""
    first = Target()
    second = job(first)
    run_job(sandbox, ["-80"], second)
    assert not run(settings(sandbox, shards=["80-"]), first, lines=lines)
    write(sandbox.cluster)
    both = joined(first, second)
    run(settings(sandbox), both)
    check_all(sandbox, first)
    assert positions(both) == {"-80", "80-"}


def test_the_command_joins(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Target()
    second = job(first)
    paths = []
    for shards, target in ((["-80"], first), (["80-"], second)):
        run_job(sandbox, shards, target)
        paths.append(str(tmp_path / f"{shards[0]}.json"))
        Path(paths[-1]).write_text(json.dumps(target.state))
    capsys.readouterr()
    assert join(paths) == 0
    first.states.append(json.loads(capsys.readouterr().out))
    write(sandbox.cluster)
    run(settings(sandbox), first)
    check_all(sandbox, first)
    assert "ACTIVATE_VERSION" not in {message["type"] for message in first.messages}
    assert join([str(tmp_path / "none")]) == 1
    assert "none cannot be read" in capsys.readouterr().err
