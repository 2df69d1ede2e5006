"""`tap-vitess-doctor --plan`: a split of a keyspace over jobs, by InnoDB's sizes.

The settings of a job go into a separate file, after the one that all jobs share:
`--config config.json --config job-1.json`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tap_vitess.config import Config
from tap_vitess.doctor.split import Job, settings_of, split
from tap_vitess.errors import ConfigError, shown
from tap_vitess.survey import discovery, tables
from tap_vitess.survey import keyspace as ks
from tap_vitess.survey.keyspace import Survey
from tap_vitess.vtgate.retry import RetryOptions

_PATIENCE = RetryOptions(budget=10)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_HEAD = ("job", "size", "share", "shards")


@dataclass(frozen=True, slots=True)
class Plan:
    """A split of a keyspace's tables; settings: each job's own."""

    keyspace: str
    shards: Sequence[str]
    jobs: Sequence[Job]
    settings: Sequence[Mapping[str, Any]]

    @property
    def size(self) -> int:
        """The bytes of all jobs."""
        return sum(job.size for job in self.jobs)

    def share(self, job: Job) -> float:
        """Return a job's part of all bytes, from 0 to 1."""
        return job.size / self.size if self.size else 0.0


def planned(config: Config, jobs: int) -> Plan:
    """Split the tables that the settings select.

    Raises:
        ConfigError: the tables are of several keyspaces.
        VitessError: VTGate does not answer, or a setting is wrong.
    """
    found = discovery.discover(config, _PATIENCE)
    keyspaces = sorted({table.keyspace for table in found})
    if len(keyspaces) > 1:
        raise ConfigError(
            f"--plan splits one keyspace, and the settings let in {', '.join(keyspaces)}: set "
            "keyspaces to one of them"
        )
    [keyspace] = keyspaces
    with Survey(config, keyspace, config.tablet_type, config.ranges).connected() as at:
        shards = ks.shards(at)
        sizes = tables.sizes(at, [table.name for table in found])
    made = split(sizes, shards, jobs)
    return Plan(keyspace, shards, made, settings_of(made, keyspace, shards, config))


def as_text(plan: Plan, width: int) -> str:
    """Format the jobs as a table, with their settings below it."""
    names = {table for job in plan.jobs for table in job.tables}
    largest = max(map(plan.share, plan.jobs))
    told = (
        f"{plan.keyspace}: {_counted(len(names), 'table')} on "
        f"{_counted(len(plan.shards), 'shard')}, {_bytes(plan.size)} by InnoDB's estimate, over "
        f"{_counted(len(plan.jobs), 'job')}; the largest has {largest:.0%}"
    )
    lines = [*textwrap.wrap(shown(told), width), "", *_table(plan, width), ""]
    lines += textwrap.wrap(
        "Settings of each job, for a second --config (see docs/operating.md):", width
    )
    for number, own in enumerate(plan.settings, start=1):
        lines.append(f"{number:<3}  {json.dumps(own)}")
    return "\n".join(lines)


def _table(plan: Plan, width: int) -> list[str]:
    rows = [
        (str(number), _bytes(job.size), f"{plan.share(job):.0%}", _shards(plan, job))
        for number, job in enumerate(plan.jobs, start=1)
    ]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    margin = sum(widths) + 2 * len(widths)
    lines = [_cells(_HEAD, widths) + "tables"]
    for row, job in zip(rows, plan.jobs, strict=True):
        head = _cells(row, widths)
        for text in textwrap.wrap(_listed(job.tables), max(30, width - margin)):
            lines.append(head + text)
            head = " " * margin
    return lines


def _cells(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:{wide}}  " for cell, wide in zip(row, widths, strict=True))


def _shards(plan: Plan, job: Job) -> str:
    if len(job.shards) == len(plan.shards):
        return "all"
    return ", ".join(job.shards if len(job.shards) < 3 else (job.shards[0], "...", job.shards[-1]))


def _listed(names: Sequence[str], most: int = 10) -> str:
    listed = [shown(name) for name in names[:most]]
    return ", ".join(listed) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _bytes(size: float) -> str:
    """Format bytes in the largest unit that fits."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def as_json(plan: Plan) -> str:
    """Return one JSON document with the size, tables, shards and settings of each job."""
    document = {
        "format": 1,
        "keyspace": plan.keyspace,
        "shards": [*plan.shards],
        "bytes": plan.size,
        "jobs": [
            {"bytes": job.size, "tables": [*job.tables], "shards": [*job.shards], "settings": own}
            for job, own in zip(plan.jobs, plan.settings, strict=True)
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
