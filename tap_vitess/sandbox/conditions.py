"""Conditions that rows must fulfil, as a rule's WHERE has them. NULL passes no comparison."""

from collections.abc import Callable
from dataclasses import dataclass

from tap_vitess.sandbox.schema import Row, SortValue, Table, sort_key

Test = Callable[[SortValue], bool]


class ConditionError(Exception):
    """A tablet does not take the condition."""


class NoColumnError(ConditionError):
    """It names a column that the table has not."""


@dataclass(frozen=True)
class Conditions:
    """What rows must fulfil; `by_image` says that each image is filtered by itself in v23, too."""

    tests: tuple[tuple[str, Test | None, bool], ...] = ()
    by_image: bool = False

    def take(self, table: Table, row: Row) -> bool:
        return all(
            (row[name] is None) is null
            if test is None
            else row[name] is not None and test(sort_key(table.column(name), row[name]))
            for name, test, null in self.tests
        )


ALL_ROWS = Conditions()
