"""Splits of a keyspace over jobs, and `tap-vitess-doctor --plan`."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shops import served, shop
from support.taps import settings as of_tap

from tap_vitess.config import Config
from tap_vitess.doctor.__main__ import main
from tap_vitess.doctor.split import EVEN_ENOUGH, Job, Sizes, range_of, settings_of, split
from tap_vitess.protocol.keyranges import KeyRanges
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey import discovery
from tap_vitess.vtgate.retry import RetryOptions

FOUR = ("-40", "40-80", "80-c0", "c0-")
TWO = ("-80", "80-")


def even(tables: dict[str, int], shards: Sequence[str]) -> Sizes:
    """Spread tables over shards."""
    return {name: dict.fromkeys(shards, size // len(shards)) for name, size in tables.items()}


def keyspace_of(number: int) -> list[str]:
    """Name the shards of a keyspace of so many."""
    ends = [f"{256 * i // number:02x}" for i in range(1, number)]
    return [f"{a}-{b}" for a, b in zip(["", *ends], [*ends, ""], strict=True)]


@st.composite
def keyspaces(draw: st.DrawFn, most: int = 12) -> tuple[Sizes, list[str]]:
    """Draw tables of all sizes, on some shards, not always evenly; a few shards have none."""
    shards = keyspace_of(draw(st.integers(1, most)))
    sizes = st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 10**12))
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=most, unique=True))
    found: dict[str, dict[str, int]] = {}
    for name in names:
        if draw(st.booleans()):
            found[name] = dict.fromkeys(shards, draw(sizes))
        else:
            found[name] = {s: draw(sizes) for s in shards if draw(st.integers(0, 9))}
    return found, shards


@given(keyspaces(), st.integers(1, 20))
def test_each_table_of_each_shard_is_in_one_job(
    keyspace: tuple[Sizes, list[str]], jobs: int
) -> None:
    """No job is empty, their sizes are right, and there are no more of them than asked for."""
    sizes, shards = keyspace
    made = split(sizes, shards, jobs)
    cells = Counter((table, shard) for job in made for table in job.tables for shard in job.shards)
    assert cells == Counter((table, shard) for table in sizes for shard in shards)
    assert 1 <= len(made) <= jobs
    for job in made:
        assert job.size == sum(sizes[t].get(s, 0) for t in job.tables for s in job.shards)
        at = shards.index(job.shards[0])
        assert [*job.shards] == shards[at : at + len(job.shards)], "no neighbours"


@given(keyspaces(), st.integers(1, 20))
def test_the_largest_job(keyspace: tuple[Sizes, list[str]], jobs: int) -> None:
    """It is not much larger than by the two plainest splits: tables whole, and all by shards."""
    sizes, shards = keyspace
    largest = max(job.size for job in split(sizes, shards, jobs))
    whole = {table: {"0": sum(own.values())} for table, own in sizes.items()}
    by_tables = max(job.size for job in split(whole, ["0"], jobs))
    every = {"every": {s: sum(own.get(s, 0) for own in sizes.values()) for s in shards}}
    by_shards = max(job.size for job in split(every, shards, jobs))
    assert largest <= EVEN_ENOUGH * min(by_tables, by_shards)
    assert largest * jobs >= sum(job.size for job in split(sizes, shards, jobs))


@settings(max_examples=60)
@given(keyspaces(most=3), st.integers(1, 4))
def test_beside_all_splits_that_there_are(keyspace: tuple[Sizes, list[str]], jobs: int) -> None:
    """Of a few tables and shards none has a largest job of much more than half of ours."""
    sizes, shards = keyspace
    largest = max(job.size for job in split(sizes, shards, jobs))
    assert largest <= 1.75 * best(sizes, shards, jobs)


def best(sizes: Sizes, shards: Sequence[str], jobs: int) -> int:
    """Return how large the largest job is if one cuts and cuts again, by tables or by shards."""

    @cache
    def of(tables: frozenset[str], first: int, end: int, jobs: int) -> int:
        if jobs == 1:
            return sum(sizes[t].get(s, 0) for t in tables for s in shards[first:end])
        cuts = [
            max(of(tables, first, at, some), of(tables, at, end, jobs - some))
            for at in range(first + 1, end)
            for some in range(1, jobs)
        ]
        cuts += [
            max(of(part, first, end, some), of(tables - part, first, end, jobs - some))
            for part in _parts(tables)
            for some in range(1, jobs)
        ]
        return min([of(tables, first, end, jobs - 1), *cuts])

    return of(frozenset(sizes), 0, len(shards), jobs)


def _parts(names: frozenset[str]) -> Iterator[frozenset[str]]:
    for number in range(1, len(names)):
        yield from map(frozenset, combinations(sorted(names), number))


def _told(jobs: Sequence[Job]) -> list[tuple[str, str, int]]:
    return [(" ".join(job.tables), range_of(job.shards), job.size) for job in jobs]


def test_small_tables_stay_together_and_a_huge_one_is_split_over_shards() -> None:
    tables = {"huge": 80_000, "b": 600, "c": 500, "d": 100}
    assert _told(split(even(tables, TWO), TWO, 3)) == [
        ("huge", "-80", 40_000),
        ("huge", "80-", 40_000),
        ("b c d", "-", 1_200),
    ]


def test_where_nothing_is_huge_tables_stay_whole() -> None:
    tables = {"a": 300, "b": 280, "c": 120, "d": 100}
    assert _told(split(even(tables, FOUR), FOUR, 3)) == [
        ("a", "-", 300),
        ("b", "-", 280),
        ("c d", "-", 220),
    ]


def test_with_as_many_shards_as_jobs_a_huge_table_takes_the_small_ones_along() -> None:
    tables = {"huge": 90_000, "b": 800}
    found = split(even(tables, FOUR), FOUR, 4)
    assert _told(found) == [("huge b", shard, 22_700) for shard in FOUR]
    own = settings_of(found, "shop", FOUR, Config.from_settings({"host": "h"}))
    assert own == [{"shards": [shard]} for shard in FOUR]


def test_one_table_and_one_shard_are_one_job() -> None:
    assert _told(split({"a": {"0": 5}}, ["0"], 4)) == [("a", "0-", 5)]


def test_the_settings_of_jobs() -> None:
    """The last job has what no other has; names are no patterns; filters go with their tables."""
    tables = {"huge[1]": 80_000, "b": 600, "c*": 500}
    config = Config.from_settings(
        {
            "host": "h",
            "exclude_tables": ["shop.log"],
            "filters": {"shop.b": "x = 1", "shop.huge[1]": "y = 1"},
            "mirror_keyspace": "main",
            "mirror_name": "night",
        }
    )
    found = settings_of(split(even(tables, TWO), TWO, 3), "shop", TWO, config)
    huge = {"tables": ["shop.huge[[]1]"], "filters": {"shop.huge[1]": "y = 1"}}
    assert found == [
        {**huge, "shards": ["-80"], "mirror_name": "night-1"},
        {**huge, "shards": ["80-"], "mirror_name": "night-2"},
        {
            "exclude_tables": ["shop.log", "shop.huge[[]1]"],
            "filters": {"shop.b": "x = 1"},
            "mirror_name": "night-3",
        },
    ]


@given(keyspaces(), st.integers(1, 20))
def test_the_settings_let_in_what_the_jobs_have(
    keyspace: tuple[Sizes, list[str]], jobs: int
) -> None:
    """By the patterns and key ranges; a table that is created later is read once on each shard."""
    sizes, shards = keyspace
    made = split(sizes, shards, jobs)
    shared = Config.from_settings({"host": "h"})
    read = Counter[tuple[str, str]]()
    for job, own in zip(made, settings_of(made, "shop", shards, shared), strict=True):
        there = [*filter(KeyRanges.of(own.get("shards", ())).holds, shards)]
        assert [*job.shards] == there
        let_in = {t for t in (*sizes, "created later") if _lets_in(own, f"shop.{t}")}
        assert let_in - {"created later"} == {*job.tables}
        read.update((table, shard) for table in let_in for shard in there)
    tables = {*sizes, "created later"}
    assert read == Counter((table, shard) for table in tables for shard in shards)


def _lets_in(own: dict[str, Any], name: str) -> bool:
    wanted = any(fnmatch.fnmatchcase(name, p) for p in own.get("tables", ["*"]))
    return wanted and not any(fnmatch.fnmatchcase(name, p) for p in own.get("exclude_tables", ()))


# The command


def two_sizes() -> Cluster:
    """Make a keyspace of a large table and two small ones."""
    columns = (Column("id", "int", nullable=False), Column("v", "varchar(200)"))
    names = ("large", "small", "tiny")
    cluster = shop(*(Table(name, columns, primary_key=("id",)) for name in names))
    for name, size in zip(names, (200, 20, 3), strict=True):
        rows = [{"id": b"%d" % i, "v": b"v" * 100} for i in range(size)]
        cluster.insert("shop", name, rows)
    return cluster


pytestmark = served(two_sizes)


@pytest.fixture
def config_file(sandbox: Sandbox, tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(of_tap(sandbox)))
    return path


def test_the_plan_of_a_sandbox(
    config_file: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table for people with the settings below it; and a document, whose settings are taken."""
    assert main(["--config", str(config_file), "--plan", "3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("shop: 3 tables on 2 shards, ")
    assert "kB by InnoDB's estimate, over 3 jobs; the largest has " in " ".join(text.split())
    assert text.splitlines()[-3:] == [
        '1    {"tables": ["shop.large"], "shards": ["-80"]}',
        '2    {"tables": ["shop.large"], "shards": ["80-"]}',
        '3    {"exclude_tables": ["shop.large"]}',
    ]
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()][:3]
    assert [(row[0], row[-1]) for row in rows] == [("1", "large"), ("2", "large"), ("3", "tiny")]
    assert main(["--config", str(config_file), "--plan", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["keyspace"] == "shop"
    assert sum(job["bytes"] for job in document["jobs"]) == document["bytes"]
    for job in document["jobs"]:
        config = Config.from_settings({**of_tap(sandbox), **job["settings"]})
        assert [s for s in document["shards"] if config.ranges.holds(s)] == job["shards"]
        found = discovery.discover(config, RetryOptions(budget=5))
        assert {table.name for table in found} == {*job["tables"]}


def two_keyspaces() -> Cluster:
    cluster = two_sizes()
    cluster.create_keyspace("ref", ["0"])
    columns = (Column("id", "int", nullable=False),)
    cluster.create_table("ref", Table("countries", columns, primary_key=("id",)))
    return cluster


@served(two_keyspaces)
def test_a_plan_is_of_one_keyspace(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config_file), "--plan", "2"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "--plan splits one keyspace, and the settings let in ref, shop: set keyspaces to" in text


@pytest.mark.parametrize("given_", ["0", "-1", "101", "two", "9" * 5000])
def test_a_wrong_number_of_jobs(given_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "ENV", f"--plan={given_}"]) == 2
    assert "a number from 1 to 100 is expected" in capsys.readouterr().err


def test_a_plan_goes_by_the_settings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "ENV", "--plan", "2", "--state", "state.json"]) == 2
    assert "--plan takes no --catalog and no --state" in capsys.readouterr().err
