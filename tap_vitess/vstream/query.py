"""What to read of a table: all of it, or some columns and the rows of a filter. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tap_vitess.errors import ConfigError
from tap_vitess.protocol.filters import conditions_of
from tap_vitess.run.rules import Wanted


@dataclass(frozen=True, slots=True)
class Query:
    """A table to read; use it in place of the table's name.

    name: `keyspace.table`. columns: their names, None for all; the columns of the key and of the
    primary vindex are always read. where: conditions of one column each, joined by AND, which the
    tablets evaluate: `tenant_id = 7 AND state IN ('new', 'paid')`. An update that moves a row out
    of the filter arrives as a delete; one that moves a row into it arrives as an insert. The state
    remembers columns and filter: if you change either, the table is copied again.

    Raises:
        ConfigError: `where` does not have this form, or `columns` is empty.
    """

    name: str
    columns: tuple[str, ...] | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.columns, str) or self.columns == ():
            raise ConfigError(
                f"{self.name}: columns: a tuple of names is expected, or None for all"
            )
        if self.where is not None:
            try:
                conditions_of(self.where)
            except ConfigError as error:
                raise ConfigError(f"{self.name}: {error}") from None

    @property
    def wanted(self) -> Wanted:
        """The engine's form of it."""
        columns = None if self.columns is None else frozenset(self.columns)
        return Wanted(columns, self.where)


def queries_of(tables: Iterable[str | Query]) -> dict[str, Query]:
    """Return what to read, by name.

    Raises:
        ConfigError: a table is there twice, with other columns or rows.
    """
    given = [tables] if isinstance(tables, str | Query) else tables
    found: dict[str, Query] = {}
    for one in given:
        query = Query(one) if isinstance(one, str) else one
        if found.setdefault(query.name, query) != query:
            raise ConfigError(f"tables: {query.name} is there twice, with other columns or rows")
    return found
