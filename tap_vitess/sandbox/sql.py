"""SQL on the simulated cluster: SELECT, INSERT, UPDATE, DELETE, CREATE TABLE, by sqlglot.

Guarantees: a statement changes the rows as MySQL would, in one transaction per shard; an
unsupported one is refused with MySQL's error 1235 before it changes anything.

Surprising: sqlglot's executor compares as Python does: strings with their case. A number given
as a string becomes a number only next to a numeric column. UPDATE computes all its values from the
old row. `table_schema = 'keyspace'` is rewritten to the physical name as VTGate does;
`in (...)` is not, and so finds nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.executor import execute
from sqlglot.executor.table import Table as Data

from tap_vitess.sandbox import infoschema
from tap_vitess.sandbox.cluster import Cluster, DuplicateEntryError, NullError, UnknownColumnError
from tap_vitess.sandbox.events import physical_name
from tap_vitess.sandbox.schema import Column, Row, Table
from tap_vitess.sandbox.values import SqlValue, ValueRefusedError, from_bytes, to_bytes

_ROW_NUMBER = "sandbox_row_number"
_SCHEMAS = {f"{kind}_schema" for kind in ("table", "constraint", "trigger", "routine")}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between)


class SqlError(Exception):
    """An error with MySQL's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Result:
    names: list[str]
    rows: list[tuple[SqlValue, ...]]


@dataclass(frozen=True)
class _Relation:
    """A table for the executor; all its names are lower case."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[SqlValue, ...]]


def run(cluster: Cluster, keyspace: str | None, statement: exp.Expression) -> Result | None:
    """Runs one statement; returns None for those without a result set.

    `keyspace` is the one in use, or "keyspace:shard", which then has its own information_schema.
    """
    try:
        return _dispatch(cluster, keyspace, statement)
    except DuplicateEntryError as error:
        raise SqlError(1062, str(error)) from error
    except UnknownColumnError as error:
        raise SqlError(1054, str(error)) from error
    except NullError as error:
        raise SqlError(1048, str(error)) from error
    except ValueRefusedError as error:
        raise SqlError(error.code, str(error)) from error
    except SqlglotError as error:
        code = 1054 if "could not be resolved" in str(error) else 1235
        raise SqlError(code, f"the sandbox cannot run this: {error}") from error


def _dispatch(cluster: Cluster, keyspace: str | None, statement: exp.Expression) -> Result | None:
    if isinstance(statement, exp.Select):
        return _select(cluster, keyspace, statement)
    if isinstance(statement, exp.Insert):
        _insert(cluster, keyspace, statement)
    elif isinstance(statement, exp.Update):
        _update(cluster, keyspace, statement)
    elif isinstance(statement, exp.Delete):
        _delete(cluster, keyspace, statement)
    elif isinstance(statement, exp.Create):
        _create(cluster, keyspace, statement)
    else:
        raise SqlError(1235, f"the sandbox does not support {statement.key.upper()}")
    return None


def _select(cluster: Cluster, keyspace: str | None, statement: exp.Select) -> Result:
    names = _output_names(cluster, keyspace, statement)
    rows, found = _evaluate(cluster, keyspace, statement)
    return Result(names if names is not None else found, rows)


def _insert(cluster: Cluster, keyspace: str | None, statement: exp.Insert) -> None:
    _refuse(statement, ("conflict", "ignore", "overwrite", "returning", "partition"))
    target = statement.this
    into = target.this if isinstance(target, exp.Schema) else target
    space, table = _user_table(cluster, keyspace, into)
    names = [column.name for column in table.columns]
    if isinstance(target, exp.Schema):
        names = [_canonical(table, identifier.name) for identifier in target.expressions]
    source = statement.expression
    if isinstance(source, exp.Values):
        rows = [_literals(cluster, keyspace, item.expressions) for item in source.expressions]
    elif isinstance(source, exp.Select):
        rows, _ = _evaluate(cluster, keyspace, source)
    else:
        raise SqlError(1235, "the sandbox supports INSERT of VALUES or a SELECT")
    for row in rows:
        if len(row) != len(names):
            raise SqlError(1136, "Column count doesn't match value count")
    cluster.insert(space, table.name, [_row(table, names, row) for row in rows])


def _update(cluster: Cluster, keyspace: str | None, statement: exp.Update) -> None:
    space, table = _user_table(cluster, keyspace, statement.this)
    names = [_canonical(table, item.left.name) for item in statement.expressions]
    wanted = [item.right for item in statement.expressions]
    rows, found = _chosen(cluster, space, table, statement, wanted)
    updates = [
        (_identity(table, rows[number]), _row(table, names, values)) for number, *values in found
    ]
    cluster.update_many(space, table.name, updates)


def _delete(cluster: Cluster, keyspace: str | None, statement: exp.Delete) -> None:
    _refuse(statement, ("using", "returning", "tables"))
    space, table = _user_table(cluster, keyspace, statement.this)
    rows, found = _chosen(cluster, space, table, statement, [])
    cluster.delete_many(space, table.name, [_identity(table, rows[item[0]]) for item in found])


def _create(cluster: Cluster, keyspace: str | None, statement: exp.Create) -> None:
    """Creates a table of columns and a primary key."""
    target = statement.this
    if statement.kind != "TABLE" or not isinstance(target, exp.Schema):
        raise SqlError(1235, "the sandbox supports CREATE TABLE with columns only")
    space = (target.this.db or keyspace or "").partition(":")[0]
    if space not in cluster.keyspaces():
        raise SqlError(1049, f"VT05003: unknown database '{space}' in vschema")
    if target.this.name in cluster.tables(space):
        raise SqlError(1050, f"Table '{target.this.name}' already exists")
    columns: list[Column] = []
    key: tuple[str, ...] = ()
    for part in target.expressions:
        if isinstance(part, exp.ColumnDef):
            columns.append(_column(part))
        elif isinstance(part, exp.PrimaryKey):
            key = tuple(column.name for column in part.expressions)
        else:
            raise SqlError(1235, f"the sandbox does not support {part.key.upper()} in a table")
    table = Table(target.this.name, tuple(columns), primary_key=key)
    cluster.ddl(space, statement.sql(dialect="mysql"), table)


def _column(definition: exp.ColumnDef) -> Column:
    nullable, collation_id = True, None
    for constraint in definition.constraints:
        kind = constraint.kind
        if isinstance(kind, exp.NotNullColumnConstraint):
            nullable = False
        elif isinstance(kind, exp.CollateColumnConstraint):
            collation_id = infoschema.collation_id(kind.this.name)
        elif not isinstance(kind, exp.CharacterSetColumnConstraint):
            raise SqlError(1235, f"the sandbox does not support {kind.key} of a column")
    column_type = definition.args["kind"].sql(dialect="mysql").lower()
    return Column(definition.name, column_type, nullable, collation_id)


def _chosen(
    cluster: Cluster,
    keyspace: str,
    table: Table,
    statement: exp.Update | exp.Delete,
    wanted: Sequence[exp.Expression],
) -> tuple[list[Row], list[tuple[int, ...]]]:
    """The table's rows, and the number and wanted values of those that the statement selects."""
    target = statement.this
    if not isinstance(target, exp.Table) or statement.find(exp.Join):
        raise SqlError(1235, "the sandbox changes one table at a time")
    select = exp.select(exp.column(_ROW_NUMBER), *(item.copy() for item in wanted))
    select.set("from_", exp.From(this=target.copy()))
    for part in ("where", "order", "limit"):
        if clause := statement.args.get(part):
            select.set(part, clause.copy())
    rows = cluster.rows(keyspace, table.name)
    found, _ = _evaluate(cluster, keyspace, select, numbered={table.name: rows})
    return rows, found  # type: ignore[return-value]


def _evaluate(
    cluster: Cluster,
    keyspace: str | None,
    statement: exp.Select,
    numbered: dict[str, list[Row]] | None = None,
) -> tuple[list[tuple[SqlValue, ...]], list[str]]:
    """Runs a SELECT on copies of the tables it names."""
    query = statement.copy()
    relations: dict[str, _Relation] = {}
    for table in list(query.find_all(exp.Table)):
        name = f"t{len(relations)}"
        relations[name] = _relation(cluster, keyspace, table, numbered or {})
        alias = table.alias or table.name
        table.replace(exp.alias_(exp.table_(name), alias.lower(), table=True))
    _rewrite(cluster, query, relations)
    result = execute(
        query,
        tables={name: Data(item.names, list(item.rows)) for name, item in relations.items()},
        schema={
            name: dict(zip(item.names, item.types, strict=True)) for name, item in relations.items()
        },
        dialect="mysql",
    )
    return [tuple(row) for row in result.rows], list(result.columns)


def _relation(
    cluster: Cluster, keyspace: str | None, named: exp.Table, numbered: dict[str, list[Row]]
) -> _Relation:
    if named.db.lower() == "information_schema":
        return _information(cluster, named.name.lower(), keyspace)
    space, table = _user_table(cluster, keyspace, named)
    names = tuple(column.name.lower() for column in table.columns)
    types = tuple(_type(column.parsed.base, column.parsed.is_integer) for column in table.columns)
    rows = numbered.get(table.name)
    data = [
        tuple(from_bytes(column, row[column.name]) for column in table.columns)
        for row in (cluster.rows(space, table.name) if rows is None else rows)
    ]
    if rows is not None:
        names, types = (*names, _ROW_NUMBER), (*types, "bigint")
        data = [(*values, number) for number, values in enumerate(data)]
    return _Relation(names, types, data)


def _information(cluster: Cluster, name: str, keyspace: str | None) -> _Relation:
    if name not in infoschema.COLUMNS:
        raise SqlError(1109, f"Unknown table '{name.upper()}' in information_schema")
    shard = (keyspace or "").partition(":")[2] or None
    names = tuple(column.lower() for column in infoschema.COLUMNS[name])
    return _Relation(names, ("text",) * len(names), list(infoschema.rows(cluster, name, shard)))


def _type(base: str, is_integer: bool) -> str:  # noqa: FBT001 - one of two facts of a type
    if is_integer:
        return "bigint"
    return {"decimal": "decimal", "float": "double", "double": "double"}.get(base, "text")


def _rewrite(cluster: Cluster, query: exp.Select, relations: dict[str, _Relation]) -> None:
    """Lower-case names, without databases; physical schema names; numbers next to numbers."""
    numeric = {
        name
        for item in relations.values()
        for name, type_ in zip(item.names, item.types, strict=True)
        if type_ != "text"
    }
    for column in query.find_all(exp.Column):
        column.set("db", None)
        for part in ("this", "table"):
            identifier = column.args.get(part)
            if isinstance(identifier, exp.Identifier):
                identifier.set("this", identifier.name.lower())
    keyspaces = set(cluster.keyspaces())
    for comparison in query.find_all(*_COMPARISONS):
        names = {column.name for column in comparison.find_all(exp.Column)}
        for literal in list(comparison.find_all(exp.Literal)):
            if not literal.is_string:
                continue
            schema = isinstance(comparison, exp.EQ) and len(names) == 1 and names <= _SCHEMAS
            if schema and (keyspace := re.split("[@:]", literal.name)[0]) in keyspaces:
                literal.set("this", physical_name(keyspace))
            elif names and names <= numeric and _is_number(literal.name):
                literal.replace(exp.Literal.number(literal.name))


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def _output_names(
    cluster: Cluster, keyspace: str | None, statement: exp.Select
) -> list[str] | None:
    """The names that MySQL would return; None leaves them to the executor."""
    canonical: dict[str, str] = {}
    for named in statement.find_all(exp.Table):
        if named.db.lower() == "information_schema":
            names = infoschema.COLUMNS.get(named.name.lower(), ())
        else:
            _, table = _user_table(cluster, keyspace, named)
            names = tuple(column.name for column in table.columns)
        canonical |= {name.lower(): name for name in names}
    found: list[str] = []
    for item in statement.expressions:
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and item.is_star):
            if len(statement.expressions) > 1:
                return None
            return list(canonical.values())
        if isinstance(item, exp.Column):
            found.append(canonical.get(item.name.lower(), item.name))
        else:
            found.append(item.alias or item.sql(dialect="mysql"))
    return found


def _user_table(cluster: Cluster, keyspace: str | None, named: exp.Expression) -> tuple[str, Table]:
    if not isinstance(named, exp.Table):
        raise SqlError(1235, f"the sandbox does not support this as a table: {named.sql()}")
    space = (named.db or keyspace or "").partition("@")[0].partition(":")[0]
    if not space:
        raise SqlError(1046, "No database selected")
    if space not in cluster.keyspaces():
        raise SqlError(1049, f"VT05003: unknown database '{space}' in vschema")
    table = cluster.tables(space).get(named.name)
    if table is None:
        raise SqlError(1146, f"Table '{physical_name(space)}.{named.name}' doesn't exist")
    return space, table


def _canonical(table: Table, name: str) -> str:
    for column in table.columns:
        if column.name.lower() == name.lower():
            return column.name
    raise SqlError(1054, f"Unknown column '{name}' in 'field list'")


def _row(table: Table, names: Sequence[str], values: Sequence[SqlValue]) -> Row:
    return {
        name: to_bytes(table.column(name), value) for name, value in zip(names, values, strict=True)
    }


def _identity(table: Table, row: Row) -> Row:
    return {name: row[name] for name in (*table.copy_key, *table.vindex)}


def _literals(
    cluster: Cluster, keyspace: str | None, items: Iterable[exp.Expression]
) -> tuple[SqlValue, ...]:
    values = list(items)
    if all(isinstance(item, exp.Literal | exp.Null) for item in values):
        return tuple(_literal(item) for item in values)
    rows, _ = _evaluate(cluster, keyspace, exp.select(*values))
    return rows[0]


def _literal(item: exp.Expression) -> SqlValue:
    return None if isinstance(item, exp.Null) else item.name


def _refuse(statement: exp.Expression, parts: Sequence[str]) -> None:
    for part in parts:
        if statement.args.get(part):
            raise SqlError(1235, f"the sandbox does not support {part.upper()} here")
