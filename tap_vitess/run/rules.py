"""What a run requests of tables that are not read whole, and what earlier runs requested.

The state remembers it. If a table's filter or columns have changed, the table is copied again,
because rows and values that were not requested before are unknown. Dropped columns are not such a
change: the remaining columns are requested. In `state`, a table that is requested whole has no
entry. A table from an older version of this package is UNKNOWN: it had every column and every row.
With NOTHING_COPIED there is nothing to copy again.

    "3f1c.../"            some columns, all rows: a checksum of the columns' names
    "3f1c.../77aa..."     a filter too, by its checksum
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations

from tap_vitess.config import Keys
from tap_vitess.errors import CatalogError
from tap_vitess.log import logger_of
from tap_vitess.protocol.filters import conditions_of
from tap_vitess.protocol.request import Rule
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.state import NOTHING_COPIED, UNKNOWN, KeyspaceState
from tap_vitess.survey.facts import Table
from tap_vitess.survey.rules import needed_columns, resumable, rule_of

logger = logger_of(__name__)

_MOST_DROPPED = 8  # columns at once; more count as another list


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a table: `columns` by name, None for all; and the rows of a filter.

    known: the columns that the user has decided about, wanted or not. remembered: whether a change
    of columns causes a new copy; else new ones come from now on.
    """

    columns: frozenset[str] | None = None
    where: str | None = None
    known: frozenset[str] | None = None
    remembered: bool = True

    @property
    def is_everything(self) -> bool:
        """Whether the whole table is wanted."""
        return self.columns is None and self.where is None


EVERYTHING = Wanted()


class Rules:
    """The rules of a run's tables. by_table: of those that are read only in part."""

    def __init__(
        self, keyspace: str, wanted: Mapping[str, Wanted], inquiry: Inquiry, keys: Keys | None
    ) -> None:
        """Ask for descriptions of the tables that are read only in part, if any.

        Raises:
            ConfigError: a filter cannot be requested.
            CatalogError: a table does not exist.
            VitessError: VTGate does not answer.
        """
        self._keyspace = keyspace
        self._inquiry = inquiry
        self.by_table: dict[str, Rule] = {}
        self._tables: dict[str, Table] = {}
        self._lost: dict[str, frozenset[str]] = {}
        if some := [name for name, one in wanted.items() if not one.is_everything]:
            self._tables = inquiry.described(some, keys or "with_vindex")
        needed = {name: self._needed(name, one) for name, one in wanted.items()}
        self._wanted = {name: one for name, one in needed.items() if not one.is_everything}
        if self._wanted:
            self._version = inquiry.version()
        for name in self._wanted:
            self._make(name, self._table(name))

    def _needed(self, name: str, wanted: Wanted) -> Wanted:
        """Request all columns if all are wanted, which makes a plain request.

        A missing table is reported by its stream, unless its columns are remembered.
        """
        if wanted.remembered or wanted.columns is None:
            return wanted
        if name.startswith("/"):  # VStream takes no columns of such a name
            return replace(wanted, columns=None)
        table = self._tables.get(name)
        names = frozenset[str]() if table is None else {column.name for column in table.columns}
        return replace(wanted, columns=None) if wanted.columns >= names else wanted

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise CatalogError(
                f"{self._keyspace}.{name} is not there (any more), or not yet: discover again",
                table=name,
            )
        return self._tables[name]

    def _make(self, name: str, table: Table) -> None:
        wanted = self._wanted[name]
        names = {column.name for column in table.columns}
        self.by_table[name] = rule_of(table, wanted.columns, wanted.where, self._version)
        self._lost[name] = (wanted.columns or frozenset()) - names
        if wanted.known is not None and (new := names - wanted.known - needed_columns(table)):
            logger.warning(
                "%s.%s: column %s is not in the catalog, which deselects columns, so it is not "
                "read; discover again to select it",
                self._keyspace,
                name,
                ", ".join(sorted(new)),
            )
        if self._lost[name]:
            logger.warning(
                "%s.%s: column %s is not there (any more); the others are read",
                self._keyspace,
                name,
                ", ".join(sorted(self._lost[name])),
            )

    def is_resumable(self, name: str) -> bool:
        """Return whether a table's filter lets its copy be resumed."""
        return name not in self.by_table or resumable(self._tables[name], self.by_table[name])

    def narrow(self, name: str) -> bool:
        """Look for dropped columns; return whether the request has changed.

        Raises:
            ConfigError: the filter names one of them.
        """
        if name not in self.by_table or self.by_table[name].columns is None:
            return False
        there = self._inquiry.columns_everywhere(name)
        table = self._table(name)
        before = self.by_table[name]
        self._make(name, replace(table, columns=tuple(c for c in table.columns if c.name in there)))
        return self.by_table[name] != before

    def changed(self, state: KeyspaceState, among: Collection[str]) -> Iterator[str]:
        """Yield the tables to copy again, because an earlier run requested something else."""
        for name in among:
            if state.group_of(name) and not self._is_as_before(name, state.rules.get(name, "")):
                logger.warning(
                    "%s.%s is copied again: its filter or its list of columns has changed",
                    self._keyspace,
                    name,
                )
                yield name

    def _is_as_before(self, name: str, before: str) -> bool:
        wanted = self._wanted.get(name, EVERYTHING)
        if before == NOTHING_COPIED:
            return True
        if before == UNKNOWN:
            return wanted.where is None
        lost = sorted(self._lost.get(name, ()))[:_MOST_DROPPED]
        dropped = chain.from_iterable(combinations(lost, n) for n in range(len(lost) + 1))
        return any(before == self._told(name, but) for but in dropped)

    def told(self, names: Iterable[str]) -> dict[str, str]:
        """Return the rules to store in the state, of tables that are read only in part."""
        told = {name: self._told(name) for name in names if name in self.by_table}
        return {name: rule for name, rule in told.items() if rule}

    def _told(self, name: str, and_dropped: Collection[str] = ()) -> str:
        wanted = self._wanted.get(name)
        if wanted is None:
            return ""
        columns = ""
        if wanted.columns is not None and wanted.remembered:
            columns = _checksum(sorted(wanted.columns - self._lost[name] | {*and_dropped}))
        where = ""
        if wanted.where is not None:  # independent of the version, unlike the rule
            conditions = conditions_of(wanted.where)
            where = _checksum([c.sql(c.column.lower(), old=False) for c in conditions])
        return f"{columns}/{where}" if columns or where else ""


def _checksum(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
