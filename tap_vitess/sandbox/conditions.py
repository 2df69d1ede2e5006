"""Conditions of a rule's WHERE, which rows must meet. NULL passes no comparison."""

from collections.abc import Callable
from dataclasses import dataclass

from tap_vitess.sandbox.schema import Row, SortValue, Table, sort_key

Test = Callable[[SortValue], bool]


class ConditionError(Exception):
    """A tablet refuses the condition."""


class NoColumnError(ConditionError):
    """It names a column that the table does not have."""


@dataclass(frozen=True)
class Conditions:
    """What rows must meet; by_image: whether each image is filtered on its own, even in v23."""

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
