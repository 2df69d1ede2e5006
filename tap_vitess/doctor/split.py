"""Splits tables and shards over jobs, by their sizes. Pure.

Each table on each shard is in exactly one job. A job has all of its tables on all of its shards,
because the settings `tables` and `shards` cannot say more. A job's shards are neighbours, so a
reshard within its range changes nothing.

Tables stay whole if that is nearly as even (`EVEN_ENOUGH`; InnoDB's sizes are estimates): a job
of some shards cannot remove what vanished without a delete, and a reshard may cross its border.
Next best is to split the largest tables alone, and then all of them.
"""

from __future__ import annotations

import functools
import glob
import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tap_vitess.config import Config

Sizes = Mapping[str, Mapping[str, int]]  # table -> shard -> bytes

EVEN_ENOUGH = 1.25  # times the largest job of the most even split


@dataclass(frozen=True, slots=True)
class Job:
    """A job's tables and shards, in order, and their size in bytes."""

    tables: tuple[str, ...]
    shards: tuple[str, ...]
    size: int


def split(sizes: Sizes, shards: Collection[str], jobs: int) -> list[Job]:
    """Split tables over at most `jobs` jobs; fewer if there are not enough pieces.

    The last job is one of those with the smallest tables.

    Args:
        sizes: of all tables; a shard that a table lacks counts as 0.
        shards: the keyspace's, at least one.
        jobs: how many, at least one.
    """
    return _Split(sizes, sorted(shards), jobs).chosen()


class _Split:
    def __init__(self, sizes: Sizes, shards: Sequence[str], jobs: int) -> None:
        self._shards = shards
        self._jobs = jobs
        self._sizes = {table: [own.get(s, 0) for s in shards] for table, own in sizes.items()}
        self._whole = {table: sum(own) for table, own in self._sizes.items()}
        self._tables = sorted(sizes, key=lambda table: (-self._whole[table], table))
        self.cut = functools.cache(self._cut)

    def chosen(self) -> list[Job]:
        """Return the first plan that is even enough; later plans cut more tables."""
        plans = [*self._plans()]
        enough = EVEN_ENOUGH * min(map(_largest, plans))
        return next(plan for plan in plans if _largest(plan) <= enough)

    def _plans(self) -> Iterator[list[Job]]:
        """Yield splits: first no table is split over shards, then the largest ones, then all."""
        yield self._packed(self._tables, self._jobs)
        if len(self._shards) == 1 or self._jobs == 1:
            return
        fair = sum(self._whole.values()) / self._jobs
        for number in range(1, 1 + sum(size > fair for size in self._whole.values())):
            yield min(self._with_cut(self._tables[:number], self._tables[number:]), key=_largest)
        grouped = (self._packed(self._tables, groups) for groups in range(1, self._jobs + 1))
        every = (self._each_cut([job.tables for job in jobs], self._jobs) for jobs in grouped)
        yield min(every, key=_largest)

    def _with_cut(self, large: Sequence[str], rest: Sequence[str]) -> Iterator[list[Job]]:
        """Yield splits that cut the large tables over shards and keep the rest whole."""
        for jobs in range(1, self._jobs + (not rest)):
            packed = self._packed(rest, self._jobs - jobs)
            yield [*self.cut(tuple(large), jobs), *packed]
            if len(large) <= jobs:
                yield [*self._each_cut([(table,) for table in large], jobs), *packed]

    def _packed(self, tables: Sequence[str], jobs: int) -> list[Job]:
        """Put each table whole into one job; the tables come with the largest first."""
        heap = [(0, 0, number) for number in range(jobs)]
        packed: list[list[str]] = [[] for _ in heap]
        for table in tables:
            size, count, number = heap[0]
            packed[number].append(table)
            heapq.heapreplace(heap, (size + self._whole[table], count + 1, number))
        made = [
            Job(tuple(some), tuple(self._shards), sum(map(self._whole.__getitem__, some)))
            for some in packed
            if some
        ]
        return sorted(made, key=lambda job: -job.size)

    def _each_cut(self, groups: Sequence[tuple[str, ...]], jobs: int) -> list[Job]:
        """Cut each group of tables over shards, independently of the others."""
        parts = dict.fromkeys(groups, 1)
        for _ in range(jobs - len(groups)):
            widest = max(groups, key=lambda group: _largest(self.cut(group, parts[group])))
            parts[widest] += 1
        return [job for group in groups for job in self.cut(group, parts[group])]

    def _cut(self, tables: tuple[str, ...], jobs: int) -> list[Job]:
        """Cut the tables together, into runs of neighbouring shards."""
        weights = [sum(column) for column in zip(*map(self._sizes.get, tables), strict=True)]
        least, most = max(weights), sum(weights)
        while least < most:
            limit = (least + most) // 2
            if len([*_runs(weights, limit)]) <= jobs:
                most = limit
            else:
                least = limit + 1
        return [
            Job(tables, tuple(self._shards[first:end]), sum(weights[first:end]))
            for first, end in _runs(weights, most)
        ]


def _runs(weights: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of the longest possible runs that do not exceed a limit."""
    first = size = 0
    for number, weight in enumerate(weights):
        if size + weight > limit:
            yield first, number
            first, size = number, 0
        size += weight
    yield first, len(weights)


def _largest(jobs: Sequence[Job]) -> int:
    return max(job.size for job in jobs)


def settings_of(
    jobs: Sequence[Job], keyspace: str, shards: Collection[str], config: Config
) -> list[dict[str, Any]]:
    """Return each job's settings beyond those that all jobs share.

    The last job excludes the other jobs' tables instead of naming its own, so that it reads tables
    that are created later, too.
    """
    last = jobs[-1].tables
    taken = [table for job in jobs if job.tables != last for table in job.tables]
    others = [_pattern(keyspace, table) for table in sorted({*taken})]
    found: list[dict[str, Any]] = []
    for number, job in enumerate(jobs, start=1):
        own: dict[str, Any] = {}
        if job.tables != last:
            own["tables"] = [_pattern(keyspace, table) for table in sorted(job.tables)]
        elif others:
            own["exclude_tables"] = [*config.exclude_tables, *others]
        if len(job.shards) < len(shards):
            own["shards"] = [range_of(job.shards)]
        if config.filters:
            names = {f"{keyspace}.{table}" for table in job.tables}
            own["filters"] = {n: where for n, where in config.filters.items() if n in names}
        if config.mirror_name:
            own["mirror_name"] = f"{config.mirror_name}-{number}"
        found.append(own)
    return found


def _pattern(keyspace: str, table: str) -> str:
    return glob.escape(f"{keyspace}.{table}")


def range_of(shards: Sequence[str]) -> str:
    """Return the key range of neighbouring shards."""
    return f"{shards[0].partition('-')[0]}-{shards[-1].partition('-')[2]}"
