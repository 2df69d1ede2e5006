"""information_schema of the simulated keyspaces, as VTGate answers for it.

Guarantees: the columns of MySQL's tables, those of `COLUMNS`, in their order. There are no views
and no routines.

Surprising: the names are upper case unless a query gives aliases; TABLE_SCHEMA is the physical
name of the keyspace; TABLE_ROWS counts one shard's rows only. DATA_LENGTH is the bytes of a shard's
values, while InnoDB counts its pages, and NULL if no shard is named.
"""

from collections.abc import Iterator

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.events import physical_name
from tap_vitess.sandbox.schema import Column, ParsedType, Table

Value = str | int | None

COLUMNS: dict[str, tuple[str, ...]] = {
    "columns": (
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "COLUMN_NAME",
        "ORDINAL_POSITION",
        "COLUMN_DEFAULT",
        "IS_NULLABLE",
        "DATA_TYPE",
        "CHARACTER_MAXIMUM_LENGTH",
        "CHARACTER_OCTET_LENGTH",
        "NUMERIC_PRECISION",
        "NUMERIC_SCALE",
        "DATETIME_PRECISION",
        "CHARACTER_SET_NAME",
        "COLLATION_NAME",
        "COLUMN_TYPE",
        "COLUMN_KEY",
        "EXTRA",
        "PRIVILEGES",
        "COLUMN_COMMENT",
        "GENERATION_EXPRESSION",
        "SRS_ID",
    ),
    "tables": (
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "TABLE_TYPE",
        "ENGINE",
        "VERSION",
        "ROW_FORMAT",
        "TABLE_ROWS",
        "AVG_ROW_LENGTH",
        "DATA_LENGTH",
        "MAX_DATA_LENGTH",
        "INDEX_LENGTH",
        "DATA_FREE",
        "AUTO_INCREMENT",
        "CREATE_TIME",
        "UPDATE_TIME",
        "CHECK_TIME",
        "TABLE_COLLATION",
        "CHECKSUM",
        "CREATE_OPTIONS",
        "TABLE_COMMENT",
    ),
    "statistics": (
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "NON_UNIQUE",
        "INDEX_SCHEMA",
        "INDEX_NAME",
        "SEQ_IN_INDEX",
        "COLUMN_NAME",
        "COLLATION",
        "CARDINALITY",
        "SUB_PART",
        "PACKED",
        "NULLABLE",
        "INDEX_TYPE",
        "COMMENT",
        "INDEX_COMMENT",
        "IS_VISIBLE",
        "EXPRESSION",
    ),
    "triggers": (
        "TRIGGER_CATALOG",
        "TRIGGER_SCHEMA",
        "TRIGGER_NAME",
        "EVENT_MANIPULATION",
        "EVENT_OBJECT_CATALOG",
        "EVENT_OBJECT_SCHEMA",
        "EVENT_OBJECT_TABLE",
        "ACTION_ORDER",
        "ACTION_CONDITION",
        "ACTION_STATEMENT",
        "ACTION_ORIENTATION",
        "ACTION_TIMING",
        "ACTION_REFERENCE_OLD_TABLE",
        "ACTION_REFERENCE_NEW_TABLE",
        "ACTION_REFERENCE_OLD_ROW",
        "ACTION_REFERENCE_NEW_ROW",
        "CREATED",
        "SQL_MODE",
        "DEFINER",
        "CHARACTER_SET_CLIENT",
        "COLLATION_CONNECTION",
        "DATABASE_COLLATION",
    ),
    "referential_constraints": (
        "CONSTRAINT_CATALOG",
        "CONSTRAINT_SCHEMA",
        "CONSTRAINT_NAME",
        "UNIQUE_CONSTRAINT_CATALOG",
        "UNIQUE_CONSTRAINT_SCHEMA",
        "UNIQUE_CONSTRAINT_NAME",
        "MATCH_OPTION",
        "UPDATE_RULE",
        "DELETE_RULE",
        "TABLE_NAME",
        "REFERENCED_TABLE_NAME",
    ),
    "views": (
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "VIEW_DEFINITION",
        "CHECK_OPTION",
        "IS_UPDATABLE",
        "DEFINER",
        "SECURITY_TYPE",
        "CHARACTER_SET_CLIENT",
        "COLLATION_CONNECTION",
    ),
    "routines": (
        "SPECIFIC_NAME",
        "ROUTINE_CATALOG",
        "ROUTINE_SCHEMA",
        "ROUTINE_NAME",
        "ROUTINE_TYPE",
        "DATA_TYPE",
        "CHARACTER_MAXIMUM_LENGTH",
        "CHARACTER_OCTET_LENGTH",
        "NUMERIC_PRECISION",
        "NUMERIC_SCALE",
        "DATETIME_PRECISION",
        "CHARACTER_SET_NAME",
        "COLLATION_NAME",
        "DTD_IDENTIFIER",
        "ROUTINE_BODY",
        "ROUTINE_DEFINITION",
        "EXTERNAL_NAME",
        "EXTERNAL_LANGUAGE",
        "PARAMETER_STYLE",
        "IS_DETERMINISTIC",
        "SQL_DATA_ACCESS",
        "SQL_PATH",
        "SECURITY_TYPE",
        "CREATED",
        "LAST_ALTERED",
        "SQL_MODE",
        "ROUTINE_COMMENT",
        "DEFINER",
        "CHARACTER_SET_CLIENT",
        "COLLATION_CONNECTION",
        "DATABASE_COLLATION",
    ),
}

# The collations that a sandbox's columns are likely to have: name and charset by id.
_COLLATIONS = {
    8: ("latin1_swedish_ci", "latin1"),
    11: ("ascii_general_ci", "ascii"),
    33: ("utf8_general_ci", "utf8"),
    45: ("utf8mb4_general_ci", "utf8mb4"),
    46: ("utf8mb4_bin", "utf8mb4"),
    47: ("latin1_bin", "latin1"),
    54: ("utf16_general_ci", "utf16"),
    65: ("ascii_bin", "ascii"),
    83: ("utf8_bin", "utf8"),
    224: ("utf8mb4_unicode_ci", "utf8mb4"),
    255: ("utf8mb4_0900_ai_ci", "utf8mb4"),
    309: ("utf8mb4_0900_bin", "utf8mb4"),
}
_PRECISIONS = {"tinyint": 3, "smallint": 5, "mediumint": 7, "int": 10, "bigint": 19}


def rows(cluster: Cluster, table: str, shard: str | None = None) -> list[tuple[Value, ...]]:
    """All rows of one of the tables of `COLUMNS`, as in VTGate or in one shard's MySQL."""
    found = []
    for keyspace in cluster.keyspaces():
        for definition in cluster.tables(keyspace).values():
            for row in _ROWS[table](cluster, keyspace, definition):
                if shard is not None and "TABLE_ROWS" in row:
                    row["TABLE_ROWS"] = cluster.rows_of_shard(keyspace, definition.name, shard)
                    row["DATA_LENGTH"] = cluster.bytes_of_shard(keyspace, definition.name, shard)
                full: dict[str, Value] = {
                    "TABLE_CATALOG": "def",
                    "TABLE_SCHEMA": physical_name(keyspace),
                    "TABLE_NAME": definition.name,
                    **row,
                }
                found.append(tuple(full.get(name) for name in COLUMNS[table]))
    return found


def _table_row(cluster: Cluster, keyspace: str, table: Table) -> Iterator[dict[str, Value]]:
    yield {
        "TABLE_TYPE": "BASE TABLE",
        "ENGINE": "InnoDB",
        "VERSION": 10,
        "ROW_FORMAT": "Dynamic",
        "TABLE_ROWS": cluster.rows_of_first_shard(keyspace, table.name),
        "TABLE_COLLATION": "utf8mb4_0900_ai_ci",
        "CREATE_OPTIONS": "",
        "TABLE_COMMENT": table.comment,
    }


def _column_rows(_cluster: Cluster, _keyspace: str, table: Table) -> Iterator[dict[str, Value]]:
    for position, column in enumerate(table.columns, start=1):
        yield {
            "COLUMN_NAME": column.name,
            "ORDINAL_POSITION": position,
            "IS_NULLABLE": "YES" if table.is_nullable(column.name) else "NO",
            "DATA_TYPE": column.parsed.base,
            "COLUMN_TYPE": column.column_type,
            "COLUMN_KEY": column_key(table, column.name),
            "EXTRA": "",
            "PRIVILEGES": "select,insert,update,references",
            "COLUMN_COMMENT": "",
            "GENERATION_EXPRESSION": "",
            "SRS_ID": column.srid,
            **_measures(column),
        }


def _statistics_rows(_cluster: Cluster, keyspace: str, table: Table) -> Iterator[dict[str, Value]]:
    named = {"PRIMARY": table.primary_key} if table.primary_key else {}
    # MySQL names an index after its first column.
    for key in table.unique_keys:
        name, number = key[0], 2
        while name in named:
            name, number = f"{key[0]}_{number}", number + 1
        named[name] = key
    for name, key in named.items():
        for position, column in enumerate(key, start=1):
            yield {
                "NON_UNIQUE": 0,
                "INDEX_SCHEMA": physical_name(keyspace),
                "INDEX_NAME": name,
                "SEQ_IN_INDEX": position,
                "COLUMN_NAME": column,
                "COLLATION": "A",
                "CARDINALITY": 0,
                "NULLABLE": "YES" if table.is_nullable(column) else "",
                "INDEX_TYPE": "BTREE",
                "COMMENT": "",
                "INDEX_COMMENT": "",
                "IS_VISIBLE": "YES",
            }


def _trigger_rows(_cluster: Cluster, keyspace: str, table: Table) -> Iterator[dict[str, Value]]:
    for number, statement in enumerate(table.triggers, start=1):
        yield {
            "TRIGGER_CATALOG": "def",
            "TRIGGER_SCHEMA": physical_name(keyspace),
            "TRIGGER_NAME": f"{table.name}_{number}",
            "EVENT_MANIPULATION": "INSERT",
            "EVENT_OBJECT_CATALOG": "def",
            "EVENT_OBJECT_SCHEMA": physical_name(keyspace),
            "EVENT_OBJECT_TABLE": table.name,
            "ACTION_ORDER": number,
            "ACTION_STATEMENT": statement,
            "ACTION_ORIENTATION": "ROW",
            "ACTION_TIMING": "AFTER",
        }


def _constraint_rows(_cluster: Cluster, keyspace: str, table: Table) -> Iterator[dict[str, Value]]:
    for number, key in enumerate(table.foreign_keys, start=1):
        yield {
            "CONSTRAINT_CATALOG": "def",
            "CONSTRAINT_SCHEMA": physical_name(keyspace),
            "CONSTRAINT_NAME": f"{table.name}_ibfk_{number}",
            "UNIQUE_CONSTRAINT_CATALOG": "def",
            "UNIQUE_CONSTRAINT_SCHEMA": physical_name(keyspace),
            "UNIQUE_CONSTRAINT_NAME": "PRIMARY",
            "MATCH_OPTION": "NONE",
            "UPDATE_RULE": key.on_update,
            "DELETE_RULE": key.on_delete,
            "REFERENCED_TABLE_NAME": key.parent,
        }


def _no_rows(_cluster: Cluster, _keyspace: str, _table: Table) -> Iterator[dict[str, Value]]:
    return iter(())


_ROWS = {
    "tables": _table_row,
    "columns": _column_rows,
    "statistics": _statistics_rows,
    "triggers": _trigger_rows,
    "referential_constraints": _constraint_rows,
    "views": _no_rows,
    "routines": _no_rows,
}


def collation_id(name: str) -> int | None:
    """The number of a collation; None if it is unknown."""
    return next((number for number, names in _COLLATIONS.items() if names[0] == name), None)


def column_key(table: Table, name: str) -> str:
    primary = table.primary_key or next(iter(table.unique_not_null), ())
    if name in primary:
        return "PRI"
    firsts = {len(key) == 1 for key in table.unique_keys if key[0] == name}
    if True in firsts:
        return "UNI"
    return "MUL" if firsts else ""


def _measures(column: Column) -> dict[str, Value]:
    parsed = column.parsed
    if parsed.is_text or parsed.base in {"binary", "varbinary"}:
        return _text_measures(column, parsed)
    if parsed.base in {"datetime", "timestamp", "time"}:
        return {"DATETIME_PRECISION": (parsed.numbers or [0])[0]}
    if parsed.base == "decimal":
        precision, scale = (*(parsed.numbers or [10]), 0)[:2]
        return {"NUMERIC_PRECISION": precision, "NUMERIC_SCALE": scale}
    if parsed.base in _PRECISIONS:
        precision = 20 if column.column_type.endswith("unsigned") else 19
        digits = precision if parsed.base == "bigint" else _PRECISIONS[parsed.base]
        return {"NUMERIC_PRECISION": digits, "NUMERIC_SCALE": 0}
    return {}


def _text_measures(column: Column, parsed: ParsedType) -> dict[str, Value]:
    lengths = {"tinytext": 255, "text": 65535, "mediumtext": 16777215, "longtext": 4294967295}
    if parsed.base in lengths:
        octets = characters = lengths[parsed.base]
    elif parsed.base == "enum":
        characters = max(map(len, parsed.labels), default=0)
        octets = 4 * characters
    elif parsed.base == "set":
        characters = sum(map(len, parsed.labels)) + max(len(parsed.labels) - 1, 0)
        octets = 4 * characters
    else:
        characters = (parsed.numbers or [1])[0]
        octets = 4 * characters if parsed.is_text else characters
    collation, charset = _COLLATIONS.get(column.charset, (None, None))
    return {
        "CHARACTER_MAXIMUM_LENGTH": characters,
        "CHARACTER_OCTET_LENGTH": octets,
        "CHARACTER_SET_NAME": charset,
        "COLLATION_NAME": collation,
    }
