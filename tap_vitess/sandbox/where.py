"""The WHERE of a rule, as a tablet reads it: conditions of one column each, joined by AND.

Guarantees: it refuses what a tablet of Vitess 22 refuses, with the tablet's words, and compares
values as MySQL would. It needs the extra `sandbox`, so it is imported with the first such rule.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tap_vitess.sandbox.conditions import ConditionError, Conditions, NoColumnError, Test
from tap_vitess.sandbox.schema import SortValue, Table, sort_key
from tap_vitess.sandbox.values import ValueRefusedError, to_bytes

_COMPARISONS: dict[type[exp.Expression], Callable[[SortValue], Test]] = {
    exp.EQ: lambda other: lambda value: value == other,
    exp.NEQ: lambda other: lambda value: value != other,
    exp.LT: lambda other: lambda value: value < other,
    exp.LTE: lambda other: lambda value: value <= other,
    exp.GT: lambda other: lambda value: value > other,
    exp.GTE: lambda other: lambda value: value >= other,
}


def conditions_of(where: str, table: Table) -> Conditions:
    """Reads a WHERE clause."""
    try:
        select = sqlglot.parse_one(f"select 1 from t {where}", dialect="mysql")  # noqa: S608
    except SqlglotError as error:
        raise ConditionError(f"syntax error: {error}") from error
    found = select.args.get("where")
    others = select.args.keys() - {"where", "expressions", "from_"}
    if found is None or any(select.args[name] for name in others):
        raise ConditionError(f"unsupported by the sandbox: {where}")
    tests: list[tuple[str, Test | None, bool]] = []
    by_image = False
    for part in _parts(found.this):
        if isinstance(part, exp.Anonymous) and part.name.lower() == "in_keyrange":
            _check_range(part, table)
            by_image = True
        else:
            tests += _tests(part, table)
    return Conditions(tuple(tests), by_image)


def _parts(node: exp.Expression) -> Iterator[exp.Expression]:
    bare = node.unnest()
    for part in bare.flatten() if isinstance(bare, exp.And) else [bare]:
        found = part.unnest()
        if isinstance(found, exp.Expression):
            yield found


def _check_range(call: exp.Anonymous, table: Table) -> None:
    """Accepts `in_keyrange(column, 'null', '-')`, which every row passes."""
    column, *others = call.expressions
    if [other.name for other in others] != ["null", "-"]:
        raise ConditionError(f"unsupported by the sandbox: {_told(call)}")
    _name(column, table)


def _tests(node: exp.Expression, table: Table) -> Iterator[tuple[str, Test | None, bool]]:
    negated = isinstance(node, exp.Not)
    bare = node.this if negated else node
    if isinstance(bare, exp.Is) and isinstance(bare.expression, exp.Null):
        yield _name(bare.this, table), None, not negated
    elif isinstance(bare, exp.Between):
        name = _name(bare.this, table)
        low, high = (_value(bare.args[end], name, table) for end in ("low", "high"))
        yield name, lambda value: (low <= value <= high) is not negated, False
    elif isinstance(bare, exp.In) and not negated and bare.expressions:
        name = _name(bare.this, table)
        among = [_value(item, name, table) for item in bare.expressions]
        yield name, lambda value: value in among, False
    elif type(node) in _COMPARISONS:
        name = _name(node.this, table)
        if not isinstance(node.expression, exp.Literal):
            raise ConditionError(f"unexpected: {_told(node.expression)}")
        yield name, _COMPARISONS[type(node)](_value(node.expression, name, table)), False
    else:
        raise ConditionError(f"unsupported constraint: {_told(node)}")


def _name(node: exp.Expression, table: Table) -> str:
    if not isinstance(node, exp.Column) or node.table:
        raise ConditionError(f"unexpected: {_told(node)}")
    for column in table.columns:
        if column.name.lower() == node.name.lower():
            return column.name
    raise NoColumnError(f"column {node.name} not found in table {table.name}")


def _value(node: exp.Expression, name: str, table: Table) -> SortValue:
    text = f"-{node.this.name}" if isinstance(node, exp.Neg) else node.name
    column = table.column(name)
    try:
        if column.parsed.is_integer:
            return 1, Decimal(text)
        return sort_key(column, to_bytes(column, text))
    except (ValueRefusedError, ArithmeticError) as error:
        raise ConditionError(f"unexpected: {_told(node)}") from error


def _told(node: exp.Expression) -> str:
    return node.sql(dialect="mysql")
